"""The lane against forty lines of Python: random histories, and eight promises after every step.

1 the payee gets what is claimed, less what claims cost; 2 the total claimed never falls nor exceeds
the best voucher; 3 a claim takes no more from the lane than is due; 4 an external that changes
nothing costs nothing; 5 until it is finished the payee can get all that is promised and there;
6 the payer gets the rest; 7 a deleted lane takes nothing; 8 no action fails.
"""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytoniq_core import Builder, Cell
from pytoniq_core.tlb.account import ShardAccount
from pytoniq_core.tlb.transaction import TransactionDescr

from ledger.chain.config import mainnet_config
from ledger.chain.engine import Refused
from ledger.chain.records import read_fees
from ledger.contracts import cells
from ledger.contracts.cells import Paid, read_payout
from ledger.money import Nano
from tests.ledger.contracts.cases import CLAIM_COST, CLOSE_COST, UNKNOWN
from tests.ledger.contracts.test_lane_fees import GAS
from tests.ledger.contracts.world import DAY, PAYEE, PAYER, RESERVE, STRANGER, TON, World, terms

FEES = read_fees(Cell.one_from_boc(mainnet_config()))
OUT = 400_000
"""nano: the forward fee of a payout"""


@dataclass
class Model:
    """What a lane is to do, with money as integers and no messages."""

    world: World
    balance: int = 0
    claimed: int = 0
    close_at: int = 0
    alive: bool = True

    @property
    def storage(self):
        """nano owed for being stored since the last transaction"""
        account = ShardAccount.deserialize(
            Cell.one_from_boc(self.world.accounts[self.world.lane]).begin_parse()
        ).account
        used = account.storage_stat.used
        return FEES.storage(
            used.bits, used.cells, self.world.now - account.storage_stat.last_paid
        ).value

    def claim(self, total, until):
        """The exit code, and what becomes of the lane."""
        if self.world.now > until:
            return 108, 0
        if total <= self.claimed:
            return 103, 0
        due = min(total - self.claimed, self.balance - self.paid(total) - RESERVE)
        if due <= CLAIM_COST:
            return 109, 0
        if due < self.world.config.min_claim.value and not self.close_at:
            return 110, 0
        return 0, due

    def close(self, total, until):
        if self.world.now > until:
            return 108, 0
        if total < self.claimed:
            return 103, 0
        left = self.balance - self.paid(total)
        due = min(total - self.claimed, left - RESERVE)
        if due < 0 or left - due < CLOSE_COST:
            return 109, 0
        return 0, due

    def paid(self, total):
        """What is gone before the contract runs: storage, and the import of an external."""
        bits = 875 + 815 + 8 * ((total.bit_length() + 7) // 8)
        return self.storage + FEES.forward(bits, 2).value

    def claim_for(self, total):
        if total <= self.claimed:
            return 103, 0
        due = min(total - self.claimed, self.balance - self.storage - RESERVE)
        return (0, due) if due > 0 else (109, 0)

    def start_close(self, source):
        return 106 if source != PAYER else 107 if self.close_at else 0

    def finish(self):
        return 0 if 0 < self.close_at <= self.world.now else 107


@dataclass
class History:
    """Plays steps on both and compares."""

    min_claim: int
    deposit: int
    best: int = 0
    orders: list = field(default_factory=list)

    def __post_init__(self):
        self.world = World(config=terms(min_claim=Nano(self.min_claim))).open(self.deposit)
        self.model = Model(self.world, balance=self.world.balance())

    def play(self, step):
        getattr(self, step[0])(*step[1:])
        self.compare()

    def compare(self):
        w, model = self.world, self.model
        assert (w.state is not None) == model.alive
        if model.alive:
            assert (w.claimed, w.state.close_at) == (model.claimed, model.close_at)
            assert model.claimed <= self.best  # 2
            model.balance = w.balance()

    # --- steps ---

    def travel(self, seconds):
        self.world.now += seconds

    def claim(self, total, late):
        self.order(cells.claim_order, total, late)

    def close(self, total, late):
        self.order(cells.close_order, total, late)

    def order(self, make, total, late):
        self.best = max(self.best, total)
        until = self.world.now - 1 if late else self.world.now + 600
        order = (make, total, until, self.world.order(make, total, until=until))
        self.orders.append(order)
        self.post(order)

    def replay(self, which):
        if self.orders:
            self.post(self.orders[which % len(self.orders)])

    def post(self, order):
        make, total, until, boc = order
        if not self.model.alive:
            outcome = self.world.post(boc)
            assert isinstance(outcome, Refused)  # 7
            assert outcome.exit_code is None
            return
        closing = make is cells.close_order
        code, due = (self.model.close if closing else self.model.claim)(total, until)
        storage, before = self.model.storage, self.world.accounts[self.world.lane]
        outcome = self.world.post(boc)
        if code:
            assert isinstance(outcome, Refused)
            assert outcome.exit_code == code
            assert self.world.accounts[self.world.lane] == before  # 4
        else:
            self.taken(outcome, due, storage, closing)

    def taken(self, txs, due, storage, closing):
        tx = self.fine(txs)
        self.model.claimed += due
        payouts = [(read_payout(m.body), m.dest, m.value.value) for m in tx.outgoing]
        claimed = Nano(self.model.claimed)
        if closing:
            self.model.alive = False
            assert payouts.pop()[:2] == ((Paid.REST, claimed), PAYER)  # 6, by `conserved`
            expected = [((Paid.CLOSE, claimed), PAYEE, due)] if due else []
        else:
            expected = [((Paid.CLAIM, claimed), PAYEE, due - CLAIM_COST)]  # 1
            assert tx.gas == GAS["claim"]
            assert self.model.balance - self.world.balance() <= due + storage  # 3
        assert payouts == expected

    def claim_for(self, total, value):
        self.best = max(self.best, total)
        if not self.model.alive:
            return self.into_nothing(self.world.claim_for(total, value))
        code, due = self.model.claim_for(total)
        storage, txs = self.model.storage, self.world.claim_for(total, value)
        if code:
            return self.failed(txs, code)
        tx = self.fine(txs)
        self.model.claimed += due
        (message,) = tx.outgoing
        assert message.dest == PAYEE
        assert message.value.value == due + value - tx.gas * 400 - OUT  # 1
        assert self.model.balance - self.world.balance() == due + storage  # 3

    def start_close(self, source):
        if not self.model.alive:
            return self.into_nothing(self.world.start_close(source))
        if code := self.model.start_close(source):
            return self.failed(self.world.start_close(source), code)
        self.fine(self.world.start_close(source))
        self.model.close_at = self.world.now + DAY

    def finish(self, source):
        if not self.model.alive:
            return self.into_nothing(self.world.finish(source))
        if code := self.model.finish():
            return self.failed(self.world.finish(source), code)
        tx = self.fine(self.world.finish(source))
        self.model.alive = False
        assert [m.dest for m in tx.outgoing] == [PAYER]  # 6

    def top_up(self, value):
        txs = self.world.send(PAYER, value, cells.top_up_body())
        if self.model.alive:
            assert not self.fine(txs).outgoing
        else:
            self.into_nothing(txs)

    def junk(self, op):
        txs = self.world.send(STRANGER, TON // 20, Builder().store_uint(op, 32).end_cell())
        if self.model.alive:
            self.failed(txs, UNKNOWN)
        else:
            self.into_nothing(txs)

    # --- what came of it ---

    def fine(self, txs):
        """No exit code, no action failed or left out, and not a nano made or lost."""
        assert not isinstance(txs, Refused), txs.exit_code
        assert txs[0].exit_code == 0
        action = description(self.world, txs[0]).action
        assert (action.result_code, action.skipped_actions) == (0, 0)  # 8
        return self.conserved(txs[0])

    def failed(self, txs, code):
        assert txs[0].exit_code == code
        assert description(self.world, txs[0]).action is None  # 8
        self.conserved(txs[0])

    def conserved(self, tx):
        came = self.model.balance + (tx.incoming.value.value if tx.incoming else 0)
        went = sum(m.value.value + m.forward_fee.value for m in tx.outgoing)
        assert came == self.world.balance() + went + tx.fees.value  # 6
        return tx

    def into_nothing(self, txs):
        assert txs[0].exit_code is None  # 7
        assert self.world.balance() == 0

    def end(self):
        """5: whatever has happened, what is promised and there is still to be had."""
        if not self.model.alive:
            return
        w = self.world
        self.order(cells.claim_order, max(self.best, 1), False)
        self.compare()
        left = min(self.best - self.model.claimed, w.balance() - self.model.storage - RESERVE)
        limit = 0 if self.model.close_at else self.min_claim
        assert left <= max(CLAIM_COST + 1_300_000, limit)


def description(world, tx):
    cell = next(cell for cell in reversed(world.transactions) if bytes(cell.hash) == tx.hash)
    return TransactionDescr.deserialize(cell.refs[2].begin_parse())


TOTALS = st.integers(0, 3 * TON) | st.sampled_from([0, 1, CLAIM_COST, CLAIM_COST + 1, 9 * TON])
SOURCES = st.sampled_from([PAYER, PAYER, PAYEE, STRANGER])
STEPS = st.one_of(
    st.tuples(st.just("claim"), TOTALS, st.sampled_from([False, False, False, True])),
    st.tuples(st.just("claim"), TOTALS, st.just(False)),
    st.tuples(st.just("claim_for"), TOTALS, st.integers(TON // 100, TON // 10)),
    st.tuples(st.just("replay"), st.integers(0, 20)),
    st.tuples(st.just("top_up"), st.integers(TON // 100, TON)),
    st.tuples(st.just("travel"), st.integers(1, 2 * DAY)),
    st.tuples(st.just("start_close"), SOURCES),
    st.tuples(st.just("finish"), SOURCES),
    st.tuples(st.just("junk"), st.sampled_from([0, 0x4C4E0004, 0x4C4E0007, 2**32 - 1])),
    st.tuples(st.just("close"), TOTALS, st.sampled_from([False, True])),
)


def play(min_claim, deposit, steps):
    history = History(min_claim=min_claim, deposit=deposit)
    for step in steps:
        history.play(step)
    history.end()


HISTORIES = {
    "min_claim": st.sampled_from([0, TON // 10]),
    "deposit": st.integers(TON // 20, 2 * TON),
    "steps": st.lists(STEPS, max_size=16),
}


@settings(max_examples=50)
@given(**HISTORIES)
def test_a_lane_does_as_the_model(min_claim, deposit, steps):
    play(min_claim, deposit, steps)


@pytest.mark.slow
@settings(max_examples=2_000)
@given(**HISTORIES)
def test_two_thousand_lanes_do_as_the_model(min_claim, deposit, steps):
    play(min_claim, deposit, steps)
