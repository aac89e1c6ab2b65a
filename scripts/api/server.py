"""ASGI on trio over h11: HTTP/1.1 for the local API, on TCP and unix sockets alike.

It watches for what other servers miss: a client that leaves is seen at once, one that stops
reading can be cancelled, and every socket is closed by whoever opened it. Nothing here is
shielded from cancellation.

One connection is a loop: a request head, then the app with `receive` and `send` bound to one
`_Exchange`, then either the next request on the same socket or its end. The states are h11's.
"""

import errno
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final
from urllib.parse import unquote
from uuid import uuid4

import h11
import structlog
import trio
from starlette.types import ASGIApp, Message, Scope

from scripts.failure import Failure

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = structlog.get_logger()

SPEC_VERSION: Final = "2.3"
"""From 2.4 on Starlette waits for a failing send instead of listening for a disconnect."""

ACCEPT_ERRORS: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
"""The machine is short of something: not the listener's fault, and it passes."""

ACCEPT_PAUSE: Final = 0.1
"""seconds before trying again after one of these."""

READ_SIZE: Final = 65_536
"""bytes asked of the socket at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one client may take of this server."""

    connections: int = 256
    """Served at once; more wait in the kernel's queue."""
    head_bytes: int = 65_536
    head_seconds: float = 10.0
    """From a request's first byte to the end of its head."""
    idle_seconds: float = 75.0
    """An open connection without a request."""
    body_seconds: float = 30.0
    """For each piece of a request's body."""
    write_seconds: float = 30.0
    """For each event sent: a reader that takes nothing for so long is gone."""
    drain_bytes: int = 65_536
    """Of a body the app did not read, to keep the connection."""
    drain_seconds: float = 1.0
    ahead_bytes: int = 65_536
    """Of pipelined requests kept while one is answered."""
    grace_seconds: float = 10.0
    """For running answers once the server closes."""


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
                await _Connection(self, stream).run()
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


class _Refused(Exception):  # noqa: N818 - an outcome of reading a head, answered and over
    """The bytes are no request we take."""

    def __init__(self, status: int, failure: Failure) -> None:
        self.status = status
        self.failure = failure


@final
class _Connection:
    """One socket and the requests that come over it, in order."""

    def __init__(self, server: Server, stream: trio.SocketStream) -> None:
        self.server = server
        self.limits = server.limits
        self.http = h11.Connection(h11.SERVER, max_incomplete_event_size=self.limits.head_bytes)
        self._stream = stream

    async def run(self) -> None:
        """Answer requests until one side has enough."""
        try:
            while (request := await self._next_request()) is not None:
                await self._answer(request)
                if not await self._reusable():
                    return
                self.http.start_next_cycle()
        except _Refused as refused:
            await self._refuse(refused)

    async def _answer(self, request: h11.Request) -> None:
        self.server.requests += 1
        try:
            await _Exchange(self, request).run(self.server.app)
        finally:
            self.server.requests -= 1
            self.server.served += 1

    # --- reading ---

    async def _next_request(self) -> h11.Request | None:
        """The next request's head; None when the client, patience or the server ends."""
        if not self._has_bytes() and not await self._first_bytes():
            return None
        try:
            with trio.fail_after(self.limits.head_seconds):
                return await self._head()
        except trio.TooSlowError as error:
            message = f"The request head was not complete after {self.limits.head_seconds:g} s."
            raise _Refused(408, Failure(code="request_timeout", message=message)) from error

    async def _first_bytes(self) -> bool:
        some = False
        with self.server.idle(), trio.move_on_after(self.limits.idle_seconds):
            some = await self.read()
        return some

    async def _head(self) -> h11.Request | None:
        while True:
            event = self._next_head_event()
            if event is h11.NEED_DATA:
                await self.read()
            elif isinstance(event, h11.Request):
                return event
            else:
                return None

    def _next_head_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        try:
            return self.http.next_event()
        except h11.RemoteProtocolError as error:
            status = error.error_status_hint
            code = "head_too_large" if status == 431 else "invalid_request"
            message = f"This is no HTTP/1.1 request: {error}."
            raise _Refused(status, Failure(code=code, message=message)) from error

    def _has_bytes(self) -> bool:
        return bool(self.http.trailing_data[0])

    def ahead(self) -> int:
        """Bytes received and not yet part of the request at hand."""
        return len(self.http.trailing_data[0])

    async def read(self) -> bool:
        """Pass what the socket gives to h11; False once the client has closed its side."""
        # While a head is incomplete, never more than would pass its bound.
        size = READ_SIZE
        if self.http.their_state is h11.IDLE:
            size = min(size, max(1, self.limits.head_bytes + 1 - self.ahead()))
        data = await self._stream.receive_some(size)
        self.http.receive_data(data)
        return bool(data)

    # --- writing ---

    async def write(self, *events: h11.Event) -> None:
        """Send events in one piece; a reader that takes nothing in time is gone."""
        data = b"".join(self.http.send(event) or b"" for event in events)
        with trio.move_on_after(self.limits.write_seconds) as patience:
            await self._stream.send_all(data)
        if patience.cancelled_caught:
            raise trio.BrokenResourceError("the client stopped reading")

    async def _refuse(self, refused: _Refused) -> None:
        if self.http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            head, body = failure_response(refused.status, refused.failure, request_id=None)
            close = [*head, (b"connection", b"close")]
            response = h11.Response(status_code=refused.status, headers=close)
            await self.write(response, h11.Data(data=body), h11.EndOfMessage())

    # --- between two requests ---

    async def _reusable(self) -> bool:
        """Whether another request may follow, once an unread body is out of the way."""
        if self.server.closing or self.http.our_state is not h11.DONE:
            return False
        drained = False
        with trio.move_on_after(self.limits.drain_seconds):
            drained = await self._drain()
        return drained

    async def _drain(self) -> bool:
        drained = 0
        while self.http.their_state is h11.SEND_BODY and drained <= self.limits.drain_bytes:
            try:
                event = self.http.next_event()
            except h11.RemoteProtocolError:
                return False
            if event is h11.NEED_DATA:
                await self.read()
            elif isinstance(event, h11.Data):
                drained += len(event.data)
        return self.http.their_state is h11.DONE

    def names(self) -> tuple[tuple[str, int] | None, tuple[str, int | None]]:
        """The scope's `client` and `server`."""
        ours = self._stream.socket.getsockname()
        if isinstance(ours, str):
            return None, (ours, None)
        try:
            theirs = self._stream.socket.getpeername()
        except OSError as error:
            raise trio.BrokenResourceError("the client is gone already") from error
        return (theirs[0], theirs[1]), (ours[0], ours[1])


@final
class _Exchange:
    """One request and its response: ASGI's `receive` and `send`."""

    def __init__(self, connection: _Connection, request: h11.Request) -> None:
        self._connection = connection
        self._http = connection.http
        self._request = request
        self._id = uuid4().hex
        self._response: h11.Response | None = None
        self._started = False
        self._gone = False

    async def run(self, app: ASGIApp) -> None:
        """Call the app, once; whatever it raises ends here or, for a lost client, one level up."""
        try:
            await app(self._scope(), self.receive, self.send)
            if not self._complete() and not self._gone:
                raise RuntimeError("the app returned without a whole response")
        except Exception as error:  # the boundary for requests: one must not end the others
            if _is_loss(error):
                raise trio.BrokenResourceError("the client is gone") from error
            if self._gone:
                log.info("api.request_abandoned", request_id=self._id, exc_info=True)
            else:
                log.exception("api.request_failed", request_id=self._id)
                await self._fail()

    def _complete(self) -> bool:
        return self._http.our_state in (h11.DONE, h11.MUST_CLOSE, h11.CLOSED)

    async def _fail(self) -> None:
        """Say 500 if nothing has been said; else the caller closes without a last chunk."""
        if self._started or self._http.our_state is not h11.SEND_RESPONSE:
            return
        failure = Failure(
            code="internal",
            message="The request failed inside this program.",
            advice=f"Its log has the reason under request_id {self._id}.",
        )
        headers, body = failure_response(500, failure, request_id=self._id)
        await self._write_head(h11.Response(status_code=500, headers=headers), body, more=False)

    # --- receive ---

    async def receive(self) -> Message:
        """The next piece of the body, or `http.disconnect` once nobody listens."""
        if self._gone or self._complete():
            return {"type": "http.disconnect"}
        if self._http.their_state is not h11.SEND_BODY:
            return await self._disconnect()
        if self._http.they_are_waiting_for_100_continue:
            await self._connection.write(h11.InformationalResponse(status_code=100, headers=[]))
        try:
            with trio.fail_after(self._connection.limits.body_seconds):
                return await self._body()
        except trio.TooSlowError:
            return self._leave()

    async def _body(self) -> Message:
        """One piece of the body, with the end of it where that is known already."""
        pieces: list[bytes] = []
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError:
                return self._leave()
            if isinstance(event, h11.Data):
                pieces.append(bytes(event.data))
            elif event is not h11.NEED_DATA:
                return {"type": "http.request", "body": b"".join(pieces), "more_body": False}
            elif pieces:
                return {"type": "http.request", "body": b"".join(pieces), "more_body": True}
            else:
                await self._connection.read()

    async def _disconnect(self) -> Message:
        """Wait until the client is gone; what it sends ahead is kept, within bounds."""
        limit = self._connection.limits.ahead_bytes
        while self._connection.ahead() <= limit:
            try:
                if not await self._connection.read():
                    break
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                break
        return self._leave()

    def _leave(self) -> Message:
        self._gone = True
        return {"type": "http.disconnect"}

    # --- send ---

    async def send(self, message: Message) -> None:
        """Take one ASGI event. The head leaves with the first piece of body."""
        if message["type"] == "http.response.start":
            self._response = h11.Response(
                status_code=message["status"], headers=list(message.get("headers", []))
            )
        elif message["type"] == "http.response.body":
            await self._send_body(message.get("body", b""), more=message.get("more_body", False))
        else:
            raise RuntimeError(f"{message['type']} is no event of a response")

    async def _send_body(self, body: bytes, *, more: bool) -> None:
        if self._started:
            await self._connection.write(*self._body_events(body, more=more))
        elif self._response is None:
            raise RuntimeError("the body of a response came before its start")
        else:
            await self._write_head(self._response, body, more=more)

    async def _write_head(self, response: h11.Response, body: bytes, *, more: bool) -> None:
        self._started = True
        await self._connection.write(response, *self._body_events(body, more=more))

    def _body_events(self, body: bytes, *, more: bool) -> list[h11.Event]:
        silent = not body or self._request.method == b"HEAD"
        events: list[h11.Event] = [] if silent else [h11.Data(data=body)]
        return events if more else [*events, h11.EndOfMessage()]

    # --- scope ---

    def _scope(self) -> Scope:
        raw_path, _, query = _origin_form(self._request.target).partition(b"?")
        client, server = self._connection.names()
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": SPEC_VERSION},
            "http_version": self._request.http_version.decode("ascii"),
            "method": self._request.method.decode("ascii"),
            "scheme": "http",
            "path": unquote(raw_path.decode("ascii")),
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
            "headers": list(self._request.headers),
            "client": client,
            "server": server,
            "state": {"request_id": self._id},
        }


def _is_loss(error: Exception) -> bool:
    """Whether a lost connection is all that happened, in however many tasks of the app."""
    if isinstance(error, ExceptionGroup):
        return all(_is_loss(each) for each in error.exceptions)
    return isinstance(error, trio.BrokenResourceError | trio.ClosedResourceError)


def _origin_form(target: bytes) -> bytes:
    """The target as path and query, also when a proxy's client sent a whole URL."""
    for scheme in (b"http://", b"https://"):
        if target.lower().startswith(scheme):
            _, slash, path = target[len(scheme) :].partition(b"/")
            return slash + path or b"/"
    return target


def failure_response(
    status: int, failure: Failure, *, request_id: str | None
) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Headers and body of the JSON error, the same whoever finds it."""
    body = json.dumps(failure.document(request_id)).encode()
    retry = b"true" if failure.meaning.retry else b"false"
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode("ascii")),
        (b"x-should-retry", retry),
    ]
    return headers, body
