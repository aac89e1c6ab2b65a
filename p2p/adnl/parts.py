"""Messages too long for one packet: cut into `adnl.message.part`s, and put together again."""

from hashlib import sha256
from typing import Final, final

from p2p.adnl.drops import Drop
from p2p.errors import AdnlError
from p2p.sender import MAX_DATAGRAM_PAYLOAD
from p2p.ton import AdnlMessagePart

MAX_WHOLE: Final = 1_152
"""bytes of a message that goes in one packet, as in TON."""

PART: Final = 1_024
"""bytes of a message in each part but the last."""

MAX_PARTED: Final = MAX_DATAGRAM_PAYLOAD + 128
"""bytes of a message in parts: the longest payload, and what a message wraps it in."""

MAX_PARTS: Final = 32
"""parts of a message that is put together: nine are usual, and tiny ones would cost memory."""


def split(message: bytes) -> list[AdnlMessagePart]:
    """The parts of a message, given in its boxed form."""
    digest = sha256(message).digest()
    return [
        AdnlMessagePart(digest, len(message), at, message[at : at + PART])
        for at in range(0, len(message), PART)
    ]


@final
class Assembly:
    """Puts one message at a time together. Parts may come out of order, as UDP allows.

    The first part of another message ends the one at hand, which has most likely lost a part; its
    stragglers are dropped then.
    """

    __slots__ = ("_digest", "_missing", "_parts", "_size")

    def __init__(self) -> None:
        self._digest = b""
        self._size = self._missing = 0
        self._parts: dict[int, bytes] = {}

    def add(self, part: AdnlMessagePart) -> bytes | None:
        """Take a part; the boxed message once it is whole. Raises `AdnlError` for one unfit.

        At most `MAX_PARTED` bytes are held.
        """
        if not 0 < part.total_size <= MAX_PARTED or not part.data:
            raise AdnlError(Drop.PART)
        if not 0 <= part.offset <= part.total_size - len(part.data):
            raise AdnlError(Drop.PART)
        self._aim(part)
        held = len(self._parts) == MAX_PARTS or part.offset in self._parts
        if held or len(part.data) > self._missing:
            raise AdnlError(Drop.PART)

        self._parts[part.offset] = part.data
        self._missing -= len(part.data)
        return self._whole() if self._missing == 0 else None

    def __len__(self) -> int:
        return self._size - self._missing

    def _aim(self, part: AdnlMessagePart) -> None:
        if (part.hash, part.total_size) == (self._digest, self._size):
            return
        if self._parts and part.offset > 0:
            raise AdnlError(Drop.PART)
        self._digest, self._size = part.hash, part.total_size
        self._missing, self._parts = part.total_size, {}

    def _whole(self) -> bytes:
        message = b"".join(self._parts[at] for at in sorted(self._parts))
        digest = self._digest
        self._reset()
        if sha256(message).digest() != digest:
            raise AdnlError(Drop.PART)
        return message

    def _reset(self) -> None:
        self._digest, self._size, self._missing = b"", 0, 0
        self._parts = {}
