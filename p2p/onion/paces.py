"""Shaping level 2: the link to a guard carries frames at one rate, both ways, day and night.

    asker   keeps a link to its first guard, asks it for a pace and keeps it itself from then on
    guard   grants it to so many links, or says no; either way it answers
    both    one frame in each slot, PADDING where nothing waits, to an hour after the last asking

What is asked through that guard then shows on the asker's line no more than that nothing is asked.
"""

from collections.abc import Callable
from typing import Final, final

from p2p import defaults
from p2p.errors import OnionError
from p2p.identity import AdnlId
from p2p.onion.cell import Command, Frame
from p2p.onion.events import Dial
from p2p.onion.link import LinkCore, Pace
from p2p.onion.links import Links
from p2p.onion.timers import Due, Key, Timers

LOOK: Final = 10.0
"""seconds between two looks at whether the link is there: a guard that restarts is back by then"""

TENTHS: Final = 10 * defaults.LINK_PACE
"""The rate as PACE says it."""


@final
class Paces:
    """Both sides of it. `guard` says which relay is our first now; None: we ask nobody."""

    def __init__(
        self,
        links: Links,
        timers: Timers,
        guard: Callable[[float], AdnlId | None] | None,
        *,
        grants: bool,
    ) -> None:
        self._links = links
        self._timers = timers
        self._guard = guard
        self._grants = grants
        self._granted: dict[int, None] = {}
        """Links whose peers we have granted a pace."""

    def __len__(self) -> int:
        return len(self._granted)

    # --- asking ---

    def look(self, now: float) -> None:
        """See to the link; again in ten seconds."""
        if self._guard is None:
            return
        self._timers.set(Key(Due.PACE, 0), now + LOOK)
        guard = self._guard(now)
        if guard is None:
            return
        link = self._links.to(guard)
        if link is None:
            self._links.events.append(Dial(guard))
        else:
            self.greeted(now, link)

    def greeted(self, now: float, link: LinkCore) -> None:
        """A link may be the one to the guard: ask, and ask anew when half of the time is over."""
        if self._guard is None or link.hello is None or not link.dialled:
            return
        is_fresh = link.pacer is not None and now + defaults.PACE_LIFE / 2 < link.pace_until
        if is_fresh or link.peer != self._guard(now):
            return
        self._links.say(link, _frame(Pace(TENTHS, int(defaults.PACE_LIFE))))
        self._links.pace(now, link, now + defaults.PACE_LIFE)

    # --- answering ---

    def take(self, now: float, link: LinkCore, body: bytes) -> None:
        """A PACE from the peer: of a dialler it is a request, of another an answer."""
        try:
            pace = Pace.unpack(body)
        except OnionError:
            self._links.strike(link, "PACE")
            return
        if not link.dialled:
            self._answer(now, link, pace)
        elif link.pacer is None:
            self._links.strike(link, "PACE")
        else:
            link.granted = pace.rate == TENTHS

    def _answer(self, now: float, link: LinkCore, asked: Pace) -> None:
        is_known = link.number in self._granted
        has_room = is_known or len(self._granted) < defaults.PACED_LINKS
        if not (self._grants and has_room and asked.rate == TENTHS and asked.seconds):
            self._links.say(link, _frame(Pace(0, 0)))
            return
        seconds = min(asked.seconds, int(defaults.PACE_LIFE))
        self._granted[link.number] = None
        self._links.say(link, _frame(Pace(TENTHS, seconds)))
        self._links.pace(now, link, now + seconds)

    # --- ends ---

    def expire(self, link: LinkCore) -> None:
        """Nobody has asked for it any more."""
        self._granted.pop(link.number, None)
        link.pacer = None
        link.granted = False

    def forget(self, link: LinkCore) -> None:
        """A link is gone."""
        self._granted.pop(link.number, None)


def _frame(pace: Pace) -> Frame:
    return Frame(0, Command.PACE, 0, pace.pack())
