"""Sees to it that what a node says of itself is heard: asks servers whether they hold it.

A broadcast is sent into the dark: right after a start it may reach nobody. So servers are asked for
the advert by its digest, and until two show that they have it, it has to be said again: one could
pretend and keep it to itself. The others have it from these two in their comparisons.

Procedures do not know the time: what they bring is reported, and taken when there is one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, final

from p2p.core import Mailbox, Procedures
from p2p.identity import AdnlId
from p2p.overlay.advert import Digest, digest_of
from p2p.overlay.asking import Asking, Failures
from p2p.overlay.epochs import Calendar

FIRST_WAIT: Final = 1.0
"""seconds from saying something to the first look whether it was heard."""

ASKED: Final = 3
"""servers asked each time, at once: one may not answer."""

ENOUGH: Final = 2
"""servers that must have it, if more than one answers: one alone could pretend."""


@dataclass(frozen=True, slots=True)
class Heard:
    """Servers have said whether they hold our advert of this seq: two, or all that answered."""

    seq: int
    held: bool


@final
class Publication:
    """`say` something, `look` when that is `due`; `report` hears what comes of it."""

    def __init__(
        self,
        asking: Asking,
        procedures: Procedures,
        calendar: Calendar,
        report: Callable[[Heard], None],
    ) -> None:
        self._asking = asking
        self._procedures = procedures
        self._calendar = calendar
        self._report = report
        self._seq = -1
        self._digest = Digest(b"")
        self._wait = 0.0
        self.buffer = b""
        """What is to be heard; empty once it was."""

    def say(self, now: float, seq: int, buffer: bytes) -> float:
        """This is said now; when to look whether it was heard."""
        self._seq, self._digest, self.buffer = seq, digest_of(buffer), buffer
        self._wait = min(FIRST_WAIT, self._calendar.step / 3)
        return now + self._wait

    def look(self, peers: Sequence[AdnlId]) -> None:
        """Ask some servers."""
        self._procedures.start(self._look(self._seq, self._digest, peers[:ASKED]))

    def heard(self, now: float, finding: Heard) -> float | None:
        """Take what servers say; None if it was heard or is old, else when to look again."""
        if finding.seq != self._seq or not self.buffer:
            return None
        if finding.held:
            self.buffer = b""
            return None
        self._wait = min(2 * self._wait, float(self._calendar.step))
        return now + self._wait

    async def _look(self, seq: int, digest: Digest, peers: Sequence[AdnlId]) -> None:
        answers: Mailbox[bool | None] = Mailbox()
        for peer in peers:
            self._procedures.start(self._ask(peer, digest, answers))
        said: list[bool] = []
        for _ in peers:
            if (answer := await answers.get()) is not None:
                said.append(answer)
            if ENOUGH in (said.count(True), said.count(False)):
                break
        self._report(Heard(seq, said == [True] or said.count(True) == ENOUGH))

    async def _ask(self, peer: AdnlId, digest: Digest, answers: Mailbox[bool | None]) -> None:
        """Whether it has it; None if it does not say."""
        try:
            got = await self._asking.adverts(peer, [digest])
        except Failures:
            answers.put(None)
        else:
            answers.put(any(digest_of(buffer) == digest for buffer in got))
