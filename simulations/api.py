"""What researchers write against: a `Study` runs, sweeps, or is stepped by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from simulations import experiment, outputs
from simulations import run as running
from simulations import sweep as sweeping
from simulations.experiment import Experiment, Scalar, ready
from simulations.progress import Talk
from simulations.reading import WrongExperiment
from simulations.recording import perform
from simulations.run import Run, Trial
from simulations.sweep import Result

__all__ = ["Result", "Run", "Study", "Trial", "load", "ready"]


@dataclass(frozen=True, slots=True)
class Study:
    """An experiment at hand. Raises `WrongExperiment` for what is none."""

    exp: Experiment

    def with_(self, changes: Mapping[str, object] | None = None, **named: object) -> Study:
        """Another one with other values, by dotted key; a bare one may be of `run`."""
        return Study(self.exp.with_(changes, **named))

    def run(
        self,
        seed: int,
        *,
        until: float | None = None,
        progress: Callable[[str], None] | None = None,
        out: str | Path | None = None,
    ) -> Run:
        """Run it once in this process; `progress` gets a line each second."""
        exp = self.exp if until is None else self.exp.with_(until=until)
        talk = None if progress is None else Talk(progress)
        if out is None:
            return running.run(exp, seed, progress=talk)
        directory = outputs.place(Path(out), exp, seed)
        return perform(exp, seed, directory, progress=talk)

    def sweep(
        self,
        *,
        seeds: Iterable[int] | str | None = None,
        grid: Mapping[str, Iterable[Scalar]] | None = None,
        workers: int | None = None,
        engine: str = "futures",
        out: str | Path | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> Result:
        """Run it with every seed at every point of the grid; what is there already is not run."""
        changes: dict[str, object] = {}
        if seeds is not None:
            changes["run.seeds"] = seeds if isinstance(seeds, str) else _span(seeds)
        if grid is not None:
            changes["sweep.grid"] = {key: list(values) for key, values in grid.items()}
        exp = self.exp.with_(changes)
        place = None if out is None else Path(out)
        return sweeping.sweep(exp, out=place, workers=workers, engine=engine, say=progress)

    def world(self, seed: int) -> Trial:
        """Its nodes at the start, to be stepped by hand and looked into."""
        return Trial(self.exp, seed)


def load(source: str | Path | Mapping[str, object]) -> Study:
    """A ready experiment by its name, one from a file, or one from a mapping."""
    return Study(experiment.load(source))


def _span(seeds: Iterable[int]) -> str:
    """Seeds as the experiment has them. Raises `WrongExperiment` unless they follow each other."""
    found = list(seeds)
    if not found or found != list(range(found[0], found[0] + len(found))):
        raise WrongExperiment("Seeds must follow each other, as in range(30).")
    return f"{found[0]}..{found[-1]}"
