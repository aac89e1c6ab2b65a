"""What stands in front of everything that two nodes say to each other within an overlay.

A message is `overlay.message` and one more value, a query is `overlay.query` and one more value;
either may carry a certificate of membership, which an overlay that is open to all has no use for.
"""

from enum import Enum
from typing import Final, final

from p2p import tl
from p2p.dht import value as records
from p2p.errors import TlError
from p2p.tl import TlObject
from p2p.ton import OverlayMessage, OverlayMessageWithExtra, OverlayQuery, OverlayQueryWithExtra

PREFIXES: Final = tuple(
    cls.tl.id
    for cls in (OverlayMessage, OverlayMessageWithExtra, OverlayQuery, OverlayQueryWithExtra)
)
"""How payloads for an overlay begin; which it is stands in the next 32 bytes."""

MAX_MESSAGE: Final = 1_280
"""bytes of a message with its prefix: a part of a large broadcast, certified twice."""

MAX_QUERY: Final = 16_384
"""bytes of a query with its prefix: a call that names 512 adverts takes 10 kB."""


class Dropped(Enum):
    """Why something was not looked at further."""

    TOO_LONG = "longer than any message or query of this overlay"
    MALFORMED = "no value of the schema, or none that belongs here"
    FOREIGN = "for another overlay"
    UNSUPPORTED = "of a kind that this node reads and does not take"
    CLIENT = "for members, and this node is a client"
    RATIONED = "more than one peer may send"


@final
class Envelope:
    """Seals and opens what is said in the overlay of this name."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.overlay = records.overlay_id(name)
        self._message = tl.pack(OverlayMessage(self.overlay))
        self._query = tl.pack(OverlayQuery(self.overlay))

    def seal_message(self, packed: bytes) -> bytes:
        """A message, of a value that is packed already."""
        return self._message + packed

    def seal_query(self, question: TlObject) -> bytes:
        """A query."""
        return self._query + tl.pack(question)

    def open_message(self, payload: bytes) -> TlObject | Dropped:
        """The value of a message, of any constructor."""
        if len(payload) > MAX_MESSAGE:
            return Dropped.TOO_LONG
        return self._open(payload, OverlayMessage, OverlayMessageWithExtra)

    def open_query(self, payload: bytes) -> TlObject | Dropped:
        """The value of a query, of any constructor."""
        if len(payload) > MAX_QUERY:
            return Dropped.TOO_LONG
        return self._open(payload, OverlayQuery, OverlayQueryWithExtra)

    def _open(self, payload: bytes, *prefixes: type[TlObject]) -> TlObject | Dropped:
        try:
            prefix, rest = tl.parse_prefix(payload)
            if not isinstance(prefix, prefixes):
                return Dropped.MALFORMED
            if payload[4:36] != self.overlay:
                return Dropped.FOREIGN
            return tl.parse_any(rest)
        except TlError:
            return Dropped.MALFORMED
