"""The one shape of every benchmark's result: values, each with its ratio to a limit or a peer.

Subjects are measured in turn in one run, at least three rounds, medians quoted: machines are
noisy, so an absolute figure means nothing and a ratio means something.
"""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import NamedTuple


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One figure; `ratio` is against what `against` names, both None where nothing compares."""

    name: str
    value: float
    unit: str
    ratio: float | None = None
    against: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """What a figure should be, and whether it is."""

    name: str
    aim: str
    met: bool


class Bound(NamedTuple):
    """What a figure should be: its value, or its ratio."""

    least: float | None = None
    most: float | None = None
    of_ratio: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """One benchmark's outcome. `notes` say what could not be measured: a bench never guesses."""

    bench: str
    quick: bool
    rounds: int
    results: Sequence[Result]
    aims: Sequence[Aim]
    notes: Sequence[str] = ()


def judged(results: Sequence[Result], bounds: Mapping[str, Bound]) -> list[Aim]:
    """The aims of those figures that have one."""
    return [_judged(row, bounds[row.name]) for row in results if row.name in bounds]


def _judged(row: Result, bound: Bound) -> Aim:
    value = row.ratio if bound.of_ratio else row.value
    assert value is not None
    aim = f">= {bound.least:g}" if bound.most is None else f"<= {bound.most:g}"
    most = value if bound.most is None else bound.most
    met = (bound.least or 0.0) <= value <= most
    return Aim(name=row.name, aim=f"ratio {aim}" if bound.of_ratio else aim, met=met)


def machine() -> Mapping[str, object]:
    """What the figures were made on; taken before the run."""
    load = round(os.getloadavg()[0], 2)
    return {"cpus": os.cpu_count(), "python": platform.python_version(), "load_before": load}


def document(bench: Bench, made_on: Mapping[str, object]) -> Mapping[str, object]:
    """As `--json` prints it."""
    return {"schema": "tussah/bench/1", **asdict(bench), "machine": dict(made_on)}


def lines(bench: Bench) -> list[str]:
    """As a person reads it."""
    aims = {aim.name: aim for aim in bench.aims}
    width = max(len(result.name) for result in bench.results)
    rows = []
    for result in bench.results:
        ratio = f"  {result.ratio:.3f} x {result.against}" if result.ratio is not None else ""
        aim = aims.get(result.name)
        verdict = f"  aim {aim.aim}: {'met' if aim.met else 'missed'}" if aim else ""
        value = f"{result.value:>10.{2 if result.value >= 1.0 else 5}f}"
        rows.append(f"{result.name:<{width}} {value} {result.unit:<6}{ratio}{verdict}")
    return [*rows, *(f"note: {note}" for note in bench.notes)]


def middle(values: Sequence[float], digits: int = 3) -> float:
    """The median, rounded for reading."""
    return round(median(values), digits)
