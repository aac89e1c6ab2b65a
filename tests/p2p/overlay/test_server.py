"""A directory server: what it answers, and to whom it says that it is busy."""

import pytest

from p2p.errors import Rejected
from p2p.overlay import bodies
from p2p.overlay.bodies import NO_ROOT, Pull, Refusal
from p2p.overlay.diary import Diary
from p2p.overlay.epochs import DEV
from p2p.overlay.lists import Lists
from p2p.overlay.liveness import PulseBook
from p2p.overlay.pool import Pool
from p2p.overlay.pulse import Kind, PulseChain, read_pulses
from p2p.overlay.server import KEPT_FOR_ROOTS, ListServer

START = 1_800_000_000
NOW = START + 12.0
CUT = START + 8


class Desk:
    """A server with a frozen list of these numbers, and one who asks it."""

    def __init__(self, nodes, numbers=range(20)):
        self.nodes = nodes
        pool = Pool(nodes.rules, DEV)
        for number in numbers:
            pool.offer(START, nodes.advert(number, at=START, life=100))
        self.lists = Lists(pool, DEV)
        self.book, self.diary = PulseBook(DEV.epoch), Diary()
        self.frozen = self.lists.freeze(START + 10)
        self.pool = pool
        self.server = ListServer(
            self.lists,
            DEV,
            book=self.book,
            diary=self.diary,
            is_live=lambda ad: ad.id[0] % 2,
            place=lambda peer: peer[:2],
        )

    def ask(self, call, *, peer=b"p" * 32, now=NOW):
        return self.server.answer(now, peer, call)


@pytest.fixture
def desk(nodes):
    return Desk(nodes)


def code(read, answer, *arguments):
    with pytest.raises(Rejected) as caught:
        read(answer, *arguments)
    return caught.value.args[0]


def test_a_root_is_that_of_the_cut_with_count_and_live_count(desk):
    rooted = bodies.read_rooted(desk.ask(bodies.Root(CUT, NO_ROOT)))
    live = sum(advert.id[0] % 2 for advert in desk.frozen.adverts)
    assert rooted == (20, desk.frozen.root, live)


def test_live_nodes_are_counted_anew_each_step(desk, monkeypatch):
    desk.ask(bodies.Root(CUT, NO_ROOT))
    monkeypatch.setattr(desk.server, "_is_live", lambda advert: False)
    kept = bodies.read_rooted(desk.ask(bodies.Root(CUT, NO_ROOT), now=NOW + 0.9))
    assert kept.live > 0
    assert bodies.read_rooted(desk.ask(bodies.Root(CUT, NO_ROOT), now=NOW + 1.0)).live == 0


def test_buckets_and_their_items_with_days(desk):
    hashes = bodies.read_buckets(desk.ask(bodies.Buckets(CUT)))
    assert hashes == desk.frozen.buckets
    desk.diary.mark(NOW, [desk.frozen.adverts[0].id])
    numbers = bytes(sorted({advert.id[0] for advert in desk.frozen.adverts}))
    listed = bodies.read_list(desk.ask(bodies.List(CUT, numbers)), numbers)
    items = [item for bucket in listed for item in bucket]
    assert [item.digest for item in items] == [advert.digest for advert in desk.frozen.adverts]
    assert [item.entry[:8] for item in items] == [ad.id[:8] for ad in desk.frozen.adverts]
    assert [item.days for item in items] == [1] + [0] * 19


def test_adverts_are_given_by_digest_those_of_the_pool_too(desk):
    new = desk.nodes.advert(77, at=START + 11)
    desk.pool.offer(NOW, new)
    wanted = [desk.frozen.adverts[3].digest, b"?" * 16, desk.pool.newest(desk.nodes.id(77)).digest]
    got = bodies.read_adverts(desk.ask(bodies.Get(wanted)))
    assert got == [desk.frozen.adverts[3].buffer, new]


def test_a_pull_gives_whole_buckets_until_the_answer_is_full(desk, monkeypatch):
    monkeypatch.setattr("p2p.overlay.server.PULL_ANSWER", 1_000)
    first, adverts = 0, []
    while first < 256:
        call = Pull(CUT, first, 255)
        pulled = bodies.read_pulled(desk.ask(call), call)
        assert sum(map(len, pulled.adverts)) <= 1_000
        adverts += pulled.adverts
        first = pulled.next
    assert adverts == [advert.buffer for advert in desk.frozen.adverts]


def test_a_peer_gets_one_full_list_an_epoch(desk):
    call = Pull(CUT, 0, 255)
    assert bodies.read_pulled(desk.ask(call), call).next == 256
    assert code(bodies.read_pulled, desk.ask(call), call) == Refusal.BUSY
    assert bodies.read_pulled(desk.ask(call, peer=b"q" * 32), call).next == 256
    assert bodies.read_pulled(desk.ask(call, now=NOW + 10.0), call).next == 256


def test_a_peer_may_ask_so_often(desk):
    answers = [desk.ask(bodies.Root(CUT, NO_ROOT)) for _ in range(61)]
    assert code(bodies.read_rooted, answers.pop()) == Refusal.BUSY
    assert all(map(bodies.read_rooted, answers))
    assert bodies.read_rooted(desk.ask(bodies.Root(CUT, NO_ROOT), now=NOW + 0.05))
    statistics = desk.server.statistics()
    assert (statistics.answered, statistics.refused) == (61, 1)


def test_all_together_get_so_many_bytes(nodes, monkeypatch):
    monkeypatch.setattr("p2p.overlay.server.UPLOAD_BURST", 10_000.0 + KEPT_FOR_ROOTS)
    desk = Desk(nodes)
    answers = [desk.ask(bodies.Buckets(CUT), peer=bytes([n]) * 32) for n in range(3)]
    assert [len(answer) > 4_000 for answer in answers] == [True, True, False]
    assert code(bodies.read_buckets, answers[2]) == Refusal.BUSY


def name(number, place=b"at"):
    return place + number.to_bytes(30, "big")


def test_names_of_one_neighbourhood_have_calls_together(desk):
    call = bodies.Root(CUT, NO_ROOT)
    answers = [desk.ask(call, peer=name(number)) for number in range(241)]
    assert code(bodies.read_rooted, answers.pop()) == Refusal.BUSY
    assert all(map(bodies.read_rooted, answers))
    assert bodies.read_rooted(desk.ask(call, peer=name(1, b"up")))


def test_names_of_one_neighbourhood_have_bytes_together(nodes, monkeypatch):
    monkeypatch.setattr("p2p.overlay.server.NEAR_BURST", 10_000.0)
    desk = Desk(nodes)
    answers = [desk.ask(bodies.Buckets(CUT), peer=name(number)) for number in range(3)]
    assert [len(answer) > 4_000 for answer in answers] == [True, True, False]
    assert len(desk.ask(bodies.Buckets(CUT), peer=name(3, b"up"))) > 4_000


@pytest.mark.parametrize("count", [1, 9])
def test_who_asks_for_all_that_it_may_leaves_something_to_others(nodes, monkeypatch, count):
    monkeypatch.setattr("p2p.overlay.server.NEAR_CALLS", 100.0)
    desk = Desk(nodes)
    for number in range(4_000):
        desk.ask(bodies.Buckets(CUT), peer=name(number, b"%2d" % (number % count)))
    assert len(desk.ask(bodies.Buckets(CUT), peer=name(0, b"up"))) > 4_000
    assert bodies.read_rooted(desk.ask(bodies.Root(CUT, NO_ROOT), peer=name(10**6, b" 0")))


def test_roots_are_told_when_nothing_else_is(desk):
    desk.server._upload.take(NOW, 15_800_000.0)
    call = bodies.Buckets(CUT)
    assert code(bodies.read_buckets, desk.ask(call)) == Refusal.BUSY
    assert bodies.read_rooted(desk.ask(bodies.Root(CUT, NO_ROOT)))


@pytest.mark.parametrize("cut", [START + 7, START + 18, CUT - 10, 0])
def test_other_cuts_are_unknown(desk, cut):
    for call in (bodies.Root(cut, NO_ROOT), bodies.Buckets(cut), bodies.List(cut, b"\0")):
        assert code(bodies.read_done, desk.ask(call)) == Refusal.UNKNOWN


def test_what_belongs_to_others_is_unknown(desk):
    assert code(bodies.read_done, desk.ask(bodies.Whoami())) == Refusal.UNKNOWN


def test_pulses_are_those_of_listed_nodes_in_a_range(desk):
    chains = {}
    for number in range(20):
        chain = PulseChain(desk.nodes.identity(number), 1, Kind.OPEN)
        desk.book.expect(desk.nodes.id(number), START, chain.anchor * 2)
        chains[desk.nodes.id(number)] = chain.pulse(1)
    desk.book.take(NOW, b"p" * 32, list(chains.values()))
    everything = bodies.read_pulses(desk.ask(bodies.Pulses(0, 255)))
    assert sorted(read_pulses(everything, 40)) == sorted(chains.values())
    (one, *_) = desk.frozen.adverts
    part = bodies.read_pulses(desk.ask(bodies.Pulses(0, one.id[0])))
    assert chains[one.id] in read_pulses(part, 40)


def test_without_a_list_there_are_no_pulses(nodes):
    pool = Pool(nodes.rules, DEV)
    server = ListServer(
        Lists(pool, DEV), DEV, book=PulseBook(10), diary=Diary(), is_live=lambda advert: True
    )
    answer = server.answer(NOW, b"p" * 32, bodies.Pulses(0, 255))
    assert code(bodies.read_pulses, answer) == Refusal.UNKNOWN
