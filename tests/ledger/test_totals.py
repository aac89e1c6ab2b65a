"""What people are told of a store's money is the sum of its rows, and asks no chain."""

from dataclasses import replace

import apsw
import pytest

from ledger import lane_rows, schema, takings
from ledger.book import Entry, Issued
from ledger.lane import Phase, Role
from ledger.money import ZERO, Nano
from ledger.sqlbook import SqlBook
from ledger.takings import Taking
from ledger.totals import DAY, minted, totals
from tests.ledger.parties import EPOCH, MINT, NOW, OTHER, PLENTY, lane_row

TODAY = int(NOW) // DAY * DAY


@pytest.fixture
def connection():
    connection = apsw.Connection(":memory:")
    connection.execute(schema.NODE + schema.MINT)
    yield connection
    connection.close()


def lane(connection, number, role, *, cumulative, claimed=0, phase=Phase.OPEN):
    row = lane_row(bytes([number]) * 32, role, OTHER, PLENTY)
    row = replace(row, cumulative=Nano(cumulative), claimed=Nano(claimed), phase=phase)
    lane_rows.save(connection, row)


def taking(connection, number, *, settled, expiry):
    row = Taking(
        lock=bytes([number]) * 32,
        session=bytes(32),
        mint=MINT.id,
        tick=Nano(1_000),
        ticks=20,
        expiry=expiry,
        i=20,
        x=bytes(32),
        settled=settled,
    )
    assert takings.add(connection, row)


def session(connection, number, *, settled, expiry):
    connection.execute(
        "INSERT INTO session (session, role, mint, epoch, spend, lock, amount, tick, ticks,"
        " expiry, settled, state) VALUES (?, 'payer', ?, ?, x'', ?, 99, 1000, 20, ?, ?, 'done')",
        (bytes([number]) * 32, MINT.id, EPOCH, bytes([number]) * 32, expiry, settled),
    )


def test_empty_store_comes_to_nothing(connection):
    found = totals(connection, [MINT.id], NOW)
    figures = (found.due, found.owed, found.earned, found.earned_today, found.spent_today)
    assert figures == (ZERO,) * 5
    assert found.credits.value == found.credits.in_flight == ZERO
    empty = minted(connection)
    assert (empty.outstanding, empty.issued, empty.redeemed) == (ZERO, 0, 0)


def test_due_and_owed_are_what_was_promised_and_not_claimed(connection):
    lane(connection, 1, Role.PAYEE, cumulative=1_000, claimed=400)
    lane(connection, 2, Role.PAYEE, cumulative=70, phase=Phase.CLOSING)
    lane(connection, 3, Role.PAYER, cumulative=9, claimed=1)
    found = totals(connection, [MINT.id], NOW)
    assert (found.due, found.owed) == (Nano(670), Nano(8))


def test_a_closed_lane_owes_nothing(connection):
    for number, role in enumerate(Role):
        lane(connection, number, role, cumulative=1_000, claimed=1, phase=Phase.CLOSED)
    found = totals(connection, [MINT.id], NOW)
    assert (found.due, found.owed) == (ZERO, ZERO)


def test_vouchers_that_were_lost_make_no_debt(connection):
    """The chain paid more than this store remembers: other lanes' dues stay whole."""
    lane(connection, 1, Role.PAYEE, cumulative=1_000, claimed=5_000)
    lane(connection, 2, Role.PAYEE, cumulative=30)
    assert totals(connection, [MINT.id], NOW).due == Nano(30)


def test_debts_without_a_lane_count(connection):
    connection.execute("INSERT INTO debt VALUES (?, 12, x'')", (MINT.id,))
    SqlBook(connection).save_owed(OTHER.id, Nano(34))
    found = totals(connection, [MINT.id], NOW)
    assert (found.due, found.owed) == (Nano(12), Nano(34))


def test_earned_is_what_mints_have_paid_today_and_ever(connection):
    taking(connection, 1, settled=2, expiry=TODAY - 1)
    taking(connection, 2, settled=3, expiry=TODAY)
    taking(connection, 3, settled=4, expiry=TODAY + DAY - 1)
    found = totals(connection, [MINT.id], NOW)
    assert (found.earned, found.earned_today) == (Nano(9_000), Nano(7_000))
    assert totals(connection, [MINT.id], NOW + DAY).earned_today == ZERO


def test_a_mint_earns_its_fees(connection):
    book = SqlBook(connection)
    for day, entry in ((0, Entry.FEE), (0, Entry.EXPIRED), (1, Entry.FEE)):
        book.post(TODAY // DAY - day, entry, Nano(5))
    found = totals(connection, [MINT.id], NOW)
    assert (found.earned, found.earned_today) == (ZERO, Nano(5))


def test_spent_is_what_mints_have_paid_for_us(connection):
    session(connection, 1, settled=2, expiry=TODAY - 1)
    session(connection, 2, settled=3, expiry=TODAY + 5)
    assert totals(connection, [MINT.id], NOW).spent_today == Nano(3_000)


def test_a_mint_has_out_what_it_signed_and_nobody_spent(connection):
    book = SqlBook(connection)
    book.add_issued(
        [Issued(blind=bytes([j]) * 32, epoch=EPOCH, j=j, source=b"") for j in (10, 11, 12)]
    )
    book.add_spent(EPOCH, [(b"n" * 32, 11)], b"l" * 32)
    found = minted(connection)
    assert (found.issued, found.redeemed) == (3, 1)
    assert found.outstanding == Nano((1 << 10) + (1 << 12))
