"""`tussah network`: which networks this home takes part in."""

import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.cli import localchain
from scripts.cli.common import PLAIN, Common, give, out
from scripts.cli.words import at_home
from scripts.failure import Document
from scripts.home import Home

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scripts.networks import Chain, Profile

PORT = 4001
"""Where the first node of a network listens unless told otherwise: libp2p's usual port."""


def new(
    name: str,
    /,
    *,
    host: str = "127.0.0.1",
    port: int = PORT,
    chain: str | None = None,
    common: Common = PLAIN,
) -> int:
    """Make a network. This node, once it is up as a relay, is whom newcomers ask first.

    On a loopback or private address it is a dev network: everybody on one machine or in one room.
    With a chain its answers may have prices, and this node is its mint: start it with --mint, too.

    Parameters
    ----------
    name
        Up to 32 lower-case letters, digits and hyphens.
    host
        IP address at which the others reach this node.
    port
        TCP and UDP port at which they do.
    chain
        The directory in which `tussah --home DIR localchain` runs; without one, all is free.
    """
    from scripts import networks

    place = None if chain is None else Home(Path(chain).expanduser().absolute())
    local = None if place is None else localchain.call(place, "GET", "/status")
    profile = networks.create_at(common.home, name, host=host, port=port, chain=local)
    roles = "--relay" if chain is None else "--relay --mint"
    text = (
        f"made network {name}; this node is its first: "
        f"{at_home(f'start it with tussah up {roles}', common.home.path)}\n"
        f"others join with: tussah network join {networks.invite(profile)}\n"
        f"{_only_here(host)}"
    )
    return _give(profile, text, common)


def _only_here(host: str) -> str:
    """What to know of a network whose first address is this machine's own."""
    if not ipaddress.ip_address(host).is_loopback:
        return ""
    return (
        f"Only from this machine: {host} is nowhere else. For a network of several, name the\n"
        "address at which they reach this one: tussah network new NAME --host ADDRESS\n"
    )


def join(invitation: str, /, *, common: Common = PLAIN) -> int:
    """Join a network.

    Parameters
    ----------
    invitation
        The line beginning with tussah:// that a member of the network prints.
    """
    from scripts import networks

    profile = networks.parse_invite(invitation)
    networks.save(common.home, profile)
    count = len(profile.bootstrap)
    text = f"joined network {profile.name}: {count} bootstrap {'peer' if count == 1 else 'peers'}\n"
    return _give(profile, text, common)


def show(name: str = "", /, *, invite: bool = False, common: Common = PLAIN) -> int:
    """Show a joined network.

    Parameters
    ----------
    name
        Which one; not needed if only one has been joined.
    invite
        Print the invitation alone.
    """
    from scripts import networks

    profile = networks.select(common.home, name)
    if invite and not common.as_json:
        out(networks.invite(profile) + "\n")
        return 0
    kind = "dev network" if profile.dev else "network"
    lines = [
        f"{kind} {profile.name}, id {profile.id}",
        *(
            f"bootstrap  {peer.id.hex()[:8]} at {networks.format_endpoint(peer.endpoint)}"
            for peer in profile.bootstrap
        ),
        *_payments(profile),
        f"invitation {networks.invite(profile)}",
    ]
    return _give(profile, "\n".join(lines) + "\n", common)


def _payments(profile: "Profile") -> "Iterator[str]":
    """How answers are paid for on a network, a line each."""
    from scripts import networks

    if profile.chain is None:
        yield "chain      none: answers are free"
        return
    worth = ", whose coins are worth nothing" if profile.chain.worthless else ""
    yield f"chain      {profile.chain.name}{worth}"
    for server in profile.chain.servers:
        address = networks.format_endpoint(server.endpoint)
        yield f"  server   {address}, key {server.key.hex()}"
    yield from (f"mint       {mint.hex()}" for mint in profile.mints)


def leave(name: str, /, *, common: Common = PLAIN) -> int:
    """Forget a network.

    Parameters
    ----------
    name
        Which one.
    """
    from scripts import networks

    profile = networks.load(common.home, name)
    networks.leave(common.home, name)
    return _give(profile, f"left network {name}\n", common)


def _give(profile: "Profile", text: str, common: Common) -> int:
    if common.as_json:
        give(_document(profile))
    else:
        out(text)
    return 0


def _document(profile: "Profile") -> Document:
    from scripts import networks

    return {
        "schema": "tussah/network/1",
        "name": profile.name,
        "id": profile.id,
        "dev": profile.dev,
        "bootstrap": [
            {"id": peer.id.hex(), "address": networks.format_endpoint(peer.endpoint)}
            for peer in profile.bootstrap
        ],
        "chain": None if profile.chain is None else _chain(profile.chain),
        "mints": [mint.hex() for mint in profile.mints],
        "invite": networks.invite(profile),
    }


def _chain(chain: "Chain") -> Document:
    from scripts import networks

    return {
        "name": chain.name,
        "network": chain.network,
        "worthless": chain.worthless,
        "servers": [
            {"address": networks.format_endpoint(server.endpoint), "key": server.key.hex()}
            for server in chain.servers
        ],
    }
