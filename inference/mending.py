"""A circuit that died in mid-answer: who is gone round, and whether another one is to be tried.

The worker keeps the answer for half a minute, so what is asked of a new circuit is only that it
comes to the same worker by other relays.
"""

from enum import Enum
from typing import Final, final

from inference.blame import Blame
from inference.trial import Trial
from p2p.onion.cell import Code as Hop

MEND_WAIT: Final = 10.0
"""seconds for another circuit: with five of silence before, nobody waits longer than fifteen"""

MEND_PAUSE: Final = 0.3
"""seconds between two tries: long enough for a relay to be seen to be gone"""


class Verdict(Enum):
    """What is to be done when a circuit to go on with came to nothing."""

    AGAIN = "again"
    """by another path, in a moment"""
    WORKER = "worker"
    """the worker is gone"""
    FORGOTTEN = "forgotten"
    """it is there and keeps nothing of the request, of which nothing may have come to it"""


@final
class Mending:
    """The replacing of one ask's circuits."""

    def __init__(self, blame: Blame) -> None:
        self._blame = blame
        self.is_on = False
        """Whether a circuit is being replaced."""

    def begin(self, trying: Trial, hop: int | None, code: int) -> None:
        """A circuit has died; as `p2p.onion.events.Broken`."""
        self.is_on = True
        trying.blamed = 0
        self._blame.broken(trying, hop, code)

    def failed(self, trying: Trial, hop: int | None, status: int | None) -> Verdict:
        """What was to replace it did not open; as `Unresumed`. No status: there was no path."""
        if status == Hop.REFUSED and hop == trying.last:
            return Verdict.FORGOTTEN
        if status is not None:
            self._blame.unresumed(trying, hop, status)
        return Verdict.WORKER if self._blame.is_worker(trying) else Verdict.AGAIN

    def end(self, trying: Trial) -> None:
        """It goes on."""
        self.is_on = False
        trying.resumed += 1
