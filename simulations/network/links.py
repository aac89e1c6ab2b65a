"""Links in virtual time: ordered, never losing, only late; and how their ends name each other."""

import math
from collections.abc import Sequence
from typing import Final, final

from p2p.core import Source
from p2p.entropy import Entropy
from p2p.identity import AdnlId
from p2p.wire import Link
from simulations.network.fabric import JITTER
from simulations.network.latency import Latency, Star
from simulations.network.nat import Boxes
from simulations.network.streams import Streams

RETRANSMIT: Final = 0.2
"""seconds until TCP repeats what was lost; doubled each time (RFC 6298's floor in Linux)."""

MAX_LOSSES: Final = 8
"""repeats after which a connection would be given up; none of ours is."""


@final
class Links:
    """A `Fabric` of links: 16 bytes of the sender's stream a message decide on losses and delay."""

    def __init__(
        self,
        entropy: Entropy,
        *,
        latency: Latency | None = None,
        loss: float = 0.0,
        jitter: float = JITTER,
    ) -> None:
        self._latency = latency or Star(entropy)
        self._loss = loss
        self._jitter = jitter
        self._streams = Streams(entropy, "net")
        self._latest: dict[tuple[int, int], float] = {}

    def leg(self, src: int, dst: int) -> float:
        """Seconds one way without jitter; the same both ways."""
        return self._latency.leg(src, dst)

    def route(self, now: float, src: int, dst: int, size: int) -> tuple[float, ...]:
        """One arrival, not before that of anything sent before on the same way."""
        stream = self._streams.of(src)
        losses, wobble = self._losses(stream.uniform()), stream.uniform()
        delay = self.leg(src, dst) * (1.0 + self._jitter * wobble)
        arrival = now + delay + RETRANSMIT * (2**losses - 1)

        arrival = max(arrival, self._latest.get((src, dst), 0.0))
        self._latest[src, dst] = arrival
        return (arrival,)

    def admit(self, now: float, src: int, dst: int, size: int) -> float | None:
        """Whatever arrives is taken."""
        return now

    def _losses(self, draw: float) -> int:
        """How often a segment is lost before it arrives."""
        if self._loss == 0.0:
            return 0
        return min(int(math.log(1.0 - draw) / math.log(self._loss)), MAX_LOSSES)


@final
class LinkNames:
    """The `Naming` of nodes that know each other by links and by endpoints.

    One number names both ends of a link. The nodes' sockets are behind `boxes`; of nodes without
    any none need be given.
    """

    def __init__(self, ids: Sequence[AdnlId], boxes: Boxes | None = None) -> None:
        self._ids = list(ids)
        self._indexes = {peer: node for node, peer in enumerate(ids)}
        self._boxes = boxes or Boxes()

    def __len__(self) -> int:
        return len(self._ids)

    def id(self, node: int) -> AdnlId:
        """Who a node is."""
        return self._ids[node]

    def node(self, peer: AdnlId) -> int:
        """The node of an id."""
        return self._indexes[peer]

    def index(self, source: Source) -> int:
        """The node at the far end of a link or socket: what an event log wants to know."""
        if isinstance(source, Link):
            return self._indexes[source.peer]
        return self._boxes.index(source)

    def reach(self, now: float, node: int, to: Source) -> tuple[int, Source] | None:
        """The far end, and what it calls this one."""
        if not isinstance(to, Link):
            return self._boxes.reach(now, node, to)
        far = self._indexes.get(to.peer)
        return None if far is None else (far, Link(self._ids[node], to.number))

    def admits(self, now: float, node: int, to: Source, source: Source) -> bool:
        """Links are let in as they are; what comes to a socket, if its NAT lets it."""
        return isinstance(to, Link) or self._boxes.admits(now, node, to, source)
