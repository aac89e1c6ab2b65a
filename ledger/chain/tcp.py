"""ADNL over TCP, the server's side: a handshake, then encrypted frames; bytes in, bytes out.

The client's first 256 bytes are `server key id 32 | client's Ed25519 key 32 | SHA-256(R) 32 |
AES-256-CTR(R)`, where R are 160 random bytes of the client: both directions' keys and counters.
A frame is `length u32 LE | nonce 32 | payload | SHA-256(nonce | payload)`, all of it under its
direction's key stream; the length counts what follows it. An empty frame answers the handshake.
Source: docs.ton.org, "ADNL TCP - liteserver".
"""

import struct
from hashlib import sha256
from typing import Final, final

from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from p2p.entropy import Entropy
from p2p.errors import CodecError
from p2p.identity import Identity

HELLO_SIZE: Final = 256
"""bytes of the client's first message."""

SMALLEST_FRAME: Final = 64
LARGEST_FRAME: Final = 1 << 20
"""bytes after the length."""

_LENGTH: Final = struct.Struct("<I")


def accept(identity: Identity, hello: bytes, entropy: Entropy) -> "Session":
    """The session that a client's first bytes open. `entropy` gives the nonces of our frames.

    Raises `CodecError` for a handshake that is not for us, `BadSignature` for a key that is no
    usable point.
    """
    if len(hello) != HELLO_SIZE or hello[:32] != identity.id:
        raise CodecError("a handshake with somebody else")
    shared, digest = identity.shared(hello[32:64]), hello[64:96]
    stream = _stream(shared[:16] + digest[16:32], digest[:4] + shared[20:32])
    secret = stream.update(hello[96:])
    if sha256(secret).digest() != digest:
        raise CodecError("a handshake that does not decrypt")
    return Session(secret, entropy)


@final
class Session:
    """One connection after its handshake."""

    def __init__(self, secret: bytes, entropy: Entropy) -> None:
        self._out = _stream(secret[:32], secret[64:80])
        self._in = _stream(secret[32:64], secret[80:96])
        self._entropy = entropy
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads that arrived bytes complete.

        Raises `CodecError` for a length out of bounds or a wrong checksum; the connection is then
        of no more use.
        """
        self._buffer += self._in.update(data)
        payloads = []
        while (payload := self._next()) is not None:
            payloads.append(payload)
        return payloads

    def frame(self, payload: bytes) -> bytes:
        """A frame for the client. Frames must be sent in the order they are made in."""
        body = self._entropy.token(32) + payload
        whole = _LENGTH.pack(len(body) + 32) + body + sha256(body).digest()
        return self._out.update(whole)

    def _next(self) -> bytes | None:
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        if not SMALLEST_FRAME <= length <= LARGEST_FRAME:
            raise CodecError("a frame's length is out of bounds")
        end = _LENGTH.size + length
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[_LENGTH.size : end])
        del self._buffer[:end]
        return _checked(body)


def _checked(body: bytes) -> bytes:
    if sha256(body[:-32]).digest() != body[-32:]:
        raise CodecError("a frame's checksum is wrong")
    return body[32:-32]


def _stream(key: bytes, counter: bytes) -> CipherContext:
    """A key stream: XOR, so it encrypts as it decrypts."""
    return Cipher(AES(key), CTR(counter)).encryptor()
