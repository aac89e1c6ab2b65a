"""A stand-in for ML-KEM-768 that a seed reproduces: the library's encapsulation takes none.

Sizes and shape are those of the real one, secrecy is not: whoever sees key and ciphertext knows the
secret. A run says in its manifest that it used this.
"""

from hashlib import shake_256
from typing import Final, final

from p2p.entropy import Entropy
from p2p.errors import OnionError

PRIVATE_SIZE: Final = 64
PUBLIC_SIZE: Final = 1_184
CIPHERTEXT_SIZE: Final = 1_088
SECRET_SIZE: Final = 32


@final
class StandInKem:
    """A `Kem` of `p2p/onion/noise.py` in which every output is a hash of what is given."""

    def generate(self, entropy: Entropy) -> tuple[bytes, bytes]:
        """A fresh (private, public) pair."""
        private = entropy.token(PRIVATE_SIZE)
        return private, _public(private)

    def encapsulate(self, public: bytes, entropy: Entropy) -> tuple[bytes, bytes]:
        """(ciphertext, secret). Raises `OnionError` for a key of a wrong size."""
        if len(public) != PUBLIC_SIZE:
            raise OnionError("no encapsulation key")
        ciphertext = _hash("ciphertext", public + entropy.token(SECRET_SIZE), CIPHERTEXT_SIZE)
        return ciphertext, _secret(public, ciphertext)

    def decapsulate(self, private: bytes, ciphertext: bytes) -> bytes:
        """The secret, another one for another ciphertext. Raises `OnionError` for a wrong size."""
        if len(ciphertext) != CIPHERTEXT_SIZE or len(private) != PRIVATE_SIZE:
            raise OnionError("no ciphertext")
        return _secret(_public(private), ciphertext)


def _public(private: bytes) -> bytes:
    return _hash("public", private, PUBLIC_SIZE)


def _secret(public: bytes, ciphertext: bytes) -> bytes:
    return _hash("secret", public + ciphertext, SECRET_SIZE)


def _hash(label: str, data: bytes, size: int) -> bytes:
    """SHAKE, as BLAKE2b gives 64 bytes at most."""
    return shake_256(f"tussah-stand-in-kem/{label}/".encode() + data).digest(size)
