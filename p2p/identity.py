"""One Ed25519 key per node: the ADNL id of TON and the PeerId of libp2p come from it.

`AdnlId = SHA-256(c6b41348 | public key)`, exactly TON's; the PeerId inlines the public key, so a
peer reached over libp2p is accepted only if its inlined key hashes to the id expected.
"""

from base64 import b32decode, b32encode
from binascii import crc_hqx
from hashlib import sha256
from typing import NewType, final

from nacl.bindings import (
    crypto_scalarmult,
    crypto_sign,
    crypto_sign_ed25519_pk_to_curve25519,
    crypto_sign_ed25519_sk_to_curve25519,
    crypto_sign_open,
    crypto_sign_seed_keypair,
)
from nacl.exceptions import CryptoError

from p2p.errors import BadSignature

AdnlId = NewType("AdnlId", bytes)
"""32 bytes: who a node is, to every upper layer."""

PUB_ED25519 = bytes.fromhex("c6b41348")
"""TL constructor id of `pub.ed25519`, as it stands on the wire."""

PEER_ID_PREFIX = bytes.fromhex("002408011220")
"""Identity multihash of a libp2p Ed25519 public key."""

SEED_SIZE, SIGNATURE_SIZE = 32, 64

ADNL_TEXT_TAG = b"\x2d"
"""First byte of an id that is to be text: with it, each of TON's begins with an `f`, left out."""

ADNL_TEXT_SIZE = 55
"""letters of an id in text: those of TON's sites, in front of `.adnl`."""


def short_id(public: bytes) -> AdnlId:
    """The ADNL id of a public key."""
    return AdnlId(sha256(PUB_ED25519 + public).digest())


def peer_id(public: bytes) -> str:
    """The libp2p PeerId of a public key, in base58."""
    return _base58(PEER_ID_PREFIX + public)


def format_adnl(identity: AdnlId) -> str:
    """An ADNL id as TON writes it for people: base32 of tag, id and CRC-16, 55 letters."""
    tagged = ADNL_TEXT_TAG + identity
    return b32encode(tagged + crc_hqx(tagged, 0).to_bytes(2, "big")).decode().lower()[1:]


def parse_adnl(text: str) -> AdnlId:
    """What `format_adnl` wrote, also with `.adnl` behind it. Raises `ValueError`."""
    letters = text.lower().removesuffix(".adnl")
    if len(letters) != ADNL_TEXT_SIZE or not letters.isascii():
        raise ValueError("an ADNL id has 55 letters")
    packed = b32decode("F" + letters.upper())
    if packed[:1] != ADNL_TEXT_TAG or crc_hqx(packed, 0):
        raise ValueError("an ADNL id with a letter mistyped")
    return AdnlId(packed[1:33])


@final
class Identity:
    """A node's key. `seed` is 32 bytes and the whole secret."""

    __slots__ = ("_secret", "id", "peer_id", "public")

    def __init__(self, seed: bytes) -> None:
        self.public, self._secret = crypto_sign_seed_keypair(seed)
        self.id = short_id(self.public)
        self.peer_id = peer_id(self.public)

    @property
    def seed(self) -> bytes:
        """The secret; only a keystore and a transport's handshake ask for it."""
        return self._secret[:SEED_SIZE]

    def sign(self, message: bytes) -> bytes:
        """64 bytes over `message`, which begins with its domain."""
        return crypto_sign(message, self._secret)[:SIGNATURE_SIZE]

    def shared(self, their_public: bytes) -> bytes:
        """X25519 of the two keys by the birational map, as ADNL uses it.

        Raises `BadSignature` for a key that is no point of prime order.
        """
        try:
            theirs = crypto_sign_ed25519_pk_to_curve25519(their_public)
            ours = crypto_sign_ed25519_sk_to_curve25519(self._secret)
            return crypto_scalarmult(ours, theirs)
        except (CryptoError, RuntimeError) as error:
            raise BadSignature("not a usable public key") from error

    def __repr__(self) -> str:
        return f"Identity({self.id.hex()[:8]})"


@final
class SignatureMemo:
    """Ed25519 checks remembered by content: exact, so a hit is as good as a check.

    A gossiped advert reaches one process many times; 42 us a check, 0.7 us a hit.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._known: dict[bytes, bool] = {}

    def verify(self, public: bytes, message: bytes, signature: bytes) -> bool:
        """Whether `signature` is `public`'s over `message`."""
        if len(public) != 32 or len(signature) != SIGNATURE_SIZE:
            return False
        key = sha256(signature + public + message).digest()
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = verify_once(public, message, signature)
            if len(self._known) > self._size:
                del self._known[next(iter(self._known))]
        return known


def verify_once(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` is `public`'s over `message`, for what no one will ask of again."""
    if len(public) != 32 or len(signature) != SIGNATURE_SIZE:
        return False
    try:
        crypto_sign_open(signature + message, public)
    except (CryptoError, ValueError):
        return False
    return True


verify = SignatureMemo(65_536).verify
"""The process's memo; results depend on the arguments alone."""

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def _base58(data: bytes) -> str:
    """Bitcoin's base58: each leading zero byte is a '1'."""
    number, digits = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        digits = _ALPHABET[digit] + digits
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + digits
