"""Seeds by the thousand: each a bazaar under faults, whatever breaks made small and written down.

    python -m simulations.soak --minutes 30
    python -m simulations.soak --seed 176 --faults 3,9 --nodes 4 --until 51.5

The first looks for seeds that fail; what it finds it shrinks, prints with the line that replays it,
and appends to a file that `make test` replays from then on. The second is such a line.
"""

import argparse
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Final

from p2p.entropy import seeded
from p2p.transport.fabric import EPOCH
from simulations.log import EventLog
from simulations.scenarios import Audit, Violation
from simulations.scenarios.lanes import REST, Lanes, Size, schedule
from simulations.shrink import Trial, shrink

REGRESSIONS: Final = Path(__file__).parents[1] / "tests" / "regressions" / "seeds.toml"
"""Failures that were found, and must not come back."""

SMALL: Final = Size(workers=1, askers=1, until=30.0)
USUAL: Final = Size(workers=2, askers=2, until=60.0)

Say = Callable[[str], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a trial came to."""

    trial: Trial
    digest: str
    records: int
    violations: tuple[Violation, ...]
    outcomes: tuple[str, ...]
    """how the asks ended"""
    checked: dict[str, int]

    def broke(self, invariant: str) -> bool:
        """Whether an invariant did not hold."""
        return any(one.invariant == invariant for one in self.violations)


def trial(seed: int, size: Size = USUAL) -> Trial:
    """All of a seed."""
    faults = schedule(seeded(seed), size)
    until = max(size.until, faults.end + REST)
    return Trial(seed=seed, nodes=size.nodes, until=until, faults=faults.numbers)


def run(trial: Trial, size: Size = USUAL, *, log: EventLog | None = None) -> Report:
    """Run a trial of this size: the same, whenever and wherever it is run.

    At rest everything must be over; a trial that ends before is not at rest.
    """
    entropy, audit, log = seeded(trial.seed), Audit(), log or EventLog()
    faults = schedule(entropy, size).keep(trial.faults).among(trial.nodes)
    smaller = replace(size, askers=trial.nodes - 1 - size.workers)
    lanes = Lanes(entropy, trial.seed, smaller, faults, log, audit)
    try:
        lanes.run(EPOCH + trial.until)
    finally:
        lanes.close()
    return Report(
        trial=trial,
        digest=log.digest,
        records=log.records,
        violations=tuple(audit.violations),
        outcomes=tuple(ask.outcome for ask in lanes.asks),
        checked=dict(audit.checked),
    )


def smallest(trial: Trial, invariant: str, size: Size = USUAL, *, most: int = 100) -> Trial:
    """The trial shrunk, with this invariant still broken."""
    least = size.workers + 2
    return shrink(lambda one: run(one, size).broke(invariant), trial, least=least, most=most)


def replay_line(trial: Trial, size: Size = USUAL) -> str:
    """What to type to see a trial again."""
    faults = ",".join(map(str, trial.faults)) or "none"
    small = " --small" if size == SMALL else ""
    return (
        f"python -m simulations.soak --seed {trial.seed} --faults {faults}"
        f" --nodes {trial.nodes} --until {trial.until!r}{small}"
    )


def soak(
    minutes: float, *, first: int = 0, say: Say = print, regressions: Path = REGRESSIONS
) -> int:
    """Seeds from `first` on, for so many minutes; how many failed. Each is told of, and kept."""
    until, failures, seed = monotonic() + 60 * minutes, 0, first
    while monotonic() < until:
        report = run(trial(seed))
        if report.violations:
            failures += 1
            _found(report, say, regressions)
        seed += 1
    say(f"{seed - first} seeds from {first} on: {failures} failed")
    return failures


def known(regressions: Path = REGRESSIONS) -> Iterator[tuple[str, Trial]]:
    """The failures that were found once: the invariant, and its trial."""
    for one in tomllib.loads(regressions.read_text()).get("failure", []):
        yield (
            one["invariant"],
            Trial(
                seed=one["seed"],
                nodes=one["nodes"],
                until=one["until"],
                faults=tuple(one["faults"]),
            ),
        )


def describe(report: Report, size: Size = USUAL) -> Iterator[str]:
    """A report, line by line."""
    one = report.trial
    faults = schedule(seeded(one.seed), size).keep(one.faults).among(one.nodes)
    yield f"seed={one.seed} digest={report.digest} records={report.records}"
    yield f"asks: {', '.join(report.outcomes) or 'none'}"
    yield from (f"fault {fault}" for fault in faults)
    for broken in report.violations[:10]:
        at = broken.at - EPOCH
        yield f"{broken.invariant} at {at:.3f} s, node {broken.node}: {broken.detail}"


def _found(report: Report, say: Say, regressions: Path) -> None:
    invariant = report.violations[0].invariant
    small = smallest(report.trial, invariant)
    for line in describe(run(small)):
        say(line)
    say(replay_line(small))
    entry = (
        "\n[[failure]]\n"
        f'invariant = "{invariant}"\n'
        f"seed = {small.seed}\nnodes = {small.nodes}\nuntil = {small.until!r}\n"
        f"faults = [{', '.join(map(str, small.faults))}]\n"
    )
    with regressions.open("a") as file:
        file.write(entry)


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module; 1 if an invariant broke."""
    parser = argparse.ArgumentParser(prog="python -m simulations.soak")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="run this one alone")
    parser.add_argument("--faults", default="", help="numbers of those to keep, or none")
    parser.add_argument("--nodes", type=int)
    parser.add_argument("--until", type=float)
    parser.add_argument("--small", action="store_true", help="of the size that make test runs")
    options = parser.parse_args(arguments)
    if options.seed is None:
        return int(bool(soak(options.minutes, first=options.first)))
    size = SMALL if options.small else USUAL
    report = run(_asked_for(options, size), size)
    for line in describe(report, size):
        print(line)  # noqa: T201 - a program's answer
    return int(bool(report.violations))


def _asked_for(options: argparse.Namespace, size: Size) -> Trial:
    one = trial(options.seed, size)
    if options.faults:
        kept = () if options.faults == "none" else tuple(map(int, options.faults.split(",")))
        one = replace(one, faults=kept)
    nodes, until = options.nodes or one.nodes, options.until or one.until
    return replace(one, nodes=nodes, until=until)


if __name__ == "__main__":
    raise SystemExit(main())
