"""Clients that others wrote, unmodified, each in a process of its own, over UDP on loopback.

A node of ours answers what DHT clients ask of any node, and asks and tells in its turn. That no
datagram is dropped on our side is as much of the promise as that they are content.
"""

import json
import sys
from contextlib import asynccontextmanager, closing
from pathlib import Path

import trio

from p2p import tl
from p2p.adnl.address import address_list
from p2p.adnl.core import AdnlCore
from p2p.adnl.events import Answered, Message, PeerReset, Query
from p2p.drive import Driver, SystemClock
from p2p.entropy import SystemEntropy
from p2p.identity import Identity
from p2p.ton import (
    DhtFindNode,
    DhtGetSignedAddressList,
    DhtNode,
    DhtNodes,
    DhtPing,
    DhtPong,
    PubEd25519,
)
from p2p.transport.udp import UdpTransport
from p2p.wire import Endpoint
from tests.p2p.adnl.net import identity

PROGRAMS = Path(__file__).parent / "foreign"
PATIENCE = 90.0
"""seconds: these libraries alone take some to import on a busy machine"""


def signed_node(own, place, version):
    listed = address_list([place], version)
    bare = DhtNode(PubEd25519(own.public), listed, version, b"")
    return DhtNode(PubEd25519(own.public), listed, version, own.sign(tl.pack(bare)))


class Server:
    """One node: the core, its driver, and answers as a DHT server would give them."""

    def __init__(self, own, transport):
        self.own = own
        self.place = transport.endpoints[0]
        self.clock = SystemClock()
        self.started_at = int(self.clock.now())
        self.core = AdnlCore([own], SystemEntropy(), self.started_at)
        self.driver = Driver(self.core, transport, self, self.clock)
        self.told = []
        self.told_more = trio.Event()

    def handle(self, now, event):
        self.told.append(event)
        self.told_more.set()
        if isinstance(event, Query):
            answer = self.answer(tl.parse_any(event.payload))
            self.call(lambda core, now: core.answer(now, event.token, answer))

    def call(self, command):
        return self.driver.call("test", command)

    def answer(self, query):
        match query:
            case DhtPing(random_id):
                return tl.pack(DhtPong(random_id))
            case DhtGetSignedAddressList():
                return tl.pack(signed_node(self.own, self.place, self.started_at))
            case DhtFindNode(_, k):
                nodes = [signed_node(identity(i), self.place, 1) for i in range(k)]
                return tl.pack(DhtNodes(tuple(nodes)))
        return None

    async def wait_for(self, kind):
        """The first event of a kind."""
        while True:
            for event in self.told:
                if isinstance(event, kind):
                    return event
            self.told_more = trio.Event()
            await self.told_more.wait()


@asynccontextmanager
async def server():
    with closing(UdpTransport([Endpoint("127.0.0.1", 0)])) as transport:
        made = Server(Identity(b"server".ljust(32)), transport)
        async with trio.open_nursery() as nursery:
            await nursery.start(made.driver.run)
            yield made
            nursery.cancel_scope.cancel()


async def run(program, server, *more):
    place = [server.place.host, str(server.place.port), server.own.public.hex()]
    command = [sys.executable, str(PROGRAMS / program), *place, *more]
    with trio.fail_after(PATIENCE):
        done = await trio.run_process(command, capture_stdout=True)
    return json.loads(done.stdout)


def check_listed(listed, server):
    assert listed["@type"] == "dht.node"
    assert bytes.fromhex(listed["id"]["key"]) == server.own.public
    assert listed["addr_list"]["addrs"][0]["port"] == server.place.port


def check_took_everything(server, least):
    statistics = server.core.statistics()
    assert statistics.drops == {}
    assert statistics.accepted == statistics.received >= least


async def talk_with_pytoniq(ours, theirs):
    """A pytoniq of this key connects, asks, is asked and told; what it saw."""
    results = []

    async def client():
        results.append(await run("pytoniq_client.py", ours, theirs.seed.hex()))

    ours.told.clear()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client)
        with trio.fail_after(PATIENCE):
            await ours.wait_for(Message)
        ping, pong = tl.pack(DhtPing(77)), tl.pack(DhtPong(78))
        ticket = ours.call(lambda core, now: core.query(now, ours.own.id, theirs.id, ping, 20.0))
        ours.call(lambda core, now: core.send(now, ours.own.id, theirs.id, pong))
        with trio.fail_after(PATIENCE):
            answered = await ours.wait_for(Answered)
    assert answered == Answered(ticket, tl.pack(DhtPong(77)))
    return results[0]


async def test_pytoniq_connects_asks_and_answers_and_is_known_again():
    """The second time it says that it has started anew, and its numbers begin at one."""
    theirs = identity(70)
    async with server() as ours:
        for _ in range(2):
            result = await talk_with_pytoniq(ours, theirs)
            assert result["id"] == theirs.id.hex()
            check_listed(result["first"], ours)
            check_listed(result["listed"], ours)
            assert result["nodes"] == 10
            assert (result["question"], result["said"]) == (77, 78)
            await trio.sleep(1.0)  # it dates its start to the second: two in one would be one start
        assert await ours.wait_for(PeerReset) == PeerReset(ours.own.id, theirs.id)
    check_took_everything(ours, 20)


async def test_tonutils_connects_and_asks():
    async with server() as ours:
        result = await run("tonutils_client.py", ours)
    check_listed(result["listed"], ours)
    assert result["verified"] == [True] * 10
    check_took_everything(ours, 8)
    assert ours.core.statistics().sent_direct == 1
