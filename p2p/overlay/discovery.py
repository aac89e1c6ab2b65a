"""How a node finds the members of its overlay, and lets itself be found.

It asks whom it knows for some of whom they know, and tells some of its own; strangers are pinged
before they count, so that a name alone is nothing. Bootstrap nodes and the DHT are where it begins.
A client does the same but names itself to nobody: it is not listed, and nothing is sent to it.

A procedure does not know the time. What it has found is put aside, and makes a timer due at once,
whose call brings the time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol, TypeAlias, final

from p2p import tl
from p2p.bucket import full_bucket
from p2p.core import Procedures
from p2p.dht import value as records_of
from p2p.entropy import Entropy, sample
from p2p.errors import NoCapacity, RemoteError, Unreachable
from p2p.identity import AdnlId, Identity
from p2p.overlay.envelope import Envelope
from p2p.overlay.membership import Membership
from p2p.overlay.settings import Settings, Span
from p2p.overlay.strangers import Strangers
from p2p.sender import Sender
from p2p.timers import Timers
from p2p.ton import (
    OverlayGetRandomPeers,
    OverlayNode,
    OverlayNodes,
)

OWN_LIFE: Final = 60.0
"""seconds an own record is used before another is signed: a tenth of what others believe."""

MAX_BOOTSTRAP: Final = 64
"""nodes to begin with; of more, some are drawn."""

PACE: Final = 1.5
"""factor between the waits for the next exchange, while nothing new is learnt."""

MAX_ANSWER: Final = 2_048
"""bytes of an answer with records of 140 bytes: of the 14 that may be in it five are read."""


class Records(Protocol):
    """Where members are found by who knows none: the DHT. Steps in `Procedures`, as a query does.

    Raises `Unreachable`, `RemoteError` and `NoCapacity` alone.
    """

    async def find(self, name: bytes) -> Sequence[OverlayNode]:
        """Records of members of the overlay of this name, unchecked."""

    async def store(self, name: bytes, record: OverlayNode) -> None:
        """Let a member be found."""


class Due(Enum):
    """What a timer is for."""

    FINDINGS = "what procedures have found"
    EXCHANGE = "the next exchange of members"
    LOOKUP = "a lookup in the DHT"
    STORE = "a store in the DHT"
    RESHUFFLE = "a draw of neighbours"


@dataclass(frozen=True, slots=True)
class _Named:
    """A peer answered with some of whom it knows."""

    by: AdnlId
    nodes: Sequence[OverlayNode]


@dataclass(frozen=True, slots=True)
class _Looked:
    """The DHT knows these."""

    nodes: Sequence[OverlayNode]


@dataclass(frozen=True, slots=True)
class _NotStored:
    """The DHT did not take our record: it may not have met anybody yet."""


@dataclass(frozen=True, slots=True)
class _Missed:
    """A peer did not answer."""

    by: AdnlId


@dataclass(frozen=True, slots=True)
class _Pinged:
    """A stranger answered, or did not."""

    peer: AdnlId
    answers: bool


_Finding: TypeAlias = _Named | _Looked | _NotStored | _Missed | _Pinged


@final
class Discovery:
    """See the module. `records` is None where there is no DHT."""

    def __init__(
        self,
        identity: Identity,
        envelope: Envelope,
        members: Membership,
        sender: Sender,
        procedures: Procedures,
        entropy: Entropy,
        records: Records | None,
        settings: Settings,
    ) -> None:
        self._identity = identity
        self._envelope = envelope
        self._members = members
        self._sender = sender
        self._procedures = procedures
        self._entropy = entropy
        self._records = records
        self._settings = settings

        self._now = 0.0
        self._timers = Timers[Due]()
        self._findings: list[_Finding] = []
        self._bootstrap: list[AdnlId] = []
        self._asked: dict[AdnlId, int] = {}
        """When each peer was last asked, by a count of exchanges."""
        self._exchanges = 0
        self._wait = settings.exchange_first
        self._strangers = Strangers(envelope, sender, procedures, settings, self._pinged)
        self._named = full_bucket(1 / settings.named, 1.0, 0.0)
        self._own: OverlayNode | None = None
        self.serving = False
        """Whether this node is a member, and not a client."""

    # --- commands ---

    def join(self, now: float, bootstrap: Sequence[AdnlId], *, serve: bool) -> None:
        """Begin to look for members, first among these nodes."""
        others = [peer for peer in bootstrap if peer != self._identity.id]
        self._bootstrap = sample(self._entropy, others, MAX_BOOTSTRAP)
        self._now = now
        self.serving = serve
        for peer in self._bootstrap[: self._settings.neighbours]:
            self._exchange(now, peer)
        self._again(Due.RESHUFFLE, self._settings.reshuffle)
        self._timers.set(Due.EXCHANGE, now + self._wait)
        if self._records is not None:
            self._timers.set(Due.LOOKUP, now)
            self._timers.set(Due.STORE, now)

    def serve(self, now: float, *, serve: bool) -> None:
        """Be a member from now on, or a client: whom others find, or who only finds others."""
        self._now = now
        if serve and not self.serving:
            self._wait = self._settings.exchange_first
            self._timers.set(Due.EXCHANGE, now)
            if self._records is not None:
                self._timers.set(Due.STORE, now)
        self.serving = serve

    def exchanged(self, now: float, peer: AdnlId, nodes: Sequence[OverlayNode]) -> OverlayNodes:
        """A peer tells some of whom it knows, and is told in turn."""
        self._now = now
        self._strangers.speaks(peer)
        self._members.called(peer)
        self._hear(now, nodes, peer)
        self._strangers.ping()
        return self._some(now, peer)

    def unanswered(self, peer: AdnlId) -> None:
        """A query of somebody else's to this peer came to nothing."""
        self._found(_Missed(peer))

    # --- time ---

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        self._now = now
        for due in self._timers.take(now):
            match due:
                case Due.FINDINGS:
                    self._take_findings(now)
                case Due.EXCHANGE:
                    self._exchange_next(now)
                case Due.LOOKUP:
                    self._start_lookup()
                case Due.STORE:
                    self._start_store(now)
                case Due.RESHUFFLE:
                    self._members.reshuffle()
                    self._again(due, self._settings.reshuffle)

    def next_deadline(self) -> float | None:
        """When something is due."""
        return self._timers.next()

    def sizes(self) -> dict[str, int]:
        """Lengths of the tables."""
        return {
            "overlay_bootstrap": len(self._bootstrap),
            "overlay_asked": len(self._asked),
            **self._strangers.sizes(),
            "overlay_findings": len(self._findings),
        }

    # --- exchanges ---

    def _exchange_next(self, now: float) -> None:
        """Ask who was asked the longest ago, more seldom while nothing new is learnt."""
        self._members.forget_old(now)
        self._strangers.forget_silent(now)
        pool = self._pool()
        if pool:
            self._exchange(now, min(pool, key=lambda peer: self._asked.get(peer, 0)))
        quiet = self._members and not self.serving
        span = self._settings.lookup if quiet else self._settings.exchange
        if self._has_few() and self._wait < max(span):
            self._timers.set(Due.EXCHANGE, now + self._wait)
            self._wait *= PACE
        else:
            self._again(Due.EXCHANGE, span)

    def _pool(self) -> list[AdnlId]:
        """Whom to ask: neighbours, or everybody while there are few."""
        if not self._has_few():
            return list(self._members.neighbours)
        return list(dict.fromkeys([*self._bootstrap, *self._members.members]))

    def _exchange(self, now: float, peer: AdnlId) -> None:
        self._exchanges += 1
        self._asked.pop(peer, None)
        self._asked[peer] = self._exchanges
        if len(self._asked) > self._settings.max_members + MAX_BOOTSTRAP:
            del self._asked[next(iter(self._asked))]
        question = OverlayGetRandomPeers(self._some(now, peer))
        self._procedures.start(self._ask(peer, self._envelope.seal_query(question)))

    async def _ask(self, peer: AdnlId, question: bytes) -> None:
        timeout = self._settings.exchange_timeout
        try:
            answer = await self._sender.query(
                peer, question, timeout=timeout, max_answer=MAX_ANSWER
            )
            self._found(_Named(peer, tl.parse(OverlayNodes, answer).nodes))
        except (Unreachable, RemoteError):
            self._found(_Missed(peer))
        except NoCapacity:
            return  # nothing is known of the peer

    def _some(self, now: float, peer: AdnlId) -> OverlayNodes:
        """Who we are, unless a client, and some others."""
        own = [self._record(now)] if self.serving else []
        return OverlayNodes((*own, *self._members.share(now, peer)))

    def _record(self, now: float) -> OverlayNode:
        if self._own is None or now - self._own.version > OWN_LIFE:
            overlay = self._envelope.overlay
            self._own = records_of.sign_member(self._identity, overlay, int(now))
        return self._own

    # --- what was found ---

    def _found(self, finding: _Finding) -> None:
        self._findings.append(finding)
        self._timers.set(Due.FINDINGS, self._now)

    def _take_findings(self, now: float) -> None:
        findings, self._findings = self._findings, []
        for finding in findings:
            match finding:
                case _Named(by, nodes):
                    self._members.answered(by)
                    self._hear(now, nodes, by, answers=True)
                case _Looked(nodes):
                    self._hear(now, nodes)
                case _NotStored():
                    self._again(Due.STORE, self._settings.lookup_few)
                case _Missed(by):
                    self._miss(by)
                case _Pinged(peer, answers):
                    record = self._strangers.settle(now, peer, answers=answers)
                    self._admit(now, record)
        self._strangers.ping()

    def _hear(
        self,
        now: float,
        nodes: Sequence[OverlayNode],
        by: AdnlId | None = None,
        *,
        answers: bool = False,
    ) -> None:
        """Take as many as one is meant to name. Who answers and names itself needs no ping."""
        for record in nodes[: self._settings.shared + 1]:
            stranger = self._members.hear(now, record)
            if stranger is None:
                continue
            if stranger == by and answers:
                self._admit(now, record)
            elif stranger == by or self._wants_named(now):
                self._strangers.add(stranger, record)

    def _wants_named(self, now: float) -> bool:
        return len(self._members) < self._settings.enough or self._named.take(now)

    def _miss(self, peer: AdnlId) -> None:
        """Ask it again before all others: what is sent to a neighbour that has gone is lost."""
        self._members.missed(peer)
        if peer in self._members and peer in self._asked:
            self._asked[peer] = 0

    def _pinged(self, stranger: AdnlId, answers: bool) -> None:
        self._found(_Pinged(stranger, answers))

    def _admit(self, now: float, record: OverlayNode | None) -> None:
        if record is not None and self._members.admit(now, record):
            self._wait = self._settings.exchange_first

    # --- the DHT ---

    def _start_lookup(self) -> None:
        settings = self._settings
        self._again(Due.LOOKUP, settings.lookup_few if self._has_few() else settings.lookup)
        if self._records is not None:
            self._procedures.start(self._look_up(self._records))

    async def _look_up(self, records: Records) -> None:
        try:
            self._found(_Looked(await records.find(self._envelope.name)))
        except (Unreachable, RemoteError, NoCapacity):
            return

    def _start_store(self, now: float) -> None:
        self._again(Due.STORE, self._settings.store)
        if self._records is not None and self.serving:
            self._procedures.start(self._store(self._records, self._record(now)))

    async def _store(self, records: Records, record: OverlayNode) -> None:
        try:
            await records.store(self._envelope.name, record)
        except (Unreachable, RemoteError, NoCapacity):
            self._found(_NotStored())

    # --- inside ---

    def _has_few(self) -> bool:
        return len(self._members) < self._settings.few

    def _again(self, due: Due, span: Span) -> None:
        least, most = span
        self._timers.set(due, self._now + least + (most - least) * self._entropy.uniform())
