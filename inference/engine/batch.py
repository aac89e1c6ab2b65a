"""Which tokens a device computes next, and what that means for each job; no clock, no model.

A job's *context* is its prompt and the answer so far; its *cache* is how much of that the device
has computed. One rule drives everything: compute the next rows of the context that are missing,
and when none is missing, draw a token and append it. Prefill, decoding, reuse of a prefix and
going on after a preemption are all that rule.

    waiting --slot free, first come--> running --draw--> running ... --end--> gone
    running --paused 5 s while others wait--> waiting (its place by arrival)

There is one slot. A prefix is reused only between jobs of one tag: a cache shared between askers
would leak prompts through the time to the first token.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Final, Protocol, final

from inference.engine.base import (
    Begun,
    Failed,
    Fault,
    Finished,
    Job,
    JobEvent,
    Piece,
    Prefilled,
    Reason,
    Sampling,
    Tokens,
    Usage,
)
from inference.engine.text import Text

MAX_WAITING: Final = 64
"""jobs that may wait; a worker's own bound is far lower."""

PAUSE_HOLD: Final = 5.0
"""seconds a paused job keeps its slot while others wait."""

PROGRESS_TOKENS: Final = 512
"""tokens of prefill after which its progress is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """How to choose the token after a step's last row."""

    sampling: Sampling
    answer: Tokens
    """the tokens of the answer so far: their number is the index of the next"""
    logprobs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One computation: forget the cache beyond `keep`, then compute `tokens` from there on."""

    job: int
    keep: int
    tokens: Tokens
    draw: Draw | None
    """None: more of the prompt follows"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A chosen token."""

    token: int
    text: bytes
    ends: bool
    """it is a token that ends an answer"""
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a step gave. A fault means that the device's cache is empty now."""

    drawn: Drawn | None = None
    fault: Fault | None = None
    emptied: bool = False
    """nothing was computed and the cache is empty now: the step's job was cancelled, or the model
    cannot forget a part of its cache"""


class Device(Protocol):
    """Something that computes steps: a model, or a table that pretends to be one."""

    def run(self, step: Step) -> Outcome:
        """Compute. Takes as long as it takes; never raises for what a model or a job is."""


@dataclass(slots=True, kw_only=True)
class _Running:
    """A job and how far it is."""

    job: Job
    arrival: int
    deadline: float
    text: Text
    answer: list[int] = field(default_factory=list)
    begun: Begun | None = None
    told: int = 0
    """tokens of prefill that were told"""
    paused: float | None = None
    """since when"""

    def context(self) -> Tokens:
        return (*self.job.tokens, *self.answer)

    def usage(self) -> Usage:
        begun = self.begun or Begun(prompt=0, cached=0)
        return Usage(prompt=begun.prompt, cached=begun.cached, completion=len(self.answer))


@final
class Batcher:
    """Jobs in, steps out, outcomes in, events out. `context` and `batch` are the device's."""

    def __init__(self, *, context: int, batch: int) -> None:
        self._context = context
        self._batch = batch
        self._jobs: dict[int, _Running] = {}
        self._arrivals = 0
        self._active: _Running | None = None
        self._cache: Tokens = ()
        self._cache_tag = b""
        self._events: list[tuple[int, JobEvent]] = []
        self.steps = self.tokens_in = self.tokens_out = self.tokens_reused = self.cancels = 0

    # --- commands ---

    def submit(self, now: float, job: Job) -> None:
        """Queue a job; an impossible one fails at once."""
        if job.id in self._jobs:
            raise ValueError(f"job {job.id} is here already")
        if (fault := self._objection(job)) is not None:
            self._events.append((job.id, fault))
            return
        self._arrivals += 1
        self._jobs[job.id] = _Running(
            job=job, arrival=self._arrivals, deadline=now + job.deadline_s, text=Text(job.stop)
        )

    def _objection(self, job: Job) -> Failed | None:
        if len(job.tokens) + job.max_tokens > self._context:
            return Failed(fault=Fault.TOO_LONG, detail=self._context)
        if job.grammar is not None:
            return Failed(fault=Fault.UNSUPPORTED)
        if len(self._jobs) > MAX_WAITING:
            return Failed(fault=Fault.BUSY)
        return None

    def cancel(self, job_id: int) -> None:
        """Forget a job; no event follows. One that has ended is no matter."""
        if job_id in self._jobs:
            self.cancels += 1
            self._remove(self._jobs[job_id])

    def pause(self, now: float, job_id: int) -> None:
        """Compute nothing for this job until `resume`."""
        running = self._jobs.get(job_id)
        if running is not None and running.paused is None:
            running.paused = now

    def resume(self, job_id: int) -> None:
        """Go on."""
        if job_id in self._jobs:
            self._jobs[job_id].paused = None

    def fail_all(self, fault: Fault) -> None:
        """The device is gone, or its model is."""
        for running in list(self._jobs.values()):
            self._end(running, Failed(fault=fault))
        self._cache = ()

    # --- steps ---

    def plan(self, now: float) -> Step | None:
        """What to compute now; None while nothing is to be done before `next_deadline`."""
        self._expire(now)
        self._admit(now)
        running = self._active
        if running is None or running.paused is not None:
            return None
        missing = running.context()[len(self._cache) :]
        rows = missing[: self._batch]
        return Step(
            job=running.job.id,
            keep=len(self._cache),
            tokens=rows,
            draw=_draw(running) if len(rows) == len(missing) else None,
        )

    def applied(self, now: float, step: Step, outcome: Outcome) -> None:
        """Take what a step gave. Its job may have been cancelled meanwhile."""
        self.steps += 1
        if outcome.fault is not None or outcome.emptied:
            self._cache = ()
        else:
            self._cache += step.tokens
        running = self._jobs.get(step.job)
        if running is None:
            return
        if outcome.fault is not None:
            self._end(running, Failed(fault=outcome.fault))
        elif outcome.drawn is not None:
            self._take(now, running, outcome.drawn)
        elif not outcome.emptied:
            self._tell_progress(running)

    def next_deadline(self) -> float | None:
        """When `plan` may have news without a command."""
        times = [running.deadline for running in self._jobs.values()]
        held = self._active
        if held is not None and held.paused is not None and self._ready():
            times.append(held.paused + PAUSE_HOLD)
        return min(times, default=None)

    def drain(self) -> list[tuple[int, JobEvent]]:
        """The events since the last call, in order, each with its job."""
        events, self._events = self._events, []
        return events

    def sizes(self) -> dict[str, int]:
        """The length of everything held."""
        busy = int(self._active is not None)
        return {
            "busy": busy,
            "waiting": len(self._jobs) - busy,
            "cache": len(self._cache),
            "events": len(self._events),
        }

    # --- who has the slot ---

    def _ready(self) -> list[_Running]:
        return [
            running
            for running in self._jobs.values()
            if running is not self._active and running.paused is None
        ]

    def _admit(self, now: float) -> None:
        held = self._active
        if held is not None:
            if held.paused is None or now < held.paused + PAUSE_HOLD or not self._ready():
                return
            self._active = None
        running = min(self._ready(), key=lambda one: one.arrival, default=None)
        if running is not None:
            self._occupy(running)
        else:
            self._active = held

    def _occupy(self, running: _Running) -> None:
        """Give the slot, with as much of the cache as is a prefix and of the same tag."""
        self._active = running
        shared = self._shared(running)
        self._cache, self._cache_tag = self._cache[:shared], running.job.tag
        running.told = shared
        if running.begun is None:
            running.begun = Begun(prompt=len(running.job.tokens) - shared, cached=shared)
            self.tokens_in += running.begun.prompt
            self.tokens_reused += shared
            self._events.append((running.job.id, running.begun))

    def _shared(self, running: _Running) -> int:
        if running.job.tag != self._cache_tag:
            return 0
        context = running.context()[:-1]  # the last row is computed: its logits are needed
        pairs = zip(self._cache, context, strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    def _expire(self, now: float) -> None:
        for running in list(self._jobs.values()):
            if running.deadline <= now:
                self._end(running, _too_late(running))

    # --- what a step means ---

    def _tell_progress(self, running: _Running) -> None:
        done = len(self._cache)
        if done - running.told >= PROGRESS_TOKENS:
            running.told = done
            self._events.append((running.job.id, Prefilled(done=done)))

    def _take(self, now: float, running: _Running, drawn: Drawn) -> None:
        first = len(running.answer)
        running.answer.append(drawn.token)
        self.tokens_out += 1
        text = running.text.push(b"" if drawn.ends else drawn.text)
        end = self._ending(now, running, drawn)
        if end is not None:
            text += running.text.finish()
        piece = Piece(
            first=first,
            ids=(drawn.token,),
            text=text,
            logprobs=() if drawn.logprob is None else (drawn.logprob,),
            top=(drawn.top,) if drawn.top else (),
        )
        self._events.append((running.job.id, piece))
        if end is not None:
            self._end(running, end)

    def _ending(self, now: float, running: _Running, drawn: Drawn) -> Finished | Failed | None:
        if drawn.ends or running.text.stopped:
            return Finished(reason=Reason.STOP, usage=running.usage())
        if len(running.answer) >= running.job.max_tokens:
            return Finished(reason=Reason.LENGTH, usage=running.usage())
        return _too_late(running) if running.deadline <= now else None

    def _end(self, running: _Running, event: Finished | Failed) -> None:
        self._events.append((running.job.id, event))
        self._remove(running)

    def _remove(self, running: _Running) -> None:
        del self._jobs[running.job.id]
        if self._active is running:
            self._active = None


def _draw(running: _Running) -> Draw:
    job = running.job
    return Draw(sampling=job.sampling, answer=tuple(running.answer), logprobs=job.logprobs)


def _too_late(running: _Running) -> Finished | Failed:
    """A job that never had a slot fails; what others got is theirs."""
    if running.begun is None:
        return Failed(fault=Fault.DEADLINE)
    return Finished(reason=Reason.DEADLINE, usage=running.usage())


def merged(pieces: Sequence[Piece]) -> Piece:
    """Consecutive pieces of one channel as one."""
    return Piece(
        first=pieces[0].first,
        ids=tuple(token for piece in pieces for token in piece.ids),
        text="".join(piece.text for piece in pieces),
        channel=pieces[0].channel,
        logprobs=tuple(value for piece in pieces for value in piece.logprobs),
        top=tuple(value for piece in pieces for value in piece.top),
    )
