"""What an attacker knows of who asked: chances over those who may have, reduced to numbers."""

import math
from collections.abc import Sequence
from typing import NamedTuple


class Belief(NamedTuple):
    """How well one is hidden among `size`."""

    size: int
    """of those with any chance"""
    entropy_bits: float
    """Shannon's: what one guess after the other has to find out"""
    min_entropy_bits: float
    """of the likeliest alone: what the first guess has to get right"""
    degree: float
    """entropy as a share of the most that there could be (Diaz et al. 2002); 0 if nobody else is
    there to hide among"""


def belief(chances: Sequence[float], among: int | None = None) -> Belief:
    """The numbers for these chances, which need not sum to 1.

    `among` are all that there are, if `chances` leaves out some that are excluded.
    """
    total = math.fsum(chances)
    shares = [chance / total for chance in chances if chance > 0.0]
    if not shares:
        raise ValueError("somebody has asked")
    bits = -math.fsum(share * math.log2(share) for share in shares) + 0.0
    most = math.log2(among or len(chances))
    return Belief(
        size=len(shares),
        entropy_bits=bits,
        min_entropy_bits=-math.log2(max(shares)) + 0.0,
        degree=bits / most if most else 0.0,
    )


def evenly(size: int, among: int) -> Belief:
    """The numbers if each of `size` is as likely and the others `among` all are excluded."""
    bits = math.log2(size)
    degree = bits / math.log2(among) if among > 1 else 0.0
    return Belief(size=size, entropy_bits=bits, min_entropy_bits=bits, degree=degree)
