"""Where a carrier listens, and when it dials a peer again that it could not reach."""

import errno
from collections.abc import Sequence
from typing import NamedTuple, final

import trio

from p2p.defaults import REDIAL_FIRST, REDIAL_LAST, REDIAL_TABLE
from p2p.errors import LocalError
from p2p.identity import AdnlId
from p2p.wire import Endpoint


async def bind(endpoint: Endpoint | None) -> Sequence[trio.SocketListener]:
    """The listening sockets, none for None. Raises `LocalError` saying why it cannot be.

    Without SO_REUSEPORT, which libp2p sets and with which two nodes share a port unawares.
    """
    if endpoint is None:
        return []
    try:
        return await trio.open_tcp_listeners(endpoint.port, host=endpoint.host)
    except OSError as error:
        raise LocalError(_why_not_bound(endpoint, error)) from error


def _why_not_bound(endpoint: Endpoint, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {endpoint.port} is taken: stop who uses it, or choose another port"
    return f"cannot listen on {endpoint.host} port {endpoint.port}: {error.strerror}"


def bound(sockets: Sequence[trio.SocketListener]) -> Endpoint | None:
    """Where the first of them listens."""
    for socket in sockets:
        host, port = socket.socket.getsockname()[:2]
        return Endpoint(host, port)
    return None


class _Failure(NamedTuple):
    endpoints: tuple[Endpoint, ...]
    pause: float
    again: float


@final
class Redials:
    """When a peer that could not be reached may be dialled again at the same endpoints."""

    def __init__(self) -> None:
        self._failures: dict[AdnlId, _Failure] = {}

    async def pause(self, peer: AdnlId, endpoints: tuple[Endpoint, ...]) -> None:
        """Wait until it may be dialled."""
        failure = self._failures.get(peer)
        if failure is not None and failure.endpoints == endpoints:
            await trio.sleep_until(failure.again)

    def remember(self, peer: AdnlId, endpoints: tuple[Endpoint, ...]) -> None:
        """A dial failed."""
        last = self._failures.pop(peer, None)
        pause = REDIAL_FIRST if last is None else last.pause * 2
        pause = min(pause, REDIAL_LAST)
        self._failures[peer] = _Failure(endpoints, pause, trio.current_time() + pause)
        if len(self._failures) > REDIAL_TABLE:
            del self._failures[next(iter(self._failures))]

    def forget(self, peer: AdnlId) -> None:
        """A dial succeeded."""
        self._failures.pop(peer, None)
