"""The table of links: turns, bounds of what is held, and which of two links stands."""

import pytest
import trio

from p2p.codec import Unframer
from p2p.defaults import LINK_CREDIT
from p2p.entropy import seeded
from p2p.errors import Closed
from p2p.identity import short_id
from p2p.transport.links import End, Links
from p2p.wire import Kind, Message, pack

KEYS = sorted((seeded(n).token(32) for n in range(3)), key=short_id)
SMALL, OWN, LARGE = KEYS


class Silence:
    def __init__(self):
        self.heard = []

    def link_up(self, link, dialled):
        self.heard.append(("up", link))

    def link_down(self, link):
        self.heard.append(("down", link))

    def dial_failed(self, peer):
        raise AssertionError


@pytest.fixture
def listener():
    return Silence()


@pytest.fixture
def table(listener):
    table = Links(short_id(OWN), None)
    table.open(listener)
    return table


def end(public, *, dialled=False):
    return End(public, trio.CancelScope(), dialled=dialled)


def message(number, size=0):
    return pack(Message(Kind.MESSAGE, number, bytes(size)))


def test_each_link_has_its_turn(table):
    flood, quiet = end(SMALL), end(LARGE)
    table.enter(flood)
    table.enter(quiet)
    for number in range(3):
        table.receive(flood, message(number))
    table.receive(quiet, message(9))

    assert table.take(3) == [
        (flood.link, message(0)),
        (quiet.link, message(9)),
        (flood.link, message(1)),
    ]
    assert table.take(64) == [(flood.link, message(2))]


@pytest.mark.parametrize(
    ("peer", "first", "second", "stands"),
    [
        (SMALL, True, False, "second"),  # the smaller id, the peer's, dialled the second
        (SMALL, False, True, "first"),
        (LARGE, True, False, "first"),
        (LARGE, False, True, "second"),
        (LARGE, True, True, "second"),  # who dials again has lost the first
        (LARGE, False, False, "second"),
    ],
)
def test_of_two_links_one_stands(table, listener, peer, first, second, stands):
    old, new = end(peer, dialled=first), end(peer, dialled=second)
    table.enter(old)
    if stands == "first":
        with pytest.raises(Closed):
            table.enter(new)
        assert listener.heard == [("up", old.link)]
        assert old.pings_lost == 1, "is it really still there?"
    else:
        table.enter(new)
        assert listener.heard == [("up", old.link), ("down", old.link), ("up", new.link)]
        assert old.scope.cancel_called
    assert len(table) == 1


def test_credit_waits_while_the_core_is_behind(table):
    slow = end(SMALL)
    slow.greet(b"")
    table.enter(slow)
    for _ in range(5):
        table.receive(slow, message(0, 60_000))
    assert kinds(slow.next_write()) == [Kind.CREDIT], "half was used, little is held"
    assert slow.inbox_bytes > LINK_CREDIT

    table.receive(slow, message(0, 60_000))
    table.receive(slow, message(0, 60_000))
    assert slow.next_write() == b""
    table.take(64)
    assert kinds(slow.next_write()) == [Kind.CREDIT]


def kinds(data):
    unframer = Unframer(100)
    unframer.feed(data)
    return [body[0] for body in unframer]


def test_what_is_not_taken_of_a_link_that_left_is_counted(table):
    gone = end(SMALL)
    table.enter(gone)
    table.receive(gone, message(0))
    table.leave(gone)
    table.leave(gone)
    assert table.take(64) == []
    assert table.statistics(dialling=0).dropped == 1


def test_a_full_queue_ends_the_link(table):
    full = end(SMALL)
    table.enter(full)
    while not full.over:
        table.send(full.link, message(0, 1_000_000))
    assert full.scope.cancel_called
    table.leave(full)
    assert table.statistics(dialling=0).dropped == 1 + 4
    assert table.statistics(dialling=0).closed == 1


async def test_a_link_that_ended_is_over_once_its_messages_are_taken(table, nursery):
    done = end(SMALL)
    table.enter(done)
    table.receive(done, message(0))
    finished = trio.Event()

    async def wait():
        await done.all_taken()
        finished.set()

    nursery.start_soon(wait)
    await trio.testing.wait_all_tasks_blocked()
    assert done.over
    assert not finished.is_set()
    table.take(64)
    await finished.wait()


def test_ends_are_told_apart_in_words():
    assert str(end(SMALL)).startswith(f"End[{short_id(SMALL).hex()[:8]}#")
