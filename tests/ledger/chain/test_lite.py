"""`LiteChain`: the same promises as every chain, and its own about servers that fail or lie."""

import threading
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio
import trio.testing

from ledger.chain import face, lite, lite_api
from ledger.chain.base import Head, NotAccepted
from ledger.chain.embedded import EmbeddedChain
from ledger.chain.lite import LiteChain, LiteServer
from ledger.chain.wallet import external
from ledger.money import Nano
from p2p.errors import Closed, RemoteError, Timeout, Unreachable
from p2p.identity import Identity
from tests.ledger.chain.clients import served
from tests.ledger.chain.conformance import CHECKS, World
from tests.ledger.chain.standin import (
    ALICE,
    KEY,
    NETWORK,
    NOBODY,
    StandIn,
    deep,
    refusal,
    shard_account,
)

EXTERNAL = external(ALICE, deep(0))


def server(port, key=KEY):
    return LiteServer(host="127.0.0.1", port=port, key=key.public)


@asynccontextmanager
async def lite_chain(*chains):
    """A LiteChain over one face for each chain."""
    async with AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(served(chain)) for chain in chains]
        opened = LiteChain.open([server(port) for port in ports], NETWORK, trust=2)
        yield await stack.enter_async_context(opened)


@pytest.fixture(scope="module")
def embedded():
    chain = EmbeddedChain.open(None)
    yield chain
    chain.close()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_conforms(check, embedded):
    async def fund(account, nano):
        await embedded.fund(account, nano)
        await embedded.mine()

    async with lite_chain(embedded) as chain:
        await check(World(chain, fund, embedded.mine))
    assert (await embedded.supply()).exact


async def test_it_says_what_the_chain_behind_the_face_says(embedded):
    await embedded.fund(ALICE, Nano(10**9))
    await embedded.mine()
    async with lite_chain(embedded) as chain:
        assert await chain.head() == await embedded.head()
        assert await chain.account(ALICE) == await embedded.account(ALICE)
        assert await chain.transactions(ALICE, 0) == await embedded.transactions(ALICE, 0)
        assert await chain.fees() == await embedded.fees()


async def test_a_long_past_is_read_page_by_page():
    source = StandIn()
    source.live(ALICE, 50)
    async with lite_chain(source) as chain:
        assert [tx.lt for tx in await chain.transactions(ALICE, 0)] == list(range(10, 501, 10))
        assert [tx.lt for tx in await chain.transactions(ALICE, 250, 3)] == [260, 270, 280]
        assert await chain.transactions(ALICE, 500) == []


# -- servers that fail


async def test_a_chain_opens_though_its_server_is_down_and_says_so_at_once():
    async with served(StandIn()) as port:
        pass
    async with LiteChain.open([server(port)], NETWORK, trust=2) as chain:
        with trio.fail_after(lite.CONNECT_TIME), pytest.raises(Unreachable):
            await chain.head()
        with pytest.raises(Unreachable):
            await chain.send(EXTERNAL)


async def test_it_connects_again_when_the_server_is_back():
    source = StandIn()
    async with AsyncExitStack() as stack:
        async with served(source) as port:
            opened = LiteChain.open([server(port)], NETWORK, trust=2)
            chain = await stack.enter_async_context(opened)
            await chain.head()
        with pytest.raises(Unreachable):
            await chain.head()
        with pytest.raises(Unreachable):
            await chain.account(ALICE)
        async with served(source, port=port):
            assert (await chain.account(ALICE)).balance == Nano(12_345)


async def test_a_server_with_another_key_is_unreachable():
    async with served(StandIn()) as port:
        stranger = server(port, Identity(bytes(32)))
        async with LiteChain.open([stranger], NETWORK, trust=2) as chain:
            with pytest.raises(Unreachable):
                await chain.head()


async def test_a_server_that_accepts_and_says_nothing_is_unreachable_in_time(monkeypatch):
    monkeypatch.setattr(lite, "CONNECT_TIME", 0.05)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        port = listener.socket.getsockname()[1]
        async with LiteChain.open([server(port)], NETWORK, trust=2) as chain:
            with trio.fail_after(5), pytest.raises(Unreachable):
                await chain.head()


async def test_a_query_without_an_answer_times_out_and_the_next_one_is_answered(monkeypatch):
    source = StandIn()
    source.let_go = trio.Event()
    async with lite_chain(source) as chain:
        await chain.head()
        with monkeypatch.context() as patch, trio.fail_after(5):
            patch.setattr(lite, "ANSWER_TIME", 0.05)
            with pytest.raises(Unreachable):
                await chain.run_get(ALICE, "seqno")
        source.let_go = None
        assert await chain.run_get(ALICE, "seqno") == (85_143,)


async def test_a_thread_that_is_stuck_keeps_nobody(monkeypatch):
    async with lite_chain(StandIn()) as chain:
        await chain.head()
        monkeypatch.setattr(lite, "CALL_TIME", 0.05)
        release = threading.Event()
        chain._portal._loop.call_soon_threadsafe(release.wait)
        try:
            with trio.fail_after(5), pytest.raises(Timeout):
                await chain.head()
        finally:
            release.set()


async def test_cancelling_a_call_leaves_the_chain_usable():
    source = StandIn()
    source.let_go = trio.Event()
    async with lite_chain(source) as chain:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(chain.run_get, ALICE, "seqno")
            await source.busy.wait()
            nursery.cancel_scope.cancel()
        source.let_go.set()
        for _ in range(3):
            assert await chain.run_get(ALICE, "seqno") == (85_143,)


async def test_calls_cancelled_at_any_moment_leave_the_chain_usable():
    async with lite_chain(StandIn()) as chain:
        for delay in range(20):
            with trio.move_on_after(delay * 0.000_3):
                await chain.account(ALICE)
        assert (await chain.account(ALICE)).balance == Nano(12_345)


async def test_many_calls_share_one_connection():
    async with lite_chain(StandIn()) as chain, trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(chain.account, ALICE)


async def test_a_closed_chain_says_so():
    async with lite_chain(StandIn()) as chain:
        await chain.head()
    with pytest.raises(Closed):
        await chain.head()


async def test_calls_under_way_end_when_the_chain_closes():
    source = StandIn()
    source.let_go = trio.Event()
    async with served(source) as port, trio.open_nursery() as nursery:
        async with LiteChain.open([server(port)], NETWORK, trust=2) as chain:
            ended = []

            async def call():
                with pytest.raises(Unreachable):
                    await chain.run_get(ALICE, "seqno")
                ended.append(True)

            nursery.start_soon(call)
            await source.busy.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert ended


async def test_a_wait_outlives_the_servers_own_limit(monkeypatch):
    monkeypatch.setattr(lite, "WAIT_TIME", 0.01)
    source = StandIn()
    async with lite_chain(source) as chain, trio.open_nursery() as nursery:
        reached = []

        async def wait():
            reached.append(await chain.wait(4))

        nursery.start_soon(wait)
        with trio.move_on_after(0.1):
            await chain.wait(99)
        assert not reached
        source.mine()
    assert reached[0].seqno == 4


async def test_a_refusal_tells_the_exit_code_of_the_contract():
    source = StandIn()
    source.refusal = refusal(33)
    async with lite_chain(source) as chain:
        with pytest.raises(NotAccepted) as refused:
            await chain.send(EXTERNAL)
        assert refused.value.exit_code == 33
        source.refusal = None
        assert len(await chain.send(EXTERNAL)) == 32


# -- servers of another network


@pytest.mark.parametrize(
    "call",
    [
        lambda chain: chain.head(),
        lambda chain: chain.wait(1),
        lambda chain: chain.account(ALICE),
        lambda chain: chain.run_get(ALICE, "seqno"),
        lambda chain: chain.transactions(ALICE, 0),
        lambda chain: chain.send(EXTERNAL),
        lambda chain: chain.fees(),
    ],
    ids=["head", "wait", "account", "run_get", "transactions", "send", "fees"],
)
async def test_a_server_of_another_network_is_neither_believed_nor_sent_anything(call):
    source = StandIn()
    source.network = -239
    async with lite_chain(source) as chain:
        for _ in range(2):
            with pytest.raises(
                RemoteError, match=r"127\.0\.0\.1:\d+ is of network -239, not -4242"
            ):
                await call(chain)
    assert source.sent == []


async def test_a_server_that_changed_its_network_is_found_out_when_it_is_back():
    source = StandIn()
    async with AsyncExitStack() as stack:
        async with served(source) as port:
            opened = LiteChain.open([server(port)], NETWORK, trust=2)
            chain = await stack.enter_async_context(opened)
            await chain.send(EXTERNAL)
        with pytest.raises(Unreachable):
            await chain.head()
        source.network = -239
        async with served(source, port=port):
            with pytest.raises(RemoteError, match="-239"):
                await chain.send(EXTERNAL)
    assert len(source.sent) == 1


async def test_one_server_of_three_may_be_of_another_network():
    stray = StandIn()
    stray.network = -239
    async with lite_chain(stray, StandIn(), StandIn()) as chain:
        assert (await chain.account(ALICE)).balance == Nano(12_345)
        await chain.send(EXTERNAL)
        await chain.fees()
    assert stray.sent == []


async def test_prices_are_read_once_a_minute(monkeypatch):
    source = StandIn()
    async with lite_chain(source) as chain:
        prices = await chain.fees()
        source.network = -239
        assert await chain.fees() == prices
        monkeypatch.setattr(chain, "_fees_until", 0.0)
        with pytest.raises(RemoteError):
            await chain.fees()


async def test_a_server_that_proves_nothing_is_not_believed_at_trust_level_1():
    async with (
        served(StandIn()) as port,
        LiteChain.open([server(port)], NETWORK, trust=1) as chain,
    ):
        with pytest.raises(Unreachable):
            await chain.account(ALICE)


# -- servers that lie


def liar(nano=999):
    chain = StandIn()
    chain.accounts[ALICE] = shard_account(ALICE, nano)
    return chain


@pytest.mark.parametrize(
    ("question", "call"),
    [
        ("GetConfig", lambda chain: chain.fees()),
        ("RunMethod", lambda chain: chain.run_get(ALICE, "seqno")),
        ("GetTransactions", lambda chain: chain.transactions(ALICE, 0)),
        ("GetAccountState", lambda chain: chain.account(ALICE)),
    ],
)
async def test_an_answer_to_another_question_is_the_servers_fault(question, call, monkeypatch):
    answer = face._Answers._to

    async def confused(self, asked, head):
        if type(asked).__name__ == question:
            return lite_api.current_time(5)
        return await answer(self, asked, head)

    monkeypatch.setattr(face._Answers, "_to", confused)
    async with lite_chain(StandIn()) as chain:
        with pytest.raises(RemoteError):
            await call(chain)


async def test_one_liar_of_three_is_outvoted():
    for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        chains = [StandIn(), StandIn(), liar()]
        async with lite_chain(*(chains[place] for place in order)) as chain:
            assert (await chain.account(ALICE)).balance == Nano(12_345)


async def test_two_servers_that_disagree_are_not_believed():
    async with lite_chain(StandIn(), liar()) as chain:
        with pytest.raises(RemoteError, match="disagree"):
            await chain.account(ALICE)


async def test_an_absent_account_takes_two_words_too():
    forgetful = StandIn()
    forgetful.accounts.clear()
    async with lite_chain(StandIn(), StandIn(), forgetful) as chain:
        assert (await chain.account(ALICE)).balance == Nano(12_345)
        assert await chain.account(NOBODY) is None


async def test_one_dead_server_of_three_delays_nobody():
    async with served(StandIn()) as gone:
        pass
    async with served(StandIn()) as one, served(StandIn()) as two:
        servers = [server(gone), server(one), server(two)]
        async with LiteChain.open(servers, NETWORK, trust=2) as chain:
            with trio.fail_after(3):
                assert (await chain.account(ALICE)).balance == Nano(12_345)


async def test_one_server_of_two_is_not_enough():
    async with served(StandIn()) as gone:
        pass
    async with served(StandIn()) as one:
        servers = [server(gone), server(one)]
        async with LiteChain.open(servers, NETWORK, trust=2) as chain:
            with pytest.raises(Unreachable):
                await chain.account(ALICE)


async def test_a_fourth_server_stands_in_for_one_that_failed():
    chains = [StandIn(), StandIn(), StandIn()]
    async with served(StandIn()) as gone:
        pass
    async with AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(served(one)) for one in chains]
        servers = [server(gone), *map(server, ports)]
        chain = await stack.enter_async_context(LiteChain.open(servers, NETWORK, trust=2))
        for _ in range(3):
            await chain.head()
        asked = [found._server.port for found in chain._servers._asked()]
        assert sorted(asked) == sorted(ports)


async def test_a_server_that_is_ahead_alone_is_not_followed():
    ahead = StandIn()
    ahead.newest = Head(seqno=1_000, time=1_700_000_000, lt=3_000_000)
    async with lite_chain(StandIn(), StandIn(), ahead) as chain:
        assert (await chain.head()).seqno == 3


async def test_an_external_that_one_server_takes_is_sent():
    deaf = StandIn()
    deaf.refusal = refusal(None)
    other = StandIn()
    async with lite_chain(deaf, other) as chain:
        await chain.send(EXTERNAL)
    assert other.sent == [EXTERNAL]


@pytest.mark.parametrize("trust", [0, 3])
async def test_a_trust_level_that_is_none_is_a_mistake(trust):
    with pytest.raises(ValueError, match="trust"):
        async with LiteChain.open([server(1)], NETWORK, trust=trust):
            pass
    with pytest.raises(ValueError, match="server"):
        async with LiteChain.open([], NETWORK):
            pass
