"""Links in virtual time: ordered, never losing, only late; and how their ends name each other."""

import math
from collections.abc import Sequence
from typing import Final, final

from p2p.core import Source
from p2p.entropy import Entropy
from p2p.identity import AdnlId
from p2p.transport.fabric import Endpoints
from p2p.wire import Endpoint, Link

SPREAD: Final = (0.005, 0.040)
"""seconds one way between a node and the middle of the network, drawn uniformly per node."""

RETRANSMIT: Final = 0.2
"""seconds until TCP repeats what was lost; doubled each time (RFC 6298's floor in Linux)."""

MAX_LOSSES: Final = 8
"""repeats after which a connection would be given up; none of ours is."""


@final
class Links:
    """A `Fabric` of links: loss and delay are drawn from the sender's stream, 16 bytes a message.

    `spread` bounds the seconds one way between a node and the middle of the network; two equal
    ones and no jitter make everything meet: ties everywhere.
    """

    def __init__(
        self,
        entropy: Entropy,
        *,
        loss: float = 0.0,
        jitter: float = 0.1,
        spread: tuple[float, float] = SPREAD,
    ) -> None:
        self._entropy = entropy
        self._loss = loss
        self._jitter = jitter
        self._spread = spread
        self._streams: dict[int, Entropy] = {}
        self._places: dict[int, float] = {}
        self._latest: dict[tuple[int, int], float] = {}

    def leg(self, src: int, dst: int) -> float:
        """Seconds one way without jitter; the same both ways."""
        return self._place(src) + self._place(dst)

    def route(self, now: float, src: int, dst: int, size: int) -> tuple[float, ...]:
        """One arrival, not before that of anything sent before on the same way."""
        stream = self._stream(src)
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

    def _stream(self, node: int) -> Entropy:
        stream = self._streams.get(node)
        if stream is None:
            stream = self._streams[node] = self._entropy.fork(f"net/{node}")
        return stream

    def _place(self, node: int) -> float:
        place = self._places.get(node)
        if place is None:
            draw = self._entropy.fork(f"place/{node}").uniform()
            nearest, farthest = self._spread
            place = self._places[node] = nearest + (farthest - nearest) * draw
        return place


@final
class LinkNames:
    """The `Naming` of nodes that know each other by links and by endpoints.

    One number names both ends of a link. `endpoints` are those of the nodes' sockets, by index; of
    nodes without any none need be given.
    """

    def __init__(self, ids: Sequence[AdnlId], endpoints: Sequence[Endpoint] = ()) -> None:
        self._ids = list(ids)
        self._indexes = {peer: node for node, peer in enumerate(ids)}
        self._sockets = {endpoint: node for node, endpoint in enumerate(endpoints)}
        self._endpoints = Endpoints(endpoints)

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
        if isinstance(source, Endpoint):
            return self._sockets[source]
        if not isinstance(source, Link):
            raise TypeError(f"{source!r} is no link")
        return self._indexes[source.peer]

    def reach(self, node: int, to: Source) -> tuple[int, Source] | None:
        """The far end, and what it calls this one."""
        if isinstance(to, Endpoint):
            return self._endpoints.reach(node, to)
        if not isinstance(to, Link) or to.peer not in self._indexes:
            return None
        return self._indexes[to.peer], Link(self._ids[node], to.number)
