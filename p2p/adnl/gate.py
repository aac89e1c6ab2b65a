"""What strangers may cost us: direct datagrams are counted before anything is decrypted."""

from typing import final

from p2p.adnl.address import neighbourhood
from p2p.adnl.drops import Drop
from p2p.adnl.limits import Limits
from p2p.bucket import Buckets, full_bucket
from p2p.errors import AdnlError
from p2p.wire import Endpoint


@final
class Gate:
    """Each source has its rate, and all together have one; known peers are the last to feel it."""

    def __init__(self, limits: Limits) -> None:
        self._datagrams: Buckets[str] = Buckets(
            limits.source_rate, limits.source_burst, limits.sources
        )
        self._newcomers: Buckets[str] = Buckets(
            limits.new_peers_rate, limits.new_peers_burst, limits.sources
        )
        self._node = full_bucket(limits.node_rate, limits.node_burst, 0.0)

    def datagram(self, now: float, endpoint: Endpoint, *, known: bool) -> None:
        """A direct datagram came. Raises `AdnlError` if it must not be opened."""
        if not self._datagrams.take(now, neighbourhood(endpoint.host)):
            raise AdnlError(Drop.SOURCE_RATE)
        self._node.take(now, 0.0)  # what has come back since is counted first
        kept = 0.0 if known else self._node.burst / 2
        if self._node.level < kept or not self._node.take(now):
            raise AdnlError(Drop.NODE_RATE)

    def newcomer(self, now: float, endpoint: Endpoint) -> None:
        """A peer never met before wrote from there. Raises `AdnlError` if it must not be known."""
        if not self._newcomers.take(now, neighbourhood(endpoint.host)):
            raise AdnlError(Drop.NEW_PEERS_RATE)

    def sizes(self) -> dict[str, int]:
        """Lengths of the tables."""
        return {"sources": len(self._datagrams), "newcomers": len(self._newcomers)}
