"""What crosses a link between two nodes: messages, each a kind, a number and a payload.

On the seam between a driver and a carrier a message is `kind u8 | number u64 LE | payload`. The
libp2p carrier frames it further (a length in front, pieces of `MAX_PAYLOAD`); the memory carrier
does not. The stack sees whole messages only, and never the kinds a carrier keeps to itself.
"""

import struct
from enum import IntEnum
from typing import Final, NamedTuple

from p2p.errors import CodecError
from p2p.identity import AdnlId


class Endpoint(NamedTuple):
    """Where a node listens: an IP address in text and a TCP port."""

    host: str
    port: int


class Link(NamedTuple):
    """One end of an open link, as a core names it (a `Source`).

    `number` is unique per process, or per world and end: a link that comes back is another link.
    """

    peer: AdnlId
    number: int
    host: str = ""
    """The address at its other end, if the carrier knows one."""


class Kind(IntEnum):
    """What a message is for. HELLO, CREDIT, PING, PONG and BYE stay inside the carrier."""

    HELLO = 0
    MESSAGE = 1
    QUERY = 2
    ANSWER = 3
    CREDIT = 4
    PING = 5
    PONG = 6
    BYE = 7
    ONION = 8


class Message(NamedTuple):
    """One message of a link; `number` pairs an ANSWER with its QUERY and is 0 elsewhere."""

    kind: int
    number: int
    payload: bytes


MAX_PAYLOAD: Final = 65_536
"""bytes of payload in one frame of the libp2p stream: one write of py-libp2p."""

MAX_MESSAGE: Final = 2 * 1024 * 1024
"""bytes of payload in a whole message: the largest directory answer."""

FRAME: Final = 1_200
"""bytes of an onion frame: one TCP segment."""

MAX_FRAMES: Final = 54
"""onion frames in one ONION message: the most that fit in `MAX_PAYLOAD`."""

_HEAD = struct.Struct("<BQ")


def pack(message: Message) -> bytes:
    """The bytes of a message. Raises `ValueError` for one too long or of no kind: our own bug."""
    kind = Kind(message.kind)
    if len(message.payload) > MAX_MESSAGE:
        raise ValueError("message too long for a link")
    return _HEAD.pack(kind, message.number) + message.payload


def unpack(data: bytes) -> Message:
    """The message in `data`. Raises `CodecError` if it is none."""
    if not _HEAD.size <= len(data) <= _HEAD.size + MAX_MESSAGE:
        raise CodecError("no message has this length")
    kind, number = _HEAD.unpack_from(data)
    if kind not in _KINDS:
        raise CodecError("unknown kind of message")
    payload = data[_HEAD.size :]
    if kind == Kind.ONION and not _whole_frames(payload):
        raise CodecError("not whole onion frames")
    return Message(kind, number, payload)


def _whole_frames(payload: bytes) -> bool:
    return len(payload) % FRAME == 0 and FRAME <= len(payload) <= FRAME * MAX_FRAMES


_KINDS = frozenset(int(kind) for kind in Kind)
