"""The proof that the architecture rests on: full nodes, two drivers, one digest.

A dozen nodes with the whole stack of production: a directory fetched from a bootstrap node, real
circuits over three relays, prompts and answers both ways, a relay that crashes and comes back. Only
the KEM is a stand-in, as no library's can be seeded.
"""

import gc
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from p2p.core import DATAGRAM
from p2p.entropy import seeded
from p2p.onion.noise import MlKem768
from p2p.overlay.advert import Role
from p2p.transport.fabric import EPOCH
from simulations import nodes
from simulations.experiment import Latency
from simulations.experiment import Network as Spec
from simulations.log import EventLog
from simulations.network.build import ground
from simulations.nodes import Census, Town
from simulations.trioworld import TrioWorld
from simulations.workload import Question
from simulations.world import World, guard

ROOT = Path(__file__).parent.parent.parent

CENSUS = Census()

PLACES = {
    "jitter": Spec(latency=Latency(kind="coordinates"), loss=0.0),
    "loss that delays": Spec(loss=0.05),
    "ties everywhere": Spec(
        latency=Latency(kind="constant", rtt_ms=80.0),
        loss=0.0,
        jitter=0.0,
        uplink_mbps="none",
        downlink_mbps="none",
    ),
}

CRASHED = 2
"""a relay, while the first answers come; it starts again with nothing but its identity"""


@dataclass(frozen=True)
class Run:
    digest: str
    records: int
    checkpoints: list
    outcomes: list
    misbehaved: list
    sizes: list


def settle(kind, seed, place, *, sink=None):
    """A world in which every client asks twice."""
    entropy = seeded(seed)
    town, census = Town(CENSUS, entropy, ground(PLACES[place], entropy)), CENSUS
    log = EventLog(town.names.index, sink=sink)
    world = kind(town.cores, town.links, log, town, naming=town.names, datagrams=town.datagrams)
    for node in range(census.nodes):
        world.start(node)

    clients = range(census.relays + census.workers, census.nodes)
    for turn, at in enumerate([13.0, 17.0]):
        for client in clients:
            prompt = entropy.fork(f"prompt/{client}/{turn}").token(1_500 * (1 + turn + client % 3))
            when = EPOCH + at + 0.3 * (client - clients[0])
            town.echo.ask(world, Question(node=client, at=when, prompt=prompt))
    world.crash(CRASHED, at=EPOCH + 14.5)
    world.start(CRASHED, at=EPOCH + 19.0, core=town.rebuild(CRASHED))
    return town, log, world


def play(kind, seed, place="jitter", *, seconds=22.0, **more):
    town, log, world = settle(kind, seed, place, **more)
    assert world.run(EPOCH + seconds)
    sizes = [core.sizes() for core in world.nodes]
    for core in world.nodes:
        core.finish()
    return Run(
        digest=log.digest,
        records=log.records,
        checkpoints=log.checkpoints,
        outcomes=town.echo.outcomes(),
        misbehaved=town.misbehaved,
        sizes=sizes,
    )


@cache
def digest(seed):
    """Of a run in the first place."""
    return play(World, seed, seconds=16.0).digest


@pytest.mark.parametrize(("place", "seed"), list(zip(PLACES, [1, 2, 3], strict=True)))
def test_full_nodes_give_one_digest_in_both_worlds(place, seed):
    world, trio_world = (play(kind, seed, place) for kind in (World, TrioWorld))
    assert world.records > 1_500
    assert world == trio_world


def test_seeds_differ():
    assert digest(1) != digest(2)


def test_every_question_is_answered_over_three_relays_though_one_crashes():
    census, ways = CENSUS, {}

    def sink(record):
        if record.kind == DATAGRAM:
            ways[record.peer, record.node] = None

    run = play(World, 1, seconds=45.0, sink=sink)
    assert len(run.outcomes) == 6
    assert all(outcome.answered for outcome in run.outcomes)
    assert any(outcome.tries > 1 for outcome in run.outcomes)
    assert run.misbehaved == []
    for outcome in run.outcomes:
        *relays, worker = outcome.path
        assert len(dict.fromkeys(relays)) == 3
        assert all(census.role(relay) is Role.RELAY for relay in relays)
        assert census.role(worker) is Role.WORKER
        hops = [outcome.question.node, *outcome.path]
        assert all((a, b) in ways and (b, a) in ways for a, b in pairwise(hops))

    asking = [way for way in ways if not census.role(way[0]) and not way[1] < census.relays]
    assert asking == []  # who asks speaks to relays alone


def test_one_draw_that_no_seed_decides_is_noticed(monkeypatch):
    """The library's own KEM draws from the system; nothing else is changed."""
    monkeypatch.setattr(nodes, "StandInKem", MlKem768)
    assert play(World, 1, seconds=16.0).digest != play(World, 1, seconds=16.0).digest


def test_stack_asks_the_machine_for_nothing():
    _, log, world = settle(World, 1, "jitter")
    with guard():
        world.run(EPOCH + 12.0)
    assert log.records > 500


def test_digest_does_not_hang_on_the_order_of_hashes():
    code = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("sameness", {__file__!r})
module = sys.modules["sameness"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(module.digest(1))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "12345"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == digest(1)


def test_cores_make_no_garbage_in_cycles():
    """A run goes without the collector; what cores leave in cycles would pile up."""
    _, _, world = settle(World, 1, "jitter")
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        world.run(EPOCH + 16.0)
        gc.collect()
        ours = ("p2p.", "simulations.")
        found = [thing for thing in gc.garbage if type(thing).__module__.startswith(ours)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    assert found == []
