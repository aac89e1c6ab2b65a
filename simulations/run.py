"""One run of an experiment with one seed: built, run to its end or a limit, and summed up.

The run is divided into slices only to look at the clock between them; where they fall changes
nothing of it. A core that raises ends it with the outcome `failed`: that is a finding, too.
"""

import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, final

from p2p.entropy import seeded
from p2p.transport.fabric import EPOCH, on_grid
from simulations import data, scenarios, stats
from simulations.experiment import Experiment
from simulations.log import Checkpoint, EventLog, Record
from simulations.loopback import Loopback
from simulations.machine import processor_s, resident_bytes
from simulations.metrics import Meter, Row, Summary
from simulations.scenarios import Audit, Scenario, Setting, Violation
from simulations.world import guard

Outcome: TypeAlias = Literal["ok", "violated", "limit", "failed"]

SLICE_S: Final = 0.2
"""seconds of the machine between two looks at the clock, about"""

SLICE_RECORDS: Final = 20_000
"""records of a slice at most: an instant that never ends is looked at, too"""

STILL_S: Final = 60.0
"""seconds of the machine in which virtual time has not moved, until somebody wants to know why"""

SLICE_OF_LIMIT: Final = 0.02
"""share of the time limit that a slice takes at most: a run stops within a few per cent of it"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """How far a run has come: what progress is made of."""

    virtual_s: float
    until_s: float
    wall_s: float
    records: int
    rss_bytes: int
    busiest: int | None
    """the node that does most while virtual time stands still; None while it moves"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run that has ended, and all that is kept of it."""

    exp: Experiment
    seed: int
    config_hash: str
    run_hash: str
    outcome: Outcome
    detail: str
    """which limit, or the traceback of what a core raised"""
    virtual_s: float
    wall_s: float
    cpu_s: float
    rss_bytes: int
    records: int
    digest: str | None
    """None: the experiment keeps no log"""
    rows: tuple[Row, ...]
    summaries: tuple[Summary, ...]
    checkpoints: tuple[Checkpoint, ...]
    checked: Mapping[str, int]
    failed: Mapping[str, int]
    violations: tuple[Violation, ...]

    @property
    def metrics(self) -> dict[str, float]:
        """The mean, or of a count the sum, of every series by `name{label}`."""
        return {str(each.key): each.mean for each in self.summaries}

    def frame(self) -> object:
        """Every point of every series as a polars frame; needs the extra `sim`."""
        from simulations import frames

        return frames.points(self.rows)


@final
class Trial:
    """An experiment at one seed, to be stepped by hand and looked into."""

    def __init__(
        self, exp: Experiment, seed: int, *, sink: Callable[[Record], None] | None = None
    ) -> None:
        self.exp = exp
        self.seed = seed
        self.meter = Meter(self._clock, bucket=exp.measure.bucket)
        self.audit = Audit()
        self._scenario: Scenario | None = None
        log = _log(exp.run.log, sink)
        setting = Setting(
            exp=exp, entropy=seeded(seed), meter=self.meter, log=log, audit=self.audit
        )
        real = exp.run.level == "L3"
        self.scenario = self._scenario = (
            Loopback(exp, seed, self.meter) if real else scenarios.build(setting)
        )

    @property
    def now(self) -> float:
        """Virtual seconds since the start."""
        return self.scenario.now - EPOCH

    @property
    def nodes(self) -> "tuple[object, ...]":
        """The nodes' cores, by index."""
        return tuple(self.scenario.nodes)

    @property
    def records(self) -> int:
        """Of the log, so far."""
        return 0 if self.scenario.log is None else self.scenario.log.records

    @property
    def digest(self) -> str | None:
        """Of all records so far; None without a log."""
        return None if self.scenario.log is None else self.scenario.log.digest

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """What the log amounted to at each whole second."""
        return () if self.scenario.log is None else tuple(self.scenario.log.checkpoints)

    def run(self, until: float, max_records: int | None = None) -> bool:
        """Run to so many virtual seconds; False if `max_records` stopped it before."""
        return self.scenario.run(on_grid(EPOCH + until), max_records)

    def close(self) -> None:
        """End what the scenario runs, if it runs by itself: tasks of trio do."""
        close = getattr(self.scenario, "close", None)
        if close is not None:
            close()

    def _clock(self) -> float:
        return EPOCH if self._scenario is None else self._scenario.now


def run(
    exp: Experiment,
    seed: int,
    *,
    progress: Callable[[Moment], None] | None = None,
    sink: Callable[[Record], None] | None = None,
    guarded: bool = False,
) -> Run:
    """Run an experiment to its end; `sink` sees the records that its log level names.

    `guarded` makes a core that asks the machine for time or randomness raise: only where no other
    thread of the process does so, since it holds for all.
    """
    began, worked = time.monotonic(), processor_s()
    trial = Trial(exp, seed, sink=sink)
    try:
        virtual = exp.run.level != "L3"  # whose cores are elsewhere, and in real time
        outcome, detail = _to_the_end(trial, progress, guarded=guarded and virtual)
    finally:
        trial.close()
    if outcome == "ok" and trial.audit.failed:
        outcome = "violated"
    warmup = None if exp.run.warmup == "auto" else exp.run.warmup
    return Run(
        exp=exp,
        seed=seed,
        config_hash=exp.config_hash(),
        run_hash=data.run_hash(exp, seed),
        outcome=outcome,
        detail=detail,
        virtual_s=trial.now,
        wall_s=time.monotonic() - began,
        cpu_s=processor_s() - worked,
        rss_bytes=resident_bytes(),
        records=trial.records,
        digest=trial.digest,
        rows=tuple(row for row in trial.meter.rows() if _wanted(exp, row.metric)),
        summaries=tuple(
            each
            for each in trial.meter.summary(
                lambda series: stats.window(warmup, exp.measure.bucket, series)
            )
            if _wanted(exp, each.key.metric)
        ),
        checkpoints=trial.checkpoints,
        checked=dict(trial.audit.checked),
        failed=dict(trial.audit.failed),
        violations=tuple(trial.audit.violations),
    )


def _to_the_end(
    trial: Trial, progress: Callable[[Moment], None] | None, *, guarded: bool
) -> tuple[Outcome, str]:
    pace = _Pace(trial)
    try:
        for _ in _slices(trial, guarded=guarded):
            if progress is not None:
                progress(pace.moment())
            reached = _limit(trial, pace.wall_s)
            if reached:
                return "limit", reached
    except Exception:  # a core's bug ends this run, not the sweep: it is kept with its seed
        return "failed", traceback.format_exc(limit=-8)
    return "ok", ""


def _slices(trial: Trial, *, guarded: bool) -> Iterator[None]:
    """Run a slice at a time, each about as long for the machine as the others."""
    limits, until = trial.exp.limits, trial.exp.run.until
    wanted = min(SLICE_S, limits.wall_s * SLICE_OF_LIMIT)
    length = 2.0**-6
    while trial.now < until:
        began = time.monotonic()
        most = min(trial.records + SLICE_RECORDS, limits.records)
        with guard() if guarded else nullcontext():
            trial.run(min(trial.now + length, until), most)
        took = time.monotonic() - began
        yield

        if took < wanted / 2:
            length *= 2.0
        elif took > wanted:
            length = max(length / 2.0, 2.0**-20)


def _limit(trial: Trial, wall_s: float) -> str:
    """Which limit has been reached, if any."""
    limits = trial.exp.limits
    if trial.now >= trial.exp.run.until:
        return ""
    if trial.records >= limits.records:
        return f"limits.records: {trial.records} records"
    if wall_s >= limits.wall_s:
        return f"limits.wall_s: {limits.wall_s:g} s"
    if resident_bytes() >= limits.rss_mb * 1e6:
        return f"limits.rss_mb: {limits.rss_mb:g} MB"
    return ""


@final
class _Pace:
    """How a trial gets on."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._began = self._moved = time.monotonic()
        self._virtual_s = trial.now
        self._counts: dict[int, int] = {}

    @property
    def wall_s(self) -> float:
        return time.monotonic() - self._began

    def moment(self) -> Moment:
        trial, now = self._trial, time.monotonic()
        if trial.now > self._virtual_s:
            self._virtual_s, self._moved, self._counts = trial.now, now, {}
        return Moment(
            virtual_s=trial.now,
            until_s=trial.exp.run.until,
            wall_s=self.wall_s,
            records=trial.records,
            rss_bytes=resident_bytes(),
            busiest=self._busiest() if now - self._moved >= STILL_S else None,
        )

    def _busiest(self) -> int | None:
        log = self._trial.scenario.log
        if log is None:
            return None
        before, self._counts = self._counts, log.counts()
        return max(
            self._counts,
            key=lambda node: (self._counts[node] - before.get(node, 0), -node),
            default=None,
        )


def _log(level: str, sink: Callable[[Record], None] | None) -> EventLog | None:
    if level == "off":
        return None
    share = float(level.removeprefix("sample:")) if level.startswith("sample:") else 1.0
    return EventLog(sink=sink if level != "digest" else None, keep=share)


def _wanted(exp: Experiment, metric: str) -> bool:
    return exp.measure.metrics == "all" or metric in exp.measure.metrics
