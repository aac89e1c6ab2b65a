"""A network of circuits' cores in virtual time: one heap, one delay, links as pairs of ends."""

import heapq
from dataclasses import dataclass, field
from hashlib import blake2b, shake_256

import pytest

from p2p.core import Command, step
from p2p.entropy import seeded
from p2p.identity import Identity
from p2p.onion.core import (
    CloseLink,
    Data,
    Dial,
    Incoming,
    OnionConfig,
    OnionCore,
    OnionKeys,
)
from p2p.onion.path import RelayView, Role, Target

START = 1_800_000_000.0
NETWORK = 7


class StandInKem:
    """The sizes of ML-KEM-768 and none of its worth; seeded, unlike the real one."""

    def generate(self, entropy):
        private = entropy.token(64)
        return private, self._public(private)

    def encapsulate(self, public, entropy):
        ciphertext = entropy.token(1088)
        return ciphertext, self._secret(public, ciphertext)

    def decapsulate(self, private, ciphertext):
        return self._secret(self._public(private), ciphertext)

    def _public(self, private):
        return shake_256(private).digest(1184)

    def _secret(self, public, ciphertext):
        return blake2b(public + ciphertext, digest_size=32).digest()


class View:
    """The directory as every node of the network sees it."""

    def __init__(self):
        self.entries = {}

    def relay(self, peer, /):
        return self.entries.get(peer)

    def relays(self):
        return [view for view in self.entries.values() if Role.RELAY in view.roles]


@dataclass(eq=False)
class Peer:
    name: str
    identity: Identity
    keys: OnionKeys
    core: OnionCore
    alive: bool = True
    skew: float = 0.0
    """Seconds by which its clock is fast."""
    events: list = field(default_factory=list)
    links: dict = field(default_factory=dict)
    """Our end of each link -> (peer, its end)."""

    @property
    def id(self):
        return self.identity.id

    def said(self, kind, circuit=None):
        return [
            event
            for event in self.events
            if isinstance(event, kind) and (circuit is None or event.circuit == circuit)
        ]

    def heard(self, circuit, stream=1):
        """The bytes of a stream so far."""
        return b"".join(e.data for e in self.said(Data, circuit) if e.stream == stream)


class Net:
    """Cores, links of a fixed delay, and what went over them."""

    def __init__(self, seed=1, delay=0.01):
        self.now = START
        self.delay = delay
        self.entropy = seeded(seed)
        self.view = View()
        self.peers = {}
        self.frames = []
        """(time, sender, receiver, bytes) of every write."""
        self.answer = {}
        """What an endpoint does with `Incoming`, by name: a function of (net, peer, event)."""
        self.cut = None
        """(time, sender, receiver, bytes) -> bytes or None: an attacker on the wire."""
        self._heap = []
        self._count = 0

    # --- building ---

    def add(self, name, *, relay=False, endpoint=False, loaded=None, **config):
        entropy = self.entropy.fork(f"{name}/{self._count}")
        self._count += 1
        identity = Identity(blake2b(name.encode(), digest_size=32).digest())
        keys = OnionKeys(entropy.fork("keys"), loaded)
        config = {"network": NETWORK, "kem": StandInKem(), "dev": True} | config
        core = OnionCore(
            identity,
            keys,
            self.view,
            entropy,
            OnionConfig(relay=relay, endpoint=endpoint, **config),
        )
        peer = self.peers[identity.id] = Peer(name, identity, keys, core)
        if relay or endpoint:
            self.list(peer, relay=relay, endpoint=endpoint)
        return peer

    def list(self, peer, *, relay, endpoint):
        roles = Role.DIALABLE | (Role.RELAY if relay else Role(0))
        self.view.entries[peer.id] = RelayView(
            id=peer.id,
            onion_key=peer.keys.public(int(self.now) // 86_400),
            operator=peer.id,
            subnet=b"",
            roles=roles | (Role.WORKER if endpoint else Role(0)),
            stable=True,
            weight=1.0,
        )

    def target(self, peer):
        return Target(id=peer.id, onion_key=peer.keys.public(int(self.now) // 86_400))

    def path(self, *peers):
        return [self.target(peer) for peer in peers]

    # --- doing ---

    def call(self, peer, fn):
        """A command on a core, at once."""
        results = []
        command = Command("test", lambda core, now: results.append(fn(core, now)))
        self._step(peer, [command], [])
        return results[0]

    def open(self, client, path, request=b"want"):
        return self.call(client, lambda core, now: core.open(now, path, request))

    def send(self, peer, circuit, data, stream=1):
        self.call(peer, lambda core, now: core.send(now, circuit, stream, data))

    def end(self, peer, circuit, stream=1):
        self.call(peer, lambda core, now: core.end(now, circuit, stream))

    def feed(self, peer, circuit, data, stream=1):
        """Send more than fits at once, as there is room."""
        view = memoryview(data)
        while view:
            room = self.call(peer, lambda core, now: core.writable(circuit))
            if room:
                self.send(peer, circuit, bytes(view[:room]), stream)
                view = view[room:]
            else:
                self.run(0.05)

    def inject(self, sender, receiver, data):
        """Bytes on the link of two, as if `sender` had written them."""
        for other, theirs in sender.links.values():
            if other is receiver:
                self._at(0.0, "data", receiver, theirs, data)
                return
        raise AssertionError("no link")

    def connect(self, dialler, peer):
        mine, theirs = ("end", self._next()), ("end", self._next())
        dialler.links[mine] = (peer, theirs)
        peer.links[theirs] = (dialler, mine)
        self.call(dialler, lambda core, now: core.link_up(now, mine, peer.id, dialled=True))
        self.call(peer, lambda core, now: core.link_up(now, theirs, dialler.id, dialled=False))

    def kill(self, peer):
        """A node is gone without a word; its links drop."""
        peer.alive = False
        for mine in list(peer.links):
            self._hang_up(peer, mine)

    # --- time ---

    def run(self, seconds):
        until = self.now + seconds
        while (due := self._due()) is not None and due <= until:
            self._advance(due)
        self.now = until

    def until(self, condition, limit=60.0):
        """Run until `condition()`; fail after `limit` virtual seconds."""
        end = self.now + limit
        while not condition():
            due = self._due()
            assert due is not None, "nothing will ever happen"
            assert due <= end, "it took too long"
            self._advance(due)

    def _due(self):
        times = [when for peer in self.peers.values() if (when := _due(peer)) is not None]
        if self._heap:
            times.append(self._heap[0][0])
        return max(self.now, min(times)) if times else None

    def _advance(self, due):
        self.now = due
        inboxes = {}
        while self._heap and self._heap[0][0] <= due:
            what = heapq.heappop(self._heap)[2]
            if what[0] == "data":
                _, receiver, theirs, data = what
                if receiver.alive and theirs in receiver.links:
                    inboxes.setdefault(receiver.id, []).append((theirs, data))
            elif what[0] == "dial":
                self._answer_dial(*what[1:])
        for peer in list(self.peers.values()):
            when = _due(peer)
            if peer.alive and (peer.id in inboxes or (when is not None and when <= due)):
                self._step(peer, [], inboxes.get(peer.id, []))

    def _step(self, peer, commands, inbox):
        sends, events = step(peer.core, self.now + peer.skew, commands, inbox)
        for send in sends:
            if send.to in peer.links:
                other, theirs = peer.links[send.to]
                self._transmit(peer, other, theirs, send.data)
        for event in events:
            peer.events.append(event)
            self._handle(peer, event)

    def _transmit(self, peer, other, theirs, data):
        if self.cut is not None:
            data = self.cut(self.now, peer, other, data)
            if data is None:
                return
        self.frames.append((self.now, peer, other, data))
        self._at(self.delay, "data", other, theirs, data)

    def _handle(self, peer, event):
        match event:
            case Dial(target):
                self._at(self.delay, "dial", peer, target)
            case CloseLink(link, reason) if reason != "idle":
                self._hang_up(peer, link)
            case Incoming() if peer.name in self.answer:
                self.answer[peer.name](self, peer, event)

    def _answer_dial(self, peer, target):
        other = self.peers.get(target)
        if any(remote is other for remote, _ in peer.links.values()):
            return
        if other is None or not other.alive:
            self.call(peer, lambda core, now: core.dial_failed(now, target))
        else:
            self.connect(peer, other)

    def _hang_up(self, peer, mine):
        if mine not in peer.links:
            return
        other, theirs = peer.links.pop(mine)
        del other.links[theirs]
        for end, link in ((peer, mine), (other, theirs)):
            if end.alive:
                self.call(end, lambda core, now, link=link: core.link_down(now, link))

    def _at(self, delay, *what):
        heapq.heappush(self._heap, (self.now + delay, self._next(), what))

    def _next(self):
        self._count += 1
        return self._count


def _due(peer):
    when = peer.core.next_deadline() if peer.alive else None
    return None if when is None else when - peer.skew


def accept(net, peer, event):
    """An endpoint that says yes to everyone."""
    net.call(peer, lambda core, now: core.accept(now, event.circuit, b"offer for " + event.request))


@pytest.fixture
def net():
    """An empty network."""
    return Net()


@pytest.fixture
def make_net():
    """Networks with another seed or delay."""
    return Net


@pytest.fixture
def say_yes():
    """What an endpoint does that accepts everyone."""
    return accept


@pytest.fixture
def town(net):
    """(net, client, relays, worker): three relays and a worker that says yes."""
    relays = [net.add(f"relay{i}", relay=True) for i in range(4)]
    worker = net.add("worker", endpoint=True, allow_direct=True)
    client = net.add("client")
    net.answer["worker"] = accept
    return net, client, relays, worker
