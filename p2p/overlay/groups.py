"""Which nodes to take for one operator's, and which of too many of a kind to keep.

An advert's own claim of an operator counts for nothing until the registry proves it; unproven, who
shares a subnet is taken for one. A dev network lives on one machine: every node is its own.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from p2p import defaults
from p2p.identity import AdnlId
from p2p.overlay.advert import Advert, Rules
from p2p.overlay.fields import host_of
from p2p.wire import Endpoint


class Proven(NamedTuple):
    """What the registry knows of the operator that an advert names."""

    operator: bytes
    stake: int
    """nano"""


Registry: TypeAlias = Callable[[Advert], Proven | None]
"""Asked for the operator of an advert; None unless it is proven."""


def nobody(advert: Advert) -> None:
    """The registry of a network that has none."""


def group_of(
    advert: Advert, rules: Rules, registry: Registry, find: Callable[[AdnlId], Advert | None]
) -> bytes:
    """The operator's group: proven, else the subnet's, else that of the first attachment."""
    if rules.dev:
        return advert.id
    own = _own_group(advert, registry)
    if own or not advert.attachments:
        return own or advert.id
    relay = find(advert.attachments[0])
    return (relay and _own_group(relay, registry)) or advert.attachments[0]


def _own_group(advert: Advert, registry: Registry) -> bytes:
    proven = registry(advert)
    return proven.operator if proven else subnet_of(advert)


def subnet_of(advert: Advert) -> bytes:
    """/16 or /32 of the first address; empty if that is not public."""
    return subnet(everywhere(advert))


def subnet(endpoints: Sequence[Endpoint]) -> bytes:
    """/16 or /32 of the first of these; empty if that is not public."""
    for endpoint in endpoints[:1]:
        if host_of(endpoint).is_global:
            return network(endpoint, 2, 4)
    return b""


def everywhere(advert: Advert) -> tuple[Endpoint, ...]:
    """All addresses of a node, of whichever transport."""
    return advert.fields.addresses + advert.fields.udp


def network(endpoint: Endpoint, size4: int, size6: int) -> bytes:
    """The first bytes of its address: so many of IPv4, so many of IPv6."""
    packed = host_of(endpoint).packed
    return packed[: size4 if len(packed) == 4 else size6]


def crowds(advert: Advert, rules: Rules, registry: Registry) -> dict[bytes, int]:
    """What an advert counts towards, and how many may.

    Addresses are cheap in blocks; and a relay that holds the links of others could name any number
    of them, unless their operators are proven.
    """
    if rules.dev:
        return {}
    if advert.fields.addresses or advert.fields.udp:
        blocks = [network(endpoint, 3, 6) for endpoint in everywhere(advert)]
        return dict.fromkeys(blocks, defaults.ADVERTS_PER_SUBNET)
    if registry(advert) is not None:
        return {}
    return dict.fromkeys(advert.attachments, defaults.ADVERTS_PER_ATTACHMENT)
