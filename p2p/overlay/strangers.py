"""Strangers: nodes that somebody named, and that have yet to answer before they count.

A few are pinged at once, the others wait their turn; who stays silent is left alone for a while,
since the records of a node that has gone are handed about for minutes.
"""

from collections.abc import Callable
from typing import Final, final

from p2p import tl
from p2p.core import Procedures
from p2p.errors import NoCapacity, RemoteError, Unreachable
from p2p.identity import AdnlId
from p2p.overlay.envelope import Envelope
from p2p.overlay.settings import Settings
from p2p.sender import Sender
from p2p.ton import OverlayNode, OverlayPing, OverlayPong

MAX_STRANGERS: Final = 64
"""strangers to be pinged; more are not remembered, as they will be heard of again."""

MAX_PINGING: Final = 8
"""strangers pinged at once: each that does not exist may cost a lookup of its address."""

MAX_SILENT: Final = 512
"""strangers remembered for not having answered."""

MAX_PONG: Final = 64
"""bytes of the answer to a ping, which has four."""


@final
class Strangers:
    """See the module. `pinged(stranger, answers)` is called from a procedure, so without a time."""

    def __init__(
        self,
        envelope: Envelope,
        sender: Sender,
        procedures: Procedures,
        settings: Settings,
        pinged: Callable[[AdnlId, bool], None],
    ) -> None:
        self._question = envelope.seal_query(OverlayPing())
        self._sender = sender
        self._procedures = procedures
        self._settings = settings
        self._pinged = pinged
        self._records: dict[AdnlId, OverlayNode] = {}
        """Those that are pinged, then those that wait."""
        self._pinging: dict[AdnlId, None] = {}
        self._silent: dict[AdnlId, float] = {}

    def add(self, stranger: AdnlId, record: OverlayNode) -> None:
        """Somebody named it; the record has been checked."""
        if stranger not in self._silent and len(self._records) < MAX_STRANGERS:
            self._records[stranger] = record

    def ping(self) -> None:
        """Begin with as many as may be pinged at once."""
        room = MAX_PINGING - len(self._pinging)
        waiting = [stranger for stranger in self._records if stranger not in self._pinging]
        for stranger in waiting[:room]:
            self._pinging[stranger] = None
            self._procedures.start(self._try(stranger))

    def settle(self, now: float, stranger: AdnlId, *, answers: bool) -> OverlayNode | None:
        """It answered, and its record says who it is; or it did not, and None is returned."""
        self._pinging.pop(stranger, None)
        record = self._records.pop(stranger, None)
        if answers:
            return record
        self._silent[stranger] = now + self._settings.silence
        if len(self._silent) > MAX_SILENT:
            del self._silent[next(iter(self._silent))]
        return None

    def speaks(self, stranger: AdnlId) -> None:
        """It has spoken to us: that it did not answer earlier says nothing any more."""
        self._silent.pop(stranger, None)

    def forget_silent(self, now: float) -> None:
        """Let those be pinged again who were silent long ago."""
        while self._silent and next(iter(self._silent.values())) < now:
            del self._silent[next(iter(self._silent))]

    def sizes(self) -> dict[str, int]:
        """Lengths of the tables."""
        return {"overlay_strangers": len(self._records), "overlay_silent": len(self._silent)}

    async def _try(self, stranger: AdnlId) -> None:
        for _ in range(self._settings.pings):
            if await self._answers(stranger):
                self._pinged(stranger, True)
                return
        self._pinged(stranger, False)

    async def _answers(self, stranger: AdnlId) -> bool:
        timeout = self._settings.ping_timeout
        try:
            answer = await self._sender.query(
                stranger, self._question, timeout=timeout, max_answer=MAX_PONG
            )
            tl.parse(OverlayPong, answer)
        except (Unreachable, RemoteError, NoCapacity):
            return False
        return True
