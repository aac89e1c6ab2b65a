"""Randomness as an argument: the system's, or a stream that a seed reproduces byte for byte.

A seeded stream is BLAKE2b in counter mode, not `random.Random`, whose `sample`, `shuffle` and
`randrange` are not promised to stay the same between Python versions. Forks depend on the label
alone, so adding a node or a draw never shifts another's stream.
"""

import math
import os
from collections.abc import Iterator, MutableSequence, Sequence
from hashlib import blake2b
from typing import Protocol, TypeVar, final

T = TypeVar("T")

_BLOCK = 64
"""bytes of a block of a seeded stream: one BLAKE2b-512."""


class Entropy(Protocol):
    """A source of random values; every core gets one and uses no other."""

    def token(self, n: int) -> bytes:
        """`n` random bytes."""

    def below(self, n: int) -> int:
        """An integer in [0, n) without bias; `n` >= 1."""

    def uniform(self) -> float:
        """A float in [0, 1) with 53 random bits."""

    def fork(self, label: str) -> "Entropy":
        """An independent source; the same label gives the same source."""


class _Draws:
    """What both sources derive from `token`."""

    def token(self, n: int) -> bytes:
        raise NotImplementedError

    def below(self, n: int) -> int:
        if n < 1:
            raise ValueError("below() needs n >= 1")
        bits = (n - 1).bit_length()
        size, mask = (bits + 7) // 8, (1 << bits) - 1
        while True:
            value = int.from_bytes(self.token(size), "little") & mask
            if value < n:
                return value

    def uniform(self) -> float:
        return (int.from_bytes(self.token(8), "little") >> 11) * 2.0**-53


@final
class SystemEntropy(_Draws):
    """The operating system's randomness; its forks are itself."""

    def token(self, n: int) -> bytes:
        return os.urandom(n)

    def fork(self, label: str) -> "SystemEntropy":
        return self


@final
class SeededEntropy(_Draws):
    """Block i of the stream is BLAKE2b-512(i as u64 LE, key=key), read in order."""

    __slots__ = ("_block", "_key", "_rest")

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._block = 0
        self._rest = b""

    def token(self, n: int) -> bytes:
        missing = n - len(self._rest)
        if missing > 0:
            self._rest += b"".join(self._blocks(-(-missing // _BLOCK)))
        taken, self._rest = self._rest[:n], self._rest[n:]
        return taken

    def _blocks(self, count: int) -> Iterator[bytes]:
        for number in range(self._block, self._block + count):
            yield blake2b(number.to_bytes(8, "little"), key=self._key).digest()
        self._block += count

    def fork(self, label: str) -> "SeededEntropy":
        digest = blake2b(label.encode(), digest_size=32, key=self._key, person=b"tussah-fork")
        return SeededEntropy(digest.digest())


def seeded(seed: int) -> SeededEntropy:
    """The root source of a simulation or test."""
    digest = blake2b(str(seed).encode(), digest_size=32, person=b"tussah-seed")
    return SeededEntropy(digest.digest())


def shuffle(entropy: Entropy, items: MutableSequence[T]) -> None:
    """Fisher-Yates, in place."""
    for last in range(len(items) - 1, 0, -1):
        other = entropy.below(last + 1)
        items[last], items[other] = items[other], items[last]


def sample(entropy: Entropy, items: Sequence[T], k: int) -> list[T]:
    """`k` distinct items in random order; all of them if there are fewer."""
    pool = list(items)
    k = min(k, len(pool))
    for first in range(k):
        other = first + entropy.below(len(pool) - first)
        pool[first], pool[other] = pool[other], pool[first]
    return pool[:k]


def choice(entropy: Entropy, items: Sequence[T]) -> T:
    """One item, each as likely as the others."""
    return items[entropy.below(len(items))]


def exponential(entropy: Entropy, mean: float) -> float:
    """A gap between events of a Poisson process whose gaps average `mean`."""
    return -mean * math.log(1.0 - entropy.uniform())
