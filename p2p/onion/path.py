"""Which relays a circuit goes through, and what that choice is worth to the asker."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from statistics import median_low

from p2p import defaults
from p2p.entropy import Entropy, choice
from p2p.errors import NoPath
from p2p.identity import AdnlId
from p2p.onion.cell import MAX_RELAYS
from p2p.onion.guards import Guards as Guards
from p2p.onion.handshake import Target as Target
from p2p.onion.relays import DirectoryView as DirectoryView
from p2p.onion.relays import RelayView as RelayView
from p2p.onion.relays import Role as Role
from p2p.onion.relays import draw

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
    the asker's address for another reason, and guards of other paths stand behind the guard only if
    no others can, not even those that give no sign of life; `suspects`, that have just failed a
    circuit, only if there is no path without them even so.
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
        short = _short(entropy, lasts, relays, end, guards, now, suspects)
        return [relay.target for relay in short]

    guard = _first(entropy, pool, end, guards, now, suspects)
    if guard is None:
        raise NoPath(f"none of {len(pool)} relays can be the first")
    attached = bool(end.attachments)
    middles = _of_others(pool, guard, end)
    lasts = _of_others(lasts, guard, end) if attached else middles
    silent = [relay.id for relay in pool if not relay.live]
    acquainted = (*acquainted, *(guards.met() if guards is not None else ()))
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
    suspects: Sequence[AdnlId],
) -> list[RelayView]:
    """Paths of no relay, or of one that is guard and last at once."""
    if relays == 0:
        return [end]
    only = _first(entropy, lasts, end, guards if not end.attachments else None, now, suspects)
    if only is None:
        raise NoPath("no relay is apart from the worker")
    return [only, end]


def _first(
    entropy: Entropy,
    pool: Sequence[RelayView],
    end: RelayView,
    guards: Guards | None,
    now: float,
    suspects: Sequence[AdnlId],
) -> RelayView | None:
    if guards is not None:
        return guards.choose(now, pool, end, suspects)
    apart = _of_others(pool, end)
    return apart[draw(entropy, apart)] if apart else None


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
        last = choice(entropy, lasts) if attached else lasts[draw(entropy, lasts)]
        if relays == 1:
            return [last]
        middle = middles[draw(entropy, middles)]
        if not middle.clashes(last):
            return [middle, last]
    raise NoPath(f"{defaults.PATH_DRAWS} draws gave no two relays apart from each other")


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
