"""A node on trio: over memory in virtual time, and once over libp2p on loopback."""

from contextlib import asynccontextmanager
from dataclasses import FrozenInstanceError, replace

import pytest
import structlog
import trio

from p2p import codec, wire
from p2p import node as node_module
from p2p.adnl.address import endpoints
from p2p.dht import records
from p2p.drive import SystemClock
from p2p.entropy import seeded
from p2p.errors import LocalError, NoCapacity, NoPath, Rejected, Timeout, Unreachable
from p2p.identity import Identity, short_id
from p2p.node import NodeConfig, open_node
from p2p.onion.cell import Code
from p2p.onion.core import Data, Ended, Failed, Lost, Opened, Pong, Reset
from p2p.overlay import advert as adverts
from p2p.overlay.advert import Evidence, Fields, Role
from p2p.stack import Contradiction, Peer, Split, Stack
from p2p.store import Kept, NodeStore
from p2p.tl import parse
from p2p.ton import DhtNode
from p2p.transport.memory import Ether, MemoryCarrier
from p2p.wire import Endpoint, Kind, Message

NETWORK = 77
LOOPBACK = Endpoint("127.0.0.1", 0)
RELAY = Fields(roles=Role.RELAY)
WORKER = Fields(roles=Role.WORKER)
NOBODY = Role(0)
EPOCHS = 25.0
"""seconds in which what is said is listed everywhere in a dev network: two epochs and more"""
NOWHERE = (Peer(Identity(b"n" * 32).public, (Endpoint("127.0.0.1", 1),)),)


def identity(number):
    return Identity(number.to_bytes(32, "little"))


class Network:
    """Nodes that come up by number, each in a task; `first` is the bootstrap node of the others."""

    def __init__(self, nursery, **carrier):
        self.nursery = nursery
        self.first = ()
        self._carrier = carrier
        self._scopes = {}

    async def up(self, number, roles=NOBODY, **changes):
        settings = {
            "identity": identity(number),
            "network": NETWORK,
            "dev": True,
            "roles": roles,
            "bootstrap": self.first,
            "listen": LOOPBACK if roles else None,
            "entropy": seeded(number),
            **changes,
        }
        node = await self.nursery.start(self._run, NodeConfig(**settings))
        if not self.first and node.endpoint:
            self.first = (Peer(node.public, (node.endpoint,)),)
        return node

    def down(self, node):
        self._scopes[node.id].cancel()

    async def _run(self, config, task_status):
        with trio.CancelScope() as self._scopes[config.identity.id]:
            async with open_node(config, **self._carrier) as node:
                task_status.started(node)
                await trio.sleep_forever()

    async def village(self):
        """Four relays, a worker and a client that know each other."""
        relays = [await self.up(number, Role.RELAY) for number in (1, 2, 3, 4)]
        worker, client = await self.up(5, Role.WORKER), await self.up(6)
        for relay in relays:
            self.nursery.start_soon(relay.publish, RELAY)
        self.nursery.start_soon(worker.publish, WORKER)
        for node in [*relays, worker, client]:
            await sees(node, 5)
        return relays, worker, client


@asynccontextmanager
async def networks(**carrier):
    async with trio.open_nursery() as nursery:
        yield Network(nursery, **carrier)
        nursery.cancel_scope.cancel()


@pytest.fixture
def ether():
    return Ether()


@pytest.fixture
def in_memory(ether):
    def carrier(config):
        return MemoryCarrier(
            config.identity,
            network=config.network,
            listen=config.listen,
            entropy=config.entropy,
            ether=ether,
            tap=config.tap,
        )

    return carrier


@pytest.fixture
async def net(in_memory):
    async with networks(carrier=in_memory) as network:
        yield network


async def sees(node, count):
    while node.directory.status().count != count:
        await node.directory_changed()


async def echo(worker):
    """An endpoint that says back what it hears, in two pieces."""
    incoming = await worker.incoming.receive()
    worker.accept(incoming, b"offer to " + incoming.request)
    heard = bytearray()
    async for event in worker.events(incoming.circuit):
        if isinstance(event, Data):
            heard += event.data
        if isinstance(event, Ended):
            worker.send(incoming.circuit, event.stream, bytes(heard[:5]))
            worker.send(incoming.circuit, event.stream, bytes(heard[5:]))
            worker.end(incoming.circuit, event.stream)


TRIES = 3


async def opened(client, worker, request=b"please", relays=3):
    """An open circuit, and its further events; a busy machine may take more than one try."""
    for _ in range(TRIES):
        circuit = client.open(client.path(worker.id, relays), request)
        events = client.events(circuit)
        event = await events.receive()
        if isinstance(event, Opened):
            return circuit, events
        assert event.status is Code.UNREACHABLE, event
    raise AssertionError(event)


async def accepted(worker):
    """A circuit at the worker's end, and its events."""
    incoming = await worker.incoming.receive()
    worker.accept(incoming, b"")
    return incoming.circuit, worker.events(incoming.circuit)


async def both_ends(net, client, worker):
    """One circuit: (client's number, client's events, worker's number, worker's events)."""
    ends = []

    async def serve():
        ends.extend(await accepted(worker))

    net.nursery.start_soon(serve)
    return (*await opened(client, worker), *ends)


async def ask(client, worker, text):
    circuit, events = await opened(client, worker)
    client.send(circuit, 1, text)
    client.end(circuit, 1)
    answer = bytearray()
    async for event in events:
        if isinstance(event, Ended):
            break
        answer += event.data
    client.close(circuit)
    return bytes(answer)


# --- the proof ---


async def test_an_answer_comes_back_through_three_relays_over_libp2p():
    """The first proof of the network: separate processes would differ in their number only."""
    text = bytes(range(256)) * 40
    with trio.fail_after(30):
        async with networks() as net:
            _, worker, client = await net.village()
            for _ in range(TRIES):  # one that came too late for the client may have come here
                net.nursery.start_soon(echo, worker)
            assert await ask(client, worker, text) == text


async def test_nodes_find_each_other_and_what_they_say_over_udp(tmp_path):
    with trio.fail_after(30):
        async with networks() as net:
            first = await net.up(1, Role.RELAY, udp=(LOOPBACK,), listen=LOOPBACK)
            net.first = (Peer(first.public, first.udp),)
            with NodeStore.open(tmp_path / "network.db") as store:
                relay = await net.up(2, Role.RELAY, udp=(LOOPBACK,), store=store)
                client = await net.up(3, udp=(LOOPBACK,))
                key = records.address_key(relay.id)
                found = None
                while found is None:
                    found = await first.run("find", lambda core: core.dht.find_value(key))
                assert endpoints(records.read_address(found), 0.0) == relay.udp
                assert await client.run("nobody", lambda core: core.dht.find_value(key)) is None
                relay.keep()
                kept = store.load()
    assert [short_id(parse(DhtNode, node, boxed=False).id.key) for node in kept.nodes] == [first.id]


async def test_no_seq_is_used_by_two_starts_of_a_second(net, autojump_clock, tmp_path, monkeypatch):
    monkeypatch.setattr("p2p.node.SystemClock", lambda: SystemClock(wall=lambda: 1_800_000_000.0))
    seqs = []
    for fields in (RELAY, replace(RELAY, life=1_000)):
        with NodeStore.open(tmp_path / "network.db") as store:
            node = await net.up(1, Role.RELAY, store=store)
            await node.publish(fields)
            await node.publish(fields)
            seqs.append(node.directory.newest(node.id).seq)
            net.down(node)
            store.save(Kept())  # nothing of its own to be warned by
            await trio.testing.wait_all_tasks_blocked()
    assert seqs[0] < seqs[1] - 1


async def test_an_answer_comes_back_through_three_relays_in_memory(net, autojump_clock):
    text = bytes(range(256)) * 4_000
    _, worker, client = await net.village()
    net.nursery.start_soon(echo, worker)
    assert await ask(client, worker, text) == text


async def test_parallel_circuits_do_not_mix(net, autojump_clock):
    _, worker, client = await net.village()
    answers = {}

    async def one(text):
        answers[text] = await ask(client, worker, text)

    async with trio.open_nursery() as nursery:
        for number in range(8):
            net.nursery.start_soon(echo, worker)
            nursery.start_soon(one, bytes([number]) * 5_000)
    assert all(text == answer for text, answer in answers.items())
    assert len(answers) == 8


# --- who is there ---


async def test_a_node_joins_once_its_bootstrap_node_is_there(net, in_memory, autojump_clock):
    there = Endpoint("127.0.0.1", 4001)
    first = (Peer(identity(1).public, (there,)),)
    client = await net.up(6, bootstrap=first)
    with trio.move_on_after(10) as scope:
        await client.joined()
    assert scope.cancelled_caught
    await net.up(1, Role.RELAY, bootstrap=first, listen=there)
    with trio.fail_after(EPOCHS):
        await client.joined()
        await client.joined()


async def test_publishing_returns_once_a_server_agreed(net, autojump_clock):
    first = await net.up(1, Role.RELAY)
    second = await net.up(2, Role.RELAY)
    with trio.fail_after(EPOCHS):
        await second.publish(RELAY)
        assert first.directory.newest(second.id) is not None
        await sees(first, 1)
        await second.publish(RELAY)
        await second.withdraw()
    with trio.fail_after(EPOCHS):
        await sees(first, 0)


async def test_withdrawing_what_was_never_said_is_done_at_once(net, autojump_clock):
    client = await net.up(6)
    with trio.fail_after(1):
        await client.withdraw()


async def test_what_nobody_would_take_is_the_callers_error(net, autojump_clock):
    client = await net.up(6)
    with pytest.raises(ValueError, match="no way to reach it"):
        await client.publish(WORKER)


async def test_no_relays_is_no_path(net, autojump_clock):
    client = await net.up(6)
    with pytest.raises(NoPath):
        client.path(identity(5).id)


@pytest.mark.parametrize(
    ("settings", "bound", "addresses"),
    [
        ({}, None, ()),
        ({}, Endpoint("127.0.0.1", 5), (Endpoint("127.0.0.1", 5),)),
        ({}, Endpoint("0.0.0.0", 5), ()),
        ({"dev": False}, Endpoint("127.0.0.1", 5), ()),
        ({"dev": False}, Endpoint("8.8.4.4", 5), (Endpoint("8.8.4.4", 5),)),
        (
            {"announce": (Endpoint("8.8.4.4", 7),)},
            Endpoint("0.0.0.0", 5),
            (Endpoint("8.8.4.4", 7),),
        ),
        (
            {"announce": (Endpoint("8.8.4.4", 0),)},
            Endpoint("0.0.0.0", 5),
            (Endpoint("8.8.4.4", 5),),
        ),
    ],
)
def test_a_node_says_that_it_can_be_dialled_only_where_it_can(settings, bound, addresses):
    config = NodeConfig(**{"identity": identity(1), "network": 1, "dev": True, **settings})
    assert node_module._dialable(config, bound) == addresses


async def test_an_open_network_makes_the_node_work_for_its_listing(
    net, monkeypatch, autojump_clock
):
    monkeypatch.setattr(adverts, "solve", lambda public, day: bytes(8))
    monkeypatch.setattr(adverts, "is_work", lambda public, day, nonce: nonce == bytes(8))
    public = (Endpoint("8.8.4.4", 4001),)
    relay = await net.up(1, Role.RELAY, dev=False, announce=public)
    await relay.publish(RELAY)
    assert relay.directory.newest(relay.id).fields.work == bytes(8)


# --- circuits ---


async def test_a_refusal_reaches_the_asker_with_its_reason(net, autojump_clock):
    _, worker, client = await net.village()
    circuit = client.open(client.path(worker.id), b"please")
    worker.refuse(await worker.incoming.receive(), b"too hot")
    (failed,) = [event async for event in client.events(circuit)]
    assert isinstance(failed, Failed)
    assert (failed.status, failed.reason) == (Code.REFUSED, b"too hot")
    assert worker.statistics().unread == client.statistics().unread == 0


async def test_nobody_who_answers_is_a_refusal_in_time(net, autojump_clock):
    _, worker, client = await net.village()
    circuit = client.open(client.path(worker.id), b"please")
    with trio.fail_after(11):
        (failed,) = [event async for event in client.events(circuit)]
    assert isinstance(failed, Failed)


async def test_more_circuits_than_wait_are_refused_at_once(net, monkeypatch, autojump_clock):
    monkeypatch.setattr(node_module, "INCOMING", 1)
    _, worker, client = await net.village()
    heard = []

    async def first_event():
        circuit = client.open(client.path(worker.id), b"")
        heard.append(await client.events(circuit).receive())

    for _ in range(3):
        net.nursery.start_soon(first_event)
    await trio.sleep(5)
    assert [event.status for event in heard] == [Code.REFUSED] * 2
    assert worker.statistics().unread == 1


async def test_closing_ends_both_channels(net, autojump_clock):
    _, worker, client = await net.village()
    circuit, events, _, far_events = await both_ends(net, client, worker)
    client.close(circuit)
    assert [event async for event in events] == []
    assert [type(event) async for event in far_events] == [Lost]
    client.close(circuit)


async def test_a_dead_worker_is_a_lost_circuit(net, in_memory, autojump_clock):
    _, worker, client = await net.village()
    circuit, events, *_ = await both_ends(net, client, worker)
    net.down(worker)
    with trio.fail_after(5):
        assert [type(event) async for event in events] == [Lost]
    assert client.writable(circuit) == 0


async def test_resets_and_pings_pass(net, autojump_clock):
    _, worker, client = await net.village()
    circuit, events, far, far_events = await both_ends(net, client, worker)
    client.ping(circuit)
    assert await events.receive() == Pong(circuit)
    client.send(circuit, 1, b"x")
    client.reset(circuit, 1, 9)
    heard = [await far_events.receive()]
    while not isinstance(heard[-1], Reset):
        heard.append(await far_events.receive())
    assert heard[-1] == Reset(far, 1, 9)


async def test_what_can_be_sent_is_bounded_and_grows_again(net, autojump_clock):
    _, worker, client = await net.village()
    circuit, _, _, far_events = await both_ends(net, client, worker)
    room = client.writable(circuit)
    client.send(circuit, 1, bytes(room))
    assert client.writable(circuit) < room
    with pytest.raises(LocalError):
        client.send(circuit, 1, bytes(room))
    heard = 0
    while heard < room:
        heard += len((await far_events.receive()).data)
    assert client.writable(circuit) > room // 2


async def test_who_does_not_read_loses_the_circuit(net, monkeypatch, autojump_clock):
    monkeypatch.setattr(node_module, "EVENTS", 5)
    _, worker, client = await net.village()
    circuit, events, _, far_events = await both_ends(net, client, worker)
    client.send(circuit, 1, bytes(100_000))
    (lost,) = [event async for event in events]
    assert isinstance(lost, Lost)
    unread = [event async for event in far_events]
    assert [type(event) for event in unread] == [Data] * 5 + [Lost]


async def test_who_stops_reading_closes_the_circuit(net, autojump_clock):
    _, worker, client = await net.village()
    circuit, events, _, far_events = await both_ends(net, client, worker)
    far_events.close()
    client.send(circuit, 1, b"anybody there?")
    assert [type(event) async for event in events] == [Lost]
    assert worker.statistics().unread == 0


async def test_events_are_given_to_one_reader(net, autojump_clock):
    _, worker, client = await net.village()
    circuit, _ = (await both_ends(net, client, worker))[:2]
    with pytest.raises(KeyError):
        client.events(circuit)
    with pytest.raises(KeyError):
        client.events(12345)


# --- calls ---

ASK, TELL = codec.pack({"t": "ask"}), codec.pack({"t": "tell"})


async def shop(node, seconds=0.0):
    """Answers every query with its own body and a word of thanks."""
    async for query in node.queries:
        await trio.sleep(seconds)
        heard = codec.unpack(query.body, 16_384)
        node.answer(query, codec.pack({**heard, "thanks": query.peer}))


async def asked(client, shop_id, number=0):
    answer = await client.query(shop_id, codec.pack({"number": number, "x": bytes(8_000)}))
    return codec.unpack(answer, 16_384)


async def test_a_call_is_answered_over_libp2p():
    with trio.fail_after(30):
        async with networks() as net:
            relay, client = await net.up(1, Role.RELAY), await net.up(6)
            await client.joined()
            net.nursery.start_soon(shop, relay)
            for number in range(3):
                answer = await asked(client, relay.id, number)
                assert (answer["number"], answer["thanks"]) == (number, client.id)
            with pytest.raises(Unreachable):
                await client.query(identity(50).id, ASK)
            net.nursery.start_soon(shop, client)
            assert (await asked(relay, client.id))["thanks"] == relay.id


async def test_calls_in_parallel_each_get_their_own_answer(net, autojump_clock):
    _, worker, client = await net.village()
    for _ in range(4):
        net.nursery.start_soon(shop, worker, 0.1)
    answers = {}

    async def one(number):
        answers[number] = (await asked(client, worker.id, number))["number"]

    async with trio.open_nursery() as nursery:
        for number in range(60):
            nursery.start_soon(one, number)
    assert answers == {number: number for number in range(60)}
    assert client.statistics().sizes["calls_asked"] == len(client._inside.replies) == 0


async def test_a_node_that_reads_no_queries_refuses_once_its_queue_is_full(
    net, monkeypatch, autojump_clock
):
    monkeypatch.setattr(node_module, "QUERIES", 2)
    _, worker, client = await net.village()
    outcomes = []

    async def one():
        start = trio.current_time()
        with pytest.raises((Timeout, Rejected)) as caught:
            await client.query(worker.id, ASK)
        outcomes.append((caught.type, trio.current_time() - start < 9))

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(one)
    assert outcomes == [(Rejected, True)] * 2 + [(Timeout, False)] * 2
    worker.queries.close()
    with trio.fail_after(1), pytest.raises(Rejected):
        await client.query(worker.id, ASK)


async def test_a_call_that_is_cancelled_is_forgotten(net, autojump_clock):
    _, worker, client = await net.village()
    with trio.move_on_after(1):
        await client.query(worker.id, ASK)
    sizes = client.statistics().sizes
    assert sizes["calls_asked"] == sizes["calls_lines"] == len(client._inside.replies) == 0
    worker.answer(await worker.queries.receive(), TELL)
    await trio.sleep(1)
    assert client.statistics().sizes["calls_outputs"] == 0


async def test_a_worker_that_is_gone_is_unreachable_in_ten_seconds(net, autojump_clock):
    _, worker, client = await net.village()
    net.down(worker)
    with trio.fail_after(10.1), pytest.raises(Unreachable):
        await client.query(worker.id, ASK)
    with pytest.raises(ValueError, match="map"):
        await client.query(worker.id, b"")


async def test_more_calls_than_are_useful_are_our_own_error(net, autojump_clock):
    _, worker, client = await net.village()
    refused = []

    async def one():
        try:
            await client.query(worker.id, ASK)
        except (NoCapacity, Timeout) as error:
            refused.append(type(error))

    async with trio.open_nursery() as nursery:
        for _ in range(70):
            nursery.start_soon(one)
    assert [refused.count(kind) for kind in (NoCapacity, Timeout)] == [6, 64]


# --- peers that break rules ---


class Stranger:
    """A carrier without a node behind it: says what it likes."""

    def __init__(self):
        self.links = []
        self.gone = trio.Event()

    def link_up(self, link, dialled):
        self.links.append(link)

    def link_down(self, link):
        self.gone.set()

    def dial_failed(self, peer):
        raise AssertionError


async def test_garbage_ends_a_link_and_never_a_node(net, ether, in_memory, autojump_clock):
    relay = await net.up(1, Role.RELAY)
    config = NodeConfig(identity=identity(9), network=NETWORK, dev=True)
    carrier, stranger = in_memory(config), Stranger()
    await net.nursery.start(carrier.run, stranger)
    carrier.dial(relay.id, [relay.endpoint])
    await trio.testing.wait_all_tasks_blocked()
    (link,) = stranger.links
    for payload in (b"", b"nonsense", bytes(1_000), b"\xff" * 50, b"\x92\x20"):
        carrier.send(0.0, link, wire.pack(Message(Kind.QUERY, 0, payload)))
    await stranger.gone.wait()
    assert relay.statistics().misbehaved == 3
    other = await net.up(2, Role.RELAY)
    with trio.fail_after(EPOCHS):
        await other.joined()


# --- how a node ends ---


class BugError(Exception):
    """Out of a core."""


def config_of(number, **changes):
    return NodeConfig(identity=identity(number), network=NETWORK, dev=True, **changes)


async def test_a_core_that_raises_ends_the_node_loudly(in_memory, autojump_clock, monkeypatch):
    def break_down(self, now):
        raise BugError

    monkeypatch.setattr(Stack, "handle_timer", break_down)
    with pytest.raises(BugError):
        async with open_node(config_of(1, bootstrap=NOWHERE), carrier=in_memory):
            await trio.sleep_forever()


async def test_a_core_that_raises_at_a_link_ends_the_node_loudly(
    net, in_memory, monkeypatch, autojump_clock
):
    link_up = Stack.link_up

    def break_down(self, now, link, dialled):
        if dialled:
            raise BugError
        link_up(self, now, link, dialled)

    first = await net.up(1, Role.RELAY)
    monkeypatch.setattr(Stack, "link_up", break_down)
    bootstrap = (Peer(first.public, (first.endpoint,)),)
    with pytest.raises(BugError):
        async with open_node(config_of(2, bootstrap=bootstrap), carrier=in_memory):
            await trio.sleep_forever()


async def test_what_a_caller_raises_leaves_unwrapped(in_memory, autojump_clock):
    with pytest.raises(BugError):
        async with open_node(config_of(1), carrier=in_memory):
            raise BugError


async def test_a_taken_port_is_a_plain_local_error(net, in_memory, autojump_clock):
    first = await net.up(1, Role.RELAY)
    with pytest.raises(LocalError, match="taken"):
        async with open_node(config_of(2, listen=first.endpoint), carrier=in_memory):
            pytest.fail("two nodes listen in one place")


async def test_a_node_leaves_nothing_behind(in_memory, ether, autojump_clock):
    config = config_of(1, roles=Role.RELAY, listen=LOOPBACK)
    nurseries = trio.lowlevel.current_task().child_nurseries
    async with open_node(config, carrier=in_memory) as node:
        await node.publish(RELAY)
        endpoint = node.endpoint
        assert ether.at(endpoint) is not None
    assert ether.at(endpoint) is None
    assert trio.lowlevel.current_task().child_nurseries == nurseries


async def test_a_cancelled_block_is_cancelled_whole(in_memory, autojump_clock):
    with trio.move_on_after(5) as scope:
        async with open_node(config_of(1), carrier=in_memory):
            await trio.sleep_forever()
    assert scope.cancelled_caught


# --- what a node tells of itself ---


async def test_statistics_are_a_frozen_snapshot(net, autojump_clock):
    _, worker, client = await net.village()
    before = client.statistics()
    net.nursery.start_soon(echo, worker)
    await ask(client, worker, b"text")
    after = client.statistics()
    assert before.onion.cells_sent == 0
    assert after.onion.cells_sent > 0
    assert after.carrier.received > before.carrier.received
    assert after.directory.count == 5
    assert after.misbehaved == 0
    with pytest.raises(FrozenInstanceError):
        after.misbehaved = 1


async def test_logs_name_no_peer_no_address_and_no_error(net, autojump_clock):
    with structlog.testing.capture_logs() as logs:
        relays, worker, client = await net.village()
        net.nursery.start_soon(echo, worker)
        await ask(client, worker, b"a planted prompt")
    assert {"node.started", "directory.joined"} <= {entry["event"] for entry in logs}
    assert all(entry["log_level"] not in ("error", "critical") for entry in logs)
    text = repr(logs)
    assert "planted" not in text
    for node in [*relays, worker, client]:
        assert node.id.hex()[:8] not in text
        assert repr(node.id) not in text
    assert "127.0.0.1" not in text


async def test_servers_that_do_not_agree_are_a_warning(net, autojump_clock):
    relay = await net.up(1, Role.RELAY)
    with structlog.testing.capture_logs() as logs:
        relay._inside.handle(0.0, Split())
    assert logs == [{"event": "directory.split", "log_level": "warning"}]


async def test_a_contradiction_is_a_warning_that_names_nobody(net, autojump_clock):
    relay = await net.up(1, Role.RELAY)
    with structlog.testing.capture_logs() as logs:
        relay._inside.handle(0.0, Contradiction(Evidence(b"first", b"second")))
    assert logs == [{"event": "directory.contradiction", "log_level": "warning"}]


async def test_an_event_that_nobody_handles_is_a_bug(net, autojump_clock):
    relay = await net.up(1, Role.RELAY)
    with pytest.raises(TypeError, match="BugError"):
        relay._inside.handle(0.0, BugError())


async def test_the_taps_see_links_and_circuits(net, in_memory, autojump_clock):
    seen, opened_texts = [], []
    relays = [await net.up(number, Role.RELAY) for number in (1, 2, 3)]
    worker = await net.up(
        5, Role.WORKER, onion_tap=lambda what, text: opened_texts.append((what, text))
    )
    client = await net.up(6, tap=lambda link, sent, message: seen.append((sent, message)))
    for relay in relays:
        net.nursery.start_soon(relay.publish, RELAY)
    net.nursery.start_soon(worker.publish, WORKER)
    for node in [*relays, worker, client]:
        await sees(node, 4)
    net.nursery.start_soon(echo, worker)
    await ask(client, worker, b"a planted prompt")
    assert any(what == "create-request" and text == b"please" for what, text in opened_texts)
    assert any(b"a planted prompt" in text for _, text in opened_texts)
    kinds = {wire.unpack(message).kind for _, message in seen}
    assert kinds == {Kind.QUERY, Kind.ANSWER, Kind.ONION}
    assert {sent for sent, _ in seen} == {True, False}
    assert not any(b"planted" in message for _, message in seen)
