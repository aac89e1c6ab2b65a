"""What the demonstration says of money is checked against what it says: one wrong figure is red."""

from dataclasses import replace

import pytest

from ledger.money import NANO_PER_TON
from scripts.demo import checks
from scripts.demo.books import Balance, Books

GIVEN = 3 * NANO_PER_TON
FEES = (7_700_000, 0, 4_600_000, 5_800_000)
PAID = 2_400_000


def transaction(kind, fee, peer=None):
    return {"kind": kind, "fee_nano": fee, "peer": peer, "transaction": f"{kind}{fee}"}


BOOKS = Books(
    bought={},
    set_aside=PAID * 2,
    paid=PAID,
    change=PAID,
    earned=PAID,
    fee=10,
    before=(
        Balance(name="client", role="client", on_chain=GIVEN - NANO_PER_TON, credits=0),
        Balance(name="mint", role="mint", on_chain=NANO_PER_TON, credits=0),
    ),
    after=(
        Balance(name="client", role="client", on_chain=NANO_PER_TON, credits=7),
        Balance(name="mint", role="mint", on_chain=GIVEN - NANO_PER_TON - sum(FEES), credits=0),
    ),
    transactions=[
        transaction("open", FEES[0]),
        transaction("open", FEES[1], peer="wallet"),
        transaction("claim", FEES[2]),
        transaction("close", FEES[3]),
    ],
    names={},
    open_lanes=0,
    supply={"genesis": 10 * GIVEN, "giver": 9 * GIVEN, "exact": True},
)

RESULT = {"cost": {"paid_nano": PAID}}


def red(books, result=RESULT):
    return [check.name for check in checks.money(result, books) if not check.ok]


def test_books_in_which_nothing_is_wrong_are_green():
    assert red(BOOKS) == []


@pytest.mark.parametrize("dropped", [at for at, fee in enumerate(FEES) if fee])
def test_a_fee_that_is_left_out_is_a_coin_that_is_missing(dropped):
    kept = [one for at, one in enumerate(BOOKS.transactions) if at != dropped]
    assert "conserved" in red(replace(BOOKS, transactions=kept))


@pytest.mark.parametrize("by", [-1, 1])
@pytest.mark.parametrize("party", [0, 1])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_nano_more_or_less_is_not_conserved(when, party, by):
    found = list(getattr(BOOKS, when))
    found[party] = replace(found[party], on_chain=found[party].on_chain + by)
    assert red(replace(BOOKS, **{when: found})) == ["conserved"]


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"supply": {**BOOKS.supply, "exact": False}}, "conserved"),
        ({"supply": {**BOOKS.supply, "giver": 9 * GIVEN - 1}}, "conserved"),
        ({"open_lanes": 1}, "settled"),
        ({"earned": PAID + 1}, "paid"),
        ({"paid": 0, "earned": 0}, "paid"),
        ({"paid": PAID + 1_024, "earned": PAID + 1_024}, "paid"),
    ],
)
def test_each_wrong_figure_is_red(change, name):
    assert red(replace(BOOKS, **change)) == [name]


def test_a_network_whose_lanes_never_settled_is_red():
    opened = [one for one in BOOKS.transactions if one["kind"] == "open"]
    assert red(replace(BOOKS, transactions=opened)) == ["settled", "conserved"]


def test_a_free_network_pays_nothing():
    assert red(None, {"cost": {"paid_nano": 0}}) == []
    assert red(None) == ["conserved"]
