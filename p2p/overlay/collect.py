"""Adverts by their digests from those who list them, each checked by itself and for its list."""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final, final

from p2p.errors import AdvertError
from p2p.identity import AdnlId
from p2p.overlay import advert as adverts
from p2p.overlay.advert import Advert, Digest, Rules
from p2p.overlay.asking import TOGETHER, Asking, Failures
from p2p.overlay.bodies import Pull
from p2p.overlay.pool import Read
from p2p.overlay.pulse import PREFIX_SIZE
from p2p.overlay.snapshot import BUCKETS, Snapshot

RANGES: Final = 4
"""parts in which a whole list is pulled, from different servers at once."""


@final
class Collector:
    """Fetches adverts for the list of a cut; `held` knows those that we have already."""

    def __init__(
        self,
        asking: Asking,
        rules: Rules,
        *,
        cut: int,
        held: Callable[[Digest], Advert | None],
        read: Read = adverts.read,
    ) -> None:
        self._asking = asking
        self._rules = rules
        self._cut = cut
        self._held = held
        self._read = read
        self._got: dict[Digest, Advert] = {}

    def missing(self, digests: Iterable[Digest]) -> int:
        """How many of these we do not have."""
        return sum(self._body(digest) is None for digest in digests)

    async def pull(self, wanted: Container[Digest], peers: Sequence[AdnlId]) -> None:
        """All that these peers list, in ranges, each from another of them; keep what is wanted."""
        size = BUCKETS // RANGES
        parts = [(part, part * size, (part + 1) * size) for part in range(RANGES)]
        await self._asking.all_of([self._pull_range(wanted, peers, *part) for part in parts])

    async def get(self, wanted: Mapping[Digest, Sequence[AdnlId]]) -> None:
        """What of these is still missing, each from those who list it, in turn."""
        for attempt in range(max(map(len, wanted.values()), default=0)):
            parts: dict[AdnlId, list[Digest]] = {}
            for number, (digest, peers) in enumerate(wanted.items()):
                if self._body(digest) is None:
                    parts.setdefault(peers[(number + attempt) % len(peers)], []).append(digest)
            if not parts:
                return
            await self._asking.all_of(
                [
                    self._get_part(peer, part[begin : begin + TOGETHER])
                    for peer, part in parts.items()
                    for begin in range(0, len(part), TOGETHER)
                ]
            )

    def fitting(self, entries: Iterable[bytes]) -> list[Advert]:
        """The adverts of these entries, those that we have and that the cut allows."""
        found = [(entry, self._body(Digest(entry[PREFIX_SIZE:]))) for entry in entries]
        return [advert for entry, advert in found if advert and self._fits(advert, entry)]

    def snapshot(self, found: Iterable[Advert]) -> Snapshot:
        """A list of these; of two for one node, which no honest server lists, the greater."""
        best: dict[AdnlId, Advert] = {}
        for advert in found:
            other = best.get(advert.id)
            if other is None or (other.seq, other.digest) < (advert.seq, advert.digest):
                best[advert.id] = advert
        return Snapshot(self._cut, best.values())

    async def _pull_range(
        self, wanted: Container[Digest], peers: Sequence[AdnlId], part: int, first: int, end: int
    ) -> None:
        turn = part % len(peers)
        for peer in [*peers[turn:], *peers[:turn]]:
            with suppress(*Failures):
                while first < end:
                    pulled = await self._asking.pull(peer, Pull(self._cut, first, end - 1))
                    self._accept(pulled.adverts, wanted)
                    first = pulled.next

    async def _get_part(self, peer: AdnlId, digests: Sequence[Digest]) -> None:
        self._accept(await self._asking.adverts(peer, digests), dict.fromkeys(digests))

    def _accept(self, buffers: Sequence[bytes], wanted: Container[Digest]) -> None:
        """Keep what was wanted and breaks no rule; what does was listed by more than one."""
        for buffer in buffers:
            digest = adverts.digest_of(buffer)
            if digest in wanted and self._body(digest) is None:
                with suppress(AdvertError):
                    advert = self._read(buffer, self._cut, self._rules)
                    adverts.verify(advert, self._rules)
                    self._got[digest] = advert

    def _body(self, digest: Digest) -> Advert | None:
        return self._got.get(digest) or self._held(digest)

    def _fits(self, advert: Advert, entry: bytes) -> bool:
        in_time = advert.issued <= self._cut and advert.expires >= self._cut + self._rules.epoch
        return in_time and bool(advert.roles) and advert.id[:PREFIX_SIZE] == entry[:PREFIX_SIZE]
