"""Locking coins for a worker: once, whole, for whom they are meant, and never beyond the lane."""

from dataclasses import replace

import pytest

from ledger import wire
from ledger.credit import MAX_COINS, Keyset, Spend, worth
from ledger.lane import Phase
from ledger.messages import Code, Err, Lock, Locked
from ledger.money import ZERO, Nano
from ledger.policy import DEV, MAIN
from ledger.receipt import LockReceipt
from tests.ledger.parties import AMOUNT, MINT, NOW, OTHER, PLENTY, WORKER, Customer, Desk

LANE = b"out" + bytes(29)


@pytest.fixture
def stocked(desk, customer):
    """A customer with credits; the worker has a lane."""
    desk.stock(customer)
    desk.open_out(LANE)
    return customer


def ask(desk, session, lane=LANE, worker=WORKER):
    return desk.call("lock", Lock(session.spend.encode(), lane), worker.id)


def refused(desk, reply, code, before):
    assert isinstance(reply, Err)
    assert reply.code is code, reply
    assert desk.sheet() == before


def test_a_lock_moves_coins_and_its_receipt_says_so(desk, stocked):
    before = desk.sheet()
    session = stocked.spend(desk.keyset(), AMOUNT)
    reply = ask(desk, session)
    receipt = LockReceipt.parse(reply.receipt, MINT.public)
    spend, terms = session.spend, session.spend.terms
    assert receipt.lock == spend.lock_id
    assert (receipt.worker, receipt.session) == (WORKER.id, terms.session)
    assert (receipt.amount, receipt.tick, receipt.ticks) == (spend.amount, terms.tick, terms.ticks)
    assert (receipt.root, receipt.expiry) == (terms.root, terms.expiry)
    assert receipt.issued == int(NOW)
    assert len(receipt.nullifiers) == len(spend.coins)
    sheet = desk.sheet()
    assert sheet.locked == spend.amount
    assert sheet.outstanding == before.outstanding - spend.amount


def test_the_same_spend_again_has_the_same_receipt(desk, stocked):
    session = stocked.spend(desk.keyset(), AMOUNT)
    first = ask(desk, session)
    sheet = desk.sheet()
    desk.now += 500
    assert wire.encode(ask(desk, session)) == wire.encode(first)
    desk.call("settle", session.settle(3, final=True), WORKER.id)
    assert wire.encode(ask(desk, session)) == wire.encode(first)
    assert desk.sheet().locked == ZERO
    assert sheet.locked == session.spend.amount


def test_of_64_locks_of_one_coin_exactly_one_wins(desk, stocked):
    keyset = desk.keyset()
    coin = max(stocked.coins, key=lambda coin: coin.j)
    sessions = [stocked.spend(keyset, coin.value, coins=(coin,), blanks=0) for _ in range(64)]
    replies = [ask(desk, session) for session in sessions]
    assert [isinstance(reply, Locked) for reply in replies] == [True] + [False] * 63
    winner = sessions[0].spend.lock_id
    assert all(reply == Err(Code.SPENT, winner.hex()) for reply in replies[1:])
    assert desk.sheet().locked == coin.value


def test_one_spent_coin_refuses_all_and_marks_nothing(desk, stocked):
    keyset = desk.keyset()
    coins = sorted(stocked.coins, key=lambda coin: coin.j)
    used, fresh = coins[0], coins[1:6]
    ask(desk, stocked.spend(keyset, used.value, coins=(used,)))
    before = desk.sheet()
    mixed = stocked.spend(keyset, worth(c.j for c in fresh), coins=(*fresh, used))
    refused(desk, ask(desk, mixed), Code.SPENT, before)
    good = stocked.spend(keyset, worth(c.j for c in fresh), coins=fresh)
    assert isinstance(ask(desk, good), Locked)


def test_one_forged_coin_refuses_all_and_marks_nothing(desk, stocked):
    keyset, before = desk.keyset(), desk.sheet()
    coins = stocked.coins[:5]
    for bad in (replace(coins[0], j=27), replace(coins[0], C=coins[1].C), replace(coins[0], i=0)):
        forged = replace(bad, m=b"\x07" * 32) if bad == coins[0] else bad
        session = stocked.spend(keyset, Nano(2_000), coins=(forged, *coins[1:]))
        refused(desk, ask(desk, session), Code.BAD_AUTH, before)
    assert isinstance(ask(desk, stocked.spend(keyset, Nano(2_000), coins=coins)), Locked)


def test_a_spend_altered_anywhere_marks_nothing(desk, stocked):
    session, before = stocked.spend(desk.keyset(), AMOUNT), desk.sheet()
    data, refusals = session.spend.encode(), set()
    for at in range(0, len(data), 7):
        altered = bytearray(data)
        altered[at] ^= 1
        reply = desk.call("lock", Lock(bytes(altered), LANE), WORKER.id)
        assert isinstance(reply, Err), at
        refusals.add(reply.code)
    assert refusals <= {Code.BAD_AUTH, Code.BAD_REQUEST, Code.EXPIRED}
    assert desk.sheet() == before
    assert isinstance(ask(desk, session), Locked)


def test_a_spend_to_one_worker_is_none_for_another(desk, stocked):
    session, before = stocked.spend(desk.keyset(), AMOUNT), desk.sheet()
    refused(desk, ask(desk, session, worker=OTHER), Code.BAD_AUTH, before)
    ask(desk, session)
    before = desk.sheet()
    refused(desk, ask(desk, session, worker=OTHER), Code.BAD_AUTH, before)


def test_credits_of_another_mint_are_not_this_ones(desk, stocked):
    session, before = stocked.spend(desk.keyset(), AMOUNT), desk.sheet()
    terms = replace(session.spend.terms, mint=OTHER.id)
    foreign = Spend(terms, session.spend.coins, session.spend.auth)
    reply = desk.call("lock", Lock(foreign.encode(), LANE), WORKER.id)
    refused(desk, reply, Code.BAD_REQUEST, before)


@pytest.mark.parametrize(
    ("life", "code"), [(29, Code.EXPIRED), (30, None), (7_200, None), (7_201, Code.EXPIRED)]
)
def test_a_lock_lives_half_a_minute_to_two_hours(desk, stocked, life, code):
    reply = ask(desk, stocked.spend(desk.keyset(), AMOUNT, life=life))
    assert code is (reply.code if isinstance(reply, Err) else None)


def test_coins_are_spent_within_four_weeks(desk, stocked):
    keyset = desk.keyset()
    desk.now = keyset.start + 28 * 86_400 - 60
    assert isinstance(ask(desk, stocked.spend(keyset, AMOUNT, now=desk.now)), Locked)
    late, before = stocked.spend(keyset, AMOUNT, now=desk.now), desk.sheet()
    desk.now += 60
    refused(desk, ask(desk, late), Code.EXPIRED, before)


def test_coins_of_an_epoch_that_never_was_are_none(desk, stocked):
    before = desk.sheet()
    future = Keyset.build(MINT, b"x" * 32, epoch=9_999, start=int(NOW), fee_bp=0)
    coins = [replace(coin, epoch=9_999) for coin in stocked.coins]
    stocked.coins += coins
    refused(desk, ask(desk, stocked.spend(future, AMOUNT)), Code.EXPIRED, before)


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x93\x01\x02\x03", bytes(4_000)])
def test_what_is_no_spend_is_said_so(desk, data):
    reply = desk.call("lock", Lock(data, None), WORKER.id)
    assert isinstance(reply, Err)
    assert reply.code is Code.BAD_REQUEST


def test_64_coins_lock_at_once(desk, customer):
    for _ in range(3):
        desk.stock(customer)
    desk.open_out(LANE)
    coins = customer.coins[:MAX_COINS]
    session = customer.spend(desk.keyset(), Nano(10_000), coins=coins)
    reply = ask(desk, session)
    assert len(LockReceipt.parse(reply.receipt, MINT.public).nullifiers) == MAX_COINS


# --- whether the worker can be paid ---


def test_locks_reserve_what_they_may_become(desk, stocked):
    keyset = desk.keyset()
    desk.open_out(LANE, Nano(4_096))
    least = sorted(stocked.coins, key=lambda coin: coin.j)
    first = stocked.spend(keyset, Nano(2_048), coins=least[:2])
    second = stocked.spend(keyset, Nano(4_096), coins=least[2:4])
    third = stocked.spend(keyset, Nano(2_048), coins=least[2:3])
    assert isinstance(ask(desk, first), Locked)
    refused(desk, ask(desk, second), Code.NO_CAPACITY, desk.sheet())
    assert isinstance(ask(desk, third), Locked)


def test_what_was_not_spent_of_a_lock_is_free_for_the_next(desk, stocked):
    keyset, coins = desk.keyset(), sorted(stocked.coins, key=lambda coin: coin.j)
    desk.open_out(LANE, Nano(4_096))
    first = stocked.spend(keyset, Nano(4_000), coins=coins[2:4])
    ask(desk, first)
    second = stocked.spend(keyset, Nano(2_000), coins=coins[:2])
    refused(desk, ask(desk, second), Code.NO_CAPACITY, desk.sheet())
    desk.call("settle", first.settle(2, final=True), WORKER.id)  # 800 of 4,096
    assert isinstance(ask(desk, second), Locked)


def test_a_lane_is_the_workers_own_and_open(desk, stocked):
    other = b"oth" + bytes(29)
    desk.open_out(other, worker=OTHER)
    session, before = stocked.spend(desk.keyset(), AMOUNT), desk.sheet()
    for lane in (other, b"none" * 8, stocked.lane):
        refused(desk, ask(desk, session, lane), Code.NO_CAPACITY, before)
    desk.change_out(LANE, phase=Phase.CLOSING)
    refused(desk, ask(desk, session), Code.NO_CAPACITY, before)


def test_without_a_lane_a_mint_owes_up_to_its_limit(book):
    desk, customer = Desk(book, replace(MAIN, iou_limit=Nano(4_096))), Customer()
    desk.open_in(customer, PLENTY)
    keyset = desk.stock(customer)
    coins = sorted(customer.coins, key=lambda coin: coin.j)
    first = customer.spend(keyset, Nano(2_048), coins=coins[2:3])
    assert isinstance(ask(desk, first, None), Locked)
    too_much = customer.spend(keyset, Nano(4_096), coins=coins[4:5])
    refused(desk, ask(desk, too_much, None), Code.NO_CAPACITY, desk.sheet())
    desk.call("settle", first.settle(10, final=True), WORKER.id)
    refused(desk, ask(desk, too_much, None), Code.NO_CAPACITY, desk.sheet())
    enough = customer.spend(keyset, Nano(2_048), coins=coins[3:4])
    assert isinstance(ask(desk, enough, None), Locked)


def test_a_mint_whose_policy_owes_nothing_wants_a_lane(book):
    desk, customer = Desk(book, DEV), Customer()
    desk.open_in(customer)
    keyset = desk.stock(customer)
    refused(desk, ask(desk, customer.spend(keyset, AMOUNT), None), Code.NO_CAPACITY, desk.sheet())


def test_a_lock_happens_whole_or_not_at_all(desk, stocked):
    session = stocked.spend(desk.keyset(), AMOUNT)
    failed, reply = desk.failing("lock", Lock(session.spend.encode(), LANE), WORKER.id)
    assert failed == 2
    assert isinstance(reply, Locked)
