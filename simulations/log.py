"""The event log of a run, reduced to one number that two runs of the same protocol must share.

A record is what a node was given or said. Records of one node are strictly ordered by their
number; the digest is a sum, so the order between nodes, which a driver may choose, is not in it.
"""

import struct
from collections.abc import Callable
from hashlib import blake2b
from typing import Final, NamedTuple, TypeAlias, final

from p2p.core import Source

Resolver: TypeAlias = Callable[[Source], int]
"""The index of the node that a source stands for."""

_HEAD: Final = struct.Struct("<dIQBI")
_SIZE: Final = 16
_MODULUS_MASK: Final = (1 << 8 * _SIZE) - 1
_SAMPLE_SPAN: Final = 1 << 32


class Record(NamedTuple):
    """One happening at one node."""

    now: float
    node: int
    number: int
    """counts from 0 at each node"""
    kind: int
    """`TIMER`, `COMMAND`, `DATAGRAM`, `EVENT` or `LIFE` of `p2p.core`"""
    peer: int
    """the sender of a datagram, else 0"""
    data: bytes


class Checkpoint(NamedTuple):
    """What the log amounted to when a whole second began."""

    second: int
    records: int
    digest: str


def by_index(source: Source) -> int:
    """The resolver of worlds whose nodes name each other by index."""
    if not isinstance(source, int):
        raise TypeError(f"{source!r} is not the index of a node")
    return source


@final
class EventLog:
    """Adds up records; `sink` sees all of them, or the share `keep`, the same in every run."""

    def __init__(
        self,
        resolve: Resolver = by_index,
        *,
        sink: Callable[[Record], None] | None = None,
        keep: float = 1.0,
    ) -> None:
        self.resolve = resolve
        self._sink = sink
        self._keep = int(keep * _SAMPLE_SPAN)
        self._numbers: dict[int, int] = {}
        self._sum = 0
        self._second = 0
        self.records = 0
        self.checkpoints: list[Checkpoint] = []

    @property
    def digest(self) -> str:
        """The sum modulo 2^128 of the records' BLAKE2b-128, as 16 little-endian bytes in hex."""
        return (self._sum & _MODULUS_MASK).to_bytes(_SIZE, "little").hex()

    def counts(self) -> dict[int, int]:
        """Records of each node so far."""
        return dict(self._numbers)

    def add(self, now: float, node: int, kind: int, peer: Source | None, data: bytes) -> None:
        """Record one happening; `now` never falls over a run."""
        if now >= self._second:
            self._check(now)
        number = self._numbers.get(node, 0)
        self._numbers[node] = number + 1
        index = 0 if peer is None else self.resolve(peer)

        record = _HEAD.pack(now, node, number, kind, index) + data
        term = int.from_bytes(blake2b(record, digest_size=_SIZE).digest(), "little")
        self._sum += term
        self.records += 1
        if self._sink is not None and term % _SAMPLE_SPAN < self._keep:
            self._sink(Record(now, node, number, kind, index, data))

    def _check(self, now: float) -> None:
        """Keep a checkpoint of the second that `now` opens; `_second` is the next to open."""
        second = int(now)
        if self.records:
            self.checkpoints.append(Checkpoint(second, self.records, self.digest))
        self._second = second + 1
