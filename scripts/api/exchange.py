"""One request and its response: ASGI on one side, HTTP/1.1 on the other."""

from secrets import token_hex
from typing import Final, final
from urllib.parse import unquote

import h11
import structlog
import trio
from starlette.types import ASGIApp, Message, Scope

from scripts.api.connection import Connection, failure_response
from scripts.failure import Failure

log = structlog.get_logger()

SPEC_VERSION: Final = "2.3"
"""From 2.4 on Starlette waits for a failing send instead of listening for a disconnect."""

ID_BYTES: Final = 8
"""of a request's id: chance, and short enough that no log takes it for a key and hides it."""


@final
class Exchange:
    """One request and its response: ASGI's `receive` and `send`."""

    def __init__(self, connection: Connection, request: h11.Request) -> None:
        self._connection = connection
        self._http = connection.http
        self._request = request
        self._id = token_hex(ID_BYTES)
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
