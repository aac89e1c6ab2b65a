"""JSON over HTTP on a socket that nobody but this user can open: how local processes are asked.

A unix socket of mode 0600 in a directory of mode 0700; on Linux the other side's user must be ours
too. There is no key. GET changes nothing. Failures are the documents that the command line prints.
"""

import json
import os
import socket
import stat
import struct
import sys
from collections.abc import Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Final, final

import structlog
import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from scripts.api.connection import failure_response
from scripts.failure import Document, Failed, Failure

MAX_BODY: Final = 8 * 1024 * 1024
"""bytes of a request: more than any prompt that fits a model of today."""

BACKLOG: Final = 64
"""connections the kernel keeps for us while we accept others."""

log = structlog.get_logger()

_CREDENTIALS = struct.Struct("3i")


def app(routes: Sequence[BaseRoute]) -> Starlette:
    """An API of these routes alone, which fails in the same words."""
    handlers = {Failed: _failed, HTTPException: _refused, Exception: _broken}
    return Starlette(routes=routes, exception_handlers=handlers)


def answer(document: Document) -> Response:
    """A document as a response."""
    return Response(json.dumps(document), media_type="application/json")


async def read_json(request: Request) -> object:
    """The request's body. Raises `Failed`."""
    body = bytearray()
    async with aclosing(request.stream()) as pieces:
        async for piece in pieces:
            body += piece
            if len(body) > MAX_BODY:
                message = f"The request is longer than {MAX_BODY} bytes."
                raise Failed("request_too_large", message)
    try:
        value: object = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Failed("invalid_request", f"The request's body is no JSON: {error}.") from error
    return value


def shutdown(stop: Callable[[], None]) -> Callable[[Request], object]:
    """What ends the process, gently."""

    async def endpoint(request: Request) -> Response:
        stop()
        return answer({"schema": "tussah/shutdown/1", "stopping": True})

    return endpoint


# --- failures ---


async def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, Failed)
    code, request_id = error.failure.code, request.state.request_id
    log.info("api.request_refused", request_id=request_id, code=code)
    return _failure(request, error.failure, error.failure.meaning.http)


async def _refused(request: Request, error: Exception) -> Response:
    """What Starlette refuses: paths and methods we do not have."""
    assert isinstance(error, HTTPException)
    what = f"{request.method} {request.url.path}"
    if error.status_code == 405:
        message = f"{what} is not possible with this method."
        return _failure(request, Failure(code="method_not_allowed", message=message), 405)
    message = f"The control API has no {what}."
    return _failure(request, Failure(code="unsupported_endpoint", message=message), 404)


async def _broken(request: Request, error: Exception) -> Response:
    """A bug of ours; the server logs it with the same request id."""
    failure = Failure(
        code="internal",
        message="The request failed inside the node.",
        advice=f"Its log has the reason under request_id {request.state.request_id}.",
    )
    return _failure(request, failure, 500)


def _failure(request: Request, failure: Failure, status: int) -> Response:
    headers, body = failure_response(status, failure, request_id=request.state.request_id)
    named = {name.decode("ascii"): value.decode("ascii") for name, value in headers}
    return Response(body, status_code=status, headers=named)


# --- the socket ---


def listen(path: Path) -> "OwnListener":
    """Open the control socket, private from its first moment.

    The directory is the caller's to have made, private too. Raises `Failed` if there is no room
    for the socket.
    """
    listening = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)
    try:
        listening.bind(os.fspath(path))
    except OSError as error:
        listening.close()
        raise Failed("failed", f"The control socket {path} cannot be opened: {error}.") from error
    finally:
        os.umask(mask)
    listening.setblocking(False)
    listening.listen(BACKLOG)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    return OwnListener(trio.SocketListener(trio.socket.from_stdlib_socket(listening)))


@final
class OwnListener(trio.abc.Listener[trio.SocketStream]):
    """A listener that hands out connections of our own user only."""

    def __init__(self, listener: trio.SocketListener) -> None:
        self._listener = listener

    async def accept(self) -> trio.SocketStream:
        """The next connection of ours; others are closed without a word."""
        while True:
            stream = await self._listener.accept()
            if _is_ours(stream):
                return stream
            await trio.aclose_forcefully(stream)

    async def aclose(self) -> None:
        """Stop listening."""
        await self._listener.aclose()


def _is_ours(stream: trio.SocketStream) -> bool:
    if sys.platform != "linux":
        return True
    raw = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return bool(_CREDENTIALS.unpack(raw)[1] == os.getuid())
