"""Keeps what a node says of itself true: its seq, its onion key of the day, its next issue."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final, final

from p2p.entropy import Entropy
from p2p.identity import Identity
from p2p.overlay import advert
from p2p.overlay.advert import DAY, Fields, OnionKey, Role, Rules
from p2p.wire import Endpoint

JITTER: Final = 0.1
"""share by which an issue comes early, so that nodes started together do not stay together."""

NOBODY: Final = Role(0)
"""The roles of a node that leaves."""


@final
class Announcer:
    """`say` or `leave`, and call `renew` at `due`; `advert` is what stands, of number `seq`.

    Outside a dev network an advert needs a nonce that takes work: while `wants_work` names a day,
    nothing is issued.
    """

    def __init__(
        self,
        identity: Identity,
        rules: Rules,
        entropy: Entropy,
        onion_key: Callable[[int], bytes],
    ) -> None:
        self._identity = identity
        self._rules = rules
        self._entropy = entropy
        self._onion_key = onion_key

        self._addresses: tuple[Endpoint, ...] = ()
        self._udp: tuple[Endpoint, ...] = ()
        self._fields: Fields | None = None
        self._work: tuple[int, bytes] | None = None
        self._due: float | None = None
        self.seq = 0
        """The greatest number used so far; 0 before the first issue."""
        self.advert: bytes | None = None
        """What we say now."""

    def listen(self, addresses: tuple[Endpoint, ...], udp: tuple[Endpoint, ...] = ()) -> None:
        """Where others can dial this node, and where it listens for ADNL."""
        self._addresses, self._udp = addresses, udp

    def say(self, now: float, fields: Fields) -> None:
        """Say this from now on. Raises `ValueError`, changing nothing, if nobody would take it."""
        advert.build(self._identity, self._complete(now, fields), now, self._rules)
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
        """When `renew` is due."""
        return self._due

    def renew(self, now: float) -> None:
        """Issue again if due."""
        if self._due is not None and self._due <= now and self._fields is not None:
            self._issue(now, self._fields)

    def _issue(self, now: float, fields: Fields) -> None:
        self._due = self._next_issue(now)
        if self.wants_work(now) is not None:
            return
        seq = max(int(now), self.seq + 1)
        complete = self._complete(now, replace(fields, seq=seq))
        self.advert = advert.build(self._identity, complete, now, self._rules)
        self.seq = seq

    def _next_issue(self, now: float) -> float:
        """An epoch on, so that we count as live; a new day's onion key is in no greater hurry."""
        return now + self._rules.epoch * (1.0 - JITTER * self._entropy.uniform())

    def _complete(self, now: float, fields: Fields) -> Fields:
        fields = replace(fields, work=None if self._work is None else self._work[1])
        if not fields.roles:
            return fields
        day = int(now // DAY)
        reach = Role.DIALABLE | Role.DIRECTORY if self._addresses else NOBODY
        return replace(
            fields,
            roles=fields.roles | reach,
            addresses=self._addresses,
            udp=self._udp,
            onion=OnionKey(day, self._onion_key(day)),
        )
