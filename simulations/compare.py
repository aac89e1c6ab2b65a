"""Two sets of runs beside each other: equal seeds in pairs, and how sure a difference is."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from p2p.errors import LocalError
from simulations import outputs
from simulations.experiment import canonical
from simulations.gathering import Gathered, gather, settings
from simulations.metrics import Key, Kind, described
from simulations.run import Run
from simulations.stats import Interval, t_interval

SCHEMA = "tussah/sim-compare/1"

Pair: TypeAlias = tuple[Run, Run]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One metric before and after, over pairs of runs of one seed."""

    metric: str
    unit: str
    before: float
    after: float
    change: Interval
    """of the differences"""

    @property
    def warning(self) -> str:
        """What a reader must know before believing it."""
        if self.change.low is None or self.change.high is None:
            return "one seed, no interval"
        return "" if not self.change.low <= 0.0 <= self.change.high else "may be chance"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What differs between two sets of runs."""

    settings: Mapping[str, tuple[object, object]]
    pairs: tuple[Pair, ...]
    changes: tuple[Change, ...]


def compare(before: Path, after: Path) -> Comparison:
    """Pair the runs of two directories by point and seed. Raises `LocalError` if none pair up."""
    one, other = gather(before), gather(after)
    pairs = tuple(_pairs(one, other))
    if not pairs:
        raise LocalError(f"No seed was run in {before} and in {after} at the same point.")
    return Comparison(settings=_settings(pairs), pairs=pairs, changes=tuple(_changes(pairs)))


def document(comparison: Comparison, before: Path, after: Path) -> dict[str, object]:
    """The `sim compare` document."""
    return {
        "schema": SCHEMA,
        "before": str(before),
        "after": str(after),
        "pairs": len(comparison.pairs),
        "settings": [
            {"key": key, "before": one, "after": other}
            for key, (one, other) in comparison.settings.items()
        ],
        "digests": [
            {
                "seed": one.seed,
                "before": one.digest,
                "after": other.digest,
                "equal": one.digest is not None and one.digest == other.digest,
            }
            for one, other in comparison.pairs
        ],
        "metrics": [
            {
                "name": each.metric,
                "unit": each.unit,
                "before": each.before,
                "after": each.after,
                "change": each.change.mean,
                "low": each.change.low,
                "high": each.change.high,
                "n": each.change.n,
                "warning": each.warning or None,
            }
            for each in comparison.changes
        ],
    }


def _pairs(one: Gathered, other: Gathered) -> Iterator[Pair]:
    """Runs of one seed at one point; points are named by the keys that vary within both sets."""
    keys = [key for key in one.keys if key in other.keys]
    theirs = {_name(point, keys, run): run for point, run in other.runs}
    if len(theirs) < len(other.runs):
        raise LocalError("These runs differ in more than pairs them up: compare one point of each.")
    for point, run in one.runs:
        match = theirs.get(_name(point, keys, run))
        if match is not None and "failed" not in (run.outcome, match.outcome):
            yield run, match


def _name(point: Mapping[str, object], keys: Sequence[str], run: Run) -> bytes:
    return canonical([run.seed, [point.get(key) for key in keys]])


def _settings(pairs: Sequence[Pair]) -> dict[str, tuple[object, object]]:
    found: dict[str, tuple[object, object]] = {}
    for one, other in pairs:
        before, after = settings(one.exp), settings(other.exp)
        for key in sorted({*before, *after}):
            if before.get(key) != after.get(key):
                found[key] = (before.get(key), after.get(key))
    return found


def _changes(pairs: Sequence[Pair]) -> Iterator[Change]:
    counts = [key for pair in pairs for run in pair for key in _counts(run)]
    numbers = [(_numbers(one, counts), _numbers(other, counts)) for one, other in pairs]
    for name, unit in sorted(_names(pairs).items()):
        both = [
            (before[name], after[name])
            for before, after in numbers
            if name in before and name in after
        ]
        if both:
            yield Change(
                metric=name,
                unit=unit,
                before=t_interval([before for before, _ in both]).mean,
                after=t_interval([after for _, after in both]).mean,
                change=t_interval([after - before for before, after in both]),
            )


def _numbers(run: Run, counts: Sequence[Key]) -> dict[str, float]:
    """What a run measured; of what another has counted and it has not, nothing."""
    known = [each for each in run.summaries if each.count]
    found = {name: value for each in known for name, value in outputs.per_metric(each)}
    return {str(key): 0.0 for key in counts} | found


def _counts(run: Run) -> Iterator[Key]:
    for each in run.summaries:
        if described(each.key.metric).kind is Kind.COUNT:
            yield each.key


def _names(pairs: Sequence[Pair]) -> dict[str, str]:
    return {
        name: described(each.key.metric).unit
        for run, _ in pairs
        for each in run.summaries
        for name, _ in outputs.per_metric(each)
    }
