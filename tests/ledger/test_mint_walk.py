"""Random histories of a mint, honest and hostile: the books balance and no coin appears or is lost.

A model beside the mint knows what each customer should hold and each worker should be paid, by the
rules alone. At the end everybody fetches what is theirs, and it must be that, to the nano.
"""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from ledger.credit import BUNDLES, worth
from ledger.lane import PayerLane, Phase
from ledger.messages import Change, Changed, Code, Err, Lock, Locked, Pending, Sigs
from ledger.mint import BATCH
from ledger.money import ZERO, Nano
from ledger.policy import MAIN
from simulations.book import MemoryBook
from tests.ledger.parties import OTHER, WEEK, WORKER, Customer, Desk, SqlTwin

LANES = (b"out" + bytes(29), b"sec" + bytes(29), b"thi" + bytes(29))


class Walk(RuleBasedStateMachine):
    """One mint, two customers, two workers: one with a lane, one that is owed."""

    make_book = MemoryBook

    sessions = Bundle("sessions")

    def __init__(self):
        super().__init__()
        self.desk = Desk(self.make_book())
        self.customers = (Customer(name=1), Customer(name=2))
        self.earned = {WORKER.id: 0, OTHER.id: 0}
        self.open, self.unfetched, self.keysets = {}, {}, {}
        self.paid = self.expired = 0
        self.last_buy = None

    @initialize()
    def begin(self):
        for customer in self.customers:
            self.desk.open_in(customer)
        self.desk.open_out(LANES[0], Nano(500_000))
        self.keyset()

    def keyset(self):
        keyset = self.desk.keyset()
        self.keysets[keyset.epoch] = keyset
        return keyset

    # --- customers ---

    @rule(who=st.integers(0, 1), extra=st.sampled_from((0, 0, 5_000_000)))
    def buy(self, who, extra):
        customer, keyset = self.customers[who], self.keyset()
        price = keyset.price(BUNDLES["S"])
        promised = max(customer.promised, Nano(self.charged(customer)) + price) + Nano(extra)
        request = customer.buy(keyset, promised=promised)
        reply = self.desk.call("buy", request)
        assert isinstance(reply, Sigs)
        customer.bought(keyset, reply)
        self.paid += price.value
        self.last_buy = (request, reply)

    def charged(self, customer):
        return self.desk.read("lane_in", customer.lane).charged.value

    @rule()
    def buy_again(self):
        if self.last_buy and self.last_buy[0].epoch in self.live():
            request, reply = self.last_buy
            assert self.desk.call("buy", request) == reply

    @rule(who=st.integers(0, 1))
    def buy_too_cheaply(self, who):
        customer, keyset = self.customers[who], self.keyset()
        held = self.desk.read("lane_in", customer.lane)
        if held.row.cumulative - held.charged < keyset.price(BUNDLES["S"]):
            least = held.row.cumulative + Nano(1)
            assert self.desk.call("buy", customer.buy(keyset, promised=least)).code is Code.PRICE

    @rule(
        target=sessions,
        who=st.integers(0, 1),
        laned=st.booleans(),
        amount=st.integers(1_024, 400_000),
        ticks=st.integers(1, 20),
        blanks=st.sampled_from((18, 18, 18, 3, 0)),
        life=st.sampled_from((60, 7_000)),
        pick=st.randoms(use_true_random=False),
    )
    def lock(self, who, laned, amount, ticks, blanks, life, pick):
        customer = self.customers[who]
        epochs = sorted({coin.epoch for coin in customer.coins})
        if not epochs:
            return multiple()
        keyset = self.keysets[pick.choice(epochs)]
        coins = [coin for coin in customer.coins if coin.epoch == keyset.epoch]
        if worth(coin.j for coin in coins) < Nano(amount):
            return multiple()
        worker, lane = (WORKER, self.lane()) if laned else (OTHER, None)
        kept, desk = list(customer.coins), self.desk
        session = customer.spend(
            keyset, Nano(amount), worker, now=desk.now, ticks=ticks, blanks=blanks, life=life
        )
        session.customer, session.worker, session.lane = customer, worker, lane
        reply = desk.call("lock", Lock(session.spend.encode(), lane), worker.id)
        if isinstance(reply, Err):
            assert reply.code in (Code.NO_CAPACITY, Code.EXPIRED)
            customer.coins = kept
            return multiple()
        self.open[session.spend.lock_id] = [session, 0]
        return session

    def lane(self):
        out = self.desk.read("payout", WORKER.id)
        return out.row.lane if out else LANES[0]

    @rule(session=sessions, laned=st.booleans())
    def spend_twice(self, session, laned):
        """The same spend is the same lock; the same coins in another spend are none."""
        lane, desk = session.lane, self.desk
        if desk.read("lock", session.spend.lock_id) is None:
            return  # of an epoch that is over
        again = desk.call("lock", Lock(session.spend.encode(), lane), session.worker.id)
        assert isinstance(again, Locked)
        reply = desk.call("lock", Lock(session.spend.encode(), None), session.customer.key.id)
        assert reply.code is Code.BAD_AUTH

    @rule(session=sessions)
    def fetch(self, session):
        lock = session.spend.lock_id
        reply = self.desk.call("change", Change(lock, session.secret))
        self.settled_by_time()
        if isinstance(reply, Pending):
            assert lock in self.open
        elif isinstance(reply, Changed):
            assert lock not in self.open
            if lock in self.unfetched:
                keyset = self.keysets[session.spend.terms.epoch]
                session.customer.changed(keyset, session, reply)
                assert worth(j for j, _ in reply.sigs).value == self.unfetched.pop(lock)[1]
        else:
            assert reply.code is Code.UNKNOWN_LOCK
            assert session.spend.terms.epoch not in self.live()

    @rule(who=st.integers(0, 1), count=st.integers(1, 6), pick=st.randoms(use_true_random=False))
    def swap(self, who, count, pick):
        customer, new = self.customers[who], self.keyset()
        epochs = sorted({coin.epoch for coin in customer.coins})
        if not epochs:
            return
        old = self.keysets[pick.choice(epochs)]
        coins = [coin for coin in customer.coins if coin.epoch == old.epoch][:count]
        kept = list(customer.coins)
        reply = self.desk.call("swap", customer.swap(old, new, [c.j for c in coins], coins))
        if isinstance(reply, Sigs):
            customer.bought(new, reply)
        else:
            assert reply.code is Code.EXPIRED
            assert old.epoch not in self.live()
            customer.coins = kept

    # --- workers ---

    @rule(session=sessions, step=st.integers(-2, 8), final=st.booleans())
    def settle(self, session, step, final):
        lock = session.spend.lock_id
        self.settled_by_time()
        if lock in self.open and self.lapsed(session):
            self.end(lock)  # the mint sees to that first, whatever the worker wants
        known, i = self.open.get(lock, (None, 0))
        i = min(max(0, i + step), session.chain.n)
        reply = self.desk.call("settle", session.settle(i, final=final), session.worker.id)
        if known is None:
            assert isinstance(reply, Err) or reply.change_ready
            return
        assert reply.i == max(i, self.open[lock][1])
        self.earn(session, reply.i)
        if final:
            self.end(lock)
        assert reply.change_ready == final

    @rule(session=sessions, thief=st.sampled_from((WORKER, OTHER)))
    def settle_falsely(self, session, thief):
        request = session.settle(0)
        request = type(request)(lock=request.lock, i=session.chain.n, x=bytes(32), final=False)
        before = self.desk.sheet()
        reply = self.desk.call("settle", request, thief.id)
        if session.spend.lock_id in self.open and not self.lapsed(session):
            assert isinstance(reply, Err) or self.open[session.spend.lock_id][1] == session.chain.n
            assert self.desk.sheet() == before
        self.settled_by_time()

    def earn(self, session, i):
        entry = self.open[session.spend.lock_id]
        self.earned[session.worker.id] += (i - entry[1]) * session.spend.terms.tick.value
        entry[1] = i

    def end(self, lock):
        """Of what is left, the digits that have blanks are change, greatest first."""
        session, i = self.open.pop(lock)
        left = session.spend.amount.value - i * session.spend.terms.tick.value
        digits = [1 << j for j in range(27, 9, -1) if left >> j & 1]
        change = sum(digits[: len(session.blanks)])
        self.earned[session.worker.id] += left - change
        self.unfetched[lock] = (session.spend.terms.epoch, change)

    # --- time and the chain ---

    @rule(seconds=st.sampled_from((10, 100, 7_200, 100_000, WEEK, 3 * WEEK)))
    def wait(self, seconds):
        self.desk.now += seconds
        while self.desk.call("expire") == BATCH:
            pass
        self.settled_by_time()
        self.forget()
        self.keyset()

    @rule(seconds=st.sampled_from((10, 100, 7_200)))
    def sleep(self, seconds):
        """The mint's timer does not run."""
        self.desk.now += seconds

    def lapsed(self, session):
        return session.spend.terms.expiry + MAIN.final_delay <= self.desk.now

    def settled_by_time(self):
        """What the mint has finalised because its time was up; it may be late, never early."""
        for lock, (session, _) in list(self.open.items()):
            row = self.desk.read("lock", lock)
            if row is None or row.final:
                assert self.lapsed(session)
                self.end(lock)

    def live(self):
        return [k.epoch for k in self.keysets.values() if k.swappable(self.desk.now)]

    def forget(self):
        """Credits and change of an epoch that is over are the mint's."""
        live = self.live()
        for customer in self.customers:
            lost = [coin for coin in customer.coins if coin.epoch not in live]
            self.expired += worth(coin.j for coin in lost).value
            customer.coins = [coin for coin in customer.coins if coin.epoch in live]

    @rule(lane=st.sampled_from(LANES), phase=st.sampled_from((Phase.OPEN, Phase.CLOSING)))
    def lane_changes(self, lane, phase):
        if self.desk.read("lane_out", lane) is None:
            self.desk.open_out(lane, Nano(300_000), opened_at=self.desk.now)
        self.desk.change_out(lane, phase=phase)
        voucher = self.desk.clear()
        assert voucher is None or voucher.lane in LANES

    # --- what always holds ---

    @invariant()
    def the_books_balance(self):
        assert self.desk.sheet().difference == 0

    @invariant()
    def no_lane_promises_more_than_it_holds(self):
        for lane in LANES:
            out = self.desk.read("lane_out", lane)
            if out is not None:
                assert out.row.cumulative <= out.row.spare
                if out.row.phase is Phase.OPEN:
                    assert self.desk.read("reserved", lane) <= PayerLane(out.row).capacity

    def teardown(self):
        """Time ends what is open; then all is where the model says."""
        if not self.keysets:
            return
        self.wait(10_000)
        assert not self.open
        sheet, live = self.desk.sheet(), self.live()
        assert sheet.locked == ZERO
        assert sheet.received == sheet.advance + Nano(self.paid)
        assert sheet.given + sheet.owed == Nano(sum(self.earned.values()))
        assert self.desk.read("owed", OTHER.id) == Nano(self.earned[OTHER.id])
        held = sum(customer.worth().value for customer in self.customers)
        change = [(epoch in live, nano) for epoch, nano in self.unfetched.values()]
        assert sheet.outstanding.value == held + sum(nano for alive, nano in change if alive)
        lost = sum(nano for alive, nano in change if not alive)
        assert sheet.expired.value == self.expired + lost


class SqlWalk(Walk):
    """The same on tables."""

    make_book = SqlTwin


@pytest.mark.parametrize("walk", [Walk, SqlWalk])
def test_random_histories_balance(walk):
    run_state_machine_as_test(
        walk, settings=settings(max_examples=15, stateful_step_count=20, deadline=None)
    )


@pytest.mark.slow
def test_long_random_histories_balance():
    run_state_machine_as_test(
        Walk, settings=settings(max_examples=200, stateful_step_count=60, deadline=None)
    )
