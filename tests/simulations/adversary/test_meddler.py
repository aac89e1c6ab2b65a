"""What a relay does to cells is found at the next honest hop; full nodes, real circuits."""

import re

import pytest

from p2p.core import EVENT
from p2p.entropy import seeded
from p2p.onion.cell import FailCode
from p2p.transport.fabric import EPOCH
from simulations import theory
from simulations.adversary.meddler import Meddler, Plot, drop, replay, tag
from simulations.log import EventLog
from simulations.network.build import plain
from simulations.network.fabric import Network
from simulations.network.latency import Everywhere
from simulations.nodes import Census, Town
from simulations.workload import Question
from simulations.world import World

pytestmark = pytest.mark.slow  # a town of full nodes has to come to life first

CENSUS = Census(relays=4, workers=1, clients=1)
CLIENT = CENSUS.nodes - 1
READY = 13.0
"""virtual seconds after which everybody is listed"""

LEG = 0.04

CELLS = 4
"""of a prompt of 3,000 bytes and its end: one that is dropped is missed when the next comes"""


class Stage:
    """A town whose relays meddle as one plot says; what its client hears of circuits is kept."""

    def __init__(self):
        entropy = seeded(1)
        self.plot = Plot()
        self.heard = []
        network = Network(entropy.fork("udp"), latency=Everywhere(2 * LEG), jitter=0.0)
        ground = plain(entropy, network)
        self.town = Town(CENSUS, entropy, ground)
        relays = range(CENSUS.relays)
        self.cores = [
            Meddler(core, self.plot) if node in relays else core
            for node, core in enumerate(self.town.cores)
        ]
        log = EventLog(self.town.names.index, sink=self.hear)
        self.world = World(
            self.cores,
            self.town.links,
            log,
            self.town,
            naming=self.town.names,
            datagrams=self.town.datagrams,
        )
        for node in range(CENSUS.nodes):
            self.world.start(node)
        self.world.run(EPOCH + READY)

    def hear(self, record):
        if record.kind == EVENT and record.node == CLIENT:
            self.heard.append(record.data.decode())

    def ask(self, size=100):
        """One question, whose prompt and answer fit a cell each; how it ended."""
        self.heard.clear()
        question = Question(node=CLIENT, at=self.world.now, prompt=bytes(size))
        self.town.echo.ask(self.world, question)
        before = len(self.town.echo.outcomes())
        while len(self.town.echo.outcomes()) == before:
            self.world.run(self.world.now + 0.25)
        return self.town.echo.outcomes()[-1]

    def lost(self):
        """Hops and codes of the circuits that were lost."""
        found = (
            re.match(r"Lost\(.*hop=(\w+), code=(?:<.*?(\d+)>|(\d+))", line) for line in self.heard
        )
        return [(one[1], int(one[2] or one[3])) for one in found if one]


@pytest.fixture(scope="module")
def stage():
    stage = Stage()
    yield stage
    for core in stage.cores:
        core.finish()


def test_meddlers_who_do_nothing_are_honest_relays(stage):
    outcome = stage.ask()
    assert outcome.answered
    assert outcome.tries == 1
    assert stage.plot.done == 0


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("twist", [tag(seeded(5)), replay, drop], ids=["tag", "replay", "drop"])
def test_twisted_cell_is_caught_by_the_next_hop_and_the_question_answered_over_another(
    stage, place, twist
):
    before = stage.plot.done
    stage.plot.arm(twist, after=CELLS * place)
    outcome = stage.ask(size=3_000)
    assert stage.plot.done == before + 1
    assert outcome.answered
    assert outcome.tries == 2
    # an endpoint says nothing but that it ends the circuit, which the relay before it reports
    caught = (str(place + 1), FailCode.BAD_CELL) if place < 2 else ("2", FailCode.NEXT_DESTROYED)
    assert stage.lost() == [caught]


def test_tagged_answer_reaches_nobody_but_the_asker_who_sees_it(stage):
    """Backwards every hop adds a layer and none can check: the asker, who peels them, does."""
    stage.plot.arm(tag(seeded(6)), after=3)
    outcome = stage.ask()
    assert outcome.answered
    assert outcome.tries == 2
    assert [line for line in stage.heard if line.startswith("Lost")]


def test_prompt_and_answer_take_sixteen_ways_where_links_are_up(stage):
    """Set-up there and back, prompt and answer: 4 passages of 4 links. By now most links are up.

    The jitter of links is a tenth.
    """
    ways = min(stage.ask().seconds for _ in range(8)) / LEG
    assert theory.first_token_legs(4) <= ways <= 1.1 * theory.first_token_legs(4)
