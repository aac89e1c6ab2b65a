"""Many runs of an experiment: every point of its grid with every seed, on many processes.

A run that is already there is not run again, so a sweep that was broken off goes on where it was.
Results do not depend on the engine or the number of workers. This is the door to Dask, which the
extra `sim` brings; `concurrent.futures` needs nothing.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import Final, TypeAlias

from p2p.errors import LocalError
from simulations import data, frames, outputs, progress
from simulations.experiment import Experiment, Scalar, as_tree, from_tree
from simulations.outputs import MANIFEST
from simulations.reading import WrongExperiment
from simulations.recording import perform
from simulations.run import Run
from simulations.summing import Line, summarize

MAX_FILES: Final = 50_000_000
"""bytes of a run that a distant worker sends back"""

CONNECT_S: Final = 10
"""seconds in which a scheduler must answer"""

LOOK_S: Final = 1.0
"""seconds between lines about a sweep"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A run to be done."""

    exp: Experiment
    seed: int
    point: Mapping[str, Scalar]
    directory: Path

    @property
    def run_hash(self) -> str:
        """What names it."""
        return data.run_hash(self.exp, self.seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A run that was to be done: it is there, or why it is not."""

    task: Task
    run: Run | None
    error: str = ""
    """of a run whose process died"""
    resumed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A sweep that has ended."""

    exp: Experiment
    done: tuple[Done, ...]
    wall_s: float

    @property
    def runs(self) -> tuple[Run, ...]:
        """Those that are there, in order of point and seed."""
        return tuple(each.run for each in self.done if each.run is not None)

    def summary(self) -> tuple[Line, ...]:
        """Every metric at every point: mean, interval, number of seeds."""
        return summarize((each.task.point, each.run) for each in self.done if each.run is not None)

    def frame(self) -> object:
        """The summary as a polars frame; needs the extra `sim`."""
        lines = self.summary()
        keys = list(self.exp.sweep.grid)
        rows = [(*(line.point[key] for key in keys), *_row(line)) for line in lines]
        return frames.table([*keys, "metric", "unit", "mean", "low", "high", "n"], rows)


def tasks(exp: Experiment, out: Path) -> list[Task]:
    """Every run of an experiment."""
    return [
        Task(exp=at, seed=seed, point=point, directory=outputs.place(out, at, seed))
        for point, at in exp.points()
        for seed in exp.seeds()
    ]


def sweep(
    exp: Experiment,
    *,
    out: Path | None = None,
    workers: int | None = None,
    engine: str = "futures",
    say: Callable[[str], None] | None = None,
) -> Result:
    """Do every run that is not there yet; without `out` nothing stays on disk.

    Raises `WrongExperiment` for an engine that is none, and `LocalError` where it cannot be used.
    """
    if out is None:
        with tempfile.TemporaryDirectory(prefix="tussah-sim-") as directory:
            return sweep(exp, out=Path(directory), workers=workers, engine=engine, say=say)
    began = time.monotonic()
    todo = tasks(exp, out)
    there = {each.directory for each in todo if outputs.is_complete(each.directory, each.run_hash)}
    missing = [each for each in todo if each.directory not in there]

    errors: dict[Path, str] = {}
    told = time.monotonic()
    for count, (task, error) in enumerate(_engine(engine, workers)(missing), 1):
        if error:
            errors[task.directory] = error
        if say is not None and (time.monotonic() - told >= LOOK_S or count == len(missing)):
            told = time.monotonic()
            spent = told - began
            say(progress.sweep_line(len(there) + count, len(todo), spent, count))
    done = tuple(_done(each, errors, resumed=each.directory in there) for each in todo)
    return Result(exp=exp, done=done, wall_s=time.monotonic() - began)


Engine: TypeAlias = Callable[[Sequence[Task]], Iterator[tuple[Task, str]]]
"""Does tasks, and gives each with an empty text, or with why it could not be done."""


def _engine(name: str, workers: int | None) -> Engine:
    if workers is not None and workers < 1:
        raise WrongExperiment(f"There must be a worker at least, not {workers}.")
    if name == "here":
        return _here
    if name == "futures":
        count = workers or os.cpu_count() or 1
        return lambda todo: _on_futures(todo, count)
    if name.startswith("dask="):
        address = name.removeprefix("dask=")
        return lambda todo: _on_dask(todo, address)
    raise WrongExperiment(
        f"There is no engine {name}: take futures, here, or dask=tcp://host:port."
    )


def _row(line: Line) -> tuple[object, ...]:
    it = line.interval
    return line.metric, line.unit, it.mean, it.low, it.high, it.n


def _done(task: Task, errors: Mapping[Path, str], *, resumed: bool) -> Done:
    error = errors.get(task.directory, "")
    run = None if error else outputs.read(task.directory)
    return Done(task=task, run=run, error=error, resumed=resumed)


def _here(todo: Sequence[Task]) -> Iterator[tuple[Task, str]]:
    """One after the other in this process: for a look, and where none may be started."""
    for task in todo:
        perform(task.exp, task.seed, task.directory)
        yield task, ""


# --- processes of this machine ---


def _on_futures(todo: Sequence[Task], workers: int) -> Iterator[tuple[Task, str]]:
    """As many at once as there are workers.

    When a process dies nobody can tell which of the runs under way has killed it: they are run
    again, each alone, and the one that kills its process again has failed.
    """
    waiting = deque(todo)
    suspects: list[Task] = []
    while waiting:
        broken = yield from _in_a_pool(waiting, min(workers, len(waiting)))
        suspects += broken
    for task in suspects:
        if outputs.is_complete(task.directory, task.run_hash):
            yield task, ""
            continue
        broken = yield from _in_a_pool(deque([task]), 1)
        for each in broken:
            yield each, "its process died, twice"


def _in_a_pool(waiting: deque[Task], workers: int) -> Generator[tuple[Task, str], None, list[Task]]:
    """Work until nothing waits, or the pool breaks; returns what was under way then."""
    under_way: dict[Future[None], Task] = {}
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin)
    try:
        while waiting or under_way:
            while waiting and len(under_way) < workers:
                task = waiting[0]
                work = pool.submit(_work, as_tree(task.exp), task.seed, task.directory)
                under_way[work] = task
                waiting.popleft()
            for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                future.result()
                yield under_way.pop(future), ""
    except BrokenProcessPool:
        return list(under_way.values())
    except BaseException:  # whoever gives up a sweep does not want its processes to work on
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    return []


def _work(tree: Mapping[str, object], seed: int, directory: Path) -> None:
    """Do a run in a process that does nothing else."""
    perform(from_tree(tree), seed, directory, guarded=True)


def _begin() -> None:
    """Ctrl-C is for the parent, which ends us; and whatever ends the parent ends us, too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait_for([sentinel])
    os._exit(1)


# --- Dask ---


def _on_dask(todo: Sequence[Task], address: str) -> Iterator[tuple[Task, str]]:
    """On the workers of a running cluster; files come back as bytes and are written here."""
    if find_spec("distributed") is None:
        raise LocalError(f"--engine dask needs Dask, which is not installed. {frames.ADVICE}")
    from distributed import Client, as_completed

    try:
        client = Client(address, timeout=CONNECT_S, set_as_default=False)
    except OSError as error:
        raise LocalError(f"No Dask scheduler answers at {address}: {error}.") from error
    with client:
        futures = {
            client.submit(
                _work_afar,
                as_tree(task.exp),
                task.seed,
                str(task.directory),
                key=f"tussah-{task.run_hash}",
            ): task
            for task in todo
        }
        for future in as_completed(list(futures), loop=client.loop):
            task = futures[future]
            if future.status == "finished":
                yield task, _take(task, future.result())
            else:
                yield task, f"its worker failed: {future.exception()!r}"
            future.release()


def _work_afar(tree: Mapping[str, object], seed: int, known_as: str) -> dict[str, bytes]:
    """Do a run on another machine. No guard: the other threads of a Dask worker read clocks."""
    with tempfile.TemporaryDirectory(prefix="tussah-sim-") as name:
        directory = Path(name) / "run"
        perform(from_tree(tree), seed, directory, known_as=Path(known_as))
        files = {path.name: path.read_bytes() for path in sorted(directory.iterdir())}
    size = sum(map(len, files.values()))
    if size > MAX_FILES:
        raise LocalError(f"the run has {size} bytes of files, {MAX_FILES} may be sent: log less")
    return files


def _take(task: Task, files: Mapping[str, bytes]) -> str:
    """Write the files of a run as if it had run here; why not, if it was other code."""
    theirs = json.loads(files[MANIFEST])["run_hash"]
    if theirs != task.run_hash:
        return "its worker runs other code than this machine, or has other data"
    outputs.prepare(task.directory)
    for name in sorted(files, key=lambda name: name == MANIFEST):
        part = task.directory / f"{name}.part"
        part.write_bytes(files[name])
        part.rename(task.directory / name)
    return ""
