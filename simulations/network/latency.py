"""How long the way between two nodes is: one model per kind, each the same in both directions.

A model draws what it needs of a node from that node's own fork, and of a pair by a hash, so it
does not matter who is asked about first. What varies from datagram to datagram is the network's.
"""

import math
from bisect import bisect_right
from hashlib import blake2b
from typing import Final, Protocol, final

from p2p.entropy import Entropy, shuffle
from simulations.network.matrix import Matrix
from simulations.network.regions import RTT_MS, Regions
from simulations.samplers import normal

SPREAD: Final = (0.005, 0.040)
"""seconds one way between a node and the middle of the network, drawn uniformly per node."""

SIGMA: Final = 0.030
"""seconds: the deviation of each coordinate; round trips are then 100 to 300 ms, as in PlanetLab"""

DIMENSIONS: Final = 4

HEIGHT: Final = (-5.0, 0.7)
"""mean and deviation of the logarithm of the seconds between a node and its provider: 7 ms"""

NEIGHBOURS: Final = 0.001
"""seconds there and back between two nodes of one row of the matrix"""

QUANTILES: Final = (
    (0.0, 0.0),
    (0.05, 0.0193),
    (0.25, 0.0593),
    (0.50, 0.135),
    (0.75, 0.202),
    (0.95, 0.325),
    (0.99, 0.413),
    (1.0, 2.984),
)
"""shares of PlanetLab's pairs, and the seconds there and back that they stay below"""


class Latency(Protocol):
    """A model."""

    def leg(self, src: int, dst: int) -> float:
        """Seconds one way, the same both ways."""


@final
class Everywhere:
    """One delay for all: everything meets, the hardest case for the order of things."""

    def __init__(self, rtt: float) -> None:
        self._leg = rtt / 2.0

    def leg(self, src: int, dst: int) -> float:
        """See `Latency`."""
        return self._leg


@final
class Star:
    """All ways lead through the middle, to which some nodes are nearer: the simple kind."""

    def __init__(self, entropy: Entropy, spread: tuple[float, float] = SPREAD) -> None:
        self._entropy = entropy
        self._spread = spread
        self._places: dict[int, float] = {}

    def leg(self, src: int, dst: int) -> float:
        """See `Latency`."""
        return self._place(src) + self._place(dst)

    def _place(self, node: int) -> float:
        place = self._places.get(node)
        if place is None:
            nearest, farthest = self._spread
            draw = self._entropy.fork(f"place/{node}").uniform()
            place = self._places[node] = nearest + draw * (farthest - nearest)
        return place


@final
class Heights:
    """What the last mile of each node adds to every way."""

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy
        self._drawn: dict[int, float] = {}

    def of(self, src: int, dst: int) -> float:
        """Seconds that both ends of a way add: their sum first, which is the same both ways."""
        return self._of(src) + self._of(dst)

    def _of(self, node: int) -> float:
        drawn = self._drawn.get(node)
        if drawn is None:
            mean, deviation = HEIGHT
            draw = normal(self._entropy.fork(f"height/{node}"))
            drawn = self._drawn[node] = math.exp(mean + deviation * draw)
        return drawn


@final
class Coordinates:
    """Points in a space, as Vivaldi has them: distance and heights, no detour is a short cut."""

    def __init__(self, entropy: Entropy, sigma: float = SIGMA) -> None:
        self._entropy = entropy
        self._sigma = sigma
        self._heights = Heights(entropy)
        self._points: dict[int, tuple[float, ...]] = {}

    def leg(self, src: int, dst: int) -> float:
        """See `Latency`."""
        distance = math.dist(self._point(src), self._point(dst))
        return distance + self._heights.of(src, dst)

    def _point(self, node: int) -> tuple[float, ...]:
        point = self._points.get(node)
        if point is None:
            fork = self._entropy.fork(f"point/{node}")
            point = tuple(self._sigma * normal(fork) for _ in range(DIMENSIONS))
            self._points[node] = point
        return point


@final
class Regional:
    """The way between two regions, and the last miles."""

    def __init__(self, entropy: Entropy, regions: Regions) -> None:
        self._regions = regions
        self._heights = Heights(entropy)

    def leg(self, src: int, dst: int) -> float:
        """See `Latency`."""
        rtt = RTT_MS[self._regions.of(src)][self._regions.of(dst)] / 1_000.0
        return rtt / 2.0 + self._heights.of(src, dst)


@final
class Measured:
    """Real pairs: each node is a row of a matrix; more nodes than rows share them."""

    def __init__(self, entropy: Entropy, matrix: Matrix) -> None:
        self._matrix = matrix
        self._heights = Heights(entropy)
        self._rows = list(range(matrix.rows))
        shuffle(entropy.fork("rows"), self._rows)

    def leg(self, src: int, dst: int) -> float:
        """See `Latency`."""
        row, column = self._row(src), self._row(dst)
        if row != column:
            return self._matrix.rtt(row, column) / 2.0
        return NEIGHBOURS / 2.0 + self._heights.of(src, dst)

    def _row(self, node: int) -> int:
        return self._rows[node % len(self._rows)]


@final
class Quantiles:
    """Pairs drawn from the distribution of real ones, where their matrix is not at hand."""

    def __init__(self, entropy: Entropy) -> None:
        self._key = entropy.fork("pairs").token(32)

    def leg(self, src: int, dst: int) -> float:
        """See `Latency`."""
        pair = min(src, dst).to_bytes(4, "little") + max(src, dst).to_bytes(4, "little")
        draw = int.from_bytes(blake2b(pair, digest_size=8, key=self._key).digest(), "little")
        return _quantile(draw * 2.0**-64) / 2.0


def _quantile(share: float) -> float:
    above = bisect_right(QUANTILES, share, key=lambda point: point[0])
    (x0, y0), (x1, y1) = QUANTILES[above - 1], QUANTILES[min(above, len(QUANTILES) - 1)]
    return y0 if x0 == x1 else y0 + (y1 - y0) * (share - x0) / (x1 - x0)
