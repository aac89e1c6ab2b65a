"""Pages of transactions: each names the one before, and nothing else is believed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytoniq_core import begin_cell

from ledger.chain import blocks
from ledger.chain.base import Head
from ledger.chain.boc import write_boc
from ledger.chain.history import PAGE, read_last, read_page
from p2p.errors import RemoteError
from tests.ledger.chain.standin import ALICE, NETWORK, NOBODY, deep, shard_account, transaction


def past(count, address=ALICE):
    """Transactions at 10, 20, ..., newest first."""
    cells, before = [], (bytes(32), 0)
    for number in range(1, count + 1):
        cells.append(transaction(address, number * 10, before, fees=number))
        before = (cells[-1].hash, number * 10)
    return list(reversed(cells))


def test_a_page_is_read_newest_first_and_names_what_is_before_it():
    cells = past(20)
    page, lt, name = read_page(write_boc(cells[:5]), ALICE, 200, cells[0].hash)
    assert [tx.lt for tx in page] == [200, 190, 180, 170, 160]
    assert [tx.fees.value for tx in page] == [20, 19, 18, 17, 16]
    assert (lt, name) == (150, cells[5].hash)


def test_the_first_transaction_of_an_account_is_the_end():
    cells = past(3)
    page, lt, _ = read_page(write_boc(cells), ALICE, 30, cells[0].hash)
    assert (len(page), lt) == (3, 0)


def test_more_than_a_page_is_not_read():
    cells = past(PAGE + 4)
    page, lt, _ = read_page(write_boc(cells), ALICE, cells_lt(PAGE + 4), cells[0].hash)
    assert (len(page), lt) == (PAGE, 40)


def cells_lt(count):
    return count * 10


def test_a_missing_a_swapped_and_a_foreign_transaction_are_refused():
    cells = past(4)
    foreign = past(4, NOBODY)
    forged = transaction(ALICE, 30, (cells[2].hash, 20), fees=999)
    for page in (
        [cells[0], cells[2]],
        [cells[1], cells[0]],
        [foreign[0]],
        [cells[0], forged],
        cells[1:],
    ):
        with pytest.raises(RemoteError):
            read_page(write_boc(page), ALICE, 40, cells[0].hash)


def test_a_foreign_transaction_is_refused_though_its_hash_was_named():
    cells = past(2, NOBODY)
    with pytest.raises(RemoteError):
        read_page(write_boc(cells), ALICE, 20, cells[0].hash)


def test_time_runs_backwards_only():
    strange = transaction(ALICE, 20, (bytes([1]) * 32, 20))
    with pytest.raises(RemoteError, match="before itself"):
        read_page(write_boc([strange]), ALICE, 20, strange.hash)


@pytest.mark.parametrize("boc", [b"", b"x", bytes(300)])
def test_no_page_is_a_remote_error(boc):
    with pytest.raises(RemoteError):
        read_page(boc, ALICE, 10, bytes(32))


HEAD = Head(seqno=7, time=1_700_000_000, lt=9_000_000)
GONE = begin_cell().store_ref(begin_cell().store_bit(0).end_cell())
GONE = GONE.store_bytes(bytes([9]) * 32).store_uint(42, 64).end_cell()


@pytest.mark.parametrize("entry", [GONE, shard_account(ALICE, 5, lt=42, last_hash=bytes([9]) * 32)])
def test_the_last_transaction_is_read_though_the_account_is_gone(entry):
    _, proof = blocks.account_proof(NETWORK, HEAD, ALICE, entry)
    assert read_last(proof, ALICE) == (42, bytes([9]) * 32)
    assert read_last(proof, NOBODY) == (0, b"")


def test_no_proof_tells_of_no_transaction():
    assert read_last(b"", ALICE) == (0, b"")
    assert read_last(write_boc([deep(1)]), ALICE) == (0, b"")
    with pytest.raises(RemoteError):
        read_last(write_boc([deep(1), deep(2)]), ALICE)


@settings(max_examples=60)
@given(st.integers(0, 1_000), st.integers(1, 255))
def test_changed_bytes_are_read_or_a_remote_error(at, change):
    cells = past(2)
    _, proof = blocks.account_proof(NETWORK, HEAD, ALICE, GONE)
    for boc, read in (
        (proof, lambda data: read_last(data, ALICE)),
        (write_boc(cells), lambda data: read_page(data, ALICE, 20, cells[0].hash)),
    ):
        changed = bytearray(boc)
        changed[at % len(boc)] ^= change
        try:
            read(bytes(changed))
        except RemoteError:
            continue
