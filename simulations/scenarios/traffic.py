"""What a world has sent and lost since it was last asked, as a meter counts it."""

from typing import Final, final

from p2p.transport.fabric import FabricStatistics
from simulations.metrics import Meter

REASONS: Final = ("lost", "refused", "missed", "unknown")
"""lost on the way; refused by a NAT or a full line; the node was down; nobody was meant"""


@final
class Traffic:
    """Tells a meter of `messages`, `bytes` and `dropped`."""

    def __init__(self, meter: Meter, label: str) -> None:
        self._meter = meter
        self._label = label
        self._sent = self._bytes = 0
        self._dropped = dict.fromkeys(REASONS, 0)

    def tell(self, said: FabricStatistics) -> None:
        """What there is more of than at the last time."""
        self._meter.count("messages", said.sent - self._sent, self._label)
        self._meter.count("bytes", said.bytes_sent - self._bytes, self._label)
        self._sent, self._bytes = said.sent, said.bytes_sent
        counts = (said.lost, said.refused, said.missed, said.unknown)
        for reason, count in zip(REASONS, counts, strict=True):
            if count > self._dropped[reason]:
                self._meter.count("dropped", count - self._dropped[reason], reason)
            self._dropped[reason] = count
