"""First relays: drawn once, kept for weeks and over restarts, left if circuits die behind them.

Two rates tell that a guard selects circuits: how many of those tried through it got beyond it, and
how many of those that stood were killed by it or so close behind it that it may have been. A relay
further on that kills leaves the guard to say so, in words that only that relay could seal, and
counts against nobody here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

from p2p import defaults
from p2p.entropy import Entropy
from p2p.identity import AdnlId
from p2p.kept import KeptGuard
from p2p.onion.relays import RelayView, draw

MOST: Final = 24
"""guards that are remembered, those that left the directory or are banned among them"""


@dataclass(slots=True, kw_only=True)
class Guard:
    """A first relay that is kept to."""

    id: AdnlId
    since: float
    until: float
    down: float | None = None
    """When it was last found unreachable, if nothing came through since."""
    tries: int = 0
    passed: int = 0
    """Tries in which something authenticated came back from beyond it."""
    ended: int = 0
    """Circuits through it that stood, and are over."""
    killed: int = 0
    """Those of them that it, or what is next to it, ended before their time."""
    banned: float = 0.0
    """Until when it is not used, for failing too many."""

    def kept(self) -> KeptGuard:
        """As it is written down."""
        return KeptGuard(
            id=self.id,
            since=self.since,
            until=self.until,
            banned=self.banned,
            tries=self.tries,
            passed=self.passed,
            ended=self.ended,
            killed=self.killed,
        )


@final
class Guards:
    """Three relays drawn once and kept for weeks; the first that can be reached is used.

    Every new guard is another chance to have a bad one, so none is replaced for being slow or
    unreachable, only for having left the directory, for age, or for failing paths. `changed` is
    true while there is something that should be written down before it is used.
    """

    def __init__(self, entropy: Entropy, kept: Sequence[KeptGuard] = ()) -> None:
        self._entropy = entropy
        self._guards = [_restored(guard) for guard in kept[:MOST] if _is_sound(guard)]
        self.changed = False
        self.tries = 0
        """Paths tried through guards since the start."""
        self.passed = 0
        """Those of them in which something came back from beyond the guard."""

    def choose(
        self,
        now: float,
        relays: Sequence[RelayView],
        worker: RelayView,
        suspects: Sequence[AdnlId] = (),
    ) -> RelayView | None:
        """The guard for a path to `worker` among the eligible `relays`; None if there is none.

        Of `suspects`, which have just failed a circuit, one is used if the other guards cannot be.
        """
        listed = {relay.id: relay for relay in relays}
        usable = self._usable(now, relays, listed)
        fitting = [guard for guard in usable if not listed[guard.id].clashes(worker)]
        if fitting:
            return listed[min(fitting, key=lambda guard: _rank(now, guard, suspects)).id]
        apart = [relay for relay in self._fresh(relays) if not relay.clashes(worker)]
        return apart[draw(self._entropy, apart)] if apart else None

    def first(self, now: float, relays: Sequence[RelayView]) -> AdnlId | None:
        """The guard of most paths among the eligible `relays`; None if there are none."""
        usable = self._usable(now, relays, {relay.id: relay for relay in relays})
        return min(usable, key=lambda guard: _rank(now, guard)).id if usable else None

    def met(self) -> list[AdnlId]:
        """Those through which paths were tried: they have seen this node's address."""
        return [guard.id for guard in self._guards if guard.tries]

    def all(self) -> tuple[Guard, ...]:
        """Every one that is remembered; not to be changed."""
        return tuple(self._guards)

    # --- what becomes of circuits ---

    def unreachable(self, now: float, relay: AdnlId) -> None:
        """No link to a guard could be had; the next is used until this one is probed again."""
        for guard in self._named(relay):
            guard.down = now

    def tried(self, now: float, relay: AdnlId, *, passed: bool) -> None:
        """A path through a guard has been tried; whether anything came from beyond it."""
        for guard in self._named(relay):
            guard.down = None
            self.tries += 1
            self.passed += passed
            guard.tries += 1
            guard.passed += passed
            self._judge(now, guard)

    def ended(self, now: float, relay: AdnlId, *, killed: bool) -> None:
        """A circuit that stood is over; whether the guard may have killed it."""
        for guard in self._named(relay):
            guard.ended += 1
            guard.killed += killed
            self._judge(now, guard)

    def age(self, now: float, relay: AdnlId) -> float | None:
        """Seconds a guard has been one."""
        ages = [now - guard.since for guard in self._named(relay)]
        return ages[0] if ages else None

    def __contains__(self, relay: AdnlId) -> bool:
        return bool(self._named(relay))

    def __len__(self) -> int:
        return len(self._guards)

    # --- inside ---

    def _named(self, relay: AdnlId) -> list[Guard]:
        return [guard for guard in self._guards if guard.id == relay]

    def _usable(
        self, now: float, relays: Sequence[RelayView], listed: Mapping[AdnlId, RelayView]
    ) -> list[Guard]:
        """Guards that are listed, neither too old nor banned; filled up to three."""
        self._guards = [guard for guard in self._guards if now < guard.until]
        usable = [guard for guard in self._guards if guard.id in listed and guard.banned <= now]
        if len(usable) < defaults.GUARDS:
            usable += self._more(now, relays, defaults.GUARDS - len(usable))
        return usable[: defaults.GUARDS]

    def _more(self, now: float, relays: Sequence[RelayView], count: int) -> list[Guard]:
        fresh = self._fresh(relays)
        drawn = (fresh.pop(draw(self._entropy, fresh)) for _ in range(min(count, len(fresh))))
        return [self._keep(now, relay.id) for relay in drawn]

    def _fresh(self, relays: Sequence[RelayView]) -> list[RelayView]:
        return [relay for relay in relays if relay.id not in self]

    def _keep(self, now: float, relay: AdnlId) -> Guard:
        least, most = defaults.GUARD_LIFE
        until = now + least + (most - least) * self._entropy.uniform()
        guard = Guard(id=relay, since=now, until=until)
        self._guards = [*self._guards[-MOST + 1 :], guard]
        self.changed = True
        return guard

    def _judge(self, now: float, guard: Guard) -> None:
        if _fails(guard.tries, guard.passed) or _fails(guard.ended, guard.ended - guard.killed):
            guard.banned = now + defaults.BIAS_BAN
            guard.tries = guard.passed = guard.ended = guard.killed = 0
            self.changed = True


def _fails(tries: int, passed: int) -> bool:
    return tries >= defaults.BIAS_TRIES and passed < defaults.BIAS_RATE * tries


def _rank(now: float, guard: Guard, suspects: Sequence[AdnlId] = ()) -> tuple[bool, float]:
    """Who is up comes first, then who was found down longest ago; suspects behind them."""
    down = guard.down
    is_up = down is None or down + defaults.GUARD_DOWN <= now
    return guard.id in suspects, 0.0 if is_up or down is None else down


def _restored(kept: KeptGuard) -> Guard:
    return Guard(
        id=AdnlId(kept.id),
        since=kept.since,
        until=kept.until,
        banned=kept.banned,
        tries=kept.tries,
        passed=kept.passed,
        ended=kept.ended,
        killed=kept.killed,
    )


def _is_sound(kept: KeptGuard) -> bool:
    """Whether it could have been written by us: a file may be damaged in ways SQLite passes."""
    _, longest = defaults.GUARD_LIFE
    counts = 0 <= kept.passed <= kept.tries and 0 <= kept.killed <= kept.ended
    return len(kept.id) == 32 and counts and 0 < kept.until - kept.since <= longest
