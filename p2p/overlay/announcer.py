"""Keeps what a node says of itself true: its seq, its onion key of the day, its next issue.

A node that beats gives pulses to say that it is still there, and issues its advert but a few times
a day; one that does not issues an advert each epoch for that.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final, final

from p2p.entropy import Entropy
from p2p.identity import AdnlId, Identity
from p2p.overlay import advert
from p2p.overlay.advert import DAY, Anchors, Fields, OnionKey, Role, Rules
from p2p.overlay.pulse import VALUE_SIZE, Heart, Pulse, anchors_of
from p2p.timers import soonest
from p2p.wire import Endpoint

JITTER: Final = 0.1
"""share by which an issue comes early, so that nodes started together do not stay together."""

KEY_SPREAD: Final = 3_600.0
"""seconds of a new day over which its onion keys are told: yesterday's are good all day, and all
nodes at once would flood the network."""

PAUSE: Final = 0.1
"""epochs between two issues for what has changed by itself: a minute; others take no more."""

NOBODY: Final = Role(0)
"""The roles of a node that leaves."""


@final
class Announcer:
    """`say` or `leave`, and call `renew` at `due`; `advert` is what stands, of number `seq`.

    Outside a dev network an advert needs a nonce that takes work: while `wants_work` names a day,
    nothing is issued. One that is `beating` has a `beat` to give whenever `due`. One that is
    `patient` says nothing while nobody can reach the node, instead of refusing to. `first` is the
    least seq: greater than any of a life before, since two adverts of one seq are a fault.
    """

    def __init__(
        self,
        identity: Identity,
        rules: Rules,
        entropy: Entropy,
        onion_key: Callable[[int], bytes],
        *,
        beating: bool = False,
        patient: bool = False,
        first: int = 0,
    ) -> None:
        self._identity = identity
        self._rules = rules
        self._entropy = entropy
        self._onion_key = onion_key

        self._addresses: tuple[Endpoint, ...] = ()
        self._udp: tuple[Endpoint, ...] = ()
        self._fields: Fields | None = None
        self._attachments: tuple[AdnlId, ...] = ()
        self._work: tuple[int, bytes] | None = None
        self._due: float | None = None
        self._issued = float("-inf")
        self._beating = beating
        self._patient = patient
        self._first = first
        self._heart: Heart | None = None
        self._busy = False
        self._now = 0.0
        self.seq = 0
        """The greatest number used so far; 0 before the first issue."""
        self.advert: bytes | None = None
        """What we say now."""

    def listen(self, addresses: tuple[Endpoint, ...], udp: tuple[Endpoint, ...] = ()) -> None:
        """Where others can dial this node, and where it listens for ADNL."""
        self._addresses, self._udp = addresses, udp

    def move(
        self, now: float, addresses: tuple[Endpoint, ...], udp: tuple[Endpoint, ...] = ()
    ) -> None:
        """As `listen`, once there is something to say: it is said soon if it is news."""
        if (addresses, udp) != (self._addresses, self._udp):
            self.listen(addresses, udp)
            self._change(now)

    def attach(self, now: float, relays: tuple[AdnlId, ...]) -> None:
        """These relays hold links to this node: that is said soon if it is news."""
        if relays != self._attachments:
            self._attachments = relays
            self._change(now)

    def say(self, now: float, fields: Fields) -> None:
        """Say this from now on. Raises `ValueError`, changing nothing, if nobody would take it."""
        complete = self._complete(now, fields)
        if self._has_no_way(complete):
            complete = replace(complete, attachments=(self._identity.id,))
        advert.build(self._identity, complete, now, self._rules)
        self._fields = fields
        self._issue(now, fields)

    def leave(self, now: float) -> None:
        """Say once more: not here any longer."""
        self._fields = None
        if self.advert is not None:
            self._issue(now, Fields(roles=NOBODY, life=int(self._rules.epoch)))
            self._due = None

    def outbid(self, now: float, seq: int) -> None:
        """An advert of ours with this seq is about that we did not issue in this life: go above."""
        self.seq = max(self.seq, seq)
        if self._fields is not None:
            self._issue(now, self._fields)

    def wants_work(self, now: float) -> int | None:
        """The day for which a nonce is missing."""
        day = int(now // DAY)
        missing = self._work is None or self._work[0] != day
        return day if self._fields is not None and not self._rules.dev and missing else None

    def work(self, now: float, day: int, nonce: bytes) -> None:
        """The nonce that was wanted."""
        self._work = day, nonce
        if self._fields is not None:
            self._issue(now, self._fields)

    def due(self) -> float | None:
        """When `renew` or `beat` is due."""
        pulse = None if self._heart is None else self._heart.next_deadline(self._now)
        return soonest(self._due, pulse)

    def renew(self, now: float) -> None:
        """Issue again if due."""
        self._now = now
        if self._due is not None and self._due <= now and self._fields is not None:
            self._issue(now, self._fields)

    # --- pulses ---

    def beat(self, now: float) -> Pulse | None:
        """The pulse that is due, once."""
        self._now = now
        return None if self._heart is None else self._heart.beat(now)

    def busy(self, now: float) -> Pulse | None:
        """Work must be refused from now on; the pulse to send at once, if any."""
        self._busy = True
        return None if self._heart is None else self._heart.busy(now)

    def free(self) -> None:
        """Work is taken again: the next slot's pulse says so."""
        self._busy = False
        if self._heart is not None:
            self._heart.free()

    # --- inside ---

    def _change(self, now: float) -> None:
        """What we say is no longer true: say it anew, but not too often."""
        if self._due is not None:
            pause = self._issued + PAUSE * self._rules.epoch
            self._due = min(self._due, max(now, pause))
            self.renew(now)

    def _issue(self, now: float, fields: Fields) -> None:
        self._now = now
        self._due = self._next_issue(now, fields)
        seq = max(int(now), self._first, self.seq + 1)
        complete = self._complete(now, replace(fields, seq=seq))
        if self.wants_work(now) is not None or self._has_no_way(complete):
            return
        self._issued = now
        self.advert = advert.build(self._identity, complete, now, self._rules)
        self.seq = seq
        self._heart = self._new_heart(now) if complete.anchors is not None else None

    def _has_no_way(self, fields: Fields) -> bool:
        """Whether to wait for an address or an attachment."""
        is_nowhere = bool(fields.roles) and not fields.addresses and not fields.attachments
        return self._patient and is_nowhere

    def _new_heart(self, now: float) -> Heart:
        heart = Heart(self._identity, self.seq, int(now), self._rules.epoch)
        if self._busy:
            heart.refuse()
        return heart

    def _next_issue(self, now: float, fields: Fields) -> float:
        """After an epoch, so that we count as live; of one that beats, after a third of its life.

        A new day has another onion key, which is in no great hurry.
        """
        early = 1.0 - JITTER * self._entropy.uniform()
        if not self._beating:
            return now + self._rules.epoch * early
        tomorrow = (now // DAY + 1) * DAY + KEY_SPREAD * self._entropy.uniform()
        return min(now + self._life(fields) / 3 * early, tomorrow)

    def _life(self, fields: Fields) -> int:
        return fields.life or int(self._rules.lives[1] if self._beating else self._rules.usual_life)

    def _reach(self, roles: Role) -> Role:
        """What being dialled makes of a node: a relay keeps links to those who cannot be."""
        if not self._addresses:
            return NOBODY
        attachment = Role.ATTACHMENT if Role.RELAY in roles else NOBODY
        return Role.DIALABLE | Role.DIRECTORY | attachment

    def _complete(self, now: float, fields: Fields) -> Fields:
        fields = replace(fields, work=None if self._work is None else self._work[1])
        if not fields.roles:
            return fields
        day = int(now // DAY)
        anchors = anchors_of(self._identity, fields.seq) if self._beating else None
        return replace(
            fields,
            roles=fields.roles | self._reach(fields.roles),
            addresses=self._addresses,
            udp=self._udp,
            life=self._life(fields),
            attachments=self._attachments or fields.attachments,
            anchors=None
            if anchors is None
            else Anchors(anchors[:VALUE_SIZE], anchors[VALUE_SIZE:]),
            onion=OnionKey(day, self._onion_key(day)),
        )
