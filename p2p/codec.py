"""The one codec of everything that is our own: canonical msgpack, bounded, one encoding a value.

Allowed: nil, bool, int (-2^63 .. 2^64-1), bin, str (UTF-8, NFC, no control characters), array,
map. A map has either int keys ascending by value or str keys ascending by their UTF-8 bytes. No
floats, extensions, duplicate keys or longer headers than needed; depth at most 6. The decoder
re-encodes and compares, so that a signed object has exactly one form.

A list packs as an array; an array unpacks as a tuple.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final, TypeAlias, TypeVar, final

import msgpack  # type: ignore[import-untyped]  # ships no annotations; checked at both calls

from p2p.errors import CodecError

Value: TypeAlias = (
    bool
    | int
    | bytes
    | str
    | Sequence["Value"]
    | Mapping[int, "Value"]
    | Mapping[str, "Value"]
    | None
)

MAX_DEPTH: Final = 6
"""Containers inside containers; the deepest message of ours needs 4."""

_LEAST, _MOST = -(2**63), 2**64 - 1


def pack(value: Value) -> bytes:
    """The canonical bytes of a value. Raises `ValueError` if it has none: our own bug."""
    return _encode(_ordered(value, 0))


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
            ext_hook=_refuse_extension,  # the library's own type for them is a tuple
            object_pairs_hook=_ascending,
        )
        _check(value, 0)
        if _encode(value) != buffer:
            raise CodecError("not canonical")
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise CodecError("not a message") from error
    return value


def _refuse_extension(code: int, data: bytes) -> object:
    raise ValueError("extension types are not allowed")


def _encode(value: Value) -> bytes:
    packed = msgpack.packb(value, use_bin_type=True)
    if not isinstance(packed, bytes):
        raise TypeError("msgpack returned no bytes")
    return packed


# --- what is allowed; the encoder orders maps, the decoder refuses those out of order ---


def _ordered(value: object, depth: int) -> Value:
    if value is None or isinstance(value, (bytes, int, str)):
        return _scalar(value)
    if isinstance(value, (list, tuple)):
        _check_depth(depth)
        return [_ordered(item, depth + 1) for item in value]
    if isinstance(value, Mapping):
        _check_depth(depth)
        _check_keys(value)
        return {key: _ordered(value[key], depth + 1) for key in sorted(value)}
    return _scalar(value)


def _check(value: object, depth: int) -> None:
    """Of what msgpack has read, whose integers never have more than 64 bits."""
    if isinstance(value, (bytes, int)):
        return
    if isinstance(value, tuple):
        _check_depth(depth)
        for item in value:
            _check(item, depth + 1)
    elif isinstance(value, dict):
        _check_depth(depth)
        for item in value.values():
            _check(item, depth + 1)
    else:
        _scalar(value)


def _check_depth(depth: int) -> None:
    if depth >= MAX_DEPTH:
        raise ValueError("too deep")


def _scalar(value: object) -> int | bytes | str | None:
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, int):
        if not _LEAST <= value <= _MOST:
            raise ValueError("integer of more than 64 bits")
        return value
    if isinstance(value, str):
        _check_text(value)
        return value
    raise ValueError(f"{type(value).__name__} has no canonical form")


_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f]")
"""Unicode's category Cc, all of it."""


def _check_text(text: str) -> None:
    if _plain(text):
        return
    if not unicodedata.is_normalized("NFC", text):
        raise ValueError("text is not in NFC")
    if _CONTROL.search(text):
        raise ValueError("control character in text")


def _plain(text: str) -> bool:
    """Nearly all text is, and needs no look at Unicode's tables."""
    return text.isascii() and text.isprintable()


def _check_keys(keys: Iterable[object]) -> None:
    """Ints or strings, never both, never bool."""
    kinds = tuple(dict.fromkeys(map(type, keys)))
    if kinds not in _KINDS_OF_KEYS:
        raise ValueError("keys must be all int or all str")
    if kinds == (str,) and _plain("".join(map(str, keys))):
        return
    for key in keys:
        _scalar(key)


_KINDS_OF_KEYS: Final[Sequence[tuple[type, ...]]] = ((str,), (int,), ())

_Key = TypeVar("_Key", int, str)


def _ascending(pairs: Sequence[tuple[_Key, object]]) -> dict[_Key, object]:
    """A map as it is read, its keys not believed to be of their type before they are looked at.

    Strings are ordered by code points, and so is their UTF-8 (Unicode standard, section 2.5).
    """
    keys = [key for key, _ in pairs]
    _check_keys(keys)
    if any(left >= right for left, right in pairwise(keys)):
        raise ValueError("keys not ascending")
    return dict(pairs)


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
