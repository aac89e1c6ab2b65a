"""Two worlds, one digest: what makes a simulation say something about the real driver."""

import gc
import os
import random
import secrets
import time

import pytest

from p2p.core import LIFE, Send
from p2p.entropy import seeded
from p2p.errors import Livelock
from p2p.transport.fabric import EPOCH, GRID, Constant, on_grid
from p2p.transport.memory import Port
from simulations.log import EventLog
from simulations.trioworld import TrioWorld
from simulations.world import ImpureCall, NoEffects, World, guard

WORLDS = [World, TrioWorld]
both = pytest.mark.parametrize("kind", WORLDS)


def churn(world, rebuild):
    """Crashes, restarts and stops, some at the very instant of others' steps."""
    world.crash(3, at=EPOCH + 1.0)
    world.start(3, at=EPOCH + 1.5, core=rebuild(3, 1))
    world.stop(4, at=EPOCH + 2.0)
    world.stop(5, at=EPOCH + 2.0, graceful=False)
    world.start(4, at=EPOCH + 2.0, core=rebuild(4, 1))
    world.crash(6, at=EPOCH + 2.5)
    world.start(6, at=EPOCH + 2.5, core=rebuild(6, 1))
    for tick in range(40):
        world.at(EPOCH + tick / 8, tick % 12, "greet", lambda core, now: core.greet(now))


SCENES = {
    "ties": {},
    "ties everywhere, with churn": {"script": churn},
    "jitter": {"fabric": {"loss": 0.0, "double": 0.0}},
    "loss and duplicates": {"fabric": {"loss": 0.05, "double": 0.05}},
    "equal delays, loss": {"fabric": {"jitter": 0.0}},
    "downlink that queues": {"fabric": {"queue": 0.01}, "beat": 0.05},
    "everything": {"fabric": {"queue": 0.004}, "script": churn},
}


@pytest.mark.parametrize(("scene", "seed"), [(scene, n) for n, scene in enumerate(SCENES)])
def test_both_worlds_give_one_digest(chatty, rough, scene, seed):
    outcomes = [play(chatty, rough, kind, SCENES[scene], seed) for kind in WORLDS]
    assert outcomes[0].records > 400
    assert outcomes[0] == outcomes[1]


def play(chatty, rough, kind, scene, seed, **more):
    scene = dict(scene)
    if "fabric" in scene:
        scene["fabric"] = rough(seeded(seed + 100), **scene["fabric"])
    return chatty(kind, seed=seed, **scene, **more)


@both
def test_seed_decides_everything(chatty, rough, kind):
    outcomes = [play(chatty, rough, kind, SCENES["everything"], seed) for seed in (1, 1, 2)]
    assert outcomes[0] == outcomes[1]
    assert outcomes[0].digest != outcomes[2].digest


class Turner:
    """Turns the first two datagrams of one inbox round, once."""

    def __init__(self):
        self.turned = False

    def __call__(self, inbox):
        if len(inbox) < 2 or self.turned:
            return inbox
        self.turned = True
        return [inbox[1], inbox[0], *inbox[2:]]


@both
def test_two_datagrams_swapped_in_one_driver_are_noticed(chatty, kind, monkeypatch):
    honest, turner = chatty(kind), Turner()
    step, take = World._step, Port.take
    monkeypatch.setattr(
        World,
        "_step",
        lambda self, now, node, said, inbox: step(self, now, node, said, turner(inbox)),
    )
    monkeypatch.setattr(Port, "take", lambda self: turner(take(self)))

    assert chatty(kind).digest != honest.digest
    assert turner.turned


# --- time and life ---


class Probe:
    """A core that notes when it was called and does what it is told."""

    def __init__(self, deadline=None):
        self.calls = []
        self.deadline = deadline
        self.sends = []

    def receive(self, now, source, datagram):
        self.calls.append(("receive", now, source, datagram))

    def handle_timer(self, now):
        self.calls.append(("timer", now))
        self.deadline = None

    def say(self, now, to, data):
        self.sends.append(Send(to, data))

    def next_deadline(self):
        return self.deadline

    def drain(self):
        sends, self.sends = self.sends, []
        return sends, []

    def sizes(self):
        return {}


def stage(kind, cores, *, network=None, effects=None, log=None):
    world = kind(cores, network or Constant(), log, effects or NoEffects())
    for node in range(len(cores)):
        world.start(node)
    return world


@both
def test_deadline_is_met_at_the_next_instant_of_the_grid(kind):
    core = Probe(deadline=EPOCH + 0.1)
    world = stage(kind, [core])
    world.run(EPOCH + 1)
    ((_, when),) = core.calls
    assert when == on_grid(EPOCH + 0.1)
    assert EPOCH + 0.1 <= when < EPOCH + 0.1 + GRID
    assert world.now == EPOCH + 1


@both
def test_deadline_that_moves_away_is_met_where_it_moved_to(kind):
    core = Probe(deadline=EPOCH + 0.5)
    world = stage(kind, [core])
    world.at(EPOCH + 0.25, 0, "later", lambda core, now: setattr(core, "deadline", EPOCH + 2.0))
    world.run(EPOCH + 3)
    assert core.calls == [("timer", EPOCH + 2.0)]


@both
def test_deadline_that_moves_near_is_met_there(kind):
    core = Probe(deadline=EPOCH + 2.0)
    world = stage(kind, [core])
    world.at(EPOCH + 0.25, 0, "sooner", lambda core, now: setattr(core, "deadline", EPOCH + 0.5))
    world.run(EPOCH + 3)
    assert core.calls == [("timer", EPOCH + 0.5)]


@both
def test_run_goes_on_where_it_stopped(kind, chatty):
    def in_pieces(cores, *rest):
        world = kind(cores, *rest)
        world.whole_run = world.run

        def run(until):
            for piece in [0.0, 0.4, 1.0, 1.0, 2.75]:
                world.whole_run(EPOCH + piece)
            return world.whole_run(until)

        world.run = run
        return world

    assert chatty(in_pieces, script=churn) == chatty(World, script=churn)


def test_trio_world_cancelled_at_any_instant_loses_nothing(chatty):
    """Each end of a run cancels every driver at its wait."""
    entropy = seeded(77)
    pieces = sorted(entropy.uniform() * 5.0 for _ in range(50))

    def in_pieces(cores, *rest):
        world = TrioWorld(cores, *rest)
        whole_run = world.run
        world.run = lambda until: all(whole_run(EPOCH + piece) for piece in [*pieces, 5.0])
        return world

    assert chatty(in_pieces, count=40) == chatty(World, count=40)


@both
def test_max_records_stops_a_run_that_can_go_on(kind):
    cores = [Probe(), Probe()]
    log = EventLog()
    world = stage(kind, cores, log=log)
    for tick in range(20):
        world.at(EPOCH + tick, tick % 2, "nothing", lambda core, now: None)
    assert world.run(EPOCH + 20, max_records=8) is False
    assert 8 <= log.records <= 10
    assert world.run(EPOCH + 20) is True
    assert log.records == 22


@both
def test_what_is_sent_to_a_node_that_is_down_is_lost(kind):
    cores = [Probe(), Probe()]
    world = stage(kind, cores)
    world.crash(1, at=EPOCH + 1.0)
    world.at(EPOCH + 1.0 - 0.0005, 0, "say", lambda core, now: core.say(now, 1, b"under way"))
    world.at(EPOCH + 1.5, 1, "say", lambda core, now: core.say(now, 0, b"from the dead"))
    world.run(EPOCH + 3)
    assert cores[0].calls == cores[1].calls == []
    assert not world.up(1)


@both
def test_restart_replaces_the_core_and_starts_it_at_once(kind):
    old, new = Probe(deadline=EPOCH + 2.0), Probe(deadline=EPOCH + 1.0)
    log = EventLog()
    world = stage(kind, [old], log=log)
    world.crash(0, at=EPOCH + 1.0)
    world.start(0, at=EPOCH + 1.5, core=new)
    world.start(0, at=EPOCH + 1.75, core=Probe())  # it is up: nothing happens
    world.run(EPOCH + 3)
    assert old.calls == []
    assert new.calls == [("timer", EPOCH + 1.5)]
    assert list(world.nodes) == [new]


@both
def test_life_is_logged_and_told_to_the_effects(kind):
    records, effects = [], Nosy()
    world = kind([Probe()], Constant(), EventLog(sink=records.append), effects)
    world.start(0)
    world.crash(0, at=EPOCH + 1)
    world.start(0, at=EPOCH + 2)
    world.stop(0, at=EPOCH + 3)
    world.stop(0, at=EPOCH + 4)  # it is down: nothing happens
    world.run(EPOCH + 5)

    told = [(EPOCH, "start"), (EPOCH + 1, "crash"), (EPOCH + 2, "restart"), (EPOCH + 3, "stop")]
    assert [(now, what) for now, _, what in effects.lives] == told
    assert [(r.now, r.data.decode()) for r in records if r.kind == LIFE] == told


class Nosy:
    def __init__(self):
        self.lives = []

    def handle(self, world, node, now, event):
        self.lives.append((now, node, event.what))

    def leave(self, core, now):
        core.calls.append(("leave", now))
        core.say(now, 0, b"farewell")


@both
def test_graceful_stop_says_farewell_and_a_crash_does_not(kind):
    cores = [Probe(), Probe(), Probe()]
    world = stage(kind, cores, effects=Nosy())
    world.stop(1, at=EPOCH + 1)
    world.crash(2, at=EPOCH + 1)
    world.run(EPOCH + 2)
    assert cores[0].calls == [("receive", EPOCH + 1 + on_grid(0.001), 1, b"farewell")]
    assert cores[1].calls == [("leave", EPOCH + 1)]
    assert cores[2].calls == []


@both
def test_effect_answers_an_instant_later_at_the_earliest(kind):
    class Echo(NoEffects):
        def handle(self, world, node, now, event):
            world.at(now, node, "answer", lambda core, when: core.calls.append(when))

    world = stage(kind, [core := Probe()], effects=Echo())
    world.run(EPOCH + 1)
    assert core.calls == [EPOCH + GRID]


@both
def test_command_to_nobody_counts(kind):
    world = stage(kind, [Probe()])
    world.at(EPOCH, 0, "say", lambda core, now: core.say(now, "nobody", b"x"))
    world.run(EPOCH + 1)
    assert world.statistics().unknown == 1
    assert world.statistics().pending == 0


@both
def test_what_is_no_nodes_is_done_before_the_nodes_turns_of_its_instant(kind):
    core, told = Probe(deadline=EPOCH + 0.5), []
    world = stage(kind, [core])
    world.do(EPOCH + 0.5, lambda: told.append([*core.calls]))
    world.run(EPOCH + 1)
    assert told == [[]]
    assert len(core.calls) == 1


@both
def test_core_can_be_built_when_its_node_comes_back(kind):
    old, new = Probe(), []
    world = stage(kind, [old])
    world.crash(0, at=EPOCH + 1.0)

    def build(now):
        new.append(Probe(deadline=now + 0.5))
        return new[0]

    world.start(0, at=EPOCH + 2.0, build=build)
    world.start(0, at=EPOCH + 3.0, build=build)  # it is up: nothing is built
    world.run(EPOCH + 4)
    assert [core.calls for core in new] == [[("timer", EPOCH + 2.5)]]
    assert list(world.nodes) == new


# --- by hand ---


def test_node_can_be_added_told_and_felled_at_once():
    cores, log = [Probe(deadline=EPOCH + 1.0), Probe()], EventLog()
    world = World([], Constant(), log, NoEffects())
    assert [world.settle(core) for core in cores] == [0, 1]
    assert world.up(0)
    world.call(0, "say", lambda core, now: core.say(now, 1, b"hello"))
    world.run(EPOCH + 0.5)
    assert cores[1].calls == [("receive", EPOCH + on_grid(0.001), 0, b"hello")]

    world.fell(0)
    world.call(0, "say", lambda core, now: core.say(now, 1, b"from the dead"))
    world.run(EPOCH + 2)
    assert cores[0].calls == []
    assert len(cores[1].calls) == 1
    assert log.records > 0


def test_node_that_wakes_late_does_at_once_what_was_due():
    world = World([], Constant(), None, NoEffects())
    core = Probe(deadline=EPOCH + 1.0)
    node = world.settle(core)
    world.fell(node)
    world.run(EPOCH + 5)
    assert core.calls == []
    world.settle(core, node)
    world.run(EPOCH + 6)
    assert core.calls == [("timer", EPOCH + 5.0)]


def test_settling_a_node_that_is_up_is_a_crash_and_another_life():
    lives = Nosy()
    world = World([], Constant(), None, lives)
    old, new = Probe(deadline=EPOCH + 1.0), Probe()
    node = world.settle(old)
    assert world.settle(new, node) == node
    world.run(EPOCH + 2)
    assert [what for _, _, what in lives.lives] == ["start", "crash", "restart"]
    assert old.calls == new.calls == []


def test_run_stops_where_it_is_told():
    core = Probe(deadline=EPOCH + 0.5)
    world = stage(World, [core])
    assert world.run(EPOCH + 1, stop=lambda: bool(core.calls)) is True
    world.do(EPOCH + 2, lambda: None)
    assert world.run(EPOCH + 3, stop=lambda: True) is False
    assert world.now == EPOCH + 1


# --- bugs of a core show, the same in both ---


@both
def test_livelock_of_a_core_ends_the_run(kind):
    core = Probe(deadline=EPOCH + 0.5)
    core.handle_timer = lambda now: None
    with pytest.raises(Livelock, match="node 1"):
        stage(kind, [Probe(), core]).run(EPOCH + 1)


@both
def test_exception_out_of_a_core_ends_the_run(kind):
    core = Probe(deadline=EPOCH + 0.5)
    core.handle_timer = lambda now: 1 / 0
    with pytest.raises(ZeroDivisionError):
        stage(kind, [core, Probe()]).run(EPOCH + 1)


# --- purity ---


@pytest.mark.parametrize(
    "impure",
    [
        lambda: time.time(),
        lambda: time.monotonic(),
        lambda: time.sleep(0),
        lambda: os.urandom(1),
        lambda: secrets.token_bytes(1),
        lambda: secrets.randbelow(2),
        lambda: random.random(),
        lambda: random.shuffle([]),
    ],
)
def test_guard_names_the_line_of_an_impure_call(impure):
    core = Probe(deadline=EPOCH + 0.5)
    core.handle_timer = lambda now: impure()
    world = stage(World, [core])
    with guard(), pytest.raises(ImpureCall, match=r"called at .*test_world\.py:\d+"):
        world.run(EPOCH + 1)
    time.time()
    assert 0 <= random.random() < 1


def test_guard_lets_pure_cores_be(chatty):
    with guard():
        guarded = chatty(World, script=churn)
    assert guarded == chatty(World, script=churn)


# --- memory ---


def test_collector_rests_during_a_run_and_is_restored():
    class Look(Probe):
        def handle_timer(self, now):
            self.collected = gc.isenabled()
            super().handle_timer(now)

    core = Look(deadline=EPOCH + 0.5)
    stage(World, [core]).run(EPOCH + 1)
    assert core.collected is False
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_collector_is_restored_after_an_exception():
    core = Probe(deadline=EPOCH + 0.5)
    core.handle_timer = lambda now: 1 / 0
    with pytest.raises(ZeroDivisionError):
        stage(World, [core]).run(EPOCH + 1)
    assert gc.isenabled()


def test_world_makes_no_garbage_in_cycles():
    world = stage(World, [Probe(deadline=EPOCH + 0.5), Probe()])
    for tick in range(200):
        world.at(EPOCH + tick / 100, tick % 2, "say", lambda core, now: core.say(now, 0, b"x"))
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        world.run(EPOCH + 3)
        gc.collect()
        found = [thing for thing in gc.garbage if type(thing).__module__.startswith(("p2p", "sim"))]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    assert found == []
