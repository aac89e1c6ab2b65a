"""Whatever peers send to a whole node over UDP: nothing is raised, friends are served.

One peer shakes hands as it should and lies in everything above: RLDP2, DHT, overlay and directory.
Another one breaks datagrams at every depth that ADNL has.
"""

import random

import pytest

from p2p import tl, ton
from p2p.adnl.core import AdnlCore
from p2p.adnl.events import Message, Query
from p2p.core import Command, step
from p2p.dht.value import overlay_id
from p2p.entropy import seeded
from p2p.identity import Identity
from p2p.overlay.advert import Role
from p2p.overlay.membership import name_of
from p2p.rldp import paths, receiving
from p2p.rldp.events import Answered
from p2p.stack import Stack, StackConfig
from p2p.wire import Endpoint
from tests.p2p.adnl.attacker import Attacker
from tests.p2p.rldp.joined import Joined
from tests.p2p.rldp.liar import Liar
from tests.p2p.tlvalues import DECLARED

START = 1_800_000_000
NETWORK = 7
NODE, FRIEND, ENEMY = (Endpoint(f"192.0.2.{n}", n) for n in (1, 2, 3))
PLACES = [Endpoint(f"198.51.100.{n}", n) for n in range(1, 40)]

UPPER = [
    name for name in DECLARED if name.startswith(("dht.", "overlay.", "tussah.", "rldp", "adnl."))
]
FIND = tl.pack(ton.DhtFindNode(b"z" * 32, 10))
BOOK = b"book"
NAMES = [overlay_id(name_of(NETWORK)), bytes(32)]

BOUNDS = {
    "rldp_reserved": receiving.MEMORY,
    "rldp_outgoing": paths.PER_PEER * 3,
    "rldp_outgoing_bytes": 1 << 22,
    "rldp_outputs": 0,
    "sending_pending": 256,
    "sending_tickets": 256,
    "adnl_strangers": 64,
    "adnl_queued": 1 << 20,
}
"""of three peers, and of the queries that a node makes of its own accord"""


class Library:
    """A core with long answers, as a directory gives them once it is full."""

    def message(self, now, peer, payload):
        pass

    def query(self, now, peer, payload):
        return bytes(60_000)


class Siege:
    """A node, a friend, and those two peers."""

    def __init__(self, seed, lie=None):
        self.rng = random.Random(seed)
        self.now = float(START)
        own = Identity(b"n" * 32)
        config = StackConfig(
            network=NETWORK, dev=True, started_at=START, udp=True, roles=Role.RELAY
        )
        self.own, self.node = own.id, Stack(own, seeded(seed), config)
        self.advance([Command("start", lambda core, now: core.start(now, (NODE,), (NODE,)))])

        self.node._sending.subscribe(Library(), BOOK)

        self.friend = Joined(1, seeded(seed).fork("friend"), START)
        self.friend.adnl.add_peer(self.now, own.public, [NODE])
        enemy = Identity(b"e" * 32)
        self.as_enemy = enemy.id
        self.enemy = AdnlCore([enemy], seeded(seed).fork("enemy"), START)
        self.enemy.add_peer(self.now, own.public, [NODE])
        self.liar, self.attacker = Liar(self.rng, lie), Attacker(self.rng, own)
        self.inbox = [(self.place(), self.attacker.meet(self.now))]
        self.served = 0

    def run(self, steps, every=400):
        for number in range(steps):
            self.provoke(number)
            self.go(self.rng.choice((0.001, 0.01, 0.01)))
            if number % every == every - 1:
                self.serve()
                self.check()

    # --- time ---

    def go(self, seconds):
        self.now += seconds
        self.carry(self.enemy, ENEMY)
        self.carry(self.friend, FRIEND)
        inbox, self.inbox = self.inbox, []
        for to, data in self.advance([], inbox):
            match to:
                case Endpoint() if to == ENEMY:
                    self.enemy.receive(self.now, NODE, data)
                case Endpoint() if to == FRIEND:
                    self.friend.receive(self.now, NODE, data)
                case _:
                    self.attacker.hear(data)

    def advance(self, commands, inbox=()):
        return step(self.node, self.now, commands, inbox)[0]

    def carry(self, core, source):
        due = core.next_deadline()
        if due is not None and due <= self.now:
            core.handle_timer(self.now)
        sends, events = core.drain()
        self.inbox += [(source, data) for to, data in sends if to == NODE]
        for event in events:
            self.told(event)

    def told(self, event):
        match event:
            case Message(_, _, payload):
                self.liar.hear(payload)
            case Query(token=token):
                self.enemy.answer(self.now, token, self.rng.choice((None, b"", self.payload())))
            case Answered():
                self.served += 1

    # --- what the peers do ---

    def provoke(self, number):
        for message in self.liar.lies():
            self.tell(message)
        if number % 20 == 0:
            body = self.rng.choice((BOOK, FIND, self.payload()))
            for message in self.liar.ask(self.now, body):
                self.tell(message)
        if number % 4 == 0:
            self.tell(self.payload())
        if number % 4 == 2:
            payload = self.payload()
            self.enemy.query(self.now, self.as_enemy, self.own, payload, timeout=1.0)
        if number % 3 == 0:
            self.inbox.append((self.place(), self.attacker.datagram(self.now)))

    def tell(self, payload):
        self.enemy.send(self.now, self.as_enemy, self.own, payload)

    def payload(self):
        """Something for the cores above ADNL, after the prefix that leads to one of them."""
        name = self.rng.choice(NAMES)
        prefix = self.rng.choice(
            (b"", b"", tl.pack(ton.OverlayQuery(name)), tl.pack(ton.OverlayMessage(name)))
        )
        return (prefix + tl.pack(self.attacker._value(self.rng.choice(UPPER))))[:8_000]

    def place(self):
        return self.rng.choice(PLACES)

    # --- what must hold ---

    def serve(self):
        """A friend asks by RLDP2, and is answered in a few seconds."""
        served = self.served
        self.friend.query(self.now, self.own, BOOK, timeout=9.0, max_answer=60_000)
        for _ in range(90):
            self.go(0.1)
        assert self.served == served + 1

    def check(self):
        sizes = self.node.sizes()
        beyond = {name: sizes[name] for name, most in BOUNDS.items() if sizes[name] > most}
        assert beyond == {}


@pytest.mark.parametrize("lie", ["wants_more", "counts_then_names"])
def test_node_outlives_a_peer_that_lies_of_what_it_has(lie):
    siege = Siege(1, lie)
    siege.run(400)
    assert siege.liar.symbols > 20


def test_node_outlives_whatever_peers_send():
    siege = Siege(2)
    siege.run(1_200)
    assert siege.liar.symbols > 20


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 14))
def test_node_outlives_whatever_peers_send_for_long(seed):
    Siege(seed).run(40_000, every=4_000)
