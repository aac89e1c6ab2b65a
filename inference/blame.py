"""Who is to blame for a circuit that did not open or was lost, and where to go round it.

The place in the path is what matters: a relay is avoided, a worker out of reach on two paths gives
way, and while a network is seconds old nobody is blamed at all.
"""

from enum import Enum
from typing import Final, final

from inference.trial import Trial
from p2p.identity import AdnlId
from p2p.onion.cell import Code as Hop
from p2p.onion.events import SILENT

MAX_PATHS: Final = 3
"""paths tried to one worker, as long as relays are to blame"""

MAX_PATHS_BLAMED: Final = 2
"""paths that may end at a worker out of reach: one relay's word is checked through others"""

PATIENCE: Final = 5.0
"""seconds from the first draw in which relays may still not know each other, or be too few: the
age at which the nodes of a network have met"""


class After(Enum):
    """What to do when a circuit is gone and nothing of an answer has come."""

    SOON = "soon"
    """the same again in a moment"""
    AGAIN = "again"
    """the same worker, on another path"""
    UNREACHABLE = "unreachable"
    """another worker: this one is out of reach"""
    CIRCUIT = "circuit"
    """another worker: relays are to blame, but there is no end to them"""


@final
class Blame:
    """The relays that one ask goes round, and the paths it has tried."""

    def __init__(self) -> None:
        self._since = 0.0
        self._suspects: dict[AdnlId, None] = {}

    @property
    def suspects(self) -> tuple[AdnlId, ...]:
        """Relays to avoid if there are others."""
        return tuple(self._suspects)

    def begin(self, now: float) -> None:
        """The directory has come."""
        self._since = now

    def early(self, now: float) -> bool:
        """Whether it may be nobody's fault."""
        return now < self._since + PATIENCE

    def unopened(self, trying: Trial, hop: int | None, status: int, now: float) -> After:
        """A circuit did not open; as `p2p.onion.events.Failed`."""
        if status == Hop.UNKNOWN_NEXT and self.early(now):
            return After.SOON
        culprit = trying.culprit(hop, status)
        if culprit is not None and culprit < trying.last:
            self._suspect(trying, culprit)
        else:
            trying.blamed += 1
        return self._after(trying)

    def lost(self, trying: Trial, hop: int | None, code: int) -> After | None:
        """A circuit was lost; as `p2p.onion.events.Lost`. None: it was the worker that went."""
        culprit = trying.lost_by(hop, code)
        if culprit >= trying.last:
            return None
        self._suspect(trying, culprit)
        return self._after(trying)

    def broken(self, trying: Trial, hop: int | None, code: int) -> None:
        """A circuit died in mid-answer; as `p2p.onion.events.Broken`."""
        if code == SILENT:
            self._suspect_all(trying)
        elif (culprit := trying.lost_by(hop, code)) < trying.last:
            self._suspect(trying, culprit)
        else:
            trying.blamed += 1

    def unresumed(self, trying: Trial, hop: int | None, status: int) -> None:
        """What was to replace it did not open; as `p2p.onion.events.Unresumed`."""
        culprit = trying.culprit(hop, status)
        if culprit is None:
            self._suspect_all(trying)
        elif culprit < trying.last:
            self._suspect(trying, culprit)
        else:
            trying.blamed += 1

    def is_worker(self, trying: Trial) -> bool:
        """Whether it is the worker that is out of reach, by the word of two relays."""
        return trying.blamed >= MAX_PATHS_BLAMED

    def after(self, trying: Trial) -> After:
        """What to do once a circuit has not been replaced."""
        return self._after(trying)

    def _suspect(self, trying: Trial, hop: int) -> None:
        self._suspects[trying.path[hop]] = None

    def _suspect_all(self, trying: Trial) -> None:
        """Nobody said who it was: whoever it is, it is not to be met again."""
        self._suspects |= dict.fromkeys(trying.path[:-1])

    def _after(self, trying: Trial) -> After:
        if trying.paths < MAX_PATHS and trying.blamed < MAX_PATHS_BLAMED:
            return After.AGAIN
        return After.UNREACHABLE if trying.blamed else After.CIRCUIT
