"""The frozen lists of this epoch and the two before, and those of cuts that servers compare."""

from dataclasses import dataclass
from typing import Final, final

from p2p.bucket import full_bucket
from p2p.identity import AdnlId
from p2p.overlay.advert import Advert, Digest
from p2p.overlay.epochs import Calendar
from p2p.overlay.pool import Pool
from p2p.overlay.snapshot import Snapshot

KEPT: Final = 3
"""lists: who fetches one late still gets it."""

VIEWS: Final = 4
"""cuts of which the list is remembered: neighbours compare the same one within a step."""

LISTING_RATE, LISTING_BURST = 25_000.0, 500_000.0
"""entries a second, and at once, gone through for others' cuts: 5 % of a core at 2 us each."""


@dataclass(frozen=True, slots=True)
class _View:
    list: Snapshot
    made: float
    version: int
    """Of the pool that it was made from."""


@final
class Lists:
    """`freeze` what the pool holds, or `adopt` what servers agree upon; then ask `at` a cut."""

    def __init__(self, pool: Pool, calendar: Calendar) -> None:
        self._pool = pool
        self._calendar = calendar
        self._frozen: dict[int, Snapshot] = {}
        self._views: dict[int, _View] = {}
        self._ration = full_bucket(LISTING_RATE, LISTING_BURST, 0.0)

    def freeze(self, now: float) -> Snapshot:
        """The list of the epoch that `now` falls into, of all that is known now."""
        number = self._calendar.number(now)
        frozen = self._pool.list_at(self._calendar.cut(number))
        self._keep(now, frozen)
        return frozen

    def adopt(self, now: float, found: Snapshot) -> None:
        """Take another's list of an epoch for ours."""
        self._keep(now, found)

    def of(self, number: int) -> Snapshot | None:
        """The frozen list of this epoch."""
        return self._frozen.get(self._calendar.cut(number))

    def hold(self, node: AdnlId) -> bool:
        """Whether a frozen list has this node."""
        return any(frozen.find(node) is not None for frozen in self._frozen.values())

    def newest(self) -> Snapshot | None:
        """The last frozen list."""
        return self._frozen[max(self._frozen)] if self._frozen else None

    def at(self, now: float, cut: int) -> Snapshot | None:
        """The list of a cut that servers compare now or that is frozen; None for any other."""
        frozen = self._frozen.get(cut)
        if frozen is not None or not self._calendar.compares(cut, now):
            return frozen
        view = self._current(now, cut)
        if view is None:
            view = _View(self._pool.list_at(cut), now, self._pool.version)
            self._remember(view)
        return view.list

    def asked_at(self, now: float, cut: int) -> Snapshot | None:
        """As `at` for somebody else; None also if others have cost too much of late."""
        is_cheap = cut in self._frozen or not self._calendar.compares(cut, now)
        if is_cheap or self._current(now, cut) is not None:
            return self.at(now, cut)
        return self.at(now, cut) if self._ration.take(now, len(self._pool) + 1) else None

    def body(self, digest: Digest) -> Advert | None:
        """The advert of this digest, of the pool or of a frozen list."""
        held = self._pool.body(digest)
        if held is not None:
            return held
        bodies = (frozen.body(digest) for frozen in self._frozen.values())
        return next((body for body in bodies if body is not None), None)

    def sizes(self) -> dict[str, int]:
        """Lengths of the tables."""
        return {
            "frozen_lists": len(self._frozen),
            "frozen_entries": sum(map(len, self._frozen.values())),
            "list_views": len(self._views),
        }

    def _keep(self, now: float, frozen: Snapshot) -> None:
        number = self._calendar.number(now)
        oldest = self._calendar.cut(number - KEPT + 1)
        self._frozen = {cut: kept for cut, kept in self._frozen.items() if cut >= oldest}
        self._frozen[frozen.cut] = frozen
        self._views.clear()
        self._pool.turn(now, self._frozen[max(self._frozen)])

    def _current(self, now: float, cut: int) -> _View | None:
        """The view made before, unless it is old.

        One in which all that came meanwhile were missing would be another's work for nothing.
        """
        view = self._views.get(cut)
        if view is None or view.version == self._pool.version:
            return view
        return view if now < view.made + self._calendar.step / 3 else None

    def _remember(self, view: _View) -> None:
        self._views.pop(view.list.cut, None)
        self._views[view.list.cut] = view
        if len(self._views) > VIEWS:
            del self._views[next(iter(self._views))]
