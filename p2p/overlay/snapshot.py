"""A list of nodes as of a cut: adverts ordered by id, and the hashes by which two lists compare.

    entry  = id | SHA-256(advert)[0:16]
    bucket = SHA-256(its entries, by id)[0:16], an id being in the bucket of its first byte
    root   = SHA-256(256 buckets)

Equal roots are equal lists; where two differ, so does the bucket. (An IBLT or minisketch would take
4 kB instead of 36 for 50 differences, and could fail.)
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from hashlib import sha256
from operator import attrgetter
from typing import Final, final

from p2p.identity import AdnlId
from p2p.overlay.advert import Advert, Digest

BUCKETS: Final = 256
HASH_SIZE: Final = 16
"""bytes of a bucket's hash."""


@final
class Snapshot:
    """At most one advert for each node; never changes. Its hashes are made when first asked for."""

    __slots__ = ("_buckets", "_by_digest", "_by_id", "_ends", "_root", "adverts", "cut")

    def __init__(self, cut: int, adverts: Iterable[Advert]) -> None:
        self.cut: Final = cut
        self.adverts: Final = tuple(sorted(adverts, key=attrgetter("id")))
        self._ends: list[int] | None = None
        self._buckets: bytes | None = None
        self._root: bytes | None = None
        self._by_id: dict[AdnlId, Advert] | None = None
        self._by_digest: dict[Digest, Advert] | None = None

    @property
    def root(self) -> bytes:
        """32 bytes: equal for equal lists only."""
        if self._root is None:
            self._root = sha256(self.buckets).digest()
        return self._root

    @property
    def buckets(self) -> bytes:
        """The hashes of all buckets in order, 16 bytes each."""
        if self._buckets is None:
            entries: dict[int, list[bytes]] = {}
            for advert in self.adverts:
                entries.setdefault(advert.id[0], []).append(advert.id + advert.digest)
            hashes = [_EMPTY] * BUCKETS
            for number, parts in entries.items():
                hashes[number] = _hash(b"".join(parts))
            self._buckets = b"".join(hashes)
        return self._buckets

    def bucket(self, number: int) -> Sequence[Advert]:
        """The adverts of one bucket, by id."""
        bounds = self._bounds()
        return self.adverts[bounds[number] : bounds[number + 1]]

    def find(self, node: AdnlId) -> Advert | None:
        """The advert of this node."""
        if self._by_id is None:
            self._by_id = {advert.id: advert for advert in self.adverts}
        return self._by_id.get(node)

    def body(self, digest: Digest) -> Advert | None:
        """The advert of this digest."""
        if self._by_digest is None:
            self._by_digest = {advert.digest: advert for advert in self.adverts}
        return self._by_digest.get(digest)

    def __len__(self) -> int:
        return len(self.adverts)

    def _bounds(self) -> list[int]:
        """Where each bucket begins, and where the last ends."""
        if self._ends is None:
            firsts = [advert.id[0] for advert in self.adverts]
            self._ends = [bisect_left(firsts, number) for number in range(BUCKETS + 1)]
        return self._ends


def _hash(entries: bytes) -> bytes:
    return sha256(entries).digest()[:HASH_SIZE]


_EMPTY: Final = _hash(b"")


def differing(ours: bytes, theirs: bytes) -> list[int]:
    """The numbers of the buckets that differ between two lists' `buckets`."""
    return [
        number
        for number in range(BUCKETS)
        if ours[HASH_SIZE * number : HASH_SIZE * (number + 1)]
        != theirs[HASH_SIZE * number : HASH_SIZE * (number + 1)]
    ]
