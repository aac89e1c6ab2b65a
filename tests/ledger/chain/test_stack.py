"""Stacks of get-methods, against pytoniq-core's, and against stacks made to hurt."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytoniq_core import Cell, Slice, VmStack, VmTuple, begin_cell

from ledger.chain.boc import write_boc
from ledger.chain.stack import DEEPEST, MOST_VALUES, read_stack, write_stack
from p2p.errors import CodecError

CELL = begin_cell().store_uint(5, 8).store_ref(begin_cell().end_cell()).end_cell()
SIMPLE = st.one_of(st.none(), st.integers(-(1 << 256), (1 << 256) - 1), st.just(CELL))
VALUES = st.recursive(SIMPLE, lambda inner: st.lists(inner, max_size=4).map(tuple), max_leaves=12)


@settings(max_examples=40)
@given(st.lists(VALUES, max_size=6))
def test_a_stack_comes_back_as_it_was(values):
    assert read_stack(write_stack(values)) == tuple(values)


@settings(max_examples=40)
@given(st.lists(VALUES, max_size=6))
def test_others_read_what_is_written(values):
    theirs = VmStack.deserialize(Slice.one_from_boc(write_stack(values)))
    assert [plain(value) for value in theirs] == values


def plain(value):
    return tuple(plain(item) for item in value.list) if isinstance(value, VmTuple) else value


def test_slices_travel_as_the_part_of_the_cell_they_are():
    part = CELL.begin_parse().skip_bits(3)
    (read,) = read_stack(write_stack([part]))
    assert read.to_cell() == part.to_cell()
    assert len(part.bits) == 5


def test_writing_leaves_values_as_they_are():
    part, inner = CELL.begin_parse(), (1, (2, 3))
    write_stack([part, inner])
    assert len(part.bits) == 8
    assert inner == (1, (2, 3))


def test_a_slice_beyond_its_cell_is_refused():
    value = begin_cell().store_uint(4, 8).store_ref(CELL).store_uint(0, 10).store_uint(9, 10)
    with pytest.raises(CodecError):
        read_stack(one(value.store_uint(0, 6).end_cell()))


def test_a_tuple_of_tuples_that_doubles_at_each_level_is_refused():
    value = begin_cell().store_uint(0, 8).end_cell()
    for _ in range(DEEPEST - 2):
        pair = begin_cell().store_uint(7, 8).store_uint(2, 16).store_ref(value).store_ref(value)
        value = pair.end_cell()
    with pytest.raises(CodecError, match="too much"):
        read_stack(one(value))


def test_tuples_in_tuples_end_somewhere():
    value = ()
    for _ in range(DEEPEST + 1):
        value = (value,)
    with pytest.raises(CodecError, match="too much"):
        read_stack(write_stack([value]))


def test_a_stack_that_says_it_is_deep_is_refused_first():
    with pytest.raises(CodecError, match="too deep"):
        read_stack(write_boc([begin_cell().store_uint(MOST_VALUES + 1, 24).end_cell()]))


@pytest.mark.parametrize("tag", [0x02FF, 0x0500, 0x0600, 0x0800])
def test_values_that_get_methods_do_not_exchange_are_refused(tag):
    value = begin_cell().store_uint(tag, 16).store_ref(CELL).end_cell()
    with pytest.raises(CodecError):
        read_stack(one(value))


@settings(max_examples=40)
@given(st.integers(0, 400), st.integers(1, 255))
def test_a_changed_stack_is_a_stack_or_a_codec_error(at, change):
    boc = bytearray(write_stack([1, -1, (1 << 200, (CELL, None, 4)), CELL.begin_parse(), None]))
    boc[at % len(boc)] ^= change
    try:
        read_stack(bytes(boc))
    except CodecError:
        return


def one(value: Cell) -> bytes:
    """A stack of one value, its cell made by hand."""
    rest = begin_cell().end_cell()
    return write_boc([begin_cell().store_uint(1, 24).store_ref(rest).store_cell(value).end_cell()])
