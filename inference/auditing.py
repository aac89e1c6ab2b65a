"""A node's own answers, held against its own engine in idle moments: see `inference.audit`.

Whoever serves a model can check others who serve it. A worker cannot know which of its answers are
looked at, nor when: any can be, for an hour. What is kept of them is in memory alone.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, final

import trio

from inference import audit, body
from inference.audit import AuditBook, Claim, Verdict
from inference.engine.base import Engine, EngineState, Failed, Score
from inference.order import sampling_of
from inference.protocol import Prompt, Refusal, Work
from inference.request import Done
from p2p.entropy import Entropy

MAX_KEPT: Final = 64
"""answers that may wait to be audited; the oldest makes room"""

KEPT_FOR: Final = 3_600.0
"""seconds in which an answer may still be audited"""

LOOK_EVERY: Final = 5.0
"""seconds between two looks at whether the engine has nothing better to do"""

PER_MILLE: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What an audit came to."""

    done: Done
    verdict: Verdict
    mean: float
    """margin of a token of this answer"""


@final
class Auditor:
    """Start `run` in a nursery, and `offer` it whole answers.

    `identity` and `numerics` are the engine's: of the model that it has, and of how it computes;
    `exact` says whether engines of that class give the very same tokens. `told` hears each verdict.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        identity: bytes,
        numerics: bytes,
        exact: bool,
        share: float,
        entropy: Entropy,
        told: Callable[[Result], None],
    ) -> None:
        self._engine = engine
        self._identity = identity
        self._numerics = numerics if exact else b""
        self._share = round(share * PER_MILLE)
        self._entropy = entropy
        self._told = told
        self._kept: deque[tuple[float, Done]] = deque(maxlen=MAX_KEPT)
        self._news = trio.Event()
        self.book = AuditBook()

    def offer(self, done: Done) -> bool:
        """Perhaps keep an answer to be audited; whether it is."""
        if done.identity != self._identity or len(done.ids) < audit.LEAST_TOKENS:
            return False
        is_drawn = self._entropy.below(PER_MILLE) < self._share
        if not is_drawn and not self.book.wants_audit(done.worker, done.identity):
            return False
        self._kept.append((trio.current_time(), done))
        self._news.set()
        return True

    async def run(self) -> None:
        """Audit what is kept, one after another, while the engine is idle; until cancelled."""
        while True:
            while self._kept:
                kept, done = self._kept.popleft()
                await self._idle()
                if trio.current_time() - kept <= KEPT_FOR:
                    await self._audit(done)
            self._news = trio.Event()
            await self._news.wait()

    async def _idle(self) -> None:
        """Wait until nobody is answered here."""
        while True:
            statistics = self._engine.statistics()
            if statistics.state is EngineState.READY and not statistics.busy:
                return
            await trio.sleep(LOOK_EVERY)

    async def _audit(self, done: Done) -> None:
        claim = await claimed(self._engine, done, numerics=self._numerics)
        if claim is None:
            return
        verdict = self.book.note(trio.current_time(), claim)
        margins = claim.scored.margins
        self._told(Result(done=done, verdict=verdict, mean=sum(margins) / len(margins)))

    def sizes(self) -> dict[str, int]:
        """The length of every table."""
        return {"kept": len(self._kept), **self.book.sizes()}


async def claimed(engine: Engine, done: Done, *, numerics: bytes = b"") -> Claim | None:
    """An answer as an engine with the same model finds it; None if it cannot say.

    `numerics` is the engine's class if answers of it are the same to the last token, else empty.
    """
    if done.prompt is None:
        return None
    question = _question(done.prompt)
    if question is None:
        return None
    prepared = await engine.prepare(replace(question.prompt, date=done.prompt.date))
    if isinstance(prepared, Failed):
        return None
    sampling = replace(sampling_of(done.prompt), bias=question.bias)
    free = done.usage.reasoning if prepared.grammar is not None else 0
    task = Score(
        tokens=prepared.tokens,
        answer=done.ids,
        sampling=sampling,
        grammar=prepared.grammar,
        free=free,
    )
    scored = await engine.score(task)
    if isinstance(scored, Failed):
        return None
    return Claim(
        worker=done.worker,
        model=done.identity,
        sampling=sampling,
        prompt=done.usage.prompt + done.usage.cached,
        replayed=len(prepared.tokens),
        scored=scored,
        same_numerics=bool(numerics) and done.numerics == numerics,
    )


def _question(prompt: Prompt) -> body.Question | None:
    for work in (Work.CHAT, Work.TEXT):
        question = body.read(prompt.body, work)
        if not isinstance(question, Refusal):
            return question
    return None
