"""Draws that are not uniform, from an `Entropy`: the same on every version of Python."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import final

from p2p.entropy import Entropy


def normal(entropy: Entropy) -> float:
    """Of mean 0 and variance 1, by Box and Muller; two draws."""
    radius = math.sqrt(-2.0 * math.log(1.0 - entropy.uniform()))
    return radius * math.cos(2.0 * math.pi * entropy.uniform())


def gamma(entropy: Entropy, shape: float) -> float:
    """Of this shape and scale 1, by rejection.

    Marsaglia and Tsang, "A simple method for generating gamma variables", 2000; section 6 of it
    for shapes below 1.
    """
    if shape < 1.0:
        below = 1.0 - entropy.uniform()
        return gamma(entropy, shape + 1.0) * math.pow(below, 1.0 / shape)
    d = shape - 1.0 / 3.0
    c = 1.0 / math.sqrt(9.0 * d)
    while True:
        x = normal(entropy)
        v = (1.0 + c * x) ** 3
        if v > 0.0 and math.log(1.0 - entropy.uniform()) < x * x / 2.0 + d - d * v + d * math.log(
            v
        ):
            return d * v


def weibull(entropy: Entropy, shape: float, scale: float) -> float:
    """Of this shape and scale, by inversion; one draw."""
    return scale * math.pow(-math.log(1.0 - entropy.uniform()), 1.0 / shape)


def geometric(entropy: Entropy, mean: float) -> int:
    """How many until the first success, that one included; `mean` >= 1; one draw."""
    if mean <= 1.0:
        return 1
    return 1 + int(math.log(1.0 - entropy.uniform()) / math.log(1.0 - 1.0 / mean))


@final
class Percentiles:
    """A distribution as its values at given ranks, linear between them."""

    def __init__(self, ranks: Sequence[float], values: Sequence[float]) -> None:
        if len(ranks) != len(values) or ranks[0] != 0.0 or ranks[-1] != 1.0:
            raise ValueError("a value for each rank, from 0 to 1")
        self._ranks = tuple(ranks)
        self._values = tuple(values)

    def at(self, rank: float) -> float:
        """The value below which this share lies."""
        above = min(bisect_left(self._ranks, rank), len(self._ranks) - 1)
        if above == 0:
            return self._values[0]
        low, high = self._ranks[above - 1], self._ranks[above]
        before, after = self._values[above - 1], self._values[above]
        return before + (after - before) * (rank - low) / (high - low)

    def draw(self, entropy: Entropy) -> float:
        """One value; one draw."""
        return self.at(entropy.uniform())

    @property
    def mean(self) -> float:
        """Of all values."""
        spans = range(1, len(self._ranks))
        return math.fsum(
            (self._ranks[i] - self._ranks[i - 1]) * (self._values[i] + self._values[i - 1]) / 2.0
            for i in spans
        )
