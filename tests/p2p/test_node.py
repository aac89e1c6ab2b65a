"""A node on trio: over memory in virtual time, and once over libp2p on loopback."""

from contextlib import AsyncExitStack

import pytest
import trio

from p2p.entropy import seeded
from p2p.identity import Identity
from p2p.node import NodeConfig, open_node
from p2p.onion.core import Data, Ended, Opened
from p2p.overlay.advert import Fields, Role
from p2p.stack import Peer
from p2p.wire import Endpoint

NETWORK = 77


def identity(number):
    return Identity(number.to_bytes(32, "little"))


async def everybody_sees(nodes, count):
    for node in nodes:
        while node.directory.status().count < count:
            await node.directory_changed()


async def answer_twice(node):
    """An endpoint that says back what it hears, in two pieces."""
    incoming = await node.incoming.receive()
    node.accept(incoming, b"offer to " + incoming.request)
    heard = bytearray()
    async for event in node.events(incoming.circuit):
        if isinstance(event, Data):
            heard += event.data
        if isinstance(event, Ended):
            node.send(incoming.circuit, event.stream, bytes(heard[:5]))
            node.send(incoming.circuit, event.stream, bytes(heard[5:]))
            node.end(incoming.circuit, event.stream)


async def ask(node, worker, text):
    await node.joined()
    circuit = node.open(node.path(worker), b"please")
    events = node.events(circuit)
    opened = await events.receive()
    assert isinstance(opened, Opened)
    assert opened.offer == b"offer to please"

    node.send(circuit, 1, text)
    node.end(circuit, 1)
    answer = bytearray()
    async for event in events:
        if isinstance(event, Ended):
            break
        answer += event.data
    node.close(circuit)
    return bytes(answer)


async def test_an_answer_comes_back_through_three_relays_over_libp2p():
    """The first proof of the network: real processes would differ in nothing but their number."""
    text = bytes(range(256)) * 40
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery, AsyncExitStack() as stack:

            async def up(number, roles, bootstrap, listen=Endpoint("127.0.0.1", 0)):
                config = NodeConfig(
                    identity=identity(number),
                    network=NETWORK,
                    dev=True,
                    roles=roles,
                    bootstrap=bootstrap,
                    listen=listen,
                )
                return await stack.enter_async_context(open_node(config))

            first = await up(1, Role.RELAY, ())
            bootstrap = (Peer(first.id, (first.endpoint,)),)
            relays = [first] + [await up(n, Role.RELAY, bootstrap) for n in (2, 3, 4)]
            worker = await up(5, Role.WORKER, bootstrap)
            client = await up(6, Role(0), bootstrap, None)

            for relay in relays:
                nursery.start_soon(relay.publish, Fields(roles=Role.RELAY))
            nursery.start_soon(worker.publish, Fields(roles=Role.WORKER))
            await everybody_sees([*relays, worker, client], 5)

            nursery.start_soon(answer_twice, worker)
            assert await ask(client, worker.id, text) == text
            nursery.cancel_scope.cancel()
