"""TL, the binary format of TON: values of the declarations in `schema.tl` to bytes and back.

The file is the only source of the wire format. A class of `p2p.ton` is bound to the declaration of
its name when it is defined: fields, order and types are compared, and one reader and one writer are
put together from closures, so that no schema is looked at while packets flow.

What holds for every buffer that is accepted: it is the one encoding of its value. Padding that is
not zero and a length longer than it need be are refused, though TON's own parser lets both pass:
no sender writes them, and so what was signed or hashed may be checked on the bytes received or on
the value packed again. `bytes` stay bytes: nothing in them is parsed because it looks like TL.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from importlib.resources import files
from keyword import iskeyword
from operator import attrgetter, or_
from types import GenericAlias, UnionType
from typing import ClassVar, Final, NamedTuple, TypeAlias, TypeVar, dataclass_transform, final
from zlib import crc32

from p2p.errors import TlError

MAX_BYTES: Final = (1 << 24) - 1
"""bytes of a `bytes`: what three bytes of length can say, as in TON; longer forms are refused."""

MAX_NESTING: Final = 8
"""levels of values within values. No declaration may go deeper, so no buffer can."""

Annotation: TypeAlias = type[object] | UnionType | GenericAlias

Reader: TypeAlias = Callable[[bytes, int, list[object]], int]
"""Appends the value at an offset to a list and tells where it ends."""
Writer: TypeAlias = Callable[[list[bytes], object], None]
"""Appends the bytes of a value to a list."""


class Codec(NamedTuple):
    """How values of one class are read and written, bare: without the id in front."""

    id: bytes
    """The constructor's id as it stands on the wire, in front of a boxed value."""
    read: Reader
    write: Writer
    depth: int


class TlObject:
    """A value of some declaration; the classes are in `p2p.ton`."""

    __slots__ = ()
    tl: ClassVar[Codec]


T = TypeVar("T", bound=TlObject)


def pack(value: TlObject, *, boxed: bool = True) -> bytes:
    """The bytes of a value. Raises `ValueError` for one that has none: our own bug."""
    codec = value.tl
    out = [codec.id] if boxed else []
    try:
        codec.write(out, value)
    except struct.error as error:
        raise ValueError(f"{type(value).__name__}: {error}") from error
    return b"".join(out)


def parse(cls: type[T], buffer: bytes, *, boxed: bool = True) -> T:
    """The value of class `cls` that is the whole of `buffer`, or `TlError`."""
    codec = cls.tl
    if boxed and not buffer.startswith(codec.id):
        raise TlError(f"not a {cls.__name__}")
    value, end = _read(codec.read, buffer, 4 if boxed else 0)
    _ends(buffer, end)
    assert isinstance(value, cls)
    return value


def parse_any(buffer: bytes) -> TlObject:
    """The value that is the whole of `buffer`, of any constructor, or `TlError`."""
    value, end = _read(_SCHEMA.read_any, buffer, 0)
    _ends(buffer, end)
    assert isinstance(value, TlObject)
    return value


def parse_prefix(buffer: bytes) -> tuple[TlObject, bytes]:
    """The value of any constructor that `buffer` begins with, and the rest; or `TlError`."""
    value, end = _read(_SCHEMA.read_any, buffer, 0)
    assert isinstance(value, TlObject)
    return value, buffer[end:]


@dataclass_transform(frozen_default=True)
def declared(cls: type[T]) -> type[T]:
    """Make a class a frozen dataclass, and bind it to the declaration that its name says.

    `dht.keyDescription` is DhtKeyDescription. Raises `TypeError` unless the fields are those of
    `schema.tl`: int, long: int; int128, int256, bytes: bytes; vector: tuple; flags.N?T: T | None.
    """
    return _SCHEMA.bind(cls)


def _read(read: Reader, buffer: bytes, at: int) -> tuple[object, int]:
    into: list[object] = []
    try:
        end = read(buffer, at, into)
    except (struct.error, IndexError):
        raise TlError("the buffer ends within a value") from None
    return into[0], end


def _ends(buffer: bytes, end: int) -> None:
    if end != len(buffer):
        raise TlError("bytes are left over")


class Field(NamedTuple):
    """A field as declared: `flag` is the bit it hangs on, None if it is always there."""

    name: str
    type: str
    flag: int | None = None


class Declaration(NamedTuple):
    """One line of a schema."""

    name: str
    fields: tuple[Field, ...]
    result: str
    id: bytes


class _Kind(NamedTuple):
    """What the schema calls a type: its class in Python, and how it is read and written."""

    python: Annotation
    read: Reader
    write: Writer
    depth: int = 0


@final
class Schema:
    """Declarations by name, and the classes bound to them so far."""

    def __init__(self, text: str) -> None:
        lines = [line for line in text.splitlines() if line and not line.startswith("//")]
        self.declarations = [_declaration(line) for line in lines]
        self._by_class = {_class_name(one.name): one for one in self.declarations}
        self._bound: dict[str, type[TlObject]] = {}
        self._readers: dict[bytes, Reader] = {}
        self.read_any = _read_boxed(self._readers, "constructor")

    def bind(self, cls: type[T]) -> type[T]:
        """See `declared`."""
        declaration = self._by_class.get(cls.__name__)
        if declaration is None or declaration.name in self._bound:
            raise TypeError(f"{cls.__name__}: no declaration, or bound already")
        made = dataclass(frozen=True, slots=True)(cls)
        made.tl = self._codec(declaration, made)
        self._bound[declaration.name] = made
        self._readers[made.tl.id] = made.tl.read
        return made

    def _codec(self, declaration: Declaration, cls: type[TlObject]) -> Codec:
        fields = [field for field in declaration.fields if field.type != "#"]
        kinds = [self._kind(field.type) for field in fields]
        depth = 1 + max((kind.depth for kind in kinds), default=0)
        if depth > MAX_NESTING:
            raise TypeError(f"{declaration.name} nests too deep")

        _compare(cls, fields, kinds)
        steps = [_Step(_attribute(f.name), _mask(f), k) for f, k in zip(fields, kinds, strict=True)]
        marks = [at for at, field in enumerate(declaration.fields) if field.type == "#"]
        match marks:
            case []:
                read, write = _read_plain(cls, steps), _write_plain(cls, steps)
            case [at]:
                head, tail = steps[:at], steps[at:]
                read, write = _read_flagged(cls, head, tail), _write_flagged(cls, head, tail)
            case _:
                raise TypeError(f"{declaration.name} has two fields of flags")
        return Codec(declaration.id, read, write, depth)

    def _kind(self, name: str) -> _Kind:
        if name in _PLAIN:
            return _PLAIN[name]
        if name.startswith("vector "):
            return _vector(self._kind(name.removeprefix("vector ")))
        if name.rpartition(".")[2][0].islower():
            return _bare(self._class(name))
        constructors = [one.name for one in self.declarations if one.result == name]
        return _boxed(name, [self._class(one) for one in constructors])

    def _class(self, name: str) -> type[TlObject]:
        if name not in self._bound:
            raise TypeError(f"{name} is used before its class is bound")
        return self._bound[name]


def _declaration(line: str) -> Declaration:
    number, _, text = line.partition(" ")
    text = " ".join(text.replace("(", " ").replace(")", " ").split())
    if crc32(text.encode()) != int(number, 16):
        raise ValueError(f"{number} is not the id of: {text}")
    left, _, result = text.partition(" = ")
    name, *words = left.replace("vector ", "vector_").split()
    fields = [_field(word.replace("vector_", "vector ")) for word in words]
    return Declaration(name, tuple(fields), result, int(number, 16).to_bytes(4, "little"))


def _field(word: str) -> Field:
    name, _, kind = word.partition(":")
    condition, asked, rest = kind.partition("?")
    if not asked:
        return Field(name, kind)
    return Field(name, rest, int(condition.rpartition(".")[2]))


def _class_name(name: str) -> str:
    return "".join(part[0].upper() + part[1:] for part in name.split("."))


class _Step(NamedTuple):
    name: str
    mask: int
    kind: _Kind


_ALWAYS: Final = 1 << 32
"""a bit above the 32 of flags: the mask of fields that hang on none."""


def _mask(field: Field) -> int:
    return _ALWAYS if field.flag is None else 1 << field.flag


def _compare(cls: type[TlObject], fields: list[Field], kinds: list[_Kind]) -> None:
    expected = {
        _attribute(field.name): kind.python if field.flag is None else kind.python | None
        for field, kind in zip(fields, kinds, strict=True)
    }
    found = cls.__annotations__
    if list(found.items()) != list(expected.items()):
        raise TypeError(f"{cls.__name__} has {found}, declared is {expected}")


def _attribute(name: str) -> str:
    """`from` cannot be a name in Python."""
    return f"{name}_" if iskeyword(name) else name


def _read_plain(cls: type[TlObject], steps: list[_Step]) -> Reader:
    readers = [step.kind.read for step in steps]

    def read(buffer: bytes, at: int, into: list[object]) -> int:
        values: list[object] = []
        for field in readers:
            at = field(buffer, at, values)
        into.append(cls(*values))
        return at

    return read


def _read_flagged(cls: type[TlObject], head: list[_Step], tail: list[_Step]) -> Reader:
    before = [step.kind.read for step in head]
    after = [(step.mask, step.kind.read) for step in tail]
    unknown = ~reduce(or_, (step.mask for step in tail), 0)

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


def _write_plain(cls: type[TlObject], steps: list[_Step]) -> Writer:
    writers = [step.kind.write for step in steps]
    values_of = _values_of(steps)

    def write(out: list[bytes], value: object) -> None:
        if type(value) is not cls:
            raise ValueError(f"{value!r} is not a {cls.__name__}")
        for field, one in zip(writers, values_of(value), strict=True):
            field(out, one)

    return write


def _write_flagged(cls: type[TlObject], head: list[_Step], tail: list[_Step]) -> Writer:
    before, head_of = [step.kind.write for step in head], _values_of(head)
    after, tail_of = [(step.mask, step.kind.write) for step in tail], _values_of(tail)

    def write(out: list[bytes], value: object) -> None:
        if type(value) is not cls:
            raise ValueError(f"{value!r} is not a {cls.__name__}")
        for field, one in zip(before, head_of(value), strict=True):
            field(out, one)

        values = tail_of(value)
        flags = _ALWAYS
        for (mask, _), one in zip(after, values, strict=True):
            if one is not None:
                flags |= mask
        out.append(_U32.pack(flags ^ _ALWAYS))

        for (mask, field), one in zip(after, values, strict=True):
            if flags & mask:
                field(out, one)

    return write


def _values_of(steps: list[_Step]) -> Callable[[object], tuple[object, ...]]:
    names = [step.name for step in steps]
    if not names:
        return lambda value: ()
    get = attrgetter(*names)
    return get if len(names) > 1 else lambda value: (get(value),)


def _bare(cls: type[TlObject]) -> _Kind:
    return _Kind(cls, cls.tl.read, cls.tl.write, cls.tl.depth)


def _boxed(name: str, classes: list[type[TlObject]]) -> _Kind:
    writers: dict[type[object], tuple[bytes, Writer]] = {
        cls: (cls.tl.id, cls.tl.write) for cls in classes
    }

    def write(out: list[bytes], value: object) -> None:
        found = writers.get(type(value))
        if found is None:
            raise ValueError(f"{value!r} is not a {name}")
        out.append(found[0])
        found[1](out, value)

    read = _read_boxed({cls.tl.id: cls.tl.read for cls in classes}, name)
    return _Kind(reduce(or_, classes), read, write, max(cls.tl.depth for cls in classes))


def _read_boxed(readers: Mapping[bytes, Reader], name: str) -> Reader:
    def read(buffer: bytes, at: int, into: list[object]) -> int:
        found = readers.get(buffer[at : at + 4])
        if found is None:
            raise TlError(f"no {name} has this id")
        return found(buffer, at + 4, into)

    return read


def _vector(item: _Kind) -> _Kind:
    read_item, write_item = item.read, item.write

    def read(buffer: bytes, at: int, into: list[object]) -> int:
        (count,) = _U32.unpack_from(buffer, at)
        at += 4
        if count > (len(buffer) - at) // 4:
            raise TlError("a vector longer than the buffer")
        items: list[object] = []
        for _ in range(count):
            at = read_item(buffer, at, items)
        into.append(tuple(items))
        return at

    def write(out: list[bytes], value: object) -> None:
        if not isinstance(value, tuple):
            raise ValueError(f"{value!r} is not a tuple")
        out.append(_U32.pack(len(value)))
        for one in value:
            write_item(out, one)

    return _Kind(GenericAlias(tuple, (item.python, ...)), read, write, item.depth)


def _number(layout: struct.Struct) -> _Kind:
    def read(buffer: bytes, at: int, into: list[object]) -> int:
        into += layout.unpack_from(buffer, at)
        return at + layout.size

    def write(out: list[bytes], value: object) -> None:
        out.append(layout.pack(value))

    return _Kind(int, read, write)


def _raw(size: int) -> _Kind:
    def read(buffer: bytes, at: int, into: list[object]) -> int:
        end = at + size
        if end > len(buffer):
            raise IndexError
        into.append(buffer[at:end])
        return end

    def write(out: list[bytes], value: object) -> None:
        if not isinstance(value, bytes) or len(value) != size:
            raise ValueError(f"{value!r} is not {size} bytes")
        out.append(value)

    return _Kind(bytes, read, write)


def _read_bytes(buffer: bytes, at: int, into: list[object]) -> int:
    size = buffer[at]
    start = at + 1
    if size == _LONG:
        size = int.from_bytes(buffer[at + 1 : at + 4], "little")
        start = at + 4
    if (size < _LONG) != (start == at + 1):
        raise TlError("bytes with a length of the wrong form")

    end = start + size
    stop = (end + 3) & ~3
    if stop > len(buffer):
        raise IndexError
    if buffer[end:stop] != _PADDING[stop - end]:
        raise TlError("padding that is not zero")
    into.append(buffer[start:end])
    return stop


def _write_bytes(out: list[bytes], value: object) -> None:
    if not isinstance(value, bytes) or len(value) > MAX_BYTES:
        raise ValueError("not bytes, or too many")
    size = len(value)
    head = bytes([size]) if size < _LONG else bytes([_LONG]) + size.to_bytes(3, "little")
    out += (head, value, _PADDING[-(len(head) + size) % 4])


def _read_bool(buffer: bytes, at: int, into: list[object]) -> int:
    value = _BOOLS.get(buffer[at : at + 4])
    if value is None:
        raise TlError("neither true nor false")
    into.append(value)
    return at + 4


def _write_bool(out: list[bytes], value: object) -> None:
    out.append(_TRUE if value else _FALSE)


_LONG: Final = 254
"""the first byte of `bytes` whose length takes three more; smaller ones are the length itself."""
_PADDING: Final = (b"", b"\0", b"\0\0", b"\0\0\0")
_U32: Final = struct.Struct("<I")
_TRUE: Final = bytes.fromhex("b5757299")
_FALSE: Final = bytes.fromhex("379779bc")
_BOOLS: Final = {_TRUE: True, _FALSE: False}

_PLAIN: Final = {
    "int": _number(struct.Struct("<i")),
    "long": _number(struct.Struct("<q")),
    "int128": _raw(16),
    "int256": _raw(32),
    "bytes": _Kind(bytes, _read_bytes, _write_bytes),
    "Bool": _Kind(bool, _read_bool, _write_bool),
}

_SCHEMA: Final = Schema(files("p2p").joinpath("schema.tl").read_text())
