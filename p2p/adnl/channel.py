"""A channel: two secrets that a pair of nodes shares, one for each direction.

Each side draws one key for it. Of the secret S of both keys and its bytes in reverse order, the
node with the smaller id reads with S and writes with the other; two equal ids use S for both. A
datagram begins with the id of the secret that seals it, which only the two ends know.
"""

from hashlib import sha256
from typing import final

from p2p.adnl import box
from p2p.adnl.keys import KeyPair, to_curve
from p2p.identity import AdnlId
from p2p.tl import pack
from p2p.ton import PubAes


def channel_id(secret: bytes) -> bytes:
    """The id of a secret, as of any key of TON: 32 bytes in front of a datagram."""
    return sha256(pack(PubAes(secret))).digest()


@final
class Channel:
    """One side of it."""

    __slots__ = ("_in_secret", "_out_secret", "in_id", "out_id")

    def __init__(self, in_secret: bytes, out_secret: bytes) -> None:
        self._in_secret = in_secret
        self._out_secret = out_secret
        self.in_id = channel_id(in_secret)
        self.out_id = channel_id(out_secret)

    def seal(self, plain: bytes) -> bytes:
        """The datagram that carries a packet."""
        return self.out_id + box.seal(self._out_secret, plain)

    def unseal(self, datagram: bytes) -> bytes:
        """The packet in a datagram that begins with `in_id`. Raises `AdnlError` if there is none.

        A datagram of ours that is sent back to us begins with `out_id`: it never gets here.
        """
        return box.unseal(self._in_secret, datagram, len(self.in_id))


def agree(key: KeyPair, theirs: bytes, own: AdnlId, peer: AdnlId) -> Channel:
    """The channel of our key and the peer's. Raises `AdnlError` for a key that is none."""
    secret = key.shared(to_curve(theirs))
    reverse = secret[::-1]
    if own == peer:
        return Channel(secret, secret)
    return Channel(secret, reverse) if own < peer else Channel(reverse, secret)
