"""Nodes of the directory as paths see them."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntFlag
from typing import Protocol

from p2p.entropy import Entropy
from p2p.identity import AdnlId
from p2p.onion.handshake import Target


class Role(IntFlag):
    """What a listed node offers, with the bits of an advert."""

    RELAY = 1
    WORKER = 2
    MINT = 4
    DHT = 8
    ATTACHMENT = 16
    DIALABLE = 32
    DIRECTORY = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayView:
    """What path choice needs to know of a listed node."""

    id: AdnlId
    onion_key: bytes
    """X25519 public key of 32 bytes, today's as the node's advert has it."""
    operator: bytes
    """Group of nodes under one operator; an unproven operator's group is its subnet."""
    subnet: bytes
    """/16 of IPv4 or /32 of IPv6; empty for a private or unknown address."""
    roles: Role
    stable: bool
    """Listed in at least 5 of the last 7 days."""
    weight: float
    """Stake up to the cap as a share of the cap, 1.0 in a network without stake."""
    attachments: tuple[AdnlId, ...] = ()
    """Relays that keep a link to this node, which cannot be dialled."""
    live: bool = True
    """Heard of lately. A guard need not be: who keeps its pulses back could else replace it."""

    @property
    def target(self) -> Target:
        """As a hop of a path."""
        return Target(id=self.id, onion_key=self.onion_key)

    def clashes(self, other: "RelayView") -> bool:
        """Whether one party may run both: they share an id, an operator or a subnet."""
        return (
            self.id == other.id
            or self.operator == other.operator
            or (self.subnet != b"" and self.subnet == other.subnet)
        )


class DirectoryView(Protocol):
    """The directory as circuits see it; asking it never sends a query."""

    def relay(self, peer: AdnlId, /) -> RelayView | None:
        """Any listed relay, worker or mint."""

    def relays(self) -> Sequence[RelayView]:
        """The usable relays only, in an order that depends on the directory alone."""


def draw(entropy: Entropy, relays: Sequence[RelayView]) -> int:
    """An index, each as likely as its relay's weight."""
    point = entropy.uniform() * sum(relay.weight for relay in relays)
    for index, relay in enumerate(relays):
        point -= relay.weight
        if point < 0:
            return index
    return len(relays) - 1
