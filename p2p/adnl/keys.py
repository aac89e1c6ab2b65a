"""Ed25519 keys that share secrets by X25519, as identities, channels and single packets do."""

from typing import NewType, final

from nacl.bindings import (
    crypto_scalarmult,
    crypto_sign_ed25519_pk_to_curve25519,
    crypto_sign_ed25519_sk_to_curve25519,
    crypto_sign_seed_keypair,
)
from nacl.exceptions import CryptoError

from p2p.adnl.drops import Drop
from p2p.errors import AdnlError

Curve = NewType("Curve", bytes)
"""An Ed25519 public key as a point of X25519."""


def to_curve(public: bytes) -> Curve:
    """The X25519 form of a key. Raises `AdnlError` for bytes that are no usable key."""
    try:
        return Curve(crypto_sign_ed25519_pk_to_curve25519(public))
    except (CryptoError, RuntimeError, ValueError) as error:
        raise AdnlError(Drop.KEY) from error


@final
class KeyPair:
    """A key made from 32 random bytes, of a channel or for one packet."""

    __slots__ = ("_curve", "public")

    def __init__(self, seed: bytes) -> None:
        self.public, secret = crypto_sign_seed_keypair(seed)
        self._curve = crypto_sign_ed25519_sk_to_curve25519(secret)

    def shared(self, theirs: Curve) -> bytes:
        """The secret that whoever holds the other key computes too."""
        try:
            return crypto_scalarmult(self._curve, theirs)
        except (CryptoError, RuntimeError) as error:
            raise AdnlError(Drop.KEY) from error
