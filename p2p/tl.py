"""TL, the binary format of TON: values of the declarations in `schema.tl` to bytes and back.

The file is the only source of the wire format. A class of `p2p.ton` is bound to the declaration of
its name when it is defined: fields, order and types are compared, and how it is read and written is
put together (`p2p.tltypes`).

What holds for every buffer that is accepted: it is the one encoding of its value. Padding that is
not zero and a length longer than it need be are refused, though TON's own parser lets both pass:
no sender writes them, and so what was signed or hashed may be checked on the bytes received or on
the value packed again. `bytes` stay bytes: nothing in them is parsed because it looks like TL.
"""

import struct
from dataclasses import dataclass
from importlib.resources import files
from keyword import iskeyword
from typing import ClassVar, Final, NamedTuple, TypeVar, dataclass_transform, final

from p2p import schema, tltypes
from p2p.errors import TlError
from p2p.tltypes import Kind, Reader, Step

MAX_NESTING: Final = 8
"""records within one another. No declaration may go deeper, so no buffer can."""


class Codec(NamedTuple):
    """How a class is known on the wire."""

    id: bytes
    """in front of a boxed value; what a router of payloads looks at."""
    kind: Kind


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
        codec.kind.write(out, value)
    except struct.error as error:
        raise ValueError(f"{type(value).__name__}: {error}") from error
    return b"".join(out)


def parse(cls: type[T], buffer: bytes, *, boxed: bool = True) -> T:
    """The value of class `cls` that is the whole of `buffer`, or `TlError`."""
    codec = cls.tl
    if boxed and not buffer.startswith(codec.id):
        raise TlError(f"not a {cls.__name__}")
    value, end = _read(codec.kind.read, buffer, 4 if boxed else 0)
    _ends(buffer, end)
    assert isinstance(value, cls)
    return value


def parse_any(buffer: bytes) -> TlObject:
    """The value that is the whole of `buffer`, of any constructor, or `TlError`."""
    value, rest = parse_prefix(buffer)
    _ends(rest, 0)
    return value


def parse_prefix(buffer: bytes) -> tuple[TlObject, bytes]:
    """The value of any constructor that `buffer` begins with, and the rest; or `TlError`."""
    value, end = parse_at(buffer, 0)
    return value, buffer[end:]


def parse_at(buffer: bytes, at: int) -> tuple[TlObject, int]:
    """The value of any constructor that begins there, and where it ends; or `TlError`.

    TL fills up to multiples of four from the start of the buffer: `at` is one of them.
    """
    value, end = _read(_BINDING.read_any, buffer, at)
    assert isinstance(value, TlObject)
    return value, end


def parse_bare_at(cls: type[T], buffer: bytes, at: int) -> tuple[T, int]:
    """The value of class `cls` that begins there, bare, and where it ends; or `TlError`."""
    value, end = _read(cls.tl.kind.read, buffer, at)
    assert isinstance(value, cls)
    return value, end


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


@dataclass_transform(frozen_default=True)
def declared(cls: type[T]) -> type[T]:
    """Make a class a frozen dataclass, and bind it to the declaration that its name says.

    `dht.keyDescription` is DhtKeyDescription, a field `from` is `from_`. Raises `TypeError` unless
    the fields are those of `schema.tl` in its order: int and long are int, int128, int256 and bytes
    are bytes, a vector is a tuple, `flags.N?T` is T | None, and the flags are not a field.
    """
    return _BINDING.bind(cls)


@final
class Binding:
    """Classes bound to the declarations of a schema, each after those it is made of."""

    def __init__(self, text: str) -> None:
        self.declarations = schema.read(text)
        self._unbound = {one.class_name: one for one in self.declarations}
        self._bound: dict[str, type[TlObject]] = {}
        self._readers: dict[bytes, Reader] = {}
        self.read_any: Final = tltypes.read_boxed("constructor", self._readers)

    def bind(self, cls: type[T]) -> type[T]:
        """See `declared`."""
        declaration = self._unbound.get(cls.__name__)
        if declaration is None:
            raise TypeError(f"{cls.__name__} is not declared, or bound already")
        made = dataclass(frozen=True, slots=True)(cls)
        made.tl = Codec(declaration.id, self._record(declaration, made))
        del self._unbound[cls.__name__]
        self._bound[declaration.name] = made
        self._readers[made.tl.id] = made.tl.kind.read
        return made

    def _record(self, declaration: schema.Declaration, cls: type[TlObject]) -> Kind:
        steps = [
            Step(_attribute(field.name), self._kind(field.type), field.flag)
            for field in declaration.fields
        ]
        _compare(cls, steps)
        kind = tltypes.record(cls, steps, declaration.flags_at)
        if kind.depth > MAX_NESTING:
            raise TypeError(f"{declaration.name} nests too deep")
        return kind

    def _kind(self, name: str) -> Kind:
        if name in tltypes.PLAIN:
            return tltypes.PLAIN[name]
        if name.startswith("vector "):
            return tltypes.vector(self._kind(name.removeprefix("vector ")))
        if name.rpartition(".")[2][0].islower():
            return self._codec(name).kind

        members = [self._codec(one.name) for one in self.declarations if one.result == name]
        return tltypes.boxed(name, {codec.id: codec.kind for codec in members})

    def _codec(self, name: str) -> Codec:
        if name not in self._bound:
            raise TypeError(f"{name} is used before its class is bound")
        return self._bound[name].tl


def _compare(cls: type[TlObject], steps: list[Step]) -> None:
    expected = {
        step.name: step.kind.python if step.flag is None else step.kind.python | None
        for step in steps
    }
    if list(cls.__annotations__.items()) != list(expected.items()):
        raise TypeError(f"{cls.__name__} has {cls.__annotations__}, declared is {expected}")


def _attribute(name: str) -> str:
    return f"{name}_" if iskeyword(name) else name


_BINDING: Final = Binding(files("p2p").joinpath("schema.tl").read_text())
