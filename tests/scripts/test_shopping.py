"""Purchases that are told step by step, outlive who waits for them, and wait for no dead chain."""

import pytest
import trio

from ledger.chain.base import Head
from ledger.lane import Phase
from ledger.money import ZERO, Nano
from ledger.payment import Bought, CannotPay, Opening, PayTerms, Purchase, Unpaid
from p2p.errors import Timeout
from scripts import shopping
from scripts.shopping import CHAIN_PATIENCE, Shopping

MINT = b"m" * 32
VALUE, PRICE = Nano(1_000), Nano(1_005)
LANELESS = Purchase(
    mint=MINT,
    bundle="M",
    value=VALUE,
    price=PRICE,
    lane=None,
    deposit=Nano(200_000_000),
    fees=Nano(15_000_000),
)


class Chain:
    """Makes a block a second, as long as it is up."""

    def __init__(self):
        self.is_up = True
        self.hangs = False

    async def head(self):
        if self.hangs:
            await trio.sleep_forever()
        if not self.is_up:
            raise Timeout("away")
        return Head(seqno=int(trio.current_time()), time=0, lt=0)


class Purse:
    """One that is empty, and takes `seconds` to talk to the mint and as many for its lane."""

    def __init__(self, seconds=3.0, intent=LANELESS):
        self.seconds, self.intent = seconds, intent
        self.value, self.refuses = ZERO, None
        self.prepared = []

    async def buy(self, bundle=None, *, mint=None, agree=None, wanted=ZERO):
        await trio.sleep(self.seconds)
        if self.intent is not None:
            agree(self.intent)
        await trio.sleep(self.seconds)
        if self.refuses is not None:
            raise self.refuses
        self.value += VALUE
        return VALUE

    async def prepare(self, terms, told, *, buy):
        if not self.value:
            await buy(MINT, VALUE)
        self.prepared.append(terms)
        return terms


@pytest.fixture
def chain():
    return Chain()


@pytest.fixture
def purse():
    return Purse()


@pytest.fixture
def shop(purse, chain, nursery):
    return Shopping(purse, chain, nursery)


def terms(**changes):
    return PayTerms(
        **{
            "mints": (MINT,),
            "payee": b"w" * 32,
            "session": bytes(32),
            "tick": Nano(1),
            "ticks": 9,
            "expiry": 0,
            **changes,
        }
    )


async def test_each_step_is_told(shop, autojump_clock):
    told = []
    assert await shop.buy("M", told.append) == Bought(value=VALUE, price=PRICE)
    assert told[0] == LANELESS
    assert told[-1] == Bought(value=VALUE, price=PRICE)
    blocks = [step.block for step in told if isinstance(step, Opening)]
    assert blocks == sorted(blocks)
    assert len(blocks) >= 2


async def test_over_an_open_lane_no_chain_is_told_of_or_waited_for(
    shop, purse, chain, autojump_clock
):
    chain.is_up = False
    purse.intent = Purchase(
        mint=MINT,
        bundle="M",
        value=VALUE,
        price=PRICE,
        lane=Phase.OPEN,
        deposit=ZERO,
        fees=ZERO,
    )
    purse.seconds, told = 2 * CHAIN_PATIENCE, []
    await shop.buy("M", told.append)
    assert [type(step) for step in told] == [Purchase, Bought]


async def test_what_was_promised_for_earlier_costs_nothing_now(shop, purse, autojump_clock):
    purse.intent, told = None, []
    assert (await shop.buy("M", told.append)).price == ZERO
    assert told == [Bought(value=VALUE, price=ZERO)]


async def test_an_ask_buys_if_it_may(shop, purse, autojump_clock):
    told = []
    assert await shop.prepare(terms(), told.append) == terms()
    assert told[0] == LANELESS
    await shop.prepare(terms(), told.append)
    assert purse.value == VALUE


async def test_an_ask_that_may_not_buy_is_told_what_it_would_have_cost(shop, purse, autojump_clock):
    told = []
    with pytest.raises(CannotPay) as caught:
        await shop.prepare(terms(may_buy=False), told.append)
    assert caught.value.reason is Unpaid.NOT_AGREED
    assert str(caught.value) == (
        "bundle M, 0.000001 TON for 0.000001005 TON, over a lane that 0.2 TON would open, with "
        "0.015 TON for fees"
    )
    assert (purse.value, purse.prepared, told) == (ZERO, [], [])


async def test_who_leaves_before_it_is_agreed_to_has_bought_nothing(shop, purse, autojump_clock):
    with trio.move_on_after(1.0):
        await shop.buy("M", lambda step: None)
    await trio.sleep(60)
    assert purse.value == ZERO


async def test_who_leaves_later_has_bought_and_hears_no_more(shop, purse, autojump_clock):
    told = []
    with trio.move_on_after(4.5):
        await shop.prepare(terms(), told.append)
    heard = len(told)
    assert told[0] == LANELESS
    await trio.sleep(60)
    assert (purse.value, purse.prepared, len(told)) == (VALUE, [], heard)


@pytest.mark.parametrize("hangs", [False, True], ids=["away", "frozen"])
async def test_a_chain_that_says_nothing_is_not_waited_for(
    shop, purse, chain, autojump_clock, hangs
):
    chain.is_up, chain.hangs, purse.seconds = False, hangs, 600.0
    began = trio.current_time()
    with pytest.raises(CannotPay) as caught:
        await shop.buy("M", lambda step: None)
    assert caught.value.reason is Unpaid.CHAIN_DOWN
    assert str(caught.value) == (
        "the chain has said nothing for 15 s; the 0.2 TON for the lane go onto it once it answers"
    )
    took = trio.current_time() - began - purse.seconds
    assert CHAIN_PATIENCE <= took <= CHAIN_PATIENCE + 10
    await trio.sleep(1_200)
    assert purse.value == ZERO


async def test_a_chain_that_comes_back_in_time_is_waited_for(
    shop, purse, chain, nursery, autojump_clock
):
    chain.is_up, purse.seconds = False, 20.0

    async def back():
        await trio.sleep(purse.seconds + CHAIN_PATIENCE - 2)
        chain.is_up = True

    nursery.start_soon(back)
    assert (await shop.buy("M", lambda step: None)).value == VALUE


async def test_what_the_mint_refuses_is_told_to_who_waits(shop, purse, autojump_clock):
    purse.refuses = CannotPay(Unpaid.LANE, "no")
    with pytest.raises(CannotPay, match="no"):
        await shop.buy("M", lambda step: None)
    purse.refuses = None
    assert (await shop.buy("M", lambda step: None)).value == VALUE


async def test_a_wallet_that_closes_leaves_nobody_waiting(purse, chain, autojump_clock):
    async with trio.open_nursery() as outer:
        inner = await outer.start(wallet)
        shop = shopping.Shopping(purse, chain, inner)
        outer.start_soon(trio.sleep, 0)
        with trio.move_on_after(60) as patience:
            async with trio.open_nursery() as waiting:
                waiting.start_soon(close, inner)
                with pytest.raises(CannotPay, match="closed"):
                    await shop.buy("M", lambda step: None)
        assert not patience.cancelled_caught


async def wallet(task_status):
    async with trio.open_nursery() as nursery:
        task_status.started(nursery)
        await trio.sleep_forever()


async def close(nursery):
    await trio.sleep(1)
    nursery.cancel_scope.cancel()
