"""What a node of the DHT tells: its events, its counters, and what it wants kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from p2p.dht.counts import Snapshot
from p2p.dht.table import TableStatistics
from p2p.ton import DhtNode, DhtValue


@dataclass(frozen=True, slots=True)
class Joined:
    """There is somebody to ask: so many nodes are active."""

    active: int


@dataclass(frozen=True, slots=True)
class Alone:
    """Nobody is left to ask; the nodes to begin with are tried until one answers."""


@dataclass(frozen=True, slots=True)
class Published:
    """An own value was stored by so many nodes."""

    name: str
    took: int


DhtEvent: TypeAlias = Joined | Alone | Published


@dataclass(frozen=True, slots=True, kw_only=True)
class DhtStatistics:
    """A snapshot."""

    serving: bool
    table: TableStatistics
    values: int
    """those kept for others"""
    published: int
    counts: Snapshot
    hops: Mapping[int, int]
    """How many lookups came to their value by so many hops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DhtSnapshot:
    """What is worth keeping over a restart."""

    nodes: tuple[DhtNode, ...]
    values: tuple[DhtValue, ...]
    """Own ones, as they were stored last."""
