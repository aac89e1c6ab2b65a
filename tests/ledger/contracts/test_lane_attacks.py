"""Attacks that other payment channels fell to, each tried on ours.

Found in TON's payment-channels (FunC, 2022), in its Tolk successor and in payment-channel-402, by
running them and by the audit of the last; the tenth is our own.
"""

import random

import pytest
from pytoniq_core import Builder, Cell
from pytoniq_core.tlb.account import ShardAccount

from ledger.chain.engine import Done
from ledger.chain.wallet import external
from ledger.contracts import cells
from ledger.lane import Op
from ledger.money import Nano
from tests.ledger.contracts.cases import CLAIM_COST, DEAR, accepted, bounced, refused, with_init
from tests.ledger.contracts.world import (
    DAY,
    PAYEE,
    PAYEE_KEY,
    PAYER,
    RESERVE,
    STRANGER,
    TON,
    World,
    engine,
    signed_order,
    signed_voucher,
    terms,
)


def test_1_a_spent_payer_locks_nothing():
    """There a fine made the payer's side negative, and with it every way out fail for ever."""
    w = World().open(TON)
    accepted(w, w.claim(100 * TON))
    accepted(w, w.start_close())
    accepted(w, w.send(PAYER, TON // 10, cells.top_up_body()))
    accepted(w, w.claim(100 * TON))
    w.now += DAY
    accepted(w, w.finish())
    assert w.state is None
    assert w.balance(PAYEE) + 2 * CLAIM_COST >= TON + TON // 10 - RESERVE - 2 * 10**6


def mutated(body, place):
    """The body with a bit flipped, in itself or in the voucher behind it."""
    voucher = body.refs[0]
    order, inner = body.bits.copy(), voucher.bits.copy()
    if place < len(order):
        order.invert(place)
    else:
        inner.invert(place - len(order))
    changed = Builder().store_bits(inner).end_cell()
    return Builder().store_bits(order).store_ref(changed).end_cell()


def drain(count):
    """There anybody's external was accepted before it failed, at the payee's cost."""
    w = World().open(TON)
    before, chance = w.balance(), random.Random(2)
    for make in (cells.claim_order, cells.close_order):
        body = Cell.one_from_boc(w.order(make, TON // 2)).refs[0]
        bits = len(body.bits) + len(body.refs[0].bits)
        for place in chance.choices(range(bits), k=count):
            outcome = w.post_body(mutated(body, place))
            assert not isinstance(outcome, list), f"bit {place} of {make.__name__}"
    assert w.balance() == before
    accepted(w, w.claim(TON // 2))


def test_2_strangers_externals_burn_nothing():
    drain(200)


@pytest.mark.slow
def test_2_ten_thousand_strangers_externals_burn_nothing():
    drain(5_000)


def test_3_a_late_watcher_is_paid():
    """There an old state won once the watcher had slept for the time of a dispute."""
    w = World().open(TON)
    accepted(w, w.claim(TON // 10))
    accepted(w, w.start_close())
    w.now += 3 * DAY
    accepted(w, w.claim(TON // 2))
    assert w.claimed == TON // 2
    accepted(w, w.claim_for(6 * TON // 10))
    accepted(w, w.finish())
    assert w.balance(PAYEE) >= 6 * TON // 10 - 2 * CLAIM_COST


def test_4_a_held_back_close_is_void():
    """There both had signed a close that could still be posted after more was paid."""
    w = World().open(10 * TON)
    close = w.order(cells.close_order, 3 * TON)
    accepted(w, w.claim(4 * TON))
    refused(w, w.post(close), 103)

    w = World().open(10 * TON)
    close = w.order(cells.close_order, 3 * TON)
    w.now += 601
    refused(w, w.post(close), 108)


@pytest.mark.parametrize("deposit", [TON, 10 * TON])
def test_5_a_replay_pays_nothing(deposit):
    """There the amount of a replayed message was added again, until the deposit was gone."""
    w = World().open(deposit)
    for total in (TON // 2, 3 * TON):
        order = w.order(cells.claim_order, total)
        accepted(w, w.post(order))
        claimed, balance = w.claimed, w.balance()
        for _ in range(5):
            assert not isinstance(w.post(order), list)
        assert (w.claimed, w.balance()) == (claimed, balance)

    w.send(PAYER, 10 * TON, cells.top_up_body())
    replays = [w.post(order) for _ in range(5)]
    assert sum(isinstance(outcome, list) for outcome in replays) == (deposit == TON)
    assert w.claimed == 3 * TON


@pytest.mark.parametrize("total", [2**32 - 1, 2**32, 2**63 - 1, 2**64, 2**119])
def test_6_totals_are_kept_whole(total):
    """There a counter was sent with 64 bits and stored with 32."""
    w = World().plant(2**119 + TON)
    voucher = signed_voucher(w.lane, total)
    body = signed_order(Op.CLAIM, Op.CLAIM, w.lane, w.now + 60, voucher)
    done = engine().transact(
        w.accounts[w.lane], external(w.lane, body), now=w.now, lt=10**6, seed=bytes(32)
    )
    assert isinstance(done, Done)
    state = ShardAccount.deserialize(done.shard_account.begin_parse()).account.storage.state
    reader = state.state_init.data.begin_parse()
    reader.skip_bits(512)
    assert reader.load_coins() == total
    assert reader.load_uint(32) == 0
    assert reader.load_ref().hash == cells.data(w.config).refs[0].hash
    assert not len(reader.bits)


def test_7_a_second_start_moves_nothing():
    """There each challenge began the time anew, and an honest closer was fined."""
    w = World().open(TON)
    accepted(w, w.start_close())
    close_at = w.state.close_at
    for _ in range(3):
        w.now += DAY // 4
        bounced(w, w.start_close(), 107)
    assert w.state.close_at == close_at
    w.now = close_at
    accepted(w, w.finish())


def test_8_no_lane_believes_anothers_voucher():
    """There a channel was a bare number, the same on another contract and another network."""
    one, two = World().open(TON), World(config=terms(lane_id=8)).open(TON)
    foreign = cells.claim_order(two.lane, one.voucher(TON // 2), two.now + 60, PAYEE_KEY)
    refused(two, two.post(foreign), 105)
    assert cells.lane_address(terms()) != cells.lane_address(terms(network=-3))


def test_9_an_order_is_not_another_order():
    w = World().open(TON)
    voucher = cells.voucher_cell(w.voucher(TON // 2))
    swapped = signed_order(Op.CLOSE, Op.CLAIM, w.lane, w.now + 60, voucher)
    refused(w, w.post_body(swapped), 104)


def test_9_prices_a_hundred_times_higher_harm_nobody():
    """There what a message costs was a constant of the contract."""
    w = World(prices=DEAR).open(5 * TON)
    before = w.balance()
    refused(w, w.claim(3 * TON // 10), 109)
    assert w.balance() == before
    accepted(w, w.claim(TON))
    assert w.balance(PAYEE) == TON - 100 * CLAIM_COST
    assert before - w.balance() <= TON
    accepted(w, w.close(2 * TON))
    assert w.balance(PAYEE) == 2 * TON - 100 * CLAIM_COST

    poor = World(prices=DEAR).plant(6 * TON // 10)
    refused(poor, poor.close(0), 109)
    assert poor.balance() == 6 * TON // 10


def test_10_a_wrapped_order_costs_the_lane_nothing():
    """Whoever relays an order may add the lane's own StateInit, of which the import is charged."""
    for make in (cells.claim_order, cells.close_order):
        w = World().open(TON)
        before = w.balance()
        order = w.order(make, TON // 2)
        refused(w, w.deliver(with_init(order, w.init), w.lane), 111)
        assert w.balance() == before
        accepted(w, w.post(order))
        assert w.balance() >= before - TON // 2 or w.state is None


def test_a_dead_lane_takes_nothing():
    w = World().open(TON)
    accepted(w, w.close(TON // 2))
    for outcome in (w.claim(TON), w.close(TON)):
        assert not isinstance(outcome, list)
        assert outcome.exit_code is None
    back = w.balance(STRANGER)
    w.send(STRANGER, TON, cells.top_up_body())
    assert w.balance() == 0
    assert w.balance(STRANGER) > back + TON - 2 * 10**6


def test_a_lane_that_comes_back_believes_its_old_vouchers():
    """Why a `lane_id` is never used twice: the address is the same, and so is what was signed."""
    w = World().open(TON)
    accepted(w, w.close(TON // 2))
    w.open(TON)
    accepted(w, w.claim(TON // 2))
    assert w.balance(PAYEE) == TON - CLAIM_COST


def test_a_payee_cannot_drain_the_payer_by_claiming_often():
    w = World(config=terms(min_claim=Nano(0))).open(4 * TON)
    before = w.balance()
    for number in range(1, 51):
        accepted(w, w.claim(number * 6 * TON // 100))
    assert before - w.balance() <= 3 * TON
    assert w.balance(PAYEE) == 3 * TON - 50 * CLAIM_COST
    assert w.balance(PAYER) == 0


YEAR = 365 * DAY


def test_storage_of_decades_is_paid_and_locks_nothing():
    w = World().open(TON)
    w.now += 50 * YEAR
    accepted(w, w.claim(TON // 2))
    assert w.balance(PAYEE) == TON // 2 - CLAIM_COST
    accepted(w, w.close(TON // 2))
    assert w.state is None
    assert w.balance(PAYER) > TON // 2 - 4 * TON // 10


def test_storage_debt_ends_with_the_next_top_up():
    """A lane that holds its reserve alone is empty after four years: nobody's coins are in it."""
    w = World().open(RESERVE)
    w.now += 10 * YEAR
    for order in (w.claim(TON), w.close(0)):
        assert not isinstance(order, list), "there is nothing to be claimed, and nothing to pay by"
    w.send(PAYER, TON, cells.top_up_body())
    left = w.balance()
    assert left > TON - 6 * TON // 100
    accepted(w, w.claim(TON // 2))
    assert w.balance(PAYEE) == TON // 2 - CLAIM_COST
    w.start_close()
    assert w.state.close_at
    w.now += w.config.close_delay + 1
    w.finish()
    assert w.state is None
    assert w.balance(PAYER) > left - TON // 2 - TON // 50
