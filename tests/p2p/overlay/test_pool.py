"""The pool: whatever comes in whatever order, the lists of the cuts that matter are the rule's."""

from dataclasses import replace
from hashlib import sha256
from itertools import permutations
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p import defaults
from p2p.errors import AdvertError
from p2p.overlay import advert as adverts
from p2p.overlay.advert import Role, Rules
from p2p.overlay.epochs import DEV, OPEN
from p2p.overlay.groups import Proven
from p2p.overlay.lists import Lists
from p2p.overlay.pool import Pool, Verdict
from p2p.overlay.snapshot import differing
from p2p.wire import Endpoint

START = 1_800_000_000
OPEN_RULES = Rules(network=7)


@pytest.fixture
def pool(nodes):
    return Pool(nodes.rules, DEV)


@pytest.fixture
def lists(pool):
    return Lists(pool, DEV)


@pytest.fixture
def free_work(monkeypatch):
    """Open networks whose work costs nothing."""
    monkeypatch.setattr(adverts, "is_work", lambda public, day, nonce: True)


def ids(snapshot):
    return [advert.id for advert in snapshot.adverts]


# --- the rule, word by word ---


def test_an_advert_is_listed_from_its_issue_if_it_came_within_the_margin(nodes, pool):
    pool.offer(START + 2, nodes.advert(1, at=START))
    assert ids(pool.list_at(START - 1)) == []
    assert ids(pool.list_at(START)) == [nodes.id(1)]


def test_backdating_gains_nothing(nodes, pool):
    pool.offer(START + 7, nodes.advert(1, at=START))
    assert ids(pool.list_at(START + 4)) == []
    assert ids(pool.list_at(START + 5)) == [nodes.id(1)]


def test_what_a_list_of_servers_held_counts_from_its_cut(nodes, pool):
    pool.offer(START + 30, nodes.advert(1, at=START), seen=START + 1)
    assert ids(pool.list_at(START)) == [nodes.id(1)]


def test_only_who_stays_for_an_epoch_is_listed(nodes, pool):
    pool.offer(START, nodes.advert(1, at=START, life=12))
    assert ids(pool.list_at(START + 2)) == [nodes.id(1)]
    assert ids(pool.list_at(START + 3)) == []


def test_who_leaves_hides_what_it_said_before(nodes, pool):
    pool.offer(START, nodes.advert(1, at=START, life=100))
    pool.offer(START + 9, nodes.advert(1, "left", at=START + 9, life=10))
    assert ids(pool.list_at(DEV.cut(DEV.number(START) + 1))) == [nodes.id(1)]
    for later in (9, 20, 60):
        assert ids(pool.list_at(START + later)) == []


def test_who_has_left_cannot_be_brought_back(nodes, pool, lists):
    old = nodes.advert(1, at=START, life=100)
    pool.offer(START, old)
    pool.offer(START + 3, nodes.advert(1, "left", at=START + 3, life=10))
    for second in range(10, 100, 10):
        lists.freeze(START + second)
        assert pool.offer(START + second, old) is Verdict.OLD
    assert pool.newest(nodes.id(1)).roles == 0


def test_what_came_after_its_node_left_cannot_bring_it_back_either(nodes, pool, lists):
    old = nodes.advert(1, at=START, life=100)
    pool.offer(START + 3, nodes.advert(1, "left", at=START + 3, life=10))
    forged = old[:-1] + bytes([old[-1] ^ 1])
    with pytest.raises(AdvertError):
        pool.offer(START + 4, forged)
    for second in range(10, 100, 10):
        assert pool.offer(START + second, old) is Verdict.OLD
        assert len(lists.freeze(START + second)) == 0


def test_a_newer_advert_takes_over_at_its_own_time_even_if_it_came_first(nodes, pool, lists):
    lists.freeze(START)
    old, new = nodes.advert(1, at=START), nodes.advert(1, at=START + 9, seq=START + 9)
    pool.offer(START + 9, new)
    assert pool.offer(START + 9, old) is Verdict.NEW
    frozen = lists.freeze(START + 10)
    assert [advert.buffer for advert in frozen.adverts] == [old]
    assert [advert.buffer for advert in lists.freeze(START + 20).adverts] == [new]
    assert pool.offer(START + 20, old) is Verdict.OLD


def test_what_no_list_needs_is_forgotten(nodes, pool, lists):
    for second in range(40):
        pool.offer(START + second, nodes.advert(1, at=START + second))
        if second % 10 == 0:
            lists.freeze(START + second)
        assert pool.sizes()["advert_bodies"] <= 3
    for second in range(40, 200, 10):
        lists.freeze(START + second)
    assert pool.sizes() == {"adverts": 0, "advert_bodies": 0}


def test_a_bad_advert_changes_nothing(nodes, pool):
    good = nodes.advert(1)
    for bad in (good[:-1] + bytes([good[-1] ^ 1]), good[1:], b"", bytes(2_000)):
        with pytest.raises(AdvertError):
            pool.offer(nodes.now, bad)
    assert (len(pool), pool.version) == (0, 0)


def test_known_bytes_are_not_read_again(nodes, pool, monkeypatch):
    pool.offer(nodes.now, nodes.advert(1))
    monkeypatch.setattr(pool, "_read", None)
    assert pool.offer(nodes.now, nodes.advert(1)) is Verdict.KNOWN


# --- two bodies of one seq ---


def test_two_bodies_with_one_seq_are_evidence_and_all_keep_the_same(nodes):
    twins = [nodes.advert(1, "worker", seq=5), nodes.advert(1, "relay", seq=5)]
    kept = []
    for order in permutations(twins):
        pool = Pool(nodes.rules, DEV)
        for twin in order:
            pool.offer(nodes.now, twin)
        (evidence,) = pool.take_evidence()
        assert sorted(evidence) == sorted(twins)
        assert pool.take_evidence() == []
        kept.append(pool.newest(nodes.id(1)).digest)
    assert kept == [max(map(adverts.digest_of, twins))] * 2


def test_forged_evidence_accuses_nobody(nodes, pool):
    pool.offer(nodes.now, nodes.advert(1, seq=5))
    other = nodes.advert(1, "worker", seq=5)
    with pytest.raises(AdvertError):
        pool.offer(nodes.now, other[:-1] + bytes([other[-1] ^ 1]))
    assert pool.take_evidence() == []


def test_evidence_is_bounded(nodes, pool):
    for number in range(30):
        for kind in ("relay", "worker"):
            pool.offer(nodes.now, nodes.advert(number, kind, seq=5))
    assert len(pool.take_evidence()) == 16


# --- against a naive model ---


class Said(NamedTuple):
    """What a node says, and when it comes."""

    wait: float
    number: int
    kind: str
    age: int
    seq: int
    life: int


said = st.builds(
    Said,
    wait=st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0, 7.0, 10.0]),
    number=st.integers(1, 3),
    kind=st.sampled_from(["relay", "relay", "worker", "left"]),
    age=st.integers(-3, 12),
    seq=st.integers(1, 6),
    life=st.sampled_from([10, 15, 30, 60]),
)


def history(nodes, items):
    """When each advert comes, and its bytes; without those that nobody would take."""
    now = float(START)
    for item in items:
        now += item.wait
        issued = int(now) - item.age
        if issued + item.life > now:
            advert = nodes.advert(item.number, item.kind, at=issued, seq=item.seq, life=item.life)
            yield now, advert


def naive(heard, cut, rules):
    """S(cut) by its definition, over everything that ever came."""
    best = {}
    for seen, buffer in heard:
        advert = adverts.read(buffer, seen, rules)
        if max(advert.issued, seen - DEV.margin) <= cut:
            others = [best[advert.id]] if advert.id in best else []
            best[advert.id] = max([*others, advert], key=lambda one: (one.seq, one.digest))
    last = [advert for advert in best.values() if advert.roles]
    return sorted(advert.buffer for advert in last if advert.expires >= cut + DEV.epoch)


def remembered(heard, now, rules):
    """All but the nodes of which everything has run out."""
    read = [(seen, adverts.read(buffer, seen, rules)) for seen, buffer in heard]
    alive = {advert.id for _, advert in read if advert.expires > now}
    return [(seen, advert.buffer) for seen, advert in read if advert.id in alive]


def bodies(snapshot):
    return sorted(advert.buffer for advert in snapshot.adverts)


@settings(deadline=None, max_examples=60)
@given(st.lists(said, max_size=24))
def test_every_frozen_list_is_the_one_of_the_definition(nodes_once, items):
    nodes = nodes_once
    pool = Pool(nodes.rules, DEV)
    lists = Lists(pool, DEV)
    heard, number = [], DEV.number(START)
    lists.freeze(START)
    for seen, buffer in [*history(nodes, items), (START + 400.0, None)]:
        while DEV.begin(number + 1) <= seen:
            number += 1
            frozen = lists.freeze(DEV.begin(number))
            assert bodies(frozen) == naive(heard, DEV.cut(number), nodes.rules)
            assert bodies(pool.list_at(DEV.cut(number))) == bodies(frozen)
            heard = remembered(heard, DEV.begin(number), nodes.rules)
        if buffer is not None:
            pool.offer(seen, buffer)
            heard.append((seen, buffer))
    assert len(pool) == 0


@settings(deadline=None, max_examples=30)
@given(st.lists(said, max_size=12), st.lists(st.floats(0, 1.99), min_size=24, max_size=24))
def test_all_that_hear_within_the_margin_freeze_one_list(nodes_once, items, delays):
    """Two servers hear each advert at their own times, one of them everything twice."""
    nodes = nodes_once
    issued = [
        (int(seen), buffer)
        for seen, buffer in history(nodes, [one._replace(age=0) for one in items])
    ]
    early = [(when, buffer) for when, buffer in issued for _ in range(2)]
    late = [(when + delay, buffer) for (when, buffer), delay in zip(early, delays, strict=False)]
    roots = []
    for heard in (early, sorted(late)):
        pool = Pool(nodes.rules, DEV)
        lists = Lists(pool, DEV)
        number = DEV.number(START)
        roots.append([])
        for seen, buffer in [*heard, (START + 400.0, None)]:
            while DEV.begin(number + 1) <= seen:
                number += 1
                roots[-1].append(lists.freeze(DEV.begin(number)).root)
            if buffer is not None:
                pool.offer(seen, buffer)
    assert roots[0] == roots[1]


# --- bounds ---


def block(nodes, number, third=1, **changes):
    """A relay of the /24 8.8.`third`.0 in the open network."""
    return nodes.advert(
        number,
        rules=OPEN_RULES,
        addresses=(Endpoint(f"8.8.{third}.{number % 256}", 4001),),
        life=86_400,
        work=b"12345678",
        **changes,
    )


@pytest.fixture
def open_pool(free_work, monkeypatch):
    monkeypatch.setattr("p2p.overlay.places.work_bits", lambda advert: 20)
    monkeypatch.setattr(defaults, "ADVERTS_PER_SUBNET", 4)
    monkeypatch.setattr(defaults, "ADVERTS_PER_ATTACHMENT", 4)
    return Pool(OPEN_RULES, OPEN)


@pytest.mark.parametrize("order", [range(10), reversed(range(10)), [3, 9, 0, 4, 8, 1, 7, 2, 6, 5]])
def test_of_too_many_in_a_block_all_servers_keep_the_same(nodes, open_pool, order):
    for number in order:
        open_pool.offer(nodes.now, block(nodes, number))
    assert ids(open_pool.list_at(START)) == sorted(map(nodes.id, range(10)))[:4]


def test_who_was_listed_keeps_its_place_in_a_block(nodes, open_pool):
    lists = Lists(open_pool, OPEN)
    listed = sorted(range(10), key=nodes.id)[6:]
    for number in listed:
        open_pool.offer(nodes.now, block(nodes, number))
    lists.freeze(START + 600)
    others = [open_pool.offer(START + 600, block(nodes, number)) for number in range(10)]
    assert others.count(Verdict.FULL) == 6
    assert ids(open_pool.list_at(START)) == sorted(map(nodes.id, listed))
    assert open_pool.offer(START + 600, block(nodes, 77, third=2)) is Verdict.NEW


def test_each_address_counts_in_its_block(nodes, open_pool):
    for number in range(4):
        open_pool.offer(nodes.now, block(nodes, number))
    worst = max(range(4, 90), key=nodes.id)
    both = (Endpoint("9.9.9.9", 4001), Endpoint("8.8.1.77", 4001))
    many = nodes.advert(worst, rules=OPEN_RULES, addresses=both, work=b"12345678")
    assert open_pool.offer(nodes.now, many) is Verdict.FULL


def test_a_relay_holds_so_many_unproven_ones_and_any_number_of_proven(
    nodes, free_work, monkeypatch
):
    monkeypatch.setattr(defaults, "ADVERTS_PER_ATTACHMENT", 4)

    def registry(advert):
        return Proven(b"o" * 32, 5) if advert.fields.operator else None

    pool = Pool(OPEN_RULES, OPEN, registry=registry)
    attached = {"addresses": (), "attachments": (nodes.id(500),), "work": b"12345678"}
    for number in range(10):
        for operator in (None, b"o" * 32):
            fields = nodes.fields(number + 100 * bool(operator), "worker", **attached)
            fields = replace(fields, roles=Role.WORKER, operator=operator)
            identity = nodes.identity(number + 100 * bool(operator))
            pool.offer(nodes.now, adverts.build(identity, fields, nodes.now, OPEN_RULES))
    kept = pool.list_at(START).adverts
    assert sum(advert.fields.operator is None for advert in kept) == 4
    assert sum(advert.fields.operator is not None for advert in kept) == 10


def test_a_full_pool_keeps_stake_then_age_then_work(nodes, free_work, monkeypatch):
    monkeypatch.setattr(defaults, "MAX_ADVERTS", 4)
    monkeypatch.setattr("p2p.overlay.places.work_bits", lambda advert: int(advert.fields.work[0]))

    def registry(advert):
        return Proven(b"o" * 32, advert.fields.mint[0]) if advert.fields.mint else None

    def advert(number, work=20, stake=0, **changes):
        nonce, mint = bytes([work] * 8), bytes([stake] * 32) if stake else None
        own = nodes.endpoint(number)._replace(host=f"8.{number}.8.8")
        return nodes.advert(
            number, rules=OPEN_RULES, addresses=(own,), work=nonce, mint=mint, life=9_000, **changes
        )

    pool = Pool(OPEN_RULES, OPEN, registry=registry)
    lists = Lists(pool, OPEN)
    for number in (1, 2, 3):
        pool.offer(nodes.now, advert(number))
    lists.freeze(START + 600)
    now = START + 600.0
    pool.offer(now, advert(4))
    assert pool.offer(now, advert(5, work=21)) is Verdict.NEW
    assert pool.newest(nodes.id(4)) is None
    assert pool.offer(now, advert(4)) is Verdict.FULL
    assert pool.offer(now, advert(6, work=99)) is Verdict.NEW
    assert pool.newest(nodes.id(5)) is None
    for number in (7, 8, 9, 10):
        assert pool.offer(now, advert(number, work=1, stake=number)) is Verdict.NEW
    assert [pool.newest(nodes.id(number)) is not None for number in (1, 2, 3, 6)] == [False] * 4
    assert pool.offer(now, advert(11, work=99)) is Verdict.FULL
    assert pool.offer(now, advert(7, work=1, stake=7, seq=START + 5)) is Verdict.NEW
    assert len(pool) == 4


def test_names_of_those_who_left_make_room_first(nodes, monkeypatch):
    monkeypatch.setattr(defaults, "MAX_ADVERTS", 2)
    pool = Pool(nodes.rules, DEV)
    first, *others = sorted(range(4), key=nodes.id)
    pool.offer(nodes.now, nodes.advert(first, "left"))
    assert [pool.offer(nodes.now, nodes.advert(number)) for number in others] == [
        Verdict.NEW,
        Verdict.NEW,
        Verdict.FULL,
    ]
    assert pool.newest(nodes.id(first)) is None


# --- frozen lists and views ---


def test_three_epochs_are_kept(nodes, pool, lists):
    pool.offer(START, nodes.advert(1, at=START, life=100))
    frozen = [lists.freeze(START + second) for second in (10, 20, 30, 40)]
    number = DEV.number(START + 40)
    assert [lists.at(START + 45, DEV.cut(number - back)) for back in range(4)] == [
        *frozen[:0:-1],
        None,
    ]
    assert lists.newest() is frozen[-1]
    assert lists.of(number - 1) is frozen[-2]


def test_a_frozen_list_never_changes(nodes, pool, lists):
    pool.offer(START, nodes.advert(1, at=START, life=100))
    frozen = lists.freeze(START + 10)
    root, cut = frozen.root, frozen.cut
    pool.offer(START + 10, nodes.advert(2, at=START, life=100))
    pool.offer(START + 11, nodes.advert(1, "left", at=START + 11))
    assert lists.at(START + 15, cut) is frozen
    assert (frozen.root, len(frozen)) == (root, 1)
    assert lists.body(frozen.adverts[0].digest) is frozen.adverts[0]


@pytest.mark.parametrize(
    ("cut", "asked"), [(15, True), (9, True), (8, True), (7, False), (16, False), (99, False)]
)
def test_servers_compare_recent_cuts_only(nodes, pool, lists, cut, asked):
    pool.offer(START, nodes.advert(1, at=START, life=100))
    lists.freeze(START + 10)
    view = lists.at(START + 15.9, START + cut)
    assert (view is not None) == asked
    assert view is None or ids(view) == [nodes.id(1)]


def test_what_servers_compare_is_the_newest_cut_until_the_next_list_is_cut():
    cuts = [OPEN.compared(START + after) for after in (65.0, 89.9, 90.0, 509.0, 510.0, 599.0)]
    assert [cut - START for cut in cuts] == [30, 30, 60, 450, 480, 480]
    assert OPEN.cut(OPEN.number(START) + 1) == START + 480
    assert [DEV.compared(START + after) - START for after in (3.4, 3.5, 9.0)] == [2, 3, 8]


def test_cuts_that_may_be_asked_for_are_whole_steps_of_half_an_hour():
    assert OPEN.compares(START + 30, START + 65.0)
    assert not OPEN.compares(START + 31, START + 65.0)
    assert not OPEN.compares(START + 30, START + 39.9)
    assert not OPEN.compares(START - 120, START + 65.0)


def test_a_view_follows_the_pool_but_is_not_made_for_each_advert(nodes, pool, lists):
    lists.freeze(START)
    pool.offer(START, nodes.advert(1, at=START))
    first = lists.at(START + 2, START + 1)
    pool.offer(START + 2, nodes.advert(2, at=START))
    assert lists.at(START + 2.1, START + 1) is first
    assert len(lists.at(START + 2.4, START + 1)) == 2


def test_views_for_others_are_rationed(nodes, pool, lists, monkeypatch):
    monkeypatch.setattr("p2p.overlay.lists.LISTING_BURST", 7.0)
    lists = Lists(pool, DEV)
    lists.freeze(START)
    pool.offer(START, nodes.advert(1, at=START))
    monkeypatch.setattr(lists._ration, "rate", 0.0)
    views = [lists.asked_at(START + 9.9, START + cut) for cut in range(1, 9)]
    assert [view is not None for view in views] == [True] * 3 + [False] * 5
    assert lists.sizes()["list_views"] <= 4
    assert lists.at(START + 9.9, START + 8) is not None


# --- the hashes ---


def test_a_root_is_the_hash_of_its_buckets_and_they_of_their_entries(nodes, pool):
    for number in range(1, 40):
        pool.offer(nodes.now, nodes.advert(number))
    snapshot = pool.list_at(START)
    buckets = [b""] * 256
    for advert in sorted(snapshot.adverts, key=lambda one: one.id):
        buckets[advert.id[0]] += advert.id + sha256(advert.buffer).digest()[:16]
    hashes = b"".join(sha256(entries).digest()[:16] for entries in buckets)
    assert snapshot.buckets == hashes
    assert snapshot.root == sha256(hashes).digest()
    assert sum(len(snapshot.bucket(number)) for number in range(256)) == 39


def test_lists_differ_in_the_buckets_of_what_differs(nodes, pool):
    for number in range(40):
        pool.offer(nodes.now, nodes.advert(number))
    before = pool.list_at(START)
    pool.offer(nodes.now, nodes.advert(3, "worker", seq=START + 1))
    pool.offer(nodes.now, nodes.advert(50))
    after = pool.list_at(START)
    changed = sorted({nodes.id(3)[0], nodes.id(50)[0]})
    assert differing(before.buckets, after.buckets) == changed
    assert differing(after.buckets, after.buckets) == []


def test_ten_thousand_adverts_give_one_root_in_any_order_and_duplication(nodes, monkeypatch):
    made = ten_thousand(nodes, monkeypatch)
    read = {buffer: adverts.read(buffer, START, OPEN_RULES) for buffer in made}
    random = Random(4)
    roots = []
    for _ in range(2):
        order = [*made, *random.sample(made, 2_000)]
        random.shuffle(order)
        pool = Pool(OPEN_RULES, OPEN, read=lambda buffer, now, rules: read[buffer])
        for buffer in order:
            pool.offer(START, buffer)
        frozen = Lists(pool, OPEN).freeze(START + 600)
        roots.append((len(frozen), frozen.root))
    assert roots[0] == roots[1]
    assert roots[0][0] == 10_000


def ten_thousand(nodes, monkeypatch):
    """Adverts whose keys and signatures are believed: what is tested costs enough."""
    monkeypatch.setattr(adverts, "verify", lambda advert, rules: None)
    monkeypatch.setattr("p2p.overlay.places.work_bits", lambda advert: 20)
    template = block(nodes, 1)
    public, host = nodes.identity(1).public, bytes([8, 8, 1, 1])
    return [
        template.replace(public, sha256(number.to_bytes(4, "big")).digest()).replace(
            host, bytes([20, *number.to_bytes(2, "big"), 1])
        )
        for number in range(10_000)
    ]
