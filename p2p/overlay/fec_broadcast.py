"""Broadcasts of up to 1 MiB, in parts each of which is signed and passed on by itself.

As in TON's overlays. Any symbols that are enough give the data; its hash, and who said it, are in
the broadcast's id. Parts are passed on only after the application accepted the whole, and then each
as it comes. To a member that says that it has the whole a part is sent short, to one that says that
it needs no more, not at all.

Nothing here sends: `drain` gives parts, and `form` says in which form a member is to get one.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, NamedTuple, TypeAlias, final

from p2p import tl
from p2p.bucket import Buckets, full_bucket
from p2p.identity import AdnlId, Identity, short_id, verify
from p2p.overlay import fec_part
from p2p.overlay.broadcast import (
    ANY_SENDER,
    DATE_WINDOW,
    PEERS,
    REMEMBERED,
    Admission,
    Broadcast,
    BroadcastId,
)
from p2p.overlay.fec_part import MAX_DATA, Fate, Signed, Subject, parts_of
from p2p.rldp.fec import Decoder, Encoder, limit_of
from p2p.ton import (
    OverlayBroadcastFec,
    OverlayBroadcastFecShort,
    OverlayEmptyCertificate,
    OverlayFecCompleted,
    OverlayFecReceived,
    PubEd25519,
)

AT_ONCE, PAUSE = 4, 0.01
"""parts of a broadcast of our own that leave together, and the seconds to the next, as in TON."""

MAX_OPEN: Final = 64
"""broadcasts of which parts are taken or made."""

PER_SOURCE: Final = 4
"""of them, those of one source."""

MEMORY: Final = 32 * 2**20
"""bytes of all their data, counted twice: as symbols, and whole."""

MAX_OVER: Final = 8_192
"""ids of those of which no more is taken, remembered as long as they would be in date."""

MAX_MEMBERS: Final = 64
"""members remembered with a broadcast, as having it, or as having been told that we have."""

CHECKS_RATE, CHECKS_BURST = 1_000.0, 6_000.0
"""signatures verified a second, and at once: 5 % of a core, and two of the largest broadcasts."""

PEER_RATE, PEER_BURST = 500.0, 3_000.0
"""as above of what one peer passed on; a source sends 400 parts a second."""


class Part(NamedTuple):
    """To be sent to some members, in the form that `form` says."""

    broadcast: BroadcastId
    full: bytes
    short: bytes
    bearer: AdnlId | None
    """who brought it, and needs it least"""


class Reply(NamedTuple):
    """To be sent to a member that brought a part: how much of the rest it may spare us."""

    peer: AdnlId
    message: bytes


Output: TypeAlias = Part | Reply


@dataclass(slots=True)
class _Open:
    """A broadcast of which parts are taken, or made."""

    about: Subject
    source: PubEd25519
    decoder: Decoder
    """until it is whole"""
    symbols: Encoder | None = None
    """from then on"""
    accepted: bool = False
    seen: dict[int, None] = field(default_factory=dict)
    waiting: list[tuple[Signed, AdnlId]] = field(default_factory=list)
    """parts to be passed on if the application accepts the whole, and their bearers"""
    have_it: dict[AdnlId, bool] = field(default_factory=dict)
    """members that said so; True: and that they need no more"""
    told: dict[AdnlId, bool] = field(default_factory=dict)
    """members that we told, in the same way"""

    @property
    def cost(self) -> int:
        return 2 * self.about.size

    @property
    def enough(self) -> bool:
        """Whether we have as many parts as its source sends."""
        return len(self.seen) >= parts_of(self.about.size)


@dataclass(slots=True)
class _Own:
    """A broadcast of ours whose parts leave one after the other."""

    identity: Identity
    broadcast: _Open
    due: float
    next: int = 0


@final
class FecBroadcasts:
    """See the module."""

    def __init__(self, overlay: bytes, admission: Admission) -> None:
        self._overlay = overlay
        self._admission = admission
        self._open: OrderedDict[BroadcastId, _Open] = OrderedDict()
        self._over: OrderedDict[BroadcastId, float] = OrderedDict()
        self._own: list[_Own] = []
        self._memory = 0
        self._all = full_bucket(CHECKS_RATE, CHECKS_BURST, 0.0)
        self._peers = Buckets[AdnlId](PEER_RATE, PEER_BURST, PEERS)
        self._outputs: list[Output] = []
        self._fates = dict.fromkeys(Fate, 0)

    # --- what is our own, and what the application says ---

    def start(self, now: float, identity: Identity, data: bytes) -> BroadcastId | None:
        """Begin to send; None if there is no room, or it has been sent within a minute.

        Raises `ValueError` for no byte, or more than 1 MiB.
        """
        if not 1 <= len(data) <= MAX_DATA:
            raise ValueError("a broadcast in parts has 1 byte to 1 MiB")
        self._forget_old(now)
        source, digest = PubEd25519(identity.public), sha256(data).digest()
        about = fec_part.subject(source, digest, len(data), 0, int(now))
        if about.id in self._open or about.id in self._over:
            return None
        one = self._admit(about, source)
        if one is None:
            return None
        one.symbols, one.accepted = Encoder(data), True
        self._own.append(_Own(identity, one, now))
        return about.id

    def accept(self, broadcast: BroadcastId) -> bool:
        """Pass its parts on, those to come too: whether it was waiting for that."""
        one = self._open.get(broadcast)
        if one is None or one.symbols is None or one.accepted:
            return False
        one.accepted = True
        waiting, one.waiting = one.waiting, []
        for signed, bearer in waiting:
            self._pass_on(one, one.symbols, signed, bearer)
        return True

    def refuse(self, broadcast: BroadcastId) -> None:
        """Pass nothing of it on, and take no more of it."""
        one = self._open.get(broadcast)
        if one is None or one.accepted:
            return
        message = tl.pack(OverlayFecCompleted(broadcast))
        bearers = dict.fromkeys(bearer for _, bearer in one.waiting)
        self._outputs += [Reply(bearer, message) for bearer in bearers]
        self._end(one)

    # --- what members say ---

    def take(self, now: float, peer: AdnlId, part: OverlayBroadcastFec) -> Broadcast | None:
        """Check a part; the broadcast, if it is whole now and for the application."""
        outcome = self._take(now, peer, part)
        if isinstance(outcome, Fate):
            self._fates[outcome] += 1
            return None
        self._fates[Fate.NEW] += 1
        return outcome

    def take_short(self, now: float, peer: AdnlId, part: OverlayBroadcastFecShort) -> None:
        """Check a part without its symbol."""
        self._fates[self._take_short(now, peer, part)] += 1

    def said(self, peer: AdnlId, message: OverlayFecReceived | OverlayFecCompleted) -> None:
        """A member has a broadcast, and wants the rest of its parts short or not at all."""
        one = self._open.get(BroadcastId(message.hash))
        if one is None or (peer not in one.have_it and len(one.have_it) >= MAX_MEMBERS):
            return
        completed = isinstance(message, OverlayFecCompleted)
        one.have_it[peer] = completed or one.have_it.get(peer, False)

    def form(self, peer: AdnlId, part: Part) -> bytes | None:
        """The bytes of a part for a member; None if it wants none."""
        one = self._open.get(part.broadcast)
        if one is None or peer not in one.have_it:
            return part.full
        return None if one.have_it[peer] else part.short

    # --- the core's contract, but for `receive` ---

    def handle_timer(self, now: float) -> None:
        """Make the next parts of what is our own."""
        for own in self._own:
            if own.due <= now:
                self._make(own)
                own.due = now + PAUSE
        self._own = [own for own in self._own if not own.broadcast.enough]

    def next_deadline(self) -> float | None:
        """When more of them are to be made."""
        return min((own.due for own in self._own), default=None)

    def drain(self) -> list[Output]:
        """Parts and replies to be sent since the last call, in order."""
        outputs, self._outputs = self._outputs, []
        return outputs

    def sizes(self) -> dict[str, int]:
        """Lengths of the tables, and bytes kept."""
        return {
            "fec_open": len(self._open),
            "fec_over": len(self._over),
            "fec_own": len(self._own),
            "fec_memory": self._memory,
            "fec_peers": len(self._peers),
            "fec_outputs": len(self._outputs),
        }

    def statistics(self) -> Mapping[Fate, int]:
        """How many parts met which fate so far."""
        return dict(self._fates)

    # --- parts that come ---

    def _take(self, now: float, peer: AdnlId, part: OverlayBroadcastFec) -> Broadcast | Fate:
        self._forget_old(now)
        about = fec_part.look(now, part)
        if isinstance(about, Fate):
            return about
        assert isinstance(part.src, PubEd25519)
        one = self._open.get(about.id)
        if one is not None:
            self._tell(peer, one)
        if about.id in self._over or (one is not None and part.seqno in one.seen):
            return Fate.KNOWN
        if one is not None and one.about != about:
            return Fate.OUT_OF_DATE

        signed = Signed(part.seqno, part.src, part.certificate, part.signature)
        fate = self._check(now, peer, about, signed, sha256(part.data).digest())
        if fate is not Fate.TAKEN:
            return fate
        one = one or self._admit(about, part.src)
        if one is None:
            return Fate.FULL
        return self._add(peer, one, signed, part.data)

    def _take_short(self, now: float, peer: AdnlId, part: OverlayBroadcastFecShort) -> Fate:
        self._forget_old(now)
        one = self._open.get(BroadcastId(part.broadcast_hash))
        if one is None or one.symbols is None:
            return Fate.KNOWN if part.broadcast_hash in self._over else Fate.EARLY
        self._tell(peer, one)
        if part.seqno in one.seen:
            return Fate.KNOWN
        if not 0 <= part.seqno < limit_of(one.about.size):
            return Fate.MALFORMED
        if abs(one.about.date - now) > DATE_WINDOW:
            return Fate.OUT_OF_DATE
        if not isinstance(part.src, PubEd25519):
            return Fate.BAD_SOURCE
        if part.src != one.source and not one.about.flags & ANY_SENDER:
            return Fate.BAD_SOURCE

        signed = Signed(part.seqno, part.src, part.certificate, part.signature)
        fate = self._check(now, peer, one.about, signed, part.part_data_hash)
        if fate is not Fate.TAKEN:
            return fate
        if sha256(one.symbols.symbol(part.seqno)).digest() != part.part_data_hash:
            return Fate.BAD_DATA
        self._keep(peer, one, one.symbols, signed)
        return Fate.TAKEN

    def _check(
        self, now: float, peer: AdnlId, about: Subject, signed: Signed, symbol_hash: bytes
    ) -> Fate:
        source, certificate = signed.source.key, signed.certificate
        signatures = 1 if isinstance(certificate, OverlayEmptyCertificate) else 2
        if not (self._peers.take(now, peer, signatures) and self._all.take(now, signatures)):
            return Fate.RATIONED
        if not self._admission.allows(
            now, self._overlay, short_id(source), about.size, certificate
        ):
            return Fate.NOT_ALLOWED
        claim = fec_part.claim(about, symbol_hash, signed.seqno)
        return Fate.TAKEN if verify(source, claim, signed.signature) else Fate.BAD_SIGNATURE

    def _add(self, peer: AdnlId, one: _Open, signed: Signed, symbol: bytes) -> Broadcast | Fate:
        if one.symbols is not None:
            self._keep(peer, one, one.symbols, signed)
            return Fate.TAKEN
        one.seen[signed.seqno] = None
        one.waiting.append((signed, peer))
        one.decoder.add(signed.seqno, symbol)
        data = one.decoder.decode()
        if data is None and not one.decoder.given_up:
            return Fate.TAKEN
        if data is None or sha256(data).digest() != one.about.data_hash:
            self._end(one)
            return Fate.BAD_DATA

        one.symbols = Encoder(data)
        one.decoder = Decoder(one.about.size)
        return Broadcast(one.about.id, one.source.key, data)

    def _keep(self, peer: AdnlId, one: _Open, symbols: Encoder, signed: Signed) -> None:
        """A part of a broadcast that is whole already."""
        one.seen[signed.seqno] = None
        if one.accepted:
            self._pass_on(one, symbols, signed, peer)
        else:
            one.waiting.append((signed, peer))

    # --- parts and replies that leave ---

    def _pass_on(self, one: _Open, symbols: Encoder, signed: Signed, bearer: AdnlId | None) -> None:
        symbol = symbols.symbol(signed.seqno)
        full = fec_part.full(one.about, signed, symbol)
        short = fec_part.short(one.about, signed, symbol)
        self._outputs.append(Part(one.about.id, full, short, bearer))

    def _make(self, own: _Own) -> None:
        one, symbols = own.broadcast, own.broadcast.symbols
        assert symbols is not None
        end = min(own.next + AT_ONCE, parts_of(one.about.size))
        for seqno in range(own.next, end):
            signed = fec_part.sign(own.identity, one.about, seqno, symbols.symbol(seqno))
            one.seen[seqno] = None
            self._pass_on(one, symbols, signed, None)
        own.next = end

    def _tell(self, peer: AdnlId, one: _Open) -> None:
        """Let a member know that we have it; and again, when we have all the parts there are."""
        if one.symbols is None or one.told.get(peer) in (True, one.enough):
            return
        if peer not in one.told and len(one.told) >= MAX_MEMBERS:
            return
        one.told[peer] = one.enough
        said = OverlayFecCompleted if one.enough else OverlayFecReceived
        self._outputs.append(Reply(peer, tl.pack(said(one.about.id))))

    # --- tables ---

    def _admit(self, about: Subject, source: PubEd25519) -> _Open | None:
        """Room for a broadcast, if there is any."""
        one = _Open(about, source, Decoder(about.size))
        of_source = sum(other.source == source for other in self._open.values())
        if len(self._open) >= MAX_OPEN or of_source >= PER_SOURCE:
            return None
        if self._memory + one.cost > MEMORY:
            return None
        self._open[about.id] = one
        self._memory += one.cost
        return one

    def _end(self, one: _Open) -> None:
        """Nothing more is taken of it."""
        del self._open[one.about.id]
        self._memory -= one.cost
        self._over[one.about.id] = one.about.date + REMEMBERED
        if len(self._over) > MAX_OVER:
            self._over.popitem(last=False)

    def _forget_old(self, now: float) -> None:
        """The tables are in the order of coming, from which dates differ by the window alone."""
        while self._open and next(iter(self._open.values())).about.date + REMEMBERED < now:
            self._end(next(iter(self._open.values())))
        while self._over and next(iter(self._over.values())) < now:
            self._over.popitem(last=False)
