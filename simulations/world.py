"""The discrete-event world: many cores in one process under virtual time, reproducible by a seed.

It advances every core through `core.step`, as the trio driver does, with the same inputs at the
same instants; `simulations/trioworld.py` has the same commands on the production driver, and the
digests of their logs are equal.
"""

import gc
import os
import random
import secrets
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from heapq import heappop, heappush
from types import ModuleType
from typing import Final, Generic, NoReturn, Protocol, final

from p2p.core import LIFE, C, Command, Event, Source, step
from p2p.errors import LocalError
from p2p.transport.fabric import (
    COMMAND_TURN,
    EPOCH,
    GRID,
    LIFE_TURN,
    WAKE_TURN,
    Datagram,
    Fabric,
    FabricStatistics,
    Indexes,
    Naming,
    Timetable,
    on_grid,
)
from simulations.log import EventLog

OUTSIDE: Final = -1
"""The origin of commands given from outside a run: before those of any node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """What effects hear of a node besides its core's events: `start stop crash restart`."""

    what: str


class Stage(Protocol[C]):
    """What effects, faults and experiments may do with either world."""

    @property
    def now(self) -> float:
        """Unix seconds of virtual time, on the grid."""

    @property
    def nodes(self) -> Sequence[C]:
        """The cores, by index."""

    def up(self, node: int) -> bool:
        """Whether a node runs."""

    def at(self, when: float, node: int, name: str, fn: Callable[[C, float], object]) -> None:
        """Command a core at an instant, at the next one at the earliest; lost if it is down."""

    def do(self, when: float, action: Callable[[], None]) -> None:
        """Do something that is no node's, before what the nodes do at that instant."""

    def start(
        self,
        node: int,
        *,
        at: float | None = None,
        core: C | None = None,
        build: Callable[[float], C] | None = None,
    ) -> None:
        """Bring a node up, with a new core or one built then after a crash; not if it is up."""

    def stop(self, node: int, *, at: float | None = None, graceful: bool = True) -> None:
        """Take a node down; gracefully, its core may say farewell first."""

    def crash(self, node: int, *, at: float | None = None) -> None:
        """Take a node down in the middle of whatever it does."""


class Playing(Stage[C], Protocol[C]):
    """A stage that can be run: any of the worlds."""

    def run(self, until: float, max_records: int | None = None) -> bool:
        """Run to an instant; see `World.run`."""

    def statistics(self) -> FabricStatistics:
        """A snapshot of the network's counters."""


class WorldKind(Protocol[C]):
    """What makes a world of cores: `World` and `TrioWorld` do."""

    def __call__(
        self,
        cores: Sequence[C],
        network: Fabric,
        log: EventLog | None,
        effects: "WorldEffects[C]",
        *,
        naming: Naming | None = None,
        datagrams: Fabric | None = None,
    ) -> Playing[C]: ...


class WorldEffects(Protocol[C]):
    """What events do outside the cores. State kept per node only: nodes run in any order."""

    def handle(self, world: Stage[C], node: int, now: float, event: Event) -> None:
        """Act on an event of a node's core, or on its `Life`; answer through `world.at`."""

    def leave(self, core: C, now: float) -> None:
        """Let a core say farewell before a graceful stop."""


@final
class NoEffects:
    """Effects of cores whose events matter to nobody."""

    def handle(self, world: object, node: int, now: float, event: Event) -> None:
        """Nothing."""

    def leave(self, core: object, now: float) -> None:
        """Nothing."""


@final
class World(Generic[C]):
    """Runs cores from instant to instant. Nodes are down until `start`.

    `run` raises what a core raises, which is a bug, and `Livelock`.
    """

    def __init__(
        self,
        cores: Sequence[C],
        network: Fabric,
        log: EventLog | None,
        effects: WorldEffects[C],
        *,
        naming: Naming | None = None,
        datagrams: Fabric | None = None,
    ) -> None:
        self._cores = list(cores)
        self._log = log
        self._effects = effects
        self._timetable = Timetable(network, naming or Indexes(), datagrams)
        self._agenda = Agenda(self._timetable.enter)

        self._up = [False] * len(self._cores)
        self._started = [False] * len(self._cores)
        self._armed: list[float | None] = [None] * len(self._cores)
        self._posted: list[Command[C]] = []

    @property
    def now(self) -> float:
        return self._agenda.now

    @property
    def nodes(self) -> Sequence[C]:
        return self._cores

    def up(self, node: int) -> bool:
        return self._up[node]

    def at(self, when: float, node: int, name: str, fn: Callable[[C, float], object]) -> None:
        command = Command(name, fn)
        self._agenda.enter(when, node, COMMAND_TURN, lambda: self._posted.append(command))

    def do(self, when: float, action: Callable[[], None]) -> None:
        self._agenda.enter(when, OUTSIDE, LIFE_TURN, action)

    def start(
        self,
        node: int,
        *,
        at: float | None = None,
        core: C | None = None,
        build: Callable[[float], C] | None = None,
    ) -> None:
        self._agenda.enter(at, node, LIFE_TURN, lambda: self._start(node, core, build))

    def stop(self, node: int, *, at: float | None = None, graceful: bool = True) -> None:
        self._agenda.enter(at, node, LIFE_TURN, lambda: self._stop(node, graceful))

    def crash(self, node: int, *, at: float | None = None) -> None:
        self._agenda.enter(at, node, LIFE_TURN, lambda: self._down(node, "crash"))

    # --- by hand, between turns ---

    def settle(self, core: C, node: int | None = None) -> int:
        """Have a node up at once: a new one, or another life of one that crashes for it."""
        if node is None:
            node = len(self._cores)
            self._cores.append(core)
            self._up.append(False)
            self._started.append(False)
            self._armed.append(None)
        self._down(node, "crash")
        self._start(node, core)
        self._arm(self._agenda.now, node)
        return node

    def call(self, node: int, name: str, fn: Callable[[C, float], object]) -> None:
        """Command a core at once; nothing if it is down."""
        if self._up[node]:
            now, origin = self._agenda.now, self._agenda.origin
            self._agenda.origin = node
            self._step(now, node, [Command(name, fn)], [])
            self._arm(now, node)
            self._agenda.origin = origin

    def fell(self, node: int) -> None:
        """A node has crashed at once."""
        self._down(node, "crash")

    # --- time ---

    def run(
        self,
        until: float,
        max_records: int | None = None,
        *,
        stop: Callable[[], bool] | None = None,
    ) -> bool:
        """Run to `until`, what happens then included; False if `max_records` stopped it before.

        Or if `stop` said so, which is asked between turns.
        """
        until = on_grid(until)
        with uncollected(), self._agenda.running():
            while (heap := self._timetable.heap) and heap[0][0] <= until:
                if max_records is not None and self._records() >= max_records:
                    return False
                if stop is not None and stop():
                    return False
                self._turn()
        self._agenda.now = max(until, self._agenda.now)
        return True

    def statistics(self) -> FabricStatistics:
        """A snapshot of the network's counters."""
        return self._timetable.statistics()

    def _records(self) -> int:
        return 0 if self._log is None else self._log.records

    def _turn(self) -> None:
        """Give one node everything that one instant holds for it, in one step."""
        heap = self._timetable.heap
        now, node = heap[0][:2]
        self._agenda.now, self._agenda.origin = now, node

        inbox: list[tuple[Source, bytes]] = []
        while heap and heap[0][1] == node and heap[0][0] == now:
            _, _, _, a, b, payload = heappop(heap)
            if isinstance(payload, Datagram):
                if not self._up[node]:
                    self._timetable.miss()
                elif self._timetable.admit(now, node, a, b, payload):
                    inbox.append((payload.source, payload.data))
            elif payload is not None:
                payload()
        if node == OUTSIDE:
            return
        commands, self._posted = self._posted, []

        if self._up[node] and (inbox or commands or self._due(now, node)):
            self._step(now, node, commands, inbox)
        if self._up[node]:
            self._arm(now, node)

    def _due(self, now: float, node: int) -> bool:
        armed = self._armed[node]
        return armed is not None and armed <= now

    def _step(
        self,
        now: float,
        node: int,
        commands: Sequence[Command[C]],
        inbox: Sequence[tuple[Source, bytes]],
    ) -> None:
        sends, events = step(self._cores[node], now, commands, inbox, self._log, node)
        for event in events:
            self._effects.handle(self, node, now, event)
        for to, data in sends:
            self._timetable.send(now, node, to, data)

    def _arm(self, now: float, node: int) -> None:
        """See to it that a wake stands at the core's deadline or before it.

        A deadline that moved away leaves its wake standing, which then finds nothing due: cheaper
        than an entry for each time it moves.
        """
        armed = None if self._due(now, node) else self._armed[node]
        deadline = self._cores[node].next_deadline()
        if deadline is not None and (armed is None or deadline < armed):
            armed = on_grid(max(deadline, now))
            heappush(self._timetable.heap, (armed, node, WAKE_TURN, 0, 0, None))
        self._armed[node] = armed

    def _start(self, node: int, core: C | None, build: Callable[[float], C] | None = None) -> None:
        if self._up[node]:
            return
        if build is not None:
            core = build(self._agenda.now)
        if core is not None:
            self._cores[node] = core
        self._up[node] = True
        self._armed[node] = self._agenda.now
        self._tell(node, "restart" if self._started[node] else "start")
        self._started[node] = True

    def _stop(self, node: int, graceful: bool) -> None:
        if graceful and self._up[node]:
            self._step(self._agenda.now, node, [Command("leave", self._effects.leave)], [])
        self._down(node, "stop")

    def _down(self, node: int, what: str) -> None:
        if not self._up[node]:
            return
        self._up[node] = False
        self._armed[node] = None
        self._tell(node, what)

    def _tell(self, node: int, what: str) -> None:
        if self._log is not None:
            self._log.add(self._agenda.now, node, LIFE, None, what.encode())
        self._effects.handle(self, node, self._agenda.now, Life(what=what))


@final
class Agenda:
    """Enters what experiments and effects ask for, in an order no driver can change.

    Entries of one origin are numbered by that origin; `origin` is the node whose turn it is.
    """

    def __init__(
        self, enter: Callable[[float, int, int, int, int, Callable[[], None]], None]
    ) -> None:
        self.now = EPOCH
        self.origin = OUTSIDE
        self._enter = enter
        self._numbers: dict[int, int] = {}
        self._earliest = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """During a run nothing is entered for the present instant: its turns are being taken."""
        self._earliest = GRID
        try:
            yield
        finally:
            self._earliest = 0.0
            self.origin = OUTSIDE

    def enter(self, when: float | None, node: int, turn: int, action: Callable[[], None]) -> None:
        """Enter an action at `when`, or as early as can be."""
        earliest = self.now + self._earliest
        instant = earliest if when is None else max(on_grid(when), earliest)
        number = self._numbers[self.origin] = self._numbers.get(self.origin, -1) + 1
        self._enter(instant, node, turn, self.origin, number, action)


@contextmanager
def uncollected() -> Iterator[None]:
    """Garbage collection off: cores make no cycles, and looking for them costs a fifth.

    Around what builds many cores as well, which it would look through again and again.
    """
    enabled = gc.isenabled()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if enabled:
            gc.enable()


class ImpureCall(LocalError):  # noqa: N818 - named like its siblings in p2p/errors.py
    """A core asked the machine for the time or for randomness; the message names the line."""


_RANDOM: Final = (
    "betavariate choice choices expovariate gauss getrandbits lognormvariate normalvariate "
    "paretovariate randbytes randint random randrange sample seed shuffle triangular uniform "
    "vonmisesvariate weibullvariate"
)
_IMPURE: Final[tuple[tuple[ModuleType, str], ...]] = (
    (time, "time time_ns monotonic monotonic_ns sleep"),
    (os, "urandom"),
    (secrets, "SystemRandom choice randbelow randbits token_bytes token_hex token_urlsafe"),
    (random, _RANDOM),
)


@contextmanager
def guard() -> Iterator[None]:
    """Around a `run`: the machine's clocks and randomness raise `ImpureCall`.

    It replaces the functions in their modules, so a name bound before by `from time import time`
    escapes it; the rules of the tree forbid such imports in cores.
    """
    real = [(module, name, getattr(module, name)) for module, name in _impure()]
    try:
        for module, name, _ in real:
            setattr(module, name, _Refusal(f"{module.__name__}.{name}"))
        yield
    finally:
        for module, name, function in real:
            setattr(module, name, function)


def _impure() -> Iterator[tuple[ModuleType, str]]:
    for module, names in _IMPURE:
        for name in names.split():
            yield module, name


@final
class _Refusal:
    """Stands where a function of the machine stood."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *_: object, **__: object) -> NoReturn:
        caller = traceback.extract_stack(limit=2)[0]
        raise ImpureCall(f"{self._name}() called at {caller.filename}:{caller.lineno}")
