"""A seeded engine without a model: the real order of steps, logits from a hash, time from a table.

It is the executable specification of an engine: whatever runs on it runs on llama.cpp, and one
suite holds both to it. The logits of a row are a hash of (seed, context), so the same job gives
the same answer on every machine, and replaying an answer works as it does with a model.
"""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, final

import numpy as np
import trio

from inference.engine import sample
from inference.engine.base import (
    EngineState,
    EngineStatistics,
    Failed,
    Fault,
    Generation,
    Job,
    Loaded,
    Plan,
    Prepared,
    Prompt,
    Score,
    Scored,
    Tokens,
)
from inference.engine.batch import Batcher, Draw, Drawn, Outcome, Part, Step, rows_beside
from inference.engine.stream import EventStream

if TYPE_CHECKING:  # the stubs that libp2p brings stand before trio's own types
    from trio_typing import TaskStatus

END: Final = 256
"""the token that ends an answer; those below are the 256 bytes, of which prompts are made"""

_SAYING: Final = (
    "wild silk is what you get from cocoons that nobody farms , so a moth may leave its house by"
    " the door ; one thread can be a mile long and worms spin it in three days of work"
)

_WORDS: Final = _SAYING.split()

EURO_FIRST: Final = END + 1 + len(_WORDS)
EURO_LAST: Final = EURO_FIRST + 1
"""two tokens that share the character U+20AC: the first is always followed by the last"""

_TEXTS: Final = (
    *(bytes([value]) for value in range(256)),
    b"",
    *(b" " + word.encode() for word in _WORDS),
    b" \xe2\x82",
    b"\xac",
)

VOCABULARY: Final = len(_TEXTS)

NEXT_ANSWER: Final = 0.6
"""of the time that a step takes for one answer, what each further one adds (measured: SmolLM2-135M
Q4_1 on two cores, up to 16)"""

END_AFTER: Final = 24
"""tokens of an answer from which the end grows likely"""


@final
class FakeDevice:
    """A `Device` whose numbers are a hash; `quality` above 0 stands for worse weights."""

    def __init__(self, seed: int, *, quality: float = 0.0) -> None:
        self._key = blake2b(str(seed).encode(), digest_size=32, person=b"tussah.fake").digest()
        self._quality = quality
        self._caches: dict[int, Tokens] = {}

    def run(self, step: Step) -> Outcome:
        """Compute a step, in no time: the cost is `FakeEngine`'s matter."""
        return Outcome(drawn=tuple(self._compute(part) for part in step.parts))

    def _compute(self, part: Part) -> Drawn | None:
        cache = self._caches.get(part.slot, ())
        if part.keep > len(cache):
            raise ValueError("a step keeps more than was computed")
        context = self._caches[part.slot] = cache[: part.keep] + part.tokens
        return None if part.draw is None else self._draw(context, part.draw)

    def score(self, task: Score) -> Scored:
        """The margins of a claimed answer."""
        margins = []
        for index, claimed in enumerate(task.answer):
            before = task.answer[:index]
            row = self.logits(task.tokens + before, index)
            margins.append(sample.margin(row, task.sampling, before, claimed))
        return Scored(margins=tuple(margins))

    def logits(self, context: Tokens, index: int) -> sample.Row:
        """The row after `context`, whose last `index` tokens are the answer."""
        row = self._noise(context, b"")
        row[:256] -= np.float32(100.0)
        row[EURO_LAST] -= np.float32(100.0)
        row[END] += np.float32(max(-50.0, 0.5 * (index - END_AFTER)) if index < 100 else 50.0)
        if context[-1] == EURO_FIRST:
            row[EURO_LAST] += np.float32(200.0)
        if self._quality:
            row += np.float32(self._quality) * self._noise(context, b"worse")
        return row

    def _noise(self, context: Tokens, person: bytes) -> sample.Row:
        """Uniform in [0, 8): likely enough differences that sampling has a choice."""
        text = np.asarray(context, dtype="<u4").tobytes()
        seed = blake2b(text, digest_size=16, key=self._key, person=person).digest()
        raw = np.random.Philox(key=int.from_bytes(seed, "little")).random_raw(VOCABULARY)
        return ((raw >> np.uint64(40)).astype(np.float32) * np.float32(8 / 2**24)).copy()

    def _draw(self, context: Tokens, draw: Draw) -> Drawn:
        row = self.logits(context, len(draw.answer))
        token = sample.choose(row, draw.sampling, draw.answer)
        ends = token == END
        if not draw.logprobs:
            return Drawn(token=token, text=_TEXTS[token], ends=ends)
        logs = sample.logprobs(row)
        top = sample.most_likely(logs, draw.logprobs)
        return Drawn(
            token=token,
            text=_TEXTS[token],
            ends=ends,
            logprob=float(logs[token]),
            top=top,
            texts=(_TEXTS[token], *(_TEXTS[other] for other, _ in top)),
        )


@final
class FakeEngine:
    """An `Engine` over `FakeDevice`. Start `run` in a nursery; steps cost time by the two rates.

    `sleep` and `clock` are trio's unless a test wants others; under `MockClock` it jumps.
    """

    def __init__(
        self,
        seed: int,
        *,
        prompt_rate: float = 450.0,
        answer_rate: float = 140.0,
        load_seconds: float = 1.0,
        quality: float = 0.0,
        sleep: Callable[[float], Awaitable[None]] = trio.sleep,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self._device = FakeDevice(seed, quality=quality)
        self._rates = prompt_rate, answer_rate
        self._load_seconds = load_seconds
        self._sleep = sleep
        self._clock = clock
        self._batcher: Batcher | None = None
        self._plan = Plan()
        self._streams: dict[int, EventStream] = {}
        self._news = trio.Event()
        self._step: tuple[Step, trio.CancelScope] | None = None
        self._left: dict[int, None] = {}
        """jobs of the step that were cancelled in it"""
        self._faults: Counter[Fault] = Counter()
        self._numerics = blake2b(f"fake;{seed};{quality}".encode(), digest_size=8).digest()

    async def run(self, *, task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        """Compute steps until cancelled."""
        task_status.started()
        while True:
            step = self._batcher.plan(self._clock()) if self._batcher is not None else None
            self._deliver()
            if step is None:
                await self._idle()
            else:
                await self._compute(step)

    async def load(self, plan: Plan) -> Loaded | Failed:
        """Be ready for jobs."""
        await self.unload()
        await self._sleep(self._load_seconds)
        self._plan = plan
        prompt_rate, answer_rate = self._rates
        self._batcher = Batcher(
            context=plan.context,
            batch=plan.batch,
            slots=plan.slots,
            beside=rows_beside(prompt_rate, plan.batch),
        )
        return Loaded(
            numerics=self._numerics,
            context=plan.context,
            slots=plan.slots,
            prompt_rate=prompt_rate,
            answer_rate=answer_rate,
            seconds=self._load_seconds,
        )

    async def prepare(self, prompt: Prompt) -> Prepared | Failed:
        """Every byte is a token; a conversation is one line per message."""
        await trio.lowlevel.checkpoint()
        if self._batcher is None:
            return Failed(fault=Fault.NO_MODEL)
        if prompt.schema or prompt.tools:
            return Failed(fault=Fault.UNSUPPORTED)
        text = prompt.text
        if text is None:
            said = [f"{message.role}: {message.content}\n" for message in prompt.messages]
            text = "".join((*said, "assistant:"))
        if not text:
            return Failed(fault=Fault.BAD_REQUEST)
        if len(data := text.encode()) >= self._plan.context:
            return Failed(fault=Fault.TOO_LONG, detail=self._plan.context)
        return Prepared(tokens=tuple(data), stop=tuple(stop.encode() for stop in prompt.stop))

    @asynccontextmanager
    async def generate(self, job: Job) -> AsyncIterator[Generation]:
        """Queue a job; leaving cancels it."""
        stream = self._submit(job)
        try:
            yield stream
        finally:
            self._streams.pop(job.id, None)
            self._cancel(job.id)

    async def score(self, task: Score) -> Scored | Failed:
        """The margins of a claimed answer, at the speed of a prompt."""
        await trio.lowlevel.checkpoint()
        if self._batcher is None:
            return Failed(fault=Fault.NO_MODEL)
        rows = len(task.tokens) + len(task.answer)
        if rows > self._plan.context:
            return Failed(fault=Fault.TOO_LONG, detail=self._plan.context)
        await self._sleep(rows / self._rates[0])
        return self._device.score(task)

    async def unload(self) -> None:
        """Forget the model; jobs end."""
        await trio.lowlevel.checkpoint()
        if self._batcher is not None:
            self._batcher.fail_all(Fault.NO_MODEL)
            self._deliver()
            self._batcher = None

    def statistics(self) -> EngineStatistics:
        """A snapshot."""
        if (batcher := self._batcher) is None:
            return EngineStatistics(state=EngineState.EMPTY, faults=dict(self._faults))
        sizes = batcher.sizes()
        return EngineStatistics(
            state=EngineState.READY,
            numerics=self._numerics,
            slots=self._plan.slots,
            busy=sizes["busy"],
            waiting=sizes["waiting"],
            steps=batcher.steps,
            tokens_in=batcher.tokens_in,
            tokens_out=batcher.tokens_out,
            tokens_reused=batcher.tokens_reused,
            cancels=batcher.cancels,
            faults=dict(self._faults),
        )

    # --- the loop ---

    async def _idle(self) -> None:
        due = self._batcher.next_deadline() if self._batcher is not None else None
        self._news = trio.Event()
        with trio.CancelScope() as scope:
            if due is None:
                await self._news.wait()
                return
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._wake_by_news, scope)
                await self._sleep(due - self._clock())
                scope.cancel()

    async def _wake_by_news(self, scope: trio.CancelScope) -> None:
        await self._news.wait()
        scope.cancel()

    async def _compute(self, step: Step) -> None:
        """Cost first, then the outcome; a step none of whose jobs is wanted is cut short."""
        batcher = self._batcher
        with trio.CancelScope() as scope:
            self._step = step, scope
            self._left.clear()
            await self._sleep(self._seconds(step))
        self._step = None
        if batcher is None or batcher is not self._batcher:
            return
        emptied = Outcome(emptied=tuple(part.slot for part in step.parts))
        outcome = emptied if scope.cancelled_caught else self._device.run(step)
        batcher.applied(self._clock(), step, outcome)
        self._deliver()

    def _seconds(self, step: Step) -> float:
        prompt_rate, answer_rate = self._rates
        answers = sum(len(part.tokens) == 1 for part in step.parts)
        seconds = (step.rows - answers) / prompt_rate
        return seconds + (1 + (answers - 1) * NEXT_ANSWER) / answer_rate if answers else seconds

    def _deliver(self) -> None:
        if self._batcher is None:
            return
        for job_id, event in self._batcher.drain():
            if isinstance(event, Failed):
                self._faults[event.fault] += 1
            if job_id in self._streams:
                self._streams[job_id].put(event)

    # --- commands ---

    def _submit(self, job: Job) -> EventStream:
        if job.id in self._streams:
            raise ValueError(f"job {job.id} is here already")
        stream = EventStream(lambda: self._pause(job.id), lambda: self._resume(job.id))
        if self._batcher is None:
            self._faults[Fault.NO_MODEL] += 1
            stream.put(Failed(fault=Fault.NO_MODEL))
            return stream
        self._streams[job.id] = stream
        self._batcher.submit(self._clock(), job)
        self._news.set()
        return stream

    def _cancel(self, job_id: int) -> None:
        if self._batcher is not None:
            self._batcher.cancel(job_id)
        if self._step is not None:
            step, scope = self._step
            self._left[job_id] = None
            if all(part.job in self._left for part in step.parts):
                scope.cancel()
        self._news.set()

    def _pause(self, job_id: int) -> None:
        if self._batcher is not None:
            self._batcher.pause(self._clock(), job_id)
            self._news.set()

    def _resume(self, job_id: int) -> None:
        if self._batcher is not None:
            self._batcher.resume(job_id)
            self._news.set()
