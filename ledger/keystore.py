"""The file that a wallet's secret lies in: 24 words and what comes of them, encrypted.

    TSKS | version u8 | passes u32 | memory u64 | salt 16 | nonce 24 | ciphertext

Numbers are little-endian. Argon2id makes the key of a passphrase, XChaCha20-Poly1305 the
ciphertext; the header is authenticated. Without a passphrase passes and memory are 0 and the salt
is the key: whoever can read the file has the secret. Bytes in, bytes out: the file itself is the
caller's.
"""

import struct
from dataclasses import dataclass, field
from typing import Final

from nacl import bindings as sodium
from nacl.exceptions import CryptoError
from nacl.pwhash import argon2id

from ledger import words
from ledger.keys import MASTER_SIZE, Master
from p2p.entropy import Entropy
from p2p.errors import BadKeystore, WrongPassphrase

MAGIC: Final = b"TSKS"
VERSION: Final = 1

PASSES: Final = 3
MEMORY: Final = 256 * 1024 * 1024
"""bytes. Together about a second of one core, and a guesser's as well."""

MOST_PASSES: Final = 16
MOST_MEMORY: Final = 1024 * 1024 * 1024
"""What a file may make us spend before its passphrase proves wrong."""

MAX_FILE: Final = 1_024
"""bytes: 24 words of at most eight letters take 380."""

_HEADER: Final = struct.Struct("<4sBIQ16s24s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """What is in the file. Never printed: its `repr` is that of the wallet's public key."""

    words: tuple[str, ...] = field(repr=False)
    master: Master


def make(entropy: Entropy) -> Keys:
    """A new wallet's. Takes a quarter of a second."""
    return of(words.make(entropy))


def of(phrase: tuple[str, ...]) -> Keys:
    """The keys of words that `words.read` has let pass."""
    return Keys(words=phrase, master=Master(words.secret(phrase)))


def seal(
    keys: Keys,
    passphrase: str,
    entropy: Entropy,
    *,
    passes: int = PASSES,
    memory: int = MEMORY,
) -> bytes:
    """The file's content; an empty passphrase is none."""
    if not passphrase:
        passes = memory = 0
    header = _HEADER.pack(MAGIC, VERSION, passes, memory, entropy.token(16), entropy.token(24))
    plain = keys.master.secret + " ".join(keys.words).encode()
    key = _key(header, passphrase)
    return header + sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(
        plain, header, _nonce(header), key
    )


def needs_passphrase(file: bytes) -> bool:
    """Whether it is encrypted by more than itself. Raises `BadKeystore`."""
    _, _, passes, _, _, _ = _HEADER.unpack(_checked(file))
    return bool(passes)


def unseal(file: bytes, passphrase: str) -> Keys:
    """The keys in a file; takes a second. Raises `BadKeystore` and `WrongPassphrase`."""
    header = _checked(file)
    try:
        plain = sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(
            file[_HEADER.size :], header, _nonce(header), _key(header, passphrase)
        )
    except CryptoError as error:
        if not needs_passphrase(file):
            raise BadKeystore("its content has been changed") from error
        raise WrongPassphrase("the passphrase is another one, or the file is damaged") from error
    return Keys(
        words=tuple(plain[MASTER_SIZE:].decode("ascii").split(" ")),
        master=Master(plain[:MASTER_SIZE]),
    )


def _checked(file: bytes) -> bytes:
    """The header, of bounds that we can afford. Raises `BadKeystore`."""
    if not _HEADER.size + MASTER_SIZE < len(file) <= MAX_FILE or file[:4] != MAGIC:
        raise BadKeystore("it is no keystore")
    header = file[: _HEADER.size]
    _, version, passes, memory, _, _ = _HEADER.unpack(header)
    if version != VERSION:
        raise BadKeystore(f"it is of version {version}, and this program knows {VERSION}")
    if passes > MOST_PASSES or memory > MOST_MEMORY or bool(passes) is not bool(memory):
        raise BadKeystore("its costs are out of bounds")
    return header


def _nonce(header: bytes) -> bytes:
    return header[-24:]


def _key(header: bytes, passphrase: str) -> bytes:
    _, _, passes, memory, salt, _ = _HEADER.unpack(header)
    key: bytes = salt + bytes(16)
    if not passes:
        return key
    try:
        key = argon2id.kdf(32, passphrase.encode(), salt, opslimit=passes, memlimit=memory)
    except (RuntimeError, CryptoError, ValueError) as error:  # no memory, or too little asked for
        raise BadKeystore(f"its key cannot be worked out: {error}") from error
    return key
