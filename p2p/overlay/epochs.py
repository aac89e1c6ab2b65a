"""Directory epochs: when the list of nodes is cut, frozen, compared and fetched.

Epoch E begins at E times its length, and uses the list of all adverts that were there a margin
earlier: whoever heard of one within the margin freezes the same list as everybody else. Numbers are
those of the open network; a dev network scales them with its epoch.
"""

from dataclasses import dataclass
from typing import Final

from p2p import defaults
from p2p.overlay.advert import Rules


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """The times of one network. Cuts are whole seconds, as they travel."""

    epoch: int
    """seconds of an epoch."""
    margin: int
    """seconds between the cut of a list and its use: time for an advert to get everywhere."""
    step: int
    """seconds between two comparisons of a server, and between the cuts that it compares."""
    lag: float
    """seconds from a cut until it is compared: a flood should have reached whom it reaches."""
    window: float
    """seconds from the begin of an epoch within which clients fetch its list."""

    def number(self, now: float) -> int:
        """The epoch that `now` falls into."""
        return int(now // self.epoch)

    def begin(self, number: int) -> int:
        """When an epoch begins, and its list is frozen."""
        return number * self.epoch

    def cut(self, number: int) -> int:
        """Which adverts an epoch's list holds: those that were there by then."""
        return number * self.epoch - self.margin

    def compared(self, now: float) -> int:
        """The cut to compare now: the newest, but once the next list is cut, what that will be.

        A later list need not show what the cut's holds: a node may have said something new since.
        """
        newest = int((now - self.lag) // self.step) * self.step
        return min(newest, self.cut(self.number(now) + 1))

    def compares(self, cut: int, now: float) -> bool:
        """Whether a cut that is no epoch's is one of those that servers compare now."""
        frozen = self.cut(self.number(now))
        is_recent = frozen < cut and now - COMPARED * self.step <= cut <= now - self.lag / 3
        return cut % self.step == 0 and is_recent

    def scaled(self, seconds: float) -> float:
        """So many seconds of the open network."""
        return seconds * self.epoch / OPEN.epoch


COMPARED: Final = 60
"""steps back that a cut may be asked for: half an hour."""

OPEN: Final = Calendar(epoch=int(defaults.EPOCH), margin=120, step=30, lag=30.0, window=300.0)
"""A margin of four exchanges, of which two or three reach everybody; the window halves the load."""

DEV: Final = Calendar(epoch=int(defaults.DEV_EPOCH), margin=2, step=1, lag=0.5, window=0.5)
"""Few nodes, close by, and people who watch: a newcomer is in use 2 to 12.5 seconds later."""


def calendar_of(rules: Rules) -> Calendar:
    """The times that a network of these rules keeps."""
    return DEV if rules.dev else OPEN
