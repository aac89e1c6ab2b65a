"""Whether others can reach a node, as far as it knows: the `reach` part of its status."""

from collections.abc import Sequence

from p2p.node import Announced
from p2p.wire import Endpoint
from scripts.api.common import address
from scripts.failure import Document


def reach(
    *,
    listening: Endpoint | None,
    udp: Sequence[Endpoint],
    announced: Announced,
    serves_dht: bool,
) -> Document:
    """What a node knows of it: for now what it says itself, which nobody has tried.

    A verdict of peers that did try, its time and its advice belong here.
    """
    return {
        "mode": "direct" if announced.tcp or announced.udp else "outbound",
        "addresses": [] if listening is None else [address(listening)],
        "udp": _addresses(udp),
        "announced": {"tcp": _addresses(announced.tcp), "udp": _addresses(announced.udp)},
        "dht": "server" if serves_dht else "client",
        "checked_at": None,
        "advice": _advice(listening, announced),
    }


def _advice(listening: Endpoint | None, announced: Announced) -> str | None:
    if listening is None or announced.tcp or announced.udp:
        return None
    return (
        f"It listens on {address(listening)}, which says to nobody where it is: set node.announce "
        f"to the address that others dial, and forward TCP and UDP port {listening.port} to it."
    )


def _addresses(endpoints: Sequence[Endpoint]) -> list[str]:
    return [address(endpoint) for endpoint in endpoints]
