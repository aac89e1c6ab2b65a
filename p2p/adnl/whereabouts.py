"""Where a peer is: whence it was heard last, where it says it is, where others say it is.

While it is heard it is where it was heard: that way leads back through its NAT. A silent peer is
tried everywhere in turn, and what its own packets said is forgotten in the end.
"""

from collections.abc import Sequence
from typing import Final, final

from p2p.adnl.address import endpoints
from p2p.ton import AdnlAddressList
from p2p.wire import Endpoint

SILENCE: Final = 5.0
"""seconds without a packet of the peer after which a message of ours makes us doubt it."""

DOUBT: Final = 10.0
"""seconds from such a message until the peer counts as silent, if nothing comes."""

IDLE: Final = 120.0
"""seconds without a packet of the peer until it counts as silent."""

FORGET: Final = 600.0
"""seconds without a packet of the peer, or of trying in vain, until addresses are forgotten."""

TURN: Final = 1.0
"""seconds for which one of several addresses is tried."""


@final
class Whereabouts:
    """Of one peer."""

    __slots__ = ("_doubted", "_listed", "_tried", "_version", "endpoint", "heard")

    def __init__(self) -> None:
        self.heard: float | None = None
        """When a packet of it was taken last."""
        self.endpoint: Endpoint | None = None
        """Where that came from."""
        self._listed: tuple[Endpoint, ...] = ()
        self._version = 0
        self._doubted: float | None = None
        """Since when a message of ours into silence waits for a sign of life."""
        self._tried: float | None = None
        """Since when a silent peer has been tried."""

    def hear(self, now: float, endpoint: Endpoint) -> bool:
        """A packet was taken that came from there; whether that is another place than before."""
        moved = endpoint != self.endpoint
        self.endpoint = endpoint
        self.heard = now
        self._doubted = self._tried = None
        return moved

    def learn(self, now: float, addresses: AdnlAddressList) -> None:
        """Addresses in a packet of its own; older ones than those known are ignored."""
        if addresses.version > self._version:
            self._version = addresses.version
            self._listed = endpoints(addresses, now)

    def restart(self) -> None:
        """The peer has begun anew, and counts the versions of its addresses anew."""
        self._version = 0

    def speak(self, now: float) -> None:
        """Something is sent to it."""
        if self._doubted is None and self.heard is not None and now - self.heard > SILENCE:
            self._doubted = now

    def silent(self, now: float) -> bool:
        """Whether it must be asked directly if it is still there."""
        if self.heard is None or now - self.heard >= IDLE:
            return True
        return self._doubted is not None and now - self._doubted >= DOUBT

    def target(self, now: float, told: Sequence[Endpoint]) -> Endpoint | None:
        """Where to send; `told` is what upper layers know. None if nothing is known."""
        if self.endpoint is not None and not self.silent(now):
            return self.endpoint
        if self.heard is not None and now - self.heard >= FORGET:
            self.endpoint, self._listed = None, ()

        heard = () if self.endpoint is None else (self.endpoint,)
        places: tuple[Endpoint, ...] = tuple(dict.fromkeys((*heard, *self._listed, *told)))
        if not places:
            return None
        if self._tried is None:
            self._tried = now
        return places[int((now - self._tried) / TURN) % len(places)]

    def known(self, now: float, told: Sequence[Endpoint]) -> bool:
        """Whether `target` would find anything."""
        if told:
            return True
        forgotten = self.heard is not None and now - self.heard >= FORGET
        return not forgotten and (self.endpoint is not None or bool(self._listed))

    def tried_in_vain(self, now: float) -> bool:
        """Whether all addresses were tried for so long that they must be wrong."""
        return self._tried is not None and now - self._tried >= FORGET

    def try_anew(self) -> None:
        """There is news of where it is."""
        self._tried = None
