"""How two nodes come to a channel: each sends a dated key, and names the other's once it has it.

One round trip, which carries the first query and its answer. Both may begin at once: then each
holds the other's key when it hears its own confirmed. A key of later date replaces the one held:
whoever has forgotten a channel only has to begin anew.
"""

from typing import final

from p2p.adnl.channel import Channel, agree
from p2p.adnl.drops import Drop
from p2p.adnl.keys import KeyPair
from p2p.entropy import Entropy
from p2p.errors import AdnlError
from p2p.identity import AdnlId
from p2p.tl import pack
from p2p.ton import AdnlMessageConfirmChannel, AdnlMessageCreateChannel


@final
class Handshake:
    """Our side of one. `channel` is there once we hold the peer's key."""

    __slots__ = ("_date", "_key", "_own", "_peer", "_their_date", "_their_key", "channel", "ready")

    def __init__(self, own: AdnlId, peer: AdnlId) -> None:
        self.channel: Channel | None = None
        self.ready = False
        """Whether the peer holds our key too, so that we may send in the channel."""
        self._own = own
        self._peer = peer
        self._key: KeyPair | None = None
        self._date = 0
        self._their_key = b""
        self._their_date = 0

    def offer(self, now: float, entropy: Entropy) -> bytes:
        """What a packet outside of the channel says of it: a boxed createChannel, or confirmChannel
        once there is something to confirm."""
        key = self._own_key(now, entropy)
        if self.channel is None:
            return pack(AdnlMessageCreateChannel(key.public, self._date))
        return pack(AdnlMessageConfirmChannel(key.public, self._their_key, self._date))

    def offered(self, now: float, entropy: Entropy, offer: AdnlMessageCreateChannel) -> None:
        """The peer's key. Raises `AdnlError` for one that is none."""
        self._take_key(self._own_key(now, entropy), offer.key, offer.date)

    def confirmed(self, answer: AdnlMessageConfirmChannel) -> None:
        """The peer's key, and which of ours it holds. Raises `AdnlError` if that is another."""
        key = self._key
        if key is None or answer.peer_key != key.public:
            raise AdnlError(Drop.CHANNEL)
        self._take_key(key, answer.key, answer.date)
        self.ready = self.ready or answer.key == self._their_key

    def _own_key(self, now: float, entropy: Entropy) -> KeyPair:
        if self._key is None:
            self._key, self._date = KeyPair(entropy.token(32)), int(now)
        return self._key

    def _take_key(self, key: KeyPair, theirs: bytes, date: int) -> None:
        if theirs == self._their_key or date <= self._their_date:
            return
        self.channel = agree(key, theirs, self._own, self._peer)
        self._their_key, self._their_date = theirs, date
        self.ready = False
