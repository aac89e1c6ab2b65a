"""What an experiment's `[[fault]]` tables do to the network of a scenario."""

from collections.abc import Iterator, Sequence
from typing import Final

from p2p.entropy import Entropy, exponential, sample
from p2p.transport.fabric import EPOCH, Fabric
from simulations.experiment import Experiment
from simulations.experiment import Fault as Table
from simulations.faults import OF_MESSAGES, OF_WAYS, Fault, Kind, Schedule, Troubled, Weather
from simulations.reading import WrongExperiment, unknown

KINDS: Final = (*OF_MESSAGES, *OF_WAYS)
"""Those that a network meets; what happens to disks, clocks and chains needs other scenarios."""

KNOBS: Final = ("share", "amount")


def under_weather(exp: Experiment, entropy: Entropy, fabric: Fabric) -> Fabric:
    """The network as the faults make it; itself if there are none."""
    schedule = written(exp, entropy)
    return Troubled(fabric, Weather(schedule, EPOCH)) if len(schedule) else fabric


def written(exp: Experiment, entropy: Entropy, kinds: Sequence[Kind] = KINDS) -> Schedule:
    """The faults that an experiment's tables name, of kinds that its scenario knows."""
    faults = [
        fault
        for number, table in enumerate(exp.fault)
        for fault in _of(exp, entropy, number, table, kinds)
    ]
    return Schedule(entropy, faults)


def _of(
    exp: Experiment, entropy: Entropy, number: int, table: Table, kinds: Sequence[Kind]
) -> Iterator[Fault]:
    """One fault of a table, or as many as come at its rate from `at` on, each of other nodes."""
    if table.kind not in kinds:
        raise unknown(f"fault kind {table.kind} in scenario {exp.scenario}", [*kinds])
    stray = [name for name in table.knobs if name not in KNOBS]
    if stray:
        raise WrongExperiment(f"A fault has no knob {stray[0]}: {', '.join(KNOBS)}.")
    stream, when = entropy.fork(f"fault/table/{number}"), table.at
    places = 0
    while when < exp.run.until:
        yield _fault(exp, stream, 1_000 * number + places, table, when)
        if not table.rate:
            return
        when += exponential(stream, 1.0 / table.rate)
        places += 1


def _fault(exp: Experiment, stream: Entropy, number: int, table: Table, when: float) -> Fault:
    nodes = table.nodes or tuple(
        sorted(sample(stream, range(exp.run.nodes), max(1, round(table.share * exp.run.nodes))))
    )
    return Fault(
        number=number,
        kind=Kind(table.kind),
        at=when,
        lasts=table.duration or exp.run.until - when,
        nodes=nodes,
        share=float(table.knobs.get("share", 1.0)),
        amount=float(table.knobs.get("amount", 1.0)),
    )
