"""The network of a simulation: what becomes of each datagram between two nodes.

On its way out, in this order: too big, the uplink's queue, loss, the way itself. On arrival: the
downlink's queue; before it comes the NAT, which belongs to the names (`nat.py`), and around it what
goes wrong for a while, partitions among it (`simulations/faults.py`). All randomness is the
sender's, sixteen bytes for every datagram whatever becomes of it; what the receiver owns is decided
on arrival, in the order in which things arrive.
"""

from dataclasses import dataclass
from typing import Final, final

from p2p.entropy import Entropy
from simulations.network.bandwidth import Lines
from simulations.network.latency import Latency, Star
from simulations.network.loss import BITS, Independent, Loss
from simulations.network.streams import Streams

IP_UDP: Final = 28
"""bytes of the headers of IPv4 and UDP, which lines carry too"""

LARGEST: Final = 1_472
"""bytes of a datagram that Ethernet carries whole"""

JITTER: Final = 0.1
"""share of a way by which it may be longer"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkStatistics:
    """A snapshot: datagrams by what became of them."""

    sent: int
    too_big: int
    lost: int
    uplink: int
    """dropped where the sender's line was full"""
    downlink: int
    """dropped where the receiver's line was full"""


@final
class Network:
    """A `Fabric`. With `largest`, longer datagrams are dropped; the message seam carries all."""

    def __init__(
        self,
        entropy: Entropy,
        *,
        latency: Latency | None = None,
        loss: Loss | float = 0.0,
        jitter: float = JITTER,
        uplink: Lines | None = None,
        downlink: Lines | None = None,
        largest: int | None = None,
    ) -> None:
        self.latency = latency or Star(entropy)
        self._loss = Independent(loss) if isinstance(loss, float) else loss
        self._jitter = jitter
        self._uplink = uplink
        self._downlink = downlink
        self._largest = largest
        self._streams = Streams(entropy, "net")
        self._sent = self._too_big = self._lost = self._full_up = self._full_down = 0

    def route(self, now: float, src: int, dst: int, size: int) -> tuple[float, ...]:
        """See `Fabric`."""
        draws = int.from_bytes(self._streams.of(src).token(16), "little")
        self._sent += 1
        if self._largest is not None and size > self._largest:
            self._too_big += 1
            return ()

        leaves = now
        if self._uplink is not None:
            through = self._uplink.carry(now, src, size + IP_UDP)
            if through is None:
                self._full_up += 1
                return ()
            leaves = through

        if self._loss.loses(src, dst, draws & _FIRST):
            self._lost += 1
            return ()
        wobble = (draws >> 75) * BITS
        way = self.latency.leg(src, dst) * (1.0 + self._jitter * wobble)
        return (leaves + way,)

    def admit(self, now: float, src: int, dst: int, size: int) -> float | None:
        """See `Fabric`."""
        if self._downlink is None:
            return now
        through = self._downlink.carry(now, dst, size + IP_UDP)
        self._full_down += through is None
        return through

    def statistics(self) -> NetworkStatistics:
        """A snapshot of the counters."""
        return NetworkStatistics(
            sent=self._sent,
            too_big=self._too_big,
            lost=self._lost,
            uplink=self._full_up,
            downlink=self._full_down,
        )


_FIRST: Final = (1 << 64) - 1
