"""The words with which a circuit goes on from where another one ended.

    request   01 | session 32 | stream u16 | bytes received u32 | proof 32
    offer     01 | bytes received u32 | flags u8 (1: the END has come)

Sent in the CREATE and CREATED of a circuit to the same endpoint. `session` and the key of the proof
come from the secrets of the circuit before, which only its two ends have; the proof is over the new
circuit's ephemeral key, so that nobody who hears it can use it again.
"""

import hmac
import struct
from typing import Final, NamedTuple

from p2p.errors import OnionError

STREAM: Final = 1
"""The one request of a circuit that can be gone on with."""

_TAG: Final = 1
"""First byte of both; what is said otherwise begins with 0."""


class Claim(NamedTuple):
    """What an asker says who wants to go on with a circuit."""

    session: bytes
    stream: int
    received: int
    """bytes of the answer that have come"""
    proof: bytes

    def pack(self) -> bytes:
        """71 bytes."""
        return _CLAIM.pack(_TAG, *self)

    @classmethod
    def unpack(cls, request: bytes) -> "Claim | None":
        """None for a request of another kind."""
        if len(request) != _CLAIM.size or request[0] != _TAG:
            return None
        _, session, stream, received, proof = _CLAIM.unpack(request)
        return cls(session, stream, received, proof)

    @classmethod
    def make(cls, session: bytes, key: bytes, ephemeral: bytes, received: int) -> "Claim":
        """A claim for a circuit whose handshake with the endpoint uses this ephemeral key."""
        return cls(session, STREAM, received, prove(key, ephemeral, STREAM, received))

    def is_proved(self, key: bytes, ephemeral: bytes) -> bool:
        """Whether it comes from who had the circuit; takes the same time for yes and no."""
        expected = prove(key, ephemeral, self.stream, self.received)
        return hmac.compare_digest(expected, self.proof)


class Grant(NamedTuple):
    """What the endpoint answers."""

    received: int
    """bytes of the upload that have come"""
    ended: bool
    """Its END has come, too."""

    def pack(self) -> bytes:
        """6 bytes."""
        return _GRANT.pack(_TAG, self.received, self.ended)

    @classmethod
    def unpack(cls, offer: bytes) -> "Grant":
        """Raises `OnionError`."""
        if len(offer) != _GRANT.size or offer[0] != _TAG or offer[-1] > 1:
            raise OnionError("no answer to who wants to go on with a circuit")
        _, received, ended = _GRANT.unpack(offer)
        return cls(received, bool(ended))


def prove(key: bytes, ephemeral: bytes, stream: int, received: int) -> bytes:
    """HMAC-SHA-256 by the resume key of the circuit before."""
    text = b"resume" + ephemeral + struct.pack("<HI", stream, received)
    return hmac.digest(key, text, "sha256")


_CLAIM: Final = struct.Struct("<B32sHI32s")
_GRANT: Final = struct.Struct("<BIB")
