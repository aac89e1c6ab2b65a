"""How many threads compute a model best here: a few numbers are tried when it is loaded.

More are not always faster: memory is the limit of answers, two logical processors share a core, and
somebody else may be using some. Of numbers that do as well the smallest wins: the others stay free.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

NEAR: Final = 0.97
"""A rate of this part of the best is as good."""

BUDGET: Final = 3.0
"""seconds after which no further number is tried: a large model takes long for each"""


class Rates(NamedTuple):
    """Tokens/s of one stream."""

    prompt: float
    answer: float


class Threads(NamedTuple):
    """Of a prompt, and of an answer: the one is bound by computing, the other by memory."""

    prompt: int
    answer: int


def candidates(cores: int, usual: int) -> tuple[int, ...]:
    """What is tried, the usual number first."""
    others = (cores, cores - 1, 2, 1)
    return tuple(dict.fromkeys(each for each in (usual, *others) if 0 < each <= max(cores, usual)))


def choose(measured: Mapping[int, Rates]) -> tuple[Threads, Rates]:
    """The best of what was measured, and how fast it is."""
    prompt = _least({threads: rates.prompt for threads, rates in measured.items()})
    answer = _least({threads: rates.answer for threads, rates in measured.items()})
    rates = Rates(prompt=measured[prompt].prompt, answer=measured[answer].answer)
    return Threads(prompt=prompt, answer=answer), rates


def _least(rates: Mapping[int, float]) -> int:
    best = max(rates.values())
    return min(threads for threads, rate in rates.items() if rate >= NEAR * best)
