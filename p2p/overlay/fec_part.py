"""One part of a broadcast in parts: its bytes, full and short, and what of it is signed.

A part is a symbol of the data with its source's signature. The symbol may be left out, "short", for
who has the data and makes it anew.
"""

from enum import Enum
from hashlib import sha256
from typing import Final, NamedTuple

from p2p import tl
from p2p.identity import Identity, short_id
from p2p.overlay.broadcast import ANY_SENDER, DATE_WINDOW, BroadcastId
from p2p.rldp.fec import SYMBOL_SIZE, limit_of, symbols_of
from p2p.ton import (
    FecRaptorQ,
    OverlayBroadcastFec,
    OverlayBroadcastFecId,
    OverlayBroadcastFecPartId,
    OverlayBroadcastFecShort,
    OverlayBroadcastToSign,
    OverlayCertificateType,
    OverlayEmptyCertificate,
    PubEd25519,
)

MAX_DATA: Final = 1 << 20
"""bytes of data of a broadcast; TON takes 16 MiB."""


class Fate(Enum):
    """What becomes of a part that has arrived."""

    TAKEN = "one more of a broadcast"
    NEW = "with it the broadcast is whole, and given to the application"
    KNOWN = "had before, or of a broadcast of which no more is taken"
    MALFORMED = "of sizes that contradict one another, or with flags that we do not know"
    TOO_LONG = "of a broadcast of more data than we take"
    OUT_OF_DATE = "too old, of the future, or dated otherwise than its broadcast"
    BAD_SOURCE = "not from an Ed25519 key, or not from that of its broadcast"
    NOT_ALLOWED = "a certificate that is wrong, or that is needed and absent"
    RATIONED = "not looked at, as its bearer or all together cost too much"
    BAD_SIGNATURE = "not signed by its source"
    FULL = "of a broadcast for which there is no room"
    EARLY = "short, of a broadcast that is not whole here"
    BAD_DATA = "of a broadcast, or a symbol, that is not what its hash says"


class Subject(NamedTuple):
    """Which broadcast a part is of, and what all of its parts repeat."""

    id: BroadcastId
    data_hash: bytes
    size: int
    flags: int
    date: int


class Signed(NamedTuple):
    """What makes a part of a symbol."""

    seqno: int
    source: PubEd25519
    certificate: OverlayCertificateType
    signature: bytes


def parts_of(size: int) -> int:
    """How many parts a source sends of so many bytes: twice those that are needed, as in TON."""
    return 2 * (size // SYMBOL_SIZE + 1)


def subject(source: PubEd25519, data_hash: bytes, size: int, flags: int, date: int) -> Subject:
    """The broadcast of that data by that source. Its date is no part of its id."""
    said_by = bytes(32) if flags & ANY_SENDER else short_id(source.key)
    fec_hash = sha256(tl.pack(_fec_type(size))).digest()
    of = OverlayBroadcastFecId(said_by, fec_hash, data_hash, size, flags)
    return Subject(BroadcastId(sha256(tl.pack(of)).digest()), data_hash, size, flags, date)


def claim(about: Subject, symbol_hash: bytes, seqno: int) -> bytes:
    """What is signed of a part."""
    part = OverlayBroadcastFecPartId(about.id, symbol_hash, seqno)
    return tl.pack(OverlayBroadcastToSign(sha256(tl.pack(part)).digest(), about.date))


def sign(identity: Identity, about: Subject, seqno: int, symbol: bytes) -> Signed:
    """A part of our own."""
    signature = identity.sign(claim(about, sha256(symbol).digest(), seqno))
    return Signed(seqno, PubEd25519(identity.public), OverlayEmptyCertificate(), signature)


def look(now: float, part: OverlayBroadcastFec) -> Subject | Fate:
    """What can be told without a signature: what the part is of, or why it is not looked at."""
    if not 1 <= part.data_size <= MAX_DATA:
        return Fate.TOO_LONG
    if (
        part.flags & ~ANY_SENDER
        or part.fec != _fec_type(part.data_size)
        or len(part.data) != SYMBOL_SIZE
        or not 0 <= part.seqno < limit_of(part.data_size)
    ):
        return Fate.MALFORMED
    if abs(part.date - now) > DATE_WINDOW:
        return Fate.OUT_OF_DATE
    if not isinstance(part.src, PubEd25519):
        return Fate.BAD_SOURCE
    return subject(part.src, part.data_hash, part.data_size, part.flags, part.date)


def full(about: Subject, signed: Signed, symbol: bytes) -> bytes:
    """The bytes of a part, for who has not got the data."""
    return tl.pack(
        OverlayBroadcastFec(
            signed.source,
            signed.certificate,
            about.data_hash,
            about.size,
            about.flags,
            symbol,
            signed.seqno,
            _fec_type(about.size),
            about.date,
            signed.signature,
        )
    )


def short(about: Subject, signed: Signed, symbol: bytes) -> bytes:
    """The bytes of a part, for who has the data."""
    return tl.pack(
        OverlayBroadcastFecShort(
            signed.source,
            signed.certificate,
            about.id,
            sha256(symbol).digest(),
            signed.seqno,
            signed.signature,
        )
    )


def _fec_type(size: int) -> FecRaptorQ:
    return FecRaptorQ(size, SYMBOL_SIZE, symbols_of(size))
