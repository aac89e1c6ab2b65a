"""Tables of a TOML file as frozen dataclasses, strictly; and back; and their JSON schema.

The dataclasses are the specification: a field's type says what may stand there, `Between`, `Form`
and `Keys` narrow it. An unknown key, a wrong type and a value out of range are `WrongExperiment`,
which names `section.key` and, for a mistyped name, the nearest known one.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from difflib import get_close_matches
from types import UnionType
from typing import (
    Annotated,
    Final,
    Literal,
    TypeAlias,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from p2p.errors import LocalError

T = TypeVar("T")

Tree: TypeAlias = dict[str, object]
"""A table as `tomllib` and `json` give it."""

REST: Final = "rest"
"""Marks the field of a dataclass that takes the keys which no other field has."""


class WrongExperiment(LocalError):  # noqa: N818 - named like its siblings in p2p/errors.py
    """An experiment that cannot be: the message says where, what is wrong, and what would be."""


@dataclass(frozen=True, slots=True)
class Between:
    """The range of a number, ends included."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Form:
    """What a text must match as a whole, and that in words."""

    pattern: str
    words: str


@dataclass(frozen=True, slots=True)
class Keys:
    """The names that a table may have."""

    names: tuple[str, ...]


def read(kind: type[T], table: object, where: str = "") -> T:
    """A dataclass from a table; `where` stands before its keys in messages."""
    if not isinstance(table, Mapping):
        raise wrong(where, "a table", table)
    known = {_key(field): field for field in _fields(kind)}
    hints = get_type_hints(kind, include_extras=True)
    rest = next((field.name for field in known.values() if _is_rest(hints[field.name])), None)

    given: Tree = {}
    spare: Tree = {}
    for key, value in table.items():
        field = known.get(str(key))
        if field is not None and field.name != rest:
            given[field.name] = _value(hints[field.name], value, _join(where, str(key)))
        elif rest is not None:
            spare[str(key)] = value
        else:
            raise unknown(_join(where, str(key)), [_join(where, each) for each in known])
    if rest is not None:
        given[rest] = _value(hints[rest], spare, where)
    _need_all(known, given, where)
    return kind(**given)


def read_value(hint: object, value: object, where: str) -> object:
    """One value of a type, as a field of a dataclass would have it."""
    return _value(hint, value, where)


def plain(value: object) -> object:
    """A dataclass as the table that it can be read from again, all defaults written out."""
    match value:
        case Mapping():
            return {str(key): plain(each) for key, each in value.items()}
        case str() | bool() | int() | float() | None:
            return value
        case Sequence():
            return [plain(each) for each in value]
        case _:
            return _plain_fields(value)


def schema(kind: object) -> Tree:
    """The JSON schema of a field's type or of a whole dataclass."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return schema(arguments[0]) | _narrowed(arguments[1:])
    if origin in (Union, UnionType):
        return {"anyOf": [schema(each) for each in arguments]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": schema(arguments[0])}
    if origin is not None:
        return {"type": "object", "additionalProperties": schema(arguments[1])}
    if isinstance(kind, type) and is_dataclass(kind):
        return _table_schema(kind)
    return {"type": _JSON_TYPES[kind]} if kind in _JSON_TYPES else {}


def unknown(name: str, known: Iterable[str]) -> WrongExperiment:
    """Nothing has this name; it may be a slip."""
    known = list(known)
    near = get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]}?" if near else f"Known are {', '.join(sorted(known))}."
    return WrongExperiment(f"There is no {name}. {hint}")


def wrong(where: str, wanted: str, value: object) -> WrongExperiment:
    """Something else stands where `wanted` should."""
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return WrongExperiment(f"{where or 'The experiment'} must be {wanted}, not {shown}.")


# --- values ---

_WORDS: Final[Mapping[object, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
}
_JSON_TYPES: Final[Mapping[object, str]] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
}


def _value(hint: object, value: object, where: str) -> object:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _narrow(arguments[1:], _value(arguments[0], value, where), where)
    if origin in (Union, UnionType):
        return _one_of(arguments, value, where)
    if origin is Literal:
        return _literal(arguments, value, where)
    if origin is tuple:
        return _items(arguments[0], value, where)
    if origin is not None:
        return _entries(arguments[1], value, where)
    if isinstance(hint, type) and is_dataclass(hint):
        return read(hint, value, where)
    return _scalar(hint, value, where)


def _scalar(hint: object, value: object, where: str) -> object:
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is hint:
        return value
    raise wrong(where, _WORDS[hint], value)


def _literal(choices: tuple[object, ...], value: object, where: str) -> object:
    if value in choices and isinstance(value, str):
        return value
    near = get_close_matches(str(value), [str(each) for each in choices], n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise WrongExperiment(f"{wrong(where, _list(choices), value)}{hint}")


def _one_of(hints: tuple[object, ...], value: object, where: str) -> object:
    """A table belongs to the one alternative that is a table: what is wrong in it is said."""
    tables = [hint for hint in hints if _is_table(hint)]
    if isinstance(value, Mapping) and len(tables) == 1:
        return _value(tables[0], value, where)
    said = None
    for hint in hints:
        try:
            return _value(hint, value, where)
        except WrongExperiment as error:
            said = error if said is None or get_origin(hint) is Literal else said
    if said is not None and isinstance(value, str):
        raise said
    raise wrong(where, " or ".join(_describe(hint) for hint in hints), value)


def _items(hint: object, value: object, where: str) -> tuple[object, ...]:
    if not isinstance(value, list | tuple | range):
        raise wrong(where, f"a list of {_describe(hint)}", value)
    return tuple(_value(hint, each, f"{where}[{at}]") for at, each in enumerate(value))


def _entries(hint: object, value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise wrong(where, "a table", value)
    return {str(key): _value(hint, each, _join(where, str(key))) for key, each in value.items()}


def _narrow(notes: tuple[object, ...], value: object, where: str) -> object:
    for note in notes:
        match note:
            case Between(low, high) if isinstance(value, int | float):
                if not low <= value <= high:
                    raise wrong(where, f"from {low:g} to {high:g}", value)
            case Form(pattern, words) if isinstance(value, str):
                if re.fullmatch(pattern, value) is None:
                    raise wrong(where, words, value)
            case Keys(names) if isinstance(value, Mapping):
                for key in value:
                    if key not in names:
                        raise unknown(_join(where, key), [_join(where, each) for each in names])
            case _:
                pass
    return value


# --- dataclasses ---


def _fields(kind: object) -> tuple["Field[object]", ...]:
    assert isinstance(kind, type)
    assert is_dataclass(kind)
    return fields(kind)


def _key(field: "Field[object]") -> str:
    """The name in the file: that of the field, unless Python has taken it (`for`)."""
    return str(field.metadata.get("key", field.name))


def _is_rest(hint: object) -> bool:
    return get_origin(hint) is Annotated and REST in get_args(hint)[1:]


def _is_table(hint: object) -> bool:
    inner = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return is_dataclass(inner) or get_origin(inner) not in (None, tuple, Literal)


def _need_all(known: Mapping[str, "Field[object]"], given: Tree, where: str) -> None:
    for key, field in known.items():
        required = field.default is MISSING and field.default_factory is MISSING
        if required and field.name not in given:
            raise WrongExperiment(f"{_join(where, key)} is missing.")


def _plain_fields(value: object) -> Tree:
    kind = type(value)
    hints = get_type_hints(kind, include_extras=True)
    found: Tree = {}
    for field in _fields(kind):
        each = plain(getattr(value, field.name))
        if _is_rest(hints[field.name]) and isinstance(each, dict):
            found |= each
        else:
            found[_key(field)] = each
    return found


def _table_schema(kind: object) -> Tree:
    assert isinstance(kind, type)
    hints = get_type_hints(kind, include_extras=True)
    rest = [field for field in _fields(kind) if _is_rest(hints[field.name])]
    own = [field for field in _fields(kind) if field not in rest]
    return {
        "type": "object",
        "properties": {_key(field): schema(hints[field.name]) for field in own},
        "required": [
            _key(field)
            for field in own
            if field.default is MISSING and field.default_factory is MISSING
        ],
        "additionalProperties": bool(rest),
    }


def _narrowed(notes: tuple[object, ...]) -> Tree:
    found: Tree = {}
    for note in notes:
        match note:
            case Between(low, high):
                found |= {"minimum": low, "maximum": high}
            case Form(pattern, _):
                found |= {"pattern": f"^(?:{pattern})$"}
            case Keys(names):
                found |= {"propertyNames": {"enum": list(names)}}
            case _:
                pass
    return found


def _describe(hint: object) -> str:
    if get_origin(hint) is Annotated:
        return _describe(get_args(hint)[0])
    if get_origin(hint) is Literal:
        return _list(get_args(hint))
    if get_origin(hint) is tuple:
        return "a list"
    return _WORDS.get(hint, "a table")


def _list(choices: tuple[object, ...]) -> str:
    return " or ".join(filter(None, [", ".join(map(str, choices[:-1])), str(choices[-1])]))


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
