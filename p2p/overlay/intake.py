"""How adverts come in: broadcast, from servers, from our own store; each as it may be believed."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Final, final

from p2p import defaults
from p2p.bucket import Buckets, full_bucket
from p2p.errors import AdvertError
from p2p.identity import AdnlId, short_id
from p2p.overlay import advert as adverts
from p2p.overlay.advert import Advert, Rules
from p2p.overlay.epochs import Calendar
from p2p.overlay.liveness import PulseBook
from p2p.overlay.pool import Pool, Read, Verdict
from p2p.overlay.snapshot import Snapshot

SPEAKERS: Final = 8_192
"""nodes whose rate of adverts is remembered."""


@final
class Intake:
    """Puts adverts into the pool, and their anchors where pulses are expected."""

    def __init__(
        self, pool: Pool, book: PulseBook, rules: Rules, calendar: Calendar, read: Read
    ) -> None:
        self._pool = pool
        self._book = book
        self._rules = rules
        self._read = read
        rate = defaults.PUBLISHES / calendar.epoch
        self._speakers = Buckets[AdnlId](rate, defaults.PUBLISH_BURST, SPEAKERS)
        self._newcomers = full_bucket(defaults.NEW_NODES, defaults.NEW_NODES_BURST, 0.0)
        self.accepted = 0
        """Adverts that were news."""
        self.refused = 0
        """Adverts that broke a rule or a limit."""

    def hear(self, now: float, buffer: bytes, source: bytes | None) -> bool:
        """Take what the node of key `source` has broadcast, or what is our own; whether it is news.

        Nodes speak for themselves, and not often: others would bring back what is old.
        """
        digest = adverts.digest_of(buffer)
        if self._pool.body(digest) is not None:
            return False
        try:
            advert = self._read(buffer, now, self._rules)
            self._admit(now, advert, source)
            return self._take(now, advert, now) is Verdict.NEW
        except AdvertError:
            self.refused += 1
            return False

    def learn(self, now: float, buffers: Iterable[bytes]) -> None:
        """Take what another server holds, as seen for the first time now."""
        for buffer in buffers:
            try:
                self._take(now, self._read(buffer, now, self._rules), now)
            except AdvertError:
                self.refused += 1

    def restore(self, now: float, kept: Iterable[tuple[float, bytes]]) -> None:
        """Take what was held before a restart, each as seen when it was."""
        for seen, buffer in kept:
            with suppress(AdvertError):
                self._take(now, self._read(buffer, now, self._rules), min(seen, now))

    def agree(self, now: float, found: Snapshot) -> None:
        """Take what servers agree upon, as seen at its cut."""
        for advert in found.adverts:
            with suppress(AdvertError):
                self._take(now, advert, found.cut)

    def settle(self) -> None:
        """Expect no pulses any longer of whom the pool has forgotten."""
        for node in self._pool.take_forgotten():
            if self._pool.newest(node) is None:
                self._book.forget(node)

    def _admit(self, now: float, advert: Advert, source: bytes | None) -> None:
        """Only work is counted as a newcomer, and each identity's only so often.

        Else names that cost nothing would use up what all newcomers have together.
        """
        if source is None:
            return
        if short_id(source) != advert.id:
            raise AdvertError("an advert that another node broadcasts")
        adverts.check_work(advert, self._rules)
        if not self._speakers.take(now, advert.id):
            raise AdvertError("too many adverts of one node")
        if self._pool.newest(advert.id) is None and not self._newcomers.take(now):
            raise AdvertError("too many new nodes at once")

    def _take(self, now: float, advert: Advert, seen: float) -> Verdict:
        verdict = self._pool.take(now, advert, seen=seen)
        anchors = advert.fields.anchors
        if verdict is Verdict.NEW:
            self.accepted += 1
            if anchors is not None and self._pool.newest(advert.id) is advert:
                self._book.expect(advert.id, advert.issued, anchors.open + anchors.busy)
        return verdict

    def __len__(self) -> int:
        return len(self._speakers)
