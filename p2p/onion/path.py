"""Which relays a circuit goes through, and what that choice is worth to the asker."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum, IntFlag
from statistics import median_low
from typing import Protocol, final

from p2p import defaults
from p2p.entropy import Entropy, choice
from p2p.errors import NoPath
from p2p.identity import AdnlId
from p2p.onion.cell import MAX_RELAYS
from p2p.onion.handshake import Target as Target


class Role(IntFlag):
    """What a listed node offers, with the bits of an advert."""

    RELAY = 1
    WORKER = 2
    MINT = 4
    DHT = 8
    ATTACHMENT = 16
    DIALABLE = 32
    DIRECTORY = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayView:
    """What path choice needs to know of a listed node."""

    id: AdnlId
    onion_key: bytes
    """X25519 public key of 32 bytes, today's as the node's advert has it."""
    operator: bytes
    """Group of nodes under one operator; an unproven operator's group is its subnet."""
    subnet: bytes
    """/16 of IPv4 or /32 of IPv6; empty for a private or unknown address."""
    roles: Role
    stable: bool
    """Listed in at least 5 of the last 7 days."""
    weight: float
    """Stake up to the cap as a share of the cap, 1.0 in a network without stake."""
    attachments: tuple[AdnlId, ...] = ()
    """Relays that keep a link to this node, which cannot be dialled."""
    live: bool = True
    """Heard of lately. A guard need not be: who keeps its pulses back could else replace it."""

    @property
    def target(self) -> Target:
        """As a hop of a path."""
        return Target(id=self.id, onion_key=self.onion_key)

    def clashes(self, other: "RelayView") -> bool:
        """Whether one party may run both: they share an id, an operator or a subnet."""
        return (
            self.id == other.id
            or self.operator == other.operator
            or (self.subnet != b"" and self.subnet == other.subnet)
        )


class DirectoryView(Protocol):
    """The directory as circuits see it; asking it never sends a query."""

    def relay(self, peer: AdnlId, /) -> RelayView | None:
        """Any listed relay, worker or mint."""

    def relays(self) -> Sequence[RelayView]:
        """The usable relays only, in an order that depends on the directory alone."""


# --- guards ---


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
    banned: float = 0.0
    """Until when it is not used, for failing too many."""


@final
class Guards:
    """Three relays drawn once and kept for weeks; the first that can be reached is used.

    Every new guard is another chance to have a bad one, so none is replaced for being slow or
    unreachable, only for having left the directory, for age, or for failing paths.
    """

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy
        self._guards: list[Guard] = []
        self.tries = 0
        """Paths tried through guards."""
        self.passed = 0
        """Those of them in which something came back from beyond the guard."""

    def choose(
        self, now: float, relays: Sequence[RelayView], worker: RelayView
    ) -> RelayView | None:
        """The guard for a path to `worker` among the eligible `relays`; None if there is none."""
        listed = {relay.id: relay for relay in relays}
        usable = self._usable(now, relays, listed)
        fitting = [guard for guard in usable if not listed[guard.id].clashes(worker)]
        if fitting:
            return listed[min(fitting, key=lambda guard: _rank(now, guard)).id]
        apart = [relay for relay in self._fresh(relays) if not relay.clashes(worker)]
        return apart[_draw(self._entropy, apart)] if apart else None

    def first(self, now: float, relays: Sequence[RelayView]) -> AdnlId | None:
        """The guard of most paths among the eligible `relays`; None if there are none."""
        usable = self._usable(now, relays, {relay.id: relay for relay in relays})
        return min(usable, key=lambda guard: _rank(now, guard)).id if usable else None

    def unreachable(self, now: float, relay: AdnlId) -> None:
        """No link to a guard could be had; the next is used until this one is probed again."""
        for guard in self._guards:
            if guard.id == relay:
                guard.down = now

    def tried(self, now: float, relay: AdnlId, *, passed: bool) -> None:
        """A path through a guard has been tried; whether anything came from beyond it."""
        for guard in self._guards:
            if guard.id == relay:
                guard.down = None
                self.tries += 1
                self.passed += passed
                guard.tries += 1
                guard.passed += passed
                self._judge(now, guard)

    def age(self, now: float, relay: AdnlId) -> float | None:
        """Seconds a guard has been one."""
        ages = [now - guard.since for guard in self._guards if guard.id == relay]
        return ages[0] if ages else None

    def __contains__(self, relay: AdnlId) -> bool:
        return any(guard.id == relay for guard in self._guards)

    def __len__(self) -> int:
        return len(self._guards)

    def _usable(
        self, now: float, relays: Sequence[RelayView], listed: Mapping[AdnlId, RelayView]
    ) -> list[Guard]:
        """Guards that are listed, neither too old nor banned; filled up to three."""
        self._guards = [guard for guard in self._guards if now < guard.until]
        usable = [guard for guard in self._guards if guard.id in listed and guard.banned <= now]
        if len(usable) < defaults.GUARDS:
            usable += self._more(now, relays, defaults.GUARDS - len(usable))
        return usable

    def _more(self, now: float, relays: Sequence[RelayView], count: int) -> list[Guard]:
        fresh = self._fresh(relays)
        drawn = (fresh.pop(_draw(self._entropy, fresh)) for _ in range(min(count, len(fresh))))
        return [self._keep(now, relay.id) for relay in drawn]

    def _fresh(self, relays: Sequence[RelayView]) -> list[RelayView]:
        return [relay for relay in relays if relay.id not in self]

    def _keep(self, now: float, relay: AdnlId) -> Guard:
        least, most = defaults.GUARD_LIFE
        until = now + least + (most - least) * self._entropy.uniform()
        guard = Guard(id=relay, since=now, until=until)
        self._guards.append(guard)
        return guard

    def _judge(self, now: float, guard: Guard) -> None:
        if guard.tries >= defaults.BIAS_TRIES and guard.passed < defaults.BIAS_RATE * guard.tries:
            guard.banned = now + defaults.BIAS_BAN
            guard.tries = guard.passed = 0


def _rank(now: float, guard: Guard) -> float:
    """Guards that are up come first, then those that were found down longest ago."""
    if guard.down is None or guard.down + defaults.GUARD_DOWN <= now:
        return 0.0
    return guard.down


# --- paths ---


def eligible(view: DirectoryView, self_id: AdnlId, *, dev: bool) -> list[RelayView]:
    """The relays that may stand in a path of this node."""
    return [relay for relay in view.relays() if _eligible(relay, self_id, dev=dev)]


def pick_path(
    view: DirectoryView,
    worker: AdnlId,
    relays: int = MAX_RELAYS,
    *,
    entropy: Entropy,
    self_id: AdnlId,
    dev: bool,
    guards: Guards | None = None,
    now: float = 0.0,
    acquainted: Sequence[AdnlId] = (),
    suspects: Sequence[AdnlId] = (),
) -> list[Target]:
    """Relays for a circuit to `worker`, guard first, and the worker itself.

    No two of them share id, operator or subnet. Without `guards` the first relay is drawn like the
    others, which gives a bad relay more chances over time. Relays that are `acquainted`, that know
    the asker's address for another reason, stand behind the guard only if no others can, not even
    those that give no sign of life; `suspects`, that have just failed a circuit, only if there is
    no path without them even so.
    Raises `NoPath`; `ValueError` for a number of relays that no circuit has.
    """
    if not 0 <= relays <= MAX_RELAYS:
        raise ValueError(f"a path has 0 to {MAX_RELAYS} relays")
    end = view.relay(worker)
    if end is None:
        raise NoPath("who is to be reached is not in the directory")
    pool = eligible(view, self_id, dev=dev)
    _check_enough(pool, end, relays)
    pool = _capped(pool)
    lasts: Sequence[RelayView] = pool
    if end.attachments:
        lasts = [relay for relay in pool if relay.id in end.attachments]
    if relays <= 1:
        return [relay.target for relay in _short(entropy, lasts, relays, end, guards, now)]

    guard = _first(entropy, pool, end, guards, now)
    if guard is None:
        raise NoPath(f"none of {len(pool)} relays can be the first")
    attached = bool(end.attachments)
    middles = _of_others(pool, guard, end)
    lasts = _of_others(lasts, guard, end) if attached else middles
    silent = [relay.id for relay in pool if not relay.live]
    for shunned in (
        (*acquainted, *suspects, *silent),
        (*acquainted, *suspects),
        (*suspects, *silent),
        suspects,
        acquainted,
    ):
        with suppress(NoPath):
            strange = _apart(middles, shunned), _apart(lasts, shunned)
            rest = _rest(entropy, *strange, relays - 1, attached=attached)
            break
    else:
        rest = _rest(entropy, middles, lasts, relays - 1, attached=attached)
    return [guard.target, *(relay.target for relay in rest), end.target]


def _check_enough(pool: Sequence[RelayView], end: RelayView, relays: int) -> None:
    """Raises `NoPath`: before any draw, since none of them could do."""
    apart = _of_others(pool, end)
    if len(apart) < relays:
        but = ", besides the one that is to be reached: it is none on the way to itself"
        raise NoPath(
            f"the path takes {relays} relays and {len(apart)} can be used"
            f"{but if Role.RELAY in end.roles else ''}"
        )


def _of_others(relays: Sequence[RelayView], *parties: RelayView) -> Sequence[RelayView]:
    """Those that clash with none of these: one pass, as a large network's list is long."""
    ids = dict.fromkeys(party.id for party in parties)
    operators = dict.fromkeys(party.operator for party in parties)
    subnets = dict.fromkeys(party.subnet for party in parties if party.subnet)
    return [
        relay
        for relay in relays
        if relay.operator not in operators and relay.subnet not in subnets and relay.id not in ids
    ]


def _apart(relays: Sequence[RelayView], shunned: Sequence[AdnlId]) -> Sequence[RelayView]:
    known = dict.fromkeys(shunned)
    return [relay for relay in relays if relay.id not in known] if known else relays


def _eligible(relay: RelayView, self_id: AdnlId, *, dev: bool) -> bool:
    return (
        relay.id != self_id
        and Role.RELAY in relay.roles
        and Role.DIALABLE in relay.roles
        and (relay.stable or dev)
        and relay.weight > 0
    )


def _short(
    entropy: Entropy,
    lasts: Sequence[RelayView],
    relays: int,
    end: RelayView,
    guards: Guards | None,
    now: float,
) -> list[RelayView]:
    """Paths of no relay, or of one that is guard and last at once."""
    if relays == 0:
        return [end]
    only = _first(entropy, lasts, end, guards if not end.attachments else None, now)
    if only is None:
        raise NoPath("no relay is apart from the worker")
    return [only, end]


def _first(
    entropy: Entropy,
    pool: Sequence[RelayView],
    end: RelayView,
    guards: Guards | None,
    now: float,
) -> RelayView | None:
    if guards is not None:
        return guards.choose(now, pool, end)
    apart = _of_others(pool, end)
    return apart[_draw(entropy, apart)] if apart else None


def _rest(
    entropy: Entropy,
    middles: Sequence[RelayView],
    lasts: Sequence[RelayView],
    relays: int,
    *,
    attached: bool,
) -> list[RelayView]:
    """The relays behind the guard: by weight, the last uniform if the worker has attachments."""
    if not lasts or (relays == 2 and not middles):
        raise NoPath("too few relays that no one party may run together")
    for _ in range(defaults.PATH_DRAWS):
        last = choice(entropy, lasts) if attached else lasts[_draw(entropy, lasts)]
        if relays == 1:
            return [last]
        middle = middles[_draw(entropy, middles)]
        if not middle.clashes(last):
            return [middle, last]
    raise NoPath(f"{defaults.PATH_DRAWS} draws gave no two relays apart from each other")


def _draw(entropy: Entropy, relays: Sequence[RelayView]) -> int:
    """An index, each as likely as its relay's weight."""
    point = entropy.uniform() * sum(relay.weight for relay in relays)
    for index, relay in enumerate(relays):
        point -= relay.weight
        if point < 0:
            return index
    return len(relays) - 1


def _capped(relays: Sequence[RelayView]) -> list[RelayView]:
    """The relays with weights such that no operator gets more than its share of the draws."""
    totals: dict[bytes, float] = {}
    for relay in relays:
        totals[relay.operator] = totals.get(relay.operator, 0.0) + relay.weight
    if len(totals) < defaults.OPERATORS_FOR_SHARE:
        return list(relays)
    ceiling = _ceiling(sorted(totals.values(), reverse=True))
    return [_scaled(relay, min(1.0, ceiling / totals[relay.operator])) for relay in relays]


def _ceiling(totals: Sequence[float]) -> float:
    """The most one operator may have so that it is a share of what all then have.

    With the k largest cut to c: c = share * (k * c + the rest).
    """
    share, rest = defaults.OPERATOR_SHARE, sum(totals)
    for cut, total in enumerate(totals):
        ceiling = share * rest / (1 - share * cut)
        if total <= ceiling:
            return ceiling
        rest -= total
    return totals[-1]


def _scaled(relay: RelayView, factor: float) -> RelayView:
    if factor == 1.0:
        return relay
    return replace(relay, weight=relay.weight * factor)


# --- what a path is worth ---


class Level(Enum):
    """How well the asker is hidden; chosen thresholds, not derived ones."""

    NONE = "none"
    BASIC = "basic"
    GOOD = "good"
    BEST = "best"


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitFacts:
    """What is true of one circuit, never what its configuration says."""

    relays: int
    slots: int
    """Workers it was drawn from."""
    clients: int
    """Active clients, as the relays claim."""
    shaping: int
    staked: bool
    dev: bool
    own_lane: bool
    """Paid by the asker's own lane, not by blind credits."""
    attested: bool = False
    """The worker proved an enclave."""
    guard_age: float | None = None
    """seconds"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Privacy:
    """Two axes, never one score."""

    asker: Level
    readable_by: str
    numbers: Mapping[str, float]
    reasons: tuple[str, ...]
    """Why it is not better."""


def assess(facts: CircuitFacts) -> Privacy:
    """What a circuit hides, in the words shown to its user."""
    reasons = tuple(_reasons(facts))
    numbers: dict[str, float] = {
        "relays": facts.relays,
        "slots": facts.slots,
        "clients": facts.clients,
    }
    if facts.guard_age is not None:
        numbers["guard_age"] = facts.guard_age
    return Privacy(
        asker=_level(facts, reasons),
        readable_by="the worker's attested enclave" if facts.attested else "the worker",
        numbers=numbers,
        reasons=reasons,
    )


def active_clients(claims: Sequence[int]) -> int:
    """Clients that relays claim, each `c` being 2^c - 1 of them, capped at 3 times the median."""
    counts = [2**claim - 1 for claim in claims]
    if not counts:
        return 0
    most = 3 * median_low(counts)
    return sum(min(count, most) for count in counts)


GOOD_SLOTS = 20
"""workers: fewer make the choice tell something of the asker."""

GOOD_CLIENTS = 50
"""clients claimed to be active: the set to hide in."""

BEST_CLIENTS = 500
"""clients, for the best level."""


def _level(facts: CircuitFacts, reasons: Sequence[str]) -> Level:
    if facts.relays == 0:
        return Level.NONE
    if reasons:
        return Level.BASIC
    if facts.shaping >= 2 and facts.clients >= BEST_CLIENTS:
        return Level.BEST
    return Level.GOOD


def _reasons(facts: CircuitFacts) -> list[str]:
    checks = {
        f"{facts.relays} relays, fewer than {MAX_RELAYS}": facts.relays < MAX_RELAYS,
        f"{facts.slots} worker slots, fewer than {GOOD_SLOTS}": facts.slots < GOOD_SLOTS,
        f"{facts.clients} active clients claimed by the relays, fewer than {GOOD_CLIENTS}": (
            facts.clients < GOOD_CLIENTS
        ),
        "a dev network": facts.dev,
        "relays without stake: many of them cost nothing": not facts.staked,
        "shaping is off: the timing of tokens shows": facts.shaping == 0,
        "paid by your own lane": facts.own_lane,
    }
    return [reason for reason, holds in checks.items() if holds]
