"""What stands between a node and the network: NATs and firewalls, in the terms of RFC 4787.

A class is two rules. Its *mapping* says which endpoint others see: the node's own, one for all
(endpoint-independent), or one for each whom it speaks to. Its *filtering* says who gets in there:
all, all once it is open, those at an address that was spoken to, or exactly who was spoken to.

A hole is open for `lifetime` seconds from the last datagram *out*, and lets in what comes after
the instant at which it was opened: so at one instant it does not matter who came first. Everything
here belongs to the node behind the box and changes in its turns.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import accumulate
from types import MappingProxyType
from typing import Final, TypeAlias, final

from p2p.core import Source
from p2p.entropy import Entropy
from p2p.wire import Endpoint

LIFETIME: Final = 60.0
"""seconds from the last datagram out; real boxes keep 30 to 300"""

SHARERS: Final = 64
"""nodes behind one address of a carrier-grade NAT"""

FIRST_PORT: Final = 1_024
SHARED_PORTS: Final = 1_000
"""ports of each node behind a carrier-grade NAT: 64 of them fit into one address"""
ALL_PORTS: Final = 64_000


class Mapped(Enum):
    """By whom a node is seen where."""

    NOT = auto()
    ONCE = auto()
    BY_REMOTE = auto()


class Filtered(Enum):
    """Who gets in."""

    NOBODY_IS = auto()
    WHILE_CLOSED = auto()
    BY_ADDRESS = auto()
    BY_ENDPOINT = auto()


class Nat(Enum):
    """The classes, by the names that experiments give them."""

    OPEN = "open"
    FIREWALL = "firewall"
    FULL_CONE = "full_cone"
    RESTRICTED = "restricted"
    PORT_RESTRICTED = "port_restricted"
    SYMMETRIC = "symmetric"
    CGNAT = "cgnat"
    BLOCKED = "blocked"


RULES: Final[Mapping[Nat, tuple[Mapped, Filtered]]] = MappingProxyType(
    {
        Nat.OPEN: (Mapped.NOT, Filtered.NOBODY_IS),
        Nat.FIREWALL: (Mapped.NOT, Filtered.BY_ENDPOINT),
        Nat.FULL_CONE: (Mapped.ONCE, Filtered.WHILE_CLOSED),
        Nat.RESTRICTED: (Mapped.ONCE, Filtered.BY_ADDRESS),
        Nat.PORT_RESTRICTED: (Mapped.ONCE, Filtered.BY_ENDPOINT),
        Nat.SYMMETRIC: (Mapped.BY_REMOTE, Filtered.BY_ENDPOINT),
        Nat.CGNAT: (Mapped.ONCE, Filtered.BY_ENDPOINT),
    }
)
"""All but `BLOCKED`, which carries no UDP at all."""

MIX: Final[Mapping[Nat, float]] = MappingProxyType(
    {
        Nat.OPEN: 0.30,
        Nat.PORT_RESTRICTED: 0.45,
        Nat.SYMMETRIC: 0.10,
        Nat.RESTRICTED: 0.10,
        Nat.CGNAT: 0.05,
    }
)
"""shares of nodes: a guess of ours, which nothing proves"""

Whom: TypeAlias = Endpoint | str | None
"""What a hole is open to: an endpoint, an address, or anybody."""


def drawing(shares: Mapping[Nat, float], entropy: Entropy) -> Callable[[int], Nat]:
    """The class of each node, drawn from its own fork."""
    classes = [nat for nat, share in shares.items() if share]
    bounds = [*accumulate(shares[nat] for nat in classes)]

    def draw(node: int) -> Nat:
        at = entropy.fork(f"nat/{node}").uniform() * bounds[-1]
        return classes[bisect_right(bounds, at)]

    return draw


@dataclass(slots=True)
class _Hole:
    opened: float
    last: float


@dataclass(slots=True)
class _Mapping:
    """One endpoint of a box that is a node's for now."""

    outside: Endpoint
    last: float
    holes: dict[Whom, _Hole] = field(default_factory=dict)


@dataclass(slots=True)
class _Box:
    nat: Nat
    home: Endpoint
    """What the node takes its own address for."""
    host: str
    """The address that others see."""
    base: int
    span: int
    ports: int = 0
    swept: float = 0.0
    mappings: dict[Endpoint | None, _Mapping] = field(default_factory=dict)


@final
class Boxes:
    """All of them, and whose each endpoint is: the `Naming` of nodes that know endpoints alone."""

    def __init__(self, lifetime: float = LIFETIME) -> None:
        self._lifetime = lifetime
        self._boxes: dict[int, _Box] = {}
        self._owners: dict[Endpoint, int] = {}
        self._sharers: list[str] = []

    def settle(self, node: int, nat: Nat, home: Endpoint, host: str) -> None:
        """Put a node behind its box, whose public address is `host`; of one of none it is its own.

        Of a carrier-grade NAT the first of 64 nodes gives the address of all.
        """
        base, span = FIRST_PORT, ALL_PORTS
        if nat is Nat.CGNAT:
            place = len(self._sharers) % SHARERS
            host = self._sharers[-1] if place else host
            self._sharers.append(host)
            base, span = FIRST_PORT + place * SHARED_PORTS, SHARED_PORTS
        self._boxes[node] = _Box(nat, home, host, base, span)
        if nat is Nat.OPEN or nat is Nat.FIREWALL:
            self._owners[home] = node

    def nat(self, node: int) -> Nat:
        """The class of a node."""
        return self._boxes[node].nat

    def host(self, node: int) -> str:
        """The address that others see of a node."""
        return self._boxes[node].host

    def leave(self, now: float, node: int, to: Endpoint) -> Endpoint | None:
        """Send something: what its receiver sees as its source; None if it never gets out."""
        box = self._boxes[node]
        if box.nat is Nat.OPEN:
            return box.home
        if box.nat is Nat.BLOCKED or (box.nat is Nat.CGNAT and box.host == to.host):
            return None
        mapped, filtered = RULES[box.nat]
        mapping = self._mapping(now, node, box, to if mapped is Mapped.BY_REMOTE else None)
        mapping.last = now
        self._open(now, mapping, _whom(filtered, to))
        return mapping.outside

    def reach(self, now: float, node: int, to: Source) -> tuple[int, Endpoint] | None:
        """Who is at an endpoint, and what it sees as the source; None if it leads to nobody."""
        if not isinstance(to, Endpoint):
            return None
        source = self.leave(now, node, to)
        owner = self._owners.get(to)
        return None if source is None or owner is None else (owner, source)

    def index(self, source: Source) -> int:
        """The node that is or was at an endpoint: what an event log wants to know."""
        if not isinstance(source, Endpoint) or source not in self._owners:
            raise ValueError(f"{source!r} is nobody's endpoint")
        return self._owners[source]

    def admits(self, now: float, node: int, to: Source, source: Source) -> bool:
        """Whether what `source` sent to an endpoint gets in to its node now."""
        box = self._boxes[node]
        if box.nat is Nat.OPEN:
            return True
        if box.nat is Nat.BLOCKED or not isinstance(source, Endpoint):
            return False
        _, filtered = RULES[box.nat]
        for mapping in self._at(box, to):
            hole = mapping.holes.get(_whom(filtered, source))
            if hole is not None and hole.opened < now <= hole.last + self._lifetime:
                return True
        return False

    def rebind(self, node: int) -> None:
        """A box forgets everything, as after a power cut: its node is seen elsewhere from now."""
        self._boxes[node].mappings.clear()

    def sizes(self) -> dict[str, int]:
        """The length of every table."""
        mappings = [one for box in self._boxes.values() for one in box.mappings.values()]
        return {
            "nat_mappings": len(mappings),
            "nat_holes": sum(len(mapping.holes) for mapping in mappings),
        }

    def _at(self, box: _Box, to: Source) -> list[_Mapping]:
        """The mapping whose endpoint this is; searched only where there are many."""
        once = box.mappings.get(None)
        if once is not None:
            return [once] if once.outside == to else []
        return [mapping for mapping in box.mappings.values() if mapping.outside == to]

    def _mapping(self, now: float, node: int, box: _Box, remote: Endpoint | None) -> _Mapping:
        self._sweep(now, box)
        mapping = box.mappings.get(remote)
        if mapping is None or mapping.last + self._lifetime < now:
            outside = self._outside(node, box)
            mapping = box.mappings[remote] = _Mapping(outside, now)
        return mapping

    def _outside(self, node: int, box: _Box) -> Endpoint:
        """The next free port of a box; a node without one is seen where it is."""
        if RULES[box.nat][0] is Mapped.NOT:
            return box.home
        outside = Endpoint(box.host, box.base + box.ports % box.span)
        box.ports += 1
        self._owners[outside] = node
        return outside

    def _open(self, now: float, mapping: _Mapping, whom: Whom) -> None:
        hole = mapping.holes.get(whom)
        if hole is None or hole.last + self._lifetime < now:
            mapping.holes[whom] = _Hole(now, now)
        else:
            hole.last = now

    def _sweep(self, now: float, box: _Box) -> None:
        """Once a lifetime, forget what is closed: the tables stay as long as what is in use."""
        if now < box.swept + self._lifetime:
            return
        box.swept, oldest = now, now - self._lifetime
        box.mappings = {key: one for key, one in box.mappings.items() if one.last >= oldest}
        for mapping in box.mappings.values():
            mapping.holes = {whom: it for whom, it in mapping.holes.items() if it.last >= oldest}


def _whom(filtered: Filtered, remote: Endpoint) -> Whom:
    match filtered:
        case Filtered.BY_ENDPOINT:
            return remote
        case Filtered.BY_ADDRESS:
            return remote.host
        case Filtered.WHILE_CLOSED | Filtered.NOBODY_IS:
            return None
