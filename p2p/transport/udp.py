"""Datagrams over UDP: a socket a family behind one `Transport`, and no call that blocks.

The only socket of ADNL. It knows addresses and bytes, never who is meant or what is said. The
sockets are the system's own and not trio's, each call of which is a turn of the scheduler: trio
waits until something is there, then `take` reads until nothing is.
"""

import errno
import selectors
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final, final

import trio

from p2p.core import Source
from p2p.errors import Closed, LocalError
from p2p.wire import Endpoint

MAX_DATAGRAM: Final = 2_048
"""bytes: no datagram of TON's has more than 1,440; what is larger than this is not for us."""

RECEIVE_BUFFER: Final = 4 * 1024 * 1024
"""bytes asked for by SO_RCVBUF: 50 ms of full datagrams at 400 Mbit/s, with the system's overhead.

It may grant less: net.core.rmem_max of Linux is the limit."""

_NO_ROOM: Final = (errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS)


@dataclass(frozen=True, slots=True, kw_only=True)
class UdpStatistics:
    """A snapshot of a UDP transport; the counts run since it was opened."""

    receive_buffer: int
    """bytes of the smaller receive buffer, as the system counts them"""
    received: int
    """datagrams taken"""
    sent: int
    """datagrams that the system took"""
    full: int
    """datagrams not sent because a send buffer was full"""
    oversized: int
    """datagrams of more than `MAX_DATAGRAM` bytes, not sent or not taken"""
    failed: int
    """errors of the network: nobody at a port, no route, an address that is none"""


@final
class UdpTransport:
    """A `Transport` whose sources are `Endpoint`s. It is open once it is made."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        """Bind, an endpoint a family, port 0 to a free one. Raises `LocalError` if it cannot be."""
        self._sockets: dict[socket.AddressFamily, socket.socket] = {}
        with ExitStack() as opened:
            self._selector = opened.enter_context(selectors.DefaultSelector())
            for endpoint in endpoints:
                one = opened.enter_context(_bound(endpoint))
                self._selector.register(one, selectors.EVENT_READ)
                self._sockets[one.family] = one
            if not 0 < len(self._sockets) == len(endpoints):
                raise LocalError("UDP takes one address of each family, and at least one")
            self._opened = opened.pop_all()

        self.endpoints = tuple(Endpoint(*one.getsockname()[:2]) for one in self._sockets.values())
        """Where it is bound."""
        self._receive_buffer = min(map(_receive_buffer, self._sockets.values()))
        self._open = True
        self._received = self._sent = self._full = self._oversized = self._failed = 0

    def take(self, limit: int = 64) -> list[tuple[Source, bytes]]:
        """What has arrived: of each family its share of the limit, so that neither starves."""
        if not self._open:
            raise Closed("the sockets are closed")
        share = max(1, limit // len(self._sockets))
        taken = [got for one in self._sockets.values() for got in self._read(one, share)]
        self._received += len(taken)
        return taken

    async def wait(self) -> None:
        if not self._open:
            await trio.lowlevel.checkpoint()
            return
        # A selector is itself readable when one of its sockets is: one wait for both families.
        try:
            await trio.lowlevel.wait_readable(self._selector.fileno())
        except trio.ClosedResourceError:
            return

    def send(self, now: float, to: Source, data: bytes) -> None:
        """Hand to the system, or drop and count: also what no address of ours can reach."""
        if not isinstance(to, Endpoint):
            raise TypeError("UDP sends to endpoints")
        if not self._open:
            return
        if len(data) > MAX_DATAGRAM:
            self._oversized += 1
            return
        try:
            self._send(to, data)
        except OSError as error:
            no_room = error.errno in _NO_ROOM
            self._full += no_room
            self._failed += not no_room
        except (ValueError, OverflowError):  # what can be no address, or no port
            self._failed += 1
        else:
            self._sent += 1

    def close(self) -> None:
        """Close the sockets: who waits is woken and meets `Closed`, what is sent later is lost."""
        if self._open:
            self._open = False
            trio.lowlevel.notify_closing(self._selector.fileno())
            self._opened.close()

    def statistics(self) -> UdpStatistics:
        """A snapshot of the counters."""
        return UdpStatistics(
            receive_buffer=self._receive_buffer,
            received=self._received,
            sent=self._sent,
            full=self._full,
            oversized=self._oversized,
            failed=self._failed,
        )

    def _read(self, one: socket.socket, limit: int) -> Iterator[tuple[Source, bytes]]:
        for _ in range(limit):
            try:
                data, (host, port, *_) = one.recvfrom(MAX_DATAGRAM + 1)
            except BlockingIOError:
                return
            except OSError:  # an ICMP answer to something sent before: nobody is there
                self._failed += 1
                continue
            if len(data) > MAX_DATAGRAM:
                self._oversized += 1
                continue
            yield Endpoint(host, port), data

    def _send(self, to: Endpoint, data: bytes) -> None:
        family = socket.AF_INET6 if ":" in to.host else socket.AF_INET
        socket.inet_pton(family, to.host)  # a name would be looked up, and that blocks
        if family not in self._sockets:
            raise OSError(errno.EAFNOSUPPORT, "no socket of this family")
        self._sockets[family].sendto(data, to)


def _bound(endpoint: Endpoint) -> socket.socket:
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    one = socket.socket(family, socket.SOCK_DGRAM)
    try:
        one.setblocking(False)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        if family == socket.AF_INET6:  # IPv4 has a socket of its own
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind(endpoint)
    except OSError as error:
        one.close()
        raise LocalError(_why_not_bound(endpoint, error)) from error
    return one


def _receive_buffer(one: socket.socket) -> int:
    return one.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


def _why_not_bound(endpoint: Endpoint, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"UDP port {endpoint.port} is taken by another program"
    return f"cannot listen on {endpoint.host} UDP port {endpoint.port}: {error.strerror}"
