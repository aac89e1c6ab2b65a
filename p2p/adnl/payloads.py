"""The messages that carry payloads, written out by hand: one of them goes in nearly each datagram.

It takes a quarter of what going through the schema does, which is for all other messages.
"""

from typing import Final

from p2p.tltypes import write_bytes
from p2p.ton import AdnlMessageAnswer, AdnlMessageCustom, AdnlMessageQuery

_QUERY: Final = AdnlMessageQuery.tl.id
_ANSWER: Final = AdnlMessageAnswer.tl.id
_CUSTOM: Final = AdnlMessageCustom.tl.id


def query(query_id: bytes, payload: bytes) -> bytes:
    """An `adnl.message.query`; the id has 32 bytes."""
    return _written([_QUERY, query_id], payload)


def answer(query_id: bytes, payload: bytes) -> bytes:
    """An `adnl.message.answer` to the query of this id."""
    return _written([_ANSWER, query_id], payload)


def custom(payload: bytes) -> bytes:
    """An `adnl.message.custom`."""
    return _written([_CUSTOM], payload)


def _written(out: list[bytes], payload: bytes) -> bytes:
    write_bytes(out, payload)
    return b"".join(out)
