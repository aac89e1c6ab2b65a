"""Wallets of others live on an embedded chain, which they know by its face alone."""

import asyncio
from hashlib import sha256

import pytest
import trio
from pytoniq import WalletV4R2, WalletV5R1
from pytoniq_core import Address
from ton_core import ContractState, NetworkGlobalID, PrivateKey
from tonutils.clients import LiteClient as OtherClient
from tonutils.contracts import WalletV4R2 as OtherV4R2
from tonutils.contracts import WalletV5R1 as OtherV5R1

from ledger.chain.embedded import EmbeddedChain
from ledger.lane import Account
from ledger.money import Nano
from p2p.identity import Identity
from tests.ledger.chain.clients import served, with_pytoniq
from tests.ledger.chain.standin import KEY, NETWORK

TON = 10**9
SEED = sha256(b"a wallet of others").digest()
SECRET = SEED + Identity(SEED).public
FRIEND = Address((0, sha256(b"a friend").digest()))


@pytest.fixture
def chain():
    chain = EmbeddedChain.open(None)
    yield chain
    chain.close()


def fund(chain, address):
    """From the other thread: coins, and the block that brings them."""
    trio.from_thread.run(chain.fund, Account(address.hash_part), Nano(5 * TON))
    mine(chain)


def mine(chain, blocks=3):
    trio.from_thread.run(chain.mine, blocks)


async def pytoniq_wallet(client, version):
    if version == "v5r1":
        data = {"private_key": SECRET, "network_global_id": NETWORK}
        return await WalletV5R1.from_private_key(client, **data)
    return await WalletV4R2.from_private_key(client, SECRET, version="v4r2")


@pytest.mark.parametrize("version", ["v4r2", "v5r1"])
async def test_a_wallet_of_pytoniq_is_born_pays_and_reads_its_past(chain, version):
    async def life(client):
        wallet = await pytoniq_wallet(client, version)
        assert wallet.is_uninitialized
        fund(chain, wallet.address)
        await wallet.send_init_external()
        mine(chain)
        assert await wallet.get_seqno() == 1
        await wallet.transfer(FRIEND.to_str(is_bounceable=False), TON)
        mine(chain)
        await wallet.transfer(FRIEND.to_str(is_bounceable=False), 2 * TON)
        mine(chain)
        await wallet.update()
        assert wallet.seqno == await wallet.get_seqno() == 3
        past = await client.get_transactions(wallet.address, 20)
        friend = await client.get_account_state(FRIEND)
        return wallet, past, friend

    async with served(chain) as port:
        wallet, past, friend = await with_pytoniq(port, life)
    assert [len(tx.out_msgs) for tx in past] == [1, 1, 0, 0]
    assert sum(message.info.value_coins for tx in past for message in tx.out_msgs) == 3 * TON
    assert 2.99 * TON < friend.balance <= 3 * TON
    state = await chain.account(Account(wallet.address.hash_part))
    assert state.balance == Nano(wallet.balance)
    assert (await chain.supply()).exact


@pytest.mark.parametrize("kind", [OtherV4R2, OtherV5R1])
async def test_a_wallet_of_tonutils_is_born_pays_and_reads_its_past(chain, kind):
    async def life():
        client = OtherClient(
            NetworkGlobalID.TESTNET, ip="127.0.0.1", port=port, public_key=KEY.public
        )
        await client.connect()
        try:
            wallet = kind.from_private_key(client, PrivateKey(SEED))
            fund(chain, Address(wallet.address.to_str()))
            await wallet.refresh()
            assert wallet.state is ContractState.UNINIT
            for nano in (TON, 2 * TON):
                await wallet.transfer(destination=FRIEND.to_str(), amount=nano, bounce=False)
                mine(chain)
            await wallet.refresh()
            past = await client.get_transactions(wallet.address.to_str(), limit=20)
            friend = await client.get_info(FRIEND.to_str())
            return wallet, past, friend
        finally:
            await client.close()

    async with served(chain) as port:
        wallet, past, friend = await trio.to_thread.run_sync(asyncio.run, life())
    assert wallet.state is ContractState.ACTIVE
    assert [len(tx.out_msgs) for tx in past] == [1, 1, 0]
    assert 2.99 * TON < friend.balance <= 3 * TON
    assert (await chain.supply()).exact
