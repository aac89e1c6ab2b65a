"""Fields of a message from a peer, each believed only after a look at its type and bounds.

Messages of the ledger are canonical maps with string keys, of version 1. All raise `CodecError`.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from p2p import codec
from p2p.codec import Value
from p2p.errors import CodecError

VERSION: Final = 1
U32: Final = 2**32 - 1
I63: Final = 2**63 - 1
"""Fits SQLite's integer."""


def read_map(data: bytes, limit: int, names: Sequence[str]) -> Mapping[str, Value]:
    """A map of exactly these fields, in at most `limit` bytes."""
    value = codec.unpack(data, limit)
    if not isinstance(value, Mapping):
        raise CodecError("not a map")
    fields = {key: item for key, item in value.items() if isinstance(key, str)}
    if len(fields) != len(names) or not all(name in fields for name in names):
        raise CodecError("a map with other fields")
    if integer(fields["v"], U32) != VERSION:
        raise CodecError("of another version")
    return fields


def items(value: Value, least: int, most: int) -> Sequence[Value]:
    """A list of so many items."""
    if not isinstance(value, tuple) or not least <= len(value) <= most:
        raise CodecError("a list of a wrong length")
    return value


def octets(value: Value, size: int = 32) -> bytes:
    """Exactly `size` bytes."""
    if not isinstance(value, bytes) or len(value) != size:
        raise CodecError(f"not {size} bytes")
    return value


def integer(value: Value, most: int, least: int = 0) -> int:
    """A whole number from `least` to `most`."""
    if type(value) is not int or not least <= value <= most:
        raise CodecError("a number out of range")
    return value
