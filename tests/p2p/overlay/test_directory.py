"""The directory: the newest advert of each node, whatever the order, within its bounds."""

from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p import defaults
from p2p.errors import AdvertError
from p2p.overlay import advert as adverts
from p2p.overlay.advert import Capacity, Role, Rules
from p2p.overlay.directory import Directory, Verdict
from p2p.wire import Endpoint

OPEN = Rules(network=7)
NEVER_OURS = 999


@pytest.fixture
def directory(nodes):
    return Directory(nodes.rules, nodes.id(NEVER_OURS))


@pytest.fixture
def free_work(monkeypatch):
    """Open networks whose work costs nothing."""
    monkeypatch.setattr(adverts, "is_work", lambda public, day, nonce: True)


def added(directory, *buffers, now=1_800_000_000.0):
    return [directory.add(now, buffer) for buffer in buffers]


# --- who is listed ---


def test_an_advert_lists_its_node(nodes, directory):
    assert added(directory, nodes.advert(1), nodes.advert(2, "worker")) == [Verdict.NEW] * 2
    entry = directory.find(nodes.id(2))
    assert entry.advert.models[0].identity == b"m" * 32
    assert entry.id == nodes.id(2)
    assert directory.find(nodes.id(3)) is None
    assert directory.status().count == 2


def test_usable_means_role_and_model(nodes, directory):
    added(directory, nodes.advert(1), nodes.advert(2, "worker"), nodes.advert(3, "worker"))
    assert [e.id for e in directory.usable(Role.RELAY)] == [nodes.id(1)]
    workers = sorted([nodes.id(2), nodes.id(3)])
    assert [e.id for e in directory.usable(Role.WORKER)] == workers
    assert [e.id for e in directory.usable(Role.WORKER, b"m" * 32)] == workers
    assert directory.usable(Role.WORKER, b"x" * 32) == []
    assert directory.usable(Role.RELAY | Role.WORKER) == []


def test_this_node_is_listed_but_never_chosen(nodes):
    directory = Directory(nodes.rules, nodes.id(1))
    added(directory, nodes.advert(1), nodes.advert(2))
    assert [entry.id for entry in directory.usable(Role.RELAY)] == [nodes.id(2)]
    assert [view.id for view in directory.relays()] == [nodes.id(2)]
    assert directory.find(nodes.id(1)) is not None
    assert directory.status().count == 2


def test_a_bad_advert_changes_nothing(nodes, directory):
    good = nodes.advert(1)
    for bad in (good[:-1] + bytes([good[-1] ^ 1]), good[1:], b""):
        with pytest.raises(AdvertError):
            directory.add(nodes.now, bad)
    assert directory.sizes() == {"adverts": 0, "ends": 0}
    assert directory.version == 0


# --- what replaces what ---


def test_a_greater_seq_replaces_and_a_smaller_does_not(nodes, directory):
    old, new = nodes.advert(1, seq=5), nodes.advert(1, "worker", seq=6)
    assert added(directory, old, new, old, new) == [
        Verdict.NEW,
        Verdict.NEW,
        Verdict.OLD,
        Verdict.KNOWN,
    ]
    assert directory.usable(Role.RELAY) == []
    assert directory.newest(nodes.id(1)).seq == 6


def test_an_old_advert_is_not_worth_a_signature_check(nodes, directory, monkeypatch):
    new, old = nodes.advert(1, seq=6), nodes.advert(1, seq=5)
    added(directory, new)
    monkeypatch.setattr(adverts, "verify", None)
    assert added(directory, old, new) == [Verdict.OLD, Verdict.KNOWN]


def test_two_bodies_with_one_seq_are_evidence_and_all_keep_the_same(nodes):
    twins = [nodes.advert(1, "worker", seq=5), nodes.advert(1, "relay", seq=5)]
    kept = {}
    for order in permutations(twins):
        directory = Directory(nodes.rules, nodes.id(NEVER_OURS))
        added(directory, *order)
        (evidence,) = directory.take_evidence()
        assert sorted(evidence) == sorted(twins)
        assert directory.take_evidence() == []
        kept[order] = directory.newest(nodes.id(1)).digest
    assert set(kept.values()) == {max(adverts.digest_of(twin) for twin in twins)}


def test_forged_evidence_accuses_nobody(nodes, directory):
    added(directory, nodes.advert(1, seq=5))
    other = nodes.advert(1, "worker", seq=5)
    with pytest.raises(AdvertError):
        directory.add(nodes.now, other[:-1] + bytes([other[-1] ^ 1]))
    assert directory.take_evidence() == []


def test_evidence_is_bounded(nodes, directory):
    for number in range(30):
        added(directory, nodes.advert(number, seq=5), nodes.advert(number, "worker", seq=5))
    assert len(directory.take_evidence()) == 16


orders = st.permutations(range(12)).flatmap(
    lambda order: st.lists(st.sampled_from(order), max_size=12).map(lambda more: [*order, *more])
)


@given(orders)
def test_any_order_and_any_repetition_give_one_root(nodes_of_all_kinds, order):
    rules, self_id, buffers, now = nodes_of_all_kinds
    directory = Directory(rules, self_id)
    for index in order:
        directory.add(now, buffers[index])
    reference = Directory(rules, self_id)
    for buffer in buffers:
        reference.add(now, buffer)
    assert directory.status().root == reference.status().root


@pytest.fixture(scope="module")
def nodes_of_all_kinds(nodes_once):
    nodes = nodes_once
    buffers = [
        nodes.advert(number, kind, seq=seq)
        for number, kind, seq in [
            (1, "relay", 1), (1, "relay", 2), (1, "worker", 2), (1, "left", 3),
            (2, "relay", 9), (2, "worker", 9), (2, "relay", 8),
            (3, "left", 4), (3, "relay", 4), (3, "relay", 5),
            (4, "worker", 1), (5, "relay", 1),
        ]
    ]  # fmt: skip
    return nodes.rules, nodes.id(NEVER_OURS), buffers, nodes.now


def test_the_root_names_the_list(nodes, directory):
    empty = directory.status().root
    added(directory, nodes.advert(1))
    one = directory.status().root
    added(directory, nodes.advert(2))
    assert len({empty, one, directory.status().root}) == 3
    directory.expire(nodes.now + 60)
    assert directory.status().root == empty


# --- leaving and expiring ---


def test_who_leaves_is_gone_at_once(nodes, directory):
    added(directory, nodes.advert(1, seq=5), nodes.advert(1, "left", seq=6))
    assert directory.find(nodes.id(1)) is None
    assert directory.relay(nodes.id(1)) is None
    assert directory.usable(Role.RELAY) == []
    assert directory.status().count == 0


def test_an_advert_is_forgotten_at_the_end_of_its_life(nodes, directory):
    added(directory, nodes.advert(1, life=20), nodes.advert(2, life=30))
    assert directory.next_deadline() == nodes.now + 20
    assert not directory.expire(nodes.now + 19.9)
    assert directory.expire(nodes.now + 20)
    assert directory.find(nodes.id(1)) is None
    assert directory.find(nodes.id(2)) is not None
    assert directory.expire(nodes.now + 30)
    assert directory.sizes() == {"adverts": 0, "ends": 0}
    assert directory.next_deadline() is None


def test_nobody_can_bring_back_who_has_left(nodes, directory):
    long = nodes.advert(1, seq=5, life=1_000)
    added(directory, long, nodes.advert(1, "left", seq=6, life=10))
    directory.expire(nodes.now + 20)
    assert added(directory, long, now=nodes.now + 20) == [Verdict.OLD]
    assert directory.find(nodes.id(1)) is None
    assert directory.since(0) == []
    directory.expire(nodes.now + 1_000)
    assert directory.sizes() == {"adverts": 0, "ends": 0}


def test_who_left_may_come_back_with_something_newer(nodes, directory):
    added(directory, nodes.advert(1, seq=5, life=1_000), nodes.advert(1, "left", seq=6, life=10))
    back = nodes.advert(1, at=nodes.now + 5, seq=7)
    assert added(directory, back, now=nodes.now + 5) == [Verdict.NEW]
    assert directory.find(nodes.id(1)).advert.seq == 7


def test_renewals_do_not_pile_up(nodes, directory):
    for step in range(200):
        now = nodes.now + step
        directory.expire(now)
        added(directory, nodes.advert(1, at=now, life=1_000), now=now)
    assert directory.sizes()["adverts"] == 1
    assert directory.sizes()["ends"] < 32


# --- what came since ---


def test_since_gives_what_came_later_in_order(nodes, directory):
    added(directory, nodes.advert(1, seq=1), nodes.advert(2), nodes.advert(3))
    (_, first), (second, _), (last, _) = directory.since(0)
    assert first.id == nodes.id(1)
    added(directory, nodes.advert(1, seq=2))
    assert [advert.id for _, advert in directory.since(second)] == [nodes.id(3), nodes.id(1)]
    assert [advert.seq for _, advert in directory.since(last)] == [2]
    assert len(directory.since(0)) == 3


def test_since_tells_of_those_who_left_but_not_of_the_expired(nodes, directory):
    added(directory, nodes.advert(1, life=20), nodes.advert(2, "left", life=30))
    assert len(directory.since(0)) == 2
    directory.expire(nodes.now + 20)
    assert [advert.id for _, advert in directory.since(0)] == [nodes.id(2)]


# --- liveness, load, days, groups ---


def test_live_means_heard_of_in_this_epoch_or_the_last(nodes, directory):
    added(directory, nodes.advert(1, life=60))
    for seconds, live in [(0, True), (19.9, True), (20, False)]:
        directory.expire(nodes.now + seconds)
        assert directory.find(nodes.id(1)).live is live
        assert directory.status().live == live


def test_open_means_that_it_does_not_call_itself_full(nodes, directory):
    added(directory, *(nodes.advert(i, capacity=Capacity(5, i)) for i in range(4)))
    assert [directory.find(nodes.id(i)).open for i in range(4)] == [True, True, True, False]


def test_days_count_the_days_listed_out_of_seven(nodes, directory):
    day = 86_400
    for passed, days in [(0, 1), (1, 2), (3, 3), (6, 4), (7, 4), (20, 1)]:
        now = nodes.now + passed * day
        added(directory, nodes.advert(1, at=now, life=1_500), now=now)
        assert directory.find(nodes.id(1)).days == days


def test_in_a_dev_network_every_node_is_its_own_group(nodes, directory):
    added(directory, nodes.advert(1, operator=b"o" * 32))
    assert directory.find(nodes.id(1)).group == nodes.id(1)
    assert directory.relay(nodes.id(1)).operator == nodes.id(1)
    assert directory.relay(nodes.id(1)).subnet == b""


@pytest.mark.usefixtures("free_work")
def test_elsewhere_the_operator_the_subnet_or_the_attachment_is(nodes):
    directory = Directory(OPEN, nodes.id(NEVER_OURS))
    work = {"work": bytes(8), "rules": OPEN}
    v4, v6 = Endpoint("8.8.4.4", 1), Endpoint("2001:4860:4860::8888", 1)
    added(
        directory,
        nodes.advert(1, addresses=(v4,), operator=b"o" * 32, **work),
        nodes.advert(2, addresses=(v4,), **work),
        nodes.advert(3, addresses=(v6,), **work),
        nodes.advert(
            4, "worker", roles=Role.WORKER, addresses=(), attachments=(b"a" * 32,), **work
        ),
    )
    groups = [directory.find(nodes.id(number)).group for number in (1, 2, 3, 4)]
    assert groups == [b"o" * 32, b"\x08\x08", bytes.fromhex("20014860"), b"a" * 32]
    assert directory.relay(nodes.id(1)).subnet == b"\x08\x08"
    assert directory.relay(nodes.id(4)).attachments == (b"a" * 32,)


# --- as circuits see it ---


def test_relays_are_those_that_can_be_dialled(nodes, directory):
    hidden = nodes.fields(2, roles=Role.RELAY, addresses=(), attachments=(b"a" * 32,))
    added(
        directory,
        nodes.advert(1),
        adverts.build(nodes.identity(2), hidden, nodes.now, nodes.rules),
        nodes.advert(3, "worker"),
        nodes.advert(4),
    )
    assert [view.id for view in directory.relays()] == sorted([nodes.id(1), nodes.id(4)])
    assert directory.relay(nodes.id(3)).onion_key == (3).to_bytes(32, "big")
    assert directory.relay(nodes.id(5)) is None


def test_a_relay_is_stable_after_five_days(nodes, directory):
    for day in range(5):
        now = nodes.now + day * 86_400
        assert day == 0 or not directory.relay(nodes.id(1)).stable
        added(directory, nodes.advert(1, at=now, life=1_500), now=now)
    assert directory.relay(nodes.id(1)).stable


# --- bounds ---


def test_a_full_directory_keeps_who_came_first(nodes, directory, monkeypatch):
    monkeypatch.setattr(defaults, "MAX_ADVERTS", 3)
    added(directory, *(nodes.advert(number) for number in range(3)))
    assert added(directory, nodes.advert(3)) == [Verdict.FULL]
    assert added(directory, nodes.advert(1, "worker", seq=2**40)) == [Verdict.NEW]
    assert directory.status().count == 3


@pytest.mark.usefixtures("free_work")
def test_an_open_network_lists_few_nodes_of_one_subnet(nodes, monkeypatch):
    monkeypatch.setattr(defaults, "ADVERTS_PER_SUBNET", 2)
    directory = Directory(OPEN, nodes.id(NEVER_OURS))

    def from_subnet(number, host, **changes):
        addresses = (Endpoint(host, 4001),)
        return nodes.advert(number, rules=OPEN, work=bytes(8), addresses=addresses, **changes)

    crowd = [from_subnet(i, f"8.8.4.{i}") for i in range(1, 4)]
    assert added(directory, *crowd) == [Verdict.NEW, Verdict.NEW, Verdict.FULL]
    assert added(directory, from_subnet(4, "8.8.5.1")) == [Verdict.NEW]
    moved = from_subnet(1, "8.8.6.1", seq=2**40)
    assert added(directory, moved, crowd[2]) == [Verdict.NEW, Verdict.NEW]
    directory.expire(nodes.now + 86_400)
    assert directory._crowding == {}


@pytest.mark.usefixtures("free_work")
def test_an_open_network_lists_few_nodes_behind_one_relay(nodes, monkeypatch):
    monkeypatch.setattr(defaults, "ADVERTS_PER_ATTACHMENT", 2)
    directory = Directory(OPEN, nodes.id(NEVER_OURS))
    hidden = {"roles": Role.WORKER, "addresses": (), "rules": OPEN, "work": bytes(8)}
    buffers = [
        nodes.advert(1, "worker", attachments=(b"a" * 32, b"b" * 32), **hidden),
        nodes.advert(2, "worker", attachments=(b"a" * 32,), **hidden),
        nodes.advert(3, "worker", attachments=(b"c" * 32, b"a" * 32), **hidden),
        nodes.advert(4, "worker", attachments=(b"b" * 32,), **hidden),
    ]
    assert added(directory, *buffers) == [Verdict.NEW, Verdict.NEW, Verdict.FULL, Verdict.NEW]


def test_the_age_is_the_time_since_somebody_confirmed_the_list(nodes, directory):
    assert directory.status().age is None
    directory.confirm(nodes.now)
    directory.expire(nodes.now + 7)
    assert directory.status().age == 7
    assert directory.status().epoch == int((nodes.now + 7) // 10)


def test_a_list_that_nobody_confirms_goes_stale_once_it_was_fetched(nodes, directory):
    assert not directory.is_stale(nodes.now + 10_000)
    directory.confirm(nodes.now)
    assert not directory.is_stale(nodes.now + 180)
    assert directory.is_stale(nodes.now + 181)
    directory.confirm(nodes.now + 200)
    assert not directory.is_stale(nodes.now + 380)


def test_an_entry_is_a_value(nodes, directory):
    added(directory, nodes.advert(1))
    entry = directory.find(nodes.id(1))
    assert replace(entry) == directory.find(nodes.id(1))
