"""Closed forms of what the simulator must reproduce."""

import math


def kademlia_gain(k: int) -> float:
    """Bits of prefix that one hop adds to what it has in common with the target, on average.

    A bucket holds k nodes drawn from all that share a given prefix with the target. That one of
    them shares j bits more has probability 1 - (1 - 2^-j)^k; the best of them shares the sum of
    these over j >= 0.
    """
    return sum(1.0 - (1.0 - 2.0**-j) ** k for j in range(64))


def kademlia_hops(nodes: int, k: int) -> float:
    """Hops of a lookup on average: nodes that are asked one after the other.

    One is asked in any case. Each further one adds `kademlia_gain` bits, until so many are common
    that only the k nearest nodes share them: log2(nodes / k). These know each other.
    """
    return 1.0 + max(0.0, math.log2(nodes / k)) / kademlia_gain(k)
