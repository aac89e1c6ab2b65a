"""The seal on every datagram: a hash of the plaintext, then AES-256-CTR keyed by it and a secret.

No AEAD: the hash stands in the open, so who guesses a plaintext can check it, and nothing forbids
two parties to a secret to be fooled by each other. What must stay secret goes in onion cells.
"""

from hashlib import sha256
from typing import Final, final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

from p2p.adnl.drops import Drop
from p2p.errors import AdnlError

DIGEST: Final = 32
"""bytes of SHA-256 in front of the ciphertext."""


def seal(secret: bytes, plain: bytes) -> bytes:
    """Digest and ciphertext."""
    digest = sha256(plain).digest()
    return digest + _crypt(secret, digest, plain)


def unseal(secret: bytes, datagram: bytes, at: int) -> bytes:
    """The plaintext of what was sealed, from offset `at` on. Raises `AdnlError` if it is not so."""
    digest = datagram[at : at + DIGEST]
    plain = _crypt(secret, digest, datagram[at + DIGEST :])
    if sha256(plain).digest() != digest:
        raise AdnlError(Drop.DIGEST)
    return plain


def _crypt(secret: bytes, digest: bytes, data: bytes) -> bytes:
    """Encrypts and decrypts alike. The key changes with the digest: no context can be kept."""
    key = AES256(secret[:16] + digest[16:])
    return _Counter(key, CTR(digest[:4] + secret[20:])).encryptor().update(data)


@final
class _Counter(Cipher[CTR]):
    """Without the checks of `Cipher`, a quarter of its time: the sizes are those of slices."""

    def __init__(self, algorithm: AES256, mode: CTR) -> None:
        self.algorithm = algorithm
        self.mode = mode
