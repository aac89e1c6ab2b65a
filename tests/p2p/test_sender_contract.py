"""What the network promises to who names peers by id alone: over links in memory, UDP and libp2p.

Each node is whole; only its upper core is a stand-in. In memory time is virtual.
"""

from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count

import pytest
import trio
import trio.testing

from p2p.adnl.address import address_list
from p2p.entropy import seeded
from p2p.errors import AnswerTooBig, Closed, LocalError, RemoteError, Timeout, Unreachable
from p2p.identity import Identity
from p2p.node import NodeConfig, open_node, over_libp2p
from p2p.sender import MAX_ANSWER, MAX_DATAGRAM_PAYLOAD, MAX_QUESTION
from p2p.store import NodeStore
from p2p.transport.memory import Ether, MemoryCarrier
from p2p.wire import Endpoint

NETWORK = 88
LOOPBACK = Endpoint("127.0.0.1", 0)
MARK = b"\xffour"
"""How payloads for the stand-in begin; no constructor of TL that a node reads has this id."""

PATIENCE = 20.0
"""seconds until a wait is a failure: far more than a loaded machine needs"""

SHORT = 0.3
"""seconds that a query waits which nobody answers"""

KEPT = {"adnl_alarms", "adnl_proven", "adnl_strangers", "adnl_channels", "adnl_places"}
"""What is known of a peer, whether or not a query of it is under way; bounded by other tests."""


class Upper:
    """A core that remembers what it is told, and answers by a function."""

    def __init__(self):
        self.heard = []
        self.asked = []
        self.answer = lambda payload: payload
        self._stirred = trio.Event()

    def message(self, now, peer, payload):
        self.heard.append((peer, payload))
        self.stir()

    def query(self, now, peer, payload):
        self.asked.append((peer, payload))
        self.stir()
        return self.answer(payload)

    def stir(self):
        stirred, self._stirred = self._stirred, trio.Event()
        stirred.set()

    async def until(self, is_so):
        """Wait until something that comes, or a link that comes or goes, makes it so."""
        with trio.fail_after(PATIENCE):
            while not is_so():
                await self._stirred.wait()

    async def messages(self, amount):
        await self.until(lambda: len(self.heard) >= amount)
        return self.heard


class Party:
    """A running node as its upper core sees it."""

    def __init__(self, node):
        self.node = node
        self.id = node.id
        self.upper = Upper()
        self._do("subscribe", lambda sending: sending.subscribe(self.upper, MARK))
        self._watch("link_up")
        self._watch("link_down")

    def _watch(self, name):
        told = getattr(self.node._inside, name)

        def tell(*what):
            told(*what)
            self.node._driver.post("stir", lambda *_: self.upper.stir())

        setattr(self.node._inside, name, tell)

    def _do(self, name, fn):
        return self.node._driver.call(name, lambda core, now: fn(core._sending))

    def send(self, peer, payload):
        self._do("send", lambda sending: sending.send(peer.id, payload))

    def learn(self, peer):
        addresses = address_list(peer.node.udp, 0)
        self._do("learn", lambda sending: sending.learn(peer.node.public, addresses))

    async def ask(self, peer, payload=MARK, *, patience=PATIENCE, **limits):
        return await self.node.run(
            "ask",
            lambda core: core._sending.query(peer.id, payload, timeout=patience, **limits),
        )

    def sizes(self):
        sizes = self.node.statistics().sizes
        return {name: size for name, size in sizes.items() if name not in KEPT}

    def linked(self, peer):
        return peer.id in self.node.acquaintances().links


class Net:
    """Nodes of one kind: how they are made, and how one finds another."""

    def __init__(self, nursery, way, stores):
        self.way = way
        self._nursery = nursery
        self._open = stores
        self._stores = {}
        self._lives = count()
        self._scopes = {}
        ether = Ether()
        self._carrier = over_libp2p if way == "libp2p" else partial(in_memory, ether)

    async def node(self, number):
        """A node that nobody knows, and that knows nobody; the same number is the same identity."""
        if number not in self._stores:
            self._stores[number] = self._open.enter_context(NodeStore.open(None))
        config = NodeConfig(
            identity=Identity(number.to_bytes(32, "little")),
            network=NETWORK,
            dev=True,
            listen=None if self.way == "udp" else LOOPBACK,
            udp=(LOOPBACK,) if self.way == "udp" else (),
            entropy=seeded(next(self._lives)),
            store=self._stores[number],
        )
        return Party(await self._nursery.start(self._run, config))

    async def _run(self, config, task_status):
        with trio.CancelScope() as self._scopes[config.identity.id]:
            async with open_node(config, carrier=self._carrier) as node:
                task_status.started(node)
                await trio.sleep_forever()

    async def kill(self, party):
        """End a node as a crash would."""
        self._scopes[party.id].cancel()
        await trio.testing.wait_all_tasks_blocked()

    async def join(self, here, there):
        """Let `here` know where `there` is, and speak to it."""
        if self.way == "udp":
            here.learn(there)
        else:
            here.node._carrier.dial(there.id, [there.node.endpoint])
            await here.upper.until(lambda: here.linked(there))
        here.send(there, MARK + b"hello")
        await there.upper.messages(1)
        there.upper.heard.clear()

    async def pair(self):
        """Two nodes that have spoken."""
        here, there = await self.node(1), await self.node(2)
        await self.join(here, there)
        assert await there.ask(here) == await here.ask(there) == MARK
        return here, there


def in_memory(ether, config):
    return MemoryCarrier(
        config.identity,
        network=config.network,
        listen=config.listen,
        entropy=config.entropy,
        ether=ether,
    )


@pytest.fixture(params=["memory", "udp", "libp2p"])
def way(request):
    return request.param


@pytest.fixture
def clock(way):
    """Virtual where nothing is real."""
    return trio.testing.MockClock(autojump_threshold=0) if way == "memory" else None


@pytest.fixture
async def net(way):
    with ExitStack() as stores:
        async with trio.open_nursery() as nursery:
            yield Net(nursery, way, stores)
            nursery.cancel_scope.cancel()


@contextmanager
def leaves_nothing(party):
    before = party.sizes()
    yield
    assert party.sizes() == before


# --- messages ---


async def test_messages_arrive_once_and_in_order_both_ways(net, clock):
    here, there = await net.pair()
    sent = [MARK + number.to_bytes(2, "big") * (number % 50) for number in range(200)]
    for payload in sent:
        here.send(there, payload)
        there.send(here, payload)
    assert await there.upper.messages(200) == [(here.id, payload) for payload in sent]
    assert await here.upper.messages(200) == [(there.id, payload) for payload in sent]


async def test_messages_of_every_size_arrive_whole(net, clock):
    here, there = await net.pair()
    for size in (4, 5, 767, 1_024, MAX_DATAGRAM_PAYLOAD, MAX_DATAGRAM_PAYLOAD + 1, MAX_QUESTION):
        payload = MARK + seeded(size).token(size - len(MARK))
        here.send(there, payload)
        assert await there.upper.messages(1) == [(here.id, payload)]
        there.upper.heard.clear()


async def test_a_payload_that_nobody_reads_harms_nobody(net, clock):
    here, there = await net.pair()
    for payload in (b"", MARK[:3]):  # over a link a third is a reason to close it
        here.send(there, payload)
    here.send(there, MARK)
    assert await there.upper.messages(1) == [(here.id, MARK)]


async def test_what_no_way_carries_is_refused_at_once(net, clock):
    here, there = await net.pair()
    payload = MARK + bytes(MAX_QUESTION - len(MARK) + 1)
    with leaves_nothing(here):
        with pytest.raises(LocalError):
            here.send(there, payload)
        with pytest.raises(LocalError):
            await here.ask(there, payload)
    assert there.upper.asked == [(here.id, MARK)]


# --- queries ---


@pytest.mark.parametrize(
    "size", [0, 1, 1_024, MAX_DATAGRAM_PAYLOAD, MAX_DATAGRAM_PAYLOAD + 1, MAX_QUESTION, MAX_ANSWER]
)
async def test_answers_of_every_size_arrive_whole(net, clock, size):
    here, there = await net.pair()
    answer = seeded(size).token(size)
    there.upper.answer = lambda payload: answer
    asked = MARK + answer[: MAX_QUESTION - len(MARK)]
    assert await here.ask(there, asked, max_answer=max(size, MAX_DATAGRAM_PAYLOAD)) == answer
    assert there.upper.asked[-1] == (here.id, asked)


async def test_each_query_gets_its_own_answer(net, clock):
    here, there = await net.pair()
    answers = {}

    async def one(asker, asked, payload):
        answers[asker.id, payload] = await asker.ask(asked, payload, max_answer=len(payload))

    async with trio.open_nursery() as nursery:
        for number in range(20):
            payload = MARK + bytes([number]) * (number * 600)
            nursery.start_soon(one, here, there, payload)
            nursery.start_soon(one, there, here, payload)
    assert len(answers) == 40
    assert all(answer == payload for (_, payload), answer in answers.items())


@pytest.mark.parametrize("most", [0, 1_000])
async def test_an_answer_of_more_than_was_asked_for_is_an_error(net, clock, most):
    here, there = await net.pair()
    there.upper.answer = lambda payload: bytes(most + 1)
    with leaves_nothing(here), pytest.raises(AnswerTooBig) as caught:
        await here.ask(there, max_answer=most)
    assert isinstance(caught.value, RemoteError)


@pytest.mark.parametrize("most", [MAX_DATAGRAM_PAYLOAD, 50_000, MAX_ANSWER])
async def test_a_long_answer_of_more_than_was_asked_for_is_an_error(net, clock, most):
    here, there = await net.pair()
    there.upper.answer = lambda payload: bytes(most + 1)
    with pytest.raises((AnswerTooBig, Timeout)):
        await here.ask(there, max_answer=most, patience=SHORT)


async def test_silence_is_a_timeout_when_it_is_time(net, clock):
    here, there = await net.pair()
    there.upper.answer = lambda payload: None
    began = trio.current_time()
    with leaves_nothing(here), pytest.raises(Timeout) as caught:
        await here.ask(there, patience=SHORT)
    assert isinstance(caught.value, Unreachable)
    assert trio.current_time() - began >= SHORT


async def test_a_peer_that_nobody_knows_is_unreachable(net, clock):
    here, stranger = await net.node(1), await net.node(2)
    with leaves_nothing(here):
        here.send(stranger, MARK)
        with pytest.raises(Unreachable):
            await here.ask(stranger)
    assert not stranger.upper.heard


async def test_one_peer_is_not_taken_for_another(net, clock):
    here, there = await net.pair()
    third = await net.node(3)
    await net.join(third, here)
    there.upper.answer, third.upper.answer = (lambda _: b"there"), (lambda _: b"third")
    assert (await here.ask(there), await here.ask(third)) == (b"there", b"third")
    assert {asked for asked, _ in there.upper.asked + third.upper.asked} == {here.id}


# --- a query is given up ---


@pytest.mark.parametrize("most", [MAX_DATAGRAM_PAYLOAD, MAX_DATAGRAM_PAYLOAD + 1])
async def test_a_query_cancelled_at_any_await_leaves_nothing_behind(net, clock, most):
    here, there = await net.pair()
    await here.ask(there, max_answer=most)
    before, moments = here.sizes(), 0
    while not await answered_within(here, there, most, moments):
        settled = {name: size for name, size in here.sizes().items() if not is_memory(name)}
        assert settled == {name: before[name] for name in settled}
        moments += 1
    assert moments > 1
    assert await here.ask(there, max_answer=most) == MARK


async def answered_within(here, there, most, moments):
    """Whether the answer came before so many turns of the scheduler, after which it is given up."""
    answers = []

    async def ask():
        answers.append(await here.ask(there, max_answer=most))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        for _ in range(moments):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    return bool(answers)


def is_memory(name):
    """Of transfers that are over, which are kept a while, and of who sent them."""
    return name in {"rldp_done", "rldp_timers", "rldp_incoming_peers", "adnl_queued"}


# --- a peer dies, and comes back ---


async def test_a_peer_that_dies_is_unreachable(net, clock):
    here, there = await net.pair()
    there.upper.answer = lambda payload: None
    silent, gone = (SHORT, Timeout) if net.way == "udp" else (PATIENCE, Closed)
    outcomes = []

    async def ask():
        with pytest.raises(Unreachable) as caught:
            await here.ask(there, patience=silent)
        outcomes.append(type(caught.value))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await there.upper.until(lambda: len(there.upper.asked) == 2)
        await net.kill(there)
    assert outcomes == [gone]
    here.send(there, MARK)
    with leaves_nothing(here), pytest.raises(Unreachable):
        await here.ask(there, patience=SHORT)


async def test_a_peer_that_returns_elsewhere_is_reached_there_once_it_has_spoken(net, clock):
    here, there = await net.pair()
    await net.kill(there)
    await here.upper.until(lambda: not here.linked(there))
    with pytest.raises(Unreachable):
        await here.ask(there, patience=SHORT)

    back = await net.node(2)
    assert back.id == there.id
    assert (back.node.endpoint, back.node.udp) != (there.node.endpoint, there.node.udp)
    await net.join(back, here)
    assert await here.ask(back, MARK + b"again") == MARK + b"again"
    here.send(back, MARK + b"welcome")
    assert await back.upper.messages(1) == [(here.id, MARK + b"welcome")]
    assert await back.ask(here) == MARK
