"""Carriers for one suite on both: real sockets on loopback, or memory."""

from collections import deque
from functools import partial
from itertools import count

import pytest
import trio

from p2p.entropy import seeded
from p2p.identity import Identity
from p2p.transport.libp2p import Libp2pCarrier
from p2p.transport.memory import Ether, MemoryCarrier
from p2p.wire import Endpoint, Kind, Message, pack, unpack

LOOPBACK = Endpoint("127.0.0.1", 0)
NETWORK = -77

PATIENCE = 20.0
"""seconds until a wait is a failure: far more than a loaded machine needs."""


class Spy:
    """A listener that keeps what it hears, in order, and lets a test wait for it."""

    def __init__(self):
        self.heard = deque()
        self.links = {}
        """The link to each peer that is up now."""
        self.react = lambda *what: None
        """What to do at once about a thing heard."""
        self._stirred = trio.Event()

    def link_up(self, link, dialled):
        assert link.peer not in self.links, "two links to one peer"
        self.links[link.peer] = link
        self._hear("up", link, dialled)

    def link_down(self, link):
        assert self.links.pop(link.peer) == link
        self._hear("down", link)

    def dial_failed(self, peer):
        self._hear("failed", peer)

    def _hear(self, *what):
        self.heard.append(what)
        self._stirred.set()
        self.react(*what)

    async def next(self):
        """The next thing heard."""
        with trio.fail_after(PATIENCE):
            while not self.heard:
                self._stirred = trio.Event()
                await self._stirred.wait()
        return self.heard.popleft()

    async def up(self):
        """The link that comes up next; anything else heard first is a failure."""
        what, link, *_ = await self.next()
        assert what == "up"
        return link

    async def down(self):
        """The link that goes down next."""
        what, link = await self.next()
        assert what == "down"
        return link


class Peer:
    """A running carrier, its spy, where it listens, and a scope that kills it."""

    def __init__(self, identity, carrier):
        self.identity = identity
        self.id = identity.id
        self.carrier = carrier
        self.spy = Spy()
        self.endpoint = None
        self.scope = trio.CancelScope()
        self.ended = trio.Event()

    async def run(self, *, task_status):
        try:
            with self.scope:
                await self.carrier.run(self.spy, task_status=task_status)
        finally:
            self.ended.set()

    async def stop(self):
        """End the carrier as a crash would: without a word to anybody."""
        self.scope.cancel()
        await self.ended.wait()

    def dial(self, other):
        self.carrier.dial(other.id, [other.endpoint] if other.endpoint else [])

    def send(self, link, payload=b"", kind=Kind.MESSAGE, number=0):
        self.carrier.send(0.0, link, pack(Message(kind, number, payload)))

    async def receive(self, amount=1):
        """The next messages, each with its link."""
        taken = []
        with trio.fail_after(PATIENCE):
            while len(taken) < amount:
                taken += self.carrier.take(amount - len(taken))
                await self.carrier.wait() if len(taken) < amount else None
        return [(link, unpack(data)) for link, data in taken]


class Net:
    """Makes carriers that can reach each other."""

    def __init__(self, nursery, make):
        self._nursery = nursery
        self._make = make
        self._seeds = count(1)

    async def node(self, *, identity=None, network=NETWORK, listen=LOOPBACK, **taps):
        """A running carrier; `listen` None: it only dials."""
        entropy = seeded(next(self._seeds))
        identity = identity or Identity(entropy.token(32))
        carrier = self._make(identity, network=network, listen=listen, entropy=entropy, **taps)
        peer = Peer(identity, carrier)
        peer.endpoint = await self._nursery.start(peer.run)
        return peer

    async def linked(self, left, right):
        """Dial, and return both ends of the link."""
        left.dial(right)
        return await left.spy.up(), await right.spy.up()


@pytest.fixture
def libp2p_net(nursery):
    return Net(nursery, Libp2pCarrier)


@pytest.fixture
def memory_net(nursery):
    return Net(nursery, partial(MemoryCarrier, ether=Ether()))


@pytest.fixture(params=["memory", "libp2p"])
def net(request):
    return request.getfixturevalue(f"{request.param}_net")
