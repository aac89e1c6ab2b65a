"""A node for callers on trio: join, see who is there, open circuits, answer them."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias, final

import trio

from p2p.core import Event, Log
from p2p.entropy import Entropy, SystemEntropy
from p2p.identity import AdnlId, Identity
from p2p.onion.core import CircuitId, Incoming
from p2p.onion.path import Target
from p2p.overlay.advert import Fields, Role
from p2p.overlay.directory import Directory, DirectoryStatus
from p2p.stack import Peer
from p2p.transport.carrier import Carrier, CarrierStatistics, Tap
from p2p.wire import Endpoint

OnionTap: TypeAlias = Callable[[str, bytes], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """Who a node is, on which network, and where it listens."""

    identity: Identity
    network: int
    dev: bool = False
    bootstrap: tuple[Peer, ...] = ()
    listen: Endpoint | None = None
    """None: dial only; port 0: any free one."""
    announce: tuple[Endpoint, ...] = ()
    """Where others can dial this node, if that is not where it listens."""
    roles: Role = Role(0)
    allow_direct: bool = False
    entropy: Entropy = field(default_factory=SystemEntropy)
    tap: Tap | None = None
    onion_tap: OnionTap | None = None
    log: Log | None = None


CarrierFactory: TypeAlias = Callable[[NodeConfig], Carrier]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatistics:
    """A snapshot of a node."""

    carrier: CarrierStatistics
    directory: DirectoryStatus
    circuits: int
    """circuits that this node asked for or answers"""
    sizes: dict[str, int]
    """length of every table and queue of the stack"""
    misbehaved: int
    """messages of peers that broke a rule"""


@asynccontextmanager
async def open_node(
    config: NodeConfig, *, carrier: CarrierFactory | None = None
) -> AsyncIterator["Node"]:
    """A running node; everything it started has ended when the block is left.

    Raises `OSError` if it cannot listen. A core that raises is a bug: the block is cancelled and
    the exception leaves it.
    """
    raise NotImplementedError
    yield


@final
class Node:
    """The face of a running node. All methods but the `async` ones act at once."""

    id: AdnlId
    endpoint: Endpoint | None
    """Where it listens."""
    directory: Directory
    incoming: "trio.MemoryReceiveChannel[Incoming]"
    """Circuits that end here: `accept` or `refuse` each within 6 s."""

    async def joined(self) -> None:
        """Wait until the directory has been fetched; the deadline is the caller's."""
        raise NotImplementedError

    async def directory_changed(self) -> None:
        """Wait until the directory changes after this call."""
        raise NotImplementedError

    async def publish(self, fields: Fields) -> None:
        """Be listed, and stay so until `withdraw`; returns once a directory server agreed."""
        raise NotImplementedError

    async def withdraw(self) -> None:
        """Leave the list; returns once a directory server knows."""
        raise NotImplementedError

    def path(self, worker: AdnlId, relays: int = 3) -> list[Target]:
        """Relays drawn by the path rules, then the worker. Raises `NoPath`."""
        raise NotImplementedError

    def open(self, path: Sequence[Target], request: bytes) -> CircuitId:
        """Ask for a circuit: `events` gives `Opened` or `Failed` within 10 s."""
        raise NotImplementedError

    def events(self, circuit: CircuitId) -> "trio.MemoryReceiveChannel[Event]":
        """The events of one circuit, in order; the channel ends after the last. Call it once.

        Who does not read loses the circuit: it is closed, and `Lost` ends the channel.
        """
        raise NotImplementedError

    def accept(self, incoming: Incoming, offer: bytes) -> None:
        """Answer a circuit with yes."""
        raise NotImplementedError

    def refuse(self, incoming: Incoming, reason: bytes) -> None:
        """Answer a circuit with no."""
        raise NotImplementedError

    def send(self, circuit: CircuitId, stream: int, data: bytes) -> None:
        """Queue bytes. Raises `NoCapacity` beyond `writable`."""
        raise NotImplementedError

    def writable(self, circuit: CircuitId) -> int:
        """Bytes that `send` takes now."""
        raise NotImplementedError

    def end(self, circuit: CircuitId, stream: int) -> None:
        """Nothing follows on the stream."""
        raise NotImplementedError

    def reset(self, circuit: CircuitId, stream: int, code: int) -> None:
        """Give a stream up."""
        raise NotImplementedError

    def close(self, circuit: CircuitId) -> None:
        """End a circuit; its channel ends too."""
        raise NotImplementedError

    def statistics(self) -> NodeStatistics:
        """A snapshot."""
        raise NotImplementedError
