"""A node for benchmarks on a UDP port of loopback; as a process it says where, and serves."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass

import trio

from p2p.core import Event
from p2p.drive import Driver, SystemClock
from p2p.entropy import SystemEntropy
from p2p.identity import Identity
from p2p.transport.udp import UdpTransport
from p2p.wire import Endpoint
from scripts.bench.ends import Node


@dataclass(frozen=True, slots=True)
class Running:
    """A node that runs: what it is told is in `events`."""

    driver: Driver[Node]
    public: bytes
    port: int
    events: trio.MemoryReceiveChannel[Event]


class _Events:
    def __init__(self, channel: trio.MemorySendChannel[Event]) -> None:
        self._channel = channel

    def handle(self, now: float, event: Event) -> None:
        self._channel.send_nowait(event)


@asynccontextmanager
async def running() -> AsyncIterator[Running]:
    """A new node on a free port, until the block ends."""
    identity, clock = Identity(SystemEntropy().token(32)), SystemClock()
    send, receive = trio.open_memory_channel[Event](16)
    with closing(UdpTransport([Endpoint("127.0.0.1", 0)])) as transport:
        core = Node(identity, int(clock.now()))
        driver = Driver(core, transport, _Events(send), clock)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(driver.run)
            yield Running(driver, identity.public, transport.endpoints[0].port, receive)
            nursery.cancel_scope.cancel()


async def main() -> None:
    """Serve until killed."""
    async with running() as node:
        sys.stdout.write(f"{node.port} {node.public.hex()}\n")
        sys.stdout.flush()
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main)
