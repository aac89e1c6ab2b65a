"""One transfer, either way: cut into parts, each a block of RaptorQ, and put together again.

A part's message begins with the same bytes whichever symbol follows: both sides keep that head, so
that a symbol is sent and recognised without a look at its fields.
"""

import struct
from typing import Final, NamedTuple, NewType, final

from p2p import tl
from p2p.rldp.congestion import Mark
from p2p.rldp.fec import MAX_SIZE as PART_SIZE
from p2p.rldp.fec import SYMBOL_SIZE, Decoder, Encoder, symbols_of
from p2p.rldp.flight import MASK_BITS, Flight
from p2p.ton import FecRaptorQ, Rldp2Complete, Rldp2Confirm, Rldp2MessagePart

TransferId = NewType("TransferId", bytes)
"""32 bytes."""

MAX_OPEN: Final = 4
"""parts of a transfer that are under way at once: the next one begins while the last ends."""

PART_ID: Final = Rldp2MessagePart.tl.id

_HEAD: Final = struct.Struct("<4s32s4s4iq")
"""id, transfer, id and three sizes of the fec type, part, total size."""

HEAD_SIZE: Final = _HEAD.size
SEQNO_END: Final = HEAD_SIZE + 4

DATA_HEAD: Final = b"\xfe" + SYMBOL_SIZE.to_bytes(3, "little")
"""TL's length in front of a symbol."""

DATA_START: Final = SEQNO_END + len(DATA_HEAD)
MESSAGE_SIZE: Final = DATA_START + SYMBOL_SIZE
"""bytes of every message with a symbol."""

CONFIRM_TIMES: Final = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128)
"""seconds from a new symbol to its confirm, and from each to the next while nothing new comes."""

COMPLETE_PAUSE: Final = 0.001
"""seconds between two answers to symbols that came too late: the rest of a burst says no more."""


class Head(NamedTuple):
    """What the head of a symbol says, beyond what follows from it."""

    transfer: TransferId
    part: int
    total: int


def parts_of(total: int) -> int:
    """Into how many parts a transfer of `total` bytes is cut."""
    return -(-total // PART_SIZE)


def part_size(total: int, part: int) -> int:
    """Bytes of a part."""
    return min(PART_SIZE, total - part * PART_SIZE)


def pack_head(head: Head) -> bytes:
    """The first bytes of each message of a part."""
    size = part_size(head.total, head.part)
    fec = FecRaptorQ(size, SYMBOL_SIZE, symbols_of(size))
    return tl.pack(Rldp2MessagePart(head.transfer, fec, head.part, head.total, 0, b""))[:HEAD_SIZE]


def read_head(packed: bytes) -> Head | None:
    """What a head says; None if it contradicts itself, or is no head."""
    _, transfer, _, _, _, _, part, total = _HEAD.unpack(packed)
    head = Head(TransferId(transfer), part, total)
    if not (total > 0 and 0 <= part < parts_of(total)) or pack_head(head) != packed:
        return None
    return head


# --- out ---


@final
class OutgoingPart:
    """A part under way: its symbols, and what became of them."""

    def __init__(self, now: float, number: int, head: bytes, data: bytes) -> None:
        self.number = number
        self.flight = Flight(symbols_of(len(data)))
        self.heard_at = now
        """when a confirm came, or the last symbols left before any"""
        self.patience = 1
        """by how much longer than usual a confirm is waited for"""
        self._encoder = Encoder(data)
        self._head = head

    def send(self, count: int, mark: Mark) -> list[bytes]:
        """The messages with the next `count` symbols."""
        first = self.flight.sent
        self.flight.send(count, mark)
        head, symbol = self._head, self._encoder.symbol
        return [
            b"".join((head, seqno.to_bytes(4, "little"), DATA_HEAD, symbol(seqno)))
            for seqno in range(first, first + count)
        ]


@final
class Outgoing:
    """A transfer to a peer: its parts are opened in order, as the ones before need no more."""

    def __init__(self, transfer: TransferId, data: bytes) -> None:
        self.id = transfer
        self.size = len(data)
        self.parts: dict[int, OutgoingPart] = {}
        """those under way"""
        self._data = data
        self._opened = 0

    @property
    def over(self) -> bool:
        """Whether the peer has all."""
        return not self.parts and self._opened == parts_of(self.size)

    def hungry(self, now: float, loss: float) -> OutgoingPart | None:
        """The first part of which more symbols should be on their way, if any."""
        for part in self.parts.values():
            if part.flight.short(loss) > 0:
                return part
        if len(self.parts) < MAX_OPEN and self._opened < parts_of(self.size):
            return self._open(now)
        return None

    def opened(self, part: int) -> bool:
        """Whether a part is or was under way."""
        return 0 <= part < self._opened

    def _open(self, now: float) -> OutgoingPart:
        number, self._opened = self._opened, self._opened + 1
        head = pack_head(Head(self.id, number, self.size))
        data = self._data[number * PART_SIZE : (number + 1) * PART_SIZE]
        part = self.parts[number] = OutgoingPart(now, number, head, data)
        return part


# --- in ---


@final
class IncomingPart:
    """A part that comes in, or that is here: then only its completion is still told."""

    def __init__(self, transfer: TransferId, number: int, head: bytes, size: int) -> None:
        self.transfer = transfer
        self.number = number
        self.head = head
        """by which its symbols are known"""
        self.decoder: Decoder | None = Decoder(size)
        """None once the part is here"""
        self.news = False
        """whether a symbol came that has not been confirmed"""
        self.confirms = 0
        """confirms sent since the last such symbol"""
        self.completed_at = 0.0
        """when its completion was told last"""
        self._highest = 0

    def take(self, decoder: Decoder, seqno: int, symbol: bytes) -> bool:
        """Take a symbol; whether it is new."""
        if not decoder.add(seqno, symbol):
            return False
        if seqno >= self._highest:
            self._highest = seqno + 1
        return True

    def confirm(self, decoder: Decoder) -> bytes:
        """The message that says what is here."""
        symbols, highest, mask = decoder.symbols, self._highest, 0
        for bit in range(MASK_BITS):
            if highest - 1 - bit in symbols:
                mask |= 1 << bit
        signed = mask - (mask >> (MASK_BITS - 1) << MASK_BITS)
        return tl.pack(Rldp2Confirm(self.transfer, self.number, highest, signed, len(symbols)))


@final
class Incoming:
    """A transfer from a peer, of which at most four parts are open: the first ones missing."""

    def __init__(self, transfer: TransferId, total: int, cost: int) -> None:
        self.id = transfer
        self.total = total
        self.cost = cost
        """bytes reserved for it"""
        self.parts: dict[int, IncomingPart] = {}
        """those that were opened, by number"""
        self._here: dict[int, bytes] = {}
        self._first_missing = 0

    def open(self, head: bytes, number: int) -> IncomingPart | None:
        """A part that was not opened yet; None if it is too far ahead."""
        if number >= self._first_missing + MAX_OPEN:
            return None
        part = IncomingPart(self.id, number, head, part_size(self.total, number))
        self.parts[number] = part
        return part

    def finish(self, part: IncomingPart, data: bytes) -> bytes | None:
        """A part is here: the whole transfer, if it was the last."""
        part.decoder = None
        self._here[part.number] = data
        while self._first_missing in self._here:
            self._first_missing += 1
        if self._first_missing < parts_of(self.total):
            return None
        return b"".join([self._here[number] for number in range(self._first_missing)])


def pack_complete(transfer: TransferId, part: int) -> bytes:
    """The message that says that a part is here."""
    return tl.pack(Rldp2Complete(transfer, part))
