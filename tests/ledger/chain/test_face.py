"""The face, before clients as they are, and before clients as they should not be."""

import asyncio

import pytest
import trio
import trio.testing
from pytoniq import LiteServerError, RunGetMethodError
from pytoniq_core import Address, begin_cell
from ton_core import NetworkGlobalID
from tonutils.clients import LiteClient as OtherClient

from ledger.chain import face, tcp
from p2p.errors import Unreachable
from p2p.identity import Identity
from tests.ledger.chain.clients import Wire, served, with_pytoniq
from tests.ledger.chain.standin import ALICE, KEY, NOBODY, StandIn, refusal, shard_account

ACCOUNT = {"workchain": 0, "id": ALICE.hex()}
BLOCK = {"workchain": -1, "shard": 0, "seqno": 0, "root_hash": "00" * 32, "file_hash": "00" * 32}
WHERE, NOWHERE = Address((0, ALICE)), Address((0, NOBODY))


@pytest.fixture
def chain():
    return StandIn()


async def test_pytoniq_connects_and_reads_accounts(chain):
    async def work(client):
        account, entry = await client.raw_get_account_state(WHERE)
        absent = await client.get_account_state(NOWHERE)
        return client.last_mc_block.seqno, account.storage.balance.grams, entry, absent

    async with served(chain) as port:
        seqno, grams, entry, absent = await with_pytoniq(port, work)
    assert (seqno, grams, entry.last_trans_lt) == (3, 12_345, 5)
    assert (absent.state.type_, absent.balance) == ("uninitialized", 0)


async def test_an_account_of_another_workchain_is_absent(chain):
    async with served(chain) as port:
        found = await with_pytoniq(
            port, lambda client: client.raw_get_account_state(Address((-1, ALICE)))
        )
    assert found == (None, None)


async def test_pytoniq_runs_get_methods(chain):
    async def work(client):
        stack = await client.run_get_method(WHERE, "seqno", [1, begin_cell().end_cell()])
        with pytest.raises(RunGetMethodError) as failed:
            await client.run_get_method(NOWHERE, "seqno", [])
        return stack, failed.value.exit_code

    async with served(chain) as port:
        stack, exit_code = await with_pytoniq(port, work)
    assert stack == [85_143, 1, begin_cell().end_cell()]
    assert exit_code == -256


async def test_pytoniq_walks_an_accounts_whole_past(chain):
    chain.live(ALICE, 40)

    async def work(client):
        found = await client.get_transactions(WHERE, 100)
        one = await client.get_one_transaction(WHERE, 30, client.last_mc_block)
        none = await client.get_one_transaction(WHERE, 31, client.last_mc_block)
        return found, one, none

    async with served(chain) as port:
        found, one, none = await with_pytoniq(port, work)
    assert [tx.lt for tx in found] == list(range(400, 0, -10))
    assert (one.lt, none) == (30, None)


async def test_a_transaction_that_was_not_is_an_error(chain):
    chain.live(ALICE, 2)

    async def work(client):
        with pytest.raises(LiteServerError) as refused:
            await client.raw_get_transactions(WHERE, 16, from_lt=20, from_hash=bytes([1]) * 32)
        return refused.value.code

    async with served(chain) as port:
        assert await with_pytoniq(port, work) == -400


async def test_externals_reach_the_chain_and_refusals_carry_the_exit_code(chain):
    async def work(client):
        status = await client.raw_send_message(b"external")
        chain.refusal = refusal(33)
        with pytest.raises(LiteServerError, match="exitcode=33") as refused:
            await client.raw_send_message(b"external")
        return status, refused.value.code

    async with served(chain) as port:
        assert await with_pytoniq(port, work) == (1, 0)
    assert chain.sent == [b"external"]


async def test_pytoniq_reads_what_stands_around_accounts(chain):
    async def work(client):
        config = await client.get_config_all()
        time = (await client.get_time())["now"]
        version = (await client.get_version())["version"]
        libraries = await client.get_libraries([bytes(32)])
        master, _ = await client.lookup_block(-1, -(1 << 63), seqno=3)
        shard, header = await client.lookup_block(0, -(1 << 63), seqno=3)
        return sorted(config), time, version, libraries, master, shard, header.info.gen_utime

    async with served(chain) as port:
        found = await with_pytoniq(port, work)
    assert found[0] == [18, 21, 25, 77]
    assert found[1:4] == (1_700_000_000, 0x101, {"00" * 32: None})
    assert [found[4].workchain, found[5].workchain, found[6]] == [-1, 0, 1_700_000_000]


async def test_what_the_face_does_not_know_is_an_error_not_an_end(chain):
    async def work(client):
        for query in (client.raw_get_block, client.raw_get_block_header):
            with pytest.raises(LiteServerError) as refused:
                await query(client.last_mc_block)
            assert refused.value.code == -400
        with pytest.raises(LiteServerError) as refused:
            await client.lookup_block(-1, -(1 << 63), seqno=1)
        assert refused.value.code == 651
        return await client.get_time()

    async with served(chain) as port:
        assert await with_pytoniq(port, work)


async def test_pytoniq_follows_the_chain_block_by_block(chain):
    async def work(client):
        waiting = asyncio.create_task(
            client.wait_masterchain_seqno(5, 10_000, "getMasterchainInfo", {})
        )
        await asyncio.sleep(0)
        trio.from_thread.run_sync(chain.mine)
        trio.from_thread.run_sync(chain.mine)
        return (await waiting)["last"]["seqno"]

    async with served(chain) as port:
        assert await with_pytoniq(port, work) == 5


async def test_a_wait_ends_in_the_error_that_lite_servers_give(chain):
    async def work(client):
        with pytest.raises(LiteServerError) as refused:
            await client.wait_masterchain_seqno(99, 1, "getMasterchainInfo", {})
        with pytest.raises(LiteServerError):
            await client.wait_masterchain_seqno(99, -1, "getMasterchainInfo", {})
        return refused.value.code

    async with served(chain) as port:
        assert await with_pytoniq(port, work) == 652


async def test_tonutils_reads_accounts(chain):
    chain.live(ALICE, 20)

    async def life():
        client = OtherClient(
            NetworkGlobalID.TESTNET, ip="127.0.0.1", port=port, public_key=KEY.public
        )
        await client.connect()
        try:
            info = await client.get_info(WHERE.to_str())
            absent = await client.get_info(NOWHERE.to_str())
            past = await client.get_transactions(WHERE.to_str(), limit=20)
            return info, absent, past
        finally:
            await client.close()

    async with served(chain) as port:
        info, absent, past = await trio.to_thread.run_sync(asyncio.run, life())
    assert (info.balance, info.last_transaction_lt, info.state.value) == (1, 200, "active")
    assert absent.balance == 0
    assert [tx.lt for tx in past] == list(range(200, 0, -10))


async def test_a_chain_that_is_down_is_not_ready(chain):
    chain.refusal = Unreachable("stopped")

    async def work(client):
        with pytest.raises(LiteServerError) as refused:
            await client.raw_send_message(b"external")
        return refused.value.code

    async with served(chain) as port:
        assert await with_pytoniq(port, work) == 651


async def test_an_answer_beyond_a_frame_is_an_error(chain, monkeypatch):
    async def work(client):
        monkeypatch.setattr(tcp, "LARGEST_FRAME", 400)
        with pytest.raises(LiteServerError) as refused:
            await client.raw_get_account_state(WHERE)
        return refused.value.code

    async with served(chain) as port:
        assert await with_pytoniq(port, work) == -500


# -- clients that do not behave


async def test_a_handshake_for_another_key_is_hung_up_on(chain):
    async with served(chain) as port, Wire.open(port, Identity(bytes(32)), greet=False) as wire:
        await wire.stream.send_all(wire.crypto.handshake())
        assert await wire.closed()


async def test_a_client_without_a_handshake_is_hung_up_on_in_time(chain, monkeypatch):
    monkeypatch.setattr(face, "HELLO_TIME", 0.02)
    async with served(chain) as port, Wire.open(port, greet=False) as wire:
        await wire.stream.send_all(wire.crypto.handshake()[:255])
        assert await wire.closed()


async def test_a_client_that_falls_silent_is_hung_up_on_in_time(chain, monkeypatch):
    monkeypatch.setattr(face, "IDLE_TIME", 0.02)
    async with served(chain) as port, Wire.open(port) as wire:
        assert await wire.closed()


@pytest.mark.parametrize(
    "data", [bytes(4), (1 << 21).to_bytes(4, "little"), (64).to_bytes(4, "little") + bytes(64)]
)
async def test_a_frame_out_of_bounds_ends_that_connection_alone(chain, data):
    async with served(chain) as port, Wire.open(port) as good, Wire.open(port) as bad:
        await bad.send_raw(data)
        assert await bad.closed()
        await good.ask("getTime")
        assert (await good.answer())["answer"]["now"] == 1_700_000_000


async def test_a_payload_that_is_no_query_ends_the_connection(chain):
    async with served(chain) as port, Wire.open(port) as wire:
        await wire.send(b"\xff" * 40)
        assert await wire.closed()


async def test_queries_that_break_their_schema_are_answered_with_an_error(chain):
    async with served(chain) as port, Wire.open(port) as wire:
        for params in (b"no stack", bytes.fromhex("b5ee9c72") + bytes(40)):
            await wire.ask(
                "runSmcMethod", mode=4, id=BLOCK, account=ACCOUNT, method_id=1, params=params
            )
            assert (await wire.answer())["answer"]["code"] == -400
        await wire.ask("getTransactions", count=-1, account=ACCOUNT, lt=-1, hash="00" * 32)
        assert (await wire.answer())["answer"]["code"] == -400


async def test_pings_are_answered(chain):
    async with served(chain) as port, Wire.open(port) as wire:
        ping = wire.crypto.schemas.get_by_name("tcp.ping")
        await wire.send(wire.crypto.schemas.serialize(ping, {"random_id": 77}))
        await wire.send(b"")
        assert (await wire.answer())["random_id"] == 77


async def test_sixty_four_connections_and_no_more(chain, monkeypatch):
    monkeypatch.setattr(face, "MOST_CONNECTIONS", 4)  # the number is checked below
    async with served(chain) as port, Wire.open(port), Wire.open(port), Wire.open(port):
        async with Wire.open(port), Wire.open(port, greet=False) as late:
            assert await late.closed()
        with trio.fail_after(5):
            while not await greeted(port):
                await trio.lowlevel.checkpoint()


async def greeted(port):
    async with Wire.open(port, greet=False) as wire:
        try:
            await wire.stream.send_all(wire.crypto.handshake())
        except trio.BrokenResourceError:
            return False
        return await wire.receive() == b""


def test_limits_are_as_said():
    assert (face.MOST_CONNECTIONS, face.MOST_IN_FLIGHT, face.HELLO_TIME) == (64, 16, 10.0)


async def test_sixteen_queries_of_a_connection_run_at_once(chain):
    chain.let_go = trio.Event()
    async with served(chain) as port, Wire.open(port) as wire, Wire.open(port) as other:
        for _ in range(40):
            await wire.ask(
                "runSmcMethod", mode=4, id=BLOCK, account=ACCOUNT, method_id=1, params=b""
            )
        await chain.busy.wait()
        await other.ask("getTime")
        assert await other.answer()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert chain.running == face.MOST_IN_FLIGHT
        chain.let_go.set()
        numbers = {(await wire.answer())["query_id"] for _ in range(40)}
    assert len(numbers) == 40


async def test_a_client_that_does_not_read_is_hung_up_on(chain, monkeypatch):
    monkeypatch.setattr(face, "SEND_TIME", 0.02)
    data = begin_cell().end_cell()
    for number in range(900):
        data = begin_cell().store_uint(number, 1_000).store_ref(data).end_cell()
    chain.accounts[ALICE] = shard_account(ALICE, 1, data=data)
    async with served(chain) as port, Wire.open(port) as wire:
        with pytest.raises(trio.BrokenResourceError):  # noqa: PT012 - one of many sends fails
            while True:
                await wire.ask("getAccountState", id=BLOCK, account=ACCOUNT)
                await trio.lowlevel.checkpoint()


async def test_a_port_in_use_is_said(chain):
    async with served(chain) as port:
        with pytest.raises(OSError, match="in use"):
            await face.serve(chain, KEY, port)


async def test_it_listens_on_loopback_only(chain):
    async with served(chain) as port, Wire.open(port) as wire:
        assert wire.stream.socket.getpeername()[0] == "127.0.0.1"
