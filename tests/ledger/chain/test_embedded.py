"""The chain in the process."""

import subprocess
import sys
from collections import Counter
from contextlib import suppress
from hashlib import sha256
from itertools import pairwise
from unittest.mock import Mock

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from pytoniq_core import Address, Builder, Cell, Transaction

from ledger.chain import collator, wallet
from ledger.chain.base import NotAccepted
from ledger.chain.boc import read_cell, write_boc
from ledger.chain.config import FORWARD, GAS, mainnet_config, scale_config
from ledger.chain.embedded import BIRTH, MAX_PENDING, SUPPLY, EmbeddedChain, Faults
from ledger.chain.records import read_external, read_transaction
from ledger.money import Nano
from p2p.entropy import choice, seeded
from p2p.errors import CodecError, Insufficient, LocalError
from tests.ledger.chain import conformance
from tests.ledger.chain.conformance import CHECKS, NETWORK, TON, World, nobody, rich, to


def world(chain):
    async def fund(account, nano):
        await chain.fund(account, nano)
        await chain.mine()

    return World(chain, fund, chain.mine)


@pytest.fixture
def chain():
    chain = EmbeddedChain.open(None)
    yield chain
    chain.close()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_conforms(check, chain):
    await check(world(chain))
    assert (await chain.supply()).exact


# --- coins and hashes ---


def traffic(seed, rounds=12):
    """Transfers among a few wallets, some to nobody, with and without bounce: one list a block."""
    entropy = seeded(seed)
    keys = [conformance.key(f"{seed} {n}") for n in range(4)]
    seqnos = dict.fromkeys(range(4), 0)
    for _ in range(rounds):
        n = entropy.below(4)
        dests = [wallet.address(key.public, NETWORK) for key in keys] + [nobody("far")]
        orders = [
            to(choice(entropy, dests), entropy.below(TON), bounce=entropy.below(2) == 0)
            for _ in range(1 + entropy.below(3))
        ]
        until = BIRTH + 10**6
        boc = wallet.transfer(keys[n], orders, network=NETWORK, seqno=seqnos[n], valid_until=until)
        seqnos[n] += 1
        yield boc


async def found(chain, seed):
    """Wallets for `traffic`, with coins."""
    for n in range(4):
        key = conformance.key(f"{seed} {n}")
        await chain.fund(wallet.address(key.public, NETWORK), Nano(1_000 * TON))
    await chain.mine()


async def digest(chain):
    """A hash of everything the chain says."""
    whole = sha256(repr(await chain.head()).encode())
    for address, boc in sorted(chain._store.accounts()):
        whole.update(address + read_cell(boc).hash)
        whole.update(b"".join(tx.hash for tx in await chain.transactions(address, 0, 10**6)))
    return whole.hexdigest()


@pytest.mark.parametrize("seed", range(2))
async def test_not_a_nano_is_made_or_lost(chain, seed):
    await found(chain, seed)
    for boc in traffic(seed):
        await chain.send(boc)
        await chain.mine()
        assert (await chain.supply()).exact
    assert (await chain.supply()).fees


async def test_same_inputs_give_the_same_hashes(chain):
    digests = set()
    for one in (chain, EmbeddedChain.open(None)):
        await found(one, 1)
        for boc in traffic(1):
            await one.send(boc)
            await one.mine()
        digests.add(await digest(one))
    assert len(digests) == 1


async def test_every_coin_of_a_transaction_is_accounted_for(chain):
    """What the balance was and came in is what it is, went out, and was paid."""
    await found(chain, 2)
    for boc in traffic(2):
        await chain.send(boc)
        await chain.mine()
    for address, _ in chain._store.accounts():
        balance = 0
        for tx in await chain.transactions(address, 0, 10**6):
            balance += tx.incoming.value.value - tx.fees.value
            balance -= sum(sent.value.value + sent.forward_fee.value for sent in tx.outgoing)
        state = await chain.account(address)
        assert balance == (state.balance.value if state else 0)


async def test_coins_for_another_workchain_are_lost_and_counted(chain, monkeypatch):
    payer = await rich(world(chain), "astray")
    order = Builder().store_bits("011000").store_address(Address((-1, bytes(32))))
    order.store_coins(TON).store_uint(0, 1 + 4 + 4 + 64 + 32 + 2)
    monkeypatch.setattr(wallet, "internal", lambda _: order.end_cell())
    await payer.pay(to(nobody("astray"), TON))
    supply = await chain.supply()
    assert supply.astray > Nano(TON)
    assert supply.exact


async def test_a_block_has_room_for_so_much_and_the_next_one_goes_on(chain, monkeypatch):
    monkeypatch.setattr(collator, "MAX_TRANSACTIONS", 4)
    payer, dests = await rich(world(chain), "floods"), [nobody(f"flood {n}") for n in range(10)]
    boc = await payer.order(*(to(dest, TON // 10, bounce=False) for dest in dests))
    await chain.send(boc)
    for dest in dests[:2]:
        await chain.fund(dest, Nano(1))
    counts = []
    while chain.statistics().pending or chain._backlog:
        before = chain.statistics().transactions
        await chain.mine()
        counts.append(chain.statistics().transactions - before)
        supply = await chain.supply()
        assert supply.exact
        assert bool(supply.queued) == chain._backlog
    assert counts == [4, 4, 4, 1]
    assert all([await chain.account(dest) for dest in dests])


# --- what is kept ---


async def test_goes_on_from_its_file(tmp_path):
    path = tmp_path / "chain.db"
    chain = EmbeddedChain.open(path)
    await found(chain, 3)
    for boc in traffic(3, 5):
        await chain.send(boc)
        await chain.mine()
    await chain.set_config(scale_config(mainnet_config(), GAS, 2))
    before = await digest(chain), await chain.supply(), await chain.fees()
    chain.close()
    chain = EmbeddedChain.open(path)
    assert (await digest(chain), await chain.supply(), await chain.fees()) == before
    chain.close()


async def test_a_file_belongs_to_one_process_and_one_network(tmp_path):
    path = tmp_path / "chain.db"
    chain = EmbeddedChain.open(path)
    with pytest.raises(LocalError, match="locked"):
        EmbeddedChain.open(path)
    chain.close()
    with pytest.raises(LocalError, match="network"):
        EmbeddedChain.open(path, network=-3)
    path.write_bytes(b"something else" * 100)
    with pytest.raises(LocalError):
        EmbeddedChain.open(path)


async def test_a_block_that_cannot_be_kept_never_was(chain, monkeypatch):
    payer, dest = await rich(world(chain), "full disk"), nobody("full disk")
    boc = await payer.order(to(dest, TON, bounce=False))
    await chain.send(boc)
    before = await digest(chain)
    with monkeypatch.context() as broken:
        broken.setattr(chain._store, "commit", Mock(side_effect=LocalError("no room")))
        with pytest.raises(LocalError):
            await chain.mine()
    assert await digest(chain) == before
    await chain.mine()
    assert (await chain.account(dest)).balance == Nano(TON)


CRASH = """
import os, sys, trio
from pathlib import Path
from ledger.chain.embedded import EmbeddedChain
from ledger.chain.store import ChainStore
from tests.ledger.chain.test_embedded import digest, found, traffic

path, plain = Path(sys.argv[1]), ChainStore._run_many

async def life(name, crash_at):
    chain, left = EmbeddedChain.open(path / name), crash_at
    def counted(self, statement, rows):
        nonlocal left
        plain(self, statement, rows)
        if (left := left - 1) == 0:
            os._exit(7)
    head = await chain.head()
    if head.seqno == 0:
        await found(chain, 5)
    ChainStore._run_many = counted
    for number, boc in enumerate(traffic(5, 6)):
        if (await chain.head()).seqno == number + 1:
            await chain.send(boc)
            await chain.mine()
    assert (await chain.supply()).exact
    (path / (name + ".digest")).write_text(await digest(chain))
    chain.close()

def run(name, crash_at):
    child = os.fork()
    if not child:
        trio.run(life, name, crash_at)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

assert run("whole", 10**6) == 0
for at in (2, 11, 24):
    assert run(str(at), at) == 7
    assert run(str(at), 10**6) == 0
    assert (path / f"{at}.digest").read_text() == (path / "whole.digest").read_text()
"""


def test_a_crash_inside_a_commit_leaves_the_block_before(tmp_path):
    """Killed between any two statements, the chain comes to the same hashes when it goes on."""
    subprocess.run([sys.executable, "-c", CRASH, str(tmp_path)], check=True, timeout=120)


# --- time ---


@pytest.fixture
def living(nursery):
    """A chain with a block time, on a virtual clock."""

    async def begin(**options):
        start = trio.current_time()
        chain = EmbeddedChain.open(
            None,
            block_time=0.4,
            now=lambda: BIRTH + trio.current_time() - start,
            **options,
        )
        await nursery.start(chain.run)
        return chain

    return begin


async def test_an_idle_chain_counts_its_blocks_and_does_nothing(
    living, monkeypatch, autojump_clock
):
    chain = await living()
    first = await chain.head()
    mined = Mock(wraps=chain._mine)
    monkeypatch.setattr(chain, "_mine", mined)
    await trio.sleep(86_400)
    head = await chain.head()
    assert (head.seqno - first.seqno, head.time - first.time) == (216_000, 86_400)
    assert chain.statistics().blocks == 1
    assert not mined.called


async def test_a_block_comes_at_the_next_boundary(living, autojump_clock):
    chain, dest = await living(), nobody("boundary")
    await trio.sleep(1.3)
    await chain.fund(dest, Nano(1))
    assert await chain.account(dest) is None
    await trio.sleep(0.35)
    assert (await chain.account(dest)).balance == Nano(1)
    assert chain.statistics().blocks == 2


async def test_waiting_takes_as_long_as_blocks_take(living, autojump_clock):
    chain = await living()
    head, start = await chain.head(), trio.current_time()
    assert (await chain.wait(head.seqno + 10)).seqno == head.seqno + 10
    assert trio.current_time() - start == pytest.approx(4.0, abs=0.01)


async def test_heads_are_never_taken_back(living, autojump_clock):
    """A block shown as empty stays so: what comes later has a later number."""
    chain, dest = await living(), nobody("later")
    shown = []
    for _ in range(40):
        await trio.sleep(0.15)
        head = await chain.head()
        shown.append((head, len(await chain.transactions(dest, 0))))
        await chain.fund(dest, Nano(1))
    for (one, had), (two, has) in pairwise(shown):
        assert one.seqno <= two.seqno
        assert one.time <= two.time
        assert (one == two) <= (had == has)


async def test_travel_moves_time_by_one_block_for_good(tmp_path):
    clock, path = [BIRTH + 100.0], tmp_path / "chain.db"
    for turn in (1, 2):
        chain = EmbeddedChain.open(path, block_time=0.4, now=lambda: clock[0])
        before = await chain.head()
        assert before.time == BIRTH + 100 + (turn - 1) * 86_400
        head = await chain.travel(86_400)
        assert (head.seqno, head.time) == (before.seqno + 1, before.time + 86_400)
        chain.close()


async def test_a_clock_set_back_does_not_turn_the_chain_back():
    clock = [BIRTH + 100.0]
    chain = EmbeddedChain.open(None, block_time=0.4, now=lambda: clock[0])
    clock[0] += 10
    await chain.mine()
    head = await chain.head()
    clock[0] -= 3_600
    assert await chain.head() == head
    assert (await chain.mine()).time == head.time
    chain.close()


async def test_an_order_expires_by_the_chains_clock(chain):
    payer = await rich(world(chain), "expires")
    boc = await payer.order(to(nobody("expired"), TON))
    await chain.travel(601)
    with pytest.raises(NotAccepted):
        await chain.send(boc)


# --- prices ---


async def test_another_config_means_other_prices(chain):
    payer = await rich(world(chain), "dear")
    await payer.pay(to(nobody("dear"), 1, bounce=False))
    cheap = await payer.pay(to(nobody("dear"), 1, bounce=False))
    await chain.set_config(scale_config(mainnet_config(), (*GAS, *FORWARD), 10))
    dear = await payer.pay(to(nobody("dear"), 1, bounce=False))
    assert dear.fees > 5 * cheap.fees
    assert (await chain.fees()).gas(8_000) == Nano(32_000_000)
    with pytest.raises(CodecError):
        await chain.set_config(Cell.empty().to_boc())
    assert (await chain.supply()).exact


async def test_prices_are_what_is_paid(chain):
    """The fees of a transfer are those that the prices say, to the nano."""
    payer = await rich(world(chain), "exact")
    await payer.pay(to(nobody("exact"), 1, bounce=False))
    boc = await payer.order(to(nobody("exact"), 1, bounce=False))
    tx, fees = await world(chain).post(boc, payer.address), await chain.fees()
    cells = set()

    def count(cell, root):
        if not root:
            cells.add(cell)
        for ref in cell.refs:
            count(ref, False)

    count(Cell.one_from_boc(boc), True)
    imported = fees.forward(sum(len(cell.bits) for cell in cells), len(cells))
    out = fees.forward(0, 0)
    kept = tx.fees - fees.gas(tx.gas) - imported - (out - tx.outgoing[0].forward_fee)
    assert kept.value < 100  # storage of a second


# --- what a network does ---


async def test_an_account_has_so_many_externals_waiting(chain, monkeypatch):
    payer = await rich(world(chain), "eager")
    await payer.pay(to(nobody("eager"), TON, bounce=False))
    for n in range(MAX_PENDING):
        await chain.send(await payer.order(to(nobody("eager"), n + 1, bounce=False)))
    with pytest.raises(NotAccepted):
        await chain.send(await payer.order(to(nobody("eager"), TON)))
    assert chain.statistics().pending == MAX_PENDING
    await chain.mine()
    txs = await chain.transactions(nobody("eager"), 0)
    assert [tx.incoming.value for tx in txs] == [Nano(TON), Nano(1)]


async def test_faults_drop_double_delay_and_reject():
    counts = Counter()
    faults = Faults(entropy=seeded(1), drop=30, duplicate=30, delay_blocks=3, reject=30)
    for _ in range(1_000):
        try:
            delays = faults.delays()
        except NotAccepted:
            counts["rejected"] += 1
            continue
        counts[len(delays)] += 1
        assert all(0 <= delay <= 3 for delay in delays)
    assert 250 < counts["rejected"] < 350
    assert 160 < counts[0] < 260
    assert 100 < counts[2] < 200


async def test_whoever_sends_again_is_paid_once_whatever_the_network_does():
    faults = Faults(entropy=seeded(2), drop=30, duplicate=30, delay_blocks=3, reject=30)
    chain = EmbeddedChain.open(None, faults=faults)
    dest = nobody("faults")
    for n in range(5):
        payer = await rich(world(chain), f"faults {n}")
        boc = await payer.order(to(dest, TON, bounce=False), valid_until=BIRTH + 10**6)
        while not await chain.transactions(payer.address, 10**6 * (1 + (await seen(chain, payer)))):
            with suppress(NotAccepted):
                await chain.send(boc)
            await chain.mine()
    await chain.mine(5)
    txs = await chain.transactions(dest, 0)
    assert [tx.incoming.value for tx in txs] == [Nano(TON)] * 5
    assert (await chain.supply()).exact
    chain.close()


async def seen(chain, payer):
    """The block-step of the newest funding transaction of a wallet."""
    return (await chain.transactions(payer.address, 0))[0].lt // 10**6 - 1


async def test_a_hostile_external_is_refused_at_once(chain):
    """Cells that are shared many times over: a tree of 2^60 leaves in a few hundred bytes."""
    cell = Cell.empty()
    for _ in range(60):
        cell = Builder().store_ref(cell).store_ref(cell).end_cell()
    message = Builder().store_bits("1000").store_address(Address((0, nobody("deep"))))
    message.store_coins(0).store_bits("01").store_ref(cell)
    with pytest.raises(NotAccepted):
        await chain.send(write_boc([message.end_cell()]))


@given(st.binary(max_size=200))
def test_bytes_that_are_no_external_are_refused(boc):
    with pytest.raises(CodecError):
        read_external(boc)


async def test_gifts_end_with_the_givers_coins(chain):
    await chain.fund(nobody("greedy"), SUPPLY - Nano(1))
    with pytest.raises(Insufficient):
        await chain.fund(nobody("greedy"), Nano(2))
    await chain.mine()
    await chain.fund(nobody("greedy"), Nano(1))
    await chain.mine()
    with pytest.raises(Insufficient):
        await chain.fund(nobody("greedy"), Nano(1))
    supply = await chain.supply()
    assert supply.accounts + supply.fees == SUPPLY
    assert not supply.giver


# --- as a face sees it ---


async def test_raw_transactions_are_newest_first_and_linked(chain):
    address = nobody("raw")
    for _ in range(4):
        await chain.fund(address, Nano(TON))
        await chain.mine()
    state = await chain.account(address)
    raw = await chain.raw_transactions(address, state.last_lt, 3)
    txs = [Transaction.deserialize(cell.begin_parse()) for _, cell in raw]
    assert raw[0][1].hash == state.last_hash
    assert [tx.prev_trans_hash for tx in txs[:-1]] == [cell.hash for _, cell in raw[1:]]
    assert [tx.now for tx in txs] == [head.time for head, _ in raw]
    assert await chain.raw_transactions(address, 2**64 - 1, 100) != []
    assert (await chain.config()).hash == read_cell(mainnet_config()).hash


async def test_transactions_read_as_pytoniq_reads_them(chain):
    await found(chain, 4)
    for boc in traffic(4, 12):
        await chain.send(boc)
        await chain.mine()
    for address, _ in chain._store.accounts():
        for _, cell in await chain.raw_transactions(address, 2**63, 100):
            ours = read_transaction(cell)
            theirs = Transaction.deserialize(cell.begin_parse())
            assert (ours.account, ours.lt, ours.time) == (
                theirs.account_addr,
                theirs.lt,
                theirs.now,
            )
            assert ours.fees.value == theirs.total_fees.grams
            assert len(ours.outgoing) == len(theirs.out_msgs) == theirs.outmsg_cnt
            for one, two in zip(ours.outgoing, theirs.out_msgs, strict=True):
                assert one.value.value == two.info.value_coins
                assert one.dest == two.info.dest.hash_part
                assert one.bounce == two.info.bounce
