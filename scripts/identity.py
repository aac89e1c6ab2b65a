"""Who the node of a home is: its id in every form that somebody asks for, and where it is."""

from collections.abc import Sequence

from p2p.identity import Identity, format_adnl
from p2p.node import Announced
from p2p.wire import Endpoint
from scripts import networks
from scripts.api.common import address
from scripts.failure import Document
from scripts.home import Home

NOWHERE = Announced((), ())
"""Where who does not run is, and who only asks."""


def document(
    identity: Identity | None,
    *,
    persistent: bool,
    running: bool,
    network: str | None,
    at: Announced = NOWHERE,
) -> Document:
    """The `id` document."""
    return {
        "schema": "tussah/id/1",
        "id": identity.id.hex() if identity else None,
        "adnl": format_adnl(identity.id) if identity else None,
        "peer_id": identity.peer_id if identity else None,
        "public_key": identity.public.hex() if identity else None,
        "persistent": persistent,
        "running": running,
        "network": network,
        "udp": _addresses(at.udp),
        "tcp": _addresses(at.tcp),
    }


def of_home(home: Home) -> Document:
    """The `id` document of a home whose node does not run: what its key says, if it has one."""
    seed, joined = home.seed(), networks.found(home)
    return document(
        None if seed is None else Identity(seed),
        persistent=seed is not None,
        running=False,
        network=joined[0] if len(joined) == 1 else None,
    )


def _addresses(endpoints: Sequence[Endpoint]) -> list[str]:
    return [address(endpoint) for endpoint in endpoints]
