"""The one codec of everything that is our own: canonical msgpack, bounded, one encoding a value.

Allowed: nil, bool, int (-2^63 .. 2^64-1), bin, str (UTF-8, NFC, no control characters), array,
map. A map has either int keys ascending by value or str keys ascending by their UTF-8 bytes. No
floats, extensions, duplicate keys or longer headers than needed; depth at most 6. The decoder
re-encodes and compares, so that a signed object has exactly one form.

A list packs as an array; an array unpacks as a tuple.
"""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias, final

import msgpack

from p2p.errors import CodecError

Value: TypeAlias = (
    None | bool | int | bytes | str | Sequence["Value"] | Mapping[int, "Value"] | Mapping[str, "Value"]
)

MAX_DEPTH = 6
"""Containers inside containers; the deepest message of ours needs 4."""


def pack(value: Value) -> bytes:
    """The canonical bytes of a value. Raises `ValueError` if it has none: our own bug."""
    _check(value, 0)
    packed = msgpack.packb(_ordered(value), use_bin_type=True)
    if not isinstance(packed, bytes):
        raise TypeError("msgpack returned no bytes")
    return packed


def unpack(buffer: bytes, limit: int) -> Value:
    """The value of canonical bytes no longer than `limit`. Raises `CodecError` otherwise."""
    if len(buffer) > limit:
        raise CodecError("too long")
    try:
        value: Value = msgpack.unpackb(
            buffer,
            raw=False,
            use_list=False,
            strict_map_key=False,
            ext_hook=_refuse_extension,
            object_pairs_hook=_pairs,
        )
        if pack(value) != buffer:
            raise CodecError("not canonical")
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise CodecError("not a message") from error
    return value


def _refuse_extension(code: int, data: bytes) -> object:
    raise ValueError("extension types are not allowed")


def _pairs(pairs: Sequence[tuple[object, object]]) -> dict[object, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("duplicate key")
    return result


def _check(value: Value, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ValueError("too deep")
    match value:
        case None | bool() | int() | bytes():
            return
        case str():
            _check_text(value)
        case Mapping():
            _check_keys(list(value))
            for item in value.values():
                _check(item, depth + 1)
        case list() | tuple():
            for item in value:
                _check(item, depth + 1)
        case _:
            raise ValueError(f"{type(value).__name__} has no canonical form")


def _check_text(text: str) -> None:
    if not unicodedata.is_normalized("NFC", text):
        raise ValueError("text is not in NFC")
    if any(unicodedata.category(c) == "Cc" for c in text):
        raise ValueError("control character in text")


def _check_keys(keys: Sequence[object]) -> None:
    if all(type(key) is int for key in keys):
        return
    if not all(type(key) is str for key in keys):
        raise ValueError("keys must be all int or all str")
    for key in keys:
        _check_text(str(key))


def _ordered(value: Value) -> Value:
    match value:
        case Mapping():
            return {key: _ordered(value[key]) for key in sorted(value, key=_rank)}
        case list() | tuple():
            return [_ordered(item) for item in value]
        case _:
            return value


def _rank(key: int | str) -> tuple[int, bytes]:
    return (key, b"") if isinstance(key, int) else (0, key.encode())


# --- messages on an ordered stream of bytes: u32 length, then the message ---

LENGTH_SIZE = 4


def frame(message: bytes) -> bytes:
    """A message as it travels on a stream: its length as u32 LE in front."""
    return len(message).to_bytes(LENGTH_SIZE, "little") + message


@final
class Unframer:
    """Cuts a stream of bytes, arriving in pieces of any size, into messages.

    `feed` then iterate. A message longer than `limit` raises `CodecError` from its length alone,
    before anything of it is kept.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Add bytes in the order they came."""
        self._buffer += data

    def __iter__(self) -> Iterator[bytes]:
        while len(self._buffer) >= LENGTH_SIZE:
            length = int.from_bytes(self._buffer[:LENGTH_SIZE], "little")
            if length > self._limit:
                raise CodecError("message longer than its limit")
            if len(self._buffer) < LENGTH_SIZE + length:
                return
            message = bytes(self._buffer[LENGTH_SIZE : LENGTH_SIZE + length])
            del self._buffer[: LENGTH_SIZE + length]
            yield message

    def __len__(self) -> int:
        return len(self._buffer)
