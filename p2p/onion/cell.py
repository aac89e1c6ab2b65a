"""What travels on a circuit: frames of 1200 bytes, cells in layers, and the words of a handshake.

Depth counts from the client: 1 is the guard, the last depth is the endpoint. Between depth d-1 and
d a cell's body has `body_size(d)` bytes, both ways: a hop opens one layer forward and adds one
backward, so only a hop itself learns its depth. All integers are little-endian.
"""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, NewType, final

from p2p.entropy import Entropy
from p2p.errors import OnionError
from p2p.identity import AdnlId
from p2p.onion.noise import MESSAGE_OVERHEAD, TAG_SIZE, CipherState, Split

CircuitId = NewType("CircuitId", int)
"""A circuit as callers of one node know it: unique per node, never reused, never sent."""

FRAME_SIZE = 1200
"""bytes: one TCP segment, and 93 % of it useful behind three relays."""

FRAME_HEADER = 8
"""bytes: circuit u32, command u8, flags u8, length u16."""

BODY_SIZE = FRAME_SIZE - FRAME_HEADER
"""bytes of a frame's body, filler included."""

MAX_RELAYS = 3
"""relays of the longest path."""

MAX_DEPTH = MAX_RELAYS + 1
"""The endpoint's depth behind the most relays."""

REKEY_EVERY = 1024
"""cells of one direction under one key: what a stolen state can still read of the past."""

MORE = 1
"""Frame flag of CREATE and CREATED: another frame follows."""


class Command(IntEnum):
    """What a frame is; the first field a link looks at."""

    PADDING = 0
    HELLO = 1
    CREATE = 2
    CREATED = 3
    CELL = 4
    FAIL = 5
    DESTROY = 6
    CREDIT = 7
    PACE = 8


class DestroyReason(IntEnum):
    """The one byte of DESTROY's body; OTHER whenever it is passed on."""

    OTHER = 0
    PROTOCOL = 1
    SHUTDOWN = 2
    LIMITS = 3
    LIFETIME = 4


_FRAME = struct.Struct("<IBBH")


class Frame(NamedTuple):
    """One frame of a link. A tuple, since thousands pass each second."""

    circuit: int
    """The link's number of the circuit; 0 for the link itself."""
    command: Command
    flags: int
    body: bytes
    """What `length` counts; the filler behind it is not kept."""

    def pack(self, entropy: Entropy) -> bytes:
        """1200 bytes; what the body leaves free is random."""
        size = len(self.body)
        header = _FRAME.pack(self.circuit, self.command, self.flags, size)
        return header + self.body + entropy.token(BODY_SIZE - size)

    @classmethod
    def unpack(cls, data: bytes) -> "Frame":
        """The frame of 1200 bytes. Raises `OnionError` for any other size or unknown command."""
        if len(data) != FRAME_SIZE:
            raise OnionError("a frame of a wrong size")
        circuit, command, flags, size = _FRAME.unpack_from(data)
        if size > BODY_SIZE or command not in _COMMANDS:
            raise OnionError("a frame of an unknown command or a length past its end")
        return cls(circuit, _COMMANDS[command], flags, data[FRAME_HEADER : FRAME_HEADER + size])


_COMMANDS = {int(command): command for command in Command}


def handshake_frames(circuit: int, command: Command, message: bytes) -> tuple[Frame, Frame]:
    """The two frames of a CREATE or CREATED, whose size does not show."""
    first, second = message[:BODY_SIZE], message[BODY_SIZE:]
    return Frame(circuit, command, MORE, first), Frame(circuit, command, 0, second)


# --- sizes by depth ---


def create_size(depth: int) -> int:
    """bytes of the CREATE that arrives at this depth."""
    return 2 * BODY_SIZE - (MESSAGE_OVERHEAD + INFO_SIZE) * (depth - 1)


def reply_size(depth: int) -> int:
    """bytes of the CREATED that leaves this depth."""
    return 2 * BODY_SIZE - (MESSAGE_OVERHEAD + STATUS_SIZE) * (depth - 1)


def body_size(depth: int) -> int:
    """bytes of a cell's body between depth - 1 and depth; with hops + 1, the innermost text."""
    return BODY_SIZE - TAG_SIZE * (depth - 1)


# --- the words of a handshake ---

INFO_SIZE = 96
STATUS_SIZE = 16

VERSION = 1
"""of the onion protocol, said to each hop."""

_INFO = struct.Struct("<32sIBBHQ32s16s")
_STATUS = struct.Struct("<BBHI8s")
_NOBODY = bytes(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """What a CREATE tells one hop."""

    next: AdnlId | None
    """Where to pass the inner CREATE; None at the endpoint."""
    issued: int
    """Unix seconds, rounded down to a minute."""
    puzzle: int = 0
    """The nonce of the admission puzzle, u64."""

    def pack(self) -> bytes:
        """96 bytes."""
        end = self.next is None
        fields = (self.next or _NOBODY, self.issued, end, VERSION, 0, self.puzzle)
        return _INFO.pack(*fields, bytes(32), bytes(16))

    @classmethod
    def unpack(cls, data: bytes) -> "Info":
        """The info of exactly 96 bytes. Raises `OnionError`, also for a reserved bit."""
        if len(data) != INFO_SIZE:
            raise OnionError("an info of a wrong size")
        following, issued, flags, _, _, puzzle, _, _ = _INFO.unpack(data)
        end = flags == 1
        info = cls(next=None if end else AdnlId(following), issued=issued, puzzle=puzzle)
        if info.pack() != data:
            raise OnionError("an info of another version, or with a reserved bit")
        return info


class Code(IntEnum):
    """Why a hop does or does not join a circuit; closed."""

    OK = 0
    STALE = 1
    UNREACHABLE = 2
    BUSY = 3
    NOT_ROLE = 4
    UNKNOWN_NEXT = 5
    PAY = 6
    REFUSED = 7
    CLOSING = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A hop's answer to a CREATE."""

    code: Code
    detail: int = 0
    """With BUSY the zero bits of puzzle wanted; 0 = come back later."""
    unix: int
    """The hop's clock in Unix seconds."""

    def pack(self) -> bytes:
        """16 bytes."""
        return _STATUS.pack(self.code, self.detail, 0, self.unix, bytes(8))

    @classmethod
    def unpack(cls, data: bytes) -> "Status":
        """The status of exactly 16 bytes. Raises `OnionError`, also for an unknown code."""
        if len(data) != STATUS_SIZE:
            raise OnionError("a status of a wrong size")
        code, detail, _, unix, _ = _STATUS.unpack(data)
        if code not in _CODES:
            raise OnionError("a status of an unknown code")
        status = cls(code=_CODES[code], detail=detail, unix=unix)
        if status.pack() != data:
            raise OnionError("a status with a reserved bit")
        return status


_CODES = {int(code): code for code in Code}


# --- cells in layers ---


class FailCode(IntEnum):
    """A relay's last word about a circuit."""

    NEXT_LOST = 1
    NEXT_DESTROYED = 2
    BAD_CELL = 3
    LIMITS = 4
    LIFETIME = 5


FAIL_MAGIC = hashlib.sha256(b"tussah-fail/1").digest()[:16]
"""Opens the text of a FAIL, so that the client knows at which layer to stop."""

_FAIL_CODES = {int(code): code for code in FailCode}


class Failure(NamedTuple):
    """What a FAIL says, and who says it."""

    depth: int
    code: FailCode


@final
class Hop:
    """One hop's keys of a circuit, at a relay or at the endpoint.

    `OnionError` from either direction ends the circuit: nothing later on it could be opened.
    """

    __slots__ = ("_backward", "_forward", "depth")

    def __init__(self, keys: Split, depth: int) -> None:
        self._forward = CipherState(keys.forward, rekey_every=REKEY_EVERY)
        self._backward = CipherState(keys.backward, rekey_every=REKEY_EVERY)
        self.depth = depth

    def forward(self, body: bytes) -> bytes:
        """Open what came from behind: the body for the next hop, or the endpoint's own text."""
        if len(body) != body_size(self.depth):
            raise OnionError("a cell of a wrong size")
        return self._forward.open(b"", body)

    def backward(self, body: bytes) -> bytes:
        """Seal what came from ahead, a CELL or a FAIL alike, or the endpoint's own text."""
        if len(body) != body_size(self.depth + 1):
            raise OnionError("a cell of a wrong size")
        return self._backward.seal(b"", body)

    def fail(self, code: FailCode) -> bytes:
        """The body of a FAIL of this hop; nothing may follow it."""
        text = FAIL_MAGIC + bytes([code])
        return self.backward(text.ljust(body_size(self.depth + 1), b"\0"))


@final
class Layers:
    """The client's keys of a circuit, guard first, endpoint last."""

    __slots__ = ("_backward", "_forward", "hops")

    def __init__(self, keys: Sequence[Split]) -> None:
        self._forward = [CipherState(hop.forward, rekey_every=REKEY_EVERY) for hop in keys]
        self._backward = [CipherState(hop.backward, rekey_every=REKEY_EVERY) for hop in keys]
        self.hops = len(keys)

    def seal(self, text: bytes) -> bytes:
        """The body of a forward CELL; `text` is `Cell.pack(hops)`."""
        for cipher in reversed(self._forward):
            text = cipher.seal(b"", text)
        return text

    def open(self, body: bytes) -> bytes:
        """The endpoint's text of a backward CELL. Raises `OnionError`; the circuit is lost then."""
        if len(body) != BODY_SIZE:
            raise OnionError("a cell of a wrong size")
        for cipher in self._backward:
            body = cipher.open(b"", body)
        return body

    def open_fail(self, body: bytes) -> Failure:
        """Which relay failed and why. Raises `OnionError` if no relay's layer holds a FAIL."""
        if len(body) != BODY_SIZE:
            raise OnionError("a FAIL of a wrong size")
        for depth, cipher in enumerate(self._backward[:-1], 1):
            body = cipher.open(b"", body)
            if body.startswith(FAIL_MAGIC):
                return _failure(depth, body)
        raise OnionError("a FAIL that no relay wrote")


def _failure(depth: int, text: bytes) -> Failure:
    code, rest = text[len(FAIL_MAGIC)], text[len(FAIL_MAGIC) + 1 :]
    if code not in _FAIL_CODES or rest.strip(b"\0"):
        raise OnionError("a FAIL of an unknown code")
    return Failure(depth, _FAIL_CODES[code])


# --- inside the endpoint's layer ---


class Kind(IntEnum):
    """What a cell is to its stream."""

    DUMMY = 0
    DATA = 1
    END = 2
    RESET = 3
    PING = 4
    PONG = 5


CELL_HEADER = 12
"""bytes: stream u16, kind u8, flags u8, offset u32, n u16, zero u16."""

CELL_SIZE = body_size(MAX_DEPTH + 1)
"""bytes of the innermost text that count, whatever the number of hops."""

MAX_DATA = CELL_SIZE - CELL_HEADER
"""bytes of a stream in one cell."""

_CELL = struct.Struct("<HBBIHH")


class Cell(NamedTuple):
    """One cell as its two ends see it. A tuple, since thousands pass each second."""

    stream: int
    kind: Kind
    flags: int
    offset: int
    """bytes of the stream before this cell's, in this direction."""
    data: bytes

    def __repr__(self) -> str:
        """Without the data, which is somebody's prompt or answer."""
        where = f"stream={self.stream}, kind={self.kind.name}, offset={self.offset}"
        return f"Cell({where}, size={len(self.data)})"

    def pack(self, hops: int) -> bytes:
        """The innermost text on a circuit of so many hops, endpoint included."""
        header = _CELL.pack(self.stream, self.kind, self.flags, self.offset, len(self.data), 0)
        if len(self.data) > MAX_DATA:
            raise ValueError("more data than a cell holds")
        return (header + self.data).ljust(body_size(hops + 1), b"\0")

    @classmethod
    def unpack(cls, text: bytes) -> "Cell":
        """The cell of an innermost text. Raises `OnionError` for what no honest end writes."""
        if not CELL_SIZE <= len(text) <= BODY_SIZE:
            raise OnionError("a cell of a wrong size")
        stream, kind, flags, offset, size, zero = _CELL.unpack_from(text)
        end = CELL_HEADER + size
        if size > MAX_DATA or kind not in _KINDS or zero or text[end:CELL_SIZE] != _ZEROS[size:]:
            raise OnionError("a cell with a wrong header or filler")
        if (kind == Kind.DUMMY and size != 0) or (kind == Kind.RESET and size != 1):
            raise OnionError("a cell with data that its kind does not have")
        return cls(stream, _KINDS[kind], flags, offset, text[CELL_HEADER:end])


_KINDS = {int(kind): kind for kind in Kind}
_ZEROS = bytes(MAX_DATA)
