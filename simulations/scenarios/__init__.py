"""Scenarios: what an experiment runs. Each module builds one, and says what it runs and measures.

A scenario is real cores under virtual time, the work they are given, and what is measured of it. It
draws from `setting.entropy` alone, forks of it by label, so that a seed decides everything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Final, Protocol, final

from p2p.entropy import Entropy
from simulations.experiment import Experiment
from simulations.log import EventLog
from simulations.metrics import Meter
from simulations.reading import WrongExperiment, unknown
from simulations.seat import Seat
from simulations.world import WorldKind

MAX_VIOLATIONS: Final = 1_000
"""violations of one run that are kept; more say nothing new."""


DRIVEN: Final = ("dht", "directory", "town")
"""Scenarios that the production driver can run, too: level L2."""


class Scenario(Protocol):
    """A network that can be run, looked at, and run on."""

    @property
    def now(self) -> float:
        """Unix seconds of virtual time, on the grid."""

    @property
    def nodes(self) -> Sequence[object]:
        """The nodes, by index."""

    @property
    def log(self) -> EventLog | None:
        """What the run is compared by; None if it keeps none."""

    def run(self, until: float, max_records: int | None = None) -> bool:
        """Run to an instant, what happens then included; False if `max_records` stopped it before.

        How a run is divided into calls changes nothing of it. Raises what a core raises: a bug.
        """

    def sizes(self, node: int) -> Mapping[str, int]:
        """Lengths of every table of a node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """An invariant that did not hold."""

    invariant: str
    at: float
    """Unix seconds of virtual time"""
    node: int
    detail: str


@final
class Audit:
    """Which invariants were looked at how often, and which did not hold."""

    def __init__(self) -> None:
        self.checked: dict[str, int] = {}
        self.violations: list[Violation] = []
        self.failed: dict[str, int] = {}

    def check(self, invariant: str, times: int = 1) -> None:
        """It was looked at; whether it held is another matter."""
        self.checked[invariant] = self.checked.get(invariant, 0) + times

    def fail(self, violation: Violation) -> None:
        """It did not hold."""
        name = violation.invariant
        self.checked.setdefault(name, 0)
        self.failed[name] = self.failed.get(name, 0) + 1
        if len(self.violations) < MAX_VIOLATIONS:
            self.violations.append(violation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a scenario is built from."""

    exp: Experiment
    entropy: Entropy
    """the seed's"""
    meter: Meter
    log: EventLog | None
    """None: no log is wanted. A scenario whose nodes name each other otherwise than by index sets
    its `resolve` before the first record."""
    audit: Audit = field(default_factory=Audit)
    world: WorldKind[Seat] | None = None
    """What runs the nodes of a message seam instead of what the level says: level L3 needs it."""


def build(setting: Setting) -> Scenario:
    """The scenario that the experiment names, at its start.

    Its module has `build(setting)`, and may have `KNOBS`: the parts (`dht`) or whole names of the
    protocol's numbers that it heeds. A number that no core would see is `WrongExperiment`.
    """
    name = setting.exp.scenario
    module = f"simulations.scenarios.{name}"
    try:
        found = import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise WrongExperiment(f"The scenario {name} is not part of this version.") from error
    _check_knobs(setting.exp, getattr(found, "KNOBS", None))
    if setting.exp.run.level == "L2" and name not in DRIVEN:
        raise WrongExperiment(f"The scenario {name} has no level L2; {', '.join(DRIVEN)} have it.")
    scenario: Scenario = found.build(setting)
    return scenario


def _check_knobs(exp: Experiment, heeded: Sequence[str] | None) -> None:
    for name in exp.protocol:
        if heeded is not None and not {name, name.partition(".")[0]} & {*heeded}:
            raise unknown(f"protocol.{name} in scenario {exp.scenario}", [*heeded])
