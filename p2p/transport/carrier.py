"""The seam of links: who opens, closes and carries them, behind one shape for libp2p and memory.

A carrier is a `Transport` whose sources are `Link`s: ordered, reliable, encrypted and
authenticated by the peer's key. It knows nothing of what the messages mean.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

import trio

from p2p.drive import Transport
from p2p.identity import AdnlId
from p2p.wire import Endpoint, Link

if TYPE_CHECKING:  # the stubs that libp2p brings stand before trio's own types
    from trio_typing import TaskStatus

Tap: TypeAlias = Callable[[Link, bool, bytes], None]
"""Sees every message of the seam, both ways: the link, whether it was sent, `wire.pack` bytes."""

Meet: TypeAlias = Callable[[Link, Endpoint, Endpoint], None]
"""Sees the two ends of the TCP connection under a link that came up: our own, the peer's."""


class Listener(Protocol):
    """Whom a carrier tells of its links: synchronously, and of a link before any of its data."""

    def link_up(self, link: Link, dialled: bool) -> None:
        """A link is open; `dialled` if this side asked for it."""

    def link_down(self, link: Link) -> None:
        """A link is gone, by either side's wish or by failure; nothing more comes from it."""

    def dial_failed(self, peer: AdnlId) -> None:
        """None of the endpoints led to the peer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CarrierStatistics:
    """A snapshot of a carrier; the counts run since its start."""

    links: int
    """links open now"""
    dialling: int
    """dials under way now"""
    inbox: int
    """messages waiting to be taken"""
    outbox: int
    """messages waiting to be written"""
    dials: int
    """dials begun"""
    dials_failed: int
    """dials that led to nobody"""
    refused: int
    """links closed during their greeting: wrong network, wrong key, too many"""
    closed: int
    """links closed because the peer broke the carrier's rules or fell silent"""
    dropped: int
    """messages not carried: their link was gone, or a bound was reached"""
    sent: int
    """messages sent"""
    received: int
    """messages received"""
    bytes_sent: int
    """bytes of those messages, on the seam"""
    bytes_received: int
    """bytes of those messages, on the seam"""


class Carrier(Transport, Protocol):
    """Opens links to peers and carries the messages of those that are open."""

    async def run(
        self,
        listener: Listener,
        *,
        task_status: "TaskStatus[Endpoint | None]" = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until cancelled; started with the bound endpoint, None for a dial-only node.

        All links are down when it ends. Raises `LocalError` if it cannot listen.
        """

    def dial(self, peer: AdnlId, endpoints: Sequence[Endpoint]) -> None:
        """Ask for a link to `peer`; the listener hears `link_up` or `dial_failed` later.

        Does nothing while a dial to the peer is under way or a link to it is up.
        """

    def knock(self, peer: AdnlId, endpoint: Endpoint) -> None:
        """Try one endpoint once; the listener hears `link_up` if a link comes of it, else nothing.

        It never stands in the way of a dial: it does nothing where `dial` would do nothing.
        """

    def close(self, link: Link, *, dead: bool = False) -> None:
        """Close a link; the listener hears `link_down`. A link that is gone is no error.

        A `dead` one is given no time for what is queued.
        """

    def statistics(self) -> CarrierStatistics:
        """A snapshot of the counters."""
