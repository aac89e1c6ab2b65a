"""Which tokens a device computes next, and what that means for each job; no clock, no model.

A job's *context* is its prompt and the answer so far; the *cache* of the slot it holds is how much
of that the device has computed. One rule drives everything: compute the next rows of the context
that are missing, and when none is missing, draw a token and append it. Prefill, decoding, reuse of
a prefix and going on after a preemption are all that rule.

    waiting --slot free, first come--> running --draw--> running ... --end--> gone
    running --paused 5 s while others wait--> waiting (its place by arrival)

A step computes for all slots at once: one row for each that answers, then prompts, oldest first,
with as many rows as are left; beside answers a prompt has fewer, so that it does not stop them.

A prefix is reused only between jobs of one tag: a cache shared between askers would leak prompts
through the time to the first token.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Final, Protocol, final

from inference.engine.base import (
    Begun,
    Channel,
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
from inference.engine.split import Splitter
from inference.engine.text import Text

MAX_WAITING: Final = 64
"""jobs that may wait; a worker's own bound is far lower."""

PAUSE_HOLD: Final = 5.0
"""seconds a paused job keeps its slot while others wait."""

PROGRESS_TOKENS: Final = 512
"""tokens of prefill after which its progress is told."""


BESIDE_SECONDS: Final = 0.15
"""the longest that reading a prompt may hold up a step in which others answer"""

LEAST_BESIDE: Final = 16
"""rows of a prompt that a step takes however slow the machine is: it must come to its end"""


def rows_beside(prompt_rate: float, batch: int) -> int:
    """Rows that prompts may have beside answers, of a machine that reads so many tokens/s."""
    return min(batch, max(LEAST_BESIDE, int(BESIDE_SECONDS * prompt_rate)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """How to choose the token after a part's last row."""

    sampling: Sampling
    answer: Tokens
    """the tokens of the answer so far: their number is the index of the next"""
    logprobs: int
    grammar: str | None = None
    """None where none holds, or not yet"""
    free: int = 0
    """tokens of the answer that it did not hold for"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One job's share of a step: forget its slot's cache beyond `keep`, then compute `tokens`."""

    job: int
    slot: int
    keep: int
    tokens: Tokens
    draw: Draw | None
    """None: more of the prompt follows"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One computation: at least one part, each of another slot, in the slots' order."""

    parts: tuple[Part, ...]

    @property
    def rows(self) -> int:
        """Tokens computed."""
        return sum(len(part.tokens) for part in self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A chosen token."""

    token: int
    text: bytes
    ends: bool
    """it is a token that ends an answer"""
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()
    texts: tuple[bytes, ...] = ()
    """of the token itself and of those in `top`"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a step gave. A fault means that all caches of the device are empty now."""

    drawn: tuple[Drawn | Fault | None, ...] = ()
    """one for each part; None where none was to be drawn, a fault where none could be: that ends
    this job and no other"""
    fault: Fault | None = None
    emptied: tuple[int, ...] = ()
    """slots whose caches are empty now, and then nothing was computed at all: the step's jobs were
    cancelled, or the model cannot forget a part of a cache"""


class Device(Protocol):
    """Something that computes steps: a model, or a table that pretends to be one."""

    def run(self, step: Step) -> Outcome:
        """Compute. Takes as long as it takes; never raises for what a model or a job is."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Running:
    """A job and how far it is."""

    job: Job
    arrival: int
    deadline: float
    text: Text
    splitter: Splitter
    context: list[int]
    """its prompt, then the answer so far"""
    reasoned: int = 0
    """tokens of the answer that were thought"""
    free: int = 0
    """tokens of the answer to the end of a thought"""
    begun: Begun | None = None
    told: int = 0
    """tokens of prefill that were told"""
    paused: float | None = None
    """since when"""
    slot: "_Slot | None" = None

    @property
    def written(self) -> int:
        """Tokens of the answer."""
        return len(self.context) - len(self.job.tokens)

    def usage(self) -> Usage:
        begun = self.begun or Begun(prompt=0, cached=0)
        return Usage(
            prompt=begun.prompt,
            cached=begun.cached,
            completion=self.written - self.reasoned,
            reasoning=self.reasoned,
        )


@dataclass(slots=True, kw_only=True, eq=False)
class _Slot:
    """Room for one job's computation; it remembers the last one's."""

    number: int
    cache: list[int] = field(default_factory=list)
    """the tokens whose rows the device has"""
    tag: bytes = b""
    """whose they are"""
    used: int = 0
    """when it was last given: the higher the later"""
    holder: _Running | None = None

    def shared(self, running: _Running) -> int:
        """Rows that this job need not compute again. The last one it must: its logits are drawn
        from."""
        if running.job.tag != self.tag:
            return 0
        pairs = zip(self.cache, running.context[:-1], strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    def missing(self) -> int:
        """Rows of its holder that are to be computed; 0 while it computes nothing."""
        running = self.holder
        if running is None or running.paused is not None:
            return 0
        return len(running.context) - len(self.cache)


@final
class Batcher:
    """Jobs in, steps out, outcomes in, events out. The numbers are the device's.

    `context` is the tokens of one slot, `batch` the rows of a step, and `beside` those of them that
    prompts may have while others answer; `grammars` is whether it knows any.
    """

    def __init__(
        self,
        *,
        context: int,
        batch: int,
        slots: int = 1,
        beside: int | None = None,
        grammars: bool = False,
    ) -> None:
        self._grammars = grammars
        self._context = context
        self._batch = batch
        self._beside = batch if beside is None else beside
        self._jobs: dict[int, _Running] = {}
        self._slots = tuple(_Slot(number=number) for number in range(slots))
        self._arrivals = self._given = 0
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
            job=job,
            arrival=self._arrivals,
            deadline=now + job.deadline_s,
            text=Text(job.stop),
            splitter=Splitter(job.voice),
            context=list(job.tokens),
        )

    def _objection(self, job: Job) -> Failed | None:
        if len(job.tokens) + job.max_tokens > self._context:
            return Failed(fault=Fault.TOO_LONG, detail=self._context)
        if job.grammar is not None and not self._grammars:
            return Failed(fault=Fault.UNSUPPORTED)
        if self._waiting() >= MAX_WAITING:
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
        self._empty(self._slots)

    # --- steps ---

    def plan(self, now: float) -> Step | None:
        """What to compute now; None while nothing is to be done before `next_deadline`."""
        self._expire(now)
        self._admit(now)
        rows = self._share()
        parts = [self._part(slot, rows[slot.number]) for slot in self._slots if slot.number in rows]
        return Step(parts=tuple(parts)) if parts else None

    def _share(self) -> dict[int, int]:
        """Rows of the next step, by slot: first those who answer, then prompts, oldest first."""
        busy = [slot for slot in self._slots if slot.missing()]
        answering = [slot for slot in busy if slot.missing() == 1][: self._batch]
        rows = {slot.number: 1 for slot in answering}
        room = self._batch - len(rows)
        if answering:
            room = min(room, self._beside)
        for slot in sorted(busy, key=_age):
            if slot.number not in rows and room > 0:
                rows[slot.number] = min(slot.missing(), room)
                room -= rows[slot.number]
        return rows

    def _part(self, slot: _Slot, rows: int) -> Part:
        running, start = slot.holder, len(slot.cache)
        assert running is not None
        is_last = start + rows == len(running.context)
        return Part(
            job=running.job.id,
            slot=slot.number,
            keep=start,
            tokens=tuple(running.context[start : start + rows]),
            draw=_draw(running) if is_last else None,
        )

    def applied(self, now: float, step: Step, outcome: Outcome) -> None:
        """Take what a step gave. Jobs of it may have been cancelled meanwhile."""
        self.steps += 1
        if outcome.fault is not None:
            self._fault(step, outcome.fault)
        elif outcome.emptied:
            self._empty([self._slots[number] for number in outcome.emptied])
        else:
            for part, drawn in zip(step.parts, outcome.drawn, strict=True):
                self._computed(now, part, drawn)

    def _fault(self, step: Step, fault: Fault) -> None:
        self._empty(self._slots)
        for part in step.parts:
            if part.job in self._jobs:
                self._end(self._jobs[part.job], Failed(fault=fault))

    def _computed(self, now: float, part: Part, drawn: Drawn | Fault | None) -> None:
        slot, running = self._slots[part.slot], self._jobs.get(part.job)
        slot.cache += part.tokens
        if running is None:
            return
        match drawn:
            case Drawn():
                self._take(now, running, drawn)
            case Fault():
                self._end(running, Failed(fault=drawn))
            case None:
                self._tell_progress(running, len(slot.cache))

    def next_deadline(self) -> float | None:
        """When `plan` may have news without a command."""
        times = [running.deadline for running in self._jobs.values()]
        if self._ready():
            holders = [slot.holder for slot in self._slots if slot.holder is not None]
            times += [one.paused + PAUSE_HOLD for one in holders if one.paused is not None]
        return min(times, default=None)

    def drain(self) -> list[tuple[int, JobEvent]]:
        """The events since the last call, in order, each with its job."""
        events, self._events = self._events, []
        return events

    def sizes(self) -> dict[str, int]:
        """The length of everything held."""
        return {
            "busy": len(self._jobs) - self._waiting(),
            "waiting": self._waiting(),
            "cache": sum(len(slot.cache) for slot in self._slots),
            "events": len(self._events),
        }

    # --- who has a slot ---

    def _waiting(self) -> int:
        return len(self._jobs) - sum(slot.holder is not None for slot in self._slots)

    def _ready(self) -> list[_Running]:
        """Those who would take a slot, in the order they came."""
        ready = [one for one in self._jobs.values() if one.slot is None and one.paused is None]
        return sorted(ready, key=lambda one: one.arrival)

    def _admit(self, now: float) -> None:
        for running in self._ready():
            slot = self._slot_for(running, now)
            if slot is None:
                return
            self._occupy(slot, running)

    def _slot_for(self, running: _Running, now: float) -> _Slot | None:
        """A free slot: the one with the longest prefix, else an empty one, else the one unused for
        longest; the lowest of equals. If none is free, one whose holder has been paused long."""
        free = [slot for slot in self._slots if slot.holder is None]
        if free:
            return min(free, key=lambda slot: _preference(slot, running))
        return next(self._idlers(now), None)

    def _idlers(self, now: float) -> Iterator[_Slot]:
        for slot in self._slots:
            held = slot.holder
            if held is not None and held.paused is not None and now >= held.paused + PAUSE_HOLD:
                yield slot

    def _occupy(self, slot: _Slot, running: _Running) -> None:
        """Give a slot, with as much of its cache as is a prefix and of the same tag."""
        if slot.holder is not None:
            slot.holder.slot = None
        self._given += 1
        shared = slot.shared(running)
        del slot.cache[shared:]
        slot.tag, slot.holder, slot.used = running.job.tag, running, self._given
        running.slot, running.told = slot, shared
        if running.begun is None:
            running.begun = Begun(prompt=len(running.job.tokens) - shared, cached=shared)
            self.tokens_in += running.begun.prompt
            self.tokens_reused += shared
            self._events.append((running.job.id, running.begun))

    def _empty(self, slots: Sequence[_Slot]) -> None:
        for slot in slots:
            slot.cache.clear()

    def _expire(self, now: float) -> None:
        for running in list(self._jobs.values()):
            if running.deadline <= now:
                self._end(running, _too_late(running))

    # --- what a step means ---

    def _tell_progress(self, running: _Running, done: int) -> None:
        if done - running.told >= PROGRESS_TOKENS:
            running.told = done
            self._events.append((running.job.id, Prefilled(done=done)))

    def _take(self, now: float, running: _Running, drawn: Drawn) -> None:
        first, splitter = running.written, running.splitter
        running.context.append(drawn.token)
        self.tokens_out += 1
        before = splitter.channel
        said = splitter.push(running.text.push(b"" if drawn.ends else drawn.text))
        channel = splitter.channel if before is not Channel.REASONING else before
        if channel is Channel.REASONING:
            running.reasoned, running.free = running.reasoned + 1, running.written
        end = self._ending(now, running, drawn)
        if end is not None:
            said += splitter.push(running.text.finish()) + splitter.finish()
            end = _with_calls(end, splitter)
        head = said.pop(0).text if said and said[0].channel is channel else ""
        piece = Piece(
            first=first,
            ids=(drawn.token,),
            text=head,
            channel=channel,
            logprobs=() if drawn.logprob is None else (drawn.logprob,),
            top=(drawn.top,) if drawn.top else (),
            texts=(drawn.texts,) if drawn.texts else (),
        )
        more = [Piece(first=first + 1, ids=(), text=one.text, channel=one.channel) for one in said]
        self._events += [(running.job.id, each) for each in (piece, *more)]
        if end is not None:
            self._end(running, end)

    def _ending(self, now: float, running: _Running, drawn: Drawn) -> Finished | Failed | None:
        has_called = running.splitter.calls and not running.job.voice.parallel
        if drawn.ends or running.text.stopped or has_called:
            return Finished(reason=Reason.STOP, usage=running.usage())
        if running.written >= running.job.max_tokens:
            return Finished(reason=Reason.LENGTH, usage=running.usage())
        return _too_late(running) if running.deadline <= now else None

    def _end(self, running: _Running, event: Finished | Failed) -> None:
        self._events.append((running.job.id, event))
        self._remove(running)

    def _remove(self, running: _Running) -> None:
        del self._jobs[running.job.id]
        if running.slot is not None:
            running.slot.holder = None
            running.slot = None


def _age(slot: _Slot) -> int:
    assert slot.holder is not None
    return slot.holder.arrival


def _preference(slot: _Slot, running: _Running) -> tuple[int, bool, int, int]:
    return -slot.shared(running), bool(slot.cache), slot.used, slot.number


def _draw(running: _Running) -> Draw:
    job = running.job
    thinks = running.splitter.channel is Channel.REASONING
    return Draw(
        sampling=job.sampling,
        answer=tuple(running.context[len(job.tokens) :]),
        logprobs=job.logprobs,
        grammar=None if thinks else job.grammar,
        free=running.free,
    )


def _with_calls(end: Finished | Failed, splitter: Splitter) -> Finished | Failed:
    """An answer that ends by itself, and called tools, waits for their results."""
    if isinstance(end, Finished) and end.reason is Reason.STOP and splitter.calls:
        return replace(end, reason=Reason.TOOL_CALLS)
    return end


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
        texts=tuple(value for piece in pieces for value in piece.texts),
    )
