"""Whether audits find cheats and spare the honest: real answers of both, held against one model.

Every subject answers the same kinds of questions with seeds that were never used before; the judge
has the file that all of them claim to serve. Honest subjects differ in what honest machines differ
in: what runs beside an answer, threads, kernels, caches. Cheats save work: cheaper weights made of
the same file, seeds that they choose themselves, another prompt than was asked for. The limits
stand in `inference.audit` and were fixed before.
"""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, TypeAlias

import trio

import inference
from inference import audit, catalogue
from inference.audit import AuditBook, Claim, Sums, Verdict
from inference.engine.base import (
    ChatMessage,
    Finished,
    Job,
    Loaded,
    Piece,
    Plan,
    Prepared,
    Prompt,
    Sampling,
    Score,
    Scored,
    Tokens,
)
from inference.engine.host import HostedEngine
from p2p.entropy import Entropy, SystemEntropy
from p2p.identity import AdnlId
from scripts.bench.report import Bench, Bound, Result, judged
from scripts.failure import Failed

TOKENS: Final = 64
"""of an answer"""

ANSWERS, QUICK_ANSWERS = 50, 4
CONTEXT, SLOTS = 512, 4

MODEL: Final = bytes(32)
"""the one identity that all subjects claim"""

SYSTEM: Final = ChatMessage(role="system", content="Answer in one short sentence.")
"""what a worker puts before a prompt to have less to do"""

Say: TypeAlias = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A worker: how it computes, and what it does otherwise than it says."""

    name: str
    plan: Plan
    is_honest: bool = True
    weights: str = ""
    """type that its file was made into; empty: the file itself"""
    own_seed: bool = False
    own_prompt: bool = False


USUAL: Final = Plan(context=CONTEXT, slots=SLOTS)

SUBJECTS: Final = (
    Subject(name="honest_same_build", plan=USUAL),
    Subject(name="honest_flash_attention_off", plan=replace(USUAL, flash_attention=False)),
    Subject(
        name="honest_other_threads_and_batches",
        plan=replace(USUAL, threads=1, slots=3, batch=96, reproducible=False),
    ),
    Subject(name="cheat_q4_0", plan=USUAL, is_honest=False, weights="q4_0"),
    Subject(name="cheat_q4_k_s", plan=USUAL, is_honest=False, weights="q4_k_s"),
    Subject(name="cheat_wrong_seed", plan=USUAL, is_honest=False, own_seed=True),
    Subject(name="cheat_wrong_template", plan=USUAL, is_honest=False, own_prompt=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a subject gave."""

    messages: tuple[ChatMessage, ...]
    sampling: Sampling
    ids: Tokens
    read: int
    """tokens of the prompt, as it counts them"""


@dataclass(slots=True, kw_only=True)
class Record:
    """How a subject did."""

    subject: Subject
    book: AuditBook = field(default_factory=AuditBook)
    verdict: Verdict = Verdict.OPEN
    banned_at: int | None = None
    """answers after which it was banned"""
    suspended: int = 0
    equal: int = 0
    tokens: int = 0
    worst: float = 0.0
    """the largest mean of one answer"""

    @property
    def id(self) -> AdnlId:
        """One of its own, so that sums are kept apart."""
        return AdnlId(sha256(self.subject.name.encode()).digest())

    @property
    def mean(self) -> float:
        """Margin of a token."""
        return self.book.sums(self.id, MODEL).get("sampled", Sums()).mean

    @property
    def is_wrong(self) -> bool:
        """The audit said what is not so."""
        return (self.banned_at is not None) == self.subject.is_honest

    def note(self, number: int, claim: Claim) -> None:
        """Book one audited answer."""
        margins = claim.scored.margins
        self.equal += sum(not margin for margin in margins)
        self.tokens += len(margins)
        self.worst = max(self.worst, sum(margins) / len(margins))
        self.verdict = self.book.note(float(number), claim)
        self.suspended += self.verdict is Verdict.SUSPECT
        if self.verdict is Verdict.FAILED and self.banned_at is None:
            self.banned_at = number


def measure(quick: bool, say: Say, model: Path | None = None) -> Bench:
    """Run the benchmark; `model` is another file than the built-in one."""
    source = model or catalogue.builtin_path()
    if source is None:
        raise Failed("failed", "The built-in model is not installed.", "Name a file with --model.")
    answers = QUICK_ANSWERS if quick else ANSWERS
    with TemporaryDirectory() as place:
        records = trio.run(_all, source, Path(place), answers, say)
    return _bench(records, quick=quick, answers=answers, is_builtin=model is None)


async def _all(source: Path, place: Path, answers: int, say: Say) -> list[Record]:
    records, entropy = [], SystemEntropy()
    async with _loaded(source, USUAL) as (judge, numerics):
        for subject in SUBJECTS:
            path = await _file(source, place, subject)
            async with _loaded(path, subject.plan) as (engine, own):
                given = await _answers(engine, subject, answers, entropy)
            record = Record(subject=subject)
            for number, answer in enumerate(given, 1):
                claim = await _audited(judge, record.id, answer, same=own == numerics)
                record.note(number, claim)
            say(_line(record))
            records.append(record)
    return records


def _line(record: Record) -> str:
    banned = f", banned after {record.banned_at}" if record.banned_at is not None else ""
    equal = record.equal / record.tokens
    return (
        f"{record.subject.name}: {equal:.3f} of {record.tokens} tokens equal, "
        f"mean margin {record.mean:.4f}, worst answer {record.worst:.4f}, "
        f"{record.verdict.value}{banned}"
    )


async def _file(source: Path, place: Path, subject: Subject) -> Path:
    """The file that a subject really serves."""
    if not subject.weights:
        return source
    target = place / f"{subject.weights}.gguf"
    command = [sys.executable, "-P", "-m", "inference.engine.requantise"]
    made = await trio.run_process(
        [*command, str(source), str(target), subject.weights],
        check=False,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(Path(inference.__path__[0]).parent)},
    )
    if made.returncode:
        message = f"No file with {subject.weights} weights can be made of {source}."
        raise Failed("failed", message, "See whether the disk has room for another copy.")
    return target


@asynccontextmanager
async def _loaded(path: Path, plan: Plan) -> AsyncIterator[tuple[HostedEngine, bytes]]:
    engine = HostedEngine(path)
    async with trio.open_nursery() as nursery:
        await nursery.start(engine.run)
        loaded = await engine.load(plan)
        if not isinstance(loaded, Loaded):
            raise Failed("failed", f"{path} did not load: {loaded.fault.name}.")
        yield engine, loaded.numerics
        nursery.cancel_scope.cancel()


async def _answers(
    engine: HostedEngine, subject: Subject, count: int, entropy: Entropy
) -> list[Answer]:
    """As many as are wanted, `SLOTS` at once."""
    given: list[Answer] = []
    todo = iter(range(1, count + 1))

    async def work() -> None:
        while (number := next(todo, None)) is not None:
            given.append(await _answer(engine, subject, number, entropy))

    async with trio.open_nursery() as nursery:
        for _ in range(subject.plan.slots):
            nursery.start_soon(work)
    return given


async def _answer(engine: HostedEngine, subject: Subject, number: int, entropy: Entropy) -> Answer:
    messages = audit.canary(entropy)
    asked = Sampling(nonce=entropy.token(16))
    drawn = replace(asked, nonce=entropy.token(16)) if subject.own_seed else asked
    prepared = await _prepared(engine, (SYSTEM, *messages) if subject.own_prompt else messages)
    honest = await _prepared(engine, messages)
    job = Job(
        id=number,
        tag=number.to_bytes(16, "big"),
        tokens=prepared.tokens,
        max_tokens=TOKENS,
        sampling=drawn,
    )
    ids: list[int] = []
    async with engine.generate(job) as events:
        async for event in events:
            match event:
                case Piece():
                    ids += event.ids
                case Finished():
                    return Answer(  # a cheat counts as it is expected to
                        messages=messages,
                        sampling=asked,
                        ids=tuple(ids),
                        read=len(honest.tokens),
                    )
                case _:
                    pass
    raise Failed("failed", "The engine failed in the middle of an answer.")


async def _prepared(engine: HostedEngine, messages: Sequence[ChatMessage]) -> Prepared:
    prepared = await engine.prepare(Prompt(messages=tuple(messages)))
    if not isinstance(prepared, Prepared):
        raise Failed("failed", f"The prompt was refused: {prepared.fault.name}.")
    return prepared


async def _audited(judge: HostedEngine, worker: AdnlId, answer: Answer, *, same: bool) -> Claim:
    prepared = await _prepared(judge, answer.messages)
    task = Score(tokens=prepared.tokens, answer=answer.ids, sampling=answer.sampling)
    scored = await judge.score(task)
    if not isinstance(scored, Scored):
        raise Failed("failed", f"The replay failed: {scored.fault.name}.")
    return Claim(
        worker=worker,
        model=MODEL,
        sampling=answer.sampling,
        prompt=answer.read,
        replayed=len(prepared.tokens),
        scored=scored,
        same_numerics=same,
    )


# --- what is told ---


def _bench(records: Sequence[Record], *, quick: bool, answers: int, is_builtin: bool) -> Bench:
    honest = [record for record in records if record.subject.is_honest]
    cheats = [record for record in records if not record.subject.is_honest]
    results = [
        Result(name="honest_failed", value=float(_wrong(honest)), unit="workers"),
        Result(name="cheats_passed", value=float(_wrong(cheats)), unit="workers"),
        Result(
            name="honest_suspended",
            value=float(sum(record.suspended for record in honest)),
            unit="answers",
        ),
        *(row for record in records for row in _rows(record)),
    ]
    bounds = {"honest_failed": Bound(most=0.0), "cheats_passed": Bound(most=0.0)}
    notes = [
        f"{answers} answers of up to {TOKENS} tokens for each subject; questions and seeds are new",
        f"limits, fixed before: {_limits()}",
    ]
    if quick:
        notes.append("a quick run has too few tokens for every ban: its counts are for a look")
    if not is_builtin:
        notes.append("the limits are those of the built-in model: for another they may not hold")
    return Bench(
        bench="audit",
        quick=quick,
        rounds=answers,
        results=results,
        aims=judged(results, bounds),
        notes=notes,
    )


def _wrong(records: Sequence[Record]) -> int:
    return sum(record.is_wrong for record in records)


def _limits() -> str:
    return ", ".join(f"{mean:g} from {tokens} tokens on" for tokens, mean in audit.SAMPLED)


def _rows(record: Record) -> list[Result]:
    name = record.subject.name
    equal = round(record.equal / record.tokens, 4) if record.tokens else 0.0
    rows = [
        Result(name=f"{name}_mean_margin", value=round(record.mean, 5), unit="margin"),
        Result(name=f"{name}_worst_answer", value=round(record.worst, 5), unit="margin"),
        Result(name=f"{name}_tokens_equal", value=equal, unit="x"),
    ]
    if record.banned_at is not None:
        banned = float(record.banned_at)
        rows.append(Result(name=f"{name}_banned_after", value=banned, unit="answers"))
    return rows
