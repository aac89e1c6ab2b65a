"""`tussah bench`: runs one benchmark, or all, and prints figures for people or programs."""

import json
import sys
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from scripts import log, settings
from scripts.bench import adnl, ledger, path, report, sim
from scripts.failure import Failed, suggestion

Measure: TypeAlias = Callable[[bool, Callable[[str], None]], report.Bench]

BENCHES: Final[Mapping[str, Measure]] = {
    "adnl": adnl.measure,
    "ledger": ledger.measure,
    "path": path.measure,
    "sim": sim.measure,
}


def main(name: str, *, quick: bool = False, as_json: bool = False) -> int:
    """Run the benchmark of that name, `all` for every one. Raises `Failed` (`usage`)."""
    if name != "all" and name not in BENCHES:
        known = [*BENCHES, "all"]
        raise Failed(
            "usage", f"There is no benchmark {name}.", suggestion(name, known) or ", ".join(known)
        )
    chosen = BENCHES if name == "all" else {name: BENCHES[name]}
    with log.configured(settings.Log(level="warning")):
        documents = [_run(measure, quick, as_json) for measure in chosen.values()]
    if as_json:
        sys.stdout.write(json.dumps(documents if name == "all" else documents[0]) + "\n")
    return 0


def _run(measure: Measure, quick: bool, as_json: bool) -> Mapping[str, object]:
    made_on = report.machine()
    bench = measure(quick, lambda line: _progress(line))
    if not as_json:
        sys.stdout.write("\n".join(report.lines(bench)) + "\n")
    return report.document(bench, made_on)


def _progress(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
