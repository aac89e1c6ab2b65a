"""The list of nodes as this node uses it: whom to ask, whom to build circuits through.

It holds what was frozen or agreed upon, and never asks anybody. Whether a node is there is known
from its pulses as of when we last had those of all, or for an epoch or two from the time of its
advert; if we have not had any for two epochs, all are taken to be there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, final

from p2p import defaults
from p2p.identity import AdnlId
from p2p.onion.path import RelayView
from p2p.overlay.advert import Advert, Role, Rules
from p2p.overlay.diary import Diary
from p2p.overlay.epochs import Calendar
from p2p.overlay.fields import LOAD_FULL
from p2p.overlay.groups import Registry, group_of, subnet_of
from p2p.overlay.liveness import PulseBook, State
from p2p.overlay.snapshot import Snapshot

STABLE_DAYS: Final = 5
"""days of the last seven a relay must have been listed to be called stable."""

HEARD_FOR: Final = 2
"""epochs for which the pulses had at one moment say who is there: they were of it and the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A listed node."""

    advert: Advert
    live: bool
    """Heard of in this directory epoch or the last one."""
    open: bool
    """Did not call itself full."""
    days: int
    """Listed on this many of the last 7 days."""
    group: bytes
    """Whom to take for one operator."""

    @property
    def id(self) -> AdnlId:
        """Who it is."""
        return self.advert.id


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryStatus:
    """A snapshot of the list, comparable between nodes."""

    epoch: int
    """Number of the directory epoch."""
    root: bytes
    """Hash over all entries: equal roots, equal lists."""
    count: int
    """Nodes listed, this one included."""
    live: int
    """Those of them that are live: the crowd to hide in."""
    age: float | None
    """Seconds since somebody confirmed the list; None before the first time."""
    agreement: float = 1.0
    """Share of the servers asked that had this very list."""


@final
class Listing:
    """Set by `use`; asked by everybody else. This node itself is listed but never usable.

    `newest` looks up what is known of a node beyond the list.
    """

    def __init__(
        self,
        rules: Rules,
        calendar: Calendar,
        self_id: AdnlId,
        *,
        book: PulseBook,
        diary: Diary,
        registry: Registry,
        newest: Callable[[AdnlId], Advert | None],
    ) -> None:
        self._rules = rules
        self._calendar = calendar
        self._self_id = self_id
        self._book = book
        self._diary = diary
        self._registry = registry
        self._newest = newest

        self._now = 0.0
        self._list = Snapshot(0, ())
        self._confirmed: float | None = None
        self._agreement = 1.0
        self._ends: float | None = None
        self.version = 0
        """Grows whenever the list changes."""
        self._felt = float("-inf")
        """When we last had the pulses of all,"""
        self._hears = False
        """or whether we have them as they come."""
        self._relays: tuple[tuple[int, int], list[RelayView]] | None = None

    # --- asking ---

    def usable(self, role: Role, model: bytes | None = None) -> list[Entry]:
        """Others with this role (and serving this model), ordered by id."""
        return [
            self._entry(advert)
            for advert in self._list.adverts
            if role in advert.roles
            and advert.id != self._self_id
            and advert.expires > self._now
            and (model is None or any(model == item.identity for item in advert.models))
        ]

    def find(self, node: AdnlId) -> Entry | None:
        """The listed node of this id."""
        advert = self._list.find(node)
        listed = advert is not None and advert.expires > self._now
        return self._entry(advert) if advert is not None and listed else None

    def relay(self, node_id: AdnlId) -> RelayView | None:
        """Any relay, worker or mint that is listed or will be, as circuits see it.

        Whoever asks us for a circuit to it may have its list from a clock ahead of ours.
        """
        advert = self._list.find(node_id)
        if advert is None or advert.expires <= self._now:
            advert = self._newest(node_id)
        if advert is None or not advert.roles or advert.expires <= self._now:
            return None
        return self._view(advert)

    def relays(self) -> Sequence[RelayView]:
        """The usable relays, ordered by id; as of this step."""
        key = self.version, int(self._now // self._calendar.step)
        if self._relays is None or self._relays[0] != key:
            views = [self._view(advert) for advert in self._list.adverts if self._can_relay(advert)]
            self._relays = key, [view for view in views if view is not None]
        return self._relays[1]

    def status(self) -> DirectoryStatus:
        """A snapshot."""
        of = self._now if self._confirmed is None else self._list.cut + self._calendar.margin
        return DirectoryStatus(
            epoch=self._calendar.number(of),
            root=self._list.root,
            count=len(self._list),
            live=sum(self.is_live(advert) for advert in self._list.adverts),
            age=None if self._confirmed is None else self._now - self._confirmed,
            agreement=self._agreement,
        )

    def is_stale(self, now: float) -> bool:
        """Whether there was a list once, and that is too long ago to choose from it."""
        last = defaults.STALE_EPOCHS * self._calendar.epoch
        return self._confirmed is not None and now - self._confirmed > last

    def newest(self, node: AdnlId) -> Advert | None:
        """The newest advert known of a node, even if it is not listed or has left."""
        return self._newest(node)

    def group(self, advert: Advert) -> bytes:
        """Whom to take for one operator with it."""
        return group_of(advert, self._rules, self._registry, self._list.find)

    def is_live(self, advert: Advert) -> bool:
        """Whether its node was heard of in this epoch or the last."""
        return self._state(advert) is not State.GONE

    # --- being told ---

    def use(self, now: float, found: Snapshot, agreement: float) -> None:
        """This is the list from now on; so many of those asked had it."""
        self._now = max(self._now, now)
        self._confirmed, self._agreement = self._now, agreement
        if found.root != self._list.root:
            self.version += 1
        self._list = found
        self._reckon()

    def agree(self, agreement: float) -> None:
        """So many of those asked have this list."""
        self._agreement = agreement

    def feel(self, now: float, *, steadily: bool = False) -> None:
        """The pulses of all that are there have been had, now, or from now on as they come."""
        self._felt, self._hears = now, steadily

    def pass_time(self, now: float) -> bool:
        """Leave out what has run out; whether anything had."""
        self._now = max(self._now, now)
        if self._ends is None or self._now < self._ends:
            return False
        self.version += 1
        self._reckon()
        return True

    def next_deadline(self) -> float | None:
        """When something of the list runs out."""
        return self._ends

    def _reckon(self) -> None:
        ends = (advert.expires for advert in self._list.adverts if advert.expires > self._now)
        self._ends = min(ends, default=None)

    # --- views ---

    def _can_relay(self, advert: Advert) -> bool:
        able = Role.RELAY in advert.roles and Role.DIALABLE in advert.roles
        return able and advert.id != self._self_id and advert.expires > self._now

    def _state(self, advert: Advert) -> State:
        if advert.fields.anchors is None:
            last = self._calendar.number(self._now) - 1
            return State.OPEN if self._calendar.number(advert.issued) >= last else State.GONE
        felt = self._now if self._hears else self._felt
        if self._now - felt > HEARD_FOR * self._calendar.epoch:
            return State.OPEN
        return self._book.state(max(felt, advert.issued), advert.id)

    def _entry(self, advert: Advert) -> Entry:
        state, capacity = self._state(advert), advert.fields.capacity
        full = capacity is not None and capacity.load >= LOAD_FULL
        return Entry(
            advert=advert,
            live=state is not State.GONE,
            open=state is not State.BUSY and not full,
            days=self._diary.days(self._now, advert.id),
            group=self.group(advert),
        )

    def _view(self, advert: Advert) -> RelayView | None:
        if advert.onion is None:
            return None
        return RelayView(
            id=advert.id,
            onion_key=advert.onion.key,
            operator=self.group(advert),
            subnet=subnet_of(advert),
            roles=advert.roles,
            stable=self._diary.days(self._now, advert.id) >= STABLE_DAYS,
            weight=1.0,
            attachments=advert.attachments,
            live=self.is_live(advert),
        )
