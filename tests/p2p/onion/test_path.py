"""Which relays are drawn, guards that stay, and the words for what a path hides."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p import defaults
from p2p.entropy import seeded
from p2p.errors import NoPath
from p2p.identity import AdnlId
from p2p.kept import KeptGuard
from p2p.onion import guards as guards_table
from p2p.onion.core import Failed, GuardsChanged, Lost, Opened
from p2p.onion.path import (
    CircuitFacts,
    Guards,
    Level,
    RelayView,
    Role,
    active_clients,
    assess,
    pick_path,
)

NOW = 1_800_000_000.0
ME = AdnlId(b"m" * 32)
WORKER = AdnlId(b"w" * 32)


def a_relay(number, **changes):
    fields = {
        "id": AdnlId(number.to_bytes(32, "big")),
        "onion_key": bytes([number % 256]) * 32,
        "operator": b"operator %d" % number,
        "subnet": b"net %d" % number,
        "roles": Role.RELAY | Role.DIALABLE,
        "stable": True,
        "weight": 1.0,
    }
    return RelayView(**fields | changes)


def a_worker(**changes):
    return replace(a_relay(999, id=WORKER, roles=Role.WORKER | Role.DIALABLE), **changes)


class Listing:
    def __init__(self, relays, worker=None):
        self._relays = list(relays)
        self._worker = worker or a_worker()

    def relay(self, peer, /):
        every = [*self._relays, self._worker]
        return next((view for view in every if view.id == peer), None)

    def relays(self):
        return self._relays


def pick(view, relays=3, *, seed=1, dev=False, **more):
    entropy = seeded(seed)
    return pick_path(view, WORKER, relays, entropy=entropy, self_id=ME, dev=dev, **more)


# --- paths ---


@pytest.mark.parametrize("relays", [0, 1, 2, 3])
def test_path_has_the_relays_asked_for_and_the_worker(relays):
    view = Listing(a_relay(i) for i in range(10))
    path = pick(view, relays)
    assert len(path) == relays + 1
    assert path[-1].id == WORKER
    assert path[0].onion_key == view.relay(path[0].id).onion_key


@pytest.mark.parametrize("relays", [-1, 4])
def test_no_circuit_has_so_many_relays(relays):
    with pytest.raises(ValueError, match="0 to 3"):
        pick(Listing([]), relays)


@given(st.integers(0, 10_000))
def test_no_two_hops_share_id_operator_or_subnet(seed):
    relays = [
        a_relay(i, operator=b"operator %d" % (i % 6), subnet=b"net %d" % (i % 7)) for i in range(20)
    ]
    view = Listing(relays, a_worker(operator=b"operator 0", subnet=b"net 1"))
    views = [view.relay(hop.id) for hop in pick(view, seed=seed)]
    for trait in ("id", "operator", "subnet"):
        assert len({getattr(hop, trait) for hop in views}) == 4


@given(st.integers(0, 10_000))
def test_relay_that_knows_the_asker_s_address_stands_behind_no_guard(seed):
    view = Listing(a_relay(number) for number in range(1, 5))
    known = view.relays()[0].id
    _, second, third, _ = pick(view, seed=seed, acquainted=(known,))
    assert known not in (second.id, third.id)


@given(st.integers(0, 1_000))
def test_relay_that_knows_the_asker_s_address_serves_where_no_other_can(seed):
    view = Listing(a_relay(number) for number in range(1, 4))
    path = pick(view, seed=seed, acquainted=(view.relays()[0].id,))
    assert len({hop.id for hop in path}) == 4


@given(st.integers(0, 1_000))
def test_relay_that_has_just_failed_is_gone_around_even_by_one_that_knows_the_asker(seed):
    view = Listing(a_relay(number) for number in range(1, 5))
    known, failed = (relay.id for relay in view.relays()[:2])
    guard, *rest, _ = pick(view, seed=seed, acquainted=(known,), suspects=(failed,))
    assert failed not in [hop.id for hop in rest]
    assert guard.id == known or known in [hop.id for hop in rest] or guard.id == failed


@given(st.integers(0, 1_000))
def test_relay_that_has_just_failed_is_used_where_there_is_no_path_without_it(seed):
    view = Listing(a_relay(number) for number in range(1, 4))
    suspects = [relay.id for relay in view.relays()]
    assert len({hop.id for hop in pick(view, seed=seed, suspects=suspects)}) == 4


@given(st.integers(0, 1_000))
def test_relay_without_a_sign_of_life_is_gone_around_if_there_are_others(seed):
    relays = [a_relay(number, live=number > 2) for number in range(6)]
    guard, *rest, _ = pick(Listing(relays), seed=seed)
    silent = [relay.id for relay in relays[:3]]
    assert not [hop for hop in rest if hop.id in silent]
    few = [a_relay(number, live=False) for number in range(3)]
    assert len({hop.id for hop in pick(Listing(few), seed=seed)}) == 4
    assert guard.id not in [hop.id for hop in rest]


@given(st.integers(0, 1_000))
def test_silence_is_no_reason_to_be_joined_by_a_relay_that_knows_the_asker(seed):
    """In a young network some have not beaten yet; that they fail can be made good, this cannot."""
    relays = [a_relay(number, live=number != 1) for number in range(4)]
    knows = relays[0].id
    _, *rest, _ = pick(Listing(relays), seed=seed, acquainted=[knows])
    assert knows not in [hop.id for hop in rest]


@given(st.integers(0, 1_000))
def test_a_guard_of_another_path_stands_behind_no_guard(seed):
    """It has seen the asker's address, whatever came of that path."""
    view, guards = Listing(a_relay(number) for number in range(5)), Guards(seeded(seed))
    before = pick(view, seed=seed, guards=guards, now=NOW)[0].id
    guards.tried(NOW, before, passed=False)
    guards.unreachable(NOW, before)
    guard, *rest, _ = pick(view, seed=seed, guards=guards, now=NOW)
    assert before not in [guard.id, *(hop.id for hop in rest)]


def test_silence_replaces_no_guard():
    guards = Guards(seeded(1))
    relays = [a_relay(number) for number in range(9)]
    first = {pick(Listing(relays), seed=seed, guards=guards)[0].id for seed in range(9)}
    silent = [replace(relay, live=False) for relay in relays]
    then = {pick(Listing(silent), seed=seed, guards=guards)[0].id for seed in range(9)}
    assert then == first
    assert len(guards) == 3


@given(st.integers(0, 1_000))
def test_self_is_no_hop(seed):
    view = Listing([a_relay(i) for i in range(3)] + [a_relay(9, id=ME)])
    assert ME not in [hop.id for hop in pick(view, seed=seed)]


@pytest.mark.parametrize(
    "change",
    [
        {"roles": Role.WORKER | Role.DIALABLE},
        {"roles": Role.RELAY},
        {"stable": False},
        {"weight": 0.0},
        {"operator": b"operator 0"},
        {"subnet": b"net 0"},
    ],
    ids=str,
)
def test_relay_that_breaks_a_rule_is_not_drawn(change):
    relays = [a_relay(0), a_relay(1), a_relay(2, **change)]
    with pytest.raises(NoPath):
        pick(Listing(relays))


def test_dev_network_takes_new_relays_and_one_subnet_without_name():
    relays = [a_relay(i, stable=False, subnet=b"") for i in range(3)]
    assert len(pick(Listing(relays), dev=True)) == 4


def test_one_of_three_relays_cannot_be_reached_through_three():
    """A mint that is a relay, too, say: the path to it takes three others."""
    mint = a_relay(7, id=WORKER, roles=Role.RELAY | Role.MINT | Role.DIALABLE)
    others = [a_relay(0), a_relay(1)]
    with pytest.raises(NoPath, match=r"takes 3 relays and 2 can be used, besides the one that"):
        pick(Listing([*others, mint], mint))
    assert len(pick(Listing([*others, mint], mint), 2)) == 3
    assert len(pick(Listing([*others, a_relay(2), mint], mint))) == 4
    with pytest.raises(NoPath, match=r"takes 3 relays and 2 can be used$"):
        pick(Listing(others))


def test_worker_that_is_not_listed_has_no_path():
    with pytest.raises(NoPath):
        pick_path(Listing([]), ME, entropy=seeded(1), self_id=ME, dev=False)


def test_relay_that_is_the_worker_is_no_hop_before_it():
    both = a_worker(roles=Role.RELAY | Role.WORKER | Role.DIALABLE)
    view = Listing([a_relay(0), a_relay(1), a_relay(2), both], both)
    for seed in range(50):
        assert [hop.id for hop in pick(view, seed=seed)].count(WORKER) == 1


def test_last_relay_is_one_the_worker_is_attached_to():
    relays = [a_relay(i) for i in range(10)]
    view = Listing(relays, a_worker(attachments=(relays[3].id, relays[4].id, b"gone")))
    for count in (1, 2, 3):
        lasts = Counter(pick(view, count, seed=seed)[-2].id for seed in range(200))
        assert lasts.keys() == {relays[3].id, relays[4].id}
        assert min(lasts.values()) > 60


def test_worker_whose_attachments_are_gone_has_no_path():
    view = Listing([a_relay(i) for i in range(9)], a_worker(attachments=(AdnlId(b"gone"),)))
    for relays in (1, 2, 3):
        with pytest.raises(NoPath):
            pick(view, relays)


def test_relays_are_drawn_by_weight():
    relays = [a_relay(0, weight=0.1), *(a_relay(i) for i in range(1, 6))]
    drawn = Counter(pick(Listing(relays), 1, seed=seed)[0].id for seed in range(1_000))
    assert drawn[relays[0].id] < 50
    assert all(drawn[relay.id] > 140 for relay in relays[1:])


def test_operator_gets_no_more_than_its_share():
    many = [a_relay(i, operator=b"one", subnet=b"") for i in range(60)]
    others = [a_relay(100 + i, subnet=b"") for i in range(45)]
    drawn = Counter(pick(Listing(many + others), 1, seed=seed)[0].id for seed in range(1_000))
    share = sum(drawn[relay.id] for relay in many) / 1_000
    assert 0.025 < share < 0.08


def test_weights_stand_while_operators_are_few():
    many = [a_relay(i, operator=b"one", subnet=b"") for i in range(10)]
    others = [a_relay(100 + i, subnet=b"") for i in range(10)]
    drawn = Counter(pick(Listing(many + others), 1, seed=seed)[0].id for seed in range(1_000))
    assert 400 < sum(drawn[relay.id] for relay in many) < 600


def test_same_seed_same_path():
    view = Listing(a_relay(i) for i in range(30))
    assert pick(view, seed=5) == pick(view, seed=5)
    assert len({pick(view, seed=seed)[1].id for seed in range(50)}) > 10


# --- guards ---


def first(view, guards, *, now=NOW, seed=1):
    return pick(view, seed=seed, guards=guards, now=now)[0].id


def test_guard_stays_though_all_else_changes():
    view, guards = Listing(a_relay(i) for i in range(40)), Guards(seeded(2))
    paths = [pick(view, seed=seed, guards=guards, now=NOW) for seed in range(50)]
    assert len({path[0].id for path in paths}) == 1
    assert len({path[1].id for path in paths}) > 10
    assert len(guards) == defaults.GUARDS


def test_unreachable_guard_is_left_and_probed_again():
    view, guards = Listing(a_relay(i) for i in range(40)), Guards(seeded(2))
    guard = first(view, guards)
    guards.unreachable(NOW, guard)
    assert first(view, guards) != guard
    assert first(view, guards, now=NOW + defaults.GUARD_DOWN) == guard


def test_offline_client_draws_no_new_guards():
    view, guards = Listing(a_relay(i) for i in range(40)), Guards(seeded(2))
    for attempt in range(20):
        guards.unreachable(NOW + attempt, first(view, guards, now=NOW + attempt))
    assert len(guards) == defaults.GUARDS


def test_guard_that_answers_is_the_first_again():
    view, guards = Listing(a_relay(i) for i in range(40)), Guards(seeded(2))
    guard = first(view, guards)
    guards.unreachable(NOW, guard)
    guards.tried(NOW + 1, guard, passed=True)
    assert first(view, guards, now=NOW + 2) == guard


def test_guard_that_left_the_directory_is_replaced():
    relays, guards = [a_relay(i) for i in range(40)], Guards(seeded(2))
    guard = first(Listing(relays), guards)
    left = Listing(relay for relay in relays if relay.id != guard)
    assert first(left, guards) != guard
    assert first(Listing(relays), guards) == guard


def test_guard_grows_old():
    view, guards = Listing(a_relay(i) for i in range(40)), Guards(seeded(2))
    guard = first(view, guards)
    assert guards.age(NOW + 100, guard) == 100
    least, most = defaults.GUARD_LIFE
    assert first(view, guards, now=NOW + least - 1) == guard
    assert first(view, guards, now=NOW + most) != guard
    assert guards.age(NOW + most, guard) is None


def test_guard_that_fails_most_paths_is_banned_for_a_week():
    view, guards = Listing(a_relay(i) for i in range(40)), Guards(seeded(2))
    guard = first(view, guards)
    for _ in range(defaults.BIAS_TRIES):
        assert first(view, guards) == guard
        guards.tried(NOW, guard, passed=False)
    assert first(view, guards) != guard
    assert first(view, guards, now=NOW + defaults.BIAS_BAN) == guard


def test_guard_that_passes_most_paths_stays():
    view, guards = Listing(a_relay(i) for i in range(40)), Guards(seeded(2))
    guard = first(view, guards)
    for attempt in range(200):
        guards.tried(NOW, guard, passed=attempt % 4 != 0)
    assert first(view, guards) == guard


def test_guard_behind_which_most_circuits_are_killed_is_banned_for_a_week():
    view, guards = Listing(a_relay(i) for i in range(40)), Guards(seeded(2))
    guard = first(view, guards)
    for number in range(defaults.BIAS_TRIES):
        assert first(view, guards) == guard
        guards.tried(NOW, guard, passed=True)
        guards.ended(NOW, guard, killed=number % 3 != 0)
    assert first(view, guards) != guard
    assert first(view, guards, now=NOW + defaults.BIAS_BAN) == guard


def test_guard_that_has_just_failed_is_gone_around_by_the_next():
    view, guards = Listing(a_relay(i) for i in range(40)), Guards(seeded(2))
    guard = first(view, guards)
    paths = [pick(view, guards=guards, now=NOW, suspects=[guard]) for _ in range(3)]
    assert paths[0][0].id != guard
    assert first(view, guards) == guard
    every = [kept.id for kept in guards.all()]
    assert pick(view, guards=guards, now=NOW, suspects=every)[0].id in every
    assert len(guards) == defaults.GUARDS


def test_guards_come_back_with_their_counts_after_a_restart():
    view, guards = Listing(a_relay(i) for i in range(40)), Guards(seeded(2))
    guard = first(view, guards)
    for _ in range(defaults.BIAS_TRIES - 1):
        guards.tried(NOW, guard, passed=False)
    kept = [each.kept() for each in guards.all()]
    again = Guards(seeded(99), kept)
    assert [each.kept() for each in again.all()] == kept
    assert first(view, again) == guard
    again.tried(NOW, guard, passed=False)
    assert first(view, again) != guard


@pytest.mark.parametrize(
    "damage", [{"id": b"short"}, {"passed": 7}, {"until": 4e9}, {"ended": -1, "killed": -2}]
)
def test_guard_that_was_never_written_so_is_forgotten(damage):
    kept = KeptGuard(id=bytes(32), since=NOW, until=NOW + 50 * 86_400)
    assert len(Guards(seeded(1), [kept])) == 1
    assert len(Guards(seeded(1), [replace(kept, **damage)])) == 0


def test_no_churn_makes_the_table_of_guards_grow():
    guards = Guards(seeded(2))
    for start in range(0, 400, 4):
        first(Listing(a_relay(i) for i in range(start, start + 12)), guards)
    assert len(guards) <= guards_table.MOST


def test_guards_are_told_before_anything_is_written_to_one(town):
    net, client, _, worker = town
    path = net.call(client, lambda core, now: core.path(now, worker.id))
    (changed,) = client.said(GuardsChanged)
    assert path[0].id in [kept.id for kept in changed.guards]
    assert not client.links
    net.open(client, path)
    net.until(lambda: client.said(Opened))
    assert len(client.said(GuardsChanged)) == 1


@pytest.mark.parametrize(("dead", "counted"), [(0, True), (1, True), (2, False)])
def test_core_counts_against_the_guard_what_it_may_have_killed(town, dead, counted):
    net, client, relays, worker = town
    path = net.call(client, lambda core, now: core.path(now, worker.id))
    net.open(client, path)
    net.until(lambda: client.said(Opened))
    net.kill(next(relay for relay in relays if relay.id == path[dead].id))
    net.until(lambda: client.said(Lost))
    (guard,) = [kept for kept in client.core.guards() if kept.id == path[0].id]
    assert (guard.ended, guard.killed) == (1, int(counted))
    after = net.call(client, lambda core, now: core.path(now, worker.id, 2))
    assert (after[0].id == guard.id) == (dead > 0)


def test_guard_of_the_worker_s_operator_is_not_used_for_it():
    relays, guards = [a_relay(i) for i in range(40)], Guards(seeded(2))
    guard = first(Listing(relays), guards)
    own = next(relay for relay in relays if relay.id == guard)
    kin = Listing(relays, a_worker(operator=own.operator))
    assert first(kin, guards) != guard
    assert len(guards) == defaults.GUARDS


def test_core_learns_from_its_circuits_which_guards_are_up(town):
    net, client, relays, worker = town
    path = net.call(client, lambda core, now: core.path(now, worker.id))
    guard = next(relay for relay in relays if relay.id == path[0].id)
    assert net.call(client, lambda core, now: core.guard_age(now, guard.id)) == 0

    net.kill(guard)
    net.open(client, path)
    net.until(lambda: client.said(Failed))
    path = net.call(client, lambda core, now: core.path(now, worker.id))
    assert path[0].id != guard.id
    net.view.entries.pop(guard.id)
    net.open(client, net.call(client, lambda core, now: core.path(now, worker.id, 2)))
    net.until(lambda: client.said(Opened))
    statistics = client.core.statistics()
    assert (statistics.guard_tries, statistics.guard_passed) == (1, 1)


# --- what it is worth ---

GOOD = {"relays": 3, "slots": 20, "clients": 50, "shaping": 1, "staked": True, "dev": False}


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({}, Level.GOOD),
        ({"relays": 0}, Level.NONE),
        ({"relays": 1}, Level.BASIC),
        ({"relays": 2}, Level.BASIC),
        ({"slots": 19}, Level.BASIC),
        ({"clients": 49}, Level.BASIC),
        ({"shaping": 0}, Level.BASIC),
        ({"staked": False}, Level.BASIC),
        ({"dev": True}, Level.BASIC),
        ({"own_lane": True}, Level.BASIC),
        ({"shaping": 2}, Level.GOOD),
        ({"clients": 500}, Level.GOOD),
        ({"shaping": 2, "clients": 500}, Level.BEST),
        ({"shaping": 2, "clients": 500, "own_lane": True}, Level.BASIC),
    ],
    ids=str,
)
def test_level_follows_from_the_facts(changes, level):
    privacy = assess(CircuitFacts(**{"own_lane": False} | GOOD | changes))
    assert privacy.asker is level
    assert bool(privacy.reasons) == (level in (Level.BASIC, Level.NONE))
    assert privacy.readable_by == "the worker"


@given(
    st.integers(0, 3),
    st.integers(0, 40),
    st.integers(0, 1_000),
    st.integers(0, 2),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_no_facts_are_good_with_any_basic_condition(
    relays, slots, clients, shaping, staked, dev, own_lane
):
    facts = CircuitFacts(
        relays=relays,
        slots=slots,
        clients=clients,
        shaping=shaping,
        staked=staked,
        dev=dev,
        own_lane=own_lane,
    )
    basic = relays < 3 or slots < 20 or clients < 50 or not staked or dev or shaping == 0
    if basic or own_lane:
        assert assess(facts).asker in (Level.NONE, Level.BASIC)


def test_enclave_and_guard_age_are_told():
    facts = CircuitFacts(**GOOD, own_lane=False, attested=True, guard_age=5.0)
    privacy = assess(facts)
    assert privacy.readable_by == "the worker's attested enclave"
    assert privacy.numbers == {"relays": 3, "slots": 20, "clients": 50, "guard_age": 5.0}


def test_clients_are_counted_with_a_cap_on_boasters():
    assert active_clients([]) == 0
    assert active_clients([3, 3, 3]) == 21
    assert active_clients([3, 3, 3, 30]) == 21 + 21
