"""Datagrams in virtual time: late, unordered and sometimes lost, as over UDP."""

from typing import Final, final

from p2p.entropy import Entropy

SPREAD: Final = (0.005, 0.040)
"""seconds one way between a node and the middle of the network, drawn uniformly per node."""


@final
class Datagrams:
    """A `Fabric` of datagrams: two draws from the sender's stream for each, its fate and its delay.

    `spread` bounds the seconds one way between a node and the middle of the network; `loss` is the
    chance that a datagram arrives nowhere.
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

    def route(self, now: float, src: int, dst: int, size: int) -> tuple[float, ...]:
        """When it arrives, or nothing."""
        stream = self._stream(src)
        lost, wobble = stream.uniform() < self._loss, stream.uniform()
        if lost:
            return ()
        delay = self._place(src) + self._place(dst)
        return (now + delay * (1.0 + self._jitter * wobble),)

    def admit(self, now: float, src: int, dst: int, size: int) -> float | None:
        """Whatever arrives is taken."""
        return now

    def _stream(self, node: int) -> Entropy:
        stream = self._streams.get(node)
        if stream is None:
            stream = self._streams[node] = self._entropy.fork(f"net/{node}")
        return stream

    def _place(self, node: int) -> float:
        place = self._places.get(node)
        if place is None:
            nearest, farthest = self._spread
            draw = self._entropy.fork(f"place/{node}").uniform()
            place = self._places[node] = nearest + draw * (farthest - nearest)
        return place
