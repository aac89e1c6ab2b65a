"""Epochs: a week on sale, four to spend, eight to swap, then nothing of them is left."""

from dataclasses import replace

import pytest

from ledger import wire
from ledger.credit import BUNDLES, EPOCH_SECONDS, worth
from ledger.messages import Code, Err, Lock, Locked, Restore, Sigs, swap_root
from ledger.money import ZERO, Nano
from tests.ledger.parties import AMOUNT, EPOCH, OTHER, WEEK, WORKER, Customer

LANE = b"out" + bytes(29)


@pytest.fixture
def old(desk, customer):
    """The keyset of the customer's credits, no longer on sale."""
    keyset = desk.stock(customer)
    desk.now += WEEK
    return keyset


def refused(desk, request, code):
    desk.keyset()
    before = desk.sheet()
    reply = desk.call("swap", request)
    assert isinstance(reply, Err)
    assert reply.code is code, reply
    assert desk.sheet() == before


def test_an_epoch_is_a_week_of_unix_time(desk):
    keyset = desk.keyset()
    assert (keyset.epoch, keyset.start) == (EPOCH, EPOCH * EPOCH_SECONDS)
    desk.now = keyset.start + WEEK - 1
    assert desk.keyset() == keyset
    assert desk.book.write(lambda b: desk.core.next_deadline(b, desk.now)) == desk.now + 1
    desk.now += 1
    assert desk.call("expire") == 0
    assert desk.keyset().epoch == EPOCH + 1


def test_old_credits_become_new_ones_of_any_division(desk, customer, old):
    coins = [coin for coin in customer.coins if coin.j in (18, 19)]
    total = worth(coin.j for coin in coins)
    new, exponents = desk.keyset(), (19, 18, 18, 18, 18)
    assert worth(exponents) == total
    reply = desk.call("swap", customer.swap(old, new, exponents, coins))
    customer.bought(new, reply)
    assert sum(coin.epoch == new.epoch for coin in customer.coins) == len(exponents)
    sheet = desk.sheet()
    assert sheet.outstanding == worth(BUNDLES["S"]) == customer.worth()
    desk.open_out(LANE)
    assert desk.locked(customer, amount=AMOUNT, lane=LANE).spend.terms.epoch == new.epoch


def test_swapping_again_gets_the_same_bytes(desk, customer, old):
    request = customer.swap(old, desk.keyset(), (10, 10), customer.coins[:2])
    first = desk.call("swap", request)
    sheet = desk.sheet()
    desk.now += WEEK
    desk.keyset()
    assert wire.encode(desk.call("swap", request)) == wire.encode(first)
    assert desk.sheet() == sheet


def test_a_credit_is_swapped_or_spent_once(desk, customer, old):
    new, coins = desk.keyset(), customer.coins[:2]
    desk.call("swap", customer.swap(old, new, (10, 10), coins))
    refused(desk, customer.swap(old, new, (10, 10), coins), Code.SPENT)
    desk.open_out(LANE)
    spend = customer.spend(old, Nano(2_000), now=desk.now, coins=coins).spend
    reply = desk.call("lock", Lock(spend.encode(), LANE), WORKER.id)
    assert reply.code is Code.SPENT
    others = customer.coins[:2]
    spend = customer.spend(old, Nano(2_000), now=desk.now, coins=others).spend
    assert isinstance(desk.call("lock", Lock(spend.encode(), LANE), WORKER.id), Locked)
    refused(desk, customer.swap(old, new, (12,), others), Code.SPENT)


def test_nobody_can_put_other_outputs_into_a_swap(desk, customer, old):
    new, thief = desk.keyset(), Customer(name=9)
    request = customer.swap(old, new, (10, 10), customer.coins[:2])
    stolen = replace(request, outputs=tuple((10, thief.blank(new.epoch)[3]) for _ in range(2)))
    refused(desk, stolen, Code.BAD_AUTH)
    assert swap_root(EPOCH, request.outputs) != swap_root(EPOCH + 1, request.outputs)
    assert isinstance(desk.call("swap", request), Sigs)


def test_outputs_are_worth_what_is_spent(desk, customer, old):
    for exponents in ((10,), (10, 10, 10), (11, 10), ()):
        request = customer.swap(old, desk.keyset(), exponents, customer.coins[:2])
        refused(desk, request, Code.BAD_REQUEST)


def test_a_swap_is_into_the_epoch_on_sale(desk, customer, old):
    refused(desk, customer.swap(old, old, (10, 10), customer.coins[:2]), Code.STALE_KEYSET)


def test_a_spend_to_a_worker_is_no_swap(desk, customer, old):
    new, coins = desk.keyset(), customer.coins[:2]
    refused(desk, customer.swap(old, new, (11,), coins, payee=WORKER.id), Code.BAD_REQUEST)
    refused(desk, customer.swap(old, new, (11,), coins, mint=OTHER.id), Code.BAD_REQUEST)


def test_forged_credits_are_not_swapped(desk, customer, old):
    new, (one, two) = desk.keyset(), customer.coins[:2]
    request = customer.swap(old, new, (11,), [one, replace(two, C=one.C)])
    refused(desk, request, Code.BAD_AUTH)


def test_points_that_are_none_are_not_swapped_for(desk, customer, old):
    new, coins = desk.keyset(), customer.coins[:2]
    outputs = ((11, bytes(32)),)
    request = customer.swap(old, new, (11,), coins, root=swap_root(new.epoch, outputs))
    refused(desk, replace(request, outputs=outputs), Code.BAD_REQUEST)


def test_bytes_that_are_no_spend_are_not_swapped(desk, customer, old):
    request = customer.swap(old, desk.keyset(), (10, 10), customer.coins[:2])
    refused(desk, replace(request, spend=request.spend[:-1]), Code.BAD_REQUEST)


def test_a_swap_happens_whole_or_not_at_all(desk, customer, old):
    request = customer.swap(old, desk.keyset(), (10, 10), customer.coins[:2])
    failed, reply = desk.failing("swap", request)
    assert failed == 2
    assert isinstance(reply, Sigs)


def test_after_eight_weeks_what_nobody_swapped_is_the_mints(desk, customer, old):
    session_coins = customer.coins[:1]
    last = old.start + 8 * WEEK
    desk.now = last - 1
    desk.call("swap", customer.swap(old, desk.keyset(), (10,), session_coins))
    desk.call("expire")
    assert desk.sheet().expired == ZERO
    late = customer.swap(old, desk.keyset(), (10,), customer.coins[:1])
    desk.now = last
    refused(desk, late, Code.EXPIRED)
    desk.call("expire")
    sheet = desk.sheet()
    assert sheet.expired == worth(BUNDLES["S"]) - Nano(1_024)
    assert sheet.outstanding == Nano(1_024)
    refused(desk, late, Code.EXPIRED)


def test_of_an_epoch_that_is_over_nothing_is_kept(desk, customer):
    keyset = desk.stock(customer)
    blinds = tuple(B for *_, B in customer.pending)
    desk.open_out(LANE)
    session = desk.locked(customer, lane=LANE)
    assert len(desk.call("restore", Restore(blinds)).found) == len(blinds)
    desk.now = keyset.start + 8 * WEEK
    desk.call("expire")
    assert desk.call("restore", Restore(blinds)).found == ()
    assert desk.read("lock", session.spend.lock_id) is None
    assert desk.read("outstanding", EPOCH) == ZERO
    assert [desk.keyset().signed] == desk.read("keysets")
    assert desk.sheet().outstanding == ZERO


def test_expiring_happens_whole_or_not_at_all(desk, customer):
    keyset = desk.stock(customer)
    desk.open_out(LANE)
    session = desk.locked(customer, lane=LANE)
    desk.call("settle", session.settle(1), WORKER.id)
    desk.now = keyset.start + 8 * WEEK
    failed, count = desk.failing("expire")
    # a keyset, a lock, its change, the worker's rest, what expired, its epoch
    assert (failed, count) == (6, 1)


def test_keysets_of_eight_weeks_are_named_and_no_older(desk):
    for week in range(12):
        assert len(desk.call("keysets").keysets) == min(week + 1, 8)
        desk.call("expire")
        assert len(desk.call("keysets").keysets) == min(week + 1, 8)
        desk.now += WEEK


def test_what_was_sold_is_restored_and_nothing_else(desk, customer):
    keyset = desk.stock(customer)
    unknown = Customer(name=9).blank(EPOCH)[3]
    asked = [customer.pending[3][4], unknown, bytes(32), customer.pending[0][4]]
    found = desk.call("restore", Restore(tuple(asked))).found
    assert [(blind, j) for blind, j, _ in found] == [
        (asked[0], customer.pending[3][0]),
        (asked[3], customer.pending[0][0]),
    ]
    coins, customer.coins = customer.coins, []
    for (j, *blank), (_, of, signed) in zip(
        (customer.pending[3], customer.pending[0]), found, strict=True
    ):
        assert j == of
        customer.take(keyset, of, blank, signed)
    assert all(coin in coins for coin in customer.coins)
