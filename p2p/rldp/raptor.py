"""RaptorQ as TON's nodes compute it, in Python: RFC 6330, but for one number.

The RFC takes for P1 "the smallest prime greater than or equal to P", TON's code, and what was
written after it, the smallest greater than P. Where P is prime, which it is for 608 of the 2,605
sizes of a block, the repair symbols of the two are strangers to each other. For these sizes this
module stands in for `raptorq`; it is some five times slower. Words and letters are the RFC's.
"""

from collections.abc import Mapping
from functools import cached_property, lru_cache
from typing import Final, final

from p2p.rldp import rfc6330, solver
from p2p.rldp.rfc6330 import V0, V1, V2, V3
from p2p.rldp.solver import Shape

_DEGREES: Final = (
    0, 5243, 529531, 704294, 791675, 844104, 879057, 904023, 922747, 937311, 948962, 958494,
    966438, 973160, 978921, 983914, 988283, 992138, 995565, 998631, 1001391, 1003887, 1006157,
    1008229, 1010129, 1011876, 1013490, 1014983, 1016370, 1017662, 1048576,
)  # fmt: skip
"""Section 5.3.5.2: a random number below the d-th of them, of 2^20, means degree d."""


def random(y: int, i: int, m: int) -> int:
    """Section 5.3.5.1."""
    return (
        V0[(y + i) & 255]
        ^ V1[((y >> 8) + i) & 255]
        ^ V2[((y >> 16) + i) & 255]
        ^ V3[((y >> 24) + i) & 255]
    ) % m


def _is_prime(number: int) -> bool:
    return all(number % divisor for divisor in range(2, int(number**0.5) + 1))


@final
class Code:
    """The code for blocks of so many source symbols, K; what it is made of has the RFC's names.

    An encoded symbol is the sum of some of L intermediate symbols, which follow from any K' encoded
    ones and from S + H sums that are zero.
    """

    def __init__(self, source: int, *, as_in_rfc: bool = False) -> None:
        """Raises `ValueError` for more source symbols than a block has."""
        sizes = next((row for row in rfc6330.SIZES if row[0] >= source), None)
        if sizes is None or source < 1:
            raise ValueError("no block has so many symbols")
        self.source = source
        self.padded, self._systematic, self._ldpc, self._hdpc, self._width = sizes
        self._total = self.padded + self._ldpc + self._hdpc
        self._permanent = self._total - self._width
        self._prime = self._permanent if as_in_rfc else self._permanent + 1
        while not _is_prime(self._prime):
            self._prime += 1

    @property
    def is_tons_own(self) -> bool:
        """Whether its symbols are not those of the RFC."""
        return _is_prime(self._permanent)

    def internal(self, seqno: int) -> int:
        """The RFC's number of a symbol, its ISI: behind the source symbols comes padding."""
        return seqno if seqno < self.source else seqno + self.padded - self.source

    def columns(self, internal: int) -> list[int]:
        """Which intermediate symbols an encoded one is the sum of: sections 5.3.5.3 and .4."""
        w, prime, permanent = self._width, self._prime, self._permanent
        a = (53591 + self._systematic * 997) | 1
        y = (10267 * (self._systematic + 1) + internal * a) & 0xFFFF_FFFF
        degree = self._degree(random(y, 0, 1 << 20))
        step, column = 1 + random(y, 1, w - 1), random(y, 2, w)
        columns = [(column + turn * step) % w for turn in range(degree)]

        degree = 2 + random(internal, 3, 2) if degree < 4 else 2
        step, column = 1 + random(internal, 4, prime - 1), random(internal, 5, prime)
        while degree:
            if column < permanent:
                columns.append(w + column)
                degree -= 1
            column = (column + step) % prime
        return columns

    @cached_property
    def zero_sums(self) -> list[list[int]]:
        """Which intermediate symbols add up to nothing: section 5.3.3.3, LDPC."""
        s, b = self._ldpc, self._width - self._ldpc
        rows: list[list[int]] = [[] for _ in range(s)]
        for i in range(b):
            step, row = 1 + i // s, i % s
            for turn in range(3):
                rows[(row + turn * step) % s].append(i)
        for i, row_of in enumerate(rows):
            first = self._width + i % self._permanent
            second = self._width + (i + 1) % self._permanent
            row_of += [b + i, first, second]
        return rows

    @cached_property
    def shape(self) -> Shape:
        """For the solver; the places are the ones of the matrix MT, HDPC."""
        h = self._hdpc
        firsts = [random(j, 6, h) for j in range(1, self.padded + self._ldpc)]
        places = [(i, (i + random(j, 7, h - 1) + 1) % h) for j, i in enumerate(firsts, 1)]
        return Shape(width=self._width, total=self._total, hdpc=h, places=places)

    def _degree(self, v: int) -> int:
        degree = next(degree for degree, bound in enumerate(_DEGREES) if v < bound)
        return min(degree, self._width - 2)


@lru_cache(8)
def code_of(source: int) -> Code:
    """The code for blocks of so many symbols; a node meets few sizes at a time."""
    return Code(source)


@final
class Block:
    """The intermediate symbols of a block, from which any encoded one is made."""

    def __init__(self, code: Code, intermediate: list[int], size: int) -> None:
        self._code = code
        self._intermediate = intermediate
        self._size = size

    def symbol(self, seqno: int) -> bytes:
        """The symbol of this number."""
        value = 0
        for column in self._code.columns(self._code.internal(seqno)):
            value ^= self._intermediate[column]
        return value.to_bytes(self._size, "little")


def solve(code: Code, symbols: Mapping[int, bytes], size: int) -> Block | None:
    """The block of which these are symbols, by number; None if they do not suffice.

    Every symbol has `size` bytes. What is between K and K' is padding: zeros that nobody sends.
    """
    internal = [*map(code.internal, symbols), *range(code.source, code.padded)]
    rows = [*code.zero_sums, *map(code.columns, internal)]
    values = [int.from_bytes(data, "little") for data in symbols.values()]
    zeros, padding = [0] * len(code.zero_sums), [0] * (code.padded - code.source)
    found = solver.solve(code.shape, rows, [*zeros, *values, *padding], size)
    return Block(code, found, size) if found is not None else None
