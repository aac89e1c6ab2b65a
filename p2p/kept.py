"""What a node keeps over restarts beside its keys: hints, checked as if a peer had sent them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptGuard:
    """A first relay that a node keeps to, and how its circuits fared. Times are Unix seconds."""

    id: bytes
    since: float
    until: float
    banned: float = 0.0
    """Until when it is not used."""
    tries: int = 0
    passed: int = 0
    ended: int = 0
    killed: int = 0
    """Circuits, as in `p2p.onion.guards.Guard`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What helps the next start, and is checked then as if a peer had sent it."""

    nodes: tuple[bytes, ...] = ()
    """`dht.node` records."""
    adverts: tuple[tuple[float, bytes], ...] = ()
    """Adverts, each after the time it was first seen (Unix seconds)."""
    guards: tuple[KeptGuard, ...] = ()
    """In the order in which they were drawn."""
