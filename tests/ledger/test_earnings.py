"""What a worker has earned, summed from sessions and the receipts it signed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import earnings, takings, tariff
from ledger.earnings import By
from ledger.money import ZERO, Nano
from ledger.owner import own
from ledger.store import in_memory
from ledger.takings import Taking
from ledger.tariff import Count, Receipt, Stop
from p2p.identity import Identity

WORKER = Identity(b"w" * 32)
DAY = 86_400
MOTH, MOUSE = b"m" * 32, b"n" * 32


def session(number, *, day, paid, shown=None, model=MOTH, tokens=10, cost=900, cut=False):
    taking = Taking(
        lock=number.to_bytes(32, "big"),
        session=number.to_bytes(32, "little"),
        mint=b"M" * 32,
        tick=Nano(100),
        ticks=64,
        expiry=day * DAY + DAY + 5,  # a lock may end on the day after
        i=paid if shown is None else shown,
        x=bytes(32),
    )
    receipt = Receipt(
        offer=taking.session,
        model=model,
        prompt_hash=bytes(32),
        answer_hash=bytes(32),
        tokens=Count(prompt=7, completion=tokens - 3, reasoning=3),
        cost=Nano(cost),
        ticks=paid,
        stop=Stop.STOP,
        started=day * DAY,
        ended=day * DAY + 9,
        worker=WORKER.id,
    )
    return taking, paid, None if cut else tariff.sign(receipt, WORKER)


def store(sessions):
    connection = in_memory()
    for taking, paid, signed in sessions:
        takings.add(connection, taking)
        takings.paid(connection, taking.lock, paid)
        if signed is not None:
            takings.bill(connection, taking.lock, signed)
            takings.bill(connection, taking.lock, b"another")
    return connection


def test_sessions_are_put_together_by_day_and_by_model():
    connection = store(
        [
            session(1, day=5, paid=9),
            session(2, day=5, paid=3, shown=4, model=MOUSE),
            session(3, day=6, paid=2, cut=True),
        ]
    )
    days = earnings.earnings(connection, By.DAY)
    assert [group.day for group in days] == [7, 5], "without a receipt, by the lock's end"
    assert (days[1].answers, days[1].tokens, days[1].billed) == (2, 20, Nano(1_800))
    assert (days[1].earned, days[1].unsettled) == (Nano(1_200), Nano(100))
    models = earnings.earnings(connection, By.MODEL)
    assert [group.model for group in models] == [MOTH, MOUSE, earnings.NO_MODEL]
    assert (models[2].answers, models[2].earned) == (0, Nano(200))


def test_what_no_mint_will_pay_any_more_is_not_on_its_way():
    connection = store([session(1, day=5, paid=3, shown=9)])
    (group,) = earnings.earnings(connection, By.DAY)
    assert group.unsettled == Nano(600)
    connection.execute("UPDATE taking SET done = 1")
    (group,) = earnings.earnings(connection, By.DAY)
    assert (group.unsettled, group.earned) == (ZERO, Nano(300))


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.integers(0, 20),
            st.integers(0, 9),
            st.sampled_from([MOTH, MOUSE]),
            st.booleans(),
        ),
        max_size=12,
    )
)
def test_nothing_is_counted_twice_or_left_out(drawn):
    connection = store(
        [
            session(n, day=day, paid=paid, shown=paid + more, model=model, cut=cut)
            for n, (day, paid, more, model, cut) in enumerate(drawn)
        ]
    )
    for by in By:
        groups = earnings.earnings(connection, by)
        assert sum((g.earned for g in groups), ZERO) == Nano(sum(100 * d[1] for d in drawn))
        assert sum((g.unsettled for g in groups), ZERO) == Nano(sum(100 * d[2] for d in drawn))
        assert sum(g.answers for g in groups) == sum(not d[4] for d in drawn)


def test_every_figure_has_a_receipt_that_can_be_checked():
    connection = store([session(1, day=5, paid=9), session(2, day=6, paid=3, cost=300)])
    bills = earnings.bills(connection, 10)
    costs = [tariff.verify(signed, WORKER.public).cost for signed in bills]
    assert costs == [Nano(300), Nano(900)]
    billed = sum((group.billed for group in earnings.earnings(connection, By.DAY)), ZERO)
    assert billed == sum(costs, ZERO)


@pytest.mark.parametrize("other", [b"o" * 32, b""])
def test_a_store_is_one_wallets_for_good(other):
    connection = in_memory()
    assert own(connection, b"w" * 32)
    assert own(connection, b"w" * 32)
    assert not own(connection, other)
