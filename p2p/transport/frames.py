"""The frames of a link's stream: cut, join, queue and count them; no I/O and no libp2p.

A frame is `length u32 LE | kind u8 | number u64 LE | payload <= 65,536`; the length counts what
follows it. What stands after the length is a message of the seam (`wire.pack`), so a message of
one frame travels as it is. A longer one is cut into pieces, all but the last marked `MORE`. The
pieces of one message follow each other; only ONION and the carrier's own kinds go in between.

Credit: an end may send `LINK_CREDIT` bytes of frames that carry messages, and again as much as
the other returns. The carrier's own frames cost none, as the bounds on them are of their own.
"""

import struct
from collections import deque
from typing import Final, final

from p2p import codec
from p2p.defaults import LINK_CREDIT, LINK_QUEUE
from p2p.errors import CodecError, Rejected
from p2p.wire import MAX_MESSAGE, MAX_PAYLOAD, Kind

MORE: Final = 0x80
"""Bit of the kind: the message goes on in the next frame of this kind and number."""

MAX_WRITE: Final = 65_507
"""bytes of one write: with yamux's 12 and Noise's 16 they make one Noise message of 65,535."""

PIECE: Final = 65_408
"""bytes of payload in a piece: with its head and three frames of the carrier's it is one write."""

VERSION: Final = 1
"""of the link protocol, in the greeting."""

FROM_CORES: Final = (Kind.MESSAGE, Kind.QUERY, Kind.ANSWER, Kind.ONION)
"""The kinds that cross the seam; the others are the carrier's own."""

_HEAD: Final = struct.Struct("<BQ")
_LENGTH: Final = codec.LENGTH_SIZE
MAX_BODY: Final = _HEAD.size + MAX_PAYLOAD
_HELLO_LIMIT: Final = 256


def cut(message: bytes) -> list[bytes]:
    """The frames of a message of the seam."""
    if len(message) <= _HEAD.size + PIECE:
        return [codec.frame(message)]
    head = bytes([message[0] | MORE]) + message[1 : _HEAD.size]
    last = bytes([message[0]]) + message[1 : _HEAD.size]
    starts = range(_HEAD.size, len(message), PIECE)
    return [
        codec.frame(
            (last if start + PIECE >= len(message) else head) + message[start : start + PIECE]
        )
        for start in starts
    ]


def split(body: bytes) -> tuple[int, int, bytes]:
    """Kind, number and payload of a frame's body. Raises `CodecError` if it is too short."""
    if len(body) < _HEAD.size:
        raise CodecError("a frame without a head")
    kind, number = _HEAD.unpack_from(body)
    return kind, number, body[_HEAD.size :]


@final
class Joiner:
    """Makes messages of the seam of the frames that carry them."""

    def __init__(self) -> None:
        self._whole = bytearray()

    def add(self, body: bytes) -> bytes | None:
        """The message that ends with this frame, if one does.

        Raises `CodecError` for pieces out of turn and for a message longer than any.
        """
        more, kind = body[0] & MORE, body[0] & ~MORE
        if not more and (kind == Kind.ONION or not self._whole):
            return body
        if kind == Kind.ONION:
            raise CodecError("an onion message in pieces")

        head = bytes([kind]) + body[1 : _HEAD.size]
        if not self._whole:
            self._whole += head
        elif self._whole[: _HEAD.size] != head:
            raise CodecError("pieces of two messages mixed")
        self._whole += body[_HEAD.size :]
        if len(self._whole) > _HEAD.size + MAX_MESSAGE:
            raise CodecError("message too long for a link")
        return None if more else self._finish()

    def _finish(self) -> bytes:
        message = bytes(self._whole)
        self._whole.clear()
        return message


@final
class Intake:
    """What a peer may still send, and what is owed to it."""

    def __init__(self) -> None:
        self._allowed = LINK_CREDIT
        self._owed = 0

    def arrived(self, body: bytes) -> None:
        """Charge a frame. Raises `CodecError` for one beyond the credit."""
        size = _LENGTH + len(body)
        if size > self._allowed:
            raise CodecError("more than the credit")
        self._allowed -= size
        self._owed += size

    def due(self) -> int:
        """The credit to return now: all of it once half is used, none before."""
        if self._owed < LINK_CREDIT // 2:
            return 0
        due, self._owed = self._owed, 0
        self._allowed += due
        return due


@final
class Outbox:
    """What waits to be written on one link: the carrier's frames, then ONION, then the rest.

    Bounded by `LINK_QUEUE` bytes; `put` says no instead of growing further.
    """

    def __init__(self) -> None:
        self._hello = b""
        self._greeted = False
        self._own: dict[Kind, int] = {}
        self._onion: deque[bytes] = deque()
        self._rest: deque[bytes] = deque()
        self._credit = LINK_CREDIT
        self._bytes = 0
        self._bye = False
        self.messages = 0
        """messages not wholly taken"""
        self.finished = False
        """BYE has been taken: nothing follows."""

    def greet(self, hello: bytes) -> None:
        """The first frame; nothing leaves before it."""
        self._hello = hello
        self._greeted = True

    def put(self, message: bytes) -> bool:
        """Queue a message of the seam; False if there is no room for it."""
        if self._bytes + len(message) > LINK_QUEUE:
            return False
        frames = cut(message)
        lane = self._onion if message[0] == Kind.ONION else self._rest
        lane.extend(frames)
        self._bytes += sum(map(len, frames))
        self.messages += 1
        return True

    def ping(self, number: int) -> None:
        """Ask for a sign of life."""
        self._own[Kind.PING] = number

    def pong(self, number: int) -> None:
        """Answer a ping; only the last one asked, so that a flood of them costs one frame."""
        self._own[Kind.PONG] = number

    def credit(self, amount: int) -> None:
        """Let the peer send more."""
        self._own[Kind.CREDIT] = self._own.get(Kind.CREDIT, 0) + amount

    def bye(self) -> None:
        """End the link once everything queued has been taken."""
        self._bye = True

    def granted(self, amount: int) -> None:
        """Take credit from the peer. Raises `CodecError` for more than there ever was."""
        if self._credit + amount > LINK_CREDIT:
            raise CodecError("more credit than was used")
        self._credit += amount

    def next_write(self) -> bytes:
        """What to write now, at most `MAX_WRITE` bytes; empty: nothing is due or has credit."""
        if not self._greeted:
            return b""
        write = bytearray(self._take_hello() or self._take_own())
        for lane in (self._onion, self._rest):
            self._take_from(lane, write)
            if lane:
                return bytes(write)
        if self._bye and not self.finished:
            self.finished = True
            write += _own_frame(Kind.BYE, 0)
        return bytes(write)

    def _take_hello(self) -> bytes:
        hello, self._hello = self._hello, b""
        return hello

    def _take_own(self) -> bytes:
        if not self._own:
            return b""
        own, self._own = self._own, {}
        return b"".join(_own_frame(kind, number) for kind, number in own.items())

    def _take_from(self, lane: deque[bytes], write: bytearray) -> None:
        while lane and len(lane[0]) <= min(self._credit, MAX_WRITE - len(write)):
            frame = lane.popleft()
            self._credit -= len(frame)
            self._bytes -= len(frame)
            self.messages -= not frame[_LENGTH] & MORE
            write += frame


def hello(network: int, public: bytes) -> bytes:
    """The greeting, the first frame of each end."""
    payload = codec.pack([VERSION, network, public, 0])
    return codec.frame(_HEAD.pack(Kind.HELLO, 0) + payload)


def check_hello(body: bytes, network: int, public: bytes) -> None:
    """Raises `CodecError` if it is no greeting, `Rejected` if of another network or key."""
    kind, _, payload = split(body)
    if kind != Kind.HELLO:
        raise CodecError("the first frame is no greeting")
    greeting = codec.unpack(payload, _HELLO_LIMIT)
    if not isinstance(greeting, tuple) or len(greeting) < 4:
        raise CodecError("no greeting of ours")
    if greeting[:3] != (VERSION, network, public):
        raise Rejected("another version, network or key")


def _own_frame(kind: Kind, number: int) -> bytes:
    return codec.frame(_HEAD.pack(kind, number))
