"""The desk of a worker: which jobs are let in, and which of those waiting is next.

Circuits take turns by self-clocked fair queueing (Golestani 1994): a job's tag is F = max(V, F of
the circuit's last) + prompt + max_tokens / 2, the least F goes first, ties by arrival; V is the tag
of the job that began last. So a long job gives way to short ones, but to no more of them than make
up its own length. Circuits are free to make: this is fairness among honest conversations only.
"""

from dataclasses import dataclass
from typing import Final, final

from p2p.onion.core import CircuitId

MAX_RUNNING_PER_CIRCUIT: Final = 1
MAX_WAITING_PER_CIRCUIT: Final = 2
WAITING_PER_SLOT: Final = 2
"""jobs: more would wait longer than their askers do."""

MAX_TAGS: Final = 1_024
"""circuits whose last tag is kept; the one that asked longest ago is forgotten for a new one."""

MAX_PROMPT_BYTES: Final = 64 * 1024 * 1024
"""bytes of prompts held at once, arriving ones included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """A job at the desk."""

    token: int
    circuit: CircuitId
    prompt: int
    """tokens"""
    max_tokens: int
    start: float
    finish: float


@final
class Desk:
    """Admission and order. Jobs are named by `token`; what a job holds is not known here."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._waiting: dict[int, Ticket] = {}
        self._running: dict[int, Ticket] = {}
        self._last: dict[CircuitId, float] = {}
        self._virtual = 0.0

    @property
    def waiting(self) -> int:
        """Jobs let in that have not begun."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Jobs that hold a slot."""
        return len(self._running)

    @property
    def full(self) -> bool:
        """Whether another job would be turned away, whoever sends it."""
        return self.waiting >= WAITING_PER_SLOT * self._slots

    @property
    def tokens_ahead(self) -> tuple[int, int]:
        """Tokens of prompts and of answers that may still be computed before a new job begins."""
        tickets = [*self._waiting.values(), *self._running.values()]
        prompts = sum(ticket.prompt for ticket in self._waiting.values())
        return prompts, sum(ticket.max_tokens for ticket in tickets) // 2

    def admit(self, token: int, circuit: CircuitId, *, prompt: int, max_tokens: int) -> bool:
        """Let a job in to wait, unless a bound is reached."""
        if self.full or self._count(self._waiting, circuit) >= MAX_WAITING_PER_CIRCUIT:
            return False
        start, finish = self._tag(circuit, prompt + max_tokens / 2)
        self._waiting[token] = Ticket(
            token=token,
            circuit=circuit,
            prompt=prompt,
            max_tokens=max_tokens,
            start=start,
            finish=finish,
        )
        return True

    def next(self) -> int | None:
        """The job that begins now, if a slot is free and one may; it holds the slot from here."""
        if self.running >= self._slots:
            return None
        ready = [ticket for ticket in self._waiting.values() if self._may_run(ticket)]
        if not ready:
            return None
        ticket = min(ready, key=lambda ticket: ticket.finish)  # the first of equals came first
        self._running[ticket.token] = self._waiting.pop(ticket.token)
        self._virtual = max(self._virtual, ticket.finish)
        return ticket.token

    def leave(self, token: int) -> None:
        """A job is over, or gave up waiting; unknown ones are ignored."""
        self._waiting.pop(token, None)
        self._running.pop(token, None)
        if not self._waiting and not self._running:  # nobody to be fair to: the tags start anew
            self._last.clear()
            self._virtual = 0.0

    def sizes(self) -> dict[str, int]:
        """The length of every table."""
        return {
            "waiting": len(self._waiting),
            "running": len(self._running),
            "circuits": len(self._last),
        }

    def _tag(self, circuit: CircuitId, cost: float) -> tuple[float, float]:
        """Start and finish tag of a circuit's next job."""
        start = max(self._virtual, self._last.pop(circuit, 0.0))
        self._last[circuit] = start + cost
        if len(self._last) > MAX_TAGS:
            del self._last[next(iter(self._last))]
        return start, start + cost

    def _may_run(self, ticket: Ticket) -> bool:
        return self._count(self._running, ticket.circuit) < MAX_RUNNING_PER_CIRCUIT

    def _count(self, tickets: dict[int, Ticket], circuit: CircuitId) -> int:
        return sum(ticket.circuit == circuit for ticket in tickets.values())
