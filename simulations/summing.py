"""Runs of several seeds in one table: every metric at every point of a grid, and its interval."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from simulations.experiment import Scalar, canonical
from simulations.metrics import Key, Kind, Summary, described, nothing
from simulations.outputs import per_metric
from simulations.run import Run
from simulations.stats import FEW, Interval, t_interval, wilson


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One metric at one point."""

    point: Mapping[str, Scalar]
    metric: str
    """name{label}, and after a dot the quantile"""
    unit: str
    interval: Interval
    seeds: int
    unsettled: int
    """of these, whose series had not come to rest"""

    @property
    def warning(self) -> str:
        """What a reader must know before using it; nothing if all is well."""
        if self.seeds == 1:
            return "one seed, no interval"
        said = [f"{self.seeds} seeds are few"] if self.seeds < FEW else []
        if self.unsettled:
            said.append(f"not stationary in {self.unsettled} of {self.seeds}")
        return "; ".join(said)


def summarize(runs: Iterable[tuple[Mapping[str, Scalar], Run]]) -> tuple[Line, ...]:
    """Every metric at every point, points in their order. Runs that have failed do not count."""
    points: dict[bytes, tuple[Mapping[str, Scalar], list[Run]]] = {}
    for point, run in runs:
        if run.outcome != "failed":
            points.setdefault(canonical(dict(point)), (point, []))[1].append(run)
    return tuple(line for point, there in points.values() for line in _lines(point, there))


def document(line: Line) -> dict[str, object]:
    """A line as the `metrics` of a document have it."""
    it = line.interval
    mean = it.mean if it.n else None
    return {
        "name": line.metric,
        "unit": line.unit,
        "value": mean,
        "low": it.low,
        "high": it.high,
        "n": it.n,
        "warning": line.warning or None,
    }


def _lines(point: Mapping[str, Scalar], runs: Sequence[Run]) -> list[Line]:
    series: dict[Key, list[Summary]] = {}
    for run in runs:
        for summary in run.summaries:
            series.setdefault(summary.key, []).append(summary)
    for key, known in series.items():
        if described(key.metric).kind is Kind.COUNT:
            known += [nothing(key)] * (len(runs) - len(known))
    return [line for key in sorted(series) for line in _of_series(point, series[key])]


def _of_series(point: Mapping[str, Scalar], summaries: Sequence[Summary]) -> list[Line]:
    metric = described(summaries[0].key.metric)
    unsettled = sum(not each.stationary for each in summaries)
    known = [each for each in summaries if each.count or metric.kind is Kind.COUNT]
    values: dict[str, list[float]] = {}
    for summary in known:
        for name, value in per_metric(summary):
            values.setdefault(name, []).append(value)
    return [
        Line(
            point=point,
            metric=name,
            unit=metric.unit,
            interval=_chance(known) if metric.kind is Kind.CHANCE else t_interval(each),
            seeds=len(each),
            unsettled=unsettled,
        )
        for name, each in values.items()
    ]


def _chance(summaries: Sequence[Summary]) -> Interval:
    """A proportion of the trials of all seeds; of one seed it has no interval either."""
    trials = sum(each.count for each in summaries)
    pooled = wilson(sum(each.total for each in summaries), trials)
    if len(summaries) == 1:
        return Interval(mean=pooled.mean, low=None, high=None, n=trials)
    return pooled
