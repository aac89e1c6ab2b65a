"""The stack of the TVM as get-methods take and give it, within bounds.

    vm_stack#_ depth:(## 24) stack:(VmStackList depth) = VmStack;
    vm_stk_cons#_ {n:#} rest:^(VmStackList n) tos:VmStackValue = VmStackList (n + 1);

The first value lies deepest. Source: ton-blockchain/ton, crypto/block/block.tlb.
"""

from collections.abc import Iterable
from typing import Final, final

from pytoniq_core import Cell, Slice, VmStack, VmTuple, begin_cell

from ledger.chain.base import StackValue
from ledger.chain.boc import read_cell, write_boc
from p2p.errors import CodecError

MOST_VALUES: Final = 1_024
"""of one stack, those in tuples included."""

DEEPEST: Final = 16
"""tuples within tuples"""


def write_stack(values: Iterable[StackValue]) -> bytes:
    """The bag of cells of a stack."""
    cell: Cell = VmStack.serialize([_plain(value) for value in values])
    return write_boc([cell])


def read_stack(data: bytes) -> tuple[StackValue, ...]:
    """The values of a stack, deepest first.

    Raises `CodecError` for what is no stack, holds more than `MOST_VALUES`, or anything else than
    integers, cells, slices, tuples and null.
    """
    root = read_cell(data)
    try:
        return _Walk().stack(root.begin_parse())
    except CodecError:
        raise
    except Exception as error:  # whatever pytoniq-core runs into in a stranger's cells
        raise CodecError("a broken stack") from error


def _plain(value: StackValue) -> object:
    """As pytoniq-core wants it, which empties the tuples that it is given."""
    if isinstance(value, tuple):
        return VmTuple([_plain(item) for item in value])
    return value.copy() if isinstance(value, Slice) else value


@final
class _Walk:
    """Reads one stack and counts what it holds: cells may be shared, so small bytes can be long."""

    def __init__(self) -> None:
        self._left = MOST_VALUES

    def stack(self, top: Slice) -> tuple[StackValue, ...]:
        depth: int = top.load_uint(24)
        if depth > MOST_VALUES:
            raise CodecError("too deep a stack")
        values = []
        for _ in range(depth):
            rest = top.load_ref()
            values.append(self._value(top, DEEPEST))
            top = rest.begin_parse()
        return tuple(reversed(values))

    def _value(self, source: Slice, levels: int) -> StackValue:
        self._left -= 1
        if self._left < 0 or levels == 0:
            raise CodecError("too much in a stack")
        tag: int = source.load_uint(8)
        if tag == 0:
            return None
        if tag == 1:
            return int(source.load_int(64))
        if tag == 2 and source.load_uint(7) == 0:
            return int(source.load_int(257))
        if tag == 3:
            return source.load_ref()
        if tag == 4:
            return _slice(source)
        if tag == 7:
            return self._tuple(source, int(source.load_uint(16)), levels - 1)
        raise CodecError("no value that get-methods exchange")

    def _tuple(self, source: Slice, length: int, levels: int) -> tuple[StackValue, ...]:
        """VmTuple: the last value in a cell of its own beside the rest; two or one lie together."""
        last = []
        for _ in range(length - 2):
            rest = source.load_ref()
            last.append(self._value(source.load_ref().begin_parse(), levels))
            source = rest.begin_parse()
        first = (
            self._value(source.load_ref().begin_parse(), levels) for _ in range(min(length, 2))
        )
        return (*first, *reversed(last))


def _slice(source: Slice) -> Slice:
    """VmCellSlice: a part of a cell."""
    cell = source.load_ref()
    first, end = int(source.load_uint(10)), int(source.load_uint(10))
    first_ref, end_ref = int(source.load_uint(3)), int(source.load_uint(3))
    if not (first <= end <= len(cell.bits) and first_ref <= end_ref <= len(cell.refs)):
        raise CodecError("a slice beyond its cell")
    part = begin_cell().store_bits(cell.bits[first:end])
    for ref in cell.refs[first_ref:end_ref]:
        part.store_ref(ref)
    whole: Slice = part.to_slice()
    return whole
