"""Two transports as one: datagrams of UDP, and the messages of a carrier's links."""

from typing import TYPE_CHECKING, final

import trio

from p2p.core import Source
from p2p.drive import Transport
from p2p.wire import Link

if TYPE_CHECKING:  # the stubs that libp2p brings stand before trio's own types
    from trio_typing import TaskStatus


@final
class JointTransport:
    """What is sent to a `Link` takes `links`, all else `datagrams`; `run` must be running.

    A driver waits for the links itself, since circuits are what must be quick; a task waits for
    datagrams and cuts that wait short.
    """

    def __init__(self, links: Transport, datagrams: Transport) -> None:
        self._links = links
        self._datagrams = datagrams
        self._arrived = False
        self._taken = trio.Event()
        self._waiting: trio.CancelScope | None = None

    async def run(self, *, task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        """Watch for datagrams until cancelled."""
        task_status.started()
        while True:
            await self._datagrams.wait()
            self._arrived, self._taken = True, trio.Event()
            if self._waiting is not None:
                self._waiting.cancel()
            await self._taken.wait()

    def take(self, limit: int = 64) -> list[tuple[Source, bytes]]:
        """What has arrived, of links first. Raises `Closed` once one of the two is shut."""
        taken = self._links.take(limit)
        if self._arrived:
            self._arrived = False
            taken += self._datagrams.take(limit)
            self._taken.set()
        return taken

    async def wait(self) -> None:
        """Return when `take` may have something to give, or to raise. A checkpoint always."""
        with trio.CancelScope() as self._waiting:
            if self._arrived:
                self._waiting.cancel()
            await self._links.wait()
        self._waiting = None

    def send(self, now: float, to: Source, data: bytes) -> None:
        """Transmit, or drop and count if there is no room; never blocks."""
        (self._links if isinstance(to, Link) else self._datagrams).send(now, to, data)
