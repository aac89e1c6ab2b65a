"""The numbers of the overlay. TON's public overlays have these; a dev network is faster."""

from dataclasses import dataclass, field
from typing import TypeAlias

from p2p import defaults
from p2p.overlay.broadcast import Admission

Span: TypeAlias = tuple[float, float]
"""seconds, of which one is drawn uniformly each time"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one node keeps to. Others notice few of them, but those of one network should agree."""

    epoch: float = defaults.EPOCH
    """seconds of a directory epoch, and so of a pulse's slot"""

    max_members: int = 300
    """members known; then each new one takes the place of another"""
    neighbours: int = 10
    """members that are told what comes, and asked how they are"""
    fanout: int = 3
    """members to whom something is passed on, most of them neighbours; TON's nodes take 5"""
    first_fanout: int = 10
    """members to whom what is our own is sent: it is rare, and must not die where it begins"""
    shared: int = 4
    """members named to who asks, besides ourselves"""

    few: int = 20
    """members, below which more are looked for in earnest"""
    enough: int = 50
    """members, from which strangers that others name are pinged but now and then: each may cost a
    lookup of its address in the DHT, 20 kB; those that speak to us themselves cost none"""
    named: float = 60.0
    """seconds between pings of strangers that others name, when members are enough"""
    exchange_first: float = 0.5
    """seconds to the second exchange of members; each next takes half as long again, while few"""
    exchange: Span = (4.0, 8.0)
    """seconds between exchanges of members: each neighbour is asked once a minute"""
    exchange_timeout: float = 5.0
    """seconds a member has to answer one"""
    misses: int = 3
    """answers a member may owe, one after the other; then it is none"""

    lookup_few: Span = (6.0, 10.0)
    """seconds between lookups of members in the DHT while few are known, and to another attempt to
    store our own record where none took it"""
    lookup: Span = (55.0, 65.0)
    """seconds between them otherwise"""
    store: Span = (60.0, 100.0)
    """seconds between stores of our own record in the DHT"""
    reshuffle: Span = (30.0, 120.0)
    """seconds between draws of neighbours"""

    pings: int = 3
    """pings of a stranger, before it is given up"""
    ping_timeout: float = 5.0
    """seconds a stranger has to answer one"""
    silence: float = 60.0
    """seconds for which a stranger that did not answer is not pinged again"""

    gather: float = 2.0
    """seconds pulses wait for each other, so that one message carries up to 36"""

    admission: Admission = field(default_factory=Admission)
    """who may broadcast how much"""


DEFAULT = Settings()
"""A public network's."""

DEV = Settings(
    epoch=defaults.DEV_EPOCH,
    named=5.0,
    exchange_first=0.2,
    exchange=(2.0, 4.0),
    exchange_timeout=2.0,
    lookup_few=(4.0, 6.0),
    lookup=(10.0, 15.0),
    store=(5.0, 10.0),
    reshuffle=(5.0, 15.0),
    ping_timeout=2.0,
    silence=5.0,
    gather=0.2,
)
"""A dev network's: it lives on one machine, and people watch it start."""
