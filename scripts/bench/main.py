"""`tussah bench`: runs one benchmark, or all, and prints figures for people or programs."""

import json
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Final, TypeAlias

from scripts import log, settings
from scripts.bench import report
from scripts.failure import Failed, suggestion

Measure: TypeAlias = Callable[[bool, Callable[[str], None]], report.Bench]

BENCHES: Final = ("adnl", "api", "audit", "cli", "engine", "ledger", "onion", "path", "sim")
"""Each a module of this package with a `measure`, imported when it is run: one that needs TON's
machine must not stand in the way of one that does not."""


def main(name: str, *, quick: bool = False, as_json: bool = False) -> int:
    """Run the benchmark of that name, `all` for every one. Raises `Failed` (`usage`)."""
    if name != "all" and name not in BENCHES:
        known = [*BENCHES, "all"]
        raise Failed(
            "usage", f"There is no benchmark {name}.", suggestion(name, known) or ", ".join(known)
        )
    chosen = BENCHES if name == "all" else (name,)
    with log.configured(settings.Log(level="warning")):
        documents = [_run(_measure(each), quick, as_json) for each in chosen]
    if as_json:
        sys.stdout.write(json.dumps(documents if name == "all" else documents[0]) + "\n")
    return 0


def _measure(name: str) -> Measure:
    measure: Measure = import_module(f"scripts.bench.{name}").measure
    return measure


def _run(measure: Measure, quick: bool, as_json: bool) -> Mapping[str, object]:
    made_on = report.machine()
    bench = measure(quick, lambda line: _progress(line))
    if not as_json:
        sys.stdout.write("\n".join(report.lines(bench)) + "\n")
    return report.document(bench, made_on)


def _progress(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
