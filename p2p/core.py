"""The contract between a protocol and its driver: bytes and the time in, bytes and events out.

A core holds no socket, task, clock, thread, file or global randomness. Two drivers run the same
objects: trio (`p2p/drive.py`) and the discrete-event world (`simulations/world.py`); both advance
a core through `step` alone, so a test can demand that they produce the same log, bit for bit.
"""

import heapq
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeAlias, TypeVar, final

from p2p.errors import Livelock

Source: TypeAlias = Hashable
"""Where bytes came from; opaque to a core, given back unchanged as `Send.to`."""

Event: TypeAlias = object
"""What a core tells its driver: any frozen dataclass."""

LIVELOCK_ROUNDS = 1_000
"""Rounds a deadline may stay in the past within one step before the step gives up."""


class Send(NamedTuple):
    """Bytes to transmit."""

    to: Source
    data: bytes


class Core(Protocol):
    """A protocol without I/O. Commands are its other public methods: `now` first, quick."""

    def receive(self, now: float, source: Source, datagram: bytes) -> None:
        """Take bytes from a peer. Never raises because of what they are."""

    def handle_timer(self, now: float) -> None:
        """Do what is due; nothing if nothing is."""

    def next_deadline(self) -> float | None:
        """When `handle_timer` wants to be called, in Unix seconds."""

    def drain(self) -> tuple[list[Send], list[Event]]:
        """Hand over everything produced since the last call, in order."""

    def sizes(self) -> dict[str, int]:
        """The length of every queue, table and cache."""


C = TypeVar("C", bound=Core)
C_contra = TypeVar("C_contra", bound=Core, contravariant=True)


class Command(NamedTuple, Generic[C]):
    """A call on a core from outside; `name` is what the log says of it."""

    name: str
    run: Callable[[C, float], object]


TIMER, COMMAND, DATAGRAM, EVENT, LIFE = range(5)
"""The kinds of a log record."""


class Log(Protocol):
    """Where `step` writes what a core was given and what it said."""

    def add(self, now: float, node: int, kind: int, peer: Source | None, data: bytes) -> None:
        """Record one happening."""


def step(
    core: C,
    now: float,
    commands: Sequence[Command[C]],
    inbox: Sequence[tuple[Source, bytes]],
    log: Log | None = None,
    node: int = 0,
) -> tuple[list[Send], list[Event]]:
    """Advance a core: due timers, commands, datagrams, due timers again, then drain.

    The only place that advances a core. The caller handles the events before it transmits the
    sends, so that what must be durable is durable before anything is said.
    """
    _run_timers(core, now, log, node)
    for command in commands:
        if log is not None:
            log.add(now, node, COMMAND, None, command.name.encode())
        command.run(core, now)
    for source, datagram in inbox:
        if log is not None:
            log.add(now, node, DATAGRAM, source, datagram)
        core.receive(now, source, datagram)
    _run_timers(core, now, log, node)

    sends, events = core.drain()
    if log is not None:
        for event in events:
            log.add(now, node, EVENT, None, repr(event).encode())
    return sends, events


def _run_timers(core: Core, now: float, log: Log | None, node: int) -> None:
    deadline = core.next_deadline()
    for _ in range(LIVELOCK_ROUNDS):
        if deadline is None or deadline > now:
            return
        if log is not None:
            log.add(now, node, TIMER, None, b"")
        core.handle_timer(now)
        deadline = core.next_deadline()
    if deadline is not None and deadline <= now:
        raise Livelock(node, deadline)


@dataclass(slots=True, eq=False)
class Handle:
    """An entry of `Deadlines`; `cancel` is lazy."""

    _owner: "Deadlines"
    _action: Callable[[], None] | None

    def cancel(self) -> None:
        """Forget the action; twice is harmless."""
        if self._action is not None:
            self._action = None
            self._owner.forget()


@final
class Deadlines:
    """Actions to run at a time, in (time, insertion) order."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Handle]] = []
        self._count = 0
        self._dead = 0

    def at(self, when: float, action: Callable[[], None]) -> Handle:
        """Run `action` once, at the first `run` not before `when`."""
        handle = Handle(self, action)
        heapq.heappush(self._heap, (when, self._count, handle))
        self._count += 1
        return handle

    def next(self) -> float | None:
        """The earliest time at which something is due."""
        while self._heap and self._heap[0][2]._action is None:
            heapq.heappop(self._heap)
            self._dead -= 1
        return self._heap[0][0] if self._heap else None

    def run(self, now: float) -> None:
        """Run everything due, what the actions themselves add included."""
        while (when := self.next()) is not None and when <= now:
            handle = heapq.heappop(self._heap)[2]
            action, handle._action = handle._action, None
            if action is not None:
                action()

    def forget(self) -> None:
        """Count a cancelled entry; purge once over half of the heap is dead."""
        self._dead += 1
        if self._dead * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2]._action is not None]
            heapq.heapify(self._heap)
            self._dead = 0

    def __len__(self) -> int:
        return len(self._heap) - self._dead


T = TypeVar("T")


@final
class Mailbox(Generic[T]):
    """Where a procedure waits for what a core puts there. One waiter at a time."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._waiter: Procedure | None = None

    def put(self, item: T) -> None:
        """Add an item; the waiter is only marked ready, never resumed from here."""
        self._items.append(item)
        if self._waiter is not None:
            self._waiter.wake()
            self._waiter = None

    async def get(self) -> T:
        """The oldest item, waiting for one if there is none."""
        while not self._items:
            await _wait_for(self)
        return self._items.popleft()

    def abandon(self) -> None:
        """Nothing more will be put here: whoever waits is cancelled."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.cancel()

    def __len__(self) -> int:
        return len(self._items)


@types.coroutine
def _wait_for(mailbox: Mailbox[T]) -> Generator[Mailbox[T], None, None]:
    """The one trap of this small scheduler."""
    yield mailbox


@final
class Procedure:
    """A coroutine that a core steps by itself, without trio."""

    def __init__(self, owner: "Procedures", coroutine: Coroutine[object, None, None]) -> None:
        self._owner = owner
        self._coroutine = coroutine
        self._running = False
        self.done = False

    def wake(self) -> None:
        """Mark as ready to go on."""
        self._owner.ready(self)

    def cancel(self) -> None:
        """Close the coroutine; its `finally` blocks run now and may not await.

        A procedure may cancel itself: it is closed where it next waits.
        """
        self._end()
        if not self._running:
            self._coroutine.close()

    def resume(self) -> None:
        """Run to the next wait or to the end."""
        trap = self._send()
        if self.done:
            self._coroutine.close()
        elif not isinstance(trap, Mailbox):
            self.cancel()
            raise TypeError(f"a procedure awaited {trap!r}, which is not a mailbox of its core")
        elif trap._waiter is not None and not trap._waiter.done:
            self.cancel()
            raise RuntimeError("two procedures wait for one mailbox")
        else:
            trap._waiter = self

    def _end(self) -> None:
        self.done = True
        self._owner.forget(self)

    def _send(self) -> object:
        self._running = True
        try:
            return self._coroutine.send(None)
        except StopIteration:
            self._end()
            return None
        except BaseException:  # raised again: whatever ended it, it has ended
            self._end()
            raise
        finally:
            self._running = False


@final
class Procedures:
    """The procedures of one core, resumed first in, first out.

    The core calls `run` last in `receive`, `handle_timer` and its commands.
    """

    def __init__(self) -> None:
        self._ready: deque[Procedure] = deque()
        self._live: dict[Procedure, None] = {}

    def start(self, coroutine: Coroutine[object, None, None]) -> Procedure:
        """Take a coroutine; it first runs at the next `run`."""
        procedure = Procedure(self, coroutine)
        self._live[procedure] = None
        self.ready(procedure)
        return procedure

    def ready(self, procedure: Procedure) -> None:
        """Queue a procedure for the next `run`."""
        self._ready.append(procedure)

    @property
    def waiting(self) -> bool:
        """Whether a procedure is ready to go on."""
        return bool(self._ready)

    def forget(self, procedure: Procedure) -> None:
        """A procedure has ended."""
        self._live.pop(procedure, None)

    def close(self) -> None:
        """End all: a core that is given up does so, since what waits for each other in a ring
        would else be closed by the collector, in whatever order."""
        while self._live:
            next(iter(self._live)).cancel()

    def __len__(self) -> int:
        return len(self._live)

    def run(self) -> bool:
        """Resume every ready procedure until none is; whether there was one."""
        ran = self.waiting
        while self._ready:
            procedure = self._ready.popleft()
            if not procedure.done:
                procedure.resume()
        return ran
