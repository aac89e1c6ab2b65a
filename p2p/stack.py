"""The cores of one node joined: what the trio driver and the simulated worlds both run.

Sources are `Link`s, data are `wire` messages. Onion frames go to the circuits' core, queries and
answers to the directory exchange. Both want links; the stack finds out where a peer listens, asks
the carrier for a link once, and tells whoever waits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

from p2p.core import Event, Send, Source
from p2p.entropy import Entropy
from p2p.identity import AdnlId, Identity
from p2p.onion.core import CircuitId, OnionKeys
from p2p.onion.path import Target
from p2p.overlay.advert import Fields, Role
from p2p.overlay.directory import Directory
from p2p.wire import Endpoint, Link


class Peer(NamedTuple):
    """A node known from the settings of a network."""

    id: AdnlId
    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StackConfig:
    """What a node is and whom it asks first."""

    network: int
    dev: bool = False
    bootstrap: tuple[Peer, ...] = ()
    roles: Role = Role(0)
    """RELAY lets others build circuits through this node, WORKER and MINT let them end here."""
    allow_direct: bool = False


@dataclass(frozen=True, slots=True)
class Dial:
    """A link to `peer` is wanted; answer with `link_up` or `dial_failed`."""

    peer: AdnlId
    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True)
class HangUp:
    """Close the link; `link_down` answers."""

    link: Link


@dataclass(frozen=True, slots=True)
class Joined:
    """The directory has been fetched for the first time."""


@dataclass(frozen=True, slots=True)
class DirectoryChanged:
    """A node came, went, or says something new of itself."""


@dataclass(frozen=True, slots=True)
class Published:
    """A directory server took our advert of this seq."""

    seq: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """Two adverts of one node and seq, each signed: it is at fault and anyone can check."""

    first: bytes
    second: bytes


@final
class Stack:
    """A node without I/O. Commands: links and adverts here, circuits as in `OnionCore`."""

    directory: Directory

    def __init__(
        self,
        identity: Identity,
        entropy: Entropy,
        config: StackConfig,
        onion_keys: OnionKeys | None = None,
    ) -> None:
        raise NotImplementedError

    def start(self, now: float, addresses: tuple[Endpoint, ...] = ()) -> None:
        """Begin to fetch the directory; `addresses` is where others can dial this node."""
        raise NotImplementedError

    def link_up(self, now: float, link: Link, dialled: bool) -> None:
        """A link is open; `dialled` if this node asked for it."""
        raise NotImplementedError

    def link_down(self, now: float, link: Link) -> None:
        """A link is gone."""
        raise NotImplementedError

    def dial_failed(self, now: float, peer: AdnlId) -> None:
        """What `Dial` asked for cannot be had."""
        raise NotImplementedError

    def publish(self, now: float, fields: Fields) -> int:
        """Say this of ourselves, and keep saying it; returns the seq that `Published` will name.

        Raises `ValueError` for fields that nobody would take.
        """
        raise NotImplementedError

    def withdraw(self, now: float) -> int:
        """Say that we leave; as `publish`."""
        raise NotImplementedError

    def open(self, now: float, path: Sequence[Target], request: bytes) -> CircuitId:
        """As `OnionCore.open`; so are `accept` to `close`."""
        raise NotImplementedError

    def accept(self, now: float, circuit: CircuitId, offer: bytes) -> None:  # noqa: D102
        raise NotImplementedError

    def refuse(self, now: float, circuit: CircuitId, reason: bytes) -> None:  # noqa: D102
        raise NotImplementedError

    def send(self, now: float, circuit: CircuitId, stream: int, data: bytes) -> None:  # noqa: D102
        raise NotImplementedError

    def writable(self, circuit: CircuitId) -> int:  # noqa: D102
        raise NotImplementedError

    def end(self, now: float, circuit: CircuitId, stream: int) -> None:  # noqa: D102
        raise NotImplementedError

    def reset(self, now: float, circuit: CircuitId, stream: int, code: int) -> None:  # noqa: D102
        raise NotImplementedError

    def close(self, now: float, circuit: CircuitId) -> None:  # noqa: D102
        raise NotImplementedError

    def receive(self, now: float, source: Source, datagram: bytes) -> None:
        """Take a message from a link."""
        raise NotImplementedError

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        raise NotImplementedError

    def next_deadline(self) -> float | None:
        """When something is due."""
        raise NotImplementedError

    def drain(self) -> tuple[list[Send], list[Event]]:
        """Messages for links; events of this module and those of circuits."""
        raise NotImplementedError

    def sizes(self) -> dict[str, int]:
        """The length of every table and queue."""
        raise NotImplementedError
