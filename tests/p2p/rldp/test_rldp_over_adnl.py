"""RLDP2 in the messages of ADNL: in memory, and over sockets on loopback."""

import heapq
from contextlib import closing

import pytest
import trio

from p2p.drive import Driver, SystemClock
from p2p.entropy import SystemEntropy, seeded
from p2p.rldp.events import Answered, Failed
from p2p.transport.udp import UdpTransport
from p2p.wire import Endpoint
from tests.p2p.rldp.joined import Joined

T0 = 1_800_000_000
CONTENT = seeded(0).token(500_000) * 4


def acquainted(asker, server, now, place):
    asker.adnl.add_peer(now, server.identity.public, [place])


class Line:
    """Two nodes, 10 ms apart, and datagrams that are lost between them."""

    def __init__(self, first, second, loss):
        self.nodes = {Endpoint("10.0.0.1", 1): first, Endpoint("10.0.0.2", 2): second}
        self.places = list(self.nodes)
        self.now, self.loss, self.entropy = float(T0), loss, seeded(5)
        self.told, self.heap, self.count, self.sizes = [], [], 0, []
        acquainted(first, second, self.now, self.places[1])

    def run(self, until):
        for place in self.places:
            self.drain(place)
        while not until():
            times = [(self.heap[0][0], None)] if self.heap else []
            times += [(node.next_deadline() or 9e99, at) for at, node in self.nodes.items()]
            when, place = min(times, key=lambda entry: entry[0])
            self.now = max(self.now, when)
            if place is not None:
                self.nodes[place].handle_timer(self.now)
            else:
                _, _, source, place, datagram = heapq.heappop(self.heap)
                self.nodes[place].receive(self.now, source, datagram)
            self.drain(place)

    def drain(self, place):
        sends, events = self.nodes[place].drain()
        self.told += events
        for to, datagram in sends:
            self.count += 1
            self.sizes.append(len(datagram))
            if self.entropy.uniform() >= self.loss:
                heapq.heappush(self.heap, (self.now + 0.01, self.count, place, to, datagram))


@pytest.mark.parametrize("loss", [0.0, 0.1])
def test_megabytes_come_through_channels(loss):
    asker = Joined(1, seeded(1), T0 - 9)
    server = Joined(2, seeded(2), T0 - 8, answers=lambda data: CONTENT[:300_000])
    line = Line(asker, server, loss)
    asker.query(line.now, server.id, b"?", timeout=30, max_answer=300_000)
    line.run(until=lambda: line.told)
    (event,) = line.told
    assert isinstance(event, Answered)
    assert event.data == CONTENT[:300_000]
    assert max(line.sizes) <= 1_440
    assert sum(line.sizes) <= 1.6 * 300_000


class Node:
    """A node on a socket."""

    def __init__(self, seed, clock, answers=bytes.upper):
        self.core = Joined(seed, SystemEntropy(), int(clock.now()), answers)
        self.transport = UdpTransport([Endpoint("127.0.0.1", 0)])
        self.driver = Driver(self.core, self.transport, self, clock)
        self.told, self.any = [], trio.Event()

    def handle(self, now, event):
        self.told.append(event)
        self.any.set()


async def test_megabytes_come_over_sockets():
    clock = SystemClock()
    asker, server = Node(1, clock), Node(2, clock, answers=lambda data: CONTENT)
    with closing(asker.transport), closing(server.transport):
        async with trio.open_nursery() as nursery:
            await nursery.start(asker.driver.run)
            await nursery.start(server.driver.run)
            place = server.transport.endpoints[0]
            asker.driver.call("meet", lambda core, now: acquainted(core, server.core, now, place))

            def ask(core, now):
                core.query(now, server.core.id, b"?", timeout=60, max_answer=len(CONTENT))

            asker.driver.call("ask", ask)
            with trio.fail_after(60):
                await asker.any.wait()
            nursery.cancel_scope.cancel()
    (event,) = asker.told
    assert not isinstance(event, Failed)
    assert event.data == CONTENT
    sent = server.core.rldp.statistics()
    assert sent.symbols_sent <= 1.1 * sent.symbols_needed
