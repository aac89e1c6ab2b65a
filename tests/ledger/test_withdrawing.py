"""Coins that people take out of a wallet: once for each wish, to the nano."""

import pytest
import trio

from ledger import orders
from ledger.externals import Fate
from ledger.lane import Account
from ledger.money import ZERO, Nano
from ledger.orders import WALLET_FEES
from p2p.errors import Insufficient
from tests.ledger.test_lanes import BLOCK, START, TON, two

FRIEND = Account(b"f" * 32)
KEY = b"wish of a person"


async def taken_out(payer, amount, *, key=KEY, bounce=False):
    message = await payer.lanes.withdraw(FRIEND, amount, bounce=bounce, key=key)
    assert await payer.lanes.outcome(message, whole=True)
    return message


async def held(there, account):
    contract = await there.chain.account(account)
    return ZERO if contract is None else contract.balance


async def test_no_nano_is_lost_on_the_way_out(autojump_clock):
    async with two() as (there, payer, _):
        await taken_out(payer, TON)
        ((external, caused),) = await payer.lanes.withdrawals()
        friend = await held(there, FRIEND)
        assert await payer.balance() + friend + external.fees == START
        assert caused[-1].value == TON
        assert [one.account for one in caused] == [payer.lanes.account, FRIEND]


async def test_a_wish_that_is_sent_twice_is_granted_once(autojump_clock):
    """At once, later, and with another amount: a key stands for what was asked first."""
    async with two() as (there, payer, _):
        hashes = []

        async def ask():
            hashes.append(await taken_out(payer, TON))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(ask)
        hashes.append(await taken_out(payer, TON * 2))
        assert len(set(hashes)) == 1
        assert await held(there, FRIEND) <= TON
        await taken_out(payer, TON, key=b"another wish")
        assert len(await payer.lanes.withdrawals()) == 2
        assert TON < await held(there, FRIEND) <= TON * 2


async def test_more_than_there_is_is_refused_before_anything_is_sent(autojump_clock):
    async with two() as (_, payer, _):
        with pytest.raises(Insufficient, match="for fees are needed"):
            await payer.lanes.withdraw(FRIEND, START, bounce=False, key=KEY)
        assert payer.wire.sent == []
        await taken_out(payer, START - WALLET_FEES)
        assert await payer.balance() < WALLET_FEES


async def test_coins_for_nobody_come_back_if_they_may(autojump_clock):
    async with two() as (there, payer, _):
        await taken_out(payer, TON, bounce=True)
        await trio.sleep(5 * BLOCK)
        assert await held(there, FRIEND) == ZERO
        assert await payer.balance() > START - Nano(10_000_000)


async def test_a_withdrawal_that_the_chain_never_takes_is_dead_and_pays_nothing(
    autojump_clock, monkeypatch
):
    monkeypatch.setattr(orders, "LIFE", 10)
    async with two() as (_, payer, _):
        payer.wire.deaf = True
        message = await payer.lanes.withdraw(FRIEND, TON, bounce=False, key=KEY)
        assert not await payer.lanes.outcome(message)
        ((external, _),) = await payer.lanes.withdrawals()
        assert external.fate is Fate.DEAD
        assert await payer.balance() == START
