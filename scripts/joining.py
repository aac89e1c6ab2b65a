"""Onto the network: where a node listens, whom it asks first, and the node itself."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address
from typing import Final, Protocol

from p2p.errors import LocalError
from p2p.identity import AdnlId, Identity
from p2p.node import Node, NodeConfig, open_node
from p2p.onion.shaping import Shaping
from p2p.overlay.advert import Role
from p2p.stack import Peer
from p2p.store import NodeStore
from p2p.wire import Endpoint, Link
from scripts.api.common import address
from scripts.failure import Failed
from scripts.networks import Profile
from scripts.settings import Settings

LOOPBACK: Final = "127.0.0.1"

EVERYWHERE: Final = "0.0.0.0"  # noqa: S104 - a relay is there to be reached


class Recorder(Protocol):
    """What a demonstration watches a node with; a node that people run has none."""

    def message(self, link: Link, sent: bool, data: bytes) -> None:
        """A message of a link, inside the link's encryption."""

    def meet(self, link: Link, ours: Endpoint, theirs: Endpoint) -> None:
        """The two ends of the connection under a link."""

    def datagram(self, peer: AdnlId, sent: bool, payload: bytes) -> None:
        """A payload that went over UDP, inside ADNL's encryption."""

    def meet_udp(self, peer: AdnlId, ours: Endpoint, theirs: Endpoint) -> None:
        """Where a peer's datagrams come from, and the socket that they come to."""

    def plaintext(self, what: str, data: bytes) -> None:
        """A plaintext that the node's circuits opened or are about to seal."""


@asynccontextmanager
async def opened(
    settings: Settings,
    profile: Profile,
    identity: Identity,
    roles: Role,
    recorder: Recorder | None = None,
    store: NodeStore | None = None,
) -> AsyncIterator[Node]:
    """A node that takes part. Raises `Failed` if it cannot listen where it is to."""
    config = replace(_config(settings, profile, identity, roles, recorder), store=store)
    is_open = False
    try:
        async with open_node(config) as node:
            is_open = True
            yield node
    except LocalError as error:
        if is_open or config.listen is None:
            raise
        raise Failed(
            "address_in_use",
            f"The node cannot listen on {address(config.listen)}: {error}.",
            "Choose another with --host or --port, or end the program that uses it.",
        ) from error


def _config(
    settings: Settings,
    profile: Profile,
    identity: Identity,
    roles: Role,
    recorder: Recorder | None,
) -> NodeConfig:
    others = tuple(
        Peer(peer.key, (peer.endpoint,)) for peer in profile.bootstrap if peer.id != identity.id
    )
    listen = _listen(settings, profile, identity) if roles else None
    return NodeConfig(
        identity=identity,
        network=profile.id,
        dev=profile.dev,
        bootstrap=others,
        listen=listen,
        udp=(listen or anywhere(profile),),
        announce=_announced(settings.node.announce, listen),
        judged=listen is not None and not ip_address(listen.host).is_loopback,
        roles=roles,
        allow_direct=settings.worker.allow_direct,
        always=settings.ask.shaping == Shaping.ALWAYS,
        tap=recorder.message if recorder else None,
        onion_tap=recorder.plaintext if recorder else None,
        udp_tap=recorder.datagram if recorder else None,
        meet=recorder.meet if recorder else None,
        meet_udp=recorder.meet_udp if recorder else None,
    )


def anywhere(profile: Profile) -> Endpoint:
    """The socket of who only asks: on this machine alone if the network is."""
    is_here = all(ip_address(peer.endpoint.host).is_loopback for peer in profile.bootstrap)
    return Endpoint(LOOPBACK if is_here else EVERYWHERE, 0)


def _announced(host: str, listen: Endpoint | None) -> tuple[Endpoint, ...]:
    """Where others dial, if not where this node listens. Raises `Failed` for what is no address."""
    if not host or listen is None:
        return ()
    advice = "Name the address at which others reach this node, or leave it empty."
    return (Endpoint(_address("node.announce", host, advice), listen.port),)


def _listen(settings: Settings, profile: Profile, identity: Identity) -> Endpoint:
    """Where to listen: as set, else where the network expects this node, else anywhere."""
    chosen = settings.node
    expected = [peer.endpoint for peer in profile.bootstrap if peer.id == identity.id]
    usual = expected[0] if expected else Endpoint(LOOPBACK if profile.dev else EVERYWHERE, 0)
    advice = "Name an address of this machine: 0.0.0.0 for all of them, 127.0.0.1 for itself alone."
    host = _address("node.host", chosen.host or usual.host, advice)
    return Endpoint(host, chosen.port or usual.port)


def _address(setting: str, host: str, advice: str) -> str:
    try:
        return str(ip_address(host))
    except ValueError as error:
        message = f"{setting} is {host!r}, which is no IP address."
        raise Failed("invalid_setting", message, advice, param=setting) from error
