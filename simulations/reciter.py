"""An engine for the ledger's sake: it says numbers, at a pace, and computes nothing.

What matters here is how many tokens leave and when, who stops it, and how often it was told to
begin; what an answer says does not. See `inference.engine.base.Engine`.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, Self, final

import trio

from inference.engine.base import (
    Begun,
    EngineState,
    EngineStatistics,
    Failed,
    Fault,
    Finished,
    Generation,
    Job,
    JobEvent,
    Loaded,
    Piece,
    Plan,
    Prefilled,
    Prepared,
    Prompt,
    Reason,
    Score,
    Scored,
    Usage,
)

RATE: Final = 16.0
"""tokens a second of an answer"""

AT_ONCE: Final = 8
"""tokens of a piece"""


@final
class Reciter:
    """One answer for each job, as long as it may be; `slowed` stretches its time."""

    def __init__(self, slowed: Callable[[], float]) -> None:
        self._slowed = slowed

    async def load(self, plan: Plan) -> Loaded | Failed:
        """Nothing is to be loaded."""
        await trio.lowlevel.checkpoint()
        return Loaded(
            numerics=bytes(8),
            context=plan.context,
            slots=plan.slots,
            prompt_rate=400.0,
            answer_rate=RATE,
            seconds=0.0,
        )

    async def prepare(self, prompt: Prompt) -> Prepared | Failed:
        """Every byte is a token."""
        await trio.lowlevel.checkpoint()
        return Prepared(tokens=tuple((prompt.text or "?").encode()))

    @asynccontextmanager
    async def generate(self, job: Job) -> AsyncIterator[Generation]:
        """Begin to recite; leaving stops it."""
        yield _Recital(job, self._slowed)

    async def score(self, task: Score) -> Scored | Failed:
        """It has no model to hold an answer against."""
        await trio.lowlevel.checkpoint()
        return Failed(fault=Fault.UNSUPPORTED)

    async def unload(self) -> None:
        """Nothing was."""
        await trio.lowlevel.checkpoint()

    def statistics(self) -> EngineStatistics:
        """Always ready."""
        return EngineStatistics(state=EngineState.READY)


@final
class _Recital:
    """The events of one job."""

    def __init__(self, job: Job, slowed: Callable[[], float]) -> None:
        self._job = job
        self._slowed = slowed
        self._place = -2
        self._go = trio.Event()
        self._go.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> JobEvent:
        job, place = self._job, self._place
        if place > job.max_tokens:
            raise StopAsyncIteration
        await self._wait(place)
        if place == -2:
            self._place = -1
            return Begun(prompt=len(job.tokens), cached=0)
        if place == -1:
            self._place = 0
            return Prefilled(done=len(job.tokens))
        if place == job.max_tokens:
            self._place += 1
            usage = Usage(prompt=len(job.tokens), completion=job.max_tokens)
            return Finished(reason=Reason.LENGTH, usage=usage)
        ids = tuple(range(place, min(place + AT_ONCE, job.max_tokens)))
        self._place += len(ids)
        return Piece(first=place, ids=ids, text="la " * len(ids))

    def pause(self) -> None:
        self._go = trio.Event()

    def resume(self) -> None:
        self._go.set()

    async def _wait(self, place: int) -> None:
        if 0 <= place < self._job.max_tokens:
            await trio.sleep(AT_ONCE / RATE * self._slowed())
        await self._go.wait()
