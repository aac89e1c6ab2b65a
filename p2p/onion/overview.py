"""What a node's owner may see of its circuits: those it asked for, and its guards.

Of circuits that only pass, or that end here, no one of them is told apart: there is nothing to say
of them that is not others' business.
"""

from dataclasses import dataclass
from enum import Enum

from p2p import defaults
from p2p.identity import AdnlId
from p2p.onion.cell import CircuitId
from p2p.onion.ends import ClientCircuit
from p2p.onion.guards import Guard
from p2p.onion.shaping import Shape


class CircuitState(Enum):
    """Where a circuit of ours stands."""

    BUILDING = "building"
    OPEN = "open"
    MENDING = "mending"
    """It broke in mid-answer, and is being replaced."""
    PADDING = "padding"
    """Its answer is there; dummies fill its bucket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitView:
    """One circuit that this node asked for."""

    id: CircuitId
    state: CircuitState
    age: float
    """seconds since it was asked for"""
    hops: tuple[AdnlId, ...]
    """The relays, then the endpoint."""
    shape: Shape | None


class GuardState(Enum):
    """How a guard stands."""

    KEPT = "kept"
    DOWN = "down"
    """It could not be reached; the next is used, until it is tried again."""
    BANNED = "banned"
    """Too many circuits failed behind it; not used for a week."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardView:
    """A first relay of this node."""

    id: AdnlId
    state: GuardState
    since: float
    until: float
    """Unix time"""
    tries: int
    passed: int
    ended: int
    killed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """A snapshot for the owner's eyes, never for a log."""

    circuits: tuple[CircuitView, ...]
    guards: tuple[GuardView, ...]


def circuit_view(
    now: float, number: CircuitId, circuit: ClientCircuit, shape: Shape | None
) -> CircuitView:
    """A circuit as its owner sees it."""
    return CircuitView(
        id=number,
        state=_state(circuit),
        age=now - circuit.asked,
        hops=tuple(hop.id for hop in circuit.path),
        shape=shape,
    )


def guard_view(now: float, guard: Guard) -> GuardView:
    """A guard as its owner sees it."""
    is_down = guard.down is not None and now < guard.down + defaults.GUARD_DOWN
    state = GuardState.DOWN if is_down else GuardState.KEPT
    return GuardView(
        id=guard.id,
        state=GuardState.BANNED if now < guard.banned else state,
        since=guard.since,
        until=guard.until,
        tries=guard.tries,
        passed=guard.passed,
        ended=guard.ended,
        killed=guard.killed,
    )


def _state(circuit: ClientCircuit) -> CircuitState:
    if circuit.broken:
        return CircuitState.MENDING
    if not circuit.is_open:
        return CircuitState.BUILDING
    return CircuitState.PADDING if circuit.left else CircuitState.OPEN
