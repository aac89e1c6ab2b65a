"""A mint at work: what it says is durable, its books balance, and no request stops it."""

from contextlib import asynccontextmanager
from dataclasses import replace
from hashlib import sha256

import pytest
import trio
from structlog.testing import capture_logs

from ledger import lane_rows, wire
from ledger.credit import BUNDLES, EPOCH_SECONDS, Keyset
from ledger.lane import LOOK_LIFE, Role
from ledger.messages import (
    Change,
    Changed,
    Code,
    Err,
    KeysetList,
    Keysets,
    LaneAck,
    LaneClose,
    LaneClosing,
    LaneLanes,
    LaneList,
    LaneOffer,
    LaneProgress,
    LanePropose,
    LaneTerms,
    LaneVoucher,
    LaneWant,
    Lock,
    Locked,
    Pending,
    Progress,
    Restore,
    Restored,
    Settle,
    Settled,
    Sigs,
)
from ledger.money import ZERO, Nano
from ledger.policy import DEV, MAIN
from ledger.service import ROUND
from ledger.store import Store
from p2p.errors import CodecError, LocalError, Rejected, Stale, Unreachable
from p2p.identity import AdnlId
from tests.ledger.parties import MINT, OTHER, WORKER
from tests.ledger.street import Street, newest, paid, stock


@asynccontextmanager
async def at_work(policy=DEV):
    """A mint that runs, and a customer with a lane to it; the books balance at the end."""
    street = Street(policy)
    async with Store.open(None) as store, trio.open_nursery() as nursery:
        street.nursery = nursery
        street.shop = mint = street.mint(store)
        with capture_logs():
            await nursery.start(mint.run)
            yield street, mint
            await mint.balanced()
        nursery.cancel_scope.cancel()


async def with_lane(street, mint, store):
    """A worker with a lane from the mint."""
    worker = street.worker(store)
    await street.nursery.start(worker.till.run)
    while not worker.till.mints():  # noqa: ASYNC110 - virtual time
        await trio.sleep(0.1)
    return worker


async def over_link(mint, request, peer=WORKER):
    return wire.read_reply(await mint.service.answer_peer(peer.id, wire.encode(request)))


# --- customers ---


async def test_a_stranger_opens_a_lane_and_buys(autojump_clock):
    async with at_work() as (street, mint):
        customer = await street.customer(mint)
        keyset = await stock(mint, customer)
        assert sorted(coin.j for coin in customer.coins) == sorted(BUNDLES["S"])
        sheet = await mint.balanced()
        assert sheet.received == keyset.price(BUNDLES["S"])
        assert mint.service.statistics().refused == 0


async def test_the_advert_can_say_which_keyset_is_on_sale(autojump_clock):
    async with at_work() as (_, mint):
        signed = (await mint.ask(Keysets(), KeysetList)).keysets[-1]
        assert mint.service.digest == sha256(signed).digest()
        assert mint.service.digest == Keyset.parse(signed, MINT.public).digest


async def test_a_new_week_has_a_new_keyset_and_the_advert_is_told(autojump_clock):
    async with at_work() as (street, mint):
        old = await newest(mint)
        told = []

        async def wait():
            await mint.service.rolled()
            told.append(mint.service.digest)

        street.nursery.start_soon(wait)
        left = old.start + EPOCH_SECONDS - street.ground.clock.now()
        await trio.sleep(left - 10)
        assert not told
        await trio.sleep(ROUND + 10)
        new = await newest(mint)
        assert new.epoch == old.epoch + 1
        assert told == [new.digest]
        assert len((await mint.ask(Keysets(), KeysetList)).keysets) == 2


async def test_buying_again_has_the_same_bytes(autojump_clock):
    async with at_work() as (street, mint):
        customer = await street.customer(mint)
        request = wire.encode(customer.buy(await newest(mint)))
        first = await mint.service.answer_customer(request)
        assert await mint.service.answer_customer(request) == first
        assert isinstance(wire.read_reply(first), Sigs)


async def test_a_voucher_beyond_what_was_seen_makes_the_mint_look_once(autojump_clock):
    async with at_work() as (street, mint):
        customer = await street.customer(mint, coins=Nano(1_000_000))
        request = customer.buy(await newest(mint))
        looks = street.ground.looks
        reply = await mint.ask(request, Err)
        assert reply.code is Code.VOUCHER
        await mint.ask(request, Err)
        assert street.ground.looks == looks + 1
        street.ground.coins[customer.lane] = Nano(10**9)
        await trio.sleep(3)
        assert isinstance(await mint.ask(request), Sigs)


async def test_a_lane_not_looked_at_for_long_is_looked_at_before_its_voucher_counts(
    autojump_clock,
):
    async with at_work() as (street, mint):
        customer = await street.customer(mint)
        await trio.sleep(LOOK_LIFE + 60)
        assert isinstance(await mint.ask(customer.buy(await newest(mint))), Sigs)


async def test_a_chain_that_is_away_makes_the_mint_busy_not_wrong(autojump_clock):
    async with at_work() as (street, mint):
        customer = await street.customer(mint)
        await trio.sleep(LOOK_LIFE + 60)
        street.ground.down = True
        assert (await mint.ask(customer.buy(await newest(mint)), Err)).code is Code.BUSY
        street.ground.down = False


@pytest.mark.parametrize("error", [Unreachable, CodecError, Rejected, LocalError, Stale])
async def test_whatever_the_chain_does_the_answer_is_busy(autojump_clock, error):
    async with at_work() as (street, mint):
        customer = await street.customer(mint)

        async def fails():
            raise error("odd")

        mint.lanes._reach = fails
        known = await mint.store.read(lambda c: lane_rows.load(c, customer.lane))
        proposal = LanePropose(
            config=known.config, code=bytes(32), voucher=customer.voucher(), lt=0
        )
        assert (await mint.ask(proposal, Err)).code is Code.BUSY
        assert (await over_link(mint, proposal)).code is Code.BUSY


@pytest.mark.parametrize(
    "body", [b"", b"\x80", b"\x81\xa1t\xa4spam", b"\xff" * 100, bytes(20_000), b"\xc1"]
)
async def test_nonsense_is_answered_as_such(autojump_clock, body):
    async with at_work() as (_, mint):
        for reply in (
            await mint.service.answer_customer(body),
            await mint.service.answer_peer(WORKER.id, body),
        ):
            assert wire.read_reply(reply).code is Code.BAD_REQUEST


async def test_each_request_has_its_carrier(autojump_clock):
    async with at_work() as (street, mint):
        customer = await street.customer(mint)
        keyset = await stock(mint, customer)
        session, _ = paid(customer, keyset, now=street.ground.clock.now())
        lock = Lock(session.spend.encode())
        assert (await mint.ask(lock, Err)).code is Code.BAD_REQUEST
        assert (await mint.ask(LaneWant(), Err)).code is Code.BAD_REQUEST
        assert (await mint.ask(LaneList(), Err)).code is Code.BAD_REQUEST
        for request in (Keysets(), customer.buy(keyset), Change(bytes(32), bytes(32))):
            assert (await over_link(mint, request)).code is Code.BAD_REQUEST


async def test_a_full_disk_makes_the_mint_busy_and_takes_nothing(autojump_clock):
    async with at_work() as (street, mint):
        customer = await street.customer(mint)
        request = customer.buy(await newest(mint))
        before = await mint.balanced()
        await mint.store.write(lambda c: list(c.execute("PRAGMA query_only=1")))
        assert (await mint.ask(request, Err)).code is Code.BUSY
        await mint.store.read(lambda c: list(c.execute("PRAGMA query_only=0")))
        assert await mint.balanced() == before
        assert isinstance(await mint.ask(request), Sigs)


async def test_what_was_signed_can_be_had_again_from_the_blinds(autojump_clock):
    async with at_work() as (street, mint):
        customer = await street.customer(mint)
        request = customer.buy(await newest(mint))
        sigs = await mint.ask(request, Sigs)
        found = (await mint.ask(Restore((*request.outputs[:5], bytes(32))), Restored)).found
        assert [signed for _, _, signed in found] == list(sigs.sigs[:5])


# --- lanes of customers ---


async def test_a_lane_is_refused_with_its_reason(autojump_clock):
    async with at_work() as (street, mint):
        customer = await street.customer(mint)
        known = await mint.store.read(lambda c: lane_rows.load(c, customer.lane))
        config = replace(known.config, payer_key=OTHER.public)
        proposal = LanePropose(config=config, code=bytes(32), voucher=customer.voucher(), lt=0)
        assert (await mint.ask(proposal, Err)).code is Code.NOT_ACTIVE
        config = replace(config, payee_key=OTHER.public)
        assert (await mint.ask(replace(proposal, config=config), Err)).code is Code.TERMS


async def test_a_voucher_without_a_purchase_is_paid_in_advance(autojump_clock):
    async with at_work() as (street, mint):
        customer = await street.customer(mint)
        voucher = customer.voucher(Nano(5_000_000))
        ack = await mint.ask(LaneVoucher(voucher), LaneAck)
        assert ack.cumulative == Nano(5_000_000)
        old = customer.voucher(Nano(4_000_000))
        assert (await mint.ask(LaneVoucher(old), LaneAck)).cumulative == ack.cumulative
        assert (await mint.balanced()).advance == ack.cumulative
        unknown = replace(voucher, lane=bytes(32))
        assert (await mint.ask(LaneVoucher(unknown), Err)).code is Code.UNKNOWN_LANE


async def test_only_who_has_the_newest_voucher_can_have_a_lane_closed(autojump_clock):
    async with at_work() as (street, mint):
        customer = await street.customer(mint)
        await mint.ask(LaneVoucher(customer.voucher(Nano(7))), LaneAck)
        old, forged = customer.voucher(Nano(6)), replace(customer.voucher(Nano(7)), sig=bytes(64))
        for voucher in (old, forged):
            assert (await mint.ask(LaneClose(voucher), Err)).code is Code.VOUCHER
        assert isinstance(await mint.ask(LaneClose(customer.voucher(Nano(7)))), LaneClosing)


async def test_a_mint_that_is_flooded_with_proposals_refuses_some(autojump_clock, monkeypatch):
    monkeypatch.setattr("ledger.payee.WAITING", 2)
    async with at_work() as (street, mint):
        customer = await street.customer(mint)
        replies = []

        async def flood():
            replies.append(await mint.ask(LaneVoucher(customer.voucher(Nano(7)))))

        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(flood)
        codes = {reply.code for reply in replies if isinstance(reply, Err)}
        assert codes == {Code.BUSY}
        assert any(isinstance(reply, LaneAck) for reply in replies)


# --- workers ---


async def test_a_worker_that_wants_a_lane_gets_one_and_only_one(autojump_clock):
    async with at_work() as (street, mint), Store.open(None) as store:
        worker = await with_lane(street, mint, store)
        await trio.sleep(100)
        ours = await mint.store.read(lambda c: list(lane_rows.every(c, Role.PAYER, of=WORKER.id)))
        theirs = await worker.store.read(lambda c: list(lane_rows.every(c, Role.PAYEE, of=MINT.id)))
        assert [row.lane for row in ours] == [row.lane for row in theirs]
        assert len(ours) == 1
        progress = await over_link(mint, LaneWant())
        assert progress == LaneProgress(Progress.OPEN)
        await trio.sleep(10)
        listed = await over_link(mint, LaneList())
        assert isinstance(listed, LaneLanes)
        ((config, voucher),) = listed.lanes
        assert config == ours[0].config
        assert voucher.cumulative == ZERO


async def test_a_stranger_gets_no_lane_before_it_has_earned(autojump_clock):
    async with at_work(MAIN) as (_, mint):
        for _ in range(3):
            assert await over_link(mint, LaneWant()) == LaneProgress(Progress.LIMIT)
            await trio.sleep(1)
        assert not await mint.store.read(lambda c: list(lane_rows.every(c, Role.PAYER)))


async def test_a_poor_mint_opens_no_lane_and_goes_on(autojump_clock):
    async with at_work() as (street, mint), Store.open(None) as store:
        mint.lanes.poor = True
        worker = street.worker(store)
        await street.nursery.start(worker.till.run)
        await trio.sleep(30)
        assert worker.till.mints() == []
        mint.lanes.poor = False
        await trio.sleep(120)
        assert worker.till.mints() == [MINT.id]


async def test_a_worker_that_cannot_be_reached_costs_nothing(autojump_clock):
    async with at_work() as (_, mint):
        assert await over_link(mint, LaneWant(), OTHER) == LaneProgress(Progress.OPENING)
        await trio.sleep(30)
        assert not await mint.store.read(lambda c: list(lane_rows.every(c, Role.PAYER)))
        assert await over_link(mint, LaneWant(), OTHER) == LaneProgress(Progress.OPENING)
        await trio.sleep(1)


async def test_only_so_many_lanes_are_opened_at_once(autojump_clock, monkeypatch):
    monkeypatch.setattr("ledger.payouts.OPENING", 2)
    async with at_work() as (_, mint):
        states = [
            (await over_link(mint, LaneWant(), worker)).state for worker in (WORKER, OTHER, MINT)
        ]
        assert states == [Progress.OPENING, Progress.OPENING, Progress.LIMIT]
        await trio.sleep(30)


async def test_of_64_locks_of_one_coin_exactly_one_wins(autojump_clock):
    async with at_work() as (street, mint), Store.open(None) as store:
        worker = await with_lane(street, mint, store)
        customer = await street.customer(mint)
        keyset = await stock(mint, customer)
        coins = customer.coins[-1:]
        replies = []

        async def lock(session):
            request = Lock(session.spend.encode(), lane)
            replies.append(await over_link(mint, request))

        (row,) = await worker.store.read(lambda c: list(lane_rows.every(c, Role.PAYEE)))
        lane, now = row.lane, street.ground.clock.now()
        sessions = [
            paid(customer, keyset, now=now, coins=coins, amount=coins[0].value, blanks=0)[0]
            for _ in range(64)
        ]
        commits = mint.store.statistics().commits
        async with trio.open_nursery() as nursery:
            for session in sessions:
                nursery.start_soon(lock, session)
        assert sum(isinstance(reply, Locked) for reply in replies) == 1
        spent = [reply.code for reply in replies if isinstance(reply, Err)]
        assert spent == [Code.SPENT] * 63
        assert mint.store.statistics().commits <= commits + 2


async def test_a_lock_whose_time_is_up_is_finalised_without_anybody(autojump_clock):
    async with at_work() as (street, mint), Store.open(None) as store:
        worker = await with_lane(street, mint, store)
        customer = await street.customer(mint)
        keyset = await stock(mint, customer)
        session, tick = paid(customer, keyset, now=street.ground.clock.now(), life=60)
        spend = session.spend
        await worker.till.lock(spend.encode(), spend.terms.session, tick)
        settle = Settle(lock=spend.lock_id, i=4, x=session.chain.reveal(4), final=False)
        assert isinstance(await over_link(mint, settle), Settled)
        asked = Change(spend.lock_id, session.secret)
        assert isinstance(await mint.ask(asked), Pending)
        await trio.sleep(60 + DEV.final_delay + ROUND + 1)
        assert mint.service.statistics().finalised == 1
        reply = await mint.ask(asked)
        assert isinstance(reply, Changed)
        assert reply.paid_ticks == 4
        assert (await mint.balanced()).locked == ZERO


async def test_more_expired_locks_than_a_batch_are_all_finalised(autojump_clock, monkeypatch):
    monkeypatch.setattr("ledger.mint.BATCH", 3)
    monkeypatch.setattr("ledger.service.BATCH", 3)
    async with at_work() as (street, mint), Store.open(None) as store:
        worker = await with_lane(street, mint, store)
        customer = await street.customer(mint)
        keyset = await stock(mint, customer)
        for _ in range(8):
            amount = Nano(10_000)
            session, tick = paid(
                customer, keyset, now=street.ground.clock.now(), life=60, amount=amount
            )
            spend = session.spend
            await worker.till.lock(spend.encode(), spend.terms.session, tick)
        await trio.sleep(60 + DEV.final_delay + ROUND + 1)
        assert mint.service.statistics().finalised == 8


async def test_a_mint_that_stops_goes_on_where_it_was(autojump_clock):
    async with at_work() as (street, mint), Store.open(None) as store:
        worker = await with_lane(street, mint, store)
        customer = await street.customer(mint)
        keyset = await stock(mint, customer)
        session, tick = paid(customer, keyset, now=street.ground.clock.now())
        spend = session.spend
        locked = await worker.till.lock(spend.encode(), spend.terms.session, tick)
        before = await mint.balanced()

        again = street.mint(mint.store)  # as another process would, on the same file
        await street.nursery.start(again.run)
        assert await again.balanced() == before
        assert again.service.digest == mint.service.digest
        assert (await over_link(again, Lock(spend.encode()))).receipt == locked.receipt
        worker.till.keep(spend.lock_id, 3, session.chain.reveal(3))
        worker.till.settle(spend.lock_id, final=True, ticks=3)
        await trio.sleep(5)
        assert (await again.ask(Change(spend.lock_id, session.secret))).paid_ticks == 3


async def test_terms_are_told_to_whoever_asks(autojump_clock):
    async with at_work() as (_, mint):
        assert isinstance(await mint.ask(LaneTerms()), LaneOffer)
        assert isinstance(await over_link(mint, LaneTerms()), LaneOffer)
        stranger = await mint.service.answer_peer(AdnlId(bytes(32)), wire.encode(LaneTerms()))
        assert isinstance(wire.read_reply(stranger), LaneOffer)
