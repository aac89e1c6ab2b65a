"""Which relays a circuit goes through, and what that choice is worth to the asker."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntFlag
from typing import Protocol

from p2p.identity import AdnlId
from p2p.onion.handshake import Target as Target


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


class DirectoryView(Protocol):
    """The directory as circuits see it; asking it never sends a query."""

    def relay(self, id: AdnlId) -> RelayView | None:
        """Any listed relay, worker or mint."""

    def relays(self) -> Sequence[RelayView]:
        """The usable relays only, in an order that depends on the directory alone."""
