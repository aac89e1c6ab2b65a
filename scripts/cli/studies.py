"""Documents of `tussah sim` as text for people."""

from collections.abc import Mapping

from scripts.cli.common import out
from scripts.cli.render import Row, table
from scripts.cli.words import count
from scripts.failure import Document
from simulations.words import number, unit, value

MAX_DETAIL = 2_000
"""characters of what a core raised"""


def run(document: Document) -> None:
    """The `sim run` document, of one run."""
    rows = [
        ("experiment", f"{document['experiment']}, seed {document['seed']}"),
        ("nodes", f"{document['nodes']}, {_number(document['virtual_s'])} virtual s"),
        ("took", f"{_number(document['wall_s'])} s, {_number(document['cpu_s'])} s of processor"),
        ("records", f"{document['events']} ({_number(document['events_per_cpu_s'])}/s)"),
        ("digest", str(document["digest"] or "none: the log is off")),
        ("outcome", _outcome(document)),
        ("written to", f"{document['out']}{' (was there already)' * bool(document['resumed'])}"),
    ]
    table(rows)
    out("\n")
    table([("METRIC", "VALUE"), *map(_metric, _list(document["metrics"]))], header=True)
    broken = [each for each in _list(document["invariants"]) if each["failed"]]
    for each in broken:
        out(f"{each['name']} did not hold: {each['failed']} times of {each['checked']}\n")
    out("\nOne seed: no interval. Look into it: " + str(document["replay"]) + "\n")


def sweep(document: Document) -> None:
    """The `sim run` document, of many."""
    runs = _list(document["runs"])
    resumed = sum(each["resumed"] is True for each in runs)
    already = f", {resumed} of them there already" if resumed else ""
    out(f"{document['experiment']}: {count(len(runs), 'run')}{already}\n")
    for point in _list(document["points"]):
        where = point["point"]
        assert isinstance(where, Mapping)
        if where:
            out("\n" + ", ".join(f"{key} = {value(each)}" for key, each in where.items()) + "\n")
        lines = [_summary(each) for each in _list(point["metrics"])]
        table([("METRIC", "MEAN", "95 % INTERVAL", "N", ""), *lines], header=True)
    for each in runs:
        if each["outcome"] not in ("ok", None):
            out(f"seed {each['seed']}: {_outcome(each)}\n")
    out(f"\nReport: {document['report']}\n")


def comparison(document: Document) -> None:
    """The `sim compare` document."""
    for each in _list(document["settings"]):
        out(f"{each['key']}: {_setting(each['before'])} -> {_setting(each['after'])}\n")
    for each in _list(document["metrics"]):
        out(f"{_changed(each)}\n")
    equal = sum(each["equal"] is True for each in _list(document["digests"]))
    pairs = document["pairs"]
    assert isinstance(pairs, int)
    out(f"{count(pairs, 'pair')} of equal seeds, {equal} with one digest\n")


def replayed(document: Document) -> None:
    """The `sim replay` document."""
    sizes = document["sizes"]
    if isinstance(sizes, Mapping):
        out(", ".join(f"{name} {size}" for name, size in sizes.items()) + "\n")
    if document["crash"]:
        out(str(document["crash"]))
    same = f"{document['checkpoints']} checkpoints as in the run"
    if document["same"] is not True:
        same = f"another run from second {_number(document['differs_at_s'])} on"
    out(f"{_number(document['virtual_s'])} virtual s, {document['events']} records: {same}\n")
    if document["same_code"] is not True:
        out("The run was made by other code than this.\n")


def parting(document: Document) -> None:
    """The `sim bisect` document."""
    if document["equal"] is True:
        out("The runs are the same.\n")
        return
    records = document["records"]
    assert isinstance(records, Mapping)
    out(f"They part before second {_number(document['second'])}:\n")
    for side in ("before", "after"):
        out(f"{side:<7} {_record(records[side])}\n")


def shrunk(document: Document) -> None:
    """The `sim shrink` document."""
    nodes, until, faults = (document[key] for key in ("nodes", "until_s", "faults"))
    assert isinstance(nodes, Mapping)
    assert isinstance(until, Mapping)
    assert isinstance(faults, Mapping)
    broke = document["broke"]
    assert isinstance(broke, list)
    kept = faults["after"]
    assert isinstance(kept, list)
    table(
        [
            ("broke", ", ".join(map(str, broke))),
            ("nodes", f"{nodes['before']} -> {nodes['after']}"),
            ("seconds", f"{_number(until['before'])} -> {_number(until['after'])}"),
            ("faults", f"{faults['before']} -> {len(kept)}: {', '.join(map(str, kept)) or 'none'}"),
            ("digest", str(document["digest"])),
        ]
    )


def _metric(metric: Mapping[str, object]) -> Row:
    return str(metric["name"]), f"{_number(metric['value'])}{unit(str(metric['unit']))}"


def _summary(metric: Mapping[str, object]) -> Row:
    span = "one seed, no interval"
    if metric["low"] is not None:
        span = f"{_number(metric['low'])} to {_number(metric['high'])}"
    warning = metric["warning"]
    said = "" if warning is None or str(warning) == span else str(warning)
    return (*_metric(metric), span, str(metric["n"]), said)


def _changed(metric: Mapping[str, object]) -> str:
    before, change = metric["before"], metric["change"]
    assert isinstance(before, float | int)
    assert isinstance(change, float | int)
    told = f"{change / abs(before):+.1%}" if before else f"{change:+.4g}"
    warning = f"; {metric['warning']}" if metric["warning"] else ""
    name = f"{metric['name']} {_number(before)} -> {_number(metric['after'])}"
    return f"{name}{unit(str(metric['unit']))} ({told}{warning})"


def _record(record: object) -> str:
    if not isinstance(record, Mapping):
        return "nothing more in this second"
    peer = "" if record["peer"] is None else f" from {record['peer']}"
    when = f"{record['virtual_s']:.6f} s, node {record['node']}, record {record['n']}"
    return f"{when}: {record['kind']}{peer}: {record['decoded']}"


def _outcome(document: Mapping[str, object]) -> str:
    detail = document["detail"]
    return f"{document['outcome']}{': ' + str(detail)[-MAX_DETAIL:] if detail else ''}"


def _number(found: object) -> str:
    return number(found) if isinstance(found, float | int) else "unknown"


def _list(found: object) -> list[Mapping[str, object]]:
    assert isinstance(found, list)
    return found


def _setting(found: object) -> str:
    return "its default" if found is None else value(found)
