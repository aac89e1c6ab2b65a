"""Simple broadcasts: up to 768 bytes, signed by their source, passed on once by everybody.

As in TON's overlays. A broadcast's id is the hash of its source, its data and its flags; what is
signed is that id and a date. Checks run cheapest first, and an id counts as seen only once its
signature has been verified: it says nothing of the signature, so that whoever came first with a bad
one could else keep the good one out.

What has been verified waits for the application, and is passed on when that accepts it. Nothing
here sends: `accept` gives what to send.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from hashlib import sha256
from typing import Final, NamedTuple, NewType, final

from p2p import tl
from p2p.bucket import Buckets, full_bucket
from p2p.identity import AdnlId, Identity, short_id, verify
from p2p.ton import (
    OverlayBroadcast,
    OverlayBroadcastId,
    OverlayBroadcastToSign,
    OverlayCertificate,
    OverlayCertificateId,
    OverlayCertificateIdV2,
    OverlayCertificateType,
    OverlayCertificateV2,
    OverlayEmptyCertificate,
    PubEd25519,
)

BroadcastId = NewType("BroadcastId", bytes)
"""32 bytes: which broadcast it is, whoever passed it on."""

MAX_DATA: Final = 768
"""bytes of data: with source, certificate and signature it fits one ADNL packet, as in TON."""

DATE_WINDOW: Final = 20
"""seconds a broadcast's date may be from now, either way, as in TON."""

REMEMBERED: Final = 60.0
"""seconds an id is remembered: more than it can be in date for anybody."""

MAX_REMEMBERED: Final = 8_192
"""ids remembered: 136 broadcasts a second; then the oldest may come again while it is in date."""

MAX_WAITING: Final = 256
"""broadcasts that wait for the application's word, 200 kB: it gives it within the same step."""

CHECKS_RATE, CHECKS_BURST = 1_000.0, 4_000.0
"""signatures verified a second, and at once: 5 % of a core at 42 us each."""

PEER_RATE, PEER_BURST = 50.0, 400.0
"""as above of what one peer passed on: all adverts of a network of 10,000 that starts together."""

PEERS: Final = 1_024
"""peers whose checks are counted."""

ANY_SENDER: Final = 1
"""Flag: the id leaves out who the source is."""


class Fate(Enum):
    """What becomes of a broadcast that has arrived."""

    NEW = "given to the application"
    KNOWN = "seen before"
    TOO_LONG = "more data than a simple broadcast carries"
    UNKNOWN_FLAGS = "flags that we do not know"
    OUT_OF_DATE = "too old, or of the future"
    BAD_SOURCE = "not from an Ed25519 key"
    NOT_ALLOWED = "a certificate that is wrong, or that is needed and absent"
    RATIONED = "not looked at, as its bearer or all together cost too much"
    BAD_SIGNATURE = "not signed by its source"


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Who may broadcast how much."""

    open_size: int = MAX_DATA
    """bytes that anybody may; 0 where a certificate is needed."""
    issuers: Mapping[AdnlId, int] = field(default_factory=dict)
    """Who may issue certificates, and for how many bytes."""

    def allows(
        self,
        now: float,
        overlay: bytes,
        source: AdnlId,
        size: int,
        certificate: OverlayCertificateType,
    ) -> bool:
        """Whether this source may. A certificate that is there has to be right, needed or not."""
        if isinstance(certificate, OverlayEmptyCertificate):
            return size <= self.open_size
        if size > certificate.max_size or not _is_valid(now, overlay, source, certificate):
            return False
        assert isinstance(certificate.issued_by, PubEd25519)
        granted = self.issuers.get(short_id(certificate.issued_by.key), 0)
        return size <= max(self.open_size, granted)


def _is_valid(
    now: float,
    overlay: bytes,
    source: AdnlId,
    certificate: OverlayCertificate | OverlayCertificateV2,
) -> bool:
    issuer = certificate.issued_by
    if not isinstance(issuer, PubEd25519) or certificate.expire_at <= now:
        return False
    expire_at, max_size = certificate.expire_at, certificate.max_size
    signed: OverlayCertificateId | OverlayCertificateIdV2
    match certificate:
        case OverlayCertificate():
            signed = OverlayCertificateId(overlay, source, expire_at, max_size)
        case OverlayCertificateV2(flags=flags):
            signed = OverlayCertificateIdV2(overlay, source, expire_at, max_size, flags)
    return verify(issuer.key, tl.pack(signed), certificate.signature)


# --- one broadcast ---


def build(identity: Identity, data: bytes, now: float) -> OverlayBroadcast:
    """A broadcast of our own, dated now. Raises `ValueError` for more than 768 bytes."""
    if len(data) > MAX_DATA:
        raise ValueError("a simple broadcast holds 768 bytes")
    source, date = PubEd25519(identity.public), int(now)
    unsigned = OverlayBroadcast(source, OverlayEmptyCertificate(), 0, data, date, b"")
    signature = identity.sign(_signed(id_of(unsigned), date))
    return OverlayBroadcast(source, OverlayEmptyCertificate(), 0, data, date, signature)


def id_of(broadcast: OverlayBroadcast) -> BroadcastId:
    """Which broadcast it is."""
    named = not broadcast.flags & ANY_SENDER
    source = sha256(tl.pack(broadcast.src)).digest() if named else bytes(32)
    data_hash = sha256(broadcast.data).digest()
    of = OverlayBroadcastId(source, data_hash, broadcast.flags)
    return BroadcastId(sha256(tl.pack(of)).digest())


def _signed(broadcast: BroadcastId, date: int) -> bytes:
    return tl.pack(OverlayBroadcastToSign(broadcast, date))


# --- all of them ---


@dataclass(frozen=True, slots=True)
class Broadcast:
    """A broadcast has arrived, for the application to accept or refuse."""

    id: BroadcastId
    source: bytes
    """Public key of who said it."""
    data: bytes


class Passed(NamedTuple):
    """What to pass on, to others than its bearer."""

    payload: bytes
    bearer: AdnlId


@final
class Broadcasts:
    """Those that were seen, and those that wait for the application's word."""

    def __init__(self, overlay: bytes, admission: Admission) -> None:
        self._overlay = overlay
        self._admission = admission
        self._seen: OrderedDict[BroadcastId, float] = OrderedDict()
        self._waiting: OrderedDict[BroadcastId, Passed] = OrderedDict()
        self._all = full_bucket(CHECKS_RATE, CHECKS_BURST, 0.0)
        self._peers = Buckets[AdnlId](PEER_RATE, PEER_BURST, PEERS)
        self._fates = dict.fromkeys(Fate, 0)

    def start(self, now: float, identity: Identity, data: bytes) -> bytes:
        """The bytes of a broadcast of our own, which will be no news when it comes back.

        Raises `ValueError` for more than 768 bytes.
        """
        broadcast = build(identity, data, now)
        self._remember(now, id_of(broadcast))
        return tl.pack(broadcast)

    def take(self, now: float, peer: AdnlId, broadcast: OverlayBroadcast) -> Broadcast | None:
        """Check what a peer passed on; None if it is not for the application."""
        fate, identity = self._judge(now, peer, broadcast)
        self._fates[fate] += 1
        if fate is not Fate.NEW:
            return None
        assert isinstance(broadcast.src, PubEd25519)
        self._remember(now, identity)
        self._waiting[identity] = Passed(tl.pack(broadcast), peer)
        if len(self._waiting) > MAX_WAITING:
            self._waiting.popitem(last=False)
        return Broadcast(identity, broadcast.src.key, broadcast.data)

    def accept(self, broadcast: BroadcastId) -> Passed | None:
        """What to pass on; None if it is not waiting, or was accepted before."""
        return self._waiting.pop(broadcast, None)

    def refuse(self, broadcast: BroadcastId) -> None:
        """It is passed on to nobody."""
        self._waiting.pop(broadcast, None)

    def sizes(self) -> dict[str, int]:
        """Lengths of the tables."""
        return {
            "broadcasts_seen": len(self._seen),
            "broadcasts_waiting": len(self._waiting),
            "broadcast_peers": len(self._peers),
        }

    def statistics(self) -> Mapping[Fate, int]:
        """How many broadcasts met which fate so far."""
        return dict(self._fates)

    def _judge(
        self, now: float, peer: AdnlId, broadcast: OverlayBroadcast
    ) -> tuple[Fate, BroadcastId]:
        fate = _look(now, broadcast)
        if fate is not Fate.NEW:
            return fate, BroadcastId(b"")

        identity = id_of(broadcast)
        self._forget_old(now)
        if identity in self._seen:
            return Fate.KNOWN, identity
        return self._check(now, peer, broadcast, identity), identity

    def _check(
        self, now: float, peer: AdnlId, broadcast: OverlayBroadcast, identity: BroadcastId
    ) -> Fate:
        assert isinstance(broadcast.src, PubEd25519)
        source, size, certificate = broadcast.src.key, len(broadcast.data), broadcast.certificate
        signatures = 1 if isinstance(certificate, OverlayEmptyCertificate) else 2
        if not (self._peers.take(now, peer, signatures) and self._all.take(now, signatures)):
            return Fate.RATIONED
        if not self._admission.allows(now, self._overlay, short_id(source), size, certificate):
            return Fate.NOT_ALLOWED
        if not verify(source, _signed(identity, broadcast.date), broadcast.signature):
            return Fate.BAD_SIGNATURE
        return Fate.NEW

    def _remember(self, now: float, broadcast: BroadcastId) -> None:
        self._seen[broadcast] = now
        if len(self._seen) > MAX_REMEMBERED:
            self._seen.popitem(last=False)

    def _forget_old(self, now: float) -> None:
        while self._seen and next(iter(self._seen.values())) + REMEMBERED < now:
            self._seen.popitem(last=False)


def _look(now: float, broadcast: OverlayBroadcast) -> Fate:
    """What can be told without a hash."""
    if len(broadcast.data) > MAX_DATA:
        return Fate.TOO_LONG
    if broadcast.flags & ~ANY_SENDER:
        return Fate.UNKNOWN_FLAGS
    if abs(broadcast.date - now) > DATE_WINDOW:
        return Fate.OUT_OF_DATE
    if not isinstance(broadcast.src, PubEd25519):
        return Fate.BAD_SOURCE
    return Fate.NEW
