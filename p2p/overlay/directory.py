"""The list of nodes: believed adverts by id, the newest of each, bounded and expiring.

Pure. It holds no clock: what it says is true as of the last `now` it was told, and whoever holds
it calls `expire` at `next_deadline`. How adverts travel is not known here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import final

from p2p.identity import AdnlId
from p2p.onion.path import RelayView
from p2p.overlay.advert import Advert, Role, Rules


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A listed node."""

    advert: Advert
    live: bool
    """Heard of in this directory epoch or the last one."""
    open: bool
    """Did not call itself full."""
    days: int
    """Listed on this many of the last 7 days."""
    group: bytes
    """Whom to take for one operator: see `Directory`."""

    @property
    def id(self) -> AdnlId:
        """Who it is."""
        return self.advert.id


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryStatus:
    """A snapshot of the list, comparable between nodes."""

    epoch: int
    """Number of the directory epoch."""
    root: bytes
    """Hash over all entries: equal roots, equal lists."""
    count: int
    """Nodes listed, this one included."""
    live: int
    """Those of them that are live."""
    age: float | None
    """Seconds since somebody confirmed the list; None before the first time."""


class Verdict(Enum):
    """What became of an advert offered to the directory."""

    NEW = "new"
    KNOWN = "known"
    """These very bytes are listed already."""
    OLD = "old"
    """A newer one of the same node is listed."""
    FULL = "full"
    """A bound of the directory is reached."""


@final
class Directory:
    """Believed adverts; `usable`, `find`, `relay` and `relays` are how circuits are planned.

    A node's group is, in a dev network, its own id; else its operator, its subnet (/16 or /32), or
    the subnet of its first attachment. This node itself is listed but never usable.
    """

    def __init__(self, rules: Rules, self_id: AdnlId) -> None:
        raise NotImplementedError

    def usable(self, role: Role, model: bytes | None = None) -> list[Entry]:
        """Others with this role (and serving this model), ordered by id."""
        raise NotImplementedError

    def find(self, id: AdnlId) -> Entry | None:
        """The listed node of this id."""
        raise NotImplementedError

    def relay(self, id: AdnlId) -> RelayView | None:
        """Any listed relay, worker or mint, as circuits see it."""
        raise NotImplementedError

    def relays(self) -> Sequence[RelayView]:
        """The usable relays, ordered by id."""
        raise NotImplementedError

    def status(self) -> DirectoryStatus:
        """A snapshot."""
        raise NotImplementedError

    def add(self, now: float, buffer: bytes) -> Verdict:
        """Offer an advert. Raises `AdvertError` if it breaks a rule."""
        raise NotImplementedError

    def since(self, arrival: int) -> Iterator[Advert]:
        """Adverts that came after this one, in order of arrival."""
        raise NotImplementedError

    def confirm(self, now: float) -> None:
        """Somebody else's list is known to be in ours."""
        raise NotImplementedError

    def expire(self, now: float) -> bool:
        """Forget what has run out; whether anything had."""
        raise NotImplementedError

    def next_deadline(self) -> float | None:
        """When something runs out."""
        raise NotImplementedError
