"""Level L3: every node a process with the production driver, on real UDP, in real time.

Between the processes stands one that delays: it has the same network as the simulated worlds, with
the same draws, and lets each datagram through when that says. A node's datagrams go to it with what
their sender calls their receiver in front, and come from it with what the receiver sees as their
source. What the levels below cannot show is here: sockets, wakes that come late, real time.

A node process builds the whole experiment as any world does, and runs one node of it. Only `dht`
can be run so: its nodes share nothing but what the network carries. Nothing is recorded, so there
is no digest, and a run takes as long as it says.
"""

import selectors
import socket
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from multiprocessing import get_context
from multiprocessing.connection import Connection
from time import monotonic
from typing import Final, NamedTuple, TypeAlias, final

import trio

from p2p.core import Event, Source
from p2p.drive import Driver
from p2p.entropy import seeded
from p2p.transport.fabric import EPOCH, Datagram, Fabric, FabricStatistics, Naming, Timetable
from p2p.wire import Endpoint
from simulations import scenarios
from simulations.experiment import Experiment
from simulations.log import EventLog
from simulations.metrics import Meter
from simulations.network.fabric import Network
from simulations.network.nat import Boxes
from simulations.reading import WrongExperiment
from simulations.scenarios import Scenario, Setting
from simulations.scenarios.traffic import Traffic
from simulations.seat import Seat
from simulations.world import Life, WorldEffects, WorldKind

MOST: Final = 50
"""processes of one run"""

HOST: Final = "127.0.0.1"

LARGEST: Final = 65_507
"""bytes of a datagram on loopback; the network model says which are too large for it"""

NOBODY: Final = -1
"""the node that the process runs which delays"""

READY: Final = 240.0
"""seconds until every process must have built its node"""

SOON: Final = 1.0
"""seconds from the last process's being ready to the start of all"""

AFTER: Final = 30.0
"""seconds after the end in which each must have told what it has seen"""

_NAME: Final = struct.Struct(">4sH")

Doing: TypeAlias = Callable[[Seat, float], object]


class Note(NamedTuple):
    """Something that a node has measured."""

    at: float
    name: str
    value: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """What came of a run."""

    notes: tuple[Note, ...]
    """of all nodes, in order of time"""
    traffic: FabricStatistics
    late: float
    """seconds by which a datagram was let through too late, on average, as on a busy machine"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a child says: where it is, and at the end what it has seen."""

    port: int
    notes: tuple[Note, ...] = ()
    traffic: FabricStatistics | None = None
    late: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """What it hears: where the others are, and when all begin by the machine's clock."""

    at: float
    ports: tuple[int, ...]


@final
class Loopback:
    """A `Scenario`; its first `run` is the whole of it."""

    nodes: Sequence[object] = ()

    def __init__(self, exp: Experiment, seed: int, meter: Meter) -> None:
        _check(exp)
        self._exp = exp
        self._seed = seed
        self._meter = meter
        self._now = EPOCH
        self.log: EventLog | None = None

    @property
    def now(self) -> float:
        """See `Scenario`."""
        return self._now

    def run(self, until: float, max_records: int | None = None) -> bool:
        """See `Scenario`: real time cannot be divided, so it goes to the end at once."""
        if self._now == EPOCH:
            found = run_processes(self._exp, self._seed)
            for note in found.notes:
                self._now = max(self._now, note.at)
                self._meter.observe(note.name, note.value, note.label)
            self._now = max(self._now, EPOCH + self._exp.run.until)
            self._meter.observe("late_s", found.late)
            Traffic(self._meter, self._exp.scenario).tell(found.traffic)
        return True

    def sizes(self, node: int) -> Mapping[str, int]:
        """See `Scenario`: the processes are gone."""
        return {}


def run_processes(exp: Experiment, seed: int) -> Gathered:
    """Run an experiment of at most `MOST` nodes; raises `WrongExperiment` for others.

    `RuntimeError` if a process dies or does not get ready.
    """
    _check(exp)
    exp = exp.with_({"run.level": "L1"})
    with _children(exp, seed) as (carrier, nodes):
        ports = tuple(_told(pipe, READY).port for pipe in nodes)
        where = _told(carrier, READY).port
        begin = monotonic() + SOON
        carrier.send(Begin(at=begin, ports=ports))
        for pipe in nodes:
            pipe.send(Begin(at=begin, ports=(where,)))
        patience = SOON + exp.run.until + AFTER
        notes = [note for pipe in nodes for note in _told(pipe, patience).notes]
        carried = _told(carrier, patience)
    assert carried.traffic is not None
    return Gathered(notes=tuple(sorted(notes)), traffic=carried.traffic, late=carried.late)


def _check(exp: Experiment) -> None:
    if exp.scenario != "dht" or exp.churn.sessions != "none" or exp.adversary:
        raise WrongExperiment("Level L3 runs the scenario dht, without churn and adversaries.")
    if exp.run.nodes > MOST:
        raise WrongExperiment(f"Level L3 starts a process a node: {MOST} at most.")


@contextmanager
def _children(
    exp: Experiment, seed: int
) -> "Iterator[tuple[Connection[Begin, Told], Sequence[Connection[Begin, Told]]]]":
    """The process that delays and those of the nodes, forked from one that has imported all."""
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    pipes, started = [], []
    try:
        for index in range(-1, exp.run.nodes):
            ours, theirs = context.Pipe()
            target = partial(_carry, exp, seed) if index < 0 else partial(_live, exp, seed, index)
            child = context.Process(target=target, args=(theirs,), daemon=True)
            child.start()
            theirs.close()
            pipes.append(ours)
            started.append(child)
        yield pipes[0], pipes[1:]
    finally:
        for child in started:
            child.kill()
            child.join()


def _told(pipe: "Connection[Begin, Told]", patience: float) -> Told:
    """What a child says next."""
    if not pipe.poll(patience):
        raise RuntimeError("a process of the run is not ready, or late")
    try:
        return pipe.recv()
    except EOFError as error:
        raise RuntimeError("a process of the run has died; it has said why") from error


# --- who delays ---


def _carry(exp: Experiment, seed: int, pipe: "Connection[Told, Begin]") -> None:
    """Delay what nodes send to each other, to the end of the run."""
    kept: list[Timetable] = []

    def keep(
        cores: Sequence[Seat],
        network: Fabric,
        log: EventLog | None,
        effects: WorldEffects[Seat],
        *,
        naming: Naming | None = None,
        datagrams: Fabric | None = None,
    ) -> OneNode:
        assert naming is not None
        kept.append(Timetable(network, naming))
        return OneNode(cores, effects, NOBODY)

    _build(exp, seed, keep, Meter(lambda: EPOCH))
    with _bound() as bound:
        port = bound.getsockname()[1]
        pipe.send(Told(port=port))
        begin = pipe.recv()
        carrier = Carrier(kept[0], bound, begin)
        carrier.run(exp.run.until)
    pipe.send(Told(port=port, traffic=carrier.seen, late=carrier.late))


@final
class Carrier:
    """The network between processes: a timetable by the machine's clock."""

    def __init__(self, timetable: Timetable, bound: socket.socket, begin: Begin) -> None:
        self._timetable = timetable
        self._socket = bound
        self._ports = begin.ports
        self._nodes = {port: node for node, port in enumerate(begin.ports)}
        self._begin = begin.at
        self.seen = timetable.statistics()
        """the counters at the end of the run"""
        self._delivered, self._lateness = 0, 0.0

    def run(self, until: float) -> None:
        """Carry for so many seconds, from the common start on."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            while (now := self._now()) < EPOCH + until:
                self._deliver(now)
                heap = self._timetable.heap
                due = min(heap[0][0] if heap else EPOCH + until, EPOCH + until)
                if selector.select(max(0.0, due - self._now())):
                    self._take()
        self.seen = self._timetable.statistics()

    @property
    def late(self) -> float:
        """seconds by which a datagram left after its time, on average"""
        return self._lateness / max(1, self._delivered)

    def _now(self) -> float:
        return EPOCH + monotonic() - self._begin

    def _take(self) -> None:
        with suppress(BlockingIOError):
            while True:
                data, (_, port) = self._socket.recvfrom(LARGEST)
                node = self._nodes.get(port)
                if node is not None:
                    to, payload = _opened(data)
                    self._timetable.send(self._now(), node, to, payload)

    def _deliver(self, now: float) -> None:
        heap = self._timetable.heap
        while heap and heap[0][0] <= now:
            when, node, _, src, number, datagram = heappop(heap)
            assert isinstance(datagram, Datagram)
            if self._timetable.admit(when, node, src, number, datagram):
                self._delivered += 1
                self._lateness += self._now() - when
                packet = _named(datagram.source, datagram.data)
                self._socket.sendto(packet, (HOST, self._ports[node]))


# --- a node ---


def _live(exp: Experiment, seed: int, index: int, pipe: "Connection[Told, Begin]") -> None:
    """Be one node, to the end of the run."""
    notes: list[Note] = []
    worlds: list[OneNode] = []

    def keep(
        cores: Sequence[Seat],
        network: Fabric,
        log: EventLog | None,
        effects: WorldEffects[Seat],
        *,
        naming: Naming | None = None,
        datagrams: Fabric | None = None,
    ) -> OneNode:
        worlds.append(OneNode(cores, effects, index))
        return worlds[0]

    def note(name: str, value: float, label: str) -> None:
        notes.append(Note(worlds[0].now, name, value, label))

    meter = Meter(lambda: worlds[0].now if worlds else EPOCH, sink=note)
    scenario = _build(exp, seed, keep, meter)
    with _bound() as bound:
        port = bound.getsockname()[1]
        pipe.send(Told(port=port))
        begin = pipe.recv()
        worlds[0].connect(Wire(bound, (HOST, begin.ports[0])), begin.at)
        scenario.run(EPOCH + exp.run.until)
    pipe.send(Told(port=port, notes=tuple(notes)))


@final
class OneNode:
    """A `Stage` in which one node runs, in real time; the others are elsewhere, and up."""

    def __init__(self, cores: Sequence[Seat], effects: WorldEffects[Seat], index: int) -> None:
        self.nodes = cores
        self._effects = effects
        self._index = index
        self._begin = 0.0
        self._wire: Wire | None = None
        self._agenda: list[tuple[float, int, str, Doing]] = []
        self._entered = 0
        self._driver: Driver[Seat] | None = None
        self._scope = trio.CancelScope()

    def connect(self, wire: "Wire", begin: float) -> None:
        """What it speaks through, and when, by the machine's clock, all begin."""
        self._wire, self._begin = wire, begin

    @property
    def now(self) -> float:
        """See `Stage`; the epoch before the start."""
        return EPOCH + max(0.0, monotonic() - self._begin) if self._begin else EPOCH

    def trio_time(self, when: float) -> float:
        """See `Clock`."""
        return trio.current_time() + (when - EPOCH + self._begin - monotonic())

    def up(self, node: int) -> bool:
        """See `Stage`."""
        return True

    def at(self, when: float, node: int, name: str, fn: Doing) -> None:
        """See `Stage`; what is for others is theirs to do."""
        if node == self._index:
            heappush(self._agenda, (when, self._entered, name, fn))
            self._entered += 1
            self._scope.cancel()

    def do(self, when: float, action: Callable[[], None]) -> None:
        """See `Stage`: nobody is there who could look at all nodes."""

    def start(
        self,
        node: int,
        *,
        at: float | None = None,
        core: Seat | None = None,
        build: Callable[[float], Seat] | None = None,
    ) -> None:
        """See `Stage`: at the start, and never again."""
        if node == self._index:
            self._effects.handle(self, node, self.now, Life(what="start"))

    def stop(self, node: int, *, at: float | None = None, graceful: bool = True) -> None:
        """See `Stage`: nobody comes and goes here."""

    def crash(self, node: int, *, at: float | None = None) -> None:
        """See `Stage`: nor so."""

    def statistics(self) -> FabricStatistics:
        """See `Playing`: the network is elsewhere, and what it counts."""
        return Timetable(Network(seeded(0)), Boxes()).statistics()

    def run(self, until: float, max_records: int | None = None) -> bool:
        """See `Scenario`."""
        trio.run(self._run, until)
        return True

    def handle(self, now: float, event: Event) -> None:
        """See `Effects`."""
        self._effects.handle(self, self._index, now, event)

    async def _run(self, until: float) -> None:
        assert self._wire is not None
        self._driver = Driver(self.nodes[self._index], self._wire, self, _Clock(self))
        await trio.sleep(max(0.0, self._begin - monotonic()))
        with trio.move_on_after(until - self.now):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._driver.run)
                nursery.start_soon(self._command)

    async def _command(self) -> None:
        """Give the core its commands when they are due."""
        assert self._driver is not None
        while True:
            while self._agenda and self._agenda[0][0] <= self.now:
                _, _, name, fn = heappop(self._agenda)
                self._driver.post(name, fn)
            next_at = self._agenda[0][0] if self._agenda else float("inf")
            with trio.CancelScope() as self._scope:
                await trio.sleep(max(0.0, next_at - self.now))


@final
class _Clock:
    """A node's: the epoch at the common start, and the machine's seconds from there."""

    def __init__(self, world: OneNode) -> None:
        self._world = world

    def now(self) -> float:
        return self._world.now

    def trio_time(self, when: float) -> float:
        return self._world.trio_time(when)


@final
class Wire:
    """A `Transport` on a socket, all of whose datagrams pass through the process that delays."""

    def __init__(self, bound: socket.socket, carrier: tuple[str, int]) -> None:
        self._socket = bound
        self._carrier = carrier

    def take(self, limit: int = 64) -> list[tuple[Source, bytes]]:
        """See `Transport`."""
        taken: list[tuple[Source, bytes]] = []
        with suppress(BlockingIOError):
            while len(taken) < limit:
                data, _ = self._socket.recvfrom(LARGEST)
                taken.append(_opened(data))
        return taken

    async def wait(self) -> None:
        """See `Transport`."""
        await trio.lowlevel.wait_readable(self._socket.fileno())

    def send(self, now: float, to: Source, data: bytes) -> None:
        """See `Transport`."""
        with suppress(BlockingIOError):
            self._socket.sendto(_named(to, data), self._carrier)


# --- both ---


def _build(exp: Experiment, seed: int, world: WorldKind[Seat], meter: Meter) -> Scenario:
    setting = Setting(exp=exp, entropy=seeded(seed), meter=meter, log=None, world=world)
    return scenarios.build(setting)


@contextmanager
def _bound() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.setblocking(False)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
        bound.bind((HOST, 0))
        yield bound


def _named(end: Source, data: bytes) -> bytes:
    assert isinstance(end, Endpoint)
    return _NAME.pack(socket.inet_aton(end.host), end.port) + data


def _opened(packet: bytes) -> tuple[Endpoint, bytes]:
    host, port = _NAME.unpack_from(packet)
    return Endpoint(socket.inet_ntoa(host), port), packet[_NAME.size :]
