"""A node's two transports wake its driver alike, and each gets what is meant for it."""

import pytest
import trio

from p2p.errors import Closed
from p2p.identity import AdnlId
from p2p.transport.joint import JointTransport
from p2p.wire import Endpoint, Link

LINK = Link(AdnlId(b"p" * 32), 1)
HERE = Endpoint("127.0.0.1", 1)


class Part:
    """A transport of which the test says what arrives."""

    def __init__(self):
        self.inbox, self.sent = [], []
        self.closed = False
        self._stirred = trio.Event()

    def arrive(self, *items):
        self.inbox += items
        self._stirred.set()

    def take(self, limit=64):
        if self.closed:
            raise Closed("shut")
        taken, self.inbox = self.inbox[:limit], self.inbox[limit:]
        if not self.inbox:
            self._stirred = trio.Event()
        return taken

    async def wait(self):
        await self._stirred.wait()

    def send(self, now, to, data):
        self.sent.append((to, data))


@pytest.fixture
async def joint(nursery):
    links, datagrams = Part(), Part()
    transport = JointTransport(links, datagrams)
    await nursery.start(transport.run)
    return transport, links, datagrams


async def received(transport, count):
    taken = []
    while len(taken) < count:
        await transport.wait()
        taken += transport.take()
    return taken


async def test_either_part_ends_the_wait(joint, autojump_clock):
    transport, links, datagrams = joint
    links.arrive((LINK, b"over a link"))
    assert await received(transport, 1) == [(LINK, b"over a link")]
    datagrams.arrive((HERE, b"a datagram"))
    assert await received(transport, 1) == [(HERE, b"a datagram")]


async def test_datagram_that_comes_while_waiting_ends_the_wait(joint, nursery, autojump_clock):
    transport, _, datagrams = joint

    async def later():
        await trio.sleep(1)
        datagrams.arrive((HERE, b"late"))

    nursery.start_soon(later)
    assert await received(transport, 1) == [(HERE, b"late")]
    assert trio.current_time() == 1


async def test_more_datagrams_than_one_take_gives_are_all_received(joint, autojump_clock):
    transport, links, datagrams = joint
    datagrams.arrive(*[(HERE, bytes([n])) for n in range(200)])
    links.arrive((LINK, b"x"))
    taken = await received(transport, 201)
    assert [data for to, data in taken if to == HERE] == [bytes([n]) for n in range(200)]


async def test_wait_without_anything_is_cancelled_cleanly(joint, autojump_clock):
    transport, links, _ = joint
    with trio.move_on_after(5):
        await transport.wait()
    links.arrive((LINK, b"after"))
    assert await received(transport, 1) == [(LINK, b"after")]


async def test_each_part_sends_what_is_meant_for_it(joint):
    transport, links, datagrams = joint
    transport.send(0.0, LINK, b"a")
    transport.send(0.0, HERE, b"b")
    assert (links.sent, datagrams.sent) == ([(LINK, b"a")], [(HERE, b"b")])


async def test_shut_part_shuts_the_joint(joint):
    transport, links, _ = joint
    links.closed = True
    with pytest.raises(Closed):
        transport.take()
