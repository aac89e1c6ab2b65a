"""The chain twin against TON's own machine: random histories of wallets and lanes on both."""

from dataclasses import replace

import pytest
import trio

from ledger import voucher
from ledger.chain import wallet
from ledger.chain.base import NotAccepted
from ledger.chain.wallet import Transfer
from ledger.contracts import cells
from ledger.lane import Account, LaneConfig
from ledger.money import Nano
from p2p.entropy import choice, seeded
from p2p.identity import Identity
from simulations.chain import NETWORK, ChainTwin
from simulations.faults import Kind

embedded = pytest.importorskip("ledger.chain.embedded", reason="TON's machine is not here")

TON = 10**9
DAY = 86_400
PAYER, PAYEE, STRANGER = (Identity(bytes([n]) * 32) for n in (1, 2, 3))
WALLETS = {who.id: wallet.address(who.public, NETWORK) for who in (PAYER, PAYEE, STRANGER)}
FEES = 30_000_000
"""nano: what the fees of one step differ by, at the most"""


class Both:
    """One lane and three wallets, on both chains."""

    def __init__(self, chain, twin):
        self.real, self.twin, self.view = chain, twin, twin.view()
        self.best = 0
        self.steps = 0
        self.config = LaneConfig(
            payer_key=PAYER.public,
            payee_key=PAYEE.public,
            payer=WALLETS[PAYER.id],
            payee=WALLETS[PAYEE.id],
            network=NETWORK,
            lane_id=1,
            close_delay=DAY,
            min_claim=Nano(0),
        )
        self.lane = cells.lane_address(self.config)
        self.orders = []

    async def begin(self):
        for account in WALLETS.values():
            await self.real.fund(account, Nano(20 * TON))
            self.twin.fund(account, Nano(20 * TON))
        await self.block()

    async def block(self, seconds=1):
        head = await self.real.travel(seconds)
        self.twin.mine(head.time)
        await self.compare()

    async def post(self, boc):
        """The same external on both: taken by both, or by none."""
        taken = []
        for chain in (self.real, self.view):
            try:
                await chain.send(boc)
                taken.append(True)
            except NotAccepted:
                taken.append(False)
        assert taken[0] == taken[1], taken
        self.steps += taken[0]
        await self.block()

    async def transfer(self, who, **what):
        holds = await self.real.account(WALLETS[who.id])
        boc = wallet.transfer(
            who,
            [Transfer(**{"dest": self.lane, **what})],
            network=NETWORK,
            seqno=wallet.seqno(holds.data),
            valid_until=(await self.real.head()).time + 60,
        )
        await self.post(boc)

    def voucher(self, total):
        self.best = max(self.best, total)
        return voucher.sign(PAYER, self.lane, Nano(total))

    async def compare(self):
        """States alike; coins as near as one step's fees, and from then on the same."""
        lanes = [_lane(await chain.account(self.lane)) for chain in (self.real, self.view)]
        assert [None if lane is None else lane.close_at for lane in lanes[:1]] == [
            None if lane is None else lane.close_at for lane in lanes[1:]
        ]
        if lanes[0] is not None:
            assert abs(lanes[0].claimed.value - lanes[1].claimed.value) <= FEES
        for account in (self.lane, *WALLETS.values()):
            coins = [await chain.account(account) for chain in (self.real, self.view)]
            held = [0 if one is None else one.balance.value for one in coins]
            assert abs(held[0] - held[1]) <= FEES, account
            self.adopt(account, held[0], lanes[0])
        assert self.twin.sums().exact

    def adopt(self, account, held, lane):
        """Fees are round in the twin: they must not add up over a history."""
        there = self.twin._accounts.get(account)
        if there is not None:
            self.twin._given += held - there.balance
            there.balance = held
            if there.lane is not None:
                claimed = lane.claimed.value
                there.lane = replace(there.lane, balance=held, claimed=claimed)


def _lane(contract):
    known = contract is not None and contract.data is not None
    return cells.read_data(contract.data) if known else None


STEPS = (
    *("deposit", "top_up", "claim", "claim", "close", "for_payee"),
    *("start", "finish", "replay", "strange", "wait", "wait"),
)


async def play(both, entropy):
    step = choice(entropy, STEPS)
    until = (await both.real.head()).time + entropy.below(120)
    total = entropy.below(6 * TON)
    match step:
        case "deposit":
            init = cells.state_init(both.config)
            await both.transfer(PAYER, value=Nano(TON), state_init=init, bounce=False)
        case "top_up":
            await both.transfer(PAYER, value=Nano(TON), body=cells.top_up_body())
        case "claim" | "close":
            write = cells.claim_order if step == "claim" else cells.close_order
            boc = write(both.lane, both.voucher(total), until, PAYEE)
            both.orders.append(boc)
            await both.post(boc)
        case "for_payee":
            body = cells.claim_body(both.voucher(total))
            await both.transfer(STRANGER, value=Nano(TON // 20), body=body)
        case "start":
            who = choice(entropy, (PAYER, STRANGER))
            await both.transfer(who, value=Nano(TON // 20), body=cells.start_close_body())
        case "finish":
            who = choice(entropy, (PAYER, STRANGER))
            await both.transfer(who, value=Nano(TON // 20), body=cells.finish_body())
        case "replay" if both.orders:
            await both.post(choice(entropy, both.orders))
        case "strange":
            await both.post(cells.claim_order(both.lane, both.voucher(total), until, STRANGER))
        case _:
            await both.block(choice(entropy, (1, 70, DAY // 2, DAY)))


async def history(seed, steps):
    chain = embedded.EmbeddedChain.open(None)
    try:
        twin = ChainTwin(lambda: embedded.BIRTH, block_time=None)
        both = Both(chain, twin)
        await both.begin()
        entropy = seeded(seed)
        init = cells.state_init(both.config)
        await both.transfer(PAYER, value=Nano(3 * TON), state_init=init, bounce=False)
        for _ in range(steps):
            await play(both, entropy)
        return both.steps
    finally:
        chain.close()


def test_random_histories_end_alike_on_the_twin_and_on_tons_machine():
    assert sum(trio.run(history, seed, 12) for seed in range(4)) > 12


@pytest.mark.slow
def test_many_more_histories_end_alike():
    assert sum(trio.run(history, seed, 20) for seed in range(100, 160)) > 300


def unlucky(*kinds, seconds=0.0):
    return lambda kind: seconds if kind in kinds else None


async def deposited(twin, luck, blocks=1):
    """The lane of a deposit that was sent under a fault, after so many blocks."""
    both = Both(None, twin)
    twin.fund(WALLETS[PAYER.id], Nano(20 * TON))
    twin.mine()
    init = cells.state_init(both.config)
    order = Transfer(dest=both.lane, value=Nano(TON), state_init=init, bounce=False)
    now = int(twin.now) + 60
    boc = wallet.transfer(PAYER, [order], network=NETWORK, seqno=0, valid_until=now)
    await twin.view(luck).send(boc)
    for _ in range(blocks):
        twin.mine()
    return twin.lane(both.lane)


@pytest.fixture
def twin():
    return ChainTwin(lambda: 1_800_000_000.0, block_time=None)


async def test_externals_are_lost_late_or_doubled(twin):
    assert await deposited(twin, unlucky(Kind.CHAIN_DROP), 5) is None
    late = ChainTwin(lambda: 1_800_000_000.0, block_time=None)
    assert await deposited(late, unlucky(Kind.CHAIN_DELAY), 1) is None
    late.mine()
    assert late.lane(Both(None, late).lane) is not None
    double = ChainTwin(lambda: 1_800_000_000.0, block_time=None)
    lane = await deposited(double, unlucky(Kind.CHAIN_DOUBLE), 5)
    assert lane.balance < TON * 3 // 2  # the wallet's number is used up


async def test_a_server_that_lags_shows_what_it_has_shown(twin):
    lagging = twin.view(unlucky(Kind.CHAIN_LAG))
    account = Account(b"\7" * 32)
    assert await lagging.account(account) is None
    twin.fund(account, Nano(TON))
    twin.mine()
    assert await lagging.account(account) is None
    assert (await twin.view().account(account)).balance == Nano(TON)


async def test_blocks_come_with_time(autojump_clock):
    start = trio.current_time()
    twin = ChainTwin(lambda: 1_800_000_000.0 + trio.current_time() - start)
    head = await twin.view().wait(3)
    assert (head.seqno, head.time) == (3, 1_800_000_015)
    assert trio.current_time() - start == pytest.approx(15.0)
