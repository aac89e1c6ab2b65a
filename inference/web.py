"""A file on a web server, by pieces: HTTP/1.1 on trio, one connection for each piece.

Redirects are followed by hand, since each place is judged first: encrypted, or on this machine.
What a server does wrong is `Trouble`, which may go better another time, or makes it `Useless`.
"""

import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Final, final
from urllib.parse import SplitResult, urljoin, urlsplit

import h11
import trio

PATIENCE: Final = 30.0
"""seconds without a byte"""

MAX_REDIRECTS: Final = 5

READ_SIZE: Final = 65_536

OK, PARTIAL = 200, 206

REDIRECTS: Final = (301, 302, 303, 307, 308)

NO_RANGE: Final = (OK, 416)
"""answers of a server that gives the whole or nothing"""

TOO_MANY: Final = 429
LAST_REFUSAL: Final = 499

LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


class Trouble(Exception):  # noqa: N818 - what there is, not what went wrong
    """A server or the network fails in a way that may pass."""


class Useless(Exception):  # noqa: N818
    """A server that does not have the file, or leads where nobody follows."""


@final
class Server:
    """Where a URL leads."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.name = urlsplit(url).hostname or "?"
        """For people."""
        self.is_plain = False
        """It knows no Range."""
        self.is_useless = False

    async def piece(self, at: int, size: int, total: int) -> bytes | None:
        """Bytes of the file; None if the server knows no Range. Raises `Useless`, `Trouble`."""
        wanted = [("range", f"bytes={at}-{at + size - 1}")]
        async with _asked(self._url, wanted) as answer:
            if answer.status in NO_RANGE:
                self.is_plain = True
                return None
            _check(answer, PARTIAL)
            if answer.header("content-range") != f"bytes {at}-{at + size - 1}/{total}":
                raise Useless("it has a file of another length")
            data = bytearray()
            while piece := await answer.read():
                data += piece
                if len(data) > size:
                    raise Useless("it sends more than was asked for")
        if len(data) < size:
            raise Trouble("it ended too early")
        return bytes(data)

    async def whole(self, total: int) -> AsyncGenerator[bytes, None]:
        """All of it, in pieces, and no more than is expected. Raises as `piece`."""
        async with _asked(self._url, []) as answer:
            _check(answer, OK)
            while piece := await answer.read():
                total -= len(piece)
                if total < 0:
                    raise Useless("it sends more than the file has")
                yield piece


def is_allowed(url: SplitResult) -> bool:
    """Whether it is encrypted, or on this machine."""
    is_local = url.scheme == "http" and url.hostname in LOOPBACK
    return bool(url.hostname) and (url.scheme == "https" or is_local)


def _check(answer: "_Answer", expected: int) -> None:
    """Raises `Useless` for what will not get better, `Trouble` for what may."""
    if answer.status == expected:
        return
    if answer.status > LAST_REFUSAL or answer.status == TOO_MANY:
        raise Trouble(f"it says {answer.status}")
    raise Useless(f"it says {answer.status}")


# --- the conversation ---


@asynccontextmanager
async def _asked(url: str, headers: list[tuple[str, str]]) -> AsyncIterator["_Answer"]:
    """The answer, redirects followed. Raises `Useless` and `Trouble`."""
    for _ in range(MAX_REDIRECTS + 1):
        place = _place(url)
        async with await _connected(place) as stream:
            answer = _Answer(stream)
            await answer.begin(place, headers)
            if answer.status not in REDIRECTS:
                yield answer
                return
            url = urljoin(url, answer.header("location"))
    raise Useless("it leads in circles")


def _place(url: str) -> SplitResult:
    """A URL that may be asked. Raises `Useless`."""
    try:
        place = urlsplit(url)
        _ = place.port
    except ValueError as error:
        raise Useless("it leads to what is no address") from error
    if not is_allowed(place):
        raise Useless(f"it leads to {place.hostname} without encryption")
    return place


async def _connected(place: SplitResult) -> trio.abc.Stream:
    """A connection. Raises `Trouble`."""
    host = place.hostname
    assert host is not None
    try:
        with trio.fail_after(PATIENCE):
            if place.scheme == "http":
                return await trio.open_tcp_stream(host, place.port or 80)
            return await trio.open_ssl_over_tcp_stream(
                host, place.port or 443, https_compatible=True, ssl_context=_trust()
            )
    except trio.TooSlowError as error:
        raise Trouble("it does not answer") from error
    except OSError as error:
        raise Trouble(f"it cannot be reached ({error.strerror or error})") from error


@cache
def _trust() -> ssl.SSLContext:
    """The certificates of this machine."""
    return ssl.create_default_context()


@final
class _Answer:
    """What a server says on one connection."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.CLIENT)
        self._response: h11.Response | None = None

    async def begin(self, place: SplitResult, headers: list[tuple[str, str]]) -> None:
        """Ask, and hear the head of the answer. Raises `Trouble`."""
        target = (place.path or "/") + (f"?{place.query}" if place.query else "")
        fixed = [("host", place.netloc.rpartition("@")[2]), ("connection", "close")]
        request = h11.Request(method="GET", target=target, headers=[*fixed, *headers])
        try:
            said = (self._http.send(request) or b"") + (self._http.send(h11.EndOfMessage()) or b"")
            with trio.fail_after(PATIENCE):
                await self._stream.send_all(said)
        except (trio.BrokenResourceError, trio.TooSlowError, h11.LocalProtocolError) as error:
            raise Trouble("it takes no question") from error
        event = await self._next()
        if not isinstance(event, h11.Response):
            raise Trouble("it says nothing")
        self._response = event

    @property
    def status(self) -> int:
        """The status code."""
        assert self._response is not None
        return self._response.status_code

    def header(self, name: str) -> str:
        """A header's value; empty if it is not there."""
        assert self._response is not None
        values = (value for key, value in self._response.headers if key == name.encode())
        return next(values, b"").decode("latin-1")

    async def read(self) -> bytes:
        """The next bytes of the body; none at its end. Raises `Trouble`."""
        event = await self._next()
        return bytes(event.data) if isinstance(event, h11.Data) else b""

    async def _next(self) -> object:
        """What comes next; interim responses are let pass."""
        try:
            while True:
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    with trio.fail_after(PATIENCE):
                        self._http.receive_data(await self._stream.receive_some(READ_SIZE))
                elif not isinstance(event, h11.InformationalResponse):
                    return event
        except trio.TooSlowError as error:
            raise Trouble("it falls silent") from error
        except (trio.BrokenResourceError, h11.RemoteProtocolError) as error:
            raise Trouble("it breaks off") from error
