"""A till locks before it works, keeps every tick, and is paid once whatever gets lost."""

from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise

import pytest
import trio
from structlog.testing import capture_logs

from inference.serving import LOCK_WAIT
from ledger import lane_rows, takings, wire
from ledger.lane import Phase, Role
from ledger.messages import Change, Changed, Code, Err, LaneWant, Lock, Pending, Settle, Settled
from ledger.money import ZERO, Nano
from ledger.orders import LIFE as ORDER_LIFE
from ledger.payment import Decline, Locked
from ledger.policy import DEV, MAIN
from ledger.receipt import LockReceipt
from ledger.store import Store
from ledger.tick import MAX_TICKS
from ledger.till import LOCK_PAUSES
from p2p.errors import LocalError
from p2p.identity import AdnlId
from tests.ledger.parties import AMOUNT, MINT, OTHER, WORKER
from tests.ledger.street import Street, paid, stock


class Trade:
    """A mint, a worker with a lane from it, and a customer with credits."""

    def __init__(self, street, nursery, mint, worker):
        self.street = street
        self.nursery = nursery
        self.mint = mint
        self.worker = worker
        self.scope = None

    @property
    def till(self):
        return self.worker.till

    async def begin(self):
        self.customer = await self.street.customer(self.mint)
        self.keyset = await stock(self.mint, self.customer)
        await self.start()
        while not self.till.mints():  # noqa: ASYNC110 - virtual time
            await trio.sleep(0.1)

    async def start(self):
        """The worker's till runs."""
        self.scope = await self.nursery.start(self._run, self.till)

    async def _run(self, till, task_status):
        with trio.CancelScope() as scope, capture_logs():
            async with trio.open_nursery() as nursery:
                await nursery.start(till.run)
                task_status.started(scope)

    async def restart(self):
        """The worker stops where it stands, and comes back on the same store."""
        self.scope.cancel()
        await trio.sleep(0.1)
        self.worker = self.street.worker(self.worker.store)
        await self.start()

    def session(self, **terms):
        now = self.street.ground.clock.now()
        return paid(self.customer, self.keyset, now=now, **terms)

    async def lock(self, **terms):
        session, tick = self.session(**terms)
        locked = await self.till.lock(session.spend.encode(), session.spend.terms.session, tick)
        assert isinstance(locked, Locked), locked
        return session

    def reveal(self, session, i):
        self.till.keep(session.spend.lock_id, i, session.chain.reveal(i))

    def settle(self, session, *, final, ticks=MAX_TICKS):
        """All that was revealed, unless it is to be less."""
        self.till.settle(session.spend.lock_id, final=final, ticks=ticks)

    async def settled(self):
        """Wait until nothing is open."""
        with trio.fail_after(7_200):
            while self.till.statistics().open:  # noqa: ASYNC110 - virtual time
                await trio.sleep(0.1)

    async def change(self, session):
        return await self.mint.ask(Change(session.spend.lock_id, session.secret))


@asynccontextmanager
async def trade(policy=DEV):
    street = Street(policy)
    async with Store.open(None) as one, Store.open(None) as two, trio.open_nursery() as nursery:
        mint, worker = street.mint(one), street.worker(two)
        await nursery.start(mint.run)
        there = Trade(street, nursery, mint, worker)
        await there.begin()
        yield there
        await mint.balanced()
        nursery.cancel_scope.cancel()


# --- locking ---


async def test_a_lock_comes_with_the_mints_receipt(autojump_clock):
    async with trade() as there:
        session, tick = there.session()
        spend = session.spend
        locked = await there.till.lock(spend.encode(), spend.terms.session, tick)
        assert isinstance(locked, Locked)
        receipt = LockReceipt.parse(locked.receipt, MINT.public)
        assert (receipt.lock, receipt.worker, receipt.root) == (
            locked.lock_id,
            WORKER.id,
            session.chain.root,
        )
        assert (locked.tick, locked.ticks, locked.expiry) == (tick, 10, spend.terms.expiry)
        (taking,) = await there.worker.store.read(takings.unfinished)
        assert taking.lock == spend.lock_id


async def test_an_unfit_spend_is_never_shown_to_the_mint(autojump_clock):
    async with trade() as there:
        session, tick = there.session()
        spend, name = session.spend, session.spend.terms.session
        foreign, _ = there.session(worker=OTHER)
        asked = len(there.street.wires.carried)
        for data, of, each in [
            (b"nonsense", name, tick),
            (spend.encode(), bytes(32), tick),
            (spend.encode(), name, tick + Nano(1)),
            (foreign.spend.encode(), foreign.spend.terms.session, tick),
        ]:
            assert await there.till.lock(data, of, each) is Decline.TERMS
        kinds = [type(request) for _, _, request in there.street.wires.carried[asked:]]
        assert Lock not in kinds


async def test_coins_spent_elsewhere_are_declined(autojump_clock):
    async with trade() as there:
        coins = there.customer.coins[-4:]
        amount = Nano(sum(coin.value.value for coin in coins))
        await there.lock(coins=coins, amount=amount)
        again, tick = there.session(coins=coins, amount=amount)
        spend = again.spend
        result = await there.till.lock(spend.encode(), spend.terms.session, tick)
        assert result is Decline.SPENT


async def test_a_spend_that_was_altered_is_declined(autojump_clock):
    async with trade() as there:
        session, tick = there.session()
        forged = replace(session.spend, auth=bytes(32))
        result = await there.till.lock(forged.encode(), forged.terms.session, tick)
        assert result is Decline.BAD_AUTH


async def test_a_session_that_ends_too_soon_is_declined(autojump_clock):
    async with trade() as there:
        session, tick = there.session(life=DEV.least_lock - 2)
        spend = session.spend
        result = await there.till.lock(spend.encode(), spend.terms.session, tick)
        assert result is Decline.EXPIRED


async def test_a_silent_mint_is_busy(autojump_clock):
    async with trade() as there:
        session, tick = there.session()
        spend = session.spend
        there.street.wires.lose = ["request"] * len(LOCK_PAUSES)
        result = await there.till.lock(spend.encode(), spend.terms.session, tick)
        assert result is Decline.BUSY


async def test_a_mint_that_answers_nothing_for_long_is_busy_before_the_asker_gives_up(
    autojump_clock,
):
    async with trade() as there:
        session, tick = there.session()

        async def silent(peer, body):
            await trio.sleep_forever()

        there.street.wires.nodes[MINT.id] = silent
        spend, began = session.spend, trio.current_time()
        result = await there.till.lock(spend.encode(), spend.terms.session, tick)
        assert result is Decline.BUSY
        assert trio.current_time() - began < LOCK_WAIT


@pytest.mark.parametrize("lost", [["reply"], ["request", "reply"]], ids=["once", "twice"])
async def test_a_lost_receipt_is_asked_for_again(autojump_clock, lost):
    async with trade() as there:
        session, tick = there.session()
        spend = session.spend
        there.street.wires.lose = lost
        result = await there.till.lock(spend.encode(), spend.terms.session, tick)
        assert isinstance(result, Locked)


async def test_a_mint_that_is_busy_is_asked_again_after_pauses_that_nobody_shares(autojump_clock):
    async with trade() as there:
        asked, real = [], there.street.wires.nodes[MINT.id]

        async def busy(peer, body):
            if isinstance(wire.read_request(body), Lock):
                asked.append(trio.current_time())
                return wire.encode(Err(Code.BUSY))
            return await real(peer, body)

        there.street.wires.nodes[MINT.id] = busy
        for _ in range(2):
            session, tick = there.session()
            spend = session.spend
            result = await there.till.lock(spend.encode(), spend.terms.session, tick)
            assert result is Decline.BUSY
        first, second = asked[:3], asked[3:]
        for tries in (first, second):
            (one, other), gaps = LOCK_PAUSES[1:], [b - a for a, b in pairwise(tries)]
            assert one / 2 <= gaps[0] <= one * 2
            assert other / 2 <= gaps[1] <= other * 2
        assert abs((first[1] - first[0]) - (second[1] - second[0])) > 0.001
        there.street.wires.nodes[MINT.id] = real


async def test_a_receipt_for_something_else_is_no_lock(autojump_clock):
    async with trade() as there:
        session, tick = there.session()
        other = await there.lock()
        real = there.street.wires.nodes[MINT.id]

        async def lies(peer, body):
            request = wire.read_request(body)
            if isinstance(request, Lock):
                body = wire.encode(Lock(other.spend.encode()))
            return await real(peer, body)

        there.street.wires.nodes[MINT.id] = lies
        spend = session.spend
        with capture_logs():
            result = await there.till.lock(spend.encode(), spend.terms.session, tick)
        assert result is Decline.BUSY
        there.street.wires.nodes[MINT.id] = real


async def test_a_full_disk_is_busy_and_takes_no_work(autojump_clock):
    async with trade() as there:
        session, tick = there.session()
        spend = session.spend
        await there.worker.store.write(lambda c: list(c.execute("PRAGMA query_only=1")))
        with capture_logs():
            result = await there.till.lock(spend.encode(), spend.terms.session, tick)
        assert result is Decline.BUSY
        await there.worker.store.read(lambda c: list(c.execute("PRAGMA query_only=0")))


# --- settling ---


async def test_ticks_become_a_voucher_and_the_rest_change(autojump_clock):
    async with trade() as there:
        session = await there.lock()
        for i in range(1, 8):
            there.reveal(session, i)
        there.settle(session, final=False)
        await trio.sleep(1)
        assert await there.worker.held() == session.spend.terms.tick * 7
        there.settle(session, final=True)
        await there.settled()
        reply = await there.change(session)
        assert isinstance(reply, Changed)
        assert reply.paid_ticks == 7
        back = Nano(sum(1 << j for j, _ in reply.sigs))
        assert await there.worker.held() + back == session.spend.amount
        assert (await there.mint.balanced()).locked == ZERO


async def test_a_settlement_without_new_ticks_asks_nobody(autojump_clock):
    async with trade() as there:
        session = await there.lock()
        there.reveal(session, 2)
        for _ in range(3):
            there.settle(session, final=False)
            await trio.sleep(1)
        asked = [r for _, _, r in there.street.wires.carried if isinstance(r, Settle)]
        assert len(asked) == 1


async def test_only_what_was_worked_for_is_settled_whatever_was_revealed(autojump_clock):
    async with trade() as there:
        session = await there.lock()
        tick = session.spend.terms.tick
        there.reveal(session, 3)
        there.settle(session, final=False, ticks=2)
        await trio.sleep(1)
        assert await there.worker.held() == tick * 2
        there.reveal(session, 9)
        there.settle(session, final=True, ticks=8)
        there.reveal(session, 10)
        there.settle(session, final=True, ticks=10)
        await there.settled()
        assert (await there.change(session)).paid_ticks == 8
        asked = [r for _, _, r in there.street.wires.carried if isinstance(r, Settle)]
        assert [(r.i, r.x) for r in asked] == [(i, session.chain.reveal(i)) for i in (2, 8)]


async def test_what_a_final_settlement_leaves_is_left_by_the_next_life_too(autojump_clock):
    async with trade() as there:
        session = await there.lock()
        there.reveal(session, 6)
        there.street.wires.lose = ["request"] * 3
        there.settle(session, final=True, ticks=5)
        await there.restart()
        await there.settled()
        assert (await there.change(session)).paid_ticks == 5


@pytest.mark.parametrize("lost", ["request", "reply"])
async def test_whatever_is_lost_the_worker_is_paid_once(autojump_clock, lost):
    async with trade() as there:
        session = await there.lock()
        there.reveal(session, 5)
        there.street.wires.lose = [lost] * 3
        there.settle(session, final=True)
        await there.settled()
        assert await there.worker.held() == session.spend.terms.tick * 5 + remainder(
            await there.change(session), session, 5
        )


def remainder(reply, session, ticks):
    """What of a lock is too little for a credit."""
    back = Nano(sum(1 << j for j, _ in reply.sigs))
    return session.spend.amount - session.spend.terms.tick * ticks - back


async def test_a_chain_that_cannot_be_reached_delays_the_voucher(autojump_clock):
    async with trade() as there:
        session = await there.lock()
        there.reveal(session, 5)
        there.street.ground.down = True
        there.settle(session, final=True)
        await trio.sleep(60)
        assert there.till.statistics().open == 1
        there.street.ground.down = False
        await there.settled()
        assert await there.worker.held() >= session.spend.terms.tick * 5


async def test_many_sessions_are_settled_to_the_nano(autojump_clock):
    async with trade() as there:
        sessions = [await there.lock(amount=Nano(20_000)) for _ in range(12)]
        async with trio.open_nursery() as nursery:
            for count, session in enumerate(sessions):
                nursery.start_soon(finish, there, session, count % 11)
        await there.settled()
        sheet = await there.mint.balanced()
        assert sheet.locked == ZERO
        assert sheet.given == await there.worker.held()
        changes = [await there.change(session) for session in sessions]
        assert [reply.paid_ticks for reply in changes] == [n % 11 for n in range(12)]


async def finish(there, session, ticks):
    for i in range(1, ticks + 1):
        there.reveal(session, i)
        await trio.sleep(0.05)
        if i % 4 == 0:
            there.settle(session, final=False)
    there.settle(session, final=True)


async def test_ticks_that_came_too_late_are_lost_and_no_more(autojump_clock):
    async with trade() as there:
        session = await there.lock(life=60)
        there.reveal(session, 3)
        there.settle(session, final=False)
        await trio.sleep(1)
        there.reveal(session, 9)
        await trio.sleep(60 + DEV.final_delay + 40)
        there.settle(session, final=True)
        await there.settled()
        reply = await there.change(session)
        assert reply.paid_ticks == 3
        tick = session.spend.terms.tick
        assert await there.worker.held() == tick * 3 + remainder(reply, session, 3)


async def test_a_mint_that_pays_less_than_it_says_gets_no_more_work(autojump_clock):
    async with trade() as there:
        session = await there.lock()
        real = there.street.wires.nodes[MINT.id]

        async def cheats(peer, body):
            reply = await real(peer, body)
            if isinstance(wire.read_request(body), Settle):
                return wire.encode(replace(wire.answer(reply, Settled), voucher=None))
            return reply

        there.street.wires.nodes[MINT.id] = cheats
        there.reveal(session, 5)
        there.settle(session, final=True)
        await there.settled()
        assert there.till.mints() == []
        there.street.wires.nodes[MINT.id] = real


@pytest.mark.parametrize("code", list(Code))
async def test_no_refusal_of_a_mint_stops_the_till(autojump_clock, code):
    async with trade() as there:
        session = await there.lock()
        real = there.street.wires.nodes[MINT.id]

        async def refuses(peer, body):
            if isinstance(wire.read_request(body), Settle):
                return wire.encode(Err(code, "no"))
            return await real(peer, body)

        there.street.wires.nodes[MINT.id] = refuses
        there.reveal(session, 5)
        there.settle(session, final=False)
        await trio.sleep(5)
        there.street.wires.nodes[MINT.id] = real
        there.settle(session, final=True)
        await there.settled()
        second = await there.lock()
        there.settle(second, final=True)
        await there.settled()


@pytest.mark.parametrize("answer", [b"", b"\x80", b"\x81\xa1t\xa3err", bytes(20_000)])
async def test_nonsense_of_a_mint_stops_nothing(autojump_clock, answer):
    async with trade() as there:
        session = await there.lock()
        real = there.street.wires.nodes[MINT.id]

        async def babbles(peer, body):
            return answer

        there.street.wires.nodes[MINT.id] = babbles
        there.reveal(session, 5)
        there.settle(session, final=True)
        await trio.sleep(5)
        there.street.wires.nodes[MINT.id] = real
        await there.settled()
        assert await there.worker.held() >= session.spend.terms.tick * 5


# --- restarts ---


async def test_a_worker_that_stops_is_paid_for_every_tick_it_kept(autojump_clock):
    async with trade() as there:
        session = await there.lock()
        for i in range(1, 7):
            there.reveal(session, i)
        await there.restart()
        await there.settled()
        reply = await there.change(session)
        assert reply.paid_ticks == 6
        assert await there.worker.held() >= session.spend.terms.tick * 6


@pytest.mark.parametrize("late", [True, False])
async def test_who_stops_together_with_the_till_may_still_settle(autojump_clock, late):
    """A worker's service ends its sessions when it ends; found by the simulation's seed 160."""

    async def serve(there, session):
        try:
            await trio.sleep_forever()
        finally:
            if late:
                with trio.CancelScope(shield=True):
                    await trio.sleep(0.01)
            there.reveal(session, 3)
            there.settle(session, final=True, ticks=2)

    for _ in range(8):  # trio runs the two in either order
        async with trade() as there, trio.open_nursery() as nursery:
            session = await there.lock()
            nursery.start_soon(serve, there, session)
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
            there.scope.cancel()
            await trio.sleep(1)
            await there.restart()
            await there.settled()
            changed = await there.change(session)
            assert changed.paid_ticks == 2


async def test_a_lock_that_a_stopped_worker_forgot_is_the_askers_again(autojump_clock):
    async with trade() as there:
        session, tick = there.session(life=60)
        spend = session.spend
        there.street.wires.lose = ["reply", "request", "request"]
        assert await there.till.lock(spend.encode(), spend.terms.session, tick) is Decline.BUSY
        assert isinstance(await there.change(session), Pending)
        await there.restart()
        await trio.sleep(60 + DEV.final_delay + 35)
        reply = await there.change(session)
        assert isinstance(reply, Changed)
        assert reply.paid_ticks == 0


# --- lanes ---


def wanted(there, since=0):
    """How often the worker has asked for a lane."""
    return sum(isinstance(r, LaneWant) for _, _, r in there.street.wires.carried[since:])


async def close_lane(there, **changes):
    """The lane is closed by its payee now, and gone from the chain in a moment."""
    (row,) = await there.worker.store.read(lambda c: list(lane_rows.every(c, Role.PAYEE)))
    until = int(there.street.ground.clock.now()) + ORDER_LIFE
    signed = replace(row, phase=Phase.CLOSE_SIGNED, valid_until=until)
    await there.worker.store.write(lambda c: lane_rows.save(c, signed))
    await trio.sleep(2)
    gone = replace(signed, phase=Phase.CLOSED)
    await there.worker.store.write(lambda c: lane_rows.save(c, gone))


@pytest.mark.parametrize("restart", [False, True], ids=["running", "restarted"])
async def test_who_closes_its_lane_wants_no_other_for_a_while(autojump_clock, restart):
    async with trade(replace(DEV, lane_rest=100)) as there:
        carried = len(there.street.wires.carried)
        await close_lane(there)
        if restart:
            await there.restart()
        await trio.sleep(90)
        assert wanted(there, carried) == 0
        assert there.till.mints() == []
        await trio.sleep(40)
        assert wanted(there, carried) > 0


async def test_a_lane_that_its_mint_closed_is_missed_at_once(autojump_clock):
    async with trade(replace(DEV, lane_rest=100)) as there:
        carried = len(there.street.wires.carried)
        (row,) = await there.worker.store.read(lambda c: list(lane_rows.every(c, Role.PAYEE)))
        gone = replace(row, phase=Phase.CLOSED)
        await there.worker.store.write(lambda c: lane_rows.save(c, gone))
        await trio.sleep(5)
        assert wanted(there, carried) > 0


async def test_a_disk_that_cannot_be_read_does_not_end_the_till(autojump_clock, monkeypatch):
    async with trade() as there:

        async def broken(work):
            raise LocalError("the disk failed")

        with monkeypatch.context() as patch:
            patch.setattr(there.worker.store, "read", broken)
            await trio.sleep(20)
        there.settle(await there.lock(), final=True)
        await there.settled()


async def test_without_a_lane_no_mint_is_taken(autojump_clock):
    street = Street()
    async with Store.open(None) as one, Store.open(None) as two, trio.open_nursery() as nursery:
        worker = street.worker(two)
        assert worker.till.mints() == []
        await nursery.start(worker.till.run)
        await trio.sleep(20)
        assert worker.till.mints() == []
        await nursery.start(street.mint(one).run)
        await trio.sleep(70)
        assert worker.till.mints() == [MINT.id]
        nursery.cancel_scope.cancel()


async def test_work_may_be_owed_until_it_is_worth_a_lane(autojump_clock):
    async with trade(replace(MAIN, iou_limit=Nano(400_000))) as there:
        for _ in range(3):
            session = await there.lock()
            there.reveal(session, 10)
            there.settle(session, final=True)
            await there.settled()
        tick = session.spend.terms.tick
        account = await there.worker.store.read(lambda c: takings.account(c, MINT.id))
        assert account.owed + account.held >= tick * 30
        assert there.till.mints() == [MINT.id]
        await trio.sleep(120)
        assert there.till.statistics().lanes == 1
        session = await there.lock()
        there.reveal(session, 1)
        there.settle(session, final=True)
        await there.settled()
        account = await there.worker.store.read(lambda c: takings.account(c, MINT.id))
        assert account.owed == ZERO
        assert account.held >= tick * 31
        assert not account.is_short


async def test_requests_that_are_a_mints_are_refused(autojump_clock):
    async with trade() as there:
        session, _ = there.session()
        for body in (wire.encode(Lock(session.spend.encode())), b"\x80", b""):
            reply = wire.read_reply(await there.till.answer_peer(AdnlId(bytes(32)), body))
            assert isinstance(reply, Err)
            assert reply.code is Code.BAD_REQUEST


def test_amounts_of_these_tests_fit_a_bundle():
    assert Nano(4_000_000) > AMOUNT * 3
