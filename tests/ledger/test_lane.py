"""Both sides of a lane: what they take, what they refuse, and what the chain does to them."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from ledger.lane import (
    CLOCK_MARGIN,
    LAG,
    LOOK_LIFE,
    MAX_CLOSE_DELAY,
    MAX_CONFIG,
    MIN_CLOSE_DELAY,
    MOST_MIN_CLAIM,
    ORDER_LIFE,
    RESERVE,
    Account,
    LaneConfig,
    LaneState,
    Op,
    PayeeLane,
    PayerLane,
    Phase,
    Role,
    check_lane,
    check_voucher0,
)
from ledger.money import MAX_NANO, ZERO, Nano
from ledger.voucher import Voucher, sign
from p2p import codec
from p2p.errors import (
    BadSignature,
    Closing,
    CodecError,
    LocalError,
    NoCapacity,
    OverCapacity,
    Stale,
)
from p2p.identity import Identity

PAYER = Identity(bytes([1] * 32))
PAYEE = Identity(bytes([2] * 32))
LANE = bytes([9] * 32)
CODE = bytes([8] * 32)
TON = Nano(10**9)
NOW = 1_800_000_000.0
CONFIG = LaneConfig(
    payer_key=PAYER.public,
    payee_key=PAYEE.public,
    payer=Account(bytes([3] * 32)),
    payee=Account(bytes([4] * 32)),
    network=-4242,
    lane_id=2**64 - 1,
    close_delay=86_400,
    min_claim=ZERO,
)


def state(balance=TON, *, claimed=ZERO, close_at=0, at=NOW):
    return LaneState(claimed=claimed, close_at=close_at, balance=balance, seen_at=at)


def payer_lane(seen=None):
    lane = PayerLane.new(CONFIG, LANE, TON)
    lane.opening()
    lane.on_chain(seen or state(), NOW)
    return lane


def payee_lane(seen=None):
    return PayeeLane.new(CONFIG, sign(PAYER, LANE, ZERO), seen or state())


def voucher(nano):
    return sign(PAYER, LANE, Nano(nano))


# --- terms ---

keys = st.binary(min_size=32, max_size=32)
configs = st.builds(
    LaneConfig,
    payer_key=keys,
    payee_key=keys,
    payer=keys,
    payee=keys,
    network=st.integers(-(2**31), 2**31 - 1),
    lane_id=st.integers(0, 2**64 - 1),
    close_delay=st.integers(0, 2**32 - 1),
    min_claim=st.integers(0, MAX_NANO).map(Nano),
)


@given(configs)
def test_terms_read_back(config):
    assert LaneConfig.parse(config.pack()) == config


@settings(max_examples=20)
@given(configs, st.data())
def test_terms_cut_short_or_of_other_sizes_are_refused(config, data):
    packed = config.pack()
    cut = data.draw(st.integers(0, len(packed) - 1))
    for other in (packed[:cut], packed + b"\0", bytes(MAX_CONFIG + 1)):
        with pytest.raises(CodecError):
            LaneConfig.parse(other)


@pytest.mark.parametrize(
    ("at", "value"),
    [(0, bytes(31)), (3, bytes(33)), (1, 5), (4, 2**31), (5, -1), (6, 2**32), (7, 2**63), (7, b"")],
)
def test_terms_with_a_field_out_of_range_are_refused(at, value):
    fields = list(codec.unpack(CONFIG.pack(), MAX_CONFIG))
    fields[at] = value
    with pytest.raises(CodecError):
        LaneConfig.parse(codec.pack(fields))


def test_terms_are_eight_values():
    for packed in (codec.pack([]), codec.pack({"v": 1}), codec.pack([0] * 9)):
        with pytest.raises(CodecError):
            LaneConfig.parse(packed)


# --- what a payee demands ---


def check(config=CONFIG, code=CODE, seen=None, **changes):
    asked = {
        "allowed_codes": frozenset({CODE}),
        "network": -4242,
        "payee_key": PAYEE.public,
        "payee": CONFIG.payee,
    }
    return check_lane(config, code, seen or state(), **(asked | changes))


def test_a_good_lane_is_taken():
    assert check() is None
    assert check_voucher0(CONFIG, LANE, voucher(0)) is None


@pytest.mark.parametrize(
    ("code", "unfit"),
    [
        ("terms", check(network=-239)),
        ("terms", check(payee_key=PAYER.public)),
        ("terms", check(payee=CONFIG.payer)),
        ("terms", check(replace(CONFIG, close_delay=MIN_CLOSE_DELAY - 1))),
        ("terms", check(replace(CONFIG, close_delay=MAX_CLOSE_DELAY + 1))),
        ("terms", check(replace(CONFIG, min_claim=MOST_MIN_CLAIM + Nano(1)))),
        ("terms", check(seen=state(claimed=Nano(1)))),
        ("unknown_code", check(code=bytes(32))),
        ("not_active", check(code=None)),
        ("not_active", check(seen=state(close_at=5))),
        ("not_active", check(seen=state(close_at=1))),
    ],
)
def test_a_lane_that_is_no_money_is_refused_for_the_reason_the_payer_is_told(code, unfit):
    assert unfit is not None
    assert unfit.code == code


def test_a_lane_that_is_not_there_is_refused():
    asked = {"allowed_codes": frozenset({CODE}), "network": -4242}
    unfit = check_lane(CONFIG, None, None, payee_key=PAYEE.public, payee=CONFIG.payee, **asked)
    assert unfit is not None
    assert unfit.code == "not_active"


@pytest.mark.parametrize(
    "first",
    [
        voucher(1),
        sign(PAYER, bytes(32), ZERO),
        sign(PAYEE, LANE, ZERO),
        Voucher(lane=LANE, cumulative=ZERO, sig=bytes(64)),
    ],
)
def test_the_first_voucher_must_let_the_payee_close(first):
    unfit = check_voucher0(CONFIG, LANE, first)
    assert unfit is not None
    assert unfit.code == "terms"


# --- the payer ---


def test_nothing_is_promised_before_the_chain_shows_the_lane():
    lane = PayerLane.new(CONFIG, LANE, TON)
    for _ in range(2):
        assert lane.capacity == ZERO
        with pytest.raises(NoCapacity):
            lane.pay(Nano(1), PAYER)
        lane.opening()
    lane.on_chain(None, NOW)
    assert lane.row.phase is Phase.OPENING


def test_a_payer_promises_all_but_the_reserve_and_no_more():
    lane = payer_lane()
    assert lane.capacity == TON - RESERVE
    lane.pay(TON - RESERVE, PAYER)
    before = lane.row
    with pytest.raises(NoCapacity):
        lane.pay(Nano(1), PAYER)
    assert lane.row == before


def test_totals_rise_and_the_newest_voucher_can_be_had_again():
    lane = payer_lane()
    first, second = lane.pay(Nano(3), PAYER), lane.pay(Nano(4), PAYER)
    assert (first.cumulative, second.cumulative) == (Nano(3), Nano(7))
    assert lane.voucher(PAYER) == second
    assert PayerLane(lane.row).voucher(PAYER) == second
    assert lane.voucher0(PAYER) == voucher(0)


def test_a_claim_leaves_capacity_as_it_was_and_a_top_up_adds_to_it():
    lane = payer_lane()
    lane.pay(Nano(300_000_000), PAYER)
    left = lane.capacity
    lane.on_chain(state(Nano(700_000_000), claimed=Nano(300_000_000), at=NOW + 1), NOW + 1)
    assert lane.capacity == left
    lane.on_chain(state(Nano(900_000_000), claimed=Nano(300_000_000), at=NOW + 2), NOW + 2)
    assert lane.capacity == left + Nano(200_000_000)
    assert lane.row.funded == Nano(1_200_000_000)


def test_a_payer_that_closes_promises_nothing_more():
    lane = payer_lane()
    lane.on_chain(state(close_at=int(NOW) + 86_400, at=NOW + 1), NOW + 1)
    assert lane.row.phase is Phase.CLOSING
    with pytest.raises(NoCapacity):
        lane.pay(Nano(1), PAYER)


def test_an_address_that_comes_back_to_life_is_never_paid_on():
    lane = payer_lane()
    lane.on_chain(state(close_at=1, at=NOW + 1), NOW + 1)
    lane.on_chain(state(at=NOW + 2), NOW + 2)
    assert lane.row.phase is Phase.CLOSED
    assert lane.capacity == ZERO


# --- the payee ---


def test_a_voucher_gains_what_it_adds():
    lane = payee_lane()
    assert lane.receive(voucher(3), NOW) == Nano(3)
    assert lane.receive(voucher(10), NOW) == Nano(7)
    assert lane.voucher == voucher(10)


def test_a_resend_gains_nothing_and_a_lower_total_never_overwrites():
    lane = payee_lane()
    lane.receive(voucher(10), NOW)
    assert lane.receive(voucher(10), NOW) == ZERO
    assert lane.receive(voucher(4), NOW) == ZERO
    assert lane.voucher == voucher(10)


@pytest.mark.parametrize(
    "forged",
    [
        sign(PAYEE, LANE, Nano(5)),
        sign(PAYER, bytes(32), Nano(5)),
        Voucher(lane=LANE, cumulative=Nano(5), sig=voucher(6).sig),
        Voucher(lane=LANE, cumulative=ZERO, sig=bytes(64)),
    ],
)
def test_a_stranger_learns_not_even_the_total(forged):
    lane = payee_lane()
    lane.receive(voucher(3), NOW)
    with pytest.raises(BadSignature):
        lane.receive(forged, NOW)


def test_a_promise_beyond_the_coins_is_refused_until_there_are_more():
    lane = payee_lane()
    most = (TON - RESERVE).value
    with pytest.raises(OverCapacity):
        lane.receive(voucher(most + 1), NOW)
    assert lane.receive(voucher(most), NOW) == Nano(most)
    lane.on_chain(state(TON + TON, at=NOW + 1), NOW + 1)
    assert lane.receive(voucher(most + 1), NOW + 1) == Nano(1)


def test_no_voucher_is_believed_on_an_old_look():
    lane = payee_lane()
    assert lane.receive(voucher(1), NOW + LOOK_LIFE) == Nano(1)
    with pytest.raises(Stale):
        lane.receive(voucher(2), NOW + LOOK_LIFE + 1)
    lane.on_chain(state(at=NOW + LOOK_LIFE + 1), NOW + LOOK_LIFE + 1)
    assert lane.receive(voucher(2), NOW + LOOK_LIFE + 1) == Nano(1)


def test_due_is_what_the_lane_can_pay_above_its_reserve():
    lane = payee_lane()
    lane.receive(voucher(600_000_000), NOW)
    assert lane.row.due == Nano(600_000_000)
    poorer = replace(lane.row, balance=Nano(100_000_000))
    assert poorer.due == Nano(80_000_000)
    assert replace(poorer, balance=Nano(1)).due == ZERO
    assert replace(lane.row, claimed=Nano(900_000_000)).due == ZERO


# --- orders ---


def test_a_close_carries_the_best_voucher_and_stops_the_rest():
    lane = payee_lane()
    lane.receive(voucher(3), NOW)
    order = lane.order(Op.CLOSE, int(NOW) + 600, NOW)
    assert order == (Op.CLOSE, voucher(3), int(NOW) + 600)
    assert lane.row.phase is Phase.CLOSE_SIGNED
    with pytest.raises(Closing):
        lane.receive(voucher(6), NOW)
    assert lane.receive(voucher(3), NOW) == ZERO
    assert lane.voucher == voucher(3)


def test_a_lane_without_a_payment_can_be_closed():
    assert payee_lane().order(Op.CLOSE, int(NOW) + 60, NOW).voucher == voucher(0)


def test_vouchers_count_again_once_the_chain_can_no_longer_take_the_close():
    lane = payee_lane()
    lane.order(Op.CLOSE, int(NOW) + 100, NOW)
    for after in (0, 100, 100 + CLOCK_MARGIN):
        lane.on_chain(state(at=NOW + after), NOW + after)
        with pytest.raises(Closing):
            lane.receive(voucher(6), NOW + after)
    late = NOW + 101 + CLOCK_MARGIN
    lane.on_chain(state(at=late), late)
    assert lane.receive(voucher(6), late) == Nano(6)


def test_a_second_close_never_shortens_the_wait_for_the_first():
    lane = payee_lane()
    lane.order(Op.CLOSE, int(NOW) + 600, NOW)
    lane.order(Op.CLOSE, int(NOW) + 10, NOW)
    late = NOW + 500
    lane.on_chain(state(at=late), late)
    assert lane.row.phase is Phase.CLOSE_SIGNED


@pytest.mark.parametrize("life", [-1, 0, ORDER_LIFE + 1])
def test_an_order_that_lives_too_long_is_not_signed(life):
    with pytest.raises(LocalError):
        payee_lane().order(Op.CLAIM, int(NOW) + life, NOW)


@pytest.mark.parametrize("op", [Op.TOP_UP, Op.START_CLOSE, Op.FINISH])
def test_a_payee_signs_claims_and_closes_only(op):
    with pytest.raises(LocalError):
        payee_lane().order(op, int(NOW) + 60, NOW)


def test_no_claim_while_a_close_is_out_and_nothing_after_the_end():
    lane = payee_lane()
    lane.order(Op.CLOSE, int(NOW) + 60, NOW)
    with pytest.raises(LocalError):
        lane.order(Op.CLAIM, int(NOW) + 60, NOW)
    lane.on_chain(None, NOW)
    for op in (Op.CLAIM, Op.CLOSE):
        with pytest.raises(LocalError):
            lane.order(op, int(NOW) + 60, NOW)


def test_a_payee_still_claims_and_closes_while_the_payer_waits():
    lane = payee_lane()
    lane.receive(voucher(3), NOW)
    lane.on_chain(state(close_at=int(NOW) + 86_400), NOW)
    with pytest.raises(Closing):
        lane.receive(voucher(4), NOW)
    assert lane.order(Op.CLAIM, int(NOW) + 60, NOW).voucher == voucher(3)
    assert lane.order(Op.CLOSE, int(NOW) + 60, NOW).voucher == voucher(3)


# --- looks ---


def test_an_older_look_changes_nothing():
    lane = payee_lane()
    lane.on_chain(state(Nano(5), claimed=Nano(7), at=NOW + 2), NOW + 2)
    before = lane.row
    lane.on_chain(state(TON, claimed=Nano(7), at=NOW + 1), NOW + 3)
    lane.on_chain(state(TON, claimed=Nano(6), at=NOW + 3), NOW + 3)
    assert lane.row == before


def test_a_young_lane_that_a_lagging_server_misses_is_not_given_up():
    for lane in (payer_lane(), payee_lane()):
        lane.on_chain(None, NOW + LAG)
        assert lane.row.phase is Phase.OPEN
        lane.on_chain(None, NOW + LAG + 1)
        assert lane.row.phase is Phase.CLOSED
        assert not lane.row.live


def test_what_was_due_at_the_end_was_taken():
    lane = payee_lane()
    lane.receive(voucher(300), NOW)
    lane.order(Op.CLOSE, int(NOW) + 60, NOW)
    lane.on_chain(None, NOW + 1)
    assert (lane.row.claimed, lane.row.due) == (Nano(300), ZERO)


def test_who_let_the_payer_close_alone_may_have_got_nothing():
    lane = payee_lane()
    lane.receive(voucher(300), NOW)
    lane.on_chain(state(close_at=int(NOW) + 86_400), NOW)
    lane.on_chain(None, NOW + 90_000)
    assert (lane.row.phase, lane.row.claimed, lane.row.due) == (Phase.CLOSED, ZERO, ZERO)


def test_the_age_of_a_lane_and_of_its_claims_is_remembered():
    lane = payee_lane()
    lane.on_chain(state(claimed=Nano(1), at=NOW + 10), NOW + 10)
    lane.on_chain(state(claimed=Nano(1), at=NOW + 20), NOW + 20)
    assert (lane.row.opened_at, lane.row.claimed_at) == (NOW, NOW + 10)


def test_a_lane_with_hardly_anything_unpromised_is_poor_until_it_is_topped_up_or_claimed():
    lane = payee_lane()
    lane.receive(voucher(900_000_000), NOW)
    lane.on_chain(state(at=NOW + 1), NOW + 1)
    lane.on_chain(state(at=NOW + 2), NOW + 2)
    assert lane.row.poor_since == NOW + 1
    lane.on_chain(state(TON + TON, at=NOW + 3), NOW + 3)
    assert lane.row.poor_since == 0.0


def test_a_side_takes_no_row_of_the_other():
    with pytest.raises(LocalError):
        PayerLane(payee_lane().row)
    with pytest.raises(LocalError):
        PayeeLane(payer_lane().row)
    assert payee_lane().row.role is Role.PAYEE


# --- both sides and a model of the contract, in any order ---


class Lanes(RuleBasedStateMachine):
    """What the payee counts as money is on the chain for it, whatever happens in between.

    The contract is three numbers here; messages are lost, repeated and reordered, looks are late,
    and both sides restart from their rows.
    """

    @initialize()
    def open(self):
        self.time = NOW
        self.balance, self.claimed, self.close_at, self.paid = TON, ZERO, 0, ZERO
        self.gone = False
        self.sent, self.orders = [voucher(0)], []
        self.payer, self.payee = payer_lane(), payee_lane()

    def look(self):
        if self.gone:
            return None
        return state(self.balance, claimed=self.claimed, close_at=self.close_at, at=self.time)

    @rule(nano=st.integers(1, 400_000_000))
    def pay(self, nano):
        try:
            self.sent.append(self.payer.pay(Nano(nano), PAYER))
        except NoCapacity:
            assert Nano(nano) > self.payer.capacity

    @rule(data=st.data())
    def deliver(self, data):
        voucher = data.draw(st.sampled_from(self.sent))
        before = self.payee.row.cumulative
        try:
            gained = self.payee.receive(voucher, self.time)
        except (Closing, Stale, OverCapacity):
            assert self.payee.row.cumulative == before
        else:
            assert self.payee.row.cumulative == before + gained

    @rule(op=st.sampled_from([Op.CLAIM, Op.CLOSE]), life=st.integers(1, ORDER_LIFE))
    def sign(self, op, life):
        try:
            order = self.payee.order(op, int(self.time) + life, self.time)
        except LocalError:
            return
        self.orders.append(order)

    @precondition(lambda self: self.orders and not self.gone)
    @rule(data=st.data())
    def post(self, data):
        order = data.draw(st.sampled_from(self.orders))
        total, spare = order.voucher.cumulative, max(self.balance, RESERVE) - RESERVE
        late = self.time > order.valid_until
        if late or total < self.claimed or (order.op is Op.CLAIM and total == self.claimed):
            return
        due = min(total - self.claimed, spare)
        self.claimed, self.balance, self.paid = (
            self.claimed + due,
            self.balance - due,
            self.paid + due,
        )
        if order.op is Op.CLOSE:
            self.gone, self.balance = True, ZERO

    @precondition(lambda self: not self.gone)
    @rule(nano=st.integers(1, 500_000_000))
    def top_up(self, nano):
        self.balance += Nano(nano)

    @precondition(lambda self: not self.gone)
    @rule()
    def start_close(self):
        self.close_at = self.close_at or int(self.time) + 86_400

    @rule(seconds=st.integers(1, 700))
    def wait(self, seconds):
        # The payee looks within every half day, which is what saves it; here the payer never ends.
        self.time += seconds

    @rule()
    def payer_looks(self):
        self.payer.on_chain(self.look(), self.time)

    @rule()
    def payee_looks(self):
        self.payee.on_chain(self.look(), self.time)

    @rule()
    def restart(self):
        self.payer, self.payee = PayerLane(self.payer.row), PayeeLane(self.payee.row)

    @invariant()
    def what_is_promised_is_there(self):
        """A voucher that was taken is paid in full, at the latest when the lane ends."""
        best = self.payee.row.cumulative
        if self.gone:
            assert self.paid == best
        else:
            assert max(best, self.claimed) - self.claimed <= self.balance - RESERVE

    @invariant()
    def nobody_promises_what_was_not_paid_in(self):
        if not self.gone:
            assert self.payer.row.cumulative <= self.claimed + self.balance - RESERVE
        assert self.payee.row.cumulative <= self.payer.row.cumulative


TestLanes = Lanes.TestCase
TestLanes.settings = settings(max_examples=60, stateful_step_count=40)
