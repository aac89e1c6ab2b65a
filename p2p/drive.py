"""The trio driver: one core joined to a transport, a clock and its effects.

Every advance of the core goes through `core.step`; the events of a step are handled before its
sends are transmitted, and the output of one step leaves before that of the next.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar, final

import trio

from p2p.core import C, Command, Event, Log, Send, Source, step
from p2p.errors import LocalError

if TYPE_CHECKING:  # the stubs that libp2p brings stand before trio's own types
    from trio_typing import TaskStatus

R = TypeVar("R")

LONGEST_WAIT = 30.0
"""seconds: the loop looks at the clock at least this often, so a laptop's sleep is noticed."""


class Transport(Protocol):
    """Where datagrams come from and go to. None but `wait` ever waits."""

    def take(self, limit: int = 64) -> list[tuple[Source, bytes]]:
        """What has arrived, oldest first. Raises `Closed` once the transport is shut."""

    async def wait(self) -> None:
        """Return when `take` may have something to give, or to raise. A checkpoint always."""

    def send(self, now: float, to: Source, data: bytes) -> None:
        """Transmit, or drop and count if there is no room; never blocks."""


class Effects(Protocol):
    """What the events of a core do to the world outside it."""

    def handle(self, now: float, event: Event) -> None:
        """Act on an event, quickly; it may `call` the driver, whose output then waits its turn."""


class Clock(Protocol):
    """Unix seconds that never fall, and their place on trio's own clock."""

    def now(self) -> float:
        """Unix seconds."""

    def trio_time(self, when: float) -> float:
        """When, on trio's clock, `now` will have reached `when`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverStatistics:
    """A snapshot of a driver's counters."""

    steps: int
    """times the core was advanced"""
    commands: int
    """commands among the inputs"""
    datagrams: int
    """datagrams among the inputs"""
    events: int
    """events handled"""
    sends: int
    """datagrams handed to the transport"""


class _Output(NamedTuple):
    now: float
    sends: list[Send]
    events: list[Event]


@final
class Driver(Generic[C]):
    """Steps one core: `run` is its only task, `call` and `post` are how others command it."""

    def __init__(
        self,
        core: C,
        transport: Transport,
        effects: Effects,
        clock: Clock,
        *,
        log: Log | None = None,
        node: int = 0,
    ) -> None:
        self._core = core
        self._transport = transport
        self._effects = effects
        self._clock = clock
        self._log = log
        self._node = node

        self._posted: list[Command[C]] = []
        self._outputs: deque[_Output] = deque()
        self._stepping = False
        self._flushing = False
        self._waiting: trio.CancelScope | None = None
        self._steps = self._commands = self._datagrams = self._events = self._sends = 0

    def call(self, name: str, fn: Callable[[C, float], R]) -> R:
        """Advance the core at once by this one command, and return what it returned.

        From inside an effect the command runs at once too, but what it makes the core say leaves
        after the output being handled. A `LocalError` of the command reaches the caller after
        the core's output has left; any other exception is a bug and passes straight through.
        """
        call = _Call(fn)
        self._advance([Command(name, call.run)], [])
        self._flush()
        self._reschedule()
        return call.outcome()

    def post(self, name: str, fn: Callable[[C, float], object]) -> None:
        """Leave a command for the loop's next step, where it joins what else is due then."""
        self._posted.append(Command(name, fn))
        if self._waiting is not None:
            self._waiting.cancel()

    async def run(self, *, task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        """Drive until cancelled. Only the wait can be cancelled: a step and its output are whole.

        Raises what the core raises, which is a bug, and `Closed` once the transport is shut.
        """
        self._round()
        task_status.started()
        while True:
            await self._take_on()

    def statistics(self) -> DriverStatistics:
        """A snapshot of the counters."""
        return DriverStatistics(
            steps=self._steps,
            commands=self._commands,
            datagrams=self._datagrams,
            events=self._events,
            sends=self._sends,
        )

    async def _take_on(self) -> None:
        """Take what arrives, and what is due or was left for the loop when the wait ends for it.

        One scope for many arrivals: a new one for each would cost as much as a small step.
        """
        try:
            with trio.CancelScope() as scope:
                self._waiting = scope
                while not scope.cancel_called:
                    self._reschedule()
                    await self._transport.wait()
                    self._round()
        finally:
            self._waiting = None
        if scope.cancelled_caught:
            self._round()

    def _round(self) -> None:
        inbox = self._transport.take()
        commands, self._posted = self._posted, []
        self._advance(commands, inbox)
        self._flush()

    def _advance(
        self, commands: Sequence[Command[C]], inbox: Sequence[tuple[Source, bytes]]
    ) -> None:
        if self._stepping:
            raise RuntimeError("a core may not command itself: its own step is not over")
        now = self._clock.now()
        self._stepping = True
        try:
            sends, events = step(self._core, now, commands, inbox, self._log, self._node)
        finally:
            self._stepping = False
        self._steps += 1
        self._commands += len(commands)
        self._datagrams += len(inbox)
        self._outputs.append(_Output(now, sends, events))

    def _flush(self) -> None:
        if self._flushing:  # called from an effect: the outer flush goes on with what was added
            return
        self._flushing = True
        try:
            while self._outputs:
                self._emit(self._outputs.popleft())
        finally:
            self._flushing = False

    def _emit(self, output: _Output) -> None:
        for event in output.events:
            self._events += 1
            self._effects.handle(output.now, event)
        for to, data in output.sends:
            self._sends += 1
            self._transport.send(output.now, to, data)

    def _reschedule(self) -> None:
        if self._waiting is None:
            return
        wake = self._clock.now() + LONGEST_WAIT
        deadline = self._core.next_deadline()
        if self._posted:
            self._waiting.cancel()
        self._waiting.deadline = self._clock.trio_time(
            wake if deadline is None else min(deadline, wake)
        )


@final
class _Call(Generic[C, R]):
    """A command whose outcome someone waits for."""

    def __init__(self, fn: Callable[[C, float], R]) -> None:
        self._fn = fn
        self._result: list[R] = []
        self._error: LocalError | None = None

    def run(self, core: C, now: float) -> None:
        try:
            self._result.append(self._fn(core, now))
        except LocalError as error:
            self._error = error

    def outcome(self) -> R:
        if self._error is not None:
            raise self._error
        return self._result[0]


SLEPT = 1.0
"""seconds the wall clock is ahead by when the machine must have slept: monotonic time stood."""

SLEW = 5e-3
"""seconds gained or lost per second towards the wall clock: two minutes in seven hours. adjtime()
does a tenth of it, but peers that differ by 20 s already hear little of each other."""


@final
class SystemClock:
    """The wall's time at the start plus monotonic time since, kept near the wall, never falling.

    More than a second behind the wall it jumps (Linux's monotonic clock stops while a laptop
    sleeps); any other difference is slewed away, so that a wall clock set back turns nothing back.
    Made inside trio: its own clock is the monotonic one.
    """

    def __init__(
        self,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = trio.current_time,
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._last = monotonic()
        self._now = wall()

    def now(self) -> float:
        monotonic, wall = self._monotonic(), self._wall()
        elapsed = monotonic - self._last
        ahead = wall - (self._now + elapsed)
        self._last = monotonic
        if ahead > SLEPT:
            self._now = wall
        else:
            reach = SLEW * elapsed
            self._now += elapsed + min(max(ahead, -reach), reach)
        return self._now

    def trio_time(self, when: float) -> float:
        return trio.current_time() + (when - self.now())
