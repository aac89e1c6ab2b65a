"""The 24 words that a wallet hangs on, as every wallet program of TON reads them.

Words become a secret by PBKDF2, not the other way about: who has the secret alone cannot write the
words down. TON's words carry no checksum of their own; what tells a slip of the pen is that of 256
lists of words only one says it needs no password.
"""

import hmac
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from hashlib import pbkdf2_hmac, sha512
from typing import Final

from pytoniq_core.crypto import keys

from p2p.entropy import Entropy

COUNT: Final = 24

_BITS: Final = 11
"""The list has 2,048 words."""

_ROUNDS: Final = 100_000
_PLAIN: Final = b"TON seed version"
_SEED: Final = b"TON default seed"
"""TON's own numbers: github.com/toncenter/tonweb-mnemonic."""

_LIST: Final = tuple(keys.words)
_KNOWN: Final = frozenset(_LIST)


def make(entropy: Entropy) -> tuple[str, ...]:
    """Fresh words: 264 random bits, drawn until they need no password (256 times on average)."""
    while True:
        words = tuple(_drawn(entropy.token(COUNT * _BITS // 8)))
        if _is_plain(words):
            return words


def _drawn(bits: bytes) -> Iterator[str]:
    number = int.from_bytes(bits, "big")
    for _ in range(COUNT):
        number, index = divmod(number, 1 << _BITS)
        yield _LIST[index]


def read(text: str) -> tuple[str, ...]:
    """The words that a person typed, in any case, with any white space between them.

    Raises `ValueError`, which says what is wrong with them and repeats at most one.
    """
    words = tuple(text.lower().split())
    if len(words) != COUNT:
        raise ValueError(f"there are {len(words)} words, and must be {COUNT}")
    for at, word in enumerate(words, 1):
        if word not in _KNOWN:
            raise ValueError(f"word {at} is none of the list{_meant(word)}")
    if not _is_plain(words):
        raise ValueError(
            "each word is one of the list, but all of them together are no wallet: two may be "
            "swapped, or the wallet has a password of its own, which is not known here"
        )
    return words


def _meant(word: str) -> str:
    near = get_close_matches(word, _LIST, n=1)
    return f": did you mean {near[0]}?" if near else ""


def secret(words: Sequence[str]) -> bytes:
    """The 32 bytes of the wallet's key. Takes a tenth of a second, by design."""
    return pbkdf2_hmac("sha512", _key(words), _SEED, _ROUNDS)[:32]


def _is_plain(words: Sequence[str]) -> bool:
    return pbkdf2_hmac("sha512", _key(words), _PLAIN, _ROUNDS // 256)[0] == 0


def _key(words: Sequence[str]) -> bytes:
    return hmac.digest(" ".join(words).encode(), b"", sha512)
