"""Ticks: a chain of hashes that pays for an answer piece by piece, and who may be how far ahead.

The asker locks `tick * ticks` under the chain's end, the root; then each preimage it reveals pays
one tick more, and the newest proves all before it (Lamport 1981; as payments: PayWord, Rivest and
Shamir 1996). Tick i reveals the value i steps before the root; tick 0 is the root itself.

Who is ahead: before the answer the asker pays one step of reading ahead, during it one tick ahead,
and the worker spends at most one tick more than it was paid. Neither is ever out by more.
"""

from hashlib import blake2b, sha256
from math import isqrt
from typing import Final, final

from ledger.money import ZERO, Nano
from p2p.errors import BadPreimage

MAX_TICKS: Final = 16_384
"""ticks of one session: 6 ms of hashing to build or to check all of them at once."""

PREIMAGE_SIZE: Final = 32

_DOMAIN: Final = b"tussah/tick"
_PERSON: Final = b"tussah.tick"


@final
class Chain:
    """The asker's side: `n` ticks of one session, the same again from the same seed.

    Keeps every 128th value of the longest chain, so that many open sessions stay small. Raises
    `ValueError` unless 1 <= n <= `MAX_TICKS`.
    """

    __slots__ = ("_block", "_marks", "_number", "_stride", "n", "root")

    def __init__(self, seed: bytes, session: bytes, n: int) -> None:
        if not 1 <= n <= MAX_TICKS:
            raise ValueError(f"{n} ticks")
        self.n = n
        self._stride = isqrt(n)
        value = blake2b(session, key=seed, person=_PERSON, digest_size=PREIMAGE_SIZE).digest()
        self._marks: list[bytes] = []
        for height in range(n):
            if height % self._stride == 0:
                self._marks.append(value)
            value = _step(value)
        self.root = value
        self._number, self._block = 0, self._load(0)

    def reveal(self, i: int) -> bytes:
        """The preimage of tick `i`, 0 to `n`; pays for all ticks up to it."""
        if not 0 <= i <= self.n:
            raise ValueError(f"tick {i} of {self.n}")
        if i == 0:
            return self.root
        number, place = divmod(self.n - i, self._stride)
        if number != self._number:
            self._number, self._block = number, self._load(number)
        return self._block[place]

    def _load(self, number: int) -> list[bytes]:
        """A whole stride: ticks are asked for in order, so the rest of it is wanted soon."""
        block = [self._marks[number]]
        while len(block) < self._stride:
            block.append(_step(block[-1]))
        return block

    def __repr__(self) -> str:
        return f"Chain({self.root.hex()[:8]}, {self.n})"


@final
class Verifier:
    """The side that is paid: the newest tick it has seen.

    `root` is the value at `index`: the chain's root at first, the newest preimage after a restart.
    Raises `ValueError` for numbers that are no session's.
    """

    __slots__ = ("index", "n", "newest")

    def __init__(self, root: bytes, n: int, index: int = 0) -> None:
        if len(root) != PREIMAGE_SIZE or not 0 <= index <= n <= MAX_TICKS:
            raise ValueError(f"tick {index} of {n}")
        self.n = n
        self.index = index
        """Ticks paid."""
        self.newest = root
        """The preimage of tick `index`."""

    def accept(self, i: int, x: bytes) -> int:
        """Take tick `i` and return the newest index; gaps are fine, old ticks change nothing.

        Raises `BadPreimage`, and then nothing has changed.
        """
        if not 0 <= i <= self.n or len(x) != PREIMAGE_SIZE:
            raise BadPreimage(f"no tick of a session of {self.n}")
        if i <= self.index:
            return self.index
        if earlier(x, i - self.index) != self.newest:
            raise BadPreimage(f"tick {i} does not lead to the root")
        self.index, self.newest = i, x
        return i


def earlier(x: bytes, steps: int) -> bytes:
    """The preimage of the tick so many before that of `x`: what pays for fewer."""
    for _ in range(steps):
        x = _step(x)
    return x


def _step(value: bytes) -> bytes:
    return sha256(_DOMAIN + value).digest()


# --- who is ahead ---


def prompt_due(p0: int, step_ticks: int, reports: int) -> int:
    """Ticks an asker has revealed while its prompt is read, `reports` of progress having come.

    `p0` ticks pay for the whole prompt, `step_ticks` for each step of reading.
    """
    return min(p0, step_ticks * (1 + reports))


def may_read(p: int, p0: int, step_ticks: int, steps: int) -> bool:
    """Whether a worker that has read `steps` steps for `p` ticks reads the next: one unpaid."""
    return p >= min(p0, step_ticks * steps)


def answer_due(p0: int, tick: Nano, ticks: int, spent: Nano) -> int:
    """Ticks an asker has revealed once an answer has cost `spent`: one more than that takes."""
    return min(ticks, p0 + 1 + spent.value // tick.value)


def may_spend(p: int, p0: int, tick: Nano) -> Nano:
    """What an answer may have cost, its next token included, once `p` ticks have come."""
    return tick * (p - p0 + 1) if p >= p0 else ZERO
