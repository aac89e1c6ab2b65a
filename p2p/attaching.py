"""Relays that keep a link to a node which nobody can dial, so that circuits reach it there.

Up to three of the list that offer it, of different operators where there are so many. One is kept
for as long as it holds its link; lost for a minute it gives its place to another. Which they are is
told once they hold, and stays told while a lost link may come back.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol, TypeAlias, final

from p2p.entropy import Entropy, sample
from p2p.identity import AdnlId
from p2p.overlay.advert import Role
from p2p.overlay.epochs import Calendar
from p2p.overlay.listing import Entry
from p2p.timers import Timers

MOST: Final = 3
"""relays, as many as an advert names."""

LOST: Final = 60.0
"""seconds without a link until a relay gives its place to another."""

AGAIN: Final = 30.0
"""seconds between two attempts to have the link back, and two looks for more relays."""

SHUNNED: Final = 600.0
"""seconds for which a relay that was lost, or refused, is not chosen again."""

OFFERS: Final = Role.RELAY | Role.DIALABLE | Role.ATTACHMENT


@dataclass(frozen=True, slots=True)
class Seek:
    """A link to this relay is wanted: `link_up` or `dial_failed` answers."""

    relay: AdnlId


@dataclass(frozen=True, slots=True)
class Attached:
    """These relays keep links to this node."""

    relays: tuple[AdnlId, ...]


Output: TypeAlias = Seek | Attached


class Listing(Protocol):
    """The list, as far as it is asked here."""

    def usable(self, role: Role) -> list[Entry]:
        """Nodes of a role."""


@dataclass(slots=True)
class _Place:
    """What is known of one relay that was chosen."""

    group: bytes
    since: float
    """When it was chosen, or lost its link."""
    is_linked: bool = False
    has_held: bool = False
    """It is told that it keeps a link."""


class _Due(Enum):
    LOOK = "a look at what is missing"


@final
class Attaching:
    """See the module. `linked` says whether there is a link to a peer already."""

    def __init__(
        self,
        self_id: AdnlId,
        listing: Listing,
        entropy: Entropy,
        *,
        calendar: Calendar,
        linked: Callable[[AdnlId], bool],
    ) -> None:
        self._self_id = self_id
        self._listing = listing
        self._entropy = entropy
        self._linked = linked
        self._lost, self._again, self._shunned_for = (
            calendar.scaled(seconds) for seconds in (LOST, AGAIN, SHUNNED)
        )
        self.wanted = False
        """Nobody can dial this node."""
        self._places: dict[AdnlId, _Place] = {}
        self._shunned: dict[AdnlId, float] = {}
        self._refusing: dict[AdnlId, None] = {}
        """Those whose link is there and is not kept."""
        self._told: tuple[AdnlId, ...] = ()
        self._timers: Timers[_Due] = Timers()
        self._outputs: list[Output] = []

    # --- commands ---

    def want(self, now: float, wanted: bool) -> None:
        """Others can dial this node no longer, or can again: then relays are let go."""
        if wanted is self.wanted:
            return
        self.wanted = wanted
        if wanted:
            self._timers.set(_Due.LOOK, now)
        else:
            self._timers.clear(_Due.LOOK)
            self._places.clear()
            self._tell()

    def look(self, now: float) -> None:
        """The list has changed: look whether that fills a place."""
        if self.wanted:
            self._timers.set(_Due.LOOK, now)

    def link_up(self, now: float, relay: AdnlId) -> None:
        """There is a link to a peer."""
        place = self._places.get(relay)
        if place is not None:
            place.is_linked = place.has_held = True
            self._tell()

    def link_down(self, now: float, relay: AdnlId) -> None:
        """There is none any longer."""
        self._refusing.pop(relay, None)
        place = self._places.get(relay)
        if place is not None and place.is_linked:
            place.is_linked, place.since = False, now
            self._timers.set(_Due.LOOK, now)

    def refused(self, now: float, relay: AdnlId) -> None:
        """A relay keeps no link to us: it has no room."""
        self._refusing[relay] = None
        self._shunned[relay] = now + self._shunned_for
        if self._places.pop(relay, None) is not None:
            self._tell()
            self._timers.set(_Due.LOOK, now)

    # --- asking ---

    def chosen(self) -> tuple[AdnlId, ...]:
        """Those that are to keep a link, whether they do or not."""
        return tuple(self._places)

    def relays(self) -> tuple[AdnlId, ...]:
        """Those that are told to keep a link."""
        return self._told

    # --- the core's contract ---

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        for _ in self._timers.take(now):
            self._timers.set(_Due.LOOK, now + self._again)
            self._give_up(now)
            self._choose(now)
            self._tell()
            self._outputs += [
                Seek(relay) for relay, place in self._places.items() if not place.is_linked
            ]

    def next_deadline(self) -> float | None:
        """When something is due."""
        return self._timers.next()

    def drain(self) -> list[Output]:
        """What is wanted, and what has changed, since the last call."""
        outputs, self._outputs = self._outputs, []
        return outputs

    def sizes(self) -> dict[str, int]:
        """Lengths of the tables."""
        return {
            "attach_places": len(self._places),
            "attach_shunned": len(self._shunned),
            "attach_refusing": len(self._refusing),
        }

    # --- inside ---

    def _give_up(self, now: float) -> None:
        lost = [
            relay
            for relay, place in self._places.items()
            if not place.is_linked and now >= place.since + self._lost
        ]
        for relay in lost:
            del self._places[relay]
            self._shunned[relay] = now + self._shunned_for
        self._shunned = {relay: until for relay, until in self._shunned.items() if until > now}

    def _choose(self, now: float) -> None:
        """Fill what places are empty: first by relays of other operators than those there are."""
        if len(self._places) == MOST:
            return
        candidates = [entry for entry in self._listing.usable(Role.RELAY) if self._can(entry)]
        drawn = sample(self._entropy, candidates, len(candidates)) if candidates else []
        drawn.sort(key=lambda entry: not entry.live)
        for apart in (True, False):
            for entry in drawn:
                groups = [place.group for place in self._places.values()]
                if len(self._places) < MOST and not (apart and entry.group in groups):
                    self._take(now, entry)

    def _can(self, entry: Entry) -> bool:
        return (
            OFFERS in entry.advert.roles
            and bool(entry.advert.addresses)
            and entry.id != self._self_id
            and entry.id not in self._places
            and entry.id not in self._shunned
            and entry.id not in self._refusing
        )

    def _take(self, now: float, entry: Entry) -> None:
        if entry.id not in self._places:
            is_linked = self._linked(entry.id)
            self._places[entry.id] = _Place(entry.group, now, is_linked, is_linked)

    def _tell(self) -> None:
        held = tuple(self._held())
        if held != self._told:
            self._told = held
            self._outputs.append(Attached(held))

    def _held(self) -> Iterable[AdnlId]:
        return (relay for relay, place in self._places.items() if place.has_held)
