"""What a run leaves on disk: one directory, complete once its `manifest.json` is there.

runs/NAME-<config hash>/seed-0007/
    metrics.csv or metrics.parquet      points of series: t, metric, label, value
    checkpoints.csv                     second, records, digest
    events.jsonl.gz                     records, if the log level keeps any
    progress.jsonl                      how it went, a line each five seconds
    manifest.json                       all else; written last, by rename
"""

import csv
import gzip
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TextIO

from p2p.core import COMMAND, DATAGRAM, EVENT, LIFE, TIMER
from p2p.errors import LocalError
from simulations import code, data, frames
from simulations.experiment import Experiment, as_tree, from_tree
from simulations.log import Checkpoint, Record
from simulations.metrics import Key, Row, Summary, described
from simulations.run import Run
from simulations.scenarios import Violation

SCHEMA: Final = "tussah/sim-run/1"

MANIFEST: Final = "manifest.json"

KINDS: Final[Mapping[int, str]] = {
    TIMER: "timer",
    COMMAND: "command",
    DATAGRAM: "datagram",
    EVENT: "event",
    LIFE: "life",
}

QUANTILES: Final = (50, 90, 99)
"""per cent: the quantiles that stand beside a mean"""


def place(out: Path, exp: Experiment, seed: int) -> Path:
    """The directory of a run."""
    return out / f"{exp.name}-{exp.config_hash()[:12]}" / f"seed-{seed:04d}"


def is_complete(directory: Path, run_hash: str) -> bool:
    """Whether just this run has ended there."""
    try:
        return manifest(directory)["run_hash"] == run_hash
    except (OSError, ValueError, KeyError, LocalError):
        return False


def manifest(directory: Path) -> dict[str, object]:
    """The manifest of a run. Raises `LocalError` if there is none."""
    try:
        found = json.loads((directory / MANIFEST).read_text())
    except FileNotFoundError:
        raise LocalError(f"{directory} holds no finished run: it has no {MANIFEST}.") from None
    except ValueError as error:
        raise LocalError(f"{directory / MANIFEST} cannot be read: {error}.") from error
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise LocalError(f"{directory / MANIFEST} is no manifest of a run.")
    return found


def prepare(directory: Path) -> None:
    """An empty directory for a run; one that was broken off or is of other code goes."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True, exist_ok=True)


def write(run: Run, directory: Path, known_as: Path) -> None:
    """Write all of a run that is not there yet, the manifest last; it says `known_as`."""
    if frames.available():
        frames.write(run.rows, directory / "metrics.parquet")
    else:
        _write_csv(directory / "metrics.csv", Row._fields, run.rows)
    _write_csv(directory / "checkpoints.csv", Checkpoint._fields, run.checkpoints)
    text = json.dumps(document(run, known_as) | _rest(run), indent=1, ensure_ascii=False)
    part = directory / f"{MANIFEST}.part"
    with part.open("w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    part.rename(directory / MANIFEST)


def read(directory: Path) -> Run:
    """The run that a directory holds. Raises `LocalError` if it holds none."""
    found = manifest(directory)
    try:
        return _run(found, directory)
    except (KeyError, TypeError, ValueError) as error:
        raise LocalError(f"{directory / MANIFEST} is damaged: {error!r}.") from error


def find(place: Path) -> list[Path]:
    """Every finished run in a directory or below it, in order of path."""
    if (place / MANIFEST).is_file():
        return [place]
    return sorted(path.parent for path in place.glob(f"**/seed-*/{MANIFEST}"))


def document(
    run: Run, directory: Path | None = None, *, resumed: bool = False
) -> dict[str, object]:
    """The `sim run` document."""
    return {
        "schema": SCHEMA,
        "experiment": run.exp.name,
        "config_hash": run.config_hash,
        "run_hash": run.run_hash,
        "seed": run.seed,
        "nodes": run.exp.run.nodes,
        "virtual_s": run.virtual_s,
        "wall_s": run.wall_s,
        "cpu_s": run.cpu_s,
        "events": run.records,
        "messages": _sum(run, "messages"),
        "bytes": _sum(run, "bytes"),
        "events_per_cpu_s": run.records / run.cpu_s if run.cpu_s else 0.0,
        "rss_bytes": run.rss_bytes,
        "digest": run.digest,
        "version": run.exp.version,
        "outcome": run.outcome,
        "detail": run.detail or None,
        "metrics": [each for summary in run.summaries for each in _metrics(summary)],
        "invariants": [
            {"name": name, "checked": run.checked[name], "failed": run.failed.get(name, 0)}
            for name in sorted(run.checked)
        ],
        "out": None if directory is None else str(directory),
        "resumed": resumed,
        "replay": replay_command(directory),
    }


def replay_command(directory: Path | None) -> str | None:
    """The command that runs it again, to look into."""
    return None if directory is None else f"tussah sim replay {directory}"


def per_metric(summary: Summary) -> Iterator[tuple[str, float]]:
    """Every number of a series that a report shows: the mean or sum, and some quantiles."""
    yield str(summary.key), summary.mean
    if described(summary.key.metric).kind.value == "value" and summary.quantiles:
        for percent in QUANTILES:
            key = summary.key._replace(metric=f"{summary.key.metric}.p{percent}")
            yield str(key), summary.quantiles[percent]


# --- events ---


@contextmanager
def events(directory: Path) -> "Iterator[Events]":
    """A file that takes records; the same records give the same bytes."""
    with (
        (directory / "events.jsonl.gz").open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed,
    ):
        yield Events(packed)


class Events:
    """A sink of a log."""

    def __init__(self, file: gzip.GzipFile) -> None:
        self._file = file

    def __call__(self, record: Record) -> None:
        """Write a record."""
        self._file.write(json.dumps(event(record)).encode() + b"\n")


def event(record: Record) -> dict[str, object]:
    """A record as JSON."""
    return {
        "t": record.now,
        "node": record.node,
        "n": record.number,
        "kind": KINDS.get(record.kind, str(record.kind)),
        "peer": record.peer if record.kind == DATAGRAM else None,
        "data": record.data.hex(),
    }


# --- manifest ---


def _rest(run: Run) -> dict[str, object]:
    """What the manifest has beyond the document."""
    return {
        "code_hash": code.code_hash(),
        "machine": code.machine(),
        "level": run.exp.run.level,
        "link": run.exp.nodes.link,
        "kem": "stand-in",
        "full_experiment": as_tree(run.exp),
        "violations": [
            {"invariant": each.invariant, "at": each.at, "node": each.node, "detail": each.detail}
            for each in run.violations
        ],
        "data_files": [each._asdict() for each in data.used(run.exp)],
        "series": [_series(each) for each in run.summaries],
    }


def _run(found: Mapping[str, object], directory: Path) -> Run:
    tree, seed = found["full_experiment"], found["seed"]
    assert isinstance(tree, dict)
    assert isinstance(seed, int)
    invariants = _list(found["invariants"])
    return Run(
        exp=from_tree(tree),
        seed=seed,
        config_hash=str(found["config_hash"]),
        run_hash=str(found["run_hash"]),
        outcome=found["outcome"],  # type: ignore[arg-type]
        detail=str(found["detail"] or ""),
        virtual_s=_number(found["virtual_s"]),
        wall_s=_number(found["wall_s"]),
        cpu_s=_number(found["cpu_s"]),
        rss_bytes=int(_number(found["rss_bytes"])),
        records=int(_number(found["events"])),
        digest=None if found["digest"] is None else str(found["digest"]),
        rows=tuple(_rows(directory)),
        summaries=tuple(_summary(each) for each in _list(found["series"])),
        checkpoints=tuple(checkpoints(directory)),
        checked={str(each["name"]): int(_number(each["checked"])) for each in invariants},
        failed={
            str(each["name"]): int(_number(each["failed"])) for each in invariants if each["failed"]
        },
        violations=tuple(
            Violation(
                invariant=str(each["invariant"]),
                at=_number(each["at"]),
                node=int(_number(each["node"])),
                detail=str(each["detail"]),
            )
            for each in _list(found["violations"])
        ),
    )


def _metrics(summary: Summary) -> Iterator[dict[str, object]]:
    unit = described(summary.key.metric).unit
    for name, value in per_metric(summary):
        known = value if value == value else None
        yield {"name": name, "unit": unit, "value": known, "low": None, "high": None, "n": 1}


def _series(summary: Summary) -> dict[str, object]:
    return {
        "metric": summary.key.metric,
        "label": summary.key.label,
        "total": summary.total,
        "count": summary.count,
        "cut": summary.cut,
        "stationary": summary.stationary,
        "quantiles": list(summary.quantiles),
    }


def _summary(found: Mapping[str, object]) -> Summary:
    key = Key(str(found["metric"]), str(found["label"]))
    total, count = _number(found["total"]), int(_number(found["count"]))
    mean = total if described(key.metric).kind.value == "count" else total / max(count, 1)
    quantiles = found["quantiles"]
    assert isinstance(quantiles, list)
    return Summary(
        key=key,
        total=total,
        count=count,
        mean=mean if count else float("nan"),
        quantiles=tuple(quantiles),
        cut=int(_number(found["cut"])),
        stationary=found["stationary"] is True,
    )


def _sum(run: Run, metric: str) -> int:
    return int(sum(each.total for each in run.summaries if each.key.metric == metric))


# --- tables ---


def _rows(directory: Path) -> Iterator[Row]:
    if (directory / "metrics.parquet").is_file():
        yield from frames.read(directory / "metrics.parquet")
        return
    for t, metric, label, value in _read_csv(directory / "metrics.csv"):
        yield Row(float(t), metric, label, float(value))


def checkpoints(directory: Path) -> Iterator[Checkpoint]:
    """The checkpoints of a run."""
    for second, records, digest in _read_csv(directory / "checkpoints.csv"):
        yield Checkpoint(int(second), int(records), digest)


def _write_csv(path: Path, names: tuple[str, ...], rows: tuple[tuple[object, ...], ...]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(rows)


def _read_csv(path: Path) -> Iterator[list[str]]:
    if not path.is_file():
        raise LocalError(f"{path} is missing.")
    with path.open(newline="") as file:
        yield from _after_head(file)


def _after_head(file: TextIO) -> Iterator[list[str]]:
    rows = csv.reader(file)
    next(rows, None)
    yield from rows


def _list(found: object) -> list[Mapping[str, object]]:
    assert isinstance(found, list)
    return found


def _number(found: object) -> float:
    assert isinstance(found, int | float)
    return found
