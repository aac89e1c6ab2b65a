"""Whatever is sent to an ADNL core: nothing is raised, nothing grows, friends are served.

`make fuzz N=1000000` runs the long one, with as many datagrams as are asked for.
"""

import os
import random
import resource

import pytest

from p2p.adnl import clocks
from p2p.adnl.core import AdnlCore
from p2p.adnl.events import Answered, Query
from p2p.adnl.limits import Limits
from p2p.entropy import seeded
from p2p.identity import Identity
from p2p.wire import Endpoint
from tests.p2p.adnl.attacker import Attacker

NODE, FRIEND = Endpoint("192.0.2.1", 1), Endpoint("192.0.2.2", 2)
PLACES = [Endpoint(f"198.51.100.{n}", n) for n in range(1, 40)] + [Endpoint("2001:db8::1", 1)]

MANY = int(os.environ.get("TUSSAH_FUZZ", "1000000"))
MET_ANEW, ASKED = 50, 500
"""datagrams until the attacker is another node, and until a friend asks"""

GROWTH = 32 * 1024
"""kilobytes that the process may grow by after a tenth of the run: allocators keep some"""

OPEN = Limits(
    source_rate=1e9,
    source_burst=1e9,
    new_peers_rate=1e9,
    new_peers_burst=1e9,
    node_rate=1e9,
    node_burst=1e9,
    sources=32,
    peers=64,
    unanswered=4,
    queue_peer=8_192,
    queue_node=65_536,
)
"""no rate keeps anything out, and every table fills"""


class Siege:
    """A node, one friend of it, and an attacker."""

    def __init__(self, limits, seed):
        self.limits = limits
        self.rng = random.Random(seed)
        self.now = 1_800_000_000.0
        self.own, self.friends = Identity(b"n" * 32), Identity(b"f" * 32)
        self.node = AdnlCore([self.own], seeded(seed), int(self.now), limits=limits)
        self.friend = AdnlCore([self.friends], seeded(seed + 1), int(self.now))
        self.friend.add_peer(self.now, self.own.public, [NODE])
        self.attacker = Attacker(self.rng, self.own)
        self.served = 0

    def run(self, amount):
        for number in range(amount):
            self.now += self.rng.choice((0.0, 0.001, 0.001, 0.01))
            if number % MET_ANEW == 0:
                self.attack(self.attacker.meet(self.now))
            if number % ASKED == 0:
                self.ask()
                self.check_sizes()
            self.attack(self.attacker.datagram(self.now))
            yield number

    def attack(self, datagram):
        self.node.receive(self.now, self.rng.choice(PLACES), datagram)
        self.settle()

    def settle(self):
        """The node's timers and answers, and to whom its datagrams go."""
        self.due(self.node)
        sends, events = self.node.drain()
        for event in events:
            if isinstance(event, Query):
                self.node.answer(self.now, event.token, self.answer(event))
        more, _ = self.node.drain()
        for to, data in sends + more:
            if to == FRIEND:
                self.friend.receive(self.now, NODE, data)
            else:
                self.attacker.hear(data)

    def answer(self, event):
        if event.peer == self.friends.id:
            return event.payload
        return self.rng.choice((None, b"", event.payload[:1_000]))

    def ask(self):
        """A friend asks, again and again as friends do, and is answered."""
        payload = self.rng.randbytes(20)
        for _ in range(10):
            ticket = self.friend.query(self.now, self.friends.id, self.own.id, payload, 5.0)
            for _ in range(4):
                self.due(self.friend)
                sends, events = self.friend.drain()
                if Answered(ticket, payload) in events:
                    self.served += 1
                    return
                for _, data in sends:
                    self.node.receive(self.now, FRIEND, data)
                self.settle()
            self.now += 1.0
        pytest.fail("a friend was not served")

    def due(self, core):
        deadline = core.next_deadline()
        if deadline is not None and deadline <= self.now:
            core.handle_timer(self.now)

    def check_sizes(self):
        bounds = {
            "strangers": self.limits.peers,
            "proven": self.limits.peers,
            "channels": self.limits.peers,
            "places": self.limits.peers,
            "contacts": self.limits.contacts,
            "sources": self.limits.sources,
            "newcomers": self.limits.sources,
            "asked": 0,
            "due": 0,
            "alarms": self.limits.peers,
            "clocks": clocks.MOST,
            "queued": self.limits.queue_node,
            "sends": 0,
            "events": 0,
        }
        sizes = self.node.sizes()
        assert {name: size for name, size in sizes.items() if size > bounds[name]} == {}


def resident():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def besiege(limits, amount, seed):
    siege = Siege(limits, seed)
    settled = None
    for number in siege.run(amount):
        if number == amount // 10:
            settled = resident()
    siege.growth = resident() - settled
    assert siege.served == -(-amount // ASKED)
    return siege


@pytest.mark.parametrize("seed", range(3))
def test_nothing_that_is_sent_is_raised_or_kept_beyond_bounds(seed):
    counts = besiege(OPEN, 1_500, seed).node.statistics()
    reasons = {"size", "unknown", "digest", "malformed", "source", "signature", "repeated", "part"}
    assert reasons <= set(counts.drops)
    assert counts.accepted > 100


@pytest.mark.slow
@pytest.mark.parametrize("limits", [OPEN, Limits()], ids=["open", "as in life"])
def test_a_million_datagrams(limits):
    siege = besiege(limits, MANY // 2, seed=7)
    assert siege.growth < GROWTH
