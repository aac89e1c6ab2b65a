"""One HTTP/1.1 request of a client on trio over h11, its answer read as it comes."""

import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, final
from urllib.parse import urlsplit

import h11
import trio

from p2p.errors import RemoteError, Unreachable

READ_SIZE: Final = 65_536
MAX_HEAD: Final = 65_536

CONNECT_WAIT: Final = 10.0
"""seconds until a server must have taken the connection"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where a server is."""

    host: str
    port: int
    is_secure: bool
    prefix: str
    """of every path"""

    @classmethod
    def of(cls, url: str) -> "Server":
        """Raises `ValueError` for what is no URL of a server."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise ValueError("it must be http://HOST:PORT, or https")
        is_secure = parts.scheme == "https"
        port = parts.port or (443 if is_secure else 80)
        prefix = parts.path.rstrip("/").removesuffix("/v1")
        return cls(host=parts.hostname, port=port, is_secure=is_secure, prefix=prefix)

    @property
    def is_near(self) -> bool:
        """Whether its address is of this machine or of a network at home. A name that is not
        `localhost` could be anybody's tomorrow."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_private
        except ValueError:
            return False


@final
class Response:
    """The head of an answer, and its body as it comes."""

    def __init__(self, status: int, stream: trio.abc.Stream, connection: h11.Connection) -> None:
        self.status = status
        self._stream = stream
        self._connection = connection

    async def more(self) -> bytes:
        """The next piece of the body, nothing behind the last. Raises `RemoteError`.

        Not an iterator: an async generator that is left in the middle is closed too late.
        """
        event = await _next(self._stream, self._connection)
        if isinstance(event, h11.Data):
            return bytes(event.data)
        if isinstance(event, h11.EndOfMessage):
            return b""
        raise RemoteError("the server's answer broke off")

    async def whole(self, most: int) -> bytes:
        """All of a short body. Raises `RemoteError`."""
        read = bytearray()
        while data := await self.more():
            read += data
            if len(read) > most:
                raise RemoteError("the server's answer is too long")
        return bytes(read)


@asynccontextmanager
async def request(
    server: Server, method: str, path: str, body: bytes = b"", *, key: str = ""
) -> AsyncIterator[Response]:
    """Ask; leaving closes the connection, which stops the server.

    Raises `Unreachable` if there is no server, `RemoteError` if it speaks no HTTP.
    """
    stream = await _connected(server)
    try:
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        headers = [("Host", server.host), ("Connection", "close")]
        headers += [("Authorization", f"Bearer {key}")] if key else []
        if body:
            headers += [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        head = h11.Request(method=method, target=server.prefix + path, headers=headers)
        data = connection.send(head) or b""
        data += connection.send(h11.Data(data=body)) or b"" if body else b""
        data += connection.send(h11.EndOfMessage()) or b""
        yield await _sent(stream, connection, data)
    finally:
        await trio.aclose_forcefully(stream)


async def _connected(server: Server) -> trio.abc.Stream:
    try:
        with trio.fail_after(CONNECT_WAIT):
            if server.is_secure:
                return await trio.open_ssl_over_tcp_stream(server.host, server.port)
            return await trio.open_tcp_stream(server.host, server.port)
    except (OSError, trio.TooSlowError) as error:
        raise Unreachable(f"no server at {server.host}:{server.port}") from error


async def _sent(stream: trio.abc.Stream, connection: h11.Connection, data: bytes) -> Response:
    try:
        await stream.send_all(data)
    except trio.BrokenResourceError as error:
        raise Unreachable("the server hung up") from error
    event = await _next(stream, connection)
    while isinstance(event, h11.InformationalResponse):
        event = await _next(stream, connection)
    if not isinstance(event, h11.Response):
        raise RemoteError("the server gave no answer")
    return Response(event.status_code, stream, connection)


async def _next(stream: trio.abc.Stream, connection: h11.Connection) -> object:
    try:
        while (event := connection.next_event()) is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some(READ_SIZE))
    except (h11.RemoteProtocolError, trio.BrokenResourceError) as error:
        raise RemoteError("the server speaks no HTTP, or broke off") from error
    return event
