"""ASGI on trio over h11: HTTP/1.1 for the local API, on TCP and unix sockets alike.

It watches for what other servers miss: a client that leaves is seen at once, one that stops
reading can be cancelled, and every socket is closed by whoever opened it. Nothing here is
shielded from cancellation.

One connection is a loop: a request head, then the app with `receive` and `send` bound to one
`Exchange`, then either the next request on the same socket or its end.
"""

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

import h11
import structlog
import trio
from starlette.types import ASGIApp

from scripts.api.connection import Connection, Limits
from scripts.api.exchange import Exchange

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = structlog.get_logger()

ACCEPT_ERRORS: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
"""The machine is short of something: not the listener's fault, and it passes."""

ACCEPT_PAUSE: Final = 0.1
"""seconds before trying again after one of these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """A snapshot of a server."""

    connections: int
    requests: int
    """Running now."""
    served: int
    """Since the start."""


@final
class Server:
    """A running server, as `serve` hands it to its starter."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self.app = app
        self.limits = limits
        self.closing = False
        self.connections = 0
        self.requests = 0
        self.served = 0
        self._accepting = trio.CancelScope()
        self._idle: dict[trio.CancelScope, None] = {}

    def close(self) -> None:
        """Stop accepting, end idle connections, and give running answers the grace period."""
        self.closing = True
        self._accepting.cancel()
        for scope in self._idle:
            scope.cancel()

    def statistics(self) -> Statistics:
        """What it is doing now."""
        return Statistics(connections=self.connections, requests=self.requests, served=self.served)

    async def run(self, listeners: Sequence[trio.abc.Listener[trio.SocketStream]]) -> None:
        """Serve until closed; then drain for the grace period at most."""
        room = trio.Semaphore(self.limits.connections)
        async with trio.open_nursery() as connections:
            with self._accepting:
                async with trio.open_nursery() as accepting:
                    for listener in listeners:
                        accepting.start_soon(self._accept, listener, room, connections)
            grace = trio.current_time() + self.limits.grace_seconds
            connections.cancel_scope.deadline = grace

    async def _accept(
        self,
        listener: trio.abc.Listener[trio.SocketStream],
        room: trio.Semaphore,
        connections: trio.Nursery,
    ) -> None:
        async with listener:
            while True:
                await room.acquire()
                stream = await _next_stream(listener)
                connections.start_soon(self._serve, stream, room)

    async def _serve(self, stream: trio.SocketStream, room: trio.Semaphore) -> None:
        with self._counted(room):
            try:
                await Connection(self, stream).run()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                log.debug("api.client_gone")
            finally:
                await trio.aclose_forcefully(stream)

    @contextmanager
    def _counted(self, room: trio.Semaphore) -> Iterator[None]:
        self.connections += 1
        try:
            yield
        finally:
            self.connections -= 1
            room.release()

    async def answer(self, connection: Connection, request: h11.Request) -> None:
        """Answer a request, once."""
        self.requests += 1
        try:
            await Exchange(connection, request).run(self.app)
        finally:
            self.requests -= 1
            self.served += 1

    @contextmanager
    def idle(self) -> Iterator[None]:
        """Mark a stretch of a connection that `close` may end at any moment."""
        with trio.CancelScope() as scope:
            self._idle[scope] = None
            try:
                if self.closing:
                    scope.cancel()
                yield
            finally:
                del self._idle[scope]


async def serve(
    app: ASGIApp,
    listeners: Sequence[trio.abc.Listener[trio.SocketStream]],
    *,
    limits: Limits | None = None,
    task_status: "TaskStatus[Server]" = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer HTTP on these listeners and close them in the end.

    `start` it in a nursery: it hands back the `Server`, whose `close` ends it gently; cancelling
    ends it at once.
    """
    server = Server(app, limits or Limits())
    task_status.started(server)
    await server.run(listeners)


async def _next_stream(listener: trio.abc.Listener[trio.SocketStream]) -> trio.SocketStream:
    while True:
        try:
            return await listener.accept()
        except OSError as error:
            if error.errno not in ACCEPT_ERRORS:
                raise
            log.warning("api.accept_failed", errno=error.errno)
            await trio.sleep(ACCEPT_PAUSE)
