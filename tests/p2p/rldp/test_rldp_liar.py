"""A peer that knows what it was sent and lies about it harms its own transfers alone."""

import random

import pytest

from p2p.entropy import seeded
from p2p.rldp.core import RldpCore
from p2p.rldp.events import Answered, Failed, Payload, Query
from tests.p2p.rldp.liar import LIES, Liar
from tests.p2p.rldp.pipe import T0, B

TASK = 30
"""steps until the core has something new to send"""

SIZES = (1, 600, 700, 20_000, 300_000)


class Walk:
    """A core, a liar whom it talks to, and the time between them."""

    def __init__(self, seed, lie=None):
        self.rng = random.Random(seed)
        self.core = RldpCore(seeded(seed))
        self.liar = Liar(self.rng, lie)
        self.now = T0
        self.asked, self.settled = 0, 0

    def run(self, steps):
        for number in range(steps):
            if number % TASK == 0:
                self.begin()
            for message in self.liar.lies():
                self.core.receive(self.now, B, message)
            self.settle()
            self.check()
            self.now += self.rng.choice((0.0, 0.001, 0.002, 0.01, 0.05))
            self.due()

    def begin(self):
        """A query or a message of the core's, or a query of the liar's."""
        size = self.rng.choice(SIZES)
        if self.core.sizes()["rldp_outgoing"] > 40:
            return
        match self.rng.randrange(3):
            case 0:
                self.core.query(self.now, B, bytes(size), timeout=20.0, max_answer=9_000)
                self.asked += 1
            case 1:
                self.core.send(self.now, B, bytes(size))
            case _:
                for message in self.liar.ask(self.now, b"?"):
                    self.core.receive(self.now, B, message)

    def settle(self):
        while outputs := self.core.drain():
            for output in outputs:
                match output:
                    case Payload(_, data):
                        self.liar.hear(data)
                    case Query(_, _, token, most):
                        answer = bytes(min(most, self.rng.choice(SIZES)))
                        self.core.answer(self.now, token, answer)
                    case Answered() | Failed():
                        self.settled += 1

    def due(self):
        while (when := self.core.next_deadline()) is not None and when <= self.now:
            self.core.handle_timer(self.now)

    def check(self):
        """What is on its way to a peer is what is on its way of its transfers."""
        for path in self.core._paths._paths.values():
            parts = [part for sent in path._transfers.values() for part in sent.parts.values()]
            assert path.congestion.in_flight == sum(part.flight.in_flight for part in parts)
            assert path.congestion.pace > 0

    def end(self):
        """The liar falls silent: all ends in time, and nothing stays."""
        while (when := self.core.next_deadline()) is not None:
            self.now = when
            self.core.handle_timer(when)
            self.settle()
        assert self.settled == self.asked
        sizes = self.core.sizes()
        kept = ("rldp_paths", "rldp_done")
        assert {name: size for name, size in sizes.items() if size and name not in kept} == {}


@pytest.mark.parametrize("lie", LIES)
def test_each_lie_ends_with_the_transfer_it_is_about(lie):
    walk = Walk(1, lie)
    walk.run(600)
    walk.end()
    assert walk.liar.symbols > 100


@pytest.mark.parametrize("seed", range(3))
def test_nothing_that_a_peer_lies_is_raised_or_kept(seed):
    walk = Walk(seed)
    walk.run(800)
    walk.end()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 20))
def test_nothing_that_a_peer_lies_for_long_is_raised_or_kept(seed):
    walk = Walk(seed)
    walk.run(30_000)
    walk.end()
