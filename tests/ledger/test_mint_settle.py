"""After a lock: ticks become vouchers, the rest becomes change, and time ends what nobody ends."""

from dataclasses import replace

import pytest

from ledger import voucher, wire
from ledger.credit import BUNDLES, worth
from ledger.lane import Phase
from ledger.messages import (
    Change,
    Changed,
    Code,
    Err,
    Lock,
    Locked,
    Pending,
    Restore,
    Settle,
    Settled,
)
from ledger.mint import BATCH
from ledger.money import ZERO, Nano
from ledger.policy import MAIN
from ledger.receipt import Iou
from tests.ledger.parties import KEYS, MINT, OTHER, WORKER, Customer

LANE, SECOND = b"out" + bytes(29), b"sec" + bytes(29)


@pytest.fixture
def session(desk, customer):
    """Ten ticks of 10,000 nano locked for the worker, on its lane."""
    desk.stock(customer)
    desk.open_out(LANE)
    return desk.locked(customer, lane=LANE)


def settle(desk, session, i, *, final=False, worker=WORKER):
    return desk.call("settle", session.settle(i, final=final), worker.id)


def change(desk, session):
    return desk.call("change", Change(session.spend.lock_id, session.secret))


def refused(desk, reply, code, before):
    assert isinstance(reply, Err)
    assert reply.code is code
    assert desk.sheet() == before


def rest(session, i):
    """What is too little for a credit: the worker's."""
    left = session.spend.amount - session.spend.terms.tick * i
    return Nano(left.value % 1_024)


def worth_of(reply):
    return worth(j for j, _ in reply.sigs)


# --- settling ---


def test_ticks_raise_the_workers_voucher(desk, session):
    for i in (1, 4, 10):
        reply = settle(desk, session, i)
        assert (reply.i, reply.change_ready, reply.iou) == (i, False, None)
        assert reply.voucher.lane == LANE
        assert reply.voucher.cumulative == Nano(10_000) * i
        voucher.verify(KEYS.payer(1).public, reply.voucher)
    assert desk.sheet().given == Nano(100_000)


def test_settling_again_or_earlier_ticks_changes_nothing(desk, session):
    first = settle(desk, session, 5)
    before = desk.sheet()
    assert wire.encode(settle(desk, session, 5)) == wire.encode(first)
    assert wire.encode(settle(desk, session, 2)) == wire.encode(first)
    garbage = Settle(lock=session.spend.lock_id, i=3, x=bytes(32), final=False)
    assert wire.encode(desk.call("settle", garbage, WORKER.id)) == wire.encode(first)
    assert desk.sheet() == before


@pytest.mark.parametrize("i", [6, 10, 11, 16_384])
def test_a_preimage_that_does_not_lead_to_the_root_pays_nothing(desk, session, i):
    settle(desk, session, 5)
    before = desk.sheet()
    for x in (bytes(32), session.chain.reveal(7)):
        request = Settle(lock=session.spend.lock_id, i=i, x=x, final=True)
        refused(desk, desk.call("settle", request, WORKER.id), Code.BAD_PREIMAGE, before)
    assert settle(desk, session, 6).i == 6


def test_a_lock_is_its_workers_alone(desk, session):
    before = desk.sheet()
    refused(desk, settle(desk, session, 5, worker=OTHER), Code.UNKNOWN_LOCK, before)
    unknown = Settle(lock=bytes(32), i=0, x=bytes(32), final=True)
    refused(desk, desk.call("settle", unknown, WORKER.id), Code.UNKNOWN_LOCK, before)


def test_after_final_no_tick_is_paid_but_the_reply_can_be_had_again(desk, session):
    last = settle(desk, session, 5, final=True)
    assert last.change_ready
    before = desk.sheet()
    refused(desk, settle(desk, session, 6), Code.EXPIRED, before)
    assert wire.encode(settle(desk, session, 5, final=True)) == wire.encode(last)
    assert desk.sheet() == before


def test_a_session_without_ticks_gives_all_back(desk, session):
    request = Settle(lock=session.spend.lock_id, i=0, x=session.spend.terms.root, final=True)
    reply = desk.call("settle", request, WORKER.id)
    assert (reply.i, reply.change_ready) == (0, True)
    assert reply.voucher.cumulative == session.spend.amount - worth_of(change(desk, session))
    assert reply.voucher.cumulative < Nano(1_024)


def test_settling_happens_whole_or_not_at_all(desk, session):
    failed, reply = desk.failing("settle", session.settle(7, final=True), WORKER.id)
    assert failed == 5
    assert reply.voucher.cumulative == Nano(70_000) + rest(session, 7)
    assert isinstance(reply, Settled)


# --- change ---


def test_change_waits_for_the_worker(desk, session):
    until = session.spend.terms.expiry + MAIN.final_delay
    assert change(desk, session) == Pending(until)
    settle(desk, session, 3)
    assert change(desk, session) == Pending(until)
    settle(desk, session, 3, final=True)
    assert isinstance(change(desk, session), Changed)


def test_change_is_the_binary_digits_of_what_is_left_and_spends(desk, customer, session):
    settle(desk, session, 3, final=True)
    reply = change(desk, session)
    left = session.spend.amount - Nano(30_000)
    assert worth_of(reply) + rest(session, 3) == left
    assert [1 << j for j, _ in reply.sigs] == [
        1 << j for j in range(27, 9, -1) if left.value >> j & 1
    ]
    assert reply.paid_ticks == 3
    kept = customer.worth()
    customer.changed(desk.keyset(), session, reply)
    assert customer.worth() == kept + worth_of(reply)
    assert customer.worth() == desk.sheet().outstanding
    everything = desk.locked(customer, amount=customer.worth(), lane=LANE)
    assert desk.sheet().locked == everything.spend.amount
    assert not customer.coins


def test_change_can_be_fetched_again_to_the_byte_for_as_long_as_its_epoch_lives(desk, session):
    settle(desk, session, 3, final=True)
    first = change(desk, session)
    desk.now += 49 * 86_400
    desk.call("expire")
    assert wire.encode(change(desk, session)) == wire.encode(first)
    desk.now += 7 * 86_400
    desk.call("expire")
    assert change(desk, session) == Err(Code.UNKNOWN_LOCK)


def test_change_is_for_who_knows_the_secret(desk, session):
    settle(desk, session, 3, final=True)
    wrong = Change(session.spend.lock_id, bytes(32))
    assert desk.call("change", wrong).code is Code.BAD_AUTH
    assert desk.call("change", Change(bytes(32), session.secret)).code is Code.UNKNOWN_LOCK


@pytest.mark.parametrize("blanks", [0, 1, 2])
def test_what_has_no_blank_goes_to_the_worker(desk, customer, blanks):
    desk.stock(customer)
    desk.open_out(LANE)
    session = desk.locked(customer, lane=LANE, blanks=blanks)
    reply = settle(desk, session, 3, final=True)
    fetched = change(desk, session)
    assert len(fetched.sigs) == blanks
    assert reply.voucher.cumulative + worth_of(fetched) == session.spend.amount


def test_a_blank_used_twice_is_signed_for_both(desk, customer, session):
    customer.counter -= 18  # the next spend shows the same blanks
    twin = desk.locked(customer, lane=LANE)
    settle(desk, session, 3, final=True)
    settle(desk, twin, 3, final=True)
    first, second = change(desk, session), change(desk, twin)
    restored = desk.call("restore", Restore(session.spend.terms.blanks))
    found = [(j, signed) for _, j, signed in restored.found]
    assert len(first.sigs) == len(second.sigs) > 0
    assert sorted(found) == sorted([*first.sigs, *second.sigs])


def test_change_is_found_again_from_the_blanks_alone(desk, session):
    settle(desk, session, 3, final=True)
    reply = change(desk, session)
    blinds = tuple(B for *_, B in session.blanks)
    restored = desk.call("restore", Restore(blinds))
    assert [(j, signed) for _, j, signed in restored.found] == list(reply.sigs)


# --- time ---


def test_a_lock_that_nobody_ends_ends_itself(desk, session):
    settle(desk, session, 4)
    until = session.spend.terms.expiry + MAIN.final_delay
    assert desk.book.write(lambda book: desk.core.next_deadline(book, desk.now)) == until
    desk.now = until - 1
    assert desk.call("expire") == 0
    assert isinstance(change(desk, session), Pending)
    desk.now = until
    assert desk.call("expire") == 1
    assert desk.call("expire") == 0
    assert change(desk, session).paid_ticks == 4
    assert desk.book.write(lambda book: desk.core.next_deadline(book, desk.now)) > desk.now


def test_ticks_are_taken_until_the_lock_ends_itself(desk, session):
    desk.now = session.spend.terms.expiry + MAIN.final_delay - 1
    assert settle(desk, session, 4).i == 4
    desk.now += 1
    reply = settle(desk, session, 5)
    assert isinstance(reply, Err)
    assert reply.code is Code.EXPIRED
    assert settle(desk, session, 4).change_ready


def test_change_is_there_in_time_even_if_the_mint_was_asleep(desk, session):
    desk.now = session.spend.terms.expiry + MAIN.final_delay
    assert change(desk, session).paid_ticks == 0


@pytest.mark.parametrize("slept", [7_200, 60 * 86_400])
def test_a_mint_that_slept_ends_its_locks_in_batches(desk, customer, slept):
    """Before it forgets their epoch."""
    for _ in range(4):
        desk.stock(customer)
    desk.open_out(LANE)
    keyset, coins = desk.keyset(), customer.coins[: BATCH + 6]
    for n, coin in enumerate(coins):
        session = customer.spend(keyset, coin.value, coins=(coin,), ticks=1, blanks=0, life=600 + n)
        desk.call("lock", Lock(session.spend.encode(), LANE), WORKER.id)
    desk.now += slept
    assert [desk.call("expire") for _ in range(3)] == [BATCH, 6, 0]
    sheet = desk.sheet()
    assert sheet.locked == ZERO
    assert sheet.given + sheet.outstanding + sheet.expired == worth(BUNDLES["S"]) * 4


# --- lanes that close, and debts ---


def test_without_a_lane_the_mint_signs_what_it_owes(desk, customer):
    desk.stock(customer)
    session = desk.locked(customer, lane=None)
    reply = settle(desk, session, 4)
    assert reply.voucher is None
    iou = Iou.parse(reply.iou, MINT.public)
    assert iou == Iou(worker=WORKER.id, owed=Nano(40_000), at=int(desk.now))
    assert desk.sheet().owed == Nano(40_000)


def test_what_is_owed_goes_onto_the_first_lane(desk, customer):
    desk.stock(customer)
    session = desk.locked(customer, lane=None)
    settle(desk, session, 4)
    assert desk.clear() is None
    desk.open_out(LANE)
    assert desk.clear().cumulative == Nano(40_000)
    assert desk.clear().cumulative == Nano(40_000)
    assert desk.sheet().owed == ZERO
    reply = settle(desk, session, 5)
    assert (reply.voucher.cumulative, reply.iou) == (Nano(50_000), None)


def test_a_debt_takes_no_coins_that_are_reserved(desk, customer):
    desk.stock(customer)
    owed = desk.locked(customer, lane=None)
    settle(desk, owed, 10, final=True)
    desk.open_out(LANE, Nano(110_000))
    reserved = desk.locked(customer, lane=LANE)
    desk.clear()
    left = Nano(110_000) - reserved.spend.amount
    assert desk.sheet().given == left
    settle(desk, reserved, 10)
    assert desk.sheet().given == left + Nano(100_000)


def test_if_the_lane_closes_meanwhile_the_ticks_are_owed(desk, session):
    settle(desk, session, 2)
    desk.change_out(LANE, phase=Phase.CLOSING)
    reply = settle(desk, session, 5)
    assert reply.voucher is None
    assert Iou.parse(reply.iou, MINT.public).owed == Nano(30_000)
    desk.open_out(SECOND)
    reply = settle(desk, session, 6)
    assert (reply.voucher.lane, reply.voucher.cumulative) == (SECOND, Nano(40_000))
    assert reply.iou is None
    assert desk.sheet().given == Nano(60_000)


def test_the_newest_open_lane_takes_the_debts(desk, customer):
    desk.stock(customer)
    settle(desk, desk.locked(customer, lane=None), 4)
    desk.open_out(LANE, opened_at=desk.now)
    desk.open_out(SECOND, opened_at=desk.now + 1)
    assert desk.clear().lane == SECOND


def test_each_worker_has_its_own(desk, customer):
    desk.stock(customer)
    desk.stock(customer)
    one = desk.locked(customer, lane=None)
    two = desk.locked(customer, lane=None, worker=OTHER)
    settle(desk, one, 4)
    reply = settle(desk, two, 5, worker=OTHER)
    assert Iou.parse(reply.iou, MINT.public).owed == Nano(50_000)
    desk.open_out(LANE)
    assert desk.clear(OTHER) is None
    assert desk.clear().cumulative == Nano(40_000)


def test_a_sheet_that_does_not_add_up_says_by_how_much(desk, session):
    before = desk.sheet()
    assert before.difference == 0
    assert replace(before, owed=Nano(7)).difference == -7
    assert replace(before, locked=before.locked - Nano(5)).difference == 5


def test_a_worker_that_buys_with_the_blanks_it_saw_takes_no_change(desk):
    victim, thief = Customer(name=1), Customer(name=2)
    for customer in (victim, thief):
        desk.open_in(customer)
    desk.open_out(LANE)
    keyset = desk.stock(victim, "M")
    session = victim.spend(keyset, Nano(10_000_000), WORKER, now=desk.now, ticks=10)
    assert isinstance(desk.call("lock", Lock(session.spend.encode(), LANE), WORKER.id), Locked)

    bought = thief.buy(keyset, "S")
    seen = tuple(blind for *_, blind in session.blanks)
    desk.call("buy", replace(bought, outputs=(*seen, *bought.outputs)[: len(bought.outputs)]))
    reply = desk.call("settle", session.settle(0, final=True), WORKER.id)
    changed = desk.call("change", Change(session.spend.lock_id, session.secret))

    assert reply.voucher.cumulative < Nano(1_024)
    assert worth(j for j, _ in changed.sigs) + Nano(1_024) > session.spend.amount
    assert desk.sheet().difference == 0
