"""What a node is, and the cores that its stack is made of."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, final

from p2p import tl
from p2p.adnl.address import block
from p2p.adnl.core import AdnlCore
from p2p.adnl.limits import Limits
from p2p.core import Procedures
from p2p.dht import core as dht_core
from p2p.dht import settings as dht_settings
from p2p.dht.core import DhtCore
from p2p.entropy import Entropy
from p2p.errors import TlError
from p2p.identity import AdnlId, Identity
from p2p.kept import Kept
from p2p.locator import Peer
from p2p.onion.core import OnionConfig
from p2p.onion.noise import Kem, MlKem768
from p2p.overlay import core as membership
from p2p.overlay import settings as overlay_settings
from p2p.overlay.advert import Role
from p2p.overlay.announcer import NOBODY
from p2p.overlay.core import OverlayCore
from p2p.overlay.directory_core import Server
from p2p.overlay.groups import subnet
from p2p.overlay.listing import Listing
from p2p.overlay.records import DhtRecords
from p2p.rldp.core import RldpCore
from p2p.sending import Sending, Tap
from p2p.ton import DhtNode
from p2p.wire import Link

_DEV_LIMITS: Final = Limits(
    source_rate=1_000.0, source_burst=5_000.0, new_peers_rate=1_000.0, new_peers_burst=5_000.0
)
"""A dev network's nodes may share one address, and all start at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackConfig:
    """What a node is and whom it asks first."""

    network: int
    dev: bool = False
    bootstrap: tuple[Peer, ...] = ()
    started_at: int = 0
    """Unix time of this start, greater than that of every start before: ADNL asks for it."""
    seq: int = 0
    """Of our first advert: greater than that of any before this start."""
    kept: Kept = field(default_factory=Kept)
    """What was kept of before this start."""
    udp: bool = False
    """There is a socket: without one, links alone are used."""
    roles: Role = NOBODY
    """RELAY lets others build circuits through this node, WORKER and MINT let them end here; each
    of them makes it answer directory calls, DIRECTORY alone does that and no more."""
    allow_direct: bool = False
    """An endpoint takes circuits from anyone, not only from listed relays."""
    always: bool = False
    """The link to the first guard carries frames at one rate day and night."""
    kem: Kem = field(default_factory=MlKem768)
    """Simulations put a seeded stand-in here."""
    tap: Callable[[str, bytes], None] | None = None
    """Shown every plaintext of circuits that this node opens."""
    udp_tap: Tap | None = None
    """Shown every payload that goes over UDP, inside ADNL's encryption."""


@final
class Places:
    """Where peers speak from. Cores ask it, so it does not know the stack, which it would keep."""

    def __init__(
        self,
        bootstrap: Collection[AdnlId],
        links: Mapping[AdnlId, Sequence[Link]],
        sending: Sending,
    ) -> None:
        self._bootstrap = bootstrap
        self._links = links
        self._sending = sending
        self.listing: Listing | None = None
        """Once there is one."""

    def is_vouched(self, peer: AdnlId) -> bool:
        """Whether its identity was not free, or our settings name it."""
        if peer in self._bootstrap:
            return True
        return self.listing is not None and self.listing.find(peer) is not None

    def of(self, peer: AdnlId) -> bytes:
        """What neighbourhood a peer speaks from; who is vouched for stands for itself.

        So does one that no public address is known of, as in a private network.
        """
        if self.is_vouched(peer):
            return peer
        links, seen = self._links.get(peer), self._sending.seen(peer)
        host = links[-1].host if links else seen.endpoint.host if seen else ""
        return block(host) or peer


def servers(config: StackConfig) -> list[Server]:
    """The bootstrap peers, with the group that each would have if it were listed."""
    return [
        Server(peer.id, (b"" if config.dev else subnet(peer.endpoints)) or peer.id)
        for peer in config.bootstrap
    ]


def records(kept: Kept) -> list[DhtNode]:
    """The nodes that were known before, as far as they can be read."""
    found: list[DhtNode] = []
    for record in kept.nodes:
        with suppress(TlError):
            found.append(tl.parse(DhtNode, record, boxed=False))
    return found


def sending(identity: Identity, entropy: Entropy, config: StackConfig) -> Sending:
    """ADNL over UDP and RLDP2, with links beside them."""
    limits = _DEV_LIMITS if config.dev else Limits()
    adnl = AdnlCore([identity], entropy.fork("adnl"), config.started_at, limits=limits)
    rldp = RldpCore(entropy.fork("rldp"))
    return Sending(identity.id, adnl, rldp, udp=config.udp, tap=config.udp_tap)


def dht(
    identity: Identity,
    entropy: Entropy,
    config: StackConfig,
    sender: Sending,
    procedures: Procedures,
) -> DhtCore:
    """The DHT, which is asked through `sender`."""
    core = DhtCore(
        identity,
        sender,
        procedures,
        entropy.fork("dht"),
        started_at=config.started_at,
        network=config.network,
        settings=dht_settings.DEV if config.dev else dht_settings.DEFAULT,
    )
    sender.subscribe(core, *dht_core.PREFIXES)
    return core


def overlay(
    identity: Identity,
    entropy: Entropy,
    config: StackConfig,
    sender: Sending,
    procedures: Procedures,
    table: DhtCore,
) -> OverlayCore:
    """The overlay of the network; its members are looked up in the DHT where there is a socket."""
    core = OverlayCore(
        identity,
        sender,
        procedures,
        entropy.fork("overlay"),
        network=config.network,
        settings=overlay_settings.DEV if config.dev else overlay_settings.DEFAULT,
        records=DhtRecords(table) if config.udp else None,
    )
    sender.subscribe(core, *membership.PREFIXES)
    return core


def onion_config(config: StackConfig) -> OnionConfig:
    """What its roles let circuits do here."""
    return OnionConfig(
        network=config.network,
        relay=Role.RELAY in config.roles,
        endpoint=bool(config.roles & (Role.WORKER | Role.MINT)),
        allow_direct=config.allow_direct,
        always=config.always,
        dev=config.dev,
        kem=config.kem,
        tap=config.tap,
    )
