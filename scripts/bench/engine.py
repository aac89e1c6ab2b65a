"""What the engine makes of the model: its speed beside a bare decode loop, and how soon it hears.

Engine and loop have one configuration and are asked in turn, round by round; each is a process with
the model in memory, and only one of them computes at a time. The caller's clock is used for all.
"""

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias, final

import trio

from inference import catalogue
from inference.engine.base import (
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
from scripts.bench import foreign
from scripts.bench.bare import WORDS
from scripts.bench.report import Bench, Bound, Result, judged, middle
from scripts.failure import Failed

STREAMS: Final = (1, 4, 8, 16)
QUICK_STREAMS: Final = (1, 8)
CONTEXT: Final = 512

THREADS: Final = max(1, (os.cpu_count() or 2) // 2)
"""one to a core, for all subjects: two on one core wait for each other, and more on a busy machine
wait for everybody"""

TOKENS, QUICK_TOKENS = 96, 12

LONG: Final = "Silk is a natural fibre that moths make in three days of work. " * 26
"""a prompt of some 400 tokens, whose reading is what the first token waits for"""

LATENESS_EVERY: Final = 0.005
"""seconds between two looks at how late the event loop wakes"""

AIMS: Final = {
    **{f"tokens_per_second_{count}": Bound(least=0.95, of_ratio=True) for count in STREAMS},
    "ttft_ms_warm": Bound(most=0.15, of_ratio=True),
    "cancel_ms": Bound(most=1.0, of_ratio=True),
    "loop_lateness_ms_p99": Bound(most=10.0),
    "audit_cost_ratio": Bound(most=0.60),
}

if TYPE_CHECKING:  # the stubs that libp2p brings stand before trio's own types
    from trio_typing import TaskStatus

Say: TypeAlias = Callable[[str], None]


def measure(quick: bool, say: Say) -> Bench:
    """Run the benchmark."""
    path = catalogue.builtin_path()
    if path is None:
        raise Failed("failed", "The built-in model is not installed.", "See docs/operating.md.")
    rounds = 3
    length, streams = (QUICK_TOKENS, QUICK_STREAMS) if quick else (TOKENS, STREAMS)
    results = trio.run(_all, path, rounds, length, streams, say)
    rows, notes = foreign.measured(path, length, THREADS, results, say)
    return Bench(
        bench="engine",
        quick=quick,
        rounds=rounds,
        results=[*results, *rows],
        aims=judged(results, AIMS),
        notes=[
            f"each answer: a prompt of some 60 tokens of its own, {length} tokens, temperature 0.8",
            "cancel_ms: from leaving an answer to the first token of one that waited for its slot",
            f"{THREADS} threads for each, all of them at one niceness",
            *notes,
        ],
    )


async def _all(
    path: Path, rounds: int, length: int, streams: Sequence[int], say: Say
) -> list[Result]:
    plan = Plan(context=CONTEXT, slots=max(streams), threads=THREADS)
    with _bare(path, max(streams), CONTEXT) as bare:
        async with _engine(path, plan) as subject:
            results = []
            for count in streams:
                results += await _rates(subject, bare, count, rounds, length)
                say(_told(results[-2]))
            results += await _waits(subject, rounds)
            results.append(await _cancelling(subject, rounds, max(streams)))
            results.append(await _lateness(subject, length))
            results.append(await _audit_cost(subject, rounds, length))
            for row in results[2 * len(streams) :]:
                say(_told(row))
    return results


def _told(row: Result) -> str:
    ratio = "" if row.ratio is None else f", {row.ratio:.3f} x {row.against}"
    return f"{row.name}: {row.value:g} {row.unit}{ratio}"


# --- the subjects ---


@final
class Subject:
    """The engine, and jobs for it."""

    def __init__(self, engine: HostedEngine) -> None:
        self.engine = engine
        self._number = 0

    async def job(self, text: str, *, most: int, tag: bytes = b"") -> Job:
        """One that goes on to its last token."""
        prepared = await self.engine.prepare(Prompt(text=text))
        assert isinstance(prepared, Prepared)
        self._number += 1
        nonce = self._number.to_bytes(16, "big")
        unending = ((2, -100_000),)  # the built-in model's end of an answer
        return Job(
            id=self._number,
            tag=tag or nonce,
            tokens=prepared.tokens,
            max_tokens=most,
            sampling=Sampling(nonce=nonce, bias=unending),
        )

    async def answer(self, job: Job) -> tuple[Tokens, float]:
        """The tokens, and the seconds to the first of them."""
        began, first = time.perf_counter(), 0.0
        ids: list[int] = []
        async with self.engine.generate(job) as events:
            async for event in events:
                if isinstance(event, Piece):
                    first = first or time.perf_counter() - began
                    ids += event.ids
        return tuple(ids), first


@asynccontextmanager
async def _engine(path: Path, plan: Plan) -> AsyncIterator[Subject]:
    engine = HostedEngine(path)
    async with trio.open_nursery() as nursery:
        await nursery.start(engine.run)
        loaded = await engine.load(plan)
        if not isinstance(loaded, Loaded):
            raise Failed("failed", f"The engine did not load: {loaded.fault.name}.")
        yield Subject(engine)
        nursery.cancel_scope.cancel()


@final
class Bare:
    """The loop to compare with."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def seconds(self, streams: int, length: int) -> float:
        """How long so many answers take side by side."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{streams} {length}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())


@contextmanager
def _bare(path: Path, streams: int, context: int) -> Iterator[Bare]:
    command = [sys.executable, "-m", "scripts.bench.bare", str(path)]
    command += [str(streams), str(context), str(THREADS)]
    environment = {**os.environ, "GOMP_SPINCOUNT": "1000", "PYTHONPATH": _root()}
    with subprocess.Popen(  # noqa: S603 - our own program
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        text=True,
    ) as process:
        try:
            yield Bare(process)
        finally:
            process.kill()


def _root() -> str:
    found = importlib.util.find_spec("scripts")
    assert found is not None
    assert found.submodule_search_locations is not None
    return str(Path(next(iter(found.submodule_search_locations))).parent)


# --- what is measured ---


async def _rates(
    subject: Subject, bare: Bare, count: int, rounds: int, length: int
) -> list[Result]:
    """Tokens a second of so many answers at once, beside the loop, and beside one by one."""
    ours, ratios, serial = [], [], []
    await _side_by_side(subject, count, 4)
    await trio.to_thread.run_sync(bare.seconds, count, 4)
    for _ in range(rounds):
        seconds = await _side_by_side(subject, count, length)
        theirs = await trio.to_thread.run_sync(bare.seconds, count, length)
        ours.append(count * length / seconds)
        ratios.append(theirs / seconds)
        serial.append(await _one_by_one(subject, min(count, 2), length) / seconds * count)
    rate = middle(ours, 1)
    name = f"tokens_per_second_{count}"
    against = "bare batched decode loop"
    return [
        Result(name=name, value=rate, unit="1/s", ratio=middle(ratios), against=against),
        Result(
            name=f"{name}_vs_serial",
            value=rate,
            unit="1/s",
            ratio=middle(serial),
            against="one after another",
        ),
    ]


async def _side_by_side(subject: Subject, count: int, length: int) -> float:
    jobs = [await subject.job(WORDS.format(n, n, n, n), most=length) for n in range(count)]
    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for job in jobs:
            nursery.start_soon(subject.answer, job)
    return time.perf_counter() - began


async def _one_by_one(subject: Subject, count: int, length: int) -> float:
    """Seconds of one answer that has the engine to itself, of so many."""
    jobs = [await subject.job(WORDS.format(n, n, n, n), most=length) for n in range(count)]
    began = time.perf_counter()
    for job in jobs:
        await subject.answer(job)
    return (time.perf_counter() - began) / count


async def _waits(subject: Subject, rounds: int) -> list[Result]:
    """Milliseconds to the first token: of a prompt that is new, known, and known to another."""
    cold, warm, foreign_tag = [], [], []
    for number in range(rounds + 1):
        text, tag = f"{number} {LONG}", b"tag%13d" % number
        cold.append((await subject.answer(await subject.job(text, most=1, tag=tag)))[1])
        warm.append((await subject.answer(await subject.job(text, most=1, tag=tag)))[1])
        foreign_tag.append((await subject.answer(await subject.job(text, most=1)))[1])
    first, again, other = (middle(times) * 1_000 for times in (cold, warm, foreign_tag))
    return [
        Result(name="ttft_ms_cold", value=round(first, 1), unit="ms"),
        Result(
            name="ttft_ms_warm",
            value=round(again, 1),
            unit="ms",
            ratio=round(again / first, 3),
            against="the same prompt for the first time",
        ),
        Result(
            name="ttft_ms_other_circuit",
            value=round(other, 1),
            unit="ms",
            ratio=round(other / first, 3),
            against="the same prompt for the first time",
        ),
    ]


async def _cancelling(subject: Subject, rounds: int, slots: int) -> Result:
    """Milliseconds from leaving an answer to the first token of one that waited for its slot."""
    waits = []
    for number in range(rounds):
        jobs = [await subject.job(f"{number} {n} One", most=200) for n in range(slots)]
        next_job = await subject.job("Two", most=1)
        async with trio.open_nursery() as nursery:
            scopes = [await nursery.start(_hold, subject, job) for job in jobs]
            waits.append(await _slot_after(subject, next_job, scopes[0]))
            nursery.cancel_scope.cancel()
    step = await _step_ms(subject, slots)
    value = round(middle(waits, 4) * 1_000, 1)
    ratio = round(value / (2 * step), 3)  # the step under way, and the one that draws the token
    return Result(name="cancel_ms", value=value, unit="ms", ratio=ratio, against="two steps")


async def _hold(
    subject: Subject,
    job: Job,
    task_status: "TaskStatus[trio.CancelScope]" = trio.TASK_STATUS_IGNORED,
) -> None:
    with trio.CancelScope() as scope:
        async with subject.engine.generate(job) as events:
            async for event in events:
                if isinstance(event, Piece) and event.first == 0:
                    task_status.started(scope)


async def _slot_after(subject: Subject, job: Job, holder: trio.CancelScope) -> float:
    async with subject.engine.generate(job) as events:
        await trio.sleep(0.05)
        began = time.perf_counter()
        holder.cancel()
        async for event in events:
            if isinstance(event, Piece):
                break
        return time.perf_counter() - began


async def _step_ms(subject: Subject, slots: int) -> float:
    """Of a step in which all slots answer."""
    long = await _side_by_side(subject, slots, 12)
    short = await _side_by_side(subject, slots, 2)
    return max((long - short) / 10 * 1_000, 1.0)


async def _lateness(subject: Subject, length: int) -> Result:
    """How late this process's event loop wakes while the engine computes four answers."""
    late: list[float] = []

    async def look() -> None:
        while True:
            due = trio.current_time() + LATENESS_EVERY
            await trio.sleep_until(due)
            late.append(trio.current_time() - due)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        await _side_by_side(subject, 4, length)
        nursery.cancel_scope.cancel()
    worst = sorted(late)[int(len(late) * 0.99)]
    return Result(name="loop_lateness_ms_p99", value=round(worst * 1_000, 2), unit="ms")


async def _audit_cost(subject: Subject, rounds: int, length: int) -> Result:
    """Seconds of a replay over those of the answer, which had the engine to itself."""
    ratios = []
    for number in range(rounds):
        job = await subject.job(WORDS.format(*[number] * 4), most=min(length, 64))
        began = time.perf_counter()
        ids, _ = await subject.answer(job)
        between = time.perf_counter()
        task = Score(tokens=job.tokens, answer=ids, sampling=job.sampling)
        scored = await subject.engine.score(task)
        assert isinstance(scored, Scored)
        ratios.append((time.perf_counter() - between) / (between - began))
    return Result(name="audit_cost_ratio", value=middle(ratios), unit="x")
