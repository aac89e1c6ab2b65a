"""Cores at endpoints of a network in memory, in virtual time."""

from p2p.adnl.core import AdnlCore
from p2p.adnl.events import Answered, Failed, Message, Query
from p2p.entropy import seeded
from p2p.identity import Identity
from p2p.wire import Endpoint

START = 1_800_000_000
"""when nodes start, unless a test says otherwise"""


def identity(number):
    return Identity(number.to_bytes(32, "big"))


class Node:
    """A core, where it is, and what it has told; queries are answered by `answers`."""

    def __init__(self, net, number, *, started_at=START, place=None, limits=None, entropy=None):
        self.net = net
        self.identity = identity(number)
        self.id = self.identity.id
        self.place = place or Endpoint(f"10.0.0.{number}", 3_000)
        self.started_at = started_at
        self.core = AdnlCore(
            [self.identity],
            entropy or seeded(number * 1_000_003 + started_at),
            started_at,
            limits=limits,
        )
        self.told = []
        self.answers = bytes.upper

    def knows(self, *others):
        for other in others:
            self.core.add_peer(self.net.now, other.identity.public, [other.place])

    def send(self, other, payload=b"hello"):
        self.core.send(self.net.now, self.id, other.id, payload)

    def query(self, other, payload=b"hello", timeout=5.0, **where):
        return self.core.query(self.net.now, self.id, other.id, payload, timeout, **where)

    def heard(self, kind=Message):
        """The events of a kind told so far."""
        return [event for event in self.told if type(event) is kind]

    def payloads(self):
        return [event.payload for event in self.heard(Message)]

    def answered(self):
        return {event.ticket: event.payload for event in self.heard(Answered)}

    def failed(self):
        return {event.ticket: type(event.error) for event in self.heard(Failed)}

    def drops(self):
        return self.core.statistics().drops


class Net:
    """Carries datagrams at once and in order, but for what `lose` wants lost."""

    def __init__(self):
        self.now = START + 0.5
        self.nodes = {}
        self.carried = []
        """Every datagram that was carried: (from, to, bytes)."""
        self.lose = lambda source, to, data: False

    def node(self, number, **settings):
        node = Node(self, number, **settings)
        self.nodes[node.place] = node
        return node

    def run(self):
        """Until nothing more is to be carried now."""
        for _ in range(1_000):
            if not [node for node in list(self.nodes.values()) if self.step(node)]:
                return
        raise AssertionError("the network never comes to rest")

    def step(self, node):
        """Whether a node had anything to say or to tell."""
        sends, events = node.core.drain()
        for event in events:
            node.told.append(event)
            if type(event) is Query and node.answers is not None:
                node.core.answer(self.now, event.token, node.answers(event.payload))
        for send in sends:
            self.carry(node.place, send.to, send.data)
        return bool(sends or events)

    def carry(self, source, to, data):
        if self.lose(source, to, data):
            return
        self.carried.append((source, to, data))
        if to in self.nodes:
            self.nodes[to].core.receive(self.now, source, data)

    def wait(self, seconds):
        """Let time go by, with every timer at its time."""
        end = self.now + seconds
        self.run()
        while True:
            due = [(node.core.next_deadline(), node) for node in self.nodes.values()]
            when = min((deadline for deadline, _ in due if deadline is not None), default=None)
            if when is None or when > end:
                break
            self.now = max(self.now, when)
            for deadline, node in due:
                if deadline is not None and deadline <= self.now:
                    node.core.handle_timer(self.now)
            self.run()
        self.now = end
