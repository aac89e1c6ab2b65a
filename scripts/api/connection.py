"""One socket of the local API: requests come in over it one after another, within bounds.

The states are h11's. What answers a request is not known here.
"""

import json
import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Protocol, final

import h11
import trio

from scripts.failure import Failure

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


class Host(Protocol):
    """What a connection belongs to: the server."""

    closing: bool

    @property
    def limits(self) -> Limits:
        """What a client may take."""

    def idle(self) -> AbstractContextManager[None]:
        """Mark a stretch of a connection that may end at any moment."""

    async def answer(self, connection: "Connection", request: h11.Request) -> None:
        """Answer a request, once."""


class _Refused(Exception):  # noqa: N818 - an outcome of reading a head, answered and over
    """The bytes are no request we take."""

    def __init__(self, status: int, failure: Failure) -> None:
        self.status = status
        self.failure = failure


@final
class Connection:
    """One socket and the requests that come over it, in order."""

    def __init__(self, server: Host, stream: trio.SocketStream) -> None:
        self.server = server
        self.limits = server.limits
        self.http = h11.Connection(h11.SERVER, max_incomplete_event_size=self.limits.head_bytes)
        self._stream = stream

    async def run(self) -> None:
        """Answer requests until one side has enough."""
        try:
            while (request := await self._next_request()) is not None:
                await self.server.answer(self, request)
                if not await self._reusable():
                    return
                self.http.start_next_cycle()
        except _Refused as refused:
            await self._refuse(refused)

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
        await trio.lowlevel.checkpoint_if_cancelled()
        sent = self._write_now(data)
        if sent == len(data):
            return
        with trio.move_on_after(self.limits.write_seconds) as patience:
            await self._stream.send_all(data[sent:])
        if patience.cancelled_caught:
            raise trio.BrokenResourceError("the client stopped reading")

    def _write_now(self, data: bytes) -> int:
        """Bytes that the kernel takes without waiting: all of them, from nearly every event.

        A turn of the loop, and a deadline for each, would triple what an event of an answer costs.
        """
        try:
            return os.write(self._stream.socket.fileno(), data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise trio.BrokenResourceError("the client is gone") from error

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
