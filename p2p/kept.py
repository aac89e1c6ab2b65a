"""What a node keeps over restarts beside its keys: hints, checked as if a peer had sent them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What helps the next start, and is checked then as if a peer had sent it."""

    nodes: tuple[bytes, ...] = ()
    """`dht.node` records."""
    adverts: tuple[tuple[float, bytes], ...] = ()
    """Adverts, each after the time it was first seen (Unix seconds)."""
