"""Where a carrier listens, and how it dials: one dial a peer, with patience."""

import errno
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, TypeAlias, final

import trio

from p2p.defaults import LINK_DIALS, LINK_KNOCKS, REDIAL_FIRST, REDIAL_LAST, REDIAL_TABLE
from p2p.errors import LocalError
from p2p.identity import AdnlId
from p2p.transport.links import Links
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
        return f"port {endpoint.port} is taken by another program"
    return f"cannot listen on {endpoint.host} port {endpoint.port}: {error.strerror}"


def bound(sockets: Sequence[trio.SocketListener]) -> Endpoint | None:
    """Where the first of them listens."""
    for socket in sockets:
        host, port = socket.socket.getsockname()[:2]
        return Endpoint(host, port)
    return None


Attempt: TypeAlias = Callable[[AdnlId, Endpoint], Awaitable[bool]]
"""Tries one endpoint; whether a link came of it."""


@final
class Dials:
    """The dials under way. Each ends by a link, whoever made it, or by `dial_failed`."""

    def __init__(self, links: Links, attempt: Attempt) -> None:
        self._links = links
        self._attempt = attempt
        self._redials = Redials()
        self._limiter = trio.CapacityLimiter(LINK_DIALS)
        self._under_way: dict[AdnlId, object] = {}
        """A token a dial; a link that comes up removes that of its peer."""
        self._knocks: dict[AdnlId, trio.CancelScope] = {}

    def __len__(self) -> int:
        return len(self._under_way)

    def begin(self, nursery: trio.Nursery, peer: AdnlId, endpoints: tuple[Endpoint, ...]) -> None:
        """Dial, unless a dial to the peer is under way or a link to it is up."""
        if not self._is_wanted(peer):
            return
        if peer in self._knocks:
            self._knocks.pop(peer).cancel()
        self._links.counts.dials += 1
        self._under_way[peer] = token = object()
        nursery.start_soon(self._dial, peer, endpoints, token)

    def knock(self, nursery: trio.Nursery, peer: AdnlId, endpoint: Endpoint) -> None:
        """Try one endpoint once, where a dial may begin; nobody is told of a failure."""
        is_free = peer not in self._knocks and len(self._knocks) < LINK_KNOCKS
        if is_free and self._is_wanted(peer):
            self._knocks[peer] = scope = trio.CancelScope()
            nursery.start_soon(self._knock, peer, endpoint, scope)

    def answer(self, peer: AdnlId) -> None:
        """A link to the peer comes up: its dial is answered, and another may begin."""
        self._under_way.pop(peer, None)

    def clear(self) -> None:
        """None is under way any more: the run has ended."""
        self._under_way.clear()
        self._knocks.clear()

    def _is_wanted(self, peer: AdnlId) -> bool:
        end = self._links.to(peer)
        return peer not in self._under_way and (end is None or end.over)

    async def _knock(self, peer: AdnlId, endpoint: Endpoint, scope: trio.CancelScope) -> None:
        with scope:
            await self._attempt(peer, endpoint)
        if self._knocks.get(peer) is scope:
            del self._knocks[peer]

    async def _dial(self, peer: AdnlId, endpoints: tuple[Endpoint, ...], token: object) -> None:
        await self._redials.pause(peer, endpoints)
        await self._links.left(peer)
        async with self._limiter:
            for endpoint in endpoints:
                if self._under_way.get(peer) is not token or await self._attempt(peer, endpoint):
                    break

        if self._under_way.get(peer) is not token:
            self._redials.forget(peer)
            return
        del self._under_way[peer]
        self._redials.remember(peer, endpoints)
        self._links.unreached(peer)


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
