"""Intermediate symbols of RaptorQ from encoded ones: RFC 6330, section 5.4.2, on long integers.

1. Peel: a sum with one unknown gives it; where there is none, an unknown is set aside, "inactive".
2. All is now a sum of inactive ones, which the sums that are left over relate: solve those, first
   the ones and zeros, then the few equations over GF(256) that join them all.
3. Put what the inactive ones are into the sums of the first step, in its order.

A sum is one integer: its low bits say which inactive unknowns are in it, above stands its value.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import final


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What does not depend on which encoded symbols are here."""

    width: int
    """W: intermediate symbols that may be solved for one by one"""
    total: int
    """L: all of them"""
    hdpc: int
    """H: how many of them, the last ones, each complete a sum over GF(256) of those before"""
    places: list[tuple[int, int]]
    """for each of those before but the last, the two of these sums that it enters anew"""


def solve(shape: Shape, rows: list[list[int]], values: list[int], size: int) -> list[int] | None:
    """All intermediate symbols, or None if what is known does not suffice.

    Each row says which intermediate symbols add up to the value of the same place, of `size` bytes.
    """
    order = _peel(rows, shape.width)
    inactive = [*order.inactive, *range(shape.width, shape.total)]
    unknown = len(inactive)

    sums = [0] * shape.total
    for place, column in enumerate(inactive):
        sums[column] = 1 << place
    for row, column in order.steps:
        sums[column] = _sum(rows[row], sums) ^ values[row] << unknown
    left_over = [_sum(rows[row], sums) ^ values[row] << unknown for row in order.left_over]

    found = _solve_inactive(shape, sums, left_over, inactive, size)
    if found is None:
        return None
    symbols = [0] * shape.total
    for column, value in zip(inactive, found, strict=True):
        symbols[column] = value
    for row, column in order.steps:
        symbols[column] = _sum(rows[row], symbols) ^ values[row]
    return symbols


def _sum(columns: list[int], of: list[int]) -> int:
    """One that is not known yet is zero there."""
    total = 0
    for column in columns:
        total ^= of[column]
    return total


# --- 1 ---


@dataclass(slots=True)
class _Order:
    """In which row each unknown of the first `width` is solved, and which are not."""

    steps: list[tuple[int, int]] = field(default_factory=list)
    inactive: list[int] = field(default_factory=list)
    left_over: list[int] = field(default_factory=list)


def _peel(rows: list[list[int]], width: int) -> _Order:
    holders: list[list[int]] = [[] for _ in range(width)]
    counts, sums = [0] * len(rows), [0] * len(rows)
    for row, columns in enumerate(rows):
        for column in columns:
            if column < width:
                holders[column].append(row)
                counts[row] += 1
                sums[row] ^= column

    order = _Order()
    used = bytearray(len(rows))
    gone = bytearray(width)
    ready = [row for row, count in enumerate(counts) if count == 1]
    by_weight = [(-len(holders[column]), column) for column in range(width)]
    heapq.heapify(by_weight)
    for _ in range(width):
        while ready and counts[ready[-1]] != 1:
            ready.pop()
        if ready:
            row = ready.pop()
            column = sums[row]
            used[row] = 1
            order.steps.append((row, column))
        else:
            while gone[column := heapq.heappop(by_weight)[1]]:
                pass
            order.inactive.append(column)

        gone[column] = 1
        for row in holders[column]:
            counts[row] -= 1
            sums[row] ^= column
            if counts[row] == 1:
                ready.append(row)
    order.left_over = [row for row, was_used in enumerate(used) if not was_used]
    return order


# --- 2 ---


def _solve_inactive(
    shape: Shape, sums: list[int], left_over: list[int], inactive: list[int], size: int
) -> list[int] | None:
    unknown = len(inactive)
    pivots = _eliminate(left_over, unknown)
    if pivots is None:
        return None
    free = [place for place in range(unknown) if place not in pivots]
    if len(free) > shape.hdpc:
        return None

    wide = _Wide(unknown, size)
    first = shape.total - shape.hdpc
    joined = _hdpc_sums(shape, [wide.spread(line) for line in sums[:first]], wide)
    for row in range(shape.hdpc):
        joined[row] ^= 1 << 8 * inactive.index(first + row)
    for place, line in pivots.items():
        pivot = wide.spread(line)
        joined = [wide.without(one, place, pivot) for one in joined]
    solved = _eliminate_wide(joined, free, wide)
    if solved is None:
        return None

    found = [0] * unknown
    for place, one in solved.items():
        found[place] = one >> 8 * unknown
    for place, line in pivots.items():
        found[place] = line >> unknown
        for other in free:
            if line >> other & 1:
                found[place] ^= found[other]
    return found


def _eliminate(lines: list[int], unknown: int) -> dict[int, int] | None:
    """Lines by the place of a one that no other has; None if they contradict one another."""
    low = (1 << unknown) - 1
    pivots: dict[int, int] = {}
    for line in lines:
        while (mask := line & low) and (pivot := pivots.get(mask.bit_length() - 1)) is not None:
            line ^= pivot
        if mask:
            pivots[mask.bit_length() - 1] = line
        elif line:
            return None

    taken = sum(1 << place for place in pivots)
    for place in sorted(pivots):
        line = pivots[place]
        for other in _ones(line & taken & (1 << place) - 1):
            line ^= pivots[other]
        pivots[place] = line
    return pivots


def _ones(mask: int) -> Iterator[int]:
    while mask:
        bit = mask & -mask
        yield bit.bit_length() - 1
        mask ^= bit


def _hdpc_sums(shape: Shape, lines: list[int], wide: "_Wide") -> list[int]:
    """Section 5.3.3.3: MT * GAMMA * lines, where GAMMA adds up by Horner's rule."""
    joined = [0] * shape.hdpc
    total = 0
    for line, (first, second) in zip(lines[:-1], shape.places, strict=True):
        total = wide.double(total) ^ line
        joined[first] ^= total
        joined[second] ^= total
    total = wide.double(total) ^ lines[-1]
    for row in range(shape.hdpc):
        joined[row] ^= total
        total = wide.double(total)
    return joined


def _eliminate_wide(lines: list[int], free: list[int], wide: "_Wide") -> dict[int, int] | None:
    """Lines by the place where they alone have a coefficient, which is one; None if too few."""
    solved: dict[int, int] = {}
    for place in free:
        at = next((at for at, line in enumerate(lines) if wide.coefficient(line, place)), None)
        if at is None:
            return None
        line = lines.pop(at)
        line = wide.times(line, _INVERSES[wide.coefficient(line, place)])
        lines = [wide.without(other, place, line) for other in lines]
        solved = {key: wide.without(other, place, line) for key, other in solved.items()}
        solved[place] = line
    return solved if not any(lines) else None


# --- GF(256) ---


@final
class _Wide:
    """Sums with a byte for each unknown, below the value: vectors over GF(256) as integers."""

    def __init__(self, unknown: int, size: int) -> None:
        self._unknown = unknown
        self._bytes = unknown + size
        self._ones = int.from_bytes(b"\x01" * self._bytes, "little")
        self._low = self._ones * 0x7F
        self._mask = (1 << unknown) - 1
        self._mask_ones = int.from_bytes(b"\x01" * unknown, "little")

    def spread(self, line: int) -> int:
        """A sum of ones and zeros: its bits become bytes."""
        digits = int.from_bytes(f"{line & self._mask:b}".encode(), "big")
        return line >> self._unknown << 8 * self._unknown | digits & self._mask_ones

    def coefficient(self, line: int, place: int) -> int:
        """Of one unknown."""
        return line >> 8 * place & 0xFF

    def double(self, line: int) -> int:
        """All of it times alpha, which is 2."""
        return (line & self._low) << 1 ^ (line >> 7 & self._ones) * 0x1D

    def times(self, line: int, factor: int) -> int:
        """All of it times a factor."""
        return int.from_bytes(
            line.to_bytes(self._bytes, "little").translate(_row(factor)), "little"
        )

    def without(self, line: int, place: int, pivot: int) -> int:
        """The sum, with the pivot added so often that the unknown is not in it."""
        factor = self.coefficient(line, place)
        if factor < 2:
            return line ^ pivot if factor else line
        return line ^ self.times(pivot, factor)


def _powers() -> Iterator[int]:
    power = 1
    while True:
        yield power
        power = power << 1 ^ (0x11D if power & 0x80 else 0)


_POWERS = list(islice(_powers(), 255))
"""of alpha, which is 2: section 5.7.3."""
_LOGARITHMS = {power: exponent for exponent, power in enumerate(_POWERS)}
_INVERSES = {power: _POWERS[-exponent] for power, exponent in _LOGARITHMS.items()}


@lru_cache(256)
def _row(factor: int) -> bytes:
    """What each byte becomes."""
    exponent = _LOGARITHMS[factor]
    products = (_POWERS[(exponent + _LOGARITHMS[byte]) % 255] for byte in range(1, 256))
    return bytes([0, *products])
