"""What a report shows as plots: series over time, distributions, and metrics along a grid."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from simulations.gathering import Gathered, Point
from simulations.metrics import Key, Kind, described
from simulations.plots import MAX_CURVES, Curve, Plot
from simulations.run import Run
from simulations.stats import t_interval
from simulations.summing import summarize
from simulations.words import value

MAX_PLOTS: Final = 12
"""of each sort: the first metrics by name"""

MAX_POINTS: Final = 200
"""of a curve over time: a report of an hour is no larger than one of a minute"""


def every(gathered: Gathered) -> Mapping[str, Sequence[Plot]]:
    """Every plot of a report, under its heading."""
    return {
        "Along the grid": list(_along_the_grid(gathered))[:MAX_PLOTS],
        "Over time": list(_over_time(gathered))[:MAX_PLOTS],
        "Distributions": list(_distributions(gathered))[:MAX_PLOTS],
    }


def _groups(gathered: Gathered) -> list[tuple[Point, list[Run]]]:
    """The runs of each point that count; as many points as one plot can hold."""
    groups = [
        (point, [run for there, run in gathered.runs if there == point and run.outcome != "failed"])
        for point in gathered.points
    ]
    return [group for group in groups if group[1]][:MAX_CURVES]


def _name(point: Point) -> str:
    return ", ".join(f"{key.rpartition('.')[2]} {value(each)}" for key, each in point.items())


def _keys(gathered: Gathered) -> list[Key]:
    return sorted({each.key for _, run in gathered.runs for each in run.summaries})


# --- over time ---


def _over_time(gathered: Gathered) -> Iterator[Plot]:
    groups = _groups(gathered)
    series = [(point, [_series(run) for run in runs]) for point, runs in groups]
    for key in _keys(gathered):
        curves = [
            curve
            for point, there in series
            if (curve := _band(_name(point), [each.get(key, {}) for each in there])).x
        ]
        if any(len(curve.x) > 1 for curve in curves):
            yield Plot(str(key), "virtual s", described(key.metric).unit, curves)


def _series(run: Run) -> dict[Key, dict[float, float]]:
    found: dict[Key, dict[float, float]] = {}
    for row in run.rows:
        found.setdefault(Key(row.metric, row.label), {})[row.t] = row.value
    return found


def _band(label: str, seeds: Sequence[Mapping[float, float]]) -> Curve:
    """The mean over seeds of each moment, and its interval where there are enough."""
    moments = sorted({t for each in seeds for t in each})
    stride = max(1, -(-len(moments) // MAX_POINTS))
    x: list[float] = []
    y: list[float] = []
    low: list[float] = []
    high: list[float] = []
    for first in range(0, len(moments), stride):
        group = moments[first : first + stride]
        means = [_mean(each, group) for each in seeds]
        interval = t_interval([mean for mean in means if mean is not None])
        x.append(group[0])
        y.append(interval.mean)
        low.append(interval.mean if interval.low is None else interval.low)
        high.append(interval.mean if interval.high is None else interval.high)
    banded = len(seeds) > 1
    return Curve(label, x, y, low if banded else (), high if banded else ())


def _mean(series: Mapping[float, float], moments: Sequence[float]) -> float | None:
    there = [series[t] for t in moments if t in series]
    return sum(there) / len(there) if there else None


# --- distributions ---


def _distributions(gathered: Gathered) -> Iterator[Plot]:
    for key in _keys(gathered):
        if described(key.metric).kind is not Kind.VALUE:
            continue
        curves = [
            curve
            for point, runs in _groups(gathered)
            if (curve := _distribution(_name(point), runs, key)) is not None
        ]
        if curves:
            yield Plot(f"{key}, distribution", described(key.metric).unit, "share below", curves)


def _distribution(label: str, runs: Sequence[Run], key: Key) -> Curve | None:
    """Mean quantiles of the seeds: each seed's distribution counts alike."""
    known = [
        each.quantiles
        for run in runs
        for each in run.summaries
        if each.key == key and each.quantiles
    ]
    if not known:
        return None
    means = [sum(column) / len(known) for column in zip(*known, strict=True)]
    return Curve(label, means, [percent / 100 for percent in range(101)])


# --- along the grid ---


def _along_the_grid(gathered: Gathered) -> Iterator[Plot]:
    """Each metric against each key that is a number at every point; other keys make curves."""
    for axis in gathered.keys:
        if all(_is_number(point.get(axis)) for point in gathered.points):
            yield from _against(gathered, axis)


def _against(gathered: Gathered, axis: str) -> Iterator[Plot]:
    lines: dict[tuple[str, str], dict[str, list[tuple[float, float, float, float]]]] = {}
    for line in summarize(gathered.runs):
        rest = {key: each for key, each in line.point.items() if key != axis}
        it, x = line.interval, line.point[axis]
        assert isinstance(x, int | float)
        low = it.mean if it.low is None else it.low
        high = it.mean if it.high is None else it.high
        curves = lines.setdefault((line.metric, line.unit), {})
        curves.setdefault(_name(rest), []).append((float(x), it.mean, low, high))
    for (metric, unit), named in lines.items():
        curves_ = [
            Curve(label, *(list(column) for column in zip(*sorted(points), strict=True)))
            for label, points in named.items()
        ]
        yield Plot(f"{metric} by {axis}", axis, unit, curves_, marked=True)


def _is_number(setting: object) -> bool:
    return isinstance(setting, int | float) and not isinstance(setting, bool)
