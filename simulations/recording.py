"""A run that leaves its directory behind: run, written, and not run again once it is there."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from simulations import outputs
from simulations.experiment import Experiment
from simulations.log import Record
from simulations.progress import Journal
from simulations.run import Moment, Run, run


def perform(
    exp: Experiment,
    seed: int,
    directory: Path,
    *,
    progress: Callable[[Moment], None] | None = None,
    guarded: bool = False,
    known_as: Path | None = None,
) -> Run:
    """Run with one seed, and write all of it to a directory, which is emptied first.

    `known_as` is where it will lie in the end, if not there.
    """
    outputs.prepare(directory)
    with _sink(exp, directory) as sink, (directory / "progress.jsonl").open("w") as file:
        journal = Journal(file)

        def told(moment: Moment) -> None:
            journal(moment)
            if progress is not None:
                progress(moment)

        result = run(exp, seed, progress=told, sink=sink, guarded=guarded)
    outputs.write(result, directory, known_as or directory)
    return result


@contextmanager
def _sink(exp: Experiment, directory: Path) -> Iterator[Callable[[Record], None] | None]:
    if exp.run.log in ("off", "digest"):
        yield None
        return
    with outputs.events(directory) as sink:
        yield sink
