"""What `tussah sim run` does: one run, or all of an experiment, as one document."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from simulations import data, outputs, summing
from simulations.experiment import Experiment, Scalar
from simulations.progress import Talk
from simulations.recording import perform
from simulations.sweep import Done, Result, sweep

SCHEMA: Final = "tussah/sim-sweep/1"


def run_one(exp: Experiment, out: Path, say: Callable[[str], None]) -> dict[str, object]:
    """Its only run, in this process, as the `sim run` document."""
    (seed,) = exp.seeds()
    directory = outputs.place(out, exp, seed)
    if outputs.is_complete(directory, data.run_hash(exp, seed)):
        return outputs.document(outputs.read(directory), directory, resumed=True)
    return outputs.document(
        perform(exp, seed, directory, progress=Talk(say), guarded=True), directory
    )


def run_all(
    exp: Experiment,
    out: Path,
    say: Callable[[str], None],
    *,
    engine: str = "futures",
    workers: int | None = None,
) -> dict[str, object]:
    """Every run of it, as the `sim run` document of many."""
    return document(sweep(exp, out=out, workers=workers, engine=engine, say=say), out)


def document(result: Result, out: Path) -> dict[str, object]:
    """The `sim run` document of many runs."""
    points: list[dict[str, Scalar]] = []
    for each in result.done:
        if dict(each.task.point) not in points:
            points.append(dict(each.task.point))
    return {
        "schema": SCHEMA,
        "experiment": result.exp.name,
        "seeds": result.exp.run.seeds,
        "nodes": result.exp.run.nodes,
        "wall_s": result.wall_s,
        "outcome": _outcome(result.done),
        "runs": [_run(each) for each in result.done],
        "points": [
            {
                "point": point,
                "metrics": [
                    summing.document(line) for line in result.summary() if line.point == point
                ],
            }
            for point in points
        ],
        "out": str(out),
        "report": f"tussah sim report {out}",
    }


def _run(done: Done) -> dict[str, object]:
    run, directory = done.run, done.task.directory
    return {
        "point": dict(done.task.point),
        "seed": done.task.seed,
        "run_hash": done.task.run_hash,
        "outcome": "failed" if run is None else run.outcome,
        "detail": done.error or (run.detail if run else "") or None,
        "digest": None if run is None else run.digest,
        "events": None if run is None else run.records,
        "out": str(directory),
        "resumed": done.resumed,
        "replay": outputs.replay_command(directory),
    }


_WORST: Final = ("failed", "violated", "limit")


def _outcome(runs: Sequence[Done]) -> str:
    """The worst of all."""
    there = ["failed" if each.run is None else each.run.outcome for each in runs]
    return next((each for each in _WORST if each in there), "ok")
