"""What a transport of datagrams promises, in memory and over UDP alike."""

import socket
from contextlib import closing

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from p2p.drive import SystemClock
from p2p.errors import Closed
from p2p.transport.fabric import Constant, Endpoints
from p2p.transport.memory import MemoryNetwork
from p2p.transport.udp import UdpTransport
from p2p.wire import Endpoint

PATIENCE = 20.0
"""seconds until a wait is a failure: far more than a loaded machine needs."""

NOBODY = Endpoint("127.0.0.1", 9)


def has_ipv6():
    with closing(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)) as one:
        return one.connect_ex(("::1", 9)) == 0


class Net:
    """Three transports that can reach each other, and where each is."""

    def __init__(self, ports, endpoints):
        self.ports = ports
        self.endpoints = endpoints

    def send(self, left, right, data):
        self.ports[left].send(0.0, self.endpoints[right], data)

    async def receive(self, node, amount=1):
        taken = []
        with trio.fail_after(PATIENCE):
            while len(taken) < amount:
                await self.ports[node].wait()
                taken += self.ports[node].take()
        return taken


def in_memory(nursery):
    endpoints = [Endpoint("192.0.2.1", port) for port in range(1, 4)]
    network = MemoryNetwork(Constant(0.0), Endpoints(endpoints), SystemClock())
    nursery.start_soon(network.run)
    return Net([network.port(node) for node in range(3)], endpoints)


def over_udp(host):
    ports = [UdpTransport([Endpoint(host, 0)]) for _ in range(3)]
    return Net(ports, [port.endpoints[0] for port in ports])


@pytest.fixture(params=["memory", "127.0.0.1", "::1"])
async def net(request, nursery):
    if request.param == "::1" and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    made = in_memory(nursery) if request.param == "memory" else over_udp(request.param)
    yield made
    for port in made.ports:
        port.close()


async def test_a_datagram_arrives_whole_with_the_endpoint_that_answers_it(net):
    net.send(0, 1, b"ask")
    assert await net.receive(1) == [(net.endpoints[0], b"ask")]
    net.send(1, 0, b"answer")
    assert await net.receive(0) == [(net.endpoints[1], b"answer")]


@pytest.mark.parametrize("size", [0, 1, 64, 1_440, 2_048])
async def test_every_size_arrives_as_it_was(net, size):
    data = bytes(range(256)) * 8
    net.send(0, 1, data[:size])
    assert await net.receive(1) == [(net.endpoints[0], data[:size])]


async def test_datagrams_of_one_sender_keep_their_order_and_their_bounds(net):
    sent = [bytes([i]) * i for i in range(100)]
    for data in sent:
        net.send(0, 1, data)
    assert [data for _, data in await net.receive(1, 100)] == sent


async def test_two_senders_are_told_apart(net):
    net.send(0, 2, b"first")
    net.send(1, 2, b"second")
    assert sorted(await net.receive(2, 2)) == sorted(
        [(net.endpoints[0], b"first"), (net.endpoints[1], b"second")]
    )


async def test_take_gives_nothing_while_nothing_is_there(net):
    assert net.ports[0].take() == []
    net.send(1, 0, b"x")
    await net.receive(0)
    assert net.ports[0].take() == []


async def test_what_is_taken_in_parts_is_not_lost(net):
    for i in range(200):
        net.send(0, 1, bytes([i]))
    taken = []
    with trio.fail_after(PATIENCE):
        while len(taken) < 200:
            await net.ports[1].wait()
            taken += net.ports[1].take(7)
    assert [data for _, data in taken] == [bytes([i]) for i in range(200)]


async def test_a_wait_ends_when_something_arrives(net, nursery):
    woken = trio.Event()

    async def wait():
        await net.ports[1].wait()
        woken.set()

    nursery.start_soon(wait)
    await wait_all_tasks_blocked()
    assert not woken.is_set()
    net.send(0, 1, b"x")
    with trio.fail_after(PATIENCE):
        await woken.wait()
    assert net.ports[1].take() == [(net.endpoints[0], b"x")]


async def test_a_wait_can_be_cancelled_and_loses_nothing(net):
    with trio.move_on_after(0):
        await net.ports[1].wait()
    net.send(0, 1, b"x")
    assert await net.receive(1) == [(net.endpoints[0], b"x")]


async def test_what_is_sent_to_nobody_is_lost_in_silence(net):
    net.ports[0].send(0.0, NOBODY, b"x")
    net.send(0, 1, b"y")
    assert await net.receive(1) == [(net.endpoints[0], b"y")]


async def test_a_closed_transport_wakes_its_driver_and_sends_no_more(net, nursery):
    nursery.start_soon(net.ports[0].wait)
    await wait_all_tasks_blocked()
    net.ports[0].close()
    net.ports[0].close()
    with pytest.raises(Closed):
        net.ports[0].take()
    with trio.fail_after(PATIENCE):
        await net.ports[0].wait()
    net.send(0, 1, b"from beyond")
    net.send(2, 1, b"x")
    assert await net.receive(1) == [(net.endpoints[2], b"x")]


async def test_the_others_do_not_notice_that_one_is_closed(net):
    net.ports[2].close()
    for _ in range(3):
        net.send(0, 2, b"x")
    net.send(0, 1, b"y")
    assert await net.receive(1) == [(net.endpoints[0], b"y")]
    net.send(1, 0, b"z")
    assert await net.receive(0) == [(net.endpoints[1], b"z")]
