"""Compares a server's lists with those of others: each step with one, and when another asks.

Procedures do not know the time: what they bring is reported, and taken when there is one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, final

from p2p.bucket import Buckets, full_bucket
from p2p.core import Procedures
from p2p.identity import AdnlId
from p2p.overlay import repair
from p2p.overlay.asking import Asking, Failures
from p2p.overlay.bodies import Root
from p2p.overlay.epochs import Calendar
from p2p.overlay.lists import Lists
from p2p.overlay.snapshot import Snapshot

MENDING: Final = 4
"""peers from which we fetch at once because they found that our lists differ."""

PEERS: Final = 1_024
"""peers whose rate of such findings is remembered."""

STRANGERS: Final = 8.0
"""peers a step that may make us fetch though no list has them yet, as a server that just came."""

JUDGES: Final = 5
"""servers of which each epoch is asked whether they froze the list that we did."""


@dataclass(frozen=True, slots=True)
class Compared:
    """A comparison with another server has ended."""

    cut: int
    adverts: Sequence[bytes]
    """What the other had and we had not."""
    is_whole: bool
    """Whether that is all; else the other has gone or is busy."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A server has said what it froze for the epoch of this cut."""

    cut: int
    root: bytes


Finding: TypeAlias = Compared | Judged


@final
class Comparison:
    """`compare` with a peer, or `answer` one that has; `report` hears what comes of it."""

    def __init__(
        self,
        asking: Asking,
        procedures: Procedures,
        lists: Lists,
        calendar: Calendar,
        report: Callable[[Finding], None],
        place: Callable[[AdnlId], bytes] = bytes,
    ) -> None:
        self._asking = asking
        self._procedures = procedures
        self._lists = lists
        self._calendar = calendar
        self._report = report
        self._place = place
        self._mended = Buckets[bytes](1 / calendar.step, 2.0, PEERS)
        self._strangers = full_bucket(STRANGERS / calendar.step, STRANGERS, 0.0)
        self._mending: dict[AdnlId, None] = {}
        self._judges: dict[AdnlId, None] = {}
        self._under_way = False
        self.count = 0
        """Comparisons of ours that came to an end,"""
        self.equal = 0
        """and those of them that found both lists equal."""

    def begin_epoch(self) -> None:
        """There is another frozen list to be judged."""
        self._judges.clear()

    def compare(self, now: float, peer: AdnlId, frozen: Snapshot | None) -> None:
        """Compare the newest cut with a peer, and what both froze; nothing while that goes on."""
        ours = self._lists.at(now, self._calendar.compared(now))
        if self._under_way or ours is None:
            return
        self._under_way = True
        judges = frozen is not None and peer not in self._judges and len(self._judges) < JUDGES
        self._procedures.start(self._compare(peer, ours, frozen if judges else None))

    def answer(self, now: float, peer: AdnlId, call: Root, *, listed: bool) -> None:
        """A server has asked for our root, and told its own: if they differ, fetch what we lack.

        One that is not listed may have just come; it tells nothing of what others know.
        """
        ours = self._lists.at(now, call.cut) if self._calendar.compares(call.cut, now) else None
        if ours is None or peer in self._mending:
            return
        if ours.root == call.own:
            self._report(Compared(call.cut, (), is_whole=listed))
        elif len(self._mending) < MENDING and self._may_mend(now, peer, listed=listed):
            self._mending[peer] = None
            self._procedures.start(self._mend(peer, ours, listed=listed))

    def sizes(self) -> dict[str, int]:
        """Lengths of the tables."""
        return {"directory_mending": len(self._mending), "directory_mended": len(self._mended)}

    async def _compare(self, peer: AdnlId, ours: Snapshot, frozen: Snapshot | None) -> None:
        adverts: list[bytes] = []
        is_whole = False
        try:
            equal = await repair.exchange(self._asking, peer, ours, self._lists.body, adverts)
            is_whole = True
            self.count += 1
            self.equal += equal
            if frozen is not None:
                await self._judge(peer, frozen)
        except Failures:
            pass  # it is gone or busy; another is asked next time
        finally:
            self._under_way = False
        self._report(Compared(ours.cut, adverts, is_whole))

    async def _judge(self, peer: AdnlId, frozen: Snapshot) -> None:
        self._judges[peer] = None
        rooted = await self._asking.root(peer, frozen.cut, frozen.root)
        self._report(Judged(frozen.cut, rooted.root))

    def _may_mend(self, now: float, peer: AdnlId, *, listed: bool) -> bool:
        """What all strangers have together is not spent on a neighbourhood that asks too often."""
        if listed:
            return self._mended.take(now, peer)
        return self._mended.take(now, self._place(peer)) and self._strangers.take(now)

    async def _mend(self, peer: AdnlId, ours: Snapshot, *, listed: bool) -> None:
        adverts: list[bytes] = []
        is_whole = False
        try:
            await repair.fetch(self._asking, peer, ours, self._lists.body, adverts)
            is_whole = listed
        except Failures:
            pass  # as above
        finally:
            self._mending.pop(peer, None)
        self._report(Compared(ours.cut, adverts, is_whole))
