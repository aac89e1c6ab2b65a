"""Transports without a network: ports on a `Fabric` for datagrams, and a carrier of links.

Both have the production shape, so that the trio driver cannot tell them from sockets. One task
moves everything: never a task per message.
"""

import heapq
import math
from collections.abc import Callable
from typing import final

import trio

from p2p.core import Source
from p2p.drive import Clock
from p2p.errors import Closed
from p2p.transport.fabric import Datagram, Fabric, FabricStatistics, Naming, Timetable


@final
class MemoryNetwork:
    """Ports joined by a fabric. `run` must be running for anything to arrive unasked."""

    def __init__(self, fabric: Fabric, naming: Naming, clock: Clock) -> None:
        self._timetable = Timetable(fabric, naming)
        self._clock = clock
        self._ports: dict[int, Port] = {}
        self._pump: trio.CancelScope | None = None

    def port(self, node: int) -> "Port":
        """Open the port of a node. Raises `ValueError` while it has one."""
        if node in self._ports:
            raise ValueError(f"node {node} has an open port")
        self._ports[node] = port = Port(self, node)
        return port

    def enter(
        self, when: float, node: int, turn: int, a: int, b: int, action: Callable[[], None]
    ) -> None:
        """Do something in the place that `Timetable` gives it among the arrivals."""
        self._timetable.enter(when, node, turn, a, b, action)
        self._hurry()

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            self.deliver()
            with trio.CancelScope() as self._pump:
                self._hurry()
                await trio.sleep(math.inf)
            self._pump = None

    def deliver(self) -> None:
        """Hand over everything due. Called by whoever runs first at an instant, not the pump only.

        So one `take` gives all that the instant holds, whatever order trio runs its tasks in.
        """
        now, heap = self._clock.now(), self._timetable.heap
        while heap and heap[0][0] <= now:
            when, node, _, a, b, payload = heapq.heappop(heap)
            if isinstance(payload, Datagram):
                self._arrive(when, node, a, b, payload)
            elif payload is not None:
                payload()

    def send(self, now: float, node: int, to: Source, data: bytes) -> None:
        """What `Port.send` does."""
        self._timetable.send(now, node, to, data)
        self._hurry()

    def close(self, node: int) -> None:
        """What `Port.close` does."""
        self._ports.pop(node, None)

    def statistics(self) -> FabricStatistics:
        """A snapshot of the counters."""
        return self._timetable.statistics()

    def _arrive(self, when: float, node: int, src: int, number: int, datagram: Datagram) -> None:
        port = self._ports.get(node)
        if port is not None and self._timetable.admit(when, node, src, number, datagram):
            port.put(datagram.source, datagram.data)

    def _hurry(self) -> None:
        """Let the pump wake at the earliest entry."""
        if self._pump is not None and self._timetable.heap:
            when = self._clock.trio_time(self._timetable.heap[0][0])
            if when < self._pump.deadline:
                self._pump.deadline = when


@final
class Port:
    """The `Transport` of one node on a memory network.

    `take` knows no limit: what one instant holds is one step. So the inbox is as long as what
    arrives between two steps of its driver, which takes all of it each time.
    """

    def __init__(self, network: MemoryNetwork, node: int) -> None:
        self._network = network
        self._node = node
        self._inbox: list[tuple[Source, bytes]] = []
        self._stirred = trio.Event()
        self._open = True

    def take(self, limit: int = 64) -> list[tuple[Source, bytes]]:
        self._network.deliver()
        if not self._open:
            raise Closed("the port is closed")
        taken, self._inbox = self._inbox, []
        self._stirred = trio.Event()
        return taken

    async def wait(self) -> None:
        await self._stirred.wait()

    def send(self, now: float, to: Source, data: bytes) -> None:
        if self._open:
            self._network.send(now, self._node, to, data)

    def put(self, source: Source, data: bytes) -> None:
        """Add what has arrived."""
        self._inbox.append((source, data))
        self._stirred.set()

    def close(self) -> None:
        """Shut the port: what is under way to it is lost, and its driver meets `Closed`."""
        if self._open:
            self._open = False
            self._network.close(self._node)
            self._stirred.set()
