"""Deadlines and the world beside an independent judge: the same programs sleep in simpy."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p.core import Deadlines
from p2p.transport.fabric import EPOCH, GRID, Constant
from simulations.world import NoEffects, World

simpy = pytest.importorskip("simpy", reason="simpy is not installed")

STEPS = st.integers(1, 2**22)
"""of the grid, up to four seconds: sums of them are exact"""

PROGRAMS = st.lists(st.lists(STEPS, min_size=1, max_size=6), min_size=1, max_size=6)


class Sleeper:
    """A core that sleeps as often and as long as it is told."""

    def __init__(self, node, naps, fired):
        self._node, self._naps, self._fired = node, list(naps), fired
        self._deadlines = Deadlines()
        self._sleep(EPOCH)

    def _sleep(self, now):
        if self._naps:
            when = now + self._naps.pop(0) * GRID
            self._deadlines.at(when, lambda: self._wake(when))

    def _wake(self, when):
        self._fired.append((when - EPOCH, self._node))
        self._sleep(when)

    def receive(self, now, source, datagram):
        raise AssertionError

    def handle_timer(self, now):
        self._deadlines.run(now)

    def next_deadline(self):
        return self._deadlines.next()

    def drain(self):
        return [], []

    def sizes(self):
        return {}


@given(PROGRAMS)
@settings(max_examples=60)
def test_sleepers_wake_in_the_order_in_which_those_of_simpy_do(programs):
    fired, judged = [], []
    world = World(
        [Sleeper(node, naps, fired) for node, naps in enumerate(programs)],
        Constant(),
        None,
        NoEffects(),
    )
    for node in range(len(programs)):
        world.start(node)
    world.run(EPOCH + 100.0)

    environment = simpy.Environment()

    def sleeper(node, naps):
        for nap in naps:
            yield environment.timeout(nap * GRID)
            judged.append((environment.now, node))

    for node, naps in enumerate(programs):
        environment.process(sleeper(node, naps))
    environment.run()
    # At one instant simpy goes by who slept last, the world by node: order within it is ours.
    assert fired == sorted(judged)
    assert [when for when, _ in fired] == [when for when, _ in judged]
