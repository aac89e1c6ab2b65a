"""The proof that the architecture rests on: the same cores, two drivers, one digest.

Four scenes are DHTs of fifty nodes on the message seam. In the fifth are nodes with the whole stack
of production: a directory fetched from a bootstrap node, real circuits over three relays, prompts
and answers both ways, a relay that crashes and comes back. Only the KEM is a stand-in, as no
library's can be seeded.
"""

import gc
import os
import subprocess
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from p2p.core import DATAGRAM
from p2p.dht.core import DhtCore
from p2p.entropy import SystemEntropy, seeded
from p2p.overlay.advert import Role
from p2p.transport.fabric import EPOCH
from simulations import experiment, population, scenarios
from simulations.experiment import Network as Spec
from simulations.log import EventLog
from simulations.metrics import Meter
from simulations.network.build import ground
from simulations.nodes import Census, Town
from simulations.trioworld import TrioWorld
from simulations.workload import Question
from simulations.world import World, guard

ROOT = Path(__file__).parent.parent.parent

BASE = experiment.load({"name": "sameness", "scenario": "dht"}).with_(
    {
        "run.nodes": 50,
        "run.until": 5.0,
        "workload.lookups_per_node_s": 0.15,
        "workload.publishes_per_s": 1.0,
    }
)

SCENES = {
    "jitter": BASE,
    "ties everywhere": BASE.with_(
        {
            "network.latency": {"kind": "constant", "rtt_ms": 100.0},
            "network.jitter": 0.0,
            "network.uplink_mbps": "none",
            "network.downlink_mbps": "none",
        }
    ),
    "churn": BASE.with_(
        {"churn.sessions": {"k": 0.59, "lambda_min": 0.05}, "network.latency": {"kind": "regions"}}
    ),
    "NATs and a partition": BASE.with_(
        {
            "network.nat": {"open": 0.5, "port_restricted": 0.25, "symmetric": 0.15, "cgnat": 0.1},
            "network.nat_lifetime": 2.0,
            "fault": [{"kind": "partition", "share": 0.3, "at": 1.5, "for": 2.0}],
        }
    ),
}


def dht(exp, seed=1, *, level="L1"):
    """What a run of an experiment came to."""
    log = EventLog()
    meter = Meter(lambda: built[0].now if built else EPOCH)
    built = []
    exp = exp.with_({"run.level": level})
    setting = scenarios.Setting(exp=exp, entropy=seeded(seed), meter=meter, log=log)
    built.append(scenarios.build(setting))
    assert built[0].run(EPOCH + exp.run.until)
    sizes = [built[0].sizes(node) for node in range(exp.run.nodes)]
    return log.digest, log.records, log.checkpoints, sizes


@pytest.mark.parametrize("scene", SCENES)
def test_dht_gives_one_digest_in_both_worlds(scene):
    world, trio_world = (dht(SCENES[scene], level=level) for level in ("L1", "L2"))
    assert world[1] > 500
    assert world == trio_world


SMALL = BASE.with_({"run.nodes": 15, "run.until": 5.0, "network.loss": 0.2})
"""What is lost is waited for, and how long is drawn."""


@cache
def small(seed=1):
    """The digest of a run that takes little."""
    return dht(SMALL, seed)[0]


def test_seeds_differ():
    assert small(1) != small(2)


def test_digest_does_not_hang_on_the_order_of_hashes():
    code = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("sameness", {__file__!r})
module = sys.modules["sameness"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(module.small())
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "12345"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == small()


def test_draws_that_no_seed_decides_are_noticed(monkeypatch):
    """The cores draw from the system; nothing else is changed."""

    def core(identity, sender, procedures, entropy, **more):
        return DhtCore(identity, sender, procedures, SystemEntropy(), **more)

    monkeypatch.setattr(population, "DhtCore", core)
    assert len(dict.fromkeys([dht(SMALL)[0], dht(SMALL)[0], small()])) == 3


# --- full nodes ---

CENSUS = Census(relays=6, workers=1, clients=2)

CRASHED = 2
"""a relay, while the first answers come; it starts again with nothing but its identity"""

SECONDS = 17.5
"""by then there were questions, a crash, other tries, and a node that begins again"""


def settle(kind, *, sink=None):
    """A world in which every client asks twice."""
    entropy = seeded(1)
    town = Town(CENSUS, entropy, ground(Spec(loss=0.02), entropy))
    log = EventLog(town.names.index, sink=sink)
    world = kind(town.cores, town.links, log, town, naming=town.names, datagrams=town.datagrams)
    for node in range(CENSUS.nodes):
        world.start(node)
    for turn, at in enumerate([13.0, 15.0]):
        for client in (CENSUS.nodes - 2, CENSUS.nodes - 1):
            prompt = entropy.fork(f"prompt/{client}/{turn}").token(1_500 * (1 + turn + client % 2))
            when = EPOCH + at + 0.3 * (client - CENSUS.relays)
            town.echo.ask(world, Question(node=client, at=when, prompt=prompt))
    world.crash(CRASHED, at=EPOCH + 14.5)
    world.start(CRASHED, at=EPOCH + 17.0, core=town.rebuild(CRASHED))
    return town, log, world


class Witness:
    """One run of full nodes in `World`, looked at from all sides: it costs seconds."""

    def __init__(self):
        self.ways = {}
        self.town, self.log, self.world = settle(World, sink=self.see)
        gc.collect()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            with guard():
                self.world.run(EPOCH + SECONDS)
            gc.collect()
            ours = ("p2p.", "simulations.")
            self.garbage = [one for one in gc.garbage if type(one).__module__.startswith(ours)]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
        self.seen = state(self.log, self.world)
        self.world.run(EPOCH + 31.0)

    def see(self, record):
        if record.kind == DATAGRAM:
            self.ways[record.peer, record.node] = None


def state(log, world):
    sizes = [core.sizes() for core in world.nodes]
    return log.digest, log.records, [*log.checkpoints], sizes


@pytest.fixture(scope="module")
def witness():
    witness = Witness()
    yield witness
    for core in witness.world.nodes:
        core.finish()


def test_full_nodes_give_one_digest_in_both_worlds(witness):
    _, log, world = settle(TrioWorld)
    world.run(EPOCH + SECONDS)
    assert log.records > 1_500
    assert state(log, world) == witness.seen
    for core in world.nodes:
        core.finish()


def test_every_question_is_answered_over_three_relays_though_one_crashes(witness):
    outcomes, ways = witness.town.echo.outcomes(), witness.ways
    assert len(outcomes) == 4
    assert all(outcome.answered for outcome in outcomes)
    assert any(outcome.tries > 1 for outcome in outcomes)
    assert witness.town.misbehaved == []
    for outcome in outcomes:
        *relays, worker = outcome.path
        assert len(dict.fromkeys(relays)) == 3
        assert all(CENSUS.role(relay) is Role.RELAY for relay in relays)
        assert CENSUS.role(worker) is Role.WORKER
        hops = [outcome.question.node, *outcome.path]
        assert all((a, b) in ways and (b, a) in ways for a, b in pairwise(hops))

    asking = [way for way in ways if not CENSUS.role(way[0]) and not way[1] < CENSUS.relays]
    assert asking == []  # who asks speaks to relays alone


def test_cores_make_no_garbage_in_cycles(witness):
    """A run goes without the collector; what cores leave in cycles would pile up."""
    assert witness.garbage == []
