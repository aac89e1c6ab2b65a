"""How the types of TL are read and written: numbers, bytes, vectors, boxed types and records.

Every type is a pair of functions, made once and called for each value: closures over what the
schema says, so that no schema is looked at while packets flow. A reader appends what it finds to a
list and returns where that ended. It raises `TlError` for what breaks a rule, and `IndexError` or
`struct.error` where the buffer ends; a writer raises `ValueError` or `struct.error` for a value
that its type does not have.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from operator import attrgetter, or_
from types import GenericAlias, UnionType
from typing import Final, NamedTuple, TypeAlias

from p2p.errors import TlError

MAX_BYTES: Final = (1 << 24) - 1
"""bytes of a `bytes`: what three bytes of length can say. TON's longer form is refused."""

Annotation: TypeAlias = type[object] | UnionType | GenericAlias
Reader: TypeAlias = Callable[[bytes, int, list[object]], int]
Writer: TypeAlias = Callable[[list[bytes], object], None]


class Kind(NamedTuple):
    """A type of the schema: what Python calls it, and how its values are read and written."""

    python: Annotation
    read: Reader
    write: Writer
    depth: int = 0
    """how many records stand within one another in a value, at most."""


class Step(NamedTuple):
    """One field of a record: `flag` is the bit it hangs on, None if it is always there."""

    name: str
    kind: Kind
    flag: int | None


def record(cls: type[object], steps: Sequence[Step], flags_at: int | None) -> Kind:
    """Values of `cls`, bare: its fields in order, flags in front of field `flags_at` if any."""
    depth = 1 + max((step.kind.depth for step in steps), default=0)
    if flags_at is None:
        return Kind(cls, _read_plain(cls, steps), _write_plain(cls, steps), depth)
    head, tail = steps[:flags_at], steps[flags_at:]
    return Kind(cls, _read_flagged(cls, head, tail), _write_flagged(cls, head, tail), depth)


def _read_plain(cls: type[object], steps: Sequence[Step]) -> Reader:
    readers = [step.kind.read for step in steps]

    def read(buffer: bytes, at: int, into: list[object]) -> int:
        values: list[object] = []
        for field in readers:
            at = field(buffer, at, values)
        into.append(cls(*values))
        return at

    return read


def _write_plain(cls: type[object], steps: Sequence[Step]) -> Writer:
    writers, values_of = [step.kind.write for step in steps], _values_of(steps)

    def write(out: list[bytes], value: object) -> None:
        if type(value) is not cls:
            raise ValueError(f"a {type(value).__name__} is not a {cls.__name__}")
        for field, one in zip(writers, values_of(value), strict=True):
            field(out, one)

    return write


def _read_flagged(cls: type[object], head: Sequence[Step], tail: Sequence[Step]) -> Reader:
    before = [step.kind.read for step in head]
    after = [(_mask(step), step.kind.read) for step in tail]
    unknown = ~reduce(or_, (_mask(step) for step in tail))

    def read(buffer: bytes, at: int, into: list[object]) -> int:
        values: list[object] = []
        for field in before:
            at = field(buffer, at, values)

        (flags,) = _U32.unpack_from(buffer, at)
        if flags & unknown:
            raise TlError("unknown flags")
        at += 4

        flags |= _ALWAYS
        for mask, field in after:
            if flags & mask:
                at = field(buffer, at, values)
            else:
                values.append(None)
        into.append(cls(*values))
        return at

    return read


def _write_flagged(cls: type[object], head: Sequence[Step], tail: Sequence[Step]) -> Writer:
    before, head_of = [step.kind.write for step in head], _values_of(head)
    after, tail_of = [(_mask(step), step.kind.write) for step in tail], _values_of(tail)

    def write(out: list[bytes], value: object) -> None:
        if type(value) is not cls:
            raise ValueError(f"a {type(value).__name__} is not a {cls.__name__}")
        for field, one in zip(before, head_of(value), strict=True):
            field(out, one)

        # The flags stand before what they tell of: their place is kept, and filled at the end.
        place = len(out)
        out.append(b"")
        present, absent = _ALWAYS, 0
        for (mask, field), one in zip(after, tail_of(value), strict=True):
            if one is None:
                absent |= mask
            else:
                present |= mask
                field(out, one)

        if present & absent:
            raise ValueError(f"{cls.__name__} lacks a field, or one of two that share a flag")
        out[place] = _U32.pack(present ^ _ALWAYS)

    return write


_ALWAYS: Final = 1 << 32
"""a bit above the 32 of flags: the mask of fields that hang on none."""


def _mask(step: Step) -> int:
    return _ALWAYS if step.flag is None else 1 << step.flag


def _values_of(steps: Sequence[Step]) -> Callable[[object], tuple[object, ...]]:
    names = [step.name for step in steps]
    if not names:
        return lambda value: ()
    get = attrgetter(*names)
    return get if len(names) > 1 else lambda value: (get(value),)


def boxed(name: str, constructors: Mapping[bytes, Kind]) -> Kind:
    """A value of one of several records, its id in front."""
    records = constructors.values()
    writers: dict[Annotation, tuple[bytes, Writer]] = {
        record.python: (number, record.write) for number, record in constructors.items()
    }

    def write(out: list[bytes], value: object) -> None:
        found = writers.get(type(value))
        if found is None:
            raise ValueError(f"a {type(value).__name__} is not a {name}")
        out.append(found[0])
        found[1](out, value)

    readers = {number: record.read for number, record in constructors.items()}
    return Kind(
        reduce(or_, (record.python for record in records)),
        read_boxed(name, readers),
        write,
        max(record.depth for record in records),
    )


def read_boxed(name: str, readers: Mapping[bytes, Reader]) -> Reader:
    """Reads an id, and by it the value."""

    def read(buffer: bytes, at: int, into: list[object]) -> int:
        found = readers.get(buffer[at : at + 4])
        if found is None:
            raise TlError(f"no {name} has this id")
        return found(buffer, at + 4, into)

    return read


def vector(item: Kind) -> Kind:
    """A count and that many items, bare: no id of its own."""
    read_item, write_item = item.read, item.write

    def read(buffer: bytes, at: int, into: list[object]) -> int:
        (count,) = _U32.unpack_from(buffer, at)
        at += 4
        # No item is shorter than four bytes: a count is believed no further than bytes are there.
        if count > (len(buffer) - at) // 4:
            raise TlError("a vector longer than the buffer")
        items: list[object] = []
        for _ in range(count):
            at = read_item(buffer, at, items)
        into.append(tuple(items))
        return at

    def write(out: list[bytes], value: object) -> None:
        if not isinstance(value, tuple):
            raise ValueError(f"a {type(value).__name__} is not a tuple")
        out.append(_U32.pack(len(value)))
        for one in value:
            write_item(out, one)

    return Kind(GenericAlias(tuple, (item.python, ...)), read, write, item.depth)


def _number(layout: struct.Struct) -> Kind:
    unpack_from, pack_one, size = layout.unpack_from, layout.pack, layout.size

    def read(buffer: bytes, at: int, into: list[object]) -> int:
        into += unpack_from(buffer, at)
        return at + size

    def write(out: list[bytes], value: object) -> None:
        out.append(pack_one(value))

    return Kind(int, read, write)


def _raw(size: int) -> Kind:
    def read(buffer: bytes, at: int, into: list[object]) -> int:
        end = at + size
        if end > len(buffer):
            raise IndexError
        into.append(buffer[at:end])
        return end

    def write(out: list[bytes], value: object) -> None:
        if not isinstance(value, bytes) or len(value) != size:
            raise ValueError(f"a {type(value).__name__} is not {size} bytes")
        out.append(value)

    return Kind(bytes, read, write)


def _read_bytes(buffer: bytes, at: int, into: list[object]) -> int:
    size = buffer[at]
    start = at + 1
    if size >= _LONG:
        head, start = buffer[at : at + 4], at + 4
        size = int.from_bytes(head[1:], "little")
        if head[0] != _LONG or size < _LONG:
            raise TlError("the length of bytes in a form that it must not have")

    end = start + size
    stop = (end + 3) & ~3
    if stop > len(buffer):
        raise IndexError
    if buffer[end:stop] != _PADDING[stop - end]:
        raise TlError("padding that is not zero")
    into.append(buffer[start:end])
    return stop


def write_bytes(out: list[bytes], value: object) -> None:
    """Writes a `bytes`: for who writes by hand what is written all the time."""
    if not isinstance(value, bytes) or len(value) > MAX_BYTES:
        raise ValueError("not bytes, or too many")
    size = len(value)
    if size < _LONG:
        out += (_SHORT[size], value, _PADDING[~size % 4])
    else:
        out += (_U32.pack(size << 8 | _LONG), value, _PADDING[-size % 4])


def _read_bool(buffer: bytes, at: int, into: list[object]) -> int:
    value = _BOOLS.get(buffer[at : at + 4])
    if value is None:
        raise TlError("neither true nor false")
    into.append(value)
    return at + 4


def _write_bool(out: list[bytes], value: object) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"a {type(value).__name__} is not a bool")
    out.append(_TRUE if value else _FALSE)


_U32: Final = struct.Struct("<I")
_LONG: Final = 254
"""the first byte of `bytes` whose length takes three more; a smaller one is the length itself."""
_SHORT: Final = tuple(bytes([size]) for size in range(_LONG))
_PADDING: Final = (b"", b"\0", b"\0\0", b"\0\0\0")
_TRUE: Final = bytes.fromhex("b5757299")
_FALSE: Final = bytes.fromhex("379779bc")
_BOOLS: Final = {_TRUE: True, _FALSE: False}

PLAIN: Final = {
    "int": _number(struct.Struct("<i")),
    "long": _number(struct.Struct("<q")),
    "int128": _raw(16),
    "int256": _raw(32),
    "bytes": Kind(bytes, _read_bytes, write_bytes),
    "Bool": Kind(bool, _read_bool, _write_bool),
}
"""The types that no declaration makes."""
