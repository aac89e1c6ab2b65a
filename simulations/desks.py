"""A worker's place of work: who is let in, who is next, and an engine that runs them."""

from collections import deque
from typing import Protocol, final

from inference.schedule import Desk
from p2p.onion.core import CircuitId
from simulations.engine import Engine
from simulations.timeline import Timeline


class Admission(Protocol):
    """Whom a worker lets in, and in which order."""

    def admit(self, job: int, prompt: int, answer: int) -> bool:
        """Let a job in to wait, or turn it away."""

    def next(self) -> int | None:
        """The job that begins now; it holds a slot from here."""

    def leave(self, job: int) -> None:
        """It is done."""

    @property
    def waiting(self) -> int:
        """Jobs let in that have not begun."""

    @property
    def running(self) -> int:
        """Jobs that hold a slot."""


@final
class RealDesk:
    """The desk of `inference.schedule`: a bounded room, and turns between circuits.

    Every job comes by a circuit of its own.
    """

    def __init__(self, slots: int) -> None:
        self._desk = Desk(slots)

    def admit(self, job: int, prompt: int, answer: int) -> bool:
        """See `Admission`."""
        return self._desk.admit(job, CircuitId(job), prompt=prompt, max_tokens=answer)

    def next(self) -> int | None:
        """See `Admission`."""
        return self._desk.next()

    def leave(self, job: int) -> None:
        """See `Admission`."""
        self._desk.leave(job)

    @property
    def waiting(self) -> int:
        """See `Admission`."""
        return self._desk.waiting

    @property
    def running(self) -> int:
        """See `Admission`."""
        return self._desk.running


@final
class EndlessDesk:
    """Everybody may wait, first come first served: the room of queueing theory."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._queue: deque[int] = deque()
        self.running = 0

    def admit(self, job: int, prompt: int, answer: int) -> bool:
        """See `Admission`."""
        self._queue.append(job)
        return True

    def next(self) -> int | None:
        """See `Admission`."""
        if self.running >= self._slots or not self._queue:
            return None
        self.running += 1
        return self._queue.popleft()

    def leave(self, job: int) -> None:
        """See `Admission`."""
        self.running -= 1

    @property
    def waiting(self) -> int:
        """See `Admission`."""
        return len(self._queue)


class Listener(Protocol):
    """Hears how the jobs of a worker go."""

    def began(self, now: float, worker: int, job: int) -> None:
        """A job has a slot."""

    def ended(self, now: float, worker: int, job: int) -> None:
        """It is done."""


@final
class Workplace:
    """One worker under virtual time."""

    def __init__(
        self,
        worker: int,
        slots: int,
        desk: Admission,
        engine: Engine,
        timeline: Timeline,
        listener: Listener,
    ) -> None:
        self.worker = worker
        self.slots = slots
        self._desk = desk
        self._engine = engine
        self._timeline = timeline
        self._listener = listener
        self._seconds: dict[int, float] = {}
        self._armed: float | None = None

    def admit(self, job: int, seconds: float, prompt: int = 0, answer: int = 0) -> bool:
        """Take a job that takes so long alone; False if it is turned away."""
        if not self._desk.admit(job, prompt, answer):
            return False
        self._seconds[job] = seconds
        self._go_on()
        return True

    @property
    def waiting(self) -> int:
        """Jobs that have not begun."""
        return self._desk.waiting

    @property
    def present(self) -> int:
        """Jobs that wait or run."""
        return self._desk.waiting + self._desk.running

    @property
    def load(self) -> float:
        """Share of its slots that are busy."""
        return self._desk.running / self.slots

    def sizes(self) -> dict[str, int]:
        """The length of every table."""
        return {"jobs": len(self._seconds), "waiting": self._desk.waiting}

    def _go_on(self) -> None:
        """Begin what may begin, and wake when something ends."""
        now = self._timeline.now
        while (job := self._desk.next()) is not None:
            self._engine.begin(now, job, self._seconds[job])
            self._listener.began(now, self.worker, job)
        end = self._engine.next_end()
        if end is not None and (self._armed is None or end < self._armed):
            self._armed = end
            self._timeline.at(end, lambda: self._wake(end))

    def _wake(self, armed: float) -> None:
        """An end that moved away leaves its wake standing, which then finds nothing due."""
        if self._armed != armed:
            return
        self._armed = None
        now = self._timeline.now
        for job in self._engine.take(now):
            del self._seconds[job]
            self._desk.leave(job)
            self._listener.ended(now, self.worker, job)
        self._go_on()
