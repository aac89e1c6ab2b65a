"""A relay: who may build through it, and the circuits that pass.

    state      on                                       does                                next
    -          CREATE part 1                            keep                                HALF
    HALF       part 2, admitted                         forward; timer by depth             OPENING
    OPENING    CREATED complete                         wrap, send back                     OPEN
    OPENING    timer, DESTROY or link lost ahead        reply UNREACHABLE; DESTROY ahead    GONE
    OPEN       CELL                                     open or seal, queue, count credit   OPEN
    OPEN       link ahead lost, DESTROY ahead, limit    FAIL then DESTROY back              GONE
    any        DESTROY or link lost behind              DESTROY ahead                       GONE
    GONE       anything on that number for 30 s         ignore in silence                   GONE

A relay knows of a circuit its two neighbours' links, by number, and its own layer's keys; no object
here leads from one circuit to another.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import final

from p2p import defaults
from p2p.entropy import Entropy
from p2p.errors import OnionError
from p2p.identity import AdnlId
from p2p.onion.cell import (
    MAX_DEPTH,
    Code,
    Command,
    DestroyReason,
    FailCode,
    Hop,
    Status,
    create_size,
)
from p2p.onion.events import Dial, Tap
from p2p.onion.handshake import Ended, Relayed, open_create, puzzle_bits
from p2p.onion.link import LinkCore, Port, Side
from p2p.onion.links import Links
from p2p.onion.noise import KEY_SIZE, Kem, public_key
from p2p.onion.path import DirectoryView, Role
from p2p.onion.pressure import Pressure, Share
from p2p.onion.timers import Due, Key, Timers

DAY = 86_400
"""seconds of an onion-key day, UTC."""


# --- keys ---


@final
class OnionKeys:
    """The onion keys of a node: one X25519 key per UTC day, accepted until the end of the next.

    `loaded` are private keys by day from before a restart: with one of them there is a quiet time,
    in which replays could not be told. Keys drawn by this process need none.
    """

    def __init__(self, entropy: Entropy, loaded: dict[int, bytes] | None = None) -> None:
        self._entropy = entropy
        self._privates = dict(loaded or {})
        self._loaded = dict.fromkeys(self._privates)

    def public(self, day: int) -> bytes:
        """The key of `day`, drawn if it is the first time, for the node's advert.

        Days before the one before are over: their keys are deleted, though nobody used them.
        """
        self._delete_before(day - 1)
        return public_key(self._private(day))

    def accepted(self, now: float) -> Sequence[bytes]:
        """The private keys a CREATE may be sealed to, today's first; older ones are deleted."""
        today = int(now) // DAY
        self._delete_before(today - 1)
        newest = self._private(today)
        before = self._privates.get(today - 1)
        return (newest,) if before is None else (newest, before)

    def outlived_restart(self) -> bool:
        """Whether a key in use was used by an earlier process."""
        return bool(self._loaded)

    def _delete_before(self, first: int) -> None:
        for day in [day for day in self._privates if day < first]:
            del self._privates[day]
            self._loaded.pop(day, None)

    def _private(self, day: int) -> bytes:
        if day not in self._privates:
            self._privates[day] = self._entropy.token(KEY_SIZE)
        return self._privates[day]


# --- admission ---


@final
class ReplayWindow:
    """Tags of the CREATEs of the last 400-800 s: two tables, of which the older is dropped.

    Enter a tag only after its AEAD has opened, or anyone could fill them. Each tag is 16 bytes
    of BLAKE2b over the client's ephemeral key.
    """

    def __init__(self) -> None:
        self._new: dict[bytes, None] = {}
        self._old: dict[bytes, None] = {}
        self._since: float | None = None

    def enter(self, now: float, ephemeral: bytes) -> bool:
        """Whether this one is new; it no longer is."""
        self._turn(now)
        tag = blake2b(ephemeral, digest_size=16).digest()
        if tag in self._new or tag in self._old:
            return False
        self._new[tag] = None
        return True

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    def _turn(self, now: float) -> None:
        if self._since is None:
            self._since = now
        elif now >= self._since + 2 * defaults.REPLAY_HALF:
            self._new, self._old, self._since = {}, {}, now
        elif now >= self._since + defaults.REPLAY_HALF:
            self._new, self._old = {}, self._new
            self._since += defaults.REPLAY_HALF


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What a node is to those who build through it or to it."""

    me: AdnlId
    network: int
    relay: bool
    endpoint: bool
    allow_direct: bool
    kem: Kem
    tap: Tap | None


@final
class Admission:
    """Opens CREATEs and turns away what must be: first what costs nothing to see."""

    def __init__(
        self, house: House, keys: OnionKeys, links: Links, view: DirectoryView, entropy: Entropy
    ) -> None:
        self._house = house
        self._keys = keys
        self._links = links
        self._view = view
        self._entropy = entropy
        self._pressure = Pressure()
        self._window = ReplayWindow()
        self._started: float | None = None
        self.counts: Counter[str] = Counter()
        """Answers by status, and "destroyed"."""

    def start(self, now: float) -> None:
        """The first moment of this process; later calls change nothing."""
        if self._started is None:
            self._started = now

    def open(
        self, now: float, link: LinkCore, circuit: int, create: bytes, *, busy: bool
    ) -> Relayed | Ended | None:
        """The CREATE if it may go on; None if it has been answered. `busy`: the node is full."""
        if len(create) not in _SIZES:
            self._destroy(now, link, circuit, DestroyReason.PROTOCOL)
            return None
        share = Share.NONE if busy else self._share(now, link)
        if share is Share.NONE:
            self._destroy(now, link, circuit, DestroyReason.LIMITS)
            return None
        opened = self._read(now, create)
        if opened is None or not self._window.enter(now, opened.ephemeral):
            self._destroy(now, link, circuit, DestroyReason.PROTOCOL)
            return None

        bits = self._pressure.bits(share)
        code = self._judge(now, link, opened, bits)
        if code is not Code.OK:
            port = self._links.open(link, Side.BEHIND, 0, circuit)
            self.refuse(now, port, opened, code, detail=bits if code is Code.BUSY else 0)
            return None
        return opened

    def refuse(
        self,
        now: float,
        port: Port,
        opened: Relayed | Ended,
        code: Code,
        reason: bytes = b"",
        *,
        detail: int = 0,
    ) -> None:
        """Answer no, and forget the circuit."""
        self.counts[code.name.lower()] += 1
        status = Status(code=code, detail=detail, unix=int(now))
        reply = (
            opened.refuse(status) if isinstance(opened, Relayed) else opened.refuse(status, reason)
        )
        self._links.send_handshake(port, Command.CREATED, reply)
        self._links.retire(now, port)

    def sizes(self) -> dict[str, int]:
        """The length of the replay window."""
        return {"replay": len(self._window)}

    def _read(self, now: float, create: bytes) -> Relayed | Ended | None:
        house = self._house
        try:
            opened = open_create(
                create,
                self._keys.accepted(now),
                me=house.me,
                network=house.network,
                kem=house.kem,
                entropy=self._entropy,
            )
        except OnionError:
            return None
        if house.tap is not None:
            house.tap("create-info", opened.info.pack())
            if isinstance(opened, Ended):
                house.tap("create-request", opened.request)
        return opened

    def _share(self, now: float, link: LinkCore) -> Share:
        listed = self._links.listed(link)
        most = defaults.CIRCUITS_LISTED if listed else defaults.CIRCUITS_UNLISTED
        bucket = link.creates_listed if listed else link.creates_unlisted
        if link.asked >= most or not bucket.take(now):
            return Share.NONE
        return self._pressure.share(now, link.fair_listed if listed else link.fair_unlisted)

    def _judge(self, now: float, link: LinkCore, opened: Relayed | Ended, bits: int) -> Code:
        info = opened.info
        if self._stale(now, info.issued):
            return Code.STALE
        shown = puzzle_bits(self._house.me, opened.ephemeral, info.issued, info.puzzle)
        if shown < bits:
            return Code.BUSY
        if isinstance(opened, Relayed):
            return self._judge_next(link.peer, opened.next)
        return self._judge_end(link)

    def _stale(self, now: float, issued: int) -> bool:
        older, younger = defaults.CREATE_WINDOW
        if not now - older <= issued <= now + younger:
            return True
        started = now if self._started is None else self._started
        return self._keys.outlived_restart() and issued <= started + defaults.QUIET_TIME

    def _judge_next(self, before: AdnlId, following: AdnlId) -> Code:
        if not self._house.relay:
            return Code.NOT_ROLE
        view = self._view.relay(following)
        if following in (self._house.me, before) or view is None or not view.roles & _NEXT_ROLES:
            return Code.UNKNOWN_NEXT
        return Code.OK

    def _judge_end(self, link: LinkCore) -> Code:
        view = self._view.relay(link.peer)
        from_relay = view is not None and Role.RELAY in view.roles
        if self._house.endpoint and (from_relay or self._house.allow_direct):
            return Code.OK
        return Code.NOT_ROLE

    def _destroy(self, now: float, link: LinkCore, circuit: int, reason: DestroyReason) -> None:
        self.counts["destroyed"] += 1
        self._links.turn_away(now, link, circuit, reason)


_SIZES = frozenset(create_size(depth) for depth in range(1, MAX_DEPTH + 1))
_NEXT_ROLES = Role.RELAY | Role.WORKER | Role.MINT


# --- circuits that pass ---


@final
class Passage:
    """One circuit through this relay, OPENING until it has keys."""

    __slots__ = ("ahead", "behind", "failed", "half", "hop", "next", "opened")

    def __init__(self, behind: Port, opened: Relayed) -> None:
        self.behind = behind
        self.ahead: Port | None = None
        self.next = opened.next
        self.opened: Relayed | None = opened
        """The CREATE, until it is answered."""
        self.half: bytes | None = None
        """The first frame of the CREATED."""
        self.hop: Hop | None = None
        """The keys, once OPEN."""
        self.failed = False
        """A FAIL has gone back: no cell may follow it."""


@final
class RelayCore:
    """The circuits that pass through this node. Ports name them by number."""

    def __init__(self, links: Links, timers: Timers, admission: Admission, tap: Tap | None) -> None:
        self._links = links
        self._timers = timers
        self._admission = admission
        self._tap = tap
        self._count = 0
        self._passages: dict[int, Passage] = {}
        self._waiting: dict[AdnlId, dict[int, None]] = {}
        self.forward = 0
        """Cells passed towards endpoints."""
        self.backward = 0
        """Cells passed towards clients."""

    def __len__(self) -> int:
        return len(self._passages)

    def sizes(self) -> dict[str, int]:
        """The length of every table."""
        waiting = sum(len(numbers) for numbers in self._waiting.values())
        return {"passages": len(self._passages), "waiting": waiting}

    # --- set-up ---

    def begin(self, now: float, link: LinkCore, circuit: int, opened: Relayed) -> None:
        """Pass an admitted CREATE on, dialling the next hop if there is no link to it."""
        self._count += 1
        number = self._count
        passage = Passage(self._links.open(link, Side.BEHIND, number, circuit), opened)
        self._passages[number] = passage
        wait = defaults.BUILD_TIMES[opened.depth - 1]
        self._timers.set(Key(Due.BUILD, number), now + wait)

        ahead = self._links.to(passage.next)
        if ahead is not None:
            self._pass_create(now, number, passage, ahead)
        else:
            self._waiting.setdefault(passage.next, {})[number] = None
            self._links.events.append(Dial(passage.next))

    def link_up(self, now: float, link: LinkCore) -> None:
        """A link to a hop that circuits may wait for."""
        for number in self._waiting.pop(link.peer, {}):
            self._pass_create(now, number, self._passages[number], link)

    def dial_failed(self, now: float, peer: AdnlId) -> None:
        """The next hop of these cannot be reached."""
        for number in list(self._waiting.get(peer, ())):
            self._refuse(now, number, self._passages[number])

    def created(self, now: float, port: Port, body: bytes, *, more: bool) -> None:
        """One frame of a CREATED from ahead."""
        passage = self._passages[port.number]
        if passage.opened is None or more == (passage.half is not None):
            self._end_both(now, port.number, passage, DestroyReason.PROTOCOL)
        elif more:
            passage.half = body
        else:
            self._open(now, port.number, passage, (passage.half or b"") + body)

    def overdue(self, now: float, number: int) -> None:
        """The rest of the path has not answered in time."""
        self._refuse(now, number, self._passages[number])

    # --- cells ---

    def cell(self, now: float, port: Port, body: bytes) -> None:
        """Open or seal a cell and pass it on; a bad one ends the circuit."""
        passage = self._passages[port.number]
        hop, ahead = passage.hop, passage.ahead
        if hop is None or ahead is None or passage.failed:
            self._end_both(now, port.number, passage, DestroyReason.PROTOCOL)
            return
        try:
            if port.side is Side.BEHIND:
                text = hop.forward(body)
                self.forward += 1
                if self._tap is not None:
                    self._tap("cell", text)
                self._links.send(now, ahead, Command.CELL, text)
            else:
                self.backward += 1
                self._links.send(now, passage.behind, Command.CELL, hop.backward(body))
        except OnionError:
            self._fail(now, port.number, FailCode.BAD_CELL, DestroyReason.PROTOCOL)

    def fail(self, now: float, port: Port, body: bytes) -> None:
        """Pass a FAIL from ahead back, once; anything else of the kind ends the circuit."""
        passage = self._passages[port.number]
        if port.side is not Side.AHEAD or passage.hop is None or passage.failed:
            self._end_both(now, port.number, passage, DestroyReason.PROTOCOL)
            return
        try:
            self._links.send(now, passage.behind, Command.FAIL, passage.hop.backward(body))
            passage.failed = True
        except OnionError:
            self._fail(now, port.number, FailCode.NEXT_DESTROYED, DestroyReason.PROTOCOL)

    # --- ends ---

    def lost(self, now: float, port: Port) -> None:
        """The link of a port is gone, and the port with it."""
        self._gone(now, port, FailCode.NEXT_LOST)

    def destroyed(self, now: float, port: Port) -> None:
        """DESTROY came in on a port."""
        self._links.ended(now, port)
        self._gone(now, port, FailCode.NEXT_DESTROYED)

    def expire(self, now: float, number: int) -> None:
        """A circuit has lived as long as any may."""
        self._fail(now, number, FailCode.LIFETIME, DestroyReason.LIFETIME)

    def over_sent(self, now: float, port: Port) -> None:
        """The peer sent more cells than it had credit for."""
        passage = self._passages[port.number]
        self._end_both(now, port.number, passage, DestroyReason.LIMITS)

    def cut(self, now: float, port: Port) -> None:
        """End a circuit at once, with what it has queued: memory is short."""
        passage = self._passages[port.number]
        self._links.cut(now, passage.behind, DestroyReason.LIMITS)
        if passage.ahead is not None:
            self._links.cut(now, passage.ahead, DestroyReason.LIMITS)
        self._forget(port.number, passage)

    # --- inside ---

    def _pass_create(self, now: float, number: int, passage: Passage, link: LinkCore) -> None:
        assert passage.opened is not None, "only an unanswered CREATE waits for a link"
        ahead = self._links.open(link, Side.AHEAD, number)
        ahead.feeds, passage.behind.feeds = passage.behind.meter, ahead.meter
        passage.ahead = ahead
        self._links.send_handshake(ahead, Command.CREATE, passage.opened.create)

    def _open(self, now: float, number: int, passage: Passage, reply: bytes) -> None:
        assert passage.opened is not None, "a circuit opens once"
        try:
            message, passage.hop = passage.opened.wrap(int(now), reply)
        except OnionError:
            self._refuse(now, number, passage)
            return
        passage.opened = passage.half = None
        self._admission.counts["ok"] += 1
        self._timers.clear(Key(Due.BUILD, number))
        self._timers.set(Key(Due.LIFE, number), now + defaults.CIRCUIT_LIFE)
        self._links.send_handshake(passage.behind, Command.CREATED, message)

    def _refuse(self, now: float, number: int, passage: Passage) -> None:
        """OPENING ends: the next hop was not reached in time."""
        assert passage.opened is not None, "an open circuit fails otherwise"
        self._admission.refuse(now, passage.behind, passage.opened, Code.UNREACHABLE)
        if passage.ahead is not None:
            self._links.destroy(now, passage.ahead, DestroyReason.OTHER)
        self._forget(number, passage)

    def _gone(self, now: float, port: Port, code: FailCode) -> None:
        number = port.number
        passage = self._passages[number]
        if port is passage.ahead:
            passage.ahead = None
            if passage.opened is not None:
                self._refuse(now, number, passage)
            else:
                self._fail(now, number, code, DestroyReason.OTHER)
        else:
            if passage.ahead is not None:
                self._links.destroy(now, passage.ahead, DestroyReason.OTHER)
            self._forget(number, passage)

    def _fail(self, now: float, number: int, code: FailCode, reason: DestroyReason) -> None:
        """The last word of this hop, behind all cells; then the end both ways."""
        passage = self._passages[number]
        if passage.hop is not None and not passage.failed:
            self._links.send(now, passage.behind, Command.FAIL, passage.hop.fail(code))
        self._end_both(now, number, passage, reason)

    def _end_both(self, now: float, number: int, passage: Passage, reason: DestroyReason) -> None:
        self._links.destroy(now, passage.behind, reason)
        if passage.ahead is not None:
            self._links.destroy(now, passage.ahead, reason)
        self._forget(number, passage)

    def _forget(self, number: int, passage: Passage) -> None:
        del self._passages[number]
        self._timers.clear(Key(Due.BUILD, number))
        self._timers.clear(Key(Due.LIFE, number))
        waiting = self._waiting.get(passage.next)
        if waiting is not None:
            waiting.pop(number, None)
            if not waiting:
                del self._waiting[passage.next]
