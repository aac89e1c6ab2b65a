"""The network of an experiment, from what its file says."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from p2p.entropy import Entropy
from simulations import experiment
from simulations.network import matrix, regions
from simulations.network.bandwidth import Lines, megabits
from simulations.network.fabric import LARGEST, Network
from simulations.network.latency import (
    Coordinates,
    Everywhere,
    Latency,
    Measured,
    Quantiles,
    Regional,
)
from simulations.network.links import Links
from simulations.network.loss import Bursts, Independent, Loss
from simulations.network.nat import Boxes, Nat, drawing
from simulations.network.regions import Regions

MILLI: Final = 1e-3


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What lies between the nodes of one run: ways, lines and boxes.

    Datagrams and links of one node share its place, its region and its class of NAT.
    """

    latency: Latency
    datagrams: Network
    links: Links
    boxes: Boxes
    nat: Callable[[int], Nat]
    """The class that each node is to be settled behind."""


def ground(spec: experiment.Network, entropy: Entropy, *, whole: bool = False) -> Ground:
    """The network of an experiment; `whole`: payloads of any size are carried as one.

    Raises `OSError` and `ValueError` for a matrix that cannot be read.
    """
    where = Regions(entropy, spec.latency.share or regions.SHARES)
    latency = _latency(spec.latency, entropy, where)
    loss = _loss(spec.loss)
    datagrams = Network(
        entropy.fork("udp"),
        latency=latency,
        loss=loss,
        jitter=spec.jitter,
        uplink=_lines(spec.uplink_mbps, regions.UPLINK_MBPS, where, spec.queue_ms),
        downlink=_lines(spec.downlink_mbps, regions.DOWNLINK_MBPS, where, spec.queue_ms),
        largest=None if whole else LARGEST,
    )
    links = Links(entropy.fork("tcp"), latency=latency, loss=loss.mean, jitter=spec.jitter)
    return Ground(
        latency=latency,
        datagrams=datagrams,
        links=links,
        boxes=Boxes(spec.nat_lifetime),
        nat=_nat(spec, entropy),
    )


def plain(entropy: Entropy, datagrams: Network) -> Ground:
    """A network without NATs, links or lines: what is there is as `datagrams` says."""
    links = Links(entropy.fork("tcp"), latency=datagrams.latency)
    return Ground(
        latency=datagrams.latency,
        datagrams=datagrams,
        links=links,
        boxes=Boxes(),
        nat=lambda node: Nat.OPEN,
    )


def _latency(spec: experiment.Latency, entropy: Entropy, where: Regions) -> Latency:
    match spec.kind:
        case "constant":
            return Everywhere(spec.rtt_ms * MILLI)
        case "coordinates":
            return Coordinates(entropy, spec.sigma_ms * MILLI)
        case "regions":
            return Regional(entropy, where)
        case "matrix":
            path = Path(spec.file) if spec.file else matrix.find()
            return Quantiles(entropy) if path is None else Measured(entropy, matrix.read(path))


def _loss(spec: float | experiment.GilbertElliott) -> Loss:
    if not isinstance(spec, experiment.GilbertElliott):
        return Independent(spec)
    return Bursts(good_bad=spec.p_good_bad, bad_good=spec.p_bad_good, loss_bad=spec.loss_bad)


def _lines(
    spec: float | str, by_region: Sequence[float], where: Regions, queue: float
) -> Lines | None:
    if isinstance(spec, str):
        if spec == "none":
            return None
        return Lines(megabits(lambda node: by_region[where.of(node)]), queue * MILLI)
    return Lines(megabits(lambda node: spec), queue * MILLI)


def _nat(spec: experiment.Network, entropy: Entropy) -> Callable[[int], Nat]:
    if isinstance(spec.nat, str):
        return lambda node: Nat.OPEN
    return drawing({Nat(name): share for name, share in spec.nat.items()}, entropy)
