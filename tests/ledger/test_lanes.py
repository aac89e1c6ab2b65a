"""Lanes on a chain of this process, with the real contract, wallets and fees."""

from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace

import pytest
import trio

from ledger import lane_rows, orders
from ledger.chain.embedded import EmbeddedChain, Faults
from ledger.chain.lite import LiteChain, LiteServer
from ledger.contracts import cells
from ledger.externals import Fate, Kind
from ledger.keys import Master
from ledger.lane import CLOCK_MARGIN, LOOK_LIFE, Account, Phase, Role, Unfit
from ledger.lanes import Lanes
from ledger.money import ZERO, Nano
from ledger.policy import DEV
from ledger.store import Store
from ledger.voucher import sign
from p2p.entropy import seeded
from p2p.errors import (
    Closing,
    Insufficient,
    NoCapacity,
    OverCapacity,
    Rejected,
    Unreachable,
)
from tests.ledger.chain.clients import KEY, served
from tests.ledger.village import fill_disk

TON = Nano(10**9)
START = TON * 5
DEPOSIT = TON
EPOCH = 1_800_000_000.0
BLOCK = 0.4


class Wire:
    """A chain at the end of a wire that can be cut, or lose what is sent."""

    def __init__(self, chain):
        self.chain = chain
        self.down = self.deaf = self.forgetful = False
        self.hidden = None
        self.sent = []
        self.heard = trio.Event()

    @property
    def network(self):
        return self.chain.network

    async def send(self, boc):
        self._check()
        self.sent.append(boc)
        name = bytes(32) if self.deaf else await self.chain.send(boc)
        self.heard.set()
        return name

    async def head(self):
        self._check()
        return await self.chain.head()

    async def account(self, address):
        self._check()
        return await self.chain.account(address)

    async def transactions(self, address, after_lt, limit=100):
        """Late for `hidden`; `forgetful` as a lite-server is of an account that is gone."""
        self._check()
        if address == self.hidden:
            return []
        if self.forgetful and await self.chain.account(address) is None:
            return []
        return await self.chain.transactions(address, after_lt, limit)

    async def run_get(self, address, method, *args):
        self._check()
        return await self.chain.run_get(address, method, *args)

    async def wait(self, seqno):
        self._check()
        return await self.chain.wait(seqno)

    async def fees(self):
        self._check()
        return await self.chain.fees()

    def _check(self):
        if self.down:
            raise Unreachable("the wire is cut")


@dataclass
class Party:
    lanes: Lanes
    store: Store
    wire: Wire
    stop: trio.CancelScope

    async def balance(self):
        contract = await self.wire.chain.account(self.lanes.account)
        return ZERO if contract is None else contract.balance

    async def row(self, lane):
        return await self.store.read(lambda c: lane_rows.load(c, lane))

    async def phase(self, lane, phase):
        """Wait until a lane is there."""
        await until(lambda: self._is(lane, phase))
        return await self.row(lane)

    async def _is(self, lane, phase):
        return (await self.row(lane)).phase is phase

    async def fees(self):
        """All that our externals cost anybody."""
        await self.quiet()
        stories = await self.lanes.snapshot()
        return sum((one.fees for story in stories for one, _ in story.externals), ZERO)

    async def quiet(self):
        """Wait until all externals are through."""
        await until(self._finished)

    async def _finished(self):
        stories = await self.lanes.snapshot()
        return all(one.finished for story in stories for one, _ in story.externals)


async def until(true, *, step=BLOCK):
    """Wait for it, block by block, and not for ever."""
    with trio.fail_after(2_500 * step):
        while not await true():  # noqa: ASYNC110 - what a chain says has no event
            await trio.sleep(step)


class World:
    """A chain, and how parties see it: as it is, or through a lite-server."""

    def __init__(self, chain, nursery, seen=None):
        self.chain = chain
        self.nursery = nursery
        self.seen = seen or chain

    async def party(self, seed, store, *, running=True):
        wire = Wire(self.seen)
        master = Master(bytes([seed] * 32))
        lanes = Lanes(wire, store, master, DEV, entropy=seeded(seed))
        party = Party(lanes, store, wire, trio.CancelScope())
        if running:
            await self.nursery.start(self._run, party)
        return party

    async def _run(self, party, *, task_status):
        with party.stop:
            await party.lanes.run(task_status=task_status)

    async def open(self, payer, payee, deposit=DEPOSIT):
        row = await payer.lanes.open(payee.lanes.offer(), deposit)
        proposal = await payer.lanes.proposal(row.lane)
        taken = await payee.lanes.propose(proposal.config, proposal.voucher)
        assert not isinstance(taken, Unfit)
        return row.lane


@asynccontextmanager
async def world(faults=None):
    chain = EmbeddedChain.open(
        None, block_time=BLOCK, now=lambda: EPOCH + trio.current_time(), faults=faults
    )
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(chain.run)
            yield World(chain, nursery)
            nursery.cancel_scope.cancel()
    finally:
        chain.close()


@asynccontextmanager
async def two(faults=None, *, payee_runs=True):
    """A world with both parties in it."""
    async with Store.open(None) as ours, Store.open(None) as theirs, world(faults) as there:
        payer = await there.party(1, ours)
        payee = await there.party(2, theirs, running=payee_runs)
        await there.chain.fund(payer.lanes.account, START)
        await until(lambda: _rich(payer))
        yield there, payer, payee


async def _rich(party):
    return await party.balance() > ZERO


async def sees_no_nano_lost(payer, payee, start):
    """What both hold now and what every transaction cost is what there was."""
    fees = await payer.fees() + await payee.fees()
    assert await payer.balance() + await payee.balance() + fees == start


# --- a life ---


async def test_a_lane_is_opened_paid_on_claimed_from_and_closed(autojump_clock):
    async with two() as (there, payer, payee):
        start = await payer.balance()
        lane = await there.open(payer, payee)
        voucher = await payer.lanes.pay(lane, Nano(300_000_000))
        assert await payee.lanes.receive(voucher) == Nano(300_000_000)

        assert await payee.lanes.outcome(await payee.lanes.claim(lane), whole=True)
        costs = await payee.lanes.costs()
        assert await payee.balance() > Nano(300_000_000) - costs.claim * 2

        voucher = await payer.lanes.pay(lane, Nano(100_000_000))
        assert await payee.lanes.receive(voucher) == Nano(100_000_000)
        assert await payee.lanes.outcome(await payee.lanes.close(lane), whole=True)
        await payer.phase(lane, Phase.CLOSED)
        await payee.phase(lane, Phase.CLOSED)
        await sees_no_nano_lost(payer, payee, start)


async def test_every_transaction_and_fee_can_be_shown(autojump_clock):
    async with two() as (there, payer, payee):
        lane = await there.open(payer, payee)
        await payee.lanes.receive(await payer.lanes.pay(lane, Nano(300_000_000)))
        await payee.lanes.outcome(await payee.lanes.claim(lane), whole=True)
        await payee.lanes.outcome(await payee.lanes.close(lane), whole=True)
        await payer.quiet()

        (ours,), (theirs,) = await payer.lanes.snapshot(), await payee.lanes.snapshot()
        assert [one.kind for one, _ in ours.externals] == [Kind.OPEN]
        assert [one.kind for one, _ in theirs.externals] == [Kind.CLAIM, Kind.CLOSE]
        (_, opening), (_, claim), (_, close) = ours.externals[0], *theirs.externals
        wallet, worker = payer.lanes.account, payee.lanes.account
        assert [one.account for one in opening] == [wallet, lane]
        assert [(one.account, one.op) for one in claim] == [
            (lane, 0x4C4E0003),
            (worker, cells.Paid.CLAIM),
        ]
        assert [(one.account, one.op) for one in close] == [
            (lane, 0x4C4E0004),
            (wallet, cells.Paid.REST),
        ]
        assert opening[1].value == DEPOSIT
        costs = await payee.lanes.costs()
        assert claim[1].value == Nano(300_000_000) - costs.claim
        for external, caused in (*ours.externals, *theirs.externals):
            assert external.fees == sum((one.fees for one in caused), ZERO) > ZERO
            assert all(len(one.hash) == 32 for one in caused)


async def test_a_lite_server_that_forgot_a_closed_lane_hides_no_fee(autojump_clock):
    """Who got what from the lane tells what its last transaction cost."""
    async with two() as (there, payer, payee):
        start = await payer.balance()
        lane = await there.open(payer, payee)
        await payee.lanes.receive(await payer.lanes.pay(lane, Nano(300_000_000)))
        payee.wire.forgetful = True
        assert await payee.lanes.outcome(await payee.lanes.close(lane), whole=True)
        await sees_no_nano_lost(payer, payee, start)
        ((_, caused),) = (await payee.lanes.snapshot())[0].externals
        assert [(one.account, len(one.hash)) for one in caused] == [
            (lane, 0),
            (payee.lanes.account, 32),
            (payer.lanes.account, 32),
        ]


async def test_a_lane_that_runs_low_is_topped_up(autojump_clock):
    async with two() as (there, payer, payee):
        lane = await there.open(payer, payee)
        most = (await payer.row(lane)).unpromised
        await payee.lanes.receive(await payer.lanes.pay(lane, most))
        with pytest.raises(NoCapacity):
            await payer.lanes.pay(lane, Nano(1))
        await trio.sleep(10 * BLOCK)
        await payer.quiet()
        await payer.lanes.look(lane)
        assert (await payer.row(lane)).unpromised >= DEPOSIT - Nano(1_000_000)
        # The payee has not looked since, and does so for a voucher that promises more.
        payee.stop.cancel()
        assert await payee.lanes.receive(await payer.lanes.pay(lane, DEPOSIT - TON.ceil_div(10)))
        tops = [one for one, _ in (await payer.lanes.snapshot())[0].externals]
        assert [one.kind for one in tops] == [Kind.OPEN, Kind.TOP_UP]


async def test_a_top_up_on_its_way_is_not_made_twice(autojump_clock):
    async with two() as (there, payer, payee):
        lane = await there.open(payer, payee)
        payer.wire.hidden = lane
        await payer.lanes.pay(lane, (await payer.row(lane)).unpromised)
        await trio.sleep(60 * BLOCK)
        kinds = [one.kind for one, _ in (await payer.lanes.snapshot())[0].externals]
        assert kinds == [Kind.OPEN, Kind.TOP_UP]


async def test_a_disk_that_takes_nothing_ends_no_watch(autojump_clock):
    """What was due meanwhile is done once it takes something again."""
    async with two() as (there, payer, payee):
        lane = await there.open(payer, payee)
        await payer.lanes.pay(lane, (await payer.row(lane)).unpromised)
        for party in (payer, payee):
            await fill_disk(party.store, is_full=True)
        await trio.sleep(30 * BLOCK)
        for party in (payer, payee):
            await fill_disk(party.store, is_full=False)
        await until(lambda: _has_topped_up(payer))


async def _has_topped_up(party):
    externals = (await party.lanes.snapshot())[0].externals
    return any(one.kind is Kind.TOP_UP and one.finished for one, _ in externals)


# --- closing alone ---


async def test_a_payer_that_closes_alone_is_answered_in_time_and_pays_what_it_owes(autojump_clock):
    async with two() as (there, payer, payee):
        start = await payer.balance()
        lane = await there.open(payer, payee)
        await payee.lanes.receive(await payer.lanes.pay(lane, Nano(300_000_000)))
        await payer.lanes.outcome(await payer.lanes.start_close(lane), whole=True)
        await payee.phase(lane, Phase.CLOSED)
        await payer.phase(lane, Phase.CLOSED)
        await payee.quiet()
        assert await payee.balance() >= Nano(299_500_000)
        await sees_no_nano_lost(payer, payee, start)


@pytest.mark.parametrize("forgetful", [False, True], ids=["face", "lite-server"])
@pytest.mark.parametrize("alone", [True, False], ids=["payer-began", "payee-closed"])
async def test_the_payer_sees_what_became_of_its_lane(autojump_clock, alone, forgetful):
    """A claim that it never saw included, whoever closed, and whatever the server forgets."""
    async with two() as (there, payer, payee):
        lane = await there.open(payer, payee)
        await payer.lanes.look(lane)
        payer.stop.cancel()
        for wire in (payer.wire, payee.wire):
            wire.forgetful = forgetful
        await payee.lanes.receive(await payer.lanes.pay(lane, Nano(300_000_000)))
        await payee.lanes.outcome(await payee.lanes.claim(lane), whole=True)
        await payee.lanes.receive(await payer.lanes.pay(lane, Nano(100_000_000)))
        again = await there.party(1, payer.store)
        again.wire.forgetful = forgetful
        before = await again.balance()
        if alone:
            await again.lanes.start_close(lane)
        else:
            await payee.lanes.close(lane)
        row = await again.phase(lane, Phase.CLOSED)
        await again.quiet()

        assert (row.claimed, row.cumulative) == (Nano(400_000_000), Nano(400_000_000))
        assert Nano(70_000_000) < row.returned < DEPOSIT - row.claimed
        if not alone:
            assert await again.balance() == before + row.returned - rest_fee(await story(again))
        *_, last = await story(again)
        assert (last.account, last.value) == (again.lanes.account, row.returned)
        assert last.source == lane
        assert len({one.hash for one in await story(again) if one.hash}) >= 2
        if not forgetful:
            theirs = {one.hash: one.fees for one in await story(payee)}
            ours = {one.hash: one.fees for one in await story(again)}
            assert {name: ours[name] for name in ours if name in theirs}
            assert all(theirs.get(name, fees) == fees for name, fees in ours.items())


async def story(party):
    """All transactions of its only lane, in their order."""
    ((lane),) = await party.lanes.snapshot()
    return [one for _, caused in lane.externals for one in caused]


def rest_fee(caused):
    """What the wallet pays to take in the rest."""
    return caused[-1].fees


async def test_a_lane_that_finished_its_payer_tells_what_nobody_claimed(autojump_clock):
    async with two(payee_runs=False) as (there, payer, payee):
        lane = await there.open(payer, payee)
        await payer.lanes.pay(lane, Nano(300_000_000))
        await payer.lanes.outcome(await payer.lanes.start_close(lane), whole=True)
        await there.chain.travel(DEV.close_delay + 120)
        row = await payer.phase(lane, Phase.CLOSED)
        await payer.quiet()
        assert row.claimed == ZERO
        assert row.returned > DEPOSIT - Nano(30_000_000)
        kinds = [one.kind for one, _ in (await payer.lanes.snapshot())[0].externals]
        assert kinds == [Kind.OPEN, Kind.START_CLOSE, Kind.FINISH]


async def test_a_lane_whose_rest_never_shows_is_closed_all_the_same(autojump_clock, monkeypatch):
    async with two() as (there, payer, payee):
        lane = await there.open(payer, payee)
        await payee.lanes.receive(await payer.lanes.pay(lane, Nano(300_000_000)))
        payer.wire.hidden = payer.lanes.account
        await payee.lanes.close(lane)
        await payee.phase(lane, Phase.CLOSED)
        await trio.sleep(60)
        assert (await payer.row(lane)).live
        monkeypatch.setattr("ledger.lanes.END_TIME", 100)
        await trio.sleep(60)
        row = await payer.phase(lane, Phase.CLOSED)
        assert (row.claimed, row.returned) == (Nano(300_000_000), ZERO)


async def test_a_payee_that_never_wakes_costs_the_payer_a_day(autojump_clock):
    async with two(payee_runs=False) as (there, payer, payee):
        start = await payer.balance()
        lane = await there.open(payer, payee)
        await payer.lanes.outcome(await payer.lanes.start_close(lane), whole=True)
        row = await payer.phase(lane, Phase.CLOSING)
        assert row.close_at >= EPOCH + DEV.close_delay
        with pytest.raises(NoCapacity):
            await payer.lanes.pay(lane, Nano(1))
        with pytest.raises(Closing):
            await payer.lanes.start_close(lane)

        await there.chain.travel(DEV.close_delay + 120)
        await payer.phase(lane, Phase.CLOSED)
        await payer.quiet()
        assert await payer.balance() >= start - Nano(30_000_000)
        await sees_no_nano_lost(payer, payee, start)


async def test_a_payee_that_wakes_after_the_delay_is_paid_if_the_payer_has_not_finished(
    autojump_clock,
):
    async with two(payee_runs=False) as (there, payer, payee):
        lane = await there.open(payer, payee)
        await payee.lanes.receive(await payer.lanes.pay(lane, Nano(300_000_000)))
        await payer.lanes.outcome(await payer.lanes.start_close(lane), whole=True)
        payer.stop.cancel()
        await there.chain.travel(DEV.close_delay * 2)

        again = await there.party(2, payee.store)
        await again.phase(lane, Phase.CLOSED)
        await again.quiet()
        assert await again.balance() >= Nano(299_500_000)


# --- what a payee refuses ---


async def test_only_a_lane_that_the_chain_shows_is_taken(autojump_clock):
    async with two() as (there, payer, payee):
        lane = await there.open(payer, payee)
        proposal = await payer.lanes.proposal(lane)
        config, voucher = proposal.config, proposal.voucher

        async def answer(config, voucher):
            return await payee.lanes.propose(config, voucher)

        again = await answer(config, voucher)
        assert again.lane == lane
        other = replace(config, lane_id=config.lane_id ^ 1)
        key = Master(bytes([1] * 32)).payer(config.lane_id)
        absent = sign(key, cells.lane_address(other), ZERO)
        assert (await answer(other, absent)).code == "not_active"
        assert (await answer(other, voucher)).code == "terms"
        assert (await answer(config, replace(voucher, sig=bytes(64)))).code == "terms"
        theirs = await payer.lanes.propose(config, voucher)
        assert isinstance(theirs, Unfit)


async def test_coins_without_code_are_no_lane(autojump_clock):
    async with two() as (there, payer, payee):
        lane = await there.open(payer, payee)
        proposal = await payer.lanes.proposal(lane)
        other = replace(proposal.config, lane_id=7)
        address = cells.lane_address(other)
        await there.chain.fund(address, TON)
        await trio.sleep(2 * BLOCK)
        key = Master(bytes([1] * 32)).payer(proposal.config.lane_id)
        unfit = await payee.lanes.propose(other, sign(key, address, ZERO))
        assert unfit.code == "not_active"


async def test_vouchers_of_unknown_lanes_and_beyond_the_coins_are_refused(autojump_clock):
    async with two() as (there, payer, payee):
        lane = await there.open(payer, payee)
        config = (await payer.row(lane)).config
        key = Master(bytes([1] * 32)).payer(config.lane_id)
        with pytest.raises(Rejected):
            await payee.lanes.receive(sign(key, bytes(32), TON))
        with pytest.raises(OverCapacity):
            await payee.lanes.receive(sign(key, lane, DEPOSIT))
        with pytest.raises(Rejected):
            await payer.lanes.receive(sign(key, lane, Nano(1)))
        with pytest.raises(Rejected):
            await payee.lanes.pay(lane, Nano(1))
        with pytest.raises(Rejected):
            await payer.lanes.claim(lane)
        with pytest.raises(Rejected):
            await payee.lanes.start_close(lane)
        assert (await payee.row(lane)).cumulative == ZERO


async def test_a_voucher_after_a_long_silence_makes_the_payee_look_first(autojump_clock):
    async with two(payee_runs=False) as (there, payer, payee):
        lane = await there.open(payer, payee)
        payer.stop.cancel()
        await trio.sleep(LOOK_LIFE + 1)
        voucher = await payer.lanes.pay(lane, Nano(5))
        payee.wire.down = True
        with pytest.raises(Unreachable):
            await payee.lanes.receive(voucher)
        payee.wire.down = False
        assert await payee.lanes.receive(voucher) == Nano(5)


async def test_terms_that_no_payer_should_take_are_refused(autojump_clock):
    async with two() as (_there, payer, payee):
        offer = payee.lanes.offer()
        for bad in (
            replace(offer, network=-239),
            replace(offer, codes=(bytes(32),)),
            replace(offer, close_delay=10**8),
            replace(offer, close_delay=1),
        ):
            with pytest.raises(Rejected):
                await payer.lanes.open(bad, DEPOSIT)
        assert await payer.lanes.snapshot() == ()


async def test_a_wallet_with_too_little_opens_nothing(autojump_clock):
    async with two() as (_there, payer, payee):
        with pytest.raises(Insufficient, match="the wallet holds"):
            await payer.lanes.open(payee.lanes.offer(), START)
        assert await payer.lanes.snapshot() == ()
        assert not payer.wire.sent


async def test_too_little_is_not_claimed(autojump_clock):
    async with two() as (there, payer, payee):
        lane = await there.open(payer, payee)
        await payee.lanes.receive(await payer.lanes.pay(lane, Nano(1_000_000)))
        with pytest.raises(Insufficient):
            await payee.lanes.claim(lane)
        assert not payee.wire.sent


# --- a close that is out ---


async def test_no_voucher_counts_while_a_close_is_out_and_all_do_once_it_is_dead(
    monkeypatch, autojump_clock
):
    monkeypatch.setattr(orders, "LIFE", 20)
    async with two() as (there, payer, payee):
        lane = await there.open(payer, payee)
        await payee.lanes.receive(await payer.lanes.pay(lane, Nano(100_000_000)))
        payee.wire.deaf = True
        message = await payee.lanes.close(lane)
        assert await payee.lanes.close(lane) == message
        later = await payer.lanes.pay(lane, Nano(50_000_000))
        with pytest.raises(Closing):
            await payee.lanes.receive(later)

        assert not await payee.lanes.outcome(message)
        assert trio.current_time() > 20 + CLOCK_MARGIN
        await payee.phase(lane, Phase.OPEN)
        assert await payee.lanes.receive(later) == Nano(50_000_000)
        payee.wire.deaf = False
        assert await payee.lanes.outcome(await payee.lanes.close(lane), whole=True)
        assert await payee.balance() > Nano(149_000_000)


async def test_after_the_end_nothing_is_signed(autojump_clock):
    async with two() as (there, payer, payee):
        lane = await there.open(payer, payee)
        await payee.lanes.outcome(await payee.lanes.close(lane), whole=True)
        await payee.phase(lane, Phase.CLOSED)
        await payer.phase(lane, Phase.CLOSED)
        for order in (payee.lanes.close, payee.lanes.claim, payer.lanes.start_close):
            with pytest.raises(Closing):
                await order(lane)


# --- a chain that loses messages, or is away ---

FAULTS = {
    "drops": Faults(entropy=seeded(5), drop=50),
    "refuses": Faults(entropy=seeded(6), reject=60),
    "repeats and delays": Faults(entropy=seeded(7), duplicate=60, delay_blocks=4),
    "all": Faults(entropy=seeded(8), drop=30, duplicate=30, delay_blocks=3, reject=30),
}


@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS.keys())
async def test_a_life_on_a_bad_network_ends_with_the_same_coins(faults, autojump_clock):
    async with two(faults) as (there, payer, payee):
        start = await payer.balance()
        lane = await there.open(payer, payee)
        for _ in range(3):
            await payee.lanes.receive(await payer.lanes.pay(lane, Nano(100_000_000)))
            assert await payee.lanes.outcome(await payee.lanes.claim(lane), whole=True)
        await payer.lanes.outcome(await payer.lanes.top_up(lane, Nano(7)), whole=True)
        assert await payee.lanes.outcome(await payee.lanes.close(lane), whole=True)
        await payer.phase(lane, Phase.CLOSED)
        await payee.phase(lane, Phase.CLOSED)
        await sees_no_nano_lost(payer, payee, start)
        assert (await payee.row(lane)).claimed <= Nano(300_000_000)


async def test_an_opening_that_expired_is_tried_again(monkeypatch, autojump_clock):
    monkeypatch.setattr(orders, "LIFE", 20)
    async with two() as (_there, payer, payee):
        payer.wire.deaf = True
        with pytest.raises(Unreachable, match="tried again"):
            await payer.lanes.open(payee.lanes.offer(), DEPOSIT)
        payer.wire.deaf = False
        ((story),) = await payer.lanes.snapshot()
        row = await payer.phase(story.row.lane, Phase.OPEN)
        assert DEPOSIT - Nano(1_000_000) <= row.balance <= DEPOSIT


async def test_a_chain_that_is_away_is_waited_for(autojump_clock):
    async with two() as (there, payer, payee):
        lane = await there.open(payer, payee)
        await payee.lanes.receive(await payer.lanes.pay(lane, Nano(300_000_000)))
        payee.wire.down = True
        with pytest.raises(Unreachable):
            await payee.lanes.claim(lane)
        await payer.lanes.outcome(await payer.lanes.start_close(lane), whole=True)
        await trio.sleep(100)
        assert (await payee.row(lane)).phase is Phase.OPEN
        payee.wire.down = False
        await payee.phase(lane, Phase.CLOSED)
        assert await payee.balance() >= Nano(299_500_000)


@pytest.mark.parametrize("lanes", [3, pytest.param(30, marks=pytest.mark.slow)])
async def test_many_lanes_settle_exactly_though_messages_are_lost_and_nodes_restart(
    lanes, autojump_clock
):
    """Payments, claims, top-ups, closes of both kinds, in an order that a seed gives."""
    faults = Faults(entropy=seeded(9), drop=30, duplicate=30, delay_blocks=3, reject=30)
    entropy, deposit = seeded(10), Nano(100_000_000)
    async with two(faults) as (there, payer, payee):
        start = await payer.balance()
        opened = [await there.open(payer, payee, deposit) for _ in range(lanes)]
        for _ in range(8 * lanes):
            lane = opened[entropy.below(lanes)]
            match entropy.below(8):
                case 0:
                    payer.stop.cancel()
                    payer = await there.party(1, payer.store)
                case 1:
                    payee.stop.cancel()
                    payee = await there.party(2, payee.store)
                case 2:
                    await _tried(payee.lanes.claim(lane))
                case 3:
                    await _tried(
                        (payee.lanes.close, payer.lanes.start_close)[entropy.below(2)](lane)
                    )
                case _:
                    await _tried(_paid(payer, payee, lane, Nano(entropy.below(30_000_000))))
            await trio.sleep(entropy.below(4) * BLOCK)
        for lane in opened:
            await _tried(payee.lanes.close(lane))
            await payee.phase(lane, Phase.CLOSED)
            await payer.phase(lane, Phase.CLOSED)
        await sees_no_nano_lost(payer, payee, start)
        assert (await there.chain.supply()).exact

        stories = await payee.lanes.snapshot()
        owed = sum((story.row.cumulative for story in stories), ZERO)
        orders = [one for story in stories for one, _ in story.externals if one.fate is Fate.DONE]
        costs = await payee.lanes.costs()
        assert owed >= await payee.balance() >= owed - costs.claim * len(orders)


async def _tried(work):
    with suppress(Closing, Insufficient, NoCapacity):
        await work


async def _paid(payer, payee, lane, amount):
    await payee.lanes.receive(await payer.lanes.pay(lane, amount))


# --- restarts ---


async def test_an_opening_survives_a_restart_and_deposits_once(autojump_clock):
    async with two() as (there, payer, payee):
        payer.wire.deaf = True
        with trio.move_on_after(1.0) as gave_up:
            await payer.lanes.open(payee.lanes.offer(), DEPOSIT)
        assert gave_up.cancelled_caught
        payer.stop.cancel()

        again = await there.party(1, payer.store)
        (story,) = await again.lanes.snapshot()
        row = await again.phase(story.row.lane, Phase.OPEN)
        await again.quiet()
        assert row.funded <= DEPOSIT
        (story,) = await again.lanes.snapshot()
        assert [one.fate for one, _ in story.externals] == [Fate.DONE]


async def test_a_close_survives_a_restart_and_vouchers_stay_refused(autojump_clock):
    async with two() as (there, payer, payee):
        lane = await there.open(payer, payee)
        await payee.lanes.receive(await payer.lanes.pay(lane, Nano(100_000_000)))
        payee.wire.deaf = True
        message = await payee.lanes.close(lane)
        payee.stop.cancel()

        idle = await there.party(2, payee.store, running=False)
        with pytest.raises(Closing):
            await idle.lanes.receive(await payer.lanes.pay(lane, Nano(1)))
        again = await there.party(2, payee.store)
        assert await again.lanes.outcome(message, whole=True)
        await again.phase(lane, Phase.CLOSED)
        assert await again.balance() >= Nano(99_500_000)


async def test_what_was_sent_just_before_a_restart_is_found_not_repeated(autojump_clock):
    async with two() as (there, payer, payee):
        lane = await there.open(payer, payee)
        await payee.lanes.receive(await payer.lanes.pay(lane, Nano(100_000_000)))
        message = await payee.lanes.claim(lane)
        with trio.fail_after(10):
            await payee.wire.heard.wait()
        payee.stop.cancel()
        await trio.sleep(20 * BLOCK)
        again = await there.party(2, payee.store)
        assert await again.lanes.outcome(message, whole=True)
        assert not again.wire.sent
        assert (await again.lanes.look(lane)).claimed == Nano(100_000_000)


async def test_two_lanes_take_turns_at_one_wallet(autojump_clock):
    async with two() as (_there, payer, payee):
        rows = []

        async def open_one():
            rows.append(await payer.lanes.open(payee.lanes.offer(), DEPOSIT))

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(open_one)
        assert len({row.lane for row in rows}) == 3
        assert all(row.phase is Phase.OPEN and row.role is Role.PAYER for row in rows)
        assert Account(rows[0].lane) != payer.lanes.account


async def test_a_life_seen_through_a_lite_server():
    """In real time, by pytoniq: the same coins, and the same fees to the nano."""
    step = 0.05
    chain = EmbeddedChain.open(None, block_time=step)
    async with Store.open(None) as ours, Store.open(None) as theirs, served(chain) as port:
        servers = [LiteServer(host="127.0.0.1", port=port, key=KEY.public)]
        async with (
            LiteChain.open(servers, chain.network, 2) as lite,
            trio.open_nursery() as nursery,
        ):
            await nursery.start(chain.run)
            there = World(chain, nursery, lite)
            payer, payee = await there.party(1, ours), await there.party(2, theirs)
            await chain.fund(payer.lanes.account, START)
            await until(lambda: _rich(payer), step=step)

            start = await payer.balance()
            with trio.fail_after(30):
                lane = await there.open(payer, payee)
                await payee.lanes.receive(await payer.lanes.pay(lane, Nano(300_000_000)))
                assert await payee.lanes.outcome(await payee.lanes.claim(lane), whole=True)
                assert await payee.lanes.outcome(await payee.lanes.close(lane), whole=True)
                await sees_no_nano_lost(payer, payee, start)
                await payee.phase(lane, Phase.CLOSED)
            nursery.cancel_scope.cancel()
    chain.close()
