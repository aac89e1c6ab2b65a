"""A run again, to look into it: up to an instant, at a node, down to the lines of the protocol.

The original's checkpoints are held against the replay's, so that what is seen is what was.
"""

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from p2p.core import DATAGRAM
from p2p.errors import LocalError
from p2p.transport.fabric import EPOCH
from simulations import data, outputs
from simulations.experiment import Experiment
from simulations.log import Checkpoint, Record
from simulations.run import Run, Trial
from simulations.tracing import Cause, Tracer

SCHEMA: Final = "tussah/sim-replay/1"

BISECT_SCHEMA: Final = "tussah/sim-bisect/1"

TRACED_S: Final = 1.0
"""virtual seconds before the end in which `--trace` looks: it slows a run down five times"""

CHECKED_S: Final = 2.0
"""virtual seconds beyond a window, so that there is a checkpoint behind it"""

MAX_SHOWN: Final = 256
"""bytes of a record's data that are shown"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A record, and what caused it."""

    record: Record
    causes: tuple[Cause, ...]
    """Where the protocol made what it says, if it was traced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """How far a replay came, and whether it is the original."""

    run: Run
    virtual_s: float
    digest: str | None
    records: int
    compared: int
    """checkpoints that both have"""
    differs: Checkpoint | None
    """the original's first that the replay does not have"""
    same_code: bool
    sizes: Mapping[str, int] | None
    """of the node that was looked at"""
    crash: str = ""
    """the traceback of what a core raised, if one did"""


def replay(
    directory: Path,
    *,
    until: float | None = None,
    node: int | None = None,
    trace: bool = False,
    see: Callable[[Seen], None] | None = None,
) -> Replayed:
    """Run it again; `see` gets the records of a node, or, traced, of all."""
    run = outputs.read(directory)
    end = run.virtual_s if until is None else until
    if not 0.0 <= end <= run.exp.run.until:
        raise LocalError(f"The run is of {run.exp.run.until:g} s; {end:g} s is not in it.")
    trial, tracer = _watched(run, node, see)
    _check_node(trial, node)
    traced_from = end if not trace else 0.0 if until is None else max(end - TRACED_S, 0.0)
    crash = _run(trial, tracer, traced_from, end)
    return replace(_held_against(run, trial, node), crash=crash)


def document(replayed: Replayed, directory: Path) -> dict[str, object]:
    """The `sim replay` document."""
    differs = replayed.differs
    return {
        "schema": SCHEMA,
        "run": str(directory),
        "experiment": replayed.run.exp.name,
        "seed": replayed.run.seed,
        "virtual_s": replayed.virtual_s,
        "digest": replayed.digest,
        "events": replayed.records,
        "checkpoints": replayed.compared,
        "same": differs is None,
        "differs_at_s": None if differs is None else differs.second - EPOCH,
        "same_code": replayed.same_code,
        "sizes": replayed.sizes,
        "crash": replayed.crash or None,
    }


def words(seen: Seen) -> str:
    """A record in one line, and where it comes from."""
    record = seen.record
    said = decoded(record)
    causes = "".join(f"\n    {cause}" for cause in seen.causes)
    peer = f" from {record.peer}" if record.kind == DATAGRAM else ""
    return (
        f"{record.now - EPOCH:.6f} node {record.node} #{record.number} "
        f"{outputs.KINDS.get(record.kind, record.kind)}{peer}: {said}{causes}"
    )


def decoded(record: Record) -> str:
    """The data of a record as text where it is some, else in hex."""
    content = record.data
    try:
        text = content.decode()
        readable = text.isprintable()
    except UnicodeDecodeError:
        text, readable = "", False
    shown = text if readable else content.hex()
    size = f" ({len(content)} bytes)"
    return shown if len(shown) <= MAX_SHOWN else f"{shown[:MAX_SHOWN]}…{size}"


def _watched(
    run: Run, node: int | None, see: Callable[[Seen], None] | None
) -> tuple[Trial, Tracer]:
    tracer = Tracer()

    def sink(record: Record) -> None:
        causes = tracer.causes(record)
        if see is not None and node in (None, record.node):
            see(Seen(record=record, causes=causes))

    exp = run.exp if see is None else run.exp.with_({"run.log": "full"})
    return Trial(exp, run.seed, sink=sink if see is not None else None), tracer


def _run(trial: Trial, tracer: Tracer, traced_from: float, end: float) -> str:
    try:
        trial.run(traced_from)
        with tracer.tracing():
            trial.run(end)
    except Exception:  # what a core raises is what somebody replays a run for
        return traceback.format_exc(limit=-8)
    return ""


def _check_node(trial: Trial, node: int | None) -> None:
    most = trial.exp.run.nodes
    if node is not None and not 0 <= node < most:
        raise LocalError(f"There is no node {node}: they are 0 to {most - 1}.")


def _held_against(run: Run, trial: Trial, node: int | None) -> Replayed:
    ours = {each.second: each for each in trial.checkpoints}
    theirs = [each for each in run.checkpoints if each.second - EPOCH <= trial.now]
    both = [each for each in theirs if each.second in ours]
    differs = next((each for each in both if ours[each.second] != each), None)
    if differs is None and trial.now == run.virtual_s and trial.digest != run.digest:
        differs = Checkpoint(int(EPOCH + trial.now), run.records, run.digest or "")
    there = node is not None and node < len(trial.nodes)
    return Replayed(
        run=run,
        virtual_s=trial.now,
        digest=trial.digest,
        records=trial.records,
        compared=len(both),
        differs=differs,
        same_code=data.run_hash(run.exp, run.seed) == run.run_hash,
        sizes=dict(trial.scenario.sizes(node)) if there and node is not None else None,
    )


# --- bisect ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Parting:
    """Where two runs part."""

    equal: bool
    second: float | None
    """virtual seconds of the first checkpoint that differs, or the end"""
    before: Record | None
    """the first record of the one that the other does not have, and the other way round"""
    after: Record | None


def bisect(one: Path, other: Path) -> Parting:
    """The first record at which two runs part.

    Only the second in which they part is run again, with all its records. Raises `LocalError` for
    a run that does not repeat: of other code, whose records were not kept.
    """
    before, after = outputs.read(one), outputs.read(other)
    if before.digest is None or after.digest is None:
        raise LocalError("A run without a log cannot be compared: run.log is off.")
    if (before.digest, before.virtual_s) == (after.digest, after.virtual_s):
        return Parting(equal=True, second=None, before=None, after=None)
    start, end = _window(before, after)
    first, second = _first_difference(_records(before, start, end), _records(after, start, end))
    return Parting(equal=False, second=end - EPOCH, before=first, after=second)


def bisect_document(parting: Parting, one: Path, other: Path) -> dict[str, object]:
    """The `sim bisect` document."""
    return {
        "schema": BISECT_SCHEMA,
        "before": str(one),
        "after": str(other),
        "equal": parting.equal,
        "second": parting.second,
        "records": {
            "before": None if parting.before is None else _event(parting.before),
            "after": None if parting.after is None else _event(parting.after),
        },
    }


def _event(record: Record) -> dict[str, object]:
    return outputs.event(record) | {"decoded": decoded(record), "virtual_s": record.now - EPOCH}


def _window(one: Run, other: Run) -> tuple[float, float]:
    """The instants between which they part: that of the last equal checkpoint, and the next."""
    theirs = {each.second: each for each in other.checkpoints}
    start = EPOCH
    for each in one.checkpoints:
        if theirs.get(each.second) != each:
            return start, float(each.second)
        start = float(each.second)
    return start, EPOCH + max(one.virtual_s, other.virtual_s)


def _records(run: Run, start: float, end: float) -> list[Record]:
    """What a run recorded in a window, in order of time, node and number."""
    found: list[Record] = []

    def sink(record: Record) -> None:
        if start <= record.now <= end:
            found.append(record)

    trial = Trial(_full(run.exp), run.seed, sink=sink)
    trial.run(min(end - EPOCH + CHECKED_S, run.virtual_s))
    known = {each.second: each for each in run.checkpoints}
    ended = trial.now == run.virtual_s and trial.digest != run.digest
    if ended or any(known.get(each.second, each) != each for each in trial.checkpoints):
        raise LocalError(
            f"The run of seed {run.seed} does not repeat: it was made by other code or on another "
            "machine. Run it again, with --set run.log=full to keep its records."
        )
    return sorted(found, key=lambda record: (record.now, record.node, record.number))


def _full(exp: Experiment) -> Experiment:
    return replace(exp, run=replace(exp.run, log="full"))


def _first_difference(
    one: Sequence[Record], other: Sequence[Record]
) -> tuple[Record | None, Record | None]:
    for before, after in _side_by_side(one, other):
        if before != after:
            return before, after
    return None, None


def _side_by_side(
    one: Sequence[Record], other: Sequence[Record]
) -> Iterator[tuple[Record | None, Record | None]]:
    for at in range(max(len(one), len(other))):
        yield one[at] if at < len(one) else None, other[at] if at < len(other) else None
