"""Who may speak to the local API: who holds its key, on our own names, from our own pages.

The listener is on loopback, yet every web page that its owner opens can send requests there. A page
elsewhere names its own origin, a rebound host name is not ours, and neither knows the key.
"""

import secrets
from collections.abc import Iterable, Mapping
from typing import Final, final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scripts.api.openai import pages
from scripts.api.openai.errors import refusal
from scripts.failure import Failed

NAMES: Final = ("127.0.0.1", "localhost", "[::1]")
"""By which a client may call us."""

OPEN: Final = ("/health", *pages.PLACES)
"""Paths without a key: they tell nothing."""

METHODS: Final = b"GET, POST, OPTIONS"

EXPOSED: Final = b"X-Request-Id, X-Tussah-Worker, X-Tussah-Model-Hash, X-Tussah-Ignored"


@final
class Access:
    """An ASGI app in front of another. `key` None lets everybody on this machine in."""

    def __init__(
        self, app: ASGIApp, *, port: int, key: str | None, origins: Iterable[str] = ()
    ) -> None:
        self._app = app
        self._key = None if key is None else f"Bearer {key}".encode()
        self._hosts = tuple(f"{name}:{port}".encode() for name in NAMES)
        pages = (f"http://{name}:{port}" for name in NAMES)
        self._origins = tuple(origin.encode() for origin in (*pages, *origins))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse."""
        headers = _single(scope["headers"])
        origin = headers.get(b"origin")
        try:
            self._check_place(headers, origin)
            if origin is not None:
                send = _allowing(origin, send)
                if scope["method"] == "OPTIONS":
                    await _preflight(send)
                    return
            self._check_key(scope["path"], headers)
        except Failed as failed:
            await refusal(failed.failure, scope["state"]["request_id"])(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _check_place(self, headers: Mapping[bytes, bytes], origin: bytes | None) -> None:
        if headers.get(b"host", b"").lower() not in self._hosts:
            message = "The request names a host that is not this node's local API."
            raise Failed("forbidden_origin", message, f"Use http://{self._hosts[0].decode()}.")
        if origin is not None and origin not in self._origins:
            message = "A web page of another origin may not use this node."
            advice = "If it is yours, name its origin in the setting api.origins."
            raise Failed("forbidden_origin", message, advice)

    def _check_key(self, path: str, headers: Mapping[bytes, bytes]) -> None:
        if self._key is None or path in OPEN:
            return
        given = headers.get(b"authorization", b"")
        if not secrets.compare_digest(given, self._key):
            message = "The request does not carry this node's API key."
            advice = "`tussah key api` prints it; send it as `Authorization: Bearer KEY`."
            raise Failed("invalid_api_key", message, advice)


def _single(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Headers by name; those that come twice are joined, so that two hosts are none of ours."""
    joined: dict[bytes, bytes] = {}
    for name, value in headers:
        joined[name] = joined[name] + b", " + value if name in joined else value
    return joined


def _allowing(origin: bytes, send: Send) -> Send:
    """Tell the browser that this page may read what it gets."""
    cors = [
        (b"access-control-allow-origin", origin),
        (b"access-control-expose-headers", EXPOSED),
        (b"vary", b"Origin"),
    ]

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *cors]}
        await send(message)

    return sending


async def _preflight(send: Send) -> None:
    """What a browser asks before it sends a key along."""
    headers = [
        (b"access-control-allow-methods", METHODS),
        (b"access-control-allow-headers", b"*, Authorization"),
        (b"access-control-max-age", b"600"),
    ]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
