"""What every `Chain` must do, whatever it is made of: a list of checks that share one living chain.

Each check makes its own accounts, so that they may run in any order, on any chain with a faucet.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256

import pytest
import trio
from pytoniq_core import Address, Builder, Cell, Slice

from ledger import voucher
from ledger.chain import wallet
from ledger.chain.base import NOT_ACTIVE, Chain, GetFailed, NotAccepted, Status
from ledger.contracts import cells
from ledger.lane import Account, LaneConfig
from ledger.money import ZERO, Nano
from p2p.identity import Identity

TON = 10**9
NETWORK = -4242

CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


@dataclass
class World:
    """A chain, where coins come from, and how its next block comes to be."""

    chain: Chain
    fund: Callable[[Account, Nano], Awaitable[None]]
    """Returns once the coins are there."""
    step: Callable[[], Awaitable[None]]
    """Returns once there is another block."""

    async def until(self, found, blocks=20):
        """Whatever `found` gives once it is not None."""
        for _ in range(blocks):
            if (value := await found()) is not None:
                return value
            await self.step()
        raise AssertionError("it never happened")

    async def post(self, boc, account):
        """Send an external and return its transaction."""
        name = await self.chain.send(boc)

        async def found():
            for tx in await self.chain.transactions(account, 0):
                if tx.incoming is not None and tx.incoming.hash == name:
                    return tx
            return None

        return await self.until(found)

    async def balance(self, account):
        found = await self.chain.account(account)
        return ZERO if found is None else found.balance


@dataclass
class Wallet:
    """A wallet of its own for one check."""

    world: World
    key: Identity

    @property
    def address(self):
        return wallet.address(self.key.public, NETWORK)

    async def order(self, *messages, seqno=None, valid_until=None):
        """A signed transfer with the next number."""
        found = await self.world.chain.account(self.address)
        head = await self.world.chain.head()
        return wallet.transfer(
            self.key,
            messages,
            network=NETWORK,
            seqno=wallet.seqno(found and found.data) if seqno is None else seqno,
            valid_until=head.time + 600 if valid_until is None else valid_until,
        )

    async def pay(self, *messages):
        return await self.world.post(await self.order(*messages), self.address)


def key(label):
    return Identity(sha256(label.encode()).digest())


def nobody(label):
    """An account that no key opens."""
    return Account(sha256(b"nobody" + label.encode()).digest())


async def rich(world, label, nano=10 * TON):
    """A wallet with coins, not deployed."""
    made = Wallet(world, key(label))
    await world.fund(made.address, Nano(nano))
    return made


def to(dest, nano, **more):
    return wallet.Transfer(dest=dest, value=Nano(nano), **more)


@check
async def network_is_the_global_id(world):
    assert world.chain.network == NETWORK


@check
async def heads_never_fall(world):
    before = await world.chain.head()
    await world.step()
    after = await world.chain.head()
    assert after.seqno > before.seqno
    assert after.time >= before.time
    assert after.lt >= before.lt


@check
async def waiting_for_a_block_ends_with_it(world):
    head = await world.chain.head()
    assert (await world.chain.wait(head.seqno)).seqno >= head.seqno
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.step)
            assert (await world.chain.wait(head.seqno + 1)).seqno > head.seqno


@check
async def an_account_nobody_used_is_none(world):
    address = nobody("absent")
    assert await world.chain.account(address) is None
    assert await world.chain.transactions(address, 0) == []
    with pytest.raises(GetFailed) as failed:
        await world.chain.run_get(address, "seqno")
    assert failed.value.exit_code == NOT_ACTIVE


@check
async def coins_arrive_to_the_nano_where_no_code_is(world):
    address = nobody("funded")
    await world.fund(address, Nano(TON + 1))
    found = await world.chain.account(address)
    assert found.status is Status.UNINIT
    assert found.balance == Nano(TON + 1)
    assert found.code is None is found.data is found.code_hash
    [tx] = await world.chain.transactions(address, 0)
    assert tx.account == address
    assert tx.incoming.value == Nano(TON + 1)
    assert (tx.success, tx.exit_code, tx.gas) == (False, None, 0)
    assert (found.last_lt, found.last_hash) == (tx.lt, tx.hash)
    with pytest.raises(GetFailed):
        await world.chain.run_get(address, "seqno")


@check
async def a_wallet_deploys_itself_and_pays(world):
    payer, dest = await rich(world, "pays"), nobody("paid")
    tx = await payer.pay(to(dest, TON, bounce=False))
    assert (tx.success, tx.exit_code) == (True, 0)
    assert tx.gas > 0
    assert tx.incoming.source is None
    assert tx.incoming.dest == payer.address
    [sent] = tx.outgoing
    assert (sent.source, sent.dest, sent.value) == (payer.address, dest, Nano(TON))
    found = await world.chain.account(payer.address)
    assert found.status is Status.ACTIVE
    assert found.code_hash == wallet.CODE.hash
    assert wallet.seqno(found.data) == 1
    assert await world.chain.run_get(payer.address, "seqno") == (1,)
    assert found.balance == Nano(9 * TON) - tx.fees - sent.forward_fee


@check
async def a_message_is_the_same_on_both_ends(world):
    payer, dest = await rich(world, "both ends"), nobody("other end")
    body = Builder().store_uint(0, 32).store_string("for lunch").end_cell()
    tx = await payer.pay(to(dest, TON, body=body, bounce=False))

    async def arrived():
        return next(iter(await world.chain.transactions(dest, 0)), None)

    other = await world.until(arrived)
    assert other.incoming == tx.outgoing[0]
    assert other.incoming.body.hash == body.hash
    assert other.lt > tx.lt
    assert await world.balance(dest) == Nano(TON) - other.fees


@check
async def many_messages_are_paid_by_one_external(world):
    payer = await rich(world, "many")
    dests = [nobody(f"one of many {n}") for n in range(20)]
    tx = await payer.pay(*(to(dest, TON + n, bounce=False) for n, dest in enumerate(dests)))
    assert [sent.dest for sent in tx.outgoing][:9] == dests[:9]

    async def last():
        return await world.balance(dests[8]) or None

    assert await world.until(last) == Nano(TON + 8)


@check
async def what_cannot_be_delivered_bounces(world):
    payer, dest = await rich(world, "bounces"), nobody("no code")
    await payer.pay(to(dest, TON, bounce=True))

    async def back():
        found = await world.chain.transactions(payer.address, 0)
        return next((tx for tx in found if tx.incoming.bounced), None)

    tx = await world.until(back)
    assert tx.incoming.source == dest
    assert Nano(TON) - tx.incoming.value < Nano(2_000_000)
    assert not await world.balance(dest)


@check
async def transactions_come_oldest_first_and_by_pages(world):
    address = nobody("pages")
    for n in range(7):
        await world.fund(address, Nano(TON + n))
    whole = await world.chain.transactions(address, 0)
    assert [tx.incoming.value for tx in whole] == [Nano(TON + n) for n in range(7)]
    pages, lt = [], 0
    while page := await world.chain.transactions(address, lt, 3):
        assert len(page) <= 3
        pages += page
        lt = page[-1].lt
    assert pages == whole
    assert await world.chain.transactions(address, whole[-2].lt) == whole[-1:]
    assert await world.chain.transactions(address, 0, 0) == []


@check
async def refusals_say_the_contracts_exit_code(world):
    owner, dest = await rich(world, "refused"), nobody("unpaid")
    await owner.pay(to(dest, 1, bounce=False))
    head = await world.chain.head()
    state = await world.chain.account(owner.address)
    order, external = to(dest, TON, bounce=False), wallet.external
    old = await owner.order(order, seqno=0)
    late = await owner.order(order, valid_until=head.time - 1)
    forged = Cell.one_from_boc(await owner.order(order)).begin_parse()
    forged.skip_bits(2 + 2 + 267 + 4 + 1)
    body = forged.load_ref() if forged.load_bit() else forged.to_cell()
    bits = body.bits.copy()
    bits.invert(len(bits) - 1)
    bad = external(owner.address, Cell(bits, body.refs))
    codes = {}
    for name, boc in {"seqno": old, "late": late, "signature": bad}.items():
        with pytest.raises(NotAccepted) as refused:
            await world.chain.send(boc)
        codes[name] = refused.value.exit_code
    # as in wallet-contract-v5: invalid_seqno, expired, invalid_signature
    assert codes == {"seqno": 133, "late": 136, "signature": 135}
    await world.step()
    assert await world.chain.account(owner.address) == state


@check
async def an_external_for_nobody_and_no_external_are_refused(world):
    empty = Cell.empty()
    for boc in (b"", b"not a bag", empty.to_boc(), wallet.external(nobody("deaf"), empty)):
        with pytest.raises(NotAccepted):
            await world.chain.send(boc)
    order = wallet.internal(to(nobody("deaf"), 1))
    with pytest.raises(NotAccepted):
        await world.chain.send(order.to_boc())


@check
async def sending_twice_pays_once(world):
    payer, dest = await rich(world, "twice"), nobody("paid once")
    boc = await payer.order(to(dest, TON, bounce=False))
    first = await world.chain.send(boc)
    with suppress(NotAccepted):  # a block may come between
        assert await world.chain.send(boc) == first

    async def paid():
        return await world.balance(dest) or None

    await world.until(paid)
    await world.step()
    with pytest.raises(NotAccepted):
        await world.chain.send(boc)
    assert await world.balance(dest) == Nano(TON)


@check
async def an_unknown_get_method_fails_with_its_code(world):
    owner = await rich(world, "methods")
    await owner.pay(to(nobody("x"), 1, bounce=False))
    with pytest.raises(GetFailed) as failed:
        await world.chain.run_get(owner.address, "no_such_method")
    assert failed.value.exit_code == 11
    assert await world.chain.run_get(owner.address, "is_signature_allowed") == (-1,)
    assert await world.chain.run_get(owner.address, "get_public_key") == (
        int.from_bytes(owner.key.public, "big"),
    )


@check
async def prices_are_those_of_the_config(world):
    fees = await world.chain.fees()
    assert fees.gas(100) == Nano(40_000)
    assert fees.gas(8_000) == Nano(3_200_000)
    assert fees.forward(0, 0) == Nano(400_000)
    assert fees.forward(1720, 3) == Nano(400_000 + 1720 * 400 + 3 * 40_000)
    assert fees.storage(1, 0, 65_536) == Nano(1)


@check
async def a_lane_lives_and_dies(world):
    payer, payee = await rich(world, "lane payer"), await rich(world, "lane payee")
    config = LaneConfig(
        payer_key=key("vouchers").public,
        payee_key=key("claims").public,
        payer=payer.address,
        payee=payee.address,
        network=NETWORK,
        lane_id=7,
        close_delay=86_400,
        min_claim=ZERO,
    )
    lane = cells.lane_address(config)
    await payer.pay(to(lane, 2 * TON, state_init=cells.state_init(config)))

    async def open_():
        found = await world.chain.account(lane)
        return found if found is not None and found.status is Status.ACTIVE else None

    state = cells.read_data((await world.until(open_)).data)
    assert (state.config, state.claimed, state.close_at) == (config, ZERO, 0)
    claimed, close_at, balance, reserve = await world.chain.run_get(lane, "get_lane")
    assert (claimed, close_at, reserve) == (0, 0, 20_000_000)
    assert Nano(balance) == await world.balance(lane)
    got = await world.chain.run_get(lane, "get_config")
    assert isinstance(got[0], Slice | Cell)
    reader = got[0].begin_parse() if isinstance(got[0], Cell) else got[0]
    assert reader.load_address() == Address((0, payer.address))
    assert got[4:] == (NETWORK, 7, 86_400, 0)

    head = await world.chain.head()
    signed = voucher.sign(key("vouchers"), lane, Nano(TON))
    order = cells.claim_order(lane, signed, head.time + 600, key("claims"))
    before = await world.balance(payee.address)
    tx = await world.post(order, lane)
    assert tx.outgoing[0].dest == payee.address

    async def paid():
        now = await world.balance(payee.address)
        return now if now != before else None

    assert await world.until(paid) > before + Nano(TON - 6_000_000)
    with pytest.raises(NotAccepted) as refused:
        await world.chain.send(order)
    assert refused.value.exit_code == 103

    await world.post(cells.close_order(lane, signed, head.time + 600, key("claims")), lane)
    assert not await world.balance(lane)
