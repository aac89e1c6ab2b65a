"""Bags of cells at the border: strangers' bytes are read within bounds, several roots are written.

pytoniq-core parses; it copies what is left of the bytes for each cell, raises whatever its lists
and integers raise, and writes one root only. Source: ton-blockchain/ton, crypto/tl/boc.tlb.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from pytoniq_core import Cell

from p2p.errors import CodecError

MAX_BOC: Final = 1 << 20
"""bytes: more than any account, and than the whole configuration."""

_MAGIC: Final = bytes.fromhex("b5ee9c72")
_MAX_COPIES: Final = 1 << 31
"""bytes that parsing may copy: about 0.3 s. The configuration takes a tenth of it."""


def read_boc(data: bytes) -> list[Cell]:
    """The roots of a bag. Raises `CodecError` for what is none, or is one made to be slow."""
    size = data[4] & 7 if len(data) > 4 else 0
    if len(data) > MAX_BOC or data[:4] != _MAGIC or not 1 <= size <= 4:
        raise CodecError("no bag of cells")
    count = int.from_bytes(data[6 : 6 + size], "big")
    if count * len(data) > _MAX_COPIES:
        raise CodecError("a bag of too many cells")
    try:
        cells: list[Cell] = Cell.from_boc(data)
    except Exception as error:  # whatever pytoniq-core runs into in a stranger's bytes
        raise CodecError("a broken bag of cells") from error
    return cells


def read_cell(data: bytes) -> Cell:
    """The root of a bag of one. Raises `CodecError`."""
    roots = read_boc(data)
    if len(roots) != 1:
        raise CodecError("a bag of cells without exactly one root")
    return roots[0]


def write_boc(roots: Sequence[Cell]) -> bytes:
    """A bag of several roots, each cell in it once."""
    order = _order(roots)
    index = {cell: place for place, cell in enumerate(order)}
    size = (len(order).bit_length() + 7) // 8
    cells = b"".join(cell.serialize(index, size) for cell in order)
    width = (len(cells).bit_length() + 7) // 8
    counts = b"".join(n.to_bytes(size, "big") for n in (len(order), len(roots), 0))
    places = b"".join(index[root].to_bytes(size, "big") for root in roots)
    head = _MAGIC + bytes([size, width]) + counts + len(cells).to_bytes(width, "big")
    return head + places + cells


def _order(roots: Iterable[Cell]) -> list[Cell]:
    """Every cell before those it refers to: depth first, and then the order of leaving reversed."""
    left: dict[Cell, None] = {}
    stack = [(root, False) for root in roots]
    while stack:
        cell, leaving = stack.pop()
        if leaving:
            left.setdefault(cell)
        elif cell not in left:
            stack.append((cell, True))
            stack.extend((ref, False) for ref in cell.refs)
    return list(reversed(left))
