"""The same world on the production trio driver: what shows that the two drivers are one.

A driver per node in one nursery, the memory network between them, an autojumping clock above.
Five times slower than `simulations/world.py`, and it meets what that cannot: cancellation, lost
wake-ups, tasks that outlive their node.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic, final

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from p2p.core import LIFE, C, Event, Source
from p2p.drive import Clock, Driver
from p2p.errors import Closed
from p2p.transport.fabric import (
    COMMAND_TURN,
    EPOCH,
    LIFE_TURN,
    Fabric,
    FabricStatistics,
    Indexes,
    Naming,
    on_grid,
)
from p2p.transport.memory import MemoryNetwork, Port
from simulations.log import EventLog
from simulations.world import OUTSIDE, Agenda, Life, WorldEffects


@final
class VirtualClock:
    """Unix seconds of virtual time: the mock clock's, from the epoch on, on the grid."""

    def now(self) -> float:
        return EPOCH + trio.current_time()

    def trio_time(self, when: float) -> float:
        return on_grid(when) - EPOCH


@final
class TrioWorld(Generic[C]):
    """`World`'s constructor and commands, on trio. Nodes are down until `start`."""

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
        self._clock = VirtualClock()
        self._network = MemoryNetwork(
            network, naming or Indexes(), self._clock, datagrams=datagrams
        )
        self._agenda = Agenda(self._network.enter)

        self._seats: list[_Seat[C] | None] = [None] * len(self._cores)
        self._started = [False] * len(self._cores)
        self._nursery: trio.Nursery | None = None
        self._max_records: int | None = None

    @property
    def now(self) -> float:
        return self._agenda.now

    @property
    def nodes(self) -> Sequence[C]:
        return self._cores

    def up(self, node: int) -> bool:
        return self._seats[node] is not None

    def at(self, when: float, node: int, name: str, fn: Callable[[C, float], object]) -> None:
        self._agenda.enter(when, node, COMMAND_TURN, lambda: self._post(node, name, fn))

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

    def run(self, until: float, max_records: int | None = None) -> bool:
        """As `World.run`; `max_records` may let other nodes finish the instant it is met in."""
        until = on_grid(until)
        clock = MockClock(autojump_threshold=0)
        clock.jump(self.now - EPOCH)
        self._max_records = max_records
        try:
            with self._agenda.running():
                trio.run(self._run, until, clock=clock)
        except BaseExceptionGroup as group:
            raise _single(group) from None
        if self._enough():
            return False
        self._agenda.now = max(until, self.now)
        return True

    def statistics(self) -> FabricStatistics:
        """A snapshot of the network's counters."""
        return self._network.statistics()

    async def _run(self, until: float) -> None:
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._network.run)
            for seat in self._seats:
                if seat is not None:
                    self._nursery.start_soon(seat.run)
            await trio.sleep_until(until - EPOCH)
            await wait_all_tasks_blocked()
            self._nursery.cancel_scope.cancel()
        self._nursery = None

    def _enough(self) -> bool:
        if self._max_records is None or self._log is None:
            return False
        return self._log.records >= self._max_records

    def _turn(self, node: int) -> None:
        """What is entered from here on, until another's turn, is entered by `node`."""
        self._agenda.now, self._agenda.origin = self._clock.now(), node
        if self._enough() and self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    def _handle(self, node: int, now: float, event: Event) -> None:
        self._effects.handle(self, node, now, event)

    def _post(self, node: int, name: str, fn: Callable[[C, float], object]) -> None:
        seat = self._seats[node]
        if seat is not None:
            seat.driver.post(name, fn)

    def _start(self, node: int, core: C | None, build: Callable[[float], C] | None = None) -> None:
        if self.up(node):
            return
        self._agenda.now = self._clock.now()
        if build is not None:
            core = build(self.now)
        if core is not None:
            self._cores[node] = core
        self._seats[node] = seat = self._seat(node)
        self._tell(node, "restart" if self._started[node] else "start")
        self._started[node] = True
        if self._nursery is not None:
            self._nursery.start_soon(seat.run)

    def _seat(self, node: int) -> "_Seat[C]":
        return _Seat(
            self._network.port(node),
            self._cores[node],
            self._clock,
            self._log,
            node,
            turn=lambda: self._turn(node),
            handle=lambda now, event: self._handle(node, now, event),
        )

    def _stop(self, node: int, graceful: bool) -> None:
        seat = self._seats[node]
        if seat is not None and graceful:
            self._turn(node)
            seat.driver.call("leave", self._effects.leave)
        self._down(node, "stop")

    def _down(self, node: int, what: str) -> None:
        seat, self._seats[node] = self._seats[node], None
        if seat is not None:
            seat.port.close()
            self._tell(node, what)

    def _tell(self, node: int, what: str) -> None:
        self._turn(node)
        if self._log is not None:
            self._log.add(self.now, node, LIFE, None, what.encode())
        self._effects.handle(self, node, self.now, Life(what=what))


@final
class _Seat(Generic[C]):
    """A node's driver, and what stands round it: its transport and its effects."""

    def __init__(
        self,
        port: Port,
        core: C,
        clock: Clock,
        log: EventLog | None,
        node: int,
        *,
        turn: Callable[[], None],
        handle: Callable[[float, Event], None],
    ) -> None:
        self.port = port
        self.driver = Driver(core, self, self, clock, log=log, node=node)
        self._turn = turn
        self._handle = handle

    async def run(self) -> None:
        """Drive until the node goes down."""
        with suppress(Closed):
            await self.driver.run()

    def take(self, limit: int = 64) -> list[tuple[Source, bytes]]:
        try:
            return self.port.take()
        finally:
            self._turn()

    async def wait(self) -> None:
        await self.port.wait()

    def send(self, now: float, to: Source, data: bytes) -> None:
        self.port.send(now, to, data)

    def handle(self, now: float, event: Event) -> None:
        self._handle(now, event)


def _single(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one exception in a nest of groups, or the nest: a bug in a core reads as in `World`."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
