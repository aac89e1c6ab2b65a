"""A desk answers whoever comes, one request a stream, and nobody can make it wait or grow."""

import pytest
import trio

from ledger import desk, line
from p2p import codec
from p2p.entropy import seeded
from p2p.errors import CodecError, Unreachable
from p2p.identity import Identity
from p2p.node import NodeConfig, open_node
from p2p.onion.core import Data, Failed, Opened, Reset
from p2p.overlay.advert import Fields, Role
from p2p.stack import Peer
from p2p.transport.memory import Ether, MemoryCarrier
from p2p.wire import Endpoint

NETWORK = 80


class Village:
    """Relays, a mint at its desk and a client; over memory, in virtual time."""

    def __init__(self, nursery):
        self.nursery = nursery
        self.ether = Ether()
        self.first = ()
        self.count = 0
        self.asked = []

    def _carrier(self, config):
        return MemoryCarrier(
            config.identity,
            network=config.network,
            listen=config.listen,
            entropy=config.entropy,
            ether=self.ether,
        )

    async def answer(self, request):
        self.asked.append(request)
        await trio.sleep(0.1)
        return request[::-1]

    async def answer_peer(self, peer, request):
        self.asked.append((peer, request))
        await trio.sleep(0.1)
        return request[:1] + b"yes"

    async def up(self, roles):
        self.count += 1
        config = NodeConfig(
            identity=Identity(self.count.to_bytes(32, "little")),
            network=NETWORK,
            dev=True,
            roles=roles,
            bootstrap=self.first,
            listen=Endpoint("127.0.0.1", 0) if roles else None,
            entropy=seeded(self.count),
        )
        node = await self.nursery.start(self._run, config)
        self.first = self.first or (Peer(node.public, (node.endpoint,)),)
        return node

    async def _run(self, config, task_status):
        async with open_node(config, carrier=self._carrier) as node:
            if config.roles:
                self.nursery.start_soon(node.publish, Fields(roles=config.roles))
            task_status.started(node)
            if Role.MINT in config.roles:
                self.nursery.start_soon(desk.attend_links, node, self.answer_peer)
                await desk.attend(node, self.answer)
            await trio.sleep_forever()

    async def built(self):
        nodes = [await self.up(role) for role in [*[Role.RELAY] * 4, Role.MINT, Role(0)]]
        with trio.fail_after(120):
            for node in nodes:
                while node.directory.status().count < 5:
                    await node.directory_changed()
        self.mint, self.client = nodes[-2], nodes[-1]
        return self

    async def opened(self, request=desk.OPENING):
        """A circuit without the manners of a line: its first event, and the rest."""
        path = self.client.path(self.mint.id)
        circuit = self.client.open(path, request)
        events = self.client.events(circuit)
        return circuit, await events.receive(), events


@pytest.fixture
async def village():
    async with trio.open_nursery() as nursery:
        yield await Village(nursery).built()
        nursery.cancel_scope.cancel()


async def test_customers_are_answered_each_on_its_stream(village, autojump_clock):
    async with line.opened(village.client, village.mint.id) as mint:
        assert await mint.call(b"abc") == b"cba"
        assert await mint.call(b"x" * desk.MAX_REQUEST) == b"x" * desk.MAX_REQUEST


async def test_a_circuit_that_asks_for_something_else_is_refused(village, autojump_clock):
    _, event, _ = await village.opened(b"\0more")
    assert isinstance(event, Failed)


async def test_a_stream_has_one_answer_whatever_follows(village, autojump_clock):
    circuit, event, events = await village.opened()
    assert isinstance(event, Opened)
    village.client.send(circuit, 1, codec.frame(b"ab") + codec.frame(b"cd"))
    village.client.send(circuit, 1, codec.frame(b"ef"))
    heard = bytearray()
    with trio.move_on_after(5):
        async for event in events:
            if isinstance(event, Data):
                heard += event.data
    assert village.asked == [b"ab"]
    assert heard == codec.frame(b"ba")


async def test_a_request_that_is_too_long_ends_its_stream_before_it_is_kept(
    village, autojump_clock
):
    async with line.opened(village.client, village.mint.id) as mint:
        with pytest.raises(CodecError):
            await mint.call(b"x" * (desk.MAX_REQUEST + 1))
        assert await mint.call(b"abc") == b"cba"
    assert village.asked == [b"abc"]


async def test_only_the_newest_half_request_is_kept(village, autojump_clock):
    circuit, _, events = await village.opened()
    for stream in range(1, 40):
        village.client.send(circuit, stream, codec.frame(b"x" * 1000)[:500])
    village.client.send(circuit, 40, codec.frame(b"whole"))
    while True:
        event = await events.receive()
        assert not isinstance(event, Reset)
        if isinstance(event, Data):
            break
    assert event.stream == 40
    assert village.asked == [b"whole"]


async def test_a_silent_customer_is_shown_out(village, autojump_clock):
    _, _, events = await village.opened()
    await trio.sleep(desk.IDLE + 5)
    assert village.mint.statistics().onion.circuits == 0
    await events.aclose()


async def test_a_full_desk_refuses_until_somebody_leaves(village, monkeypatch, autojump_clock):
    monkeypatch.setattr(desk, "CIRCUITS", 1)
    second = await village.up(Role.MINT)
    while village.client.directory.status().count < 6:
        await village.client.directory_changed()
    async with line.opened(village.client, second.id) as mint:
        assert await mint.call(b"abc") == b"cba"
        with pytest.raises(Unreachable):
            await line.opened(village.client, second.id).__aenter__()
    await trio.sleep(5)
    async with line.opened(village.client, second.id) as mint:
        assert await mint.call(b"abc") == b"cba"


async def test_a_peer_is_answered_by_name_over_its_link(village, autojump_clock):
    answers = []

    async def ask(body):
        answers.append(await village.client.query(village.mint.id, body))

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for n in range(30):
            nursery.start_soon(ask, b"\x80" + bytes([n]))
    assert answers == [b"\x80yes"] * 30
    assert {peer for peer, _ in village.asked} == {village.client.id}
    assert trio.current_time() - began < 1, "queries are not answered one after the other"
