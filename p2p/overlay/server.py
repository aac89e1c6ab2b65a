"""Answers the calls by which nodes compare and fetch the directory. A call is never too strange.

Who asks too often, or wants more than our line carries, is told that we are busy: each peer may ask
30 times a minute and fetch one full list an epoch, and all together get a quarter of the upload.
Names are free: peers of one neighbourhood have calls and bytes together as well, and of the bytes
of all a part is kept for questions about roots, and for neighbourhoods that have had few of late.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, final

from p2p import defaults
from p2p.bucket import Buckets, full_bucket
from p2p.identity import AdnlId
from p2p.overlay import bodies
from p2p.overlay.advert import Advert
from p2p.overlay.bodies import Item, Pulled, Refusal, Rooted
from p2p.overlay.diary import Diary
from p2p.overlay.epochs import Calendar
from p2p.overlay.lists import Lists
from p2p.overlay.liveness import PulseBook
from p2p.overlay.pulse import PREFIX_SIZE, pack_pulses
from p2p.overlay.snapshot import BUCKETS, Snapshot

CALLS_BURST: Final = 60.0
"""calls at once of one peer: 25 that fetch 10,000 adverts, and their likes after a failure."""

PULL_ANSWER: Final = 512 * 1024
"""bytes of adverts in one answer to a pull: 0.2 s of the asker's time to check."""

UPLOAD: Final = 250_000.0
"""bytes a second of answers: a quarter of an upload of 8 Mbit/s."""

UPLOAD_BURST: Final = 16_000_000.0
"""bytes of answers at once: four full lists of 10,000, with room for the calls of others."""

NEAR_CALLS: Final = 4
"""times the calls of a peer that a neighbourhood has: some share an address."""

NEAR_UPLOAD, NEAR_BURST = UPLOAD / 8, UPLOAD_BURST / 2
"""bytes a second of one neighbourhood, and at once: a full list of 10,000."""

MODEST: Final = 1_000_000
"""bytes of late up to which a neighbourhood comes before others: a full list of 1,000."""

KEPT, KEPT_FOR_ROOTS = UPLOAD_BURST / 4, UPLOAD_BURST / 64
"""bytes kept for neighbourhoods that have been modest, and for roots: those are short."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatistics:
    """What a directory server has done so far."""

    answered: int
    refused: int
    bytes_sent: int


@final
class ListServer:
    """`answer` the calls of kinds 0 to 5.

    `is_live` says whether the node of an advert is there, `place` what neighbourhood a peer is of.
    """

    def __init__(
        self,
        lists: Lists,
        calendar: Calendar,
        *,
        book: PulseBook,
        diary: Diary,
        is_live: Callable[[Advert], bool],
        place: Callable[[AdnlId], bytes] = bytes,
    ) -> None:
        self._lists = lists
        self._calendar = calendar
        self._book = book
        self._diary = diary
        self._is_live = is_live
        self._place = place

        rate = defaults.SYNC_CALLS / calendar.epoch
        self._calls = Buckets[AdnlId](rate, CALLS_BURST, defaults.SYNC_PEERS)
        self._pulls = Buckets[AdnlId](BUCKETS / calendar.epoch, BUCKETS, defaults.SYNC_PEERS)
        self._near = Buckets[bytes](
            NEAR_CALLS * rate, NEAR_CALLS * CALLS_BURST, defaults.SYNC_PEERS
        )
        self._bytes = Buckets[bytes](NEAR_UPLOAD, NEAR_BURST, defaults.SYNC_PEERS)
        self._upload = full_bucket(UPLOAD, UPLOAD_BURST, 0.0)
        self._live: tuple[int, float, int] = (-1, 0.0, 0)
        self._answered = self._refused = self._sent = 0

    def answer(self, now: float, peer: AdnlId, call: bodies.Call) -> bytes:
        """The answer to a call of this peer, or why there is none."""
        place = self._place(peer)
        may_ask = self._calls.take(now, peer) and self._near.take(now, place)
        answer = self._answer(now, peer, call) if may_ask else Refusal.BUSY
        if not isinstance(answer, Refusal) and not self._may_send(now, place, call, len(answer)):
            answer = Refusal.BUSY
        if isinstance(answer, Refusal):
            self._refused += 1
            return bodies.pack_refusal(answer)
        self._answered += 1
        self._sent += len(answer)
        return answer

    def sizes(self) -> dict[str, int]:
        """Lengths of the tables."""
        return {
            "directory_callers": len(self._calls),
            "directory_pullers": len(self._pulls),
            "directory_places": len(self._near) + len(self._bytes),
        }

    def statistics(self) -> ServerStatistics:
        """A snapshot of the counters."""
        return ServerStatistics(
            answered=self._answered, refused=self._refused, bytes_sent=self._sent
        )

    def _answer(self, now: float, peer: AdnlId, call: bodies.Call) -> bytes | Refusal:
        match call:
            case bodies.Get(digests):
                held = [self._lists.body(digest) for digest in digests]
                return bodies.pack_adverts([advert.buffer for advert in held if advert])
            case bodies.Pulses(first, last):
                return self._pulses(first, last)
            case bodies.Root(cut) | bodies.Buckets(cut) | bodies.List(cut) | bodies.Pull(cut):
                there = self._lists.asked_at(now, cut)
                return Refusal.UNKNOWN if there is None else self._show(now, peer, call, there)
            case _:
                return Refusal.UNKNOWN

    def _may_send(self, now: float, place: bytes, call: bodies.Call, size: int) -> bool:
        """What is kept for others stays; what is sent is counted."""
        self._upload.take(now, 0.0)  # what has come back since is counted first
        if isinstance(call, bodies.Root):
            return self._upload.take(now, size)
        is_modest = self._bytes.left(now, place) >= NEAR_BURST - MODEST
        if self._upload.level < size + (KEPT_FOR_ROOTS if is_modest else KEPT):
            return False
        return self._bytes.take(now, place, size) and self._upload.take(now, size)

    def _show(
        self, now: float, peer: AdnlId, call: bodies.Call, there: Snapshot
    ) -> bytes | Refusal:
        match call:
            case bodies.Root():
                return bodies.pack_rooted(Rooted(len(there), there.root, self._count(now, there)))
            case bodies.Buckets():
                return bodies.pack_buckets(there.buckets)
            case bodies.List(_, numbers):
                return bodies.pack_list([self._items(now, there.bucket(n)) for n in numbers])
            case bodies.Pull(_, first, last):
                return self._pull(now, peer, there, first, last)
            case _:
                return Refusal.UNKNOWN

    def _items(self, now: float, adverts: Iterable[Advert]) -> bytes:
        days = self._diary.days
        return b"".join(
            bodies.pack_item(Item(advert.id[:PREFIX_SIZE] + advert.digest, days(now, advert.id)))
            for advert in adverts
        )

    def _pull(
        self, now: float, peer: AdnlId, there: Snapshot, first: int, last: int
    ) -> bytes | Refusal:
        """Whole buckets, as many as fit; the first in any case, or nobody would get further."""
        adverts: list[bytes] = []
        size, number = 0, first
        while number <= last:
            buffers = [advert.buffer for advert in there.bucket(number)]
            size += sum(map(len, buffers))
            if size > PULL_ANSWER and number > first:
                break
            adverts += buffers
            number += 1
        if size > bodies.MAX_PULLED - 3 * len(adverts) - 16:
            return Refusal.TOO_MUCH
        if not self._pulls.take(now, peer, number - first):
            return Refusal.BUSY
        return bodies.pack_pulled(Pulled(number, adverts))

    def _pulses(self, first: int, last: int) -> bytes | Refusal:
        newest = self._lists.newest()
        if newest is None:
            return Refusal.UNKNOWN
        nodes = [ad.id for number in range(first, last + 1) for ad in newest.bucket(number)]
        return bodies.pack_pulses(pack_pulses(self._book.newest(nodes)))

    def _count(self, now: float, there: Snapshot) -> int:
        """How many are live, counted anew once a step."""
        cut, made, count = self._live
        if cut != there.cut or now >= made + self._calendar.step:
            count = sum(map(self._is_live, there.adverts))
            self._live = there.cut, now, count
        return count
