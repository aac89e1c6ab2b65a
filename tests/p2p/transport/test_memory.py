"""Ports on a fabric, and what the memory carrier has beyond the suite of carriers."""

import math
from fractions import Fraction

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from p2p.entropy import seeded
from p2p.errors import Closed, LocalError
from p2p.identity import Identity
from p2p.transport.fabric import (
    COMMAND_TURN,
    DATAGRAM_TURN,
    EPOCH,
    GRID,
    LIFE_TURN,
    Constant,
    Datagram,
    Indexes,
    Timetable,
    on_grid,
)
from p2p.transport.memory import Ether, MemoryCarrier, MemoryNetwork
from p2p.wire import Endpoint


class Virtual:
    """Virtual time from the epoch on."""

    def now(self):
        return EPOCH + trio.current_time()

    def trio_time(self, when):
        return on_grid(when) - EPOCH


class Scripted:
    """A fabric that does what a test says: arrivals by size, and a verdict at the door."""

    def __init__(self, arrivals=None, verdict=lambda now: now):
        self.arrivals = arrivals or {}
        self.verdict = verdict
        self.asked = []

    def route(self, now, src, dst, size):
        return tuple(now + delay for delay in self.arrivals.get(size, (0.25,)))

    def admit(self, now, src, dst, size):
        self.asked.append((now, src, dst, size))
        return self.verdict(now)


@pytest.fixture
def network(nursery):
    """Make a running network on a fabric."""

    def make(fabric):
        made = MemoryNetwork(fabric, Indexes(), Virtual())
        nursery.start_soon(made.run)
        return made

    return make


async def arrived(port):
    await port.wait()
    return trio.current_time(), port.take()


# --- the grid ---


@given(st.floats(0.0, 2.0**31))
def test_grid_rounds_up_by_less_than_a_step(when):
    instant = on_grid(when)
    assert 0 <= Fraction(instant) - Fraction(when) < Fraction(GRID)
    assert instant * 2**20 == int(instant * 2**20)
    assert on_grid(instant) == instant


@given(st.integers(0, 2**51), st.integers(0, 2**51))
def test_differences_on_the_grid_are_exact(a, b):
    base, target = sorted([a * GRID, b * GRID])
    assert base + (target - base) == target


# --- the timetable ---


def test_timetable_orders_by_time_node_turn_and_origin():
    table, done = Timetable(Constant(), Indexes()), []
    for key in [(2, 0, COMMAND_TURN, 0, 0), (1, 1, COMMAND_TURN, 0, 0), (1, 0, COMMAND_TURN, 5, 0)]:
        table.enter(*key, lambda: None)
    table.enter(1, 0, COMMAND_TURN, 3, 1, lambda: None)
    table.enter(1, 0, COMMAND_TURN, 3, 0, lambda: None)
    table.enter(1, 0, LIFE_TURN, 9, 0, lambda: None)
    while table.heap:
        done.append(min(table.heap)[:5])
        table.heap.remove(min(table.heap))
    assert done == sorted(done)
    assert done[0] == (1, 0, LIFE_TURN, 9, 0)
    assert LIFE_TURN < COMMAND_TURN < DATAGRAM_TURN


def test_nothing_sent_at_an_instant_arrives_at_it():
    table = Timetable(Scripted({1: (0.0, -5.0)}), Indexes())
    table.send(EPOCH, 0, 1, b"x")
    assert [entry[0] for entry in table.heap] == [EPOCH + GRID] * 2


def test_send_to_nobody_is_counted_and_costs_no_number():
    table = Timetable(Constant(), Indexes())
    table.send(EPOCH, 0, "nobody", b"x")
    table.send(EPOCH, 0, 1, b"x")
    assert table.statistics().unknown == 1
    assert table.statistics().sent == 1
    assert table.heap[0][4] == 0


def test_queued_datagram_is_asked_about_once():
    fabric = Scripted(verdict=lambda now: now + 1.0)
    table = Timetable(fabric, Indexes())
    assert not table.admit(EPOCH, 1, 0, 7, Datagram(0, 1, b"x", False))
    when, node, turn, src, number, datagram = table.heap[0]
    assert (when, node, turn, src, number) == (EPOCH + 1.0, 1, DATAGRAM_TURN, 0, 7)
    assert table.admit(when, node, src, number, datagram)
    assert len(fabric.asked) == 1


# --- ports ---


async def test_datagram_arrives_after_its_delay_with_its_sender(network, autojump_clock):
    net = network(Constant(0.5))
    left, right = net.port(0), net.port(1)
    left.send(Virtual().now(), 1, b"hello")
    assert await arrived(right) == (0.5, [(0, b"hello")])


async def test_one_instant_is_one_take_in_the_order_of_senders(network, autojump_clock):
    net = network(Constant(0.5))
    ports = [net.port(node) for node in range(4)]
    for sender in (3, 1, 2):
        ports[sender].send(EPOCH, 0, b"first of %d" % sender)
        ports[sender].send(EPOCH, 0, b"second of %d" % sender)
    _, batch = await arrived(ports[0])
    assert [source for source, _ in batch] == [1, 1, 2, 2, 3, 3]
    assert [data[:5] for _, data in batch] == [b"first", b"secon"] * 3


async def test_take_gives_what_is_due_though_the_pump_has_not_run(network, autojump_clock):
    net = network(Constant(0.5))
    left, right = net.port(0), net.port(1)
    await wait_all_tasks_blocked()
    left.send(EPOCH, 1, b"hello")
    with trio.CancelScope(deadline=0.5):
        await trio.sleep(math.inf)
    assert right.take() == [(0, b"hello")]


async def test_lost_doubled_and_refused_datagrams_are_counted(network, autojump_clock):
    net = network(Scripted({1: (), 2: (0.1, 0.2)}, lambda now: None if now > EPOCH + 0.15 else now))
    left, right = net.port(0), net.port(1)
    left.send(EPOCH, 1, b"x")
    left.send(EPOCH, 1, b"xx")
    assert await arrived(right) == (on_grid(EPOCH + 0.1) - EPOCH, [(0, b"xx")])
    await trio.sleep(1.0)
    assert right.take() == []
    counts = net.statistics()
    assert (counts.sent, counts.lost, counts.refused, counts.pending) == (2, 1, 1, 0)


async def test_datagram_that_queues_arrives_later(network, autojump_clock):
    net = network(Scripted(verdict=lambda now: now + 0.5))
    left, right = net.port(0), net.port(1)
    left.send(EPOCH, 1, b"x")
    assert (await arrived(right))[0] == 0.75


async def test_earlier_arrival_overtakes_a_pump_that_sleeps_long(network, autojump_clock):
    net = network(Scripted({1: (100.0,), 2: (1.0,)}))
    left, right = net.port(0), net.port(1)
    left.send(EPOCH, 1, b"x")
    await wait_all_tasks_blocked()
    left.send(EPOCH, 1, b"xx")
    assert await arrived(right) == (1.0, [(0, b"xx")])
    assert await arrived(right) == (100.0, [(0, b"x")])


async def test_action_is_done_in_its_place_among_arrivals(network, autojump_clock):
    net, done = network(Constant(0.5)), []
    left, right = net.port(0), net.port(1)
    left.send(EPOCH, 1, b"x")
    net.enter(EPOCH + 0.5, 1, COMMAND_TURN, 0, 0, lambda: done.append(list(right._inbox)))
    await arrived(right)
    assert done == [[]]


async def test_closed_port_wakes_its_driver_and_loses_what_is_under_way(network, autojump_clock):
    net = network(Constant(0.5))
    left, right = net.port(0), net.port(1)
    left.send(EPOCH, 1, b"x")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(right.wait)
        await wait_all_tasks_blocked()
        right.close()
        right.close()
    with pytest.raises(Closed):
        right.take()
    right.send(EPOCH, 0, b"from beyond")
    await trio.sleep(1.0)
    assert net.port(1).take() == []
    assert net.statistics().sent == 1


async def test_node_has_one_port_at_a_time(network, autojump_clock):
    net = network(Constant())
    port = net.port(0)
    with pytest.raises(ValueError, match="open port"):
        net.port(0)
    port.close()
    net.port(0)


async def test_cancelling_the_pump_leaves_no_task(autojump_clock):
    net = MemoryNetwork(Constant(), Indexes(), Virtual())
    tasks = trio.lowlevel.current_statistics().tasks_living
    async with trio.open_nursery() as nursery:
        nursery.start_soon(net.run)
        net.port(0).send(EPOCH, 1, b"x")
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert trio.lowlevel.current_statistics().tasks_living == tasks


# --- the carrier ---


class Deaf:
    def link_up(self, link, dialled):
        self.link = link

    def link_down(self, link):
        pass

    def dial_failed(self, peer):
        pass


def carrier(number, ether, port=0):
    return MemoryCarrier(
        Identity(bytes([number] * 32)),
        network=1,
        listen=Endpoint("127.0.0.1", port),
        entropy=seeded(number),
        ether=ether,
    )


async def test_ethers_do_not_meet(nursery):
    here, there = Ether(), Ether()
    one = carrier(1, here, 7)
    endpoint = await nursery.start(one.run, Deaf())
    two = carrier(2, there)
    await nursery.start(two.run, Deaf())
    two.dial(one.id, [endpoint])
    await wait_all_tasks_blocked()
    assert two.statistics().dials_failed == 1


async def test_taken_port_is_refused_and_free_again_after_the_run(nursery):
    ether = Ether()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as inner:
            await inner.start(carrier(1, ether, 7).run, Deaf())
            with pytest.raises(LocalError, match="port 7 is taken"):
                await carrier(2, ether, 7).run(Deaf())
            scope.cancel()
    assert await nursery.start(carrier(3, ether, 7).run, Deaf()) == Endpoint("127.0.0.1", 7)


async def test_hundred_dials_at_once_leave_one_link_a_pair(nursery):
    ether, carriers, endpoints = Ether(), [], []
    for number in range(8):
        made = carrier(number + 1, ether)
        endpoints.append(await nursery.start(made.run, Deaf()))
        carriers.append(made)
    for dialler in carriers:
        for other, endpoint in zip(carriers, endpoints, strict=True):
            if other is not dialler:
                dialler.dial(other.id, [endpoint])
    await wait_all_tasks_blocked()
    assert [made.statistics().links for made in carriers] == [7] * 8
    assert [made.statistics().dials_failed for made in carriers] == [0] * 8
