"""When vouchers become coins: each reason to claim, and each reason to wait."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.chain.base import Fees
from ledger.lane import RESERVE, LaneRow, Phase, Role
from ledger.money import ZERO, Nano
from ledger.settle import (
    CLAIM_EVERY,
    LAST_HOURS,
    MUCH,
    OLD,
    PATIENCE,
    Alarm,
    Claim,
    Close,
    Finish,
    Months,
    TopUp,
    Wait,
    claimable,
    closable,
    decide,
    tend,
)
from tests.ledger.test_lane import CONFIG, LANE

NOW = 1_800_000_000.0
DAY = 86_400
TON = Nano(10**9)

MAINNET = Fees(
    gas_price=26_214_400,
    flat_gas=100,
    flat_price=Nano(40_000),
    forward_lump=Nano(400_000),
    forward_bit=26_214_400,
    forward_cell=2_621_440_000,
    storage_bit=1,
    storage_cell=500,
)
COSTS = Months().costs(MAINNET, NOW)


def lane(due=10**8, *, role=Role.PAYEE, balance=TON * 3, phase=Phase.OPEN, **changes):
    row = LaneRow(
        lane=LANE,
        role=role,
        config=CONFIG,
        phase=phase,
        cumulative=Nano(due),
        balance=balance,
        seen_at=NOW,
        opened_at=NOW - DAY,
        claimed_at=NOW - DAY,
    )
    return replace(row, **changes)


def closing(left, **changes):
    return lane(phase=Phase.CLOSING, close_at=int(NOW + left), **changes)


# --- costs ---


def test_costs_are_those_of_the_contract_at_mainnet_prices():
    """6,600 gas at 400, an import of 1,720 bits and 3 cells, one message out."""
    assert COSTS.claim == Nano(6_600 * 400 + 400_000 + 1_720 * 400 + 3 * 40_000 + 400_000)
    assert COSTS.close == COSTS.claim + Nano(1_800 * 400 + 400_000)
    assert COSTS.usual == COSTS.claim
    assert closable(lane(balance=RESERVE, due=0), COSTS)


def test_the_usual_cost_is_the_median_of_a_month():
    months = Months()
    dear = replace(MAINNET, gas_price=MAINNET.gas_price * 100)
    for day in range(40):
        months.costs(dear if day < 30 else MAINNET, NOW + day * DAY)
    costs = months.costs(MAINNET, NOW + 39 * DAY)
    assert costs.usual > costs.claim * 10
    for day in range(40, 56):
        costs = months.costs(MAINNET, NOW + day * DAY)
    assert costs.usual == costs.claim


def test_many_looks_in_a_day_count_once():
    months = Months()
    for day in range(3):
        months.costs(MAINNET, NOW + day * DAY)
    dear = replace(MAINNET, gas_price=MAINNET.gas_price * 100)
    for second in range(1_000):
        costs = months.costs(dear, NOW + 3 * DAY + second)
    assert costs.usual == COSTS.claim


# --- the payee ---


def test_a_young_lane_with_little_due_is_left_alone():
    assert decide(lane(), COSTS, NOW) == Wait()


def test_much_is_claimed_at_once():
    assert decide(lane(MUCH.value - 1), COSTS, NOW) == Wait()
    assert isinstance(decide(lane(MUCH.value), COSTS, NOW), Claim)


def test_what_is_worth_its_fee_is_claimed_weekly():
    worth = COSTS.claim.value * 50
    week_ago = NOW - CLAIM_EVERY
    assert isinstance(decide(lane(worth, claimed_at=week_ago - 1), COSTS, NOW), Claim)
    assert decide(lane(worth, claimed_at=week_ago), COSTS, NOW) == Wait()
    assert decide(lane(worth - 1, claimed_at=week_ago - 1), COSTS, NOW) == Wait()


def test_an_old_lane_is_claimed_from_but_not_at_every_look():
    old = NOW - OLD - 1
    assert isinstance(decide(lane(opened_at=old), COSTS, NOW + 1), Claim)
    assert decide(lane(opened_at=old, claimed_at=NOW - PATIENCE), COSTS, NOW) == Wait()
    assert decide(lane(opened_at=NOW - OLD), COSTS, NOW + 0.0) == Wait()


def test_a_lane_is_claimed_from_before_storage_eats_half_of_its_reserve():
    dear = Months().costs(replace(MAINNET, storage_bit=10, storage_cell=5_000), NOW)
    quiet = lane(10**7, claimed_at=NOW - 60 * DAY, opened_at=NOW - 60 * DAY)
    assert decide(quiet, COSTS, NOW) == Wait()
    assert isinstance(decide(quiet, dear, NOW), Claim)


def test_a_poor_lane_is_claimed_from_after_a_day_without_a_top_up():
    poor = lane(poor_since=NOW - PATIENCE - 1, claimed_at=NOW - PATIENCE - 1)
    assert isinstance(decide(poor, COSTS, NOW), Claim)
    assert decide(replace(poor, poor_since=NOW - PATIENCE), COSTS, NOW) == Wait()


def test_a_dear_chain_is_waited_out():
    dear = replace(COSTS, claim=COSTS.usual * 10 + Nano(1))
    assert decide(lane(MUCH.value), dear, NOW) == Wait()
    assert isinstance(decide(lane(MUCH.value), replace(dear, claim=COSTS.usual * 10), NOW), Claim)


def test_nothing_is_claimed_that_the_contract_would_refuse():
    """109: less due than the claim costs. 110: less than agreed, unless the payer closes."""
    least = replace(CONFIG, min_claim=Nano(10**8))
    assert not claimable(lane(COSTS.claim.value), COSTS)
    assert claimable(lane(COSTS.claim.value + 1), COSTS)
    assert not claimable(lane(10**8 - 1, config=least), COSTS)
    assert claimable(lane(10**8, config=least), COSTS)
    assert claimable(closing(DAY, due=10**8 - 1, config=least), COSTS)


@pytest.mark.parametrize("phase", [Phase.CLOSE_SIGNED, Phase.CLOSED, Phase.OPENING])
def test_a_lane_that_is_not_open_is_left_alone(phase):
    assert decide(lane(MUCH.value, phase=phase), COSTS, NOW) == Wait()


def test_a_payer_that_closes_is_answered_at_once_even_on_a_dear_chain():
    dear = replace(COSTS, claim=COSTS.usual * 11)
    for costs in (COSTS, dear):
        assert isinstance(decide(closing(DAY, due=10**7), costs, NOW), Close)
    assert decide(closing(DAY, due=0), COSTS, NOW) == Wait()


def test_a_lane_too_poor_to_close_is_claimed_from():
    dear = replace(COSTS, close=RESERVE + Nano(1))
    row = closing(DAY, due=3 * 10**9, balance=TON * 3)
    assert not closable(row, dear)
    assert isinstance(decide(row, dear, NOW), Claim)
    assert decide(replace(row, cumulative=Nano(1)), replace(dear, close=TON * 4), NOW) == Wait()


def test_the_last_hours_raise_an_alarm():
    assert isinstance(decide(closing(LAST_HOURS), COSTS, NOW), Close)
    alarm = decide(closing(LAST_HOURS - 1), COSTS, NOW)
    assert isinstance(alarm, Alarm)
    assert (alarm.left, alarm.then) == (LAST_HOURS - 1, Close(why="the payer began to close"))
    late = decide(closing(-5), COSTS, NOW)
    assert isinstance(late, Alarm)
    assert isinstance(late.then, Close)


phases = st.sampled_from(Phase)
amounts = st.integers(0, 10**11).map(Nano)


@given(phases, amounts, amounts, amounts, st.integers(2, 2**33), st.floats(0, 2e9))
def test_whatever_is_decided_the_contract_would_take(
    phase, cumulative, claimed, balance, close_at, since
):
    row = lane(phase=phase, cumulative=cumulative, claimed=claimed, balance=balance)
    row = replace(row, close_at=close_at, claimed_at=since, opened_at=since, poor_since=since)
    decision = decide(row, COSTS, NOW)
    match decision.then if isinstance(decision, Alarm) else decision:
        case Claim():
            assert row.due > COSTS.claim
        case Close():
            assert row.balance - row.due >= COSTS.close
        case Wait():
            urgent = phase is Phase.CLOSING and row.due > COSTS.claim
            assert not (urgent and closable(row, COSTS))


# --- the payer ---


def paying(left, **changes):
    spent = (TON * 3 - RESERVE).value - left
    return lane(spent, role=Role.PAYER, deposit=TON, **changes)


def test_a_lane_is_topped_up_to_its_deposit_when_less_than_a_share_is_left():
    assert tend(paying(3 * 10**8), NOW, top_up_below=30) == Wait()
    left = 3 * 10**8 - 1
    assert tend(paying(left), NOW, top_up_below=30) == TopUp(amount=TON - Nano(left))
    assert tend(paying(0), NOW, top_up_below=0) == Wait()


@pytest.mark.parametrize("phase", [p for p in Phase if p is not Phase.OPEN])
def test_a_lane_that_is_not_open_is_not_topped_up(phase):
    assert tend(paying(0, phase=phase, close_at=int(NOW)), NOW, top_up_below=30) == Wait()


def test_the_rest_is_taken_once_the_delay_has_surely_passed():
    row = paying(0, phase=Phase.CLOSING, close_at=int(NOW))
    assert tend(row, NOW + 59, top_up_below=30) == Wait()
    assert tend(row, NOW + 60, top_up_below=30) == Finish()


def test_nothing_due_is_nothing_lost():
    assert lane(0).due == ZERO
    assert decide(closing(-DAY, due=0), COSTS, NOW) == Wait()
