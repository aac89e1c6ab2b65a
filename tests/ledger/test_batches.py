"""One message of a wallet funds many lanes: for less, to the nano, whoever is cancelled."""

import pytest
import trio

from ledger.externals import Kind
from ledger.lane import Phase
from ledger.money import ZERO, Nano
from ledger.orders import MOST_TOGETHER
from ledger.store import Store
from p2p.errors import Insufficient
from tests.ledger.test_lanes import BLOCK, START, TON, two, until

DEPOSIT = Nano(100_000_000)


async def opened(payer, payee, count, deposit=DEPOSIT):
    rows = []

    async def one():
        rows.append(await payer.lanes.open(payee.lanes.offer(), deposit))

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(one)
    return [row.lane for row in rows]


async def messages(payer):
    """The wallet's messages, each once, and how many lanes each was about."""
    counts = {}
    for story in await payer.lanes.snapshot():
        for external, _ in story.externals:
            counts[external.hash] = counts.get(external.hash, 0) + 1
    return sorted(counts.values())


async def is_exact(payer, payee, lanes):
    """What is in wallets and on lanes, and every fee that is told, is what there was."""
    on_lanes = [(await payer.wire.chain.account(lane)).balance for lane in lanes]
    total = await payer.balance() + await payee.balance() + sum(on_lanes, ZERO)
    assert total + await payer.fees() == START


async def test_lanes_that_are_wanted_together_are_funded_together(autojump_clock):
    async with two() as (_, payer, payee):
        await opened(payer, payee, 1)
        alone = await payer.fees()
        lanes = await opened(payer, payee, 9)
        assert len(set(lanes)) == 9
        assert (await messages(payer))[-1] >= 8, "the first may have gone before the rest came"
        stories = await payer.lanes.snapshot()
        await is_exact(payer, payee, [story.row.lane for story in stories])
        assert await payer.fees() - alone < alone * 6, "nine cost less than six alone"
        for story in stories:
            assert [one.account for _, caused in story.externals for one in caused][-1] == (
                story.row.lane
            )


async def test_top_ups_go_together_too(autojump_clock):
    async with two() as (_, payer, payee):
        lanes = await opened(payer, payee, 4)
        async with trio.open_nursery() as nursery:
            for lane in lanes:
                nursery.start_soon(payer.lanes.top_up, lane, DEPOSIT)
        await payer.quiet()
        await is_exact(payer, payee, lanes)
        kinds = [one.kind for story in await payer.lanes.snapshot() for one, _ in story.externals]
        assert kinds.count(Kind.TOP_UP) == kinds.count(Kind.OPEN) == 4
        assert len(await messages(payer)) <= 4


async def test_a_close_goes_alone(autojump_clock):
    async with two() as (_, payer, payee):
        lanes = await opened(payer, payee, 2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(payer.lanes.start_close, lanes[0])
            nursery.start_soon(payer.lanes.top_up, lanes[1], DEPOSIT)
        await payer.quiet()
        stories = {story.row.lane: story for story in await payer.lanes.snapshot()}
        closes = [one for one, _ in stories[lanes[0]].externals if one.kind is Kind.START_CLOSE]
        assert len(closes) == 1
        assert closes[0].hash not in [one.hash for one, _ in stories[lanes[1]].externals]


async def test_who_asks_for_too_much_keeps_nobody_from_the_rest(autojump_clock):
    async with two() as (_, payer, payee):
        refused = []

        async def greedy():
            with pytest.raises(Insufficient):
                await payer.lanes.open(payee.lanes.offer(), START)
            refused.append(True)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(greedy)
            nursery.start_soon(opened, payer, payee, 3)
        assert refused
        assert len(await payer.lanes.snapshot()) == 3


async def test_one_that_is_cancelled_takes_no_other_along(autojump_clock):
    """Before it is sent it is as if it had never been asked for; after, it goes on."""
    async with two() as (_, payer, payee):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(payer.lanes.open, payee.lanes.offer(), DEPOSIT)
                await trio.sleep(BLOCK / 4)
                scope.cancel()
        lanes = await opened(payer, payee, 2)
        await until(lambda: _all_open(payer))
        stories = await payer.lanes.snapshot()
        assert set(lanes) <= {story.row.lane for story in stories}
        await is_exact(payer, payee, [story.row.lane for story in stories])


async def _all_open(payer):
    return all(story.row.phase is Phase.OPEN for story in await payer.lanes.snapshot())


async def test_a_batch_has_an_end(autojump_clock):
    async with two() as (there, payer, payee), Store.open(None):
        await there.chain.fund(payer.lanes.account, TON * 5)
        await trio.sleep(2 * BLOCK)
        await opened(payer, payee, MOST_TOGETHER + 4, deposit=Nano(50_000_000))
        assert max(await messages(payer)) <= MOST_TOGETHER
