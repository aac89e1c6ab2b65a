"""What an experiment measures: counters, gauges and observations in virtual time.

A `Meter` is told; it asks nobody. Every name stands in `METRICS`, with its unit and what it says:
a report of one scenario can be read beside that of another. Units are seconds, bytes, nanotons,
bits; a share is between 0 and 1.
"""

import math
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple, final

from p2p.errors import LocalError
from p2p.transport.fabric import EPOCH

MAX_KEPT: Final = 1 << 20
"""observations of a series that are kept for quantiles, 8 MB; of more, every second, fourth, …"""


class Kind(Enum):
    """How a metric adds up."""

    COUNT = "count"
    """a sum"""
    LEVEL = "level"
    """how much there is: a mean over samples"""
    VALUE = "value"
    """one number of one happening: a mean and quantiles"""
    CHANCE = "chance"
    """whether it happened: a proportion of trials"""


class Metric(NamedTuple):
    """What a name means."""

    kind: Kind
    unit: str
    about: str


_V, _C, _L, _P = Kind.VALUE, Kind.COUNT, Kind.LEVEL, Kind.CHANCE

METRICS: Final[Mapping[str, Metric]] = {
    "lookup_s": Metric(_V, "s", "a lookup from its start to its end"),
    "lookup_messages": Metric(_V, "", "queries sent in a lookup"),
    "lookup_hops": Metric(_V, "", "nodes from the asker's table to the value"),
    "lookup_found": Metric(_P, "share", "lookups of a stored value that came to it"),
    "lookup_closest": Metric(_P, "share", "lookups that ended at the nearest node alive"),
    "lookup_false": Metric(_P, "share", "lookups that ended with a forged value"),
    "flood_answered": Metric(_P, "share", "queries of a flood that were answered"),
    "advert_coverage": Metric(_V, "share", "nodes that an advert has come to"),
    "advert_delay_s": Metric(_V, "s", "from an advert's issue to a node that hears it"),
    "advert_duplicates": Metric(_V, "", "times a node hears an advert it has"),
    "directory_agreement": Metric(_V, "share", "nodes that hold the commonest list of an epoch"),
    "circuit_build_s": Metric(_V, "s", "from the first cell of a circuit to its end's answer"),
    "circuit_failed": Metric(_P, "share", "circuits that were begun and never stood"),
    "ask_outcome": Metric(_C, "", "how asks ended: answer, refusal, error"),
    "ask_s": Metric(_V, "s", "an ask from its start to its end"),
    "ttft_s": Metric(_V, "s", "from an ask to its first token"),
    "path_s": Metric(_V, "s", "that the relays add to the time until the first token"),
    "tokens_per_s": Metric(_V, "1/s", "tokens of an answer after the first"),
    "worker_load": Metric(_L, "share", "slots of workers that are busy"),
    "worker_share": Metric(_V, "share", "requests that went to one worker or operator"),
    "wait_s": Metric(_V, "s", "a request from its arrival to its start"),
    "sojourn_s": Metric(_V, "s", "a request from its arrival to its end"),
    "queue": Metric(_L, "", "requests that wait"),
    "price_nano": Metric(_V, "nano", "paid for an answer"),
    "loss_nano": Metric(_V, "nano", "lost by an honest party in an attack"),
    "loss_ticks": Metric(_V, "ticks", "lost by an honest party in an attack on a session"),
    "spends": Metric(_C, "", "what a mint says to credits: locked, or why not"),
    "open_offers": Metric(_L, "", "offers of a worker that nobody has taken up"),
    "queue_bytes": Metric(_L, "bytes", "cells queued in the node that has most of them"),
    "messages": Metric(_C, "", "payloads sent, by protocol"),
    "bytes": Metric(_C, "bytes", "sent, with what packets add, by protocol"),
    "dropped": Metric(_C, "", "payloads that came nowhere, by reason"),
    "nodes_up": Metric(_L, "", "nodes that are up"),
    "table_live_share": Metric(_L, "share", "entries of routing tables that are up and reachable"),
    "linked": Metric(_P, "share", "asks whose asker and worker the adversary joins"),
    "linked_prompt": Metric(_P, "share", "asks whose asker and prompt the adversary joins"),
    "users_linked": Metric(_P, "share", "users whom the adversary has joined with a prompt"),
    "bad_guard": Metric(_P, "share", "circuits whose first relay is the adversary's"),
    "bad_worker": Metric(_P, "share", "circuits whose worker is the adversary's"),
    "denied_worker": Metric(_P, "share", "circuits that go to the worker which bad relays deny"),
    "time_to_link_s": Metric(_V, "s", "until the adversary first joins a user with a prompt"),
    "active_clients": Metric(_L, "", "clients with an ask under way: the set to hide in"),
    "candidate_workers": Metric(_V, "", "workers an ask could have gone to"),
    "entropy_bits": Metric(_V, "bits", "of the adversary's guess at the asker"),
    "min_entropy_bits": Metric(_V, "bits", "of its best guess"),
    "degree": Metric(_V, "share", "of anonymity: entropy over its maximum"),
    "caught_hop": Metric(_V, "", "hops behind an attacker at which its cell is refused"),
    "true_positive": Metric(_P, "share", "pairs that a correlator rightly joins"),
    "late_s": Metric(_V, "s", "a wake of this machine behind its time, in a run in real time"),
    "fault_count": Metric(_C, "", "faults that were done, by kind"),
}
"""Add a line for what a new scenario measures."""


class Row(NamedTuple):
    """A line of `metrics.csv`: a point of a series."""

    t: float
    """virtual seconds since the start, where the bucket begins"""
    metric: str
    label: str
    value: float


class Key(NamedTuple):
    """Which series."""

    metric: str
    label: str

    def __str__(self) -> str:
        return f"{self.metric}{{{self.label}}}" if self.label else self.metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One series of one run in a number or two."""

    key: Key
    total: float
    count: int
    mean: float
    quantiles: tuple[float, ...]
    """at 0, 1, … 100 %; of a count, none"""
    cut: int
    """observations at the start that are left out of the others"""
    stationary: bool
    """False: more than half would have had to go, so nothing was cut"""


def nothing(key: Key) -> Summary:
    """A count of a run in which nothing of it happened."""
    return Summary(key=key, total=0.0, count=0, mean=0.0, quantiles=(), cut=0, stationary=True)


class Window(NamedTuple):
    """What to leave out of a series' beginning."""

    first: int
    stationary: bool


@final
class Meter:
    """Keeps series of what it is told, each at the instant that `clock` gives: Unix seconds.

    `sink` hears the name, the value and the label of all of it.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        bucket: float = 1.0,
        sink: Callable[[str, float, str], object] | None = None,
    ) -> None:
        self.bucket = bucket
        self._sink = sink
        self._clock = clock
        self._series: dict[Key, Series] = {}

    def count(self, name: str, value: float = 1, label: str = "") -> None:
        """So many more of something; a metric of kind COUNT."""
        self._add(name, value, label)

    def gauge(self, name: str, value: float, label: str = "") -> None:
        """How much of something there is; a metric of kind LEVEL."""
        self._add(name, value, label)

    def observe(self, name: str, value: float, label: str = "") -> None:
        """A number of one happening; a metric of kind VALUE, or of CHANCE with 0 or 1."""
        self._add(name, value, label)

    @property
    def series(self) -> "Mapping[Key, Series]":
        """Every series, in the order of its first word."""
        return self._series

    def rows(self) -> Iterator[Row]:
        """Every point of every series: sums of counts, means of the rest."""
        for key in sorted(self._series):
            for bucket, value in self._series[key].points():
                yield Row(bucket * self.bucket, key.metric, key.label, value)

    def summary(self, window: "Callable[[Series], Window] | None" = None) -> tuple[Summary, ...]:
        """Every series in a few numbers; `window` says what of it to leave out."""
        return tuple(
            self._series[key].summary(key, window and window(self._series[key]))
            for key in sorted(self._series)
        )

    def _add(self, name: str, value: float, label: str) -> None:
        if self._sink is not None:
            self._sink(name, value, label)
        key = Key(name, label)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = Series(described(name).kind)
        series.add(int((self._clock() - EPOCH) // self.bucket), value)


@final
class Series:
    """What was said under one name and label, in order of time."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.count = 0
        self.total = 0.0
        self._buckets: list[int] = []
        self._sums: list[float] = []
        self._starts: list[int] = []
        """observations before each bucket"""
        self._kept = array("d")
        self._stride = 1

    def add(self, bucket: int, value: float) -> None:
        """One more, in a bucket that is not before the last."""
        if not self._buckets or self._buckets[-1] != bucket:
            self._buckets.append(bucket)
            self._sums.append(0.0)
            self._starts.append(self.count)
        self._sums[-1] += value
        self.total += value
        if self.kind is not Kind.COUNT and self.count % self._stride == 0:
            self._keep(value)
        self.count += 1

    def points(self) -> Iterator[tuple[int, float]]:
        """Each bucket that something was said in, and the sum or mean of that."""
        ends = [*self._starts[1:], self.count]
        for bucket, total, start, end in zip(
            self._buckets, self._sums, self._starts, ends, strict=True
        ):
            yield bucket, total if self.kind is Kind.COUNT else total / (end - start)

    def values(self) -> "array[float]":
        """The observations that are kept, in order; none of a count."""
        return self._kept

    def since(self, bucket: int) -> int:
        """How many of the kept observations are from before a bucket."""
        at = bisect_left(self._buckets, bucket)
        before = self.count if at == len(self._starts) else self._starts[at]
        return -(-before // self._stride)

    def summary(self, key: Key, window: Window | None = None) -> Summary:
        """The series in a few numbers, without what the window leaves out."""
        first, stationary = window or Window(0, True)
        if self.kind is Kind.COUNT:
            return self._summary_of_count(key)
        rest = self._kept[first:]
        count = self.count - first * self._stride if rest else 0
        total = math.fsum(rest) * count / max(len(rest), 1) if first else self.total
        return Summary(
            key=key,
            total=total,
            count=count,
            mean=total / count if count else math.nan,
            quantiles=quantiles(rest),
            cut=first * self._stride,
            stationary=stationary,
        )

    def _summary_of_count(self, key: Key) -> Summary:
        return Summary(
            key=key,
            total=self.total,
            count=self.count,
            mean=self.total,
            quantiles=(),
            cut=0,
            stationary=True,
        )

    def _keep(self, value: float) -> None:
        self._kept.append(value)
        if len(self._kept) == MAX_KEPT:
            self._kept = self._kept[::2]
            self._stride *= 2


def quantiles(values: "array[float]") -> tuple[float, ...]:
    """The values at 0, 1, … 100 %, by linear interpolation; none of none."""
    ordered = sorted(values)
    if not ordered:
        return ()
    return tuple(at(ordered, percent / 100) for percent in range(101))


def at(ordered: "list[float]", share: float) -> float:
    """The quantile of ordered values."""
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def described(name: str) -> Metric:
    """What a name means; `LocalError` for one that nobody has described."""
    found = METRICS.get(name)
    if found is None:
        raise LocalError(f"no metric is called {name!r}: describe it in simulations/metrics.py")
    return found
