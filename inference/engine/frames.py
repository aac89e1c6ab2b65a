"""What crosses the pipe to the engine's child: values of `base` as msgpack, and back, checked.

The child parses files of strangers in C, so the parent believes nothing of it: a value is built
only if every part has the type its field declares. Floats are allowed; the pipe is private.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from types import UnionType
from typing import Final, TypeAlias, get_args, get_origin

import msgpack  # type: ignore[import-untyped]  # ships no annotations; checked at both calls

from inference.engine.base import (
    EngineStatistics,
    Failed,
    Job,
    JobEvent,
    Loaded,
    Plan,
    Prepared,
    Prompt,
    Score,
    Scored,
)
from p2p import codec
from p2p.errors import CodecError

MAX_FRAME: Final = 16 * 1024 * 1024
"""bytes: four times the largest prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Load the model anew; answered by `Reply` with `call`, as all are that have one."""

    call: int
    plan: Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepare:
    """Render and tokenise."""

    call: int
    prompt: Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Score a claimed answer."""

    call: int
    task: Score


@dataclass(frozen=True, slots=True, kw_only=True)
class Unload:
    """Free the model."""

    call: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Submit:
    """Queue a job."""

    job: Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """Forget a job."""

    id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Compute nothing for a job."""

    id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Go on with a job."""

    id: int


Result: TypeAlias = Loaded | Prepared | Scored | Failed | None
"""What can come of a call; None where there is nothing to say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came of a call."""

    call: int
    result: Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """What a step meant, in order, each event with its job."""

    events: tuple[tuple[int, JobEvent], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The child's counters."""

    statistics: EngineStatistics


Call: TypeAlias = Load | Prepare | Rate | Unload
ToChild: TypeAlias = Call | Submit | Cancel | Pause | Resume
ToParent: TypeAlias = Reply | Events | Report


def encode(message: ToChild | ToParent) -> bytes:
    """A message as it travels, its length in front."""
    packed = msgpack.packb(_plain(message), use_bin_type=True)
    if not isinstance(packed, bytes):
        raise TypeError("msgpack returned no bytes")
    return codec.frame(packed)


def decode_to_child(body: bytes) -> ToChild:
    """A message of the parent, without its length. Raises `CodecError`."""
    message = _built(ToChild, _unpack(body))
    assert isinstance(message, ToChild)
    return message


def decode_to_parent(body: bytes) -> ToParent:
    """A message of the child, without its length. Raises `CodecError`."""
    message = _built(ToParent, _unpack(body))
    assert isinstance(message, ToParent)
    return message


def _unpack(body: bytes) -> object:
    try:
        plain: object = msgpack.unpackb(body, raw=False, use_list=False, strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise CodecError("no msgpack") from error
    return plain


# --- values to plain data: a dataclass is (name, its fields), an enum its value ---


def _plain(value: object) -> object:
    if is_dataclass(value):
        parts = [_plain(getattr(value, field.name)) for field in fields(value)]
        return type(value).__name__, parts
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


# --- and back, by the types that the fields declare ---


def _built(kind: object, plain: object) -> object:
    origin = get_origin(kind)
    if origin is UnionType:
        return _built_union(get_args(kind), plain)
    if origin is tuple:
        return _built_tuple(get_args(kind), plain)
    if origin is dict:
        return _built_dict(get_args(kind), plain)
    if not isinstance(kind, type):
        raise TypeError(f"fields of type {kind!r} cannot cross the pipe")
    if is_dataclass(kind):
        return _built_dataclass(kind, plain)
    return _built_scalar(kind, plain)


def _built_union(kinds: tuple[object, ...], plain: object) -> object:
    for kind in kinds:
        if _names(kind, plain) or kind is type(plain) or _values(kind, plain):
            return _built(kind, plain)
    raise CodecError("none of the types that may stand here")


def _values(kind: object, plain: object) -> bool:
    """Whether this is an enum with such a value."""
    if not isinstance(kind, type) or not issubclass(kind, Enum):
        return False
    return plain in [one.value for one in kind]


def _names(kind: object, plain: object) -> bool:
    if not isinstance(plain, tuple) or len(plain) != 2 or not isinstance(kind, type):
        return False
    return is_dataclass(kind) and kind.__name__ == plain[0]


def _built_tuple(kinds: tuple[object, ...], plain: object) -> object:
    if not isinstance(plain, tuple):
        raise CodecError("an array was expected")
    if kinds[1:] == (Ellipsis,):
        kinds = (kinds[0],) * len(plain)
    if len(kinds) != len(plain):
        raise CodecError("an array of another length was expected")
    return tuple(_built(kind, item) for kind, item in zip(kinds, plain, strict=True))


def _built_dict(kinds: tuple[object, ...], plain: object) -> object:
    if not isinstance(plain, dict):
        raise CodecError("a map was expected")
    return {_built(kinds[0], key): _built(kinds[1], plain[key]) for key in plain}


def _built_dataclass(kind: type, plain: object) -> object:
    if not _names(kind, plain):
        raise CodecError(f"{kind.__name__} was expected")
    assert isinstance(plain, tuple)
    declared = tuple(field.type for field in fields(kind))
    names = (field.name for field in fields(kind))
    values = _built_tuple(declared, plain[1]) if declared else ()
    assert isinstance(values, tuple)
    try:
        return kind(**dict(zip(names, values, strict=True)))
    except ValueError as error:
        raise CodecError(f"no {kind.__name__}") from error


def _built_scalar(kind: type, plain: object) -> object:
    if issubclass(kind, Enum):
        try:
            return kind(plain)
        except ValueError as error:
            raise CodecError(f"no {kind.__name__}") from error
    if kind is float and type(plain) is int:
        return float(plain)
    if type(plain) is not kind:
        raise CodecError(f"{kind.__name__} was expected")
    return plain
