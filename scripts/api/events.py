"""Server-sent events that end when their reader leaves.

Not Starlette's `StreamingResponse`: its generator is left suspended when a send fails, and what
the generator holds open (here a circuit and a worker's slot) would stay open with it.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol, TypeAlias, final

import structlog
import trio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from scripts.api.connection import failure_response
from scripts.failure import Document, Failed, Failure

log = structlog.get_logger()

HEARTBEAT: Final = 10.0
"""seconds: keeps read timeouts quiet while the first token is awaited."""

LAST_WORDS: Final = 2.0
"""seconds that work has for them once its reader has left: who stopped it may be listening."""

HEADERS: Final = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}


class Refused(Protocol):
    """Puts a failure in the shape of an API: headers and body."""

    def __call__(
        self, status: int, failure: Failure, *, request_id: str | None
    ) -> tuple[list[tuple[bytes, bytes]], bytes]: ...


@final
class Stream:
    """Where `Work` puts its events. The head leaves with the first, so a refusal has its status."""

    def __init__(self, send: Send, request_id: str, refused: Refused = failure_response) -> None:
        self._send = send
        self._id = request_id
        self._refused = refused
        self._one_at_a_time = trio.Lock()
        self._leave: Callable[[], None] | None = None
        self.begun = False

    def when_left(self, end: Callable[[], None]) -> None:
        """Have the work ended by `end`, with last words, once the reader sends nothing more."""
        self._leave = end

    def leave(self) -> bool:
        """The reader has left, or closed its side; whether there will be last words."""
        if self._leave is not None:
            self._leave()
        return self._leave is not None

    async def begin(self, headers: Mapping[str, str]) -> None:
        """Say 200: from here on a failure is an event."""
        self.begun = True
        everything = {**HEADERS, "x-request-id": self._id, **headers}
        raw = [
            (name.encode("ascii"), value.encode("latin-1")) for name, value in everything.items()
        ]
        await self._send({"type": "http.response.start", "status": 200, "headers": raw})
        await self.write("")

    async def event(self, name: str, document: Document) -> None:
        """Send one event. Only after `begin`."""
        await self.write(f"event: {name}\ndata: {json.dumps(document)}\n\n")

    async def fail(self, failure: Failure) -> None:
        """Report a failure: as a status if nothing has been said, else as the last event."""
        log.info("api.request_refused", request_id=self._id, code=failure.code)
        if self.begun:
            await self.event("error", failure.document(self._id))
            return
        status = failure.meaning.http
        headers, body = self._refused(status, failure, request_id=self._id)
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    async def whole(self, document: Document, headers: Mapping[str, str]) -> None:
        """Send one document instead of events."""
        body = json.dumps(document).encode()
        kind = {"content-type": "application/json", "content-length": str(len(body))}
        everything = {**kind, "x-request-id": self._id, **headers}
        raw = [
            (name.encode("ascii"), value.encode("latin-1")) for name, value in everything.items()
        ]
        await self._send({"type": "http.response.start", "status": 200, "headers": raw})
        await self._send({"type": "http.response.body", "body": body})

    async def finish(self) -> None:
        """End the response."""
        if self.begun:
            await self._send({"type": "http.response.body", "body": b""})

    async def write(self, text: str) -> None:
        """Send one piece of the stream, whole."""
        async with self._one_at_a_time:
            body = {"type": "http.response.body", "body": text.encode(), "more_body": True}
            await self._send(body)


Work: TypeAlias = Callable[[Stream], Awaitable[None]]


@final
class Events(Response):
    """A response made by `work`, which ends when the client leaves.

    A client that closed its sending side alone still reads what the work has to say in the end.
    """

    def __init__(
        self, work: Work, *, heartbeat: float = HEARTBEAT, refused: Refused = failure_response
    ) -> None:
        self._work = work
        self._refused = refused
        self._heartbeat = heartbeat
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the work beside a watch on the client."""
        stream = Stream(send, scope["state"]["request_id"], self._refused)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, receive, stream, nursery.cancel_scope)
            nursery.start_soon(self._beat, stream)
            await self._run(stream)
            nursery.cancel_scope.cancel()

    async def _run(self, stream: Stream) -> None:
        try:
            await self._work(stream)
        except Failed as failed:
            await stream.fail(failed.failure)
        await stream.finish()

    async def _watch(self, receive: Receive, stream: Stream, scope: trio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        if stream.leave():
            await trio.sleep(LAST_WORDS)
        scope.cancel()

    async def _beat(self, stream: Stream) -> None:
        while True:
            await trio.sleep(self._heartbeat)
            if stream.begun:
                await stream.write(": waiting\n\n")
