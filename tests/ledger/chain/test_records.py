"""Cells of a chain, read: what a lying server or a stranger's contract may put into them."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytoniq_core import Address, Builder, Cell

from ledger.chain import wallet
from ledger.chain.boc import read_cell, write_boc
from ledger.chain.config import mainnet_config
from ledger.chain.records import (
    normalized_hash,
    read_account,
    read_effects,
    read_external,
    read_fees,
    read_message,
    read_transaction,
)
from ledger.lane import Account
from ledger.money import Nano
from p2p.errors import CodecError
from tests.ledger.chain.standin import ALICE, shard_account, transaction

READERS = [
    read_transaction,
    read_effects,
    read_message,
    read_fees,
    normalized_hash,
    lambda cell: read_account(Account(ALICE), cell),
]
WELL_FORMED = [
    transaction(ALICE, 7),
    shard_account(ALICE, 5),
    wallet.internal(wallet.Transfer(dest=Account(ALICE), value=Nano(9))),
]


def changed(cell, path, bit, refs):
    """`cell` with one bit of one of its cells flipped, and perhaps fewer references there."""
    if path and cell.refs:
        at = path[0] % len(cell.refs)
        inner = [*cell.refs]
        inner[at] = changed(inner[at], path[1:], bit, refs)
        return Cell(cell.bits, inner)
    bits = cell.bits.copy()
    if len(bits):
        bits.invert(bit % len(bits))
    return Cell(bits, cell.refs[:refs])


@given(
    st.sampled_from(READERS),
    st.sampled_from(WELL_FORMED),
    st.lists(st.integers(0, 3), max_size=4),
    st.integers(0, 1_023),
    st.integers(0, 4),
)
def test_a_changed_cell_is_read_or_refused(read, cell, path, bit, refs):
    with suppress(CodecError):
        read(changed(cell, path, bit, refs))


def test_a_transaction_of_too_many_messages_is_refused():
    cell = transaction(ALICE, 7)
    bits = cell.bits.copy()
    bits[4 + 256 + 64 + 256 + 64 + 32 : 4 + 256 + 64 + 256 + 64 + 32 + 15] = 1
    for read in (read_transaction, read_effects):
        with pytest.raises(CodecError, match="32767"):
            read(Cell(bits, cell.refs))


def test_a_dictionary_that_doubles_at_each_step_is_walked_once():
    """2^32 entries in 33 cells, as a lying server's prices."""
    cell = Builder().store_uint(0, 2).store_uint(1, 8).end_cell()
    for _ in range(32):
        cell = Builder().store_uint(0, 2).store_ref(cell).store_ref(cell).end_cell()
    with pytest.raises(CodecError):
        read_fees(cell)


def test_prices_of_mainnet():
    fees = read_fees(read_cell(mainnet_config()))
    assert (fees.gas_price >> 16, fees.flat_gas, fees.flat_price) == (400, 100, Nano(40_000))
    assert fees.forward_lump == Nano(400_000)
    assert (fees.forward_bit >> 16, fees.forward_cell >> 16) == (400, 40_000)
    assert (fees.storage_bit, fees.storage_cell) == (1, 500)


def external(source, fee, init, inside):
    body = Builder().store_uint(77, 32).end_cell()
    message = Builder().store_uint(0b10, 2).store_address(source)
    message.store_address(Address((0, ALICE))).store_coins(fee)
    if init:
        message.store_bits("11").store_ref(Builder().store_uint(0, 5).end_cell())
    else:
        message.store_bits("0")
    if inside:
        return message.store_bits("0").store_cell(body).end_cell()
    return message.store_bits("1").store_ref(body).end_cell()


def test_an_external_has_one_name_however_it_is_wrapped():
    wraps = [
        external(None, fee, init, inside)
        for fee in (0, 5)
        for init in (False, True)
        for inside in (False, True)
    ]
    assert len({wrap.hash for wrap in wraps}) == len(wraps)
    assert len({normalized_hash(wrap) for wrap in wraps}) == 1
    assert normalized_hash(external(None, 0, False, False)) == external(None, 0, False, False).hash


def test_an_external_is_bounded_before_it_is_built():
    chain = Cell.empty()
    for _ in range(500):
        chain = Builder().store_ref(chain).end_cell()
    assert read_external(wallet.external(Account(ALICE), chain))[0] == ALICE
    with pytest.raises(CodecError):
        read_external(bytes(65_536))
    row = [Builder().store_uint(n, 16).end_cell() for n in range(6_500)]
    while len(row) > 1:
        row = [
            Builder().store_uint(at, 16).store_slice(joined(row[at : at + 4])).end_cell()
            for at in range(0, len(row), 4)
        ]
    boc = wallet_external(row[0])
    assert len(boc) < 65_536
    with pytest.raises(CodecError, match="large"):
        read_external(boc)


def joined(cells):
    builder = Builder()
    for cell in cells:
        builder.store_ref(cell)
    return builder.end_cell().begin_parse()


def wallet_external(body):
    message = Builder().store_uint(0b10, 2).store_address(None)
    message.store_address(Address((0, ALICE))).store_coins(0).store_bits("01").store_ref(body)
    return write_boc([message.end_cell()])
