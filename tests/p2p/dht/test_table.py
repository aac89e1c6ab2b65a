"""The table: who gets in, who becomes active, who goes, who is near, and who is pinged when."""

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from p2p.dht.node import Node, distance
from p2p.dht.settings import Settings
from p2p.dht.table import ID_BITS, Table
from p2p.identity import AdnlId
from p2p.ton import AdnlAddressList, AdnlAddressUdp, DhtNode, PubEd25519

NOW = 1_800_000_000.0
OWN = AdnlId(bytes(32))
K = 3
SETTINGS = Settings(k=K, per_subnet=None, per_subnet_and_bucket=None)


def id_in(bucket, number):
    """An id that shares `bucket` bits with ours."""
    low = ID_BITS - bucket - 1
    rest = int.from_bytes(sha256(b"%d/%d" % (bucket, number)).digest(), "big") >> (bucket + 1)
    return AdnlId(((1 << low) | rest).to_bytes(32, "big"))


def node(bucket, number, *, version=1, host=None, subnet=None):
    """A record that nobody signed: a table believes whoever calls it."""
    address = AdnlAddressUdp(number if host is None else host, 1)
    addresses = AdnlAddressList((address,), 0, 0, 0, 0)
    identity = id_in(bucket, number)
    return Node(
        id=identity,
        public=identity,
        record=DhtNode(PubEd25519(identity), addresses, version, b""),
        addresses=addresses,
        subnet=b"%d" % number if subnet is None else subnet,
        packed=b"",
    )


def table(**changes):
    return Table(
        OWN, Settings(k=K, **{"per_subnet": None, "per_subnet_and_bucket": None} | changes)
    )


def lose(table, it, now=NOW):
    """Let a node miss so much that it is lost, or forgotten."""
    for miss in range(SETTINGS.max_missed + 1):
        table.missed(now + miss * SETTINGS.retry_interval, it.id)


# --- coming ---


def test_who_introduces_itself_is_known_but_neither_asked_nor_named():
    t, it = table(), node(0, 1)
    assert t.introduce(NOW, it)
    assert t.find(it.id) == it
    assert t.active() == t.nearest(it.id, 9) == t.proven() == []


def test_who_introduces_itself_is_pinged_at_once_and_active_when_it_answers():
    t, it = table(), node(0, 1)
    t.introduce(NOW, it)
    assert t.next_due() == NOW
    assert t.due(NOW) == [it]
    t.answered(NOW + 1, it)
    assert t.active() == [it]
    assert t.is_active(it.id)


def test_who_never_answers_is_forgotten():
    t, it = table(), node(0, 1)
    t.introduce(NOW, it)
    lose(t, it)
    assert t.find(it.id) is None
    assert t.next_due() is None
    assert set(t.sizes().values()) <= {0, 1}


def test_who_answered_a_query_is_active_at_once():
    t, it = table(), node(0, 1)
    t.answered(NOW, it)
    assert t.active() == [it]


@pytest.mark.parametrize("subnets", [None, 2])
def test_who_is_assumed_to_have_answered_is_as_who_has(subnets):
    many = [node(bucket, n, subnet=b"%d" % (n % 4)) for bucket in (0, 1, 5) for n in range(8)]
    rules = {"per_subnet": None, "per_subnet_and_bucket": subnets}
    told, assumed = table(**rules), table(**rules)
    for at, it in enumerate(many):
        told.answered(NOW + at, it)
    assumed.assume((NOW + at, it) for at, it in enumerate([*many, many[0]]))
    assert assumed.statistics() == told.statistics()
    assert assumed.active() == told.active()
    assert assumed.proven() == told.proven()
    minute = NOW + SETTINGS.ping_interval
    assert assumed.next_due() == minute
    assert assumed.due(minute + 30) == told.due(minute + 30)
    assert set(assumed.sizes()) == set(told.sizes())


def test_nobody_is_assumed_to_be_us():
    t, own = table(), node(0, 1)
    object.__setattr__(own, "id", OWN)
    t.assume([(NOW, own)])
    assert len(t) == 0


def test_we_do_not_know_ourselves():
    t = table()
    own = node(0, 1)
    object.__setattr__(own, "id", OWN)
    assert not t.introduce(NOW, own)
    t.answered(NOW, own)
    assert len(t) == 0


def test_a_bucket_has_k_active_and_k_backup_nodes():
    t = table()
    nodes = [node(0, number) for number in range(9)]
    for it in nodes:
        t.answered(NOW, it)
    assert t.active() == nodes[:K]
    assert [t.find(it.id) for it in nodes] == nodes[: 2 * K] + [None] * (9 - 2 * K)


def test_who_has_been_here_longest_stays():
    t = table()
    nodes = [node(0, number) for number in range(9)]
    for it in nodes[: 2 * K]:
        t.answered(NOW, it)
    assert not t.introduce(NOW, nodes[8])
    t.answered(NOW, nodes[7])
    assert t.find(nodes[7].id) is None


def test_a_newcomer_takes_the_place_of_who_misses_pings():
    t = table()
    nodes = [node(0, number) for number in range(9)]
    for it in nodes[: 2 * K]:
        t.answered(NOW, it)
    t.missed(NOW, nodes[K].id)
    assert t.introduce(NOW, nodes[8])
    assert t.find(nodes[K].id) is None


def test_who_is_proven_takes_the_place_of_who_is_not():
    t = table()
    nodes = [node(0, number) for number in range(9)]
    for it in nodes[:K]:
        t.answered(NOW, it)
    for it in nodes[K : 2 * K]:
        t.introduce(NOW, it)
    assert not t.introduce(NOW, nodes[7])
    t.answered(NOW, nodes[8])
    assert t.find(nodes[8].id) == nodes[8]
    assert t.find(nodes[K].id) is None


# --- going ---


def test_an_active_node_that_is_lost_gives_way_to_the_next():
    t = table()
    nodes = [node(0, number) for number in range(K + 1)]
    for it in nodes:
        t.answered(NOW, it)
    lose(t, nodes[0])
    assert t.active() == nodes[1:]
    assert t.find(nodes[0].id) == nodes[0]


def test_a_lost_node_that_answers_again_is_active_if_there_is_room():
    t, it = table(), node(0, 1)
    t.answered(NOW, it)
    lose(t, it)
    assert t.active() == []
    assert t.proven() == t.reserve(it.id, 9) == [it]
    t.answered(NOW + 100, it)
    assert t.active() == [it]


def test_many_misses_at_once_count_as_one():
    t, it = table(), node(0, 1)
    t.answered(NOW, it)
    for _ in range(9):
        t.missed(NOW, it.id)
    assert t.active() == [it]


def test_an_answer_makes_up_for_what_was_missed():
    t, it = table(), node(0, 1)
    t.answered(NOW, it)
    for miss in range(9):
        t.missed(NOW + 20 * miss, it.id)
        t.answered(NOW + 20 * miss + 1, it)
    assert t.active() == [it]


# --- records ---


def test_only_a_newer_record_replaces_one():
    t = table()
    t.answered(NOW, node(0, 1, version=5))
    for version, kept in ((4, 5), (5, 5), (6, 6)):
        t.introduce(NOW, node(0, 1, version=version))
        assert t.find(id_in(0, 1)).version == kept
    assert t.is_active(id_in(0, 1))


def test_who_moves_must_answer_at_its_new_address():
    t = table()
    t.answered(NOW, node(0, 1))
    moved = node(0, 1, version=2, host=99)
    t.introduce(NOW + 30, moved)
    assert t.active() == []
    assert t.due(NOW + 30) == [moved]

    t.answered(NOW + 31, node(0, 1))
    assert t.active() == [], "it answered where it was before"
    t.answered(NOW + 32, moved)
    assert t.active() == [moved]


# --- subnets ---


@pytest.mark.parametrize("buckets", [range(1), range(9)], ids=["one bucket", "many"])
def test_few_nodes_of_one_subnet_are_known(buckets):
    t = table(per_subnet=4, per_subnet_and_bucket=2)
    for number in range(20):
        t.answered(NOW, node(buckets[number % len(buckets)], number, subnet=b"one"))
    assert len(t) == (2 if len(buckets) == 1 else 4)
    t.answered(NOW, node(0, 99, subnet=b"another"))
    assert len(t.active()) == len(t)


def test_a_subnet_has_room_again_when_its_nodes_are_gone():
    t = table(per_subnet=1, per_subnet_and_bucket=1)
    first, second = (node(0, number, subnet=b"one") for number in range(2))
    t.introduce(NOW, first)
    assert not t.introduce(NOW, second)
    lose(t, first)
    assert t.introduce(NOW, second)


def test_who_moves_into_a_full_subnet_is_forgotten():
    t = table(per_subnet=1, per_subnet_and_bucket=1)
    t.answered(NOW, node(0, 1, subnet=b"one"))
    t.answered(NOW, node(0, 2, subnet=b"two"))
    t.introduce(NOW, node(0, 2, version=2, host=9, subnet=b"one"))
    assert t.find(id_in(0, 2)) is None
    assert t.introduce(NOW, node(0, 3, subnet=b"two"))


# --- pings ---


def test_a_node_is_pinged_each_minute():
    t, it = table(), node(0, 1)
    t.answered(NOW, it)
    times = []
    while len(times) < 3:
        when = t.next_due()
        assert t.due(when - 0.001) == []
        if t.due(when):
            times.append(when)
            t.answered(when + 1, it)
    assert times == [NOW + 60, NOW + 121, NOW + 182]


def test_who_misses_a_ping_is_pinged_again_soon():
    t, it = table(), node(0, 1)
    t.answered(NOW, it)
    assert t.due(NOW + 60) == [it]
    t.missed(NOW + 63, it.id)
    assert t.next_due() == NOW + 73


def test_a_lost_node_is_pinged_ever_more_seldom():
    t, it = table(), node(0, 1)
    t.answered(NOW, it)
    lose(t, it)
    gaps, last, now = [], None, NOW
    while now < NOW + 40 * 86_400:
        now = t.next_due()
        if t.due(now):
            if last is not None:
                gaps.append(now - last)
            last = now
            t.missed(now + 3, it.id)
    assert gaps == sorted(gaps)
    assert gaps[2] / gaps[1] == pytest.approx(1.1)
    assert gaps[-1] == SETTINGS.ping_slowest


def test_a_lost_node_that_introduces_itself_is_pinged_soon():
    t, it = table(), node(0, 1)
    t.answered(NOW, it)
    lose(t, it)
    assert t.due(NOW + 40) == [it]
    t.missed(NOW + 43, it.id)
    t.introduce(NOW + 60, it)
    assert t.due(NOW + 60) == [it]


def test_who_introduces_itself_often_is_not_pinged_more_often():
    t, it = table(), node(0, 1)
    pings = 0
    for tenth in range(300):
        t.introduce(NOW + tenth / 10, it)
        pings += len(t.due(NOW + tenth / 10))
    assert pings == 3


# --- a random walk against a model ---


class Walk(RuleBasedStateMachine):
    """Calls in any order: bounds hold, and what is asked of the table is what its nodes say."""

    def __init__(self):
        super().__init__()
        self.table = table(per_subnet=5, per_subnet_and_bucket=2)
        self.now = NOW
        self.proven = {}
        """The addresses at which each id last answered."""

    buckets = st.integers(0, 3)
    numbers = st.integers(0, 9)

    def made(self, bucket, number, version):
        return node(bucket, number, version=version, host=version, subnet=b"%d" % (number % 3))

    @rule(bucket=buckets, number=numbers, version=st.integers(1, 3))
    def introduce(self, bucket, number, version):
        it = self.made(bucket, number, version)
        known = self.table.find(it.id)
        if self.table.introduce(self.now, it):
            assert known is not None or not self.table.is_active(it.id)

    @rule(bucket=buckets, number=numbers, version=st.integers(1, 3))
    def answer(self, bucket, number, version):
        it = self.made(bucket, number, version)
        self.table.answered(self.now, it)
        self.proven.setdefault(it.id, set()).add(it.addresses)

    @rule(bucket=buckets, number=numbers)
    def miss(self, bucket, number):
        self.table.missed(self.now, id_in(bucket, number))

    @rule(seconds=st.sampled_from([1.0, 10.0, 70.0]))
    def wait(self, seconds):
        self.now += seconds
        pinged = self.table.due(self.now)
        assert len({it.id for it in pinged}) == len(pinged)
        assert all(self.table.find(it.id) == it for it in pinged)

    @precondition(lambda self: len(self.table) > 0)
    @rule(seed=st.binary(min_size=32, max_size=32), count=st.integers(0, 12))
    def look(self, seed, count):
        active = self.table.active()
        by_distance = sorted(active, key=lambda it: distance(it.id, seed))
        assert self.table.nearest(seed, count) == by_distance[:count]
        own = distance(OWN, seed)
        assert self.table.nearer(seed) == sum(distance(it.id, seed) < own for it in active)

    @invariant()
    def bounds_hold(self):
        known = [self.table.find(id_in(b, n)) for b in range(4) for n in range(10)]
        known = [it for it in known if it is not None]
        assert len(known) == len(self.table)
        active = self.table.active()
        assert self.table.statistics().active == self.table.active_count == len(active)
        for bucket in range(4):
            here = [it for it in known if ID_BITS - distance(OWN, it.id).bit_length() == bucket]
            busy = [it for it in here if self.table.is_active(it.id)]
            assert len(busy) <= K
            assert len(here) - len(busy) <= K
            for subnet in {it.subnet for it in here}:
                assert sum(it.subnet == subnet for it in here) <= 2
        for subnet in {it.subnet for it in known}:
            assert sum(it.subnet == subnet for it in known) <= 5

    @invariant()
    def only_who_answered_at_its_address_is_active(self):
        for it in self.table.active():
            assert it.addresses in self.proven[it.id]

    @invariant()
    def everybody_is_pinged_some_day(self):
        due = self.table.next_due()
        assert (due is not None) == (len(self.table) > 0)


TestWalk = Walk.TestCase
TestWalk.settings = settings(max_examples=30, stateful_step_count=30)


@given(st.integers(0, 255), st.binary(min_size=32, max_size=32))
def test_the_nearest_are_found_wherever_the_buckets_are(deep, target):
    t = table()
    for bucket in (0, 1, 2, deep):
        for number in range(4):
            t.answered(NOW, node(bucket, number))
    by_distance = sorted(t.active(), key=lambda it: distance(it.id, target))
    for count in range(len(by_distance) + 2):
        assert t.nearest(target, count) == by_distance[:count]


def test_buckets_with_room_are_those_up_to_the_first_empty_one():
    t = table()
    assert t.with_room() == [0]
    for bucket, count in ((0, K), (1, K + 1), (3, 1)):
        for number in range(count):
            t.answered(NOW, node(bucket, number))
    assert t.with_room() == [2, 3, 4]
    t.introduce(NOW, node(9, 1))
    assert t.with_room() == [2, 3, 4]
