"""Bags of cells: several roots, shared cells, and bytes made to hurt."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytoniq_core import Cell, begin_cell
from ton_core import Cell as OtherCell

from ledger.chain.boc import MAX_BOC, read_boc, read_cell, write_boc
from p2p.errors import CodecError
from tests.ledger.chain.standin import deep


@st.composite
def cells(draw):
    """A small graph of cells, some of them shared."""
    made = [begin_cell().end_cell()]
    for _ in range(draw(st.integers(0, 12))):
        builder = begin_cell().store_bits(draw(st.text("01", max_size=40)))
        for place in draw(st.lists(st.integers(0, len(made) - 1), max_size=4)):
            builder.store_ref(made[place])
        made.append(builder.end_cell())
    return made


@settings(max_examples=40)
@given(cells(), st.data())
def test_roots_come_back_in_order_whoever_reads_them(made, data):
    roots = data.draw(st.lists(st.sampled_from(made), min_size=1, max_size=5))
    boc = write_boc(roots)
    assert read_boc(boc) == roots
    assert [cell.hash for cell in OtherCell.from_boc(boc)] == [cell.hash for cell in roots]


@settings(max_examples=40)
@given(cells())
def test_a_cell_that_others_wrote_is_read(made):
    assert read_cell(made[-1].to_boc()) == made[-1]
    assert read_cell(made[-1].to_boc(has_idx=True, hash_crc32=True)) == made[-1]


def test_a_tree_of_2_to_the_300_leaves_is_written_as_300_cells():
    tree = deep(300)
    boc = write_boc([tree])
    assert len(boc) < 3_000
    assert read_cell(boc) == tree


def test_a_bag_of_two_is_no_cell():
    with pytest.raises(CodecError):
        read_cell(write_boc([begin_cell().end_cell(), deep(1)]))


@settings(max_examples=40)
@given(st.binary(max_size=100))
def test_any_bytes_are_cells_or_a_codec_error(data):
    for boc in (data, bytes.fromhex("b5ee9c72") + data):
        try:
            read_boc(boc)
        except CodecError:
            continue


@settings(max_examples=40)
@given(st.integers(0, 200), st.integers(1, 255))
def test_a_changed_bag_is_cells_or_a_codec_error(at, change):
    boc = bytearray(write_boc([deep(8), begin_cell().store_uint(7, 60).end_cell()]))
    boc[at % len(boc)] ^= change
    try:
        roots = read_boc(bytes(boc))
    except CodecError:
        return
    assert all(isinstance(root, Cell) for root in roots)


def test_a_bag_made_to_be_slow_is_refused_unread():
    count = 1 << 18
    head = bytes.fromhex("b5ee9c72") + bytes([3, 3]) + count.to_bytes(3, "big")
    with pytest.raises(CodecError, match="too many"):
        read_boc(head + bytes(MAX_BOC - len(head)))
    with pytest.raises(CodecError):
        read_boc(bytes(MAX_BOC + 1))
