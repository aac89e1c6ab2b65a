"""Where in the world nodes are: six regions, with what is measured of each and between them.

Round trips and bandwidths are SimBlock's of 2019 (Banno and Shudo), the shares those of Bitcoin's
reachable nodes in the same year. SimBlock takes the round trips for one way; their size says that
they are not, so half of one is a way.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from types import MappingProxyType
from typing import Final, final

from p2p.entropy import Entropy

NAMES: Final = ("NA", "EU", "SA", "AP", "JP", "AU")

RTT_MS: Final[Sequence[Sequence[float]]] = (
    (32, 124, 184, 198, 151, 189),
    (124, 11, 227, 237, 252, 294),
    (184, 227, 88, 325, 301, 322),
    (198, 237, 325, 85, 58, 198),
    (151, 252, 301, 58, 12, 126),
    (189, 294, 322, 198, 126, 16),
)
"""milliseconds there and back, by the order of `NAMES`"""

UPLINK_MBPS: Final = (19.2, 20.7, 5.8, 15.7, 10.2, 11.3)
"""megabits a second"""

DOWNLINK_MBPS: Final = (52.0, 40.0, 18.0, 22.8, 22.8, 29.9)
"""megabits a second"""

SHARES: Final[Mapping[str, float]] = MappingProxyType(
    dict(zip(NAMES, (0.332, 0.500, 0.009, 0.118, 0.022, 0.020), strict=True))
)
"""of all nodes"""


@final
class Regions:
    """Draws the region of each node once, from the node's own fork."""

    def __init__(self, entropy: Entropy, shares: Mapping[str, float] = SHARES) -> None:
        unknown = [name for name in shares if name not in NAMES]
        if unknown or sum(shares.values()) <= 0.0:
            raise ValueError(f"regions are {', '.join(NAMES)}, with shares that are not all 0")
        self._entropy = entropy
        self._bounds = [*accumulate(shares.get(name, 0.0) for name in NAMES)]
        self._known: dict[int, int] = {}

    def of(self, node: int) -> int:
        """The region of a node, as its place in `NAMES`."""
        known = self._known.get(node)
        if known is None:
            known = self._known[node] = self._draw(node)
        return known

    def _draw(self, node: int) -> int:
        at = self._entropy.fork(f"region/{node}").uniform() * self._bounds[-1]
        return next(region for region, bound in enumerate(self._bounds) if at < bound)
