"""Runs that lie in a directory, as one experiment: at which points of which keys they were made."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from p2p.errors import LocalError
from simulations import outputs
from simulations.experiment import Experiment, Scalar, as_tree
from simulations.run import Run

Point: TypeAlias = Mapping[str, Scalar]

_APART = ("sweep", "limits", "quick", "question", "version")
"""Tables in which runs of one report may differ without being other points."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """Runs, each with what is its own of the setting, in order of point and seed."""

    keys: tuple[str, ...]
    """dotted keys in which the runs differ"""
    runs: tuple[tuple[Point, Run], ...]

    @property
    def points(self) -> tuple[Point, ...]:
        """Every point, once."""
        found: list[Point] = []
        for point, _ in self.runs:
            if point not in found:
                found.append(point)
        return tuple(found)


def gather(place: Path) -> Gathered:
    """Every finished run in a directory or below it. Raises `LocalError` if there is none."""
    directories = outputs.find(place)
    if not directories:
        raise LocalError(f"{place} holds no finished run.")
    return arrange([outputs.read(each) for each in directories])


def arrange(runs: Sequence[Run]) -> Gathered:
    """Runs by the points that they were made at."""
    flat = [settings(run.exp) for run in runs]
    every = sorted({key for each in flat for key in each})
    keys = tuple(key for key in every if len({repr(each.get(key)) for each in flat}) > 1)
    pairs: list[tuple[Point, Run]] = [
        ({key: each[key] for key in keys if key in each}, run)
        for each, run in zip(flat, runs, strict=True)
    ]
    pairs.sort(key=lambda pair: ([_rank(pair[0].get(key)) for key in keys], pair[1].seed))
    return Gathered(keys=keys, runs=tuple(pairs))


def settings(exp: Experiment) -> dict[str, Scalar]:
    """Every value of an experiment by its dotted key, but those that change no run."""
    tree = {key: value for key, value in as_tree(exp).items() if key not in _APART}
    found = dict(_leaves(tree))
    del found["run.seeds"]
    return found


def changed(exp: Experiment) -> dict[str, Scalar]:
    """What an experiment sets otherwise than by default."""
    usual = settings(Experiment(name=exp.name, scenario=exp.scenario))
    given = settings(exp)
    return {key: value for key, value in given.items() if usual.get(key, ()) != value}


def _leaves(value: object, before: str = "") -> Iterator[tuple[str, Scalar]]:
    match value:
        case Mapping():
            for key, each in value.items():
                yield from _leaves(each, f"{before}.{key}" if before else str(key))
        case list():
            for at, each in enumerate(value):
                yield from _leaves(each, f"{before}.{at}")
        case bool() | int() | float() | str():
            yield before, value
        case _:
            raise TypeError(f"{before} is {value!r}")


def _rank(value: Scalar | None) -> tuple[int, float, str]:
    """Numbers by size, before texts; what is not set comes first."""
    if value is None:
        return 0, 0.0, ""
    if isinstance(value, str):
        return 2, 0.0, value
    return 1, float(value), ""
