"""A run that broke something, made small: what `simulations.shrink` does, for any experiment."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from p2p.errors import LocalError
from simulations import outputs
from simulations.experiment import Experiment, as_tree
from simulations.run import Run, run
from simulations.shrink import Trial, shrink

SCHEMA: Final = "tussah/sim-shrink/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shrunk:
    """The smallest run that was found to fail in the same way."""

    before: Run
    after: Run
    faults: tuple[int, ...]
    """numbers of the experiment's faults that are left"""


def shrink_run(directory: Path, *, most: int) -> Shrunk:
    """Fewer faults, fewer nodes, an earlier end; `most` runs are tried.

    Raises `LocalError` for a run in which nothing broke, or that does not break again.
    """
    before = outputs.read(directory)
    broke = _breakage(before)
    if not broke:
        raise LocalError(f"Nothing broke in {directory}: its outcome is {before.outcome}.")
    every = Trial(
        seed=before.seed,
        nodes=before.exp.run.nodes,
        until=before.exp.run.until,
        faults=tuple(range(len(before.exp.fault))),
    )

    def fails(trial: Trial) -> bool:
        return _breakage(run(_smaller(before.exp, trial), trial.seed)) >= broke

    try:
        least = shrink(fails, every, most=most)
    except ValueError as error:
        raise LocalError(f"{directory} does not break again: its code was another.") from error
    after = run(_smaller(before.exp, least), least.seed)
    return Shrunk(before=before, after=after, faults=least.faults)


def document(shrunk: Shrunk, directory: Path) -> dict[str, object]:
    """The `sim shrink` document."""
    after = shrunk.after
    return {
        "schema": SCHEMA,
        "run": str(directory),
        "experiment": as_tree(after.exp),
        "seed": after.seed,
        "broke": sorted(_breakage(after)),
        "nodes": {"before": shrunk.before.exp.run.nodes, "after": after.exp.run.nodes},
        "until_s": {"before": shrunk.before.exp.run.until, "after": after.exp.run.until},
        "faults": {"before": len(shrunk.before.exp.fault), "after": list(shrunk.faults)},
        "digest": after.digest,
    }


def _breakage(run: Run) -> frozenset[str]:
    """What broke: names of invariants, or the last line of what a core raised."""
    if run.outcome == "failed":
        return frozenset([run.detail.strip().splitlines()[-1]])
    return frozenset(run.failed)


def _smaller(exp: Experiment, trial: Trial) -> Experiment:
    """The experiment of a trial: faults that are at nodes which are gone, are gone too."""
    kept = [exp.fault[number] for number in trial.faults]
    there = tuple(each for each in kept if all(node < trial.nodes for node in each.nodes))
    return replace(exp, run=replace(exp.run, nodes=trial.nodes, until=trial.until), fault=there)
