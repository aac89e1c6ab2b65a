"""Intervals and warm-up: how far the numbers of a few runs can be trusted.

Student's t over seeds, Wilson's score for proportions, MSER-5 for what to leave out at the start.
Written here, since the engine needs no numpy; the tests compare them with scipy.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

from simulations.metrics import Kind, Series, Window

LEVEL: Final = 0.95
"""of every interval that a report shows"""

FEW: Final = 5
"""seeds below which an interval carries a warning: it leans on the normal law it cannot see"""

BATCH: Final = 5
"""observations of a batch of MSER-5 (White, Cobb and Spratt 2000)"""

FEWEST_BATCHES: Final = 10
"""batches below which nothing is cut: less says nothing of a transient"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean and where the true one is, at `LEVEL`."""

    mean: float
    low: float | None
    """None: one run has no interval"""
    high: float | None
    n: int
    """runs, or trials of a proportion"""


def t_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Student's interval of the mean of independent runs."""
    n = len(values)
    if not n:
        return Interval(mean=math.nan, low=None, high=None, n=0)
    mean = math.fsum(values) / n
    if n == 1:
        return Interval(mean=mean, low=None, high=None, n=1)
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    reach = t_quantile((1.0 + level) / 2.0, n - 1) * math.sqrt(variance / n)
    return Interval(mean=mean, low=mean - reach, high=mean + reach, n=n)


def wilson(successes: float, trials: int, level: float = LEVEL) -> Interval:
    """Wilson's score interval of a proportion; it holds near 0 and 1 too."""
    if not trials:
        return Interval(mean=math.nan, low=None, high=None, n=0)
    z = NormalDist().inv_cdf((1.0 + level) / 2.0)
    share, spread = successes / trials, z * z / trials
    middle = (share + spread / 2.0) / (1.0 + spread)
    reach = z / (1.0 + spread) * math.sqrt(share * (1 - share) / trials + spread / (4 * trials))
    low, high = max(middle - reach, 0.0), min(middle + reach, 1.0)
    return Interval(mean=share, low=low, high=high, n=trials)


def t_quantile(probability: float, freedom: float) -> float:
    """The value that Student's t is below with this probability; by bisection."""
    if not 0.0 < probability < 1.0 or freedom <= 0.0:
        raise ValueError("needs a probability between 0 and 1, and some degrees of freedom")
    if probability < 0.5:
        return -t_quantile(1.0 - probability, freedom)
    low, high = 0.0, 1.0
    while t_probability(high, freedom) < probability:
        low, high = high, 2.0 * high
    while (middle := (low + high) / 2.0) not in (low, high):
        if t_probability(middle, freedom) < probability:
            low = middle
        else:
            high = middle
    return middle


def t_probability(value: float, freedom: float) -> float:
    """The probability that Student's t is below a value."""
    tail = beta(freedom / (freedom + value * value), freedom / 2.0, 0.5) / 2.0
    return tail if value < 0.0 else 1.0 - tail


def beta(x: float, a: float, b: float) -> float:
    """The regularized incomplete beta function (Abramowitz and Stegun 26.5.8)."""
    if x <= 0.0 or x >= 1.0:
        return 0.0 if x <= 0.0 else 1.0
    if x > (a + 1.0) / (a + b + 2.0):
        return 1.0 - beta(1.0 - x, b, a)
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front = math.exp(scale + a * math.log(x) + b * math.log1p(-x)) / a
    return front * _fraction(x, a, b)


def mser5(values: Sequence[float]) -> Window:
    """What to leave out at the start: that whose absence makes the standard error least.

    If that is beyond the middle the series has not come to rest: nothing is cut, and it says so.
    """
    batches = [
        math.fsum(values[at : at + BATCH]) / BATCH
        for at in range(0, len(values) - BATCH + 1, BATCH)
    ]
    if len(batches) < FEWEST_BATCHES:
        return Window(0, True)
    best, least = 0, math.inf
    for first, error in enumerate(_errors(batches)):
        if error < least * (1.0 - 1e-12):
            best, least = first, error
    if 2 * best > len(batches):
        return Window(0, False)
    return Window(best * BATCH, True)


def window(warmup: float | None, bucket: float, series: Series) -> Window:
    """What to leave out of a series: `warmup` seconds, or, if None, what MSER-5 says.

    Of yes and no it says nothing: where failures are rare, the rest behind the last one looks best.
    """
    if warmup is None and series.kind is Kind.CHANCE:
        return Window(0, True)
    if warmup is None:
        return mser5(series.values())
    return Window(series.since(math.ceil(warmup / bucket)), True)


def _errors(batches: Sequence[float]) -> list[float]:
    """Squared standard error of the mean without the first 0, 1, … batches; five stay."""
    middle = math.fsum(batches) / len(batches)
    errors: list[float] = []
    total = squares = 0.0
    for count, value in enumerate(reversed(batches), 1):
        total += value - middle
        squares += (value - middle) ** 2
        if count >= BATCH:
            errors.append(max(squares - total * total / count, 0.0) / count**2)
    return errors[::-1]


def _fraction(x: float, a: float, b: float) -> float:
    """The continued fraction of the incomplete beta function, by Lentz's method."""
    tiny = 1e-300
    c, d = 1.0, 1.0 - (a + b) * x / (a + 1.0)
    d = 1.0 / (d or tiny)
    result = d
    for m in range(1, 1_000):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 / ((1.0 + term * d) or tiny)
            c = (1.0 + term / c) or tiny
            result *= c * d
        if abs(c * d - 1.0) < 1e-16:
            break
    return result
