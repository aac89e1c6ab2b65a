"""Attackers among the parties of a bazaar, from an experiment's tables."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from p2p.entropy import Entropy, sample
from simulations.adversary.double_spender import DoubleSpender, Spender
from simulations.adversary.flooder import Flooder
from simulations.adversary.free_rider import FreeRider, Rider
from simulations.adversary.lying_worker import Liar, LyingWorker
from simulations.adversary.mouth import Mouth
from simulations.bazaar import ANSWER, Hands, keys
from simulations.experiment import Adversary, Experiment
from simulations.faces import Face
from simulations.reading import WrongExperiment, read, unknown

KINDS: Final = ("lying_worker", "free_rider", "double_spender", "flooder")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attackers:
    """Who they are, and what they do."""

    hands: Hands
    kinds: Mapping[int, str]
    """of each attacker, by its index"""


def attackers(
    exp: Experiment, workers: Sequence[int], askers: Sequence[int], entropy: Entropy
) -> Attackers:
    """Those that the tables name. Raises `WrongExperiment` for a kind that there is not."""
    mouths: dict[int, Callable[[Face], Mouth]] = {}
    spenders: dict[int, Spender] = {}
    floods: dict[int, Flooder] = {}
    kinds: dict[int, str] = {}
    for number, table in enumerate(exp.adversary):
        where = f"adversary.{table.kind}"
        among = workers if table.kind == "lying_worker" else askers
        nodes = _chosen(table, among, entropy.fork(f"adversary/{number}"))
        kinds |= dict.fromkeys(nodes, table.kind)
        match table.kind:
            case "lying_worker":
                lie = read(LyingWorker, table.knobs, where)
                mouths |= {node: _lying(lie, node) for node in nodes}
            case "free_rider":
                rider = read(FreeRider, table.knobs, where)
                mouths |= {node: _riding(rider) for node in nodes}
            case "double_spender":
                read(DoubleSpender, table.knobs, where)
                spenders |= {node: Spender() for node in nodes}
            case "flooder":
                floods |= dict.fromkeys(nodes, read(Flooder, table.knobs, where))
            case other:
                raise unknown(f"adversary {other}", [*KINDS])
    return Attackers(hands=Hands(mouths=mouths, spenders=spenders, floods=floods), kinds=kinds)


def _lying(how: LyingWorker, node: int) -> Callable[[Face], Mouth]:
    def speak(face: Face) -> Mouth:
        liar = Liar(how, keys(node)[0], ANSWER)
        return Mouth(face, liar, liar.offering)

    return speak


def _riding(how: FreeRider) -> Callable[[Face], Mouth]:
    return lambda face: Mouth(face, Rider(how))


def _chosen(table: Adversary, among: Sequence[int], entropy: Entropy) -> Sequence[int]:
    """Those named by number, else a share of those who can be it, one at least."""
    if not table.nodes:
        return sample(entropy, among, max(1, round(table.share * len(among))))
    if not all(node in among for node in table.nodes):
        first, last = among[0], among[-1]
        raise WrongExperiment(f"adversary.nodes of a {table.kind} must be from {first} to {last}.")
    return table.nodes
