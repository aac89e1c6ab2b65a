"""Pages of transactions: each names the one before, and nothing else is believed."""

import pytest

from ledger.chain.boc import write_boc
from ledger.chain.history import PAGE, read_page
from p2p.errors import RemoteError
from tests.ledger.chain.standin import ALICE, NOBODY, transaction


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
