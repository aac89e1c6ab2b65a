"""A JSON schema as a grammar (GBNF), so that whatever a model says is an instance of it.

The grammar may be narrower than the schema: properties come in the order in which they are
declared, others do not come, strings and lists have an end, and white space is one blank at most.
It is never wider. A keyword that it cannot follow is refused by name, not ignored, and nothing is
ever fetched: `$ref` points into the schema itself.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, final

MAX_GRAMMAR: Final = 64 * 1024
"""bytes of a grammar"""

MAX_RULES: Final = 2_000

MAX_REPEAT: Final = 1_000
"""of characters or items, that a schema bounds: llama.cpp unrolls repetitions"""

MAX_DIGITS: Final = 15
"""of a whole number without a bound: what a double holds exactly"""

Json: TypeAlias = bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"] | None
Schema: TypeAlias = Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Unusable:
    """A schema that no grammar follows."""

    place: str
    """where in it"""
    why: str


def grammar_of(schema: Json, before: str = "", after: str = "") -> str | Unusable:
    """The grammar of a schema's instances between two texts, its first rule `root`."""
    try:
        return _Writer(schema).text(before, after)
    except _Bad as bad:
        return bad.unusable
    except RecursionError:
        return Unusable("#", "it is too deep")


def parsed(text: str) -> Json | Unusable:
    """A schema as JSON has it, not too deep."""
    try:
        schema: Json = json.loads(text)
    except (ValueError, RecursionError):
        return Unusable("#", "it is no JSON")
    return schema


def calls_of(tools: Sequence[tuple[str, str]]) -> Json | Unusable:
    """The schema of a call of one of these tools, each a name and the schema of its arguments."""
    choices: list[Json] = []
    for name, parameters in tools:
        arguments = parsed(parameters)
        if isinstance(arguments, Unusable):
            return arguments
        place = f"#/anyOf/{len(choices)}/properties/arguments"
        try:
            arguments = _moved(arguments, place)
        except RecursionError:
            return Unusable("#", "it is too deep")
        choices.append(
            {
                "type": "object",
                "properties": {"name": {"const": name}, "arguments": arguments},
                "required": ["name", "arguments"],
            }
        )
    return {"anyOf": choices}


def _moved(schema: Json, place: str) -> Json:
    """The same schema with what points into it pointing to its new place."""
    if isinstance(schema, Mapping):
        return {
            key: f"{place}{value[1:]}"
            if key == "$ref" and isinstance(value, str) and value.startswith("#")
            else _moved(value, place)
            for key, value in schema.items()
        }
    return [_moved(one, place) for one in schema] if isinstance(schema, list) else schema


class _Bad(Exception):  # noqa: N818 - never leaves this module
    def __init__(self, place: str, why: str) -> None:
        super().__init__(why)
        self.unusable = Unusable(place or "#", why)


_NOTES: Final = (
    *("title", "description", "default", "examples", "$schema", "$id", "$comment", "$defs"),
    *("definitions", "deprecated", "readOnly", "writeOnly", "format"),
)
"""Keywords that say nothing of which instances are valid."""

_OF_TYPE: Final[Mapping[str, tuple[str, ...]]] = {
    "object": ("properties", "required", "additionalProperties", "minProperties", "maxProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems", "uniqueItems"),
    "string": ("minLength", "maxLength"),
    "integer": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    "boolean": (),
    "null": (),
}

_RULES: Final[Mapping[str, str]] = {
    "ws": '" "?',
    "char": r'[^"\\\x7F\x00-\x1F] | [\\] (["\\bfnrt/] | "u" [0-9a-fA-F]{4})',
    "string": r'"\"" char* "\""',
    "natural": f'"0" | [1-9] [0-9]{{0,{MAX_DIGITS - 1}}}',
    "fraction": f'"." [0-9]{{1,{MAX_DIGITS}}}',
    "integer": '"-"? natural',
    "number": '"-"? natural fraction? ([eE] [-+]? [0-9]{1,2})?',
    "boolean": '"true" | "false"',
    "null": '"null"',
    "member": 'string ws ":" ws value',
    "object": '"{" ws (member (ws "," ws member)*)? ws "}"',
    "array": '"[" ws (value (ws "," ws value)*)? ws "]"',
    "value": "object | array | string | number | boolean | null",
    "date": '[0-9]{4} "-" ("0" [1-9] | "1" [0-2]) "-" ("0" [1-9] | "1" [0-9] | "2" [0-8])',
    "time": '([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] "Z"',
    "hex": "[0-9a-f]",
}
"""Rules that need no schema."""

_FORMATS: Final[Mapping[str, str]] = {
    "date": r'"\"" date "\""',
    "time": r'"\"" time "\""',
    "date-time": r'"\"" date "T" time "\""',
    "uuid": r'"\"" hex{8} "-" hex{4} "-" hex{4} "-" hex{4} "-" hex{12} "\""',
}


@final
class _Writer:
    """Rules as they are needed; each schema that is pointed to has one of its own."""

    def __init__(self, schema: Json) -> None:
        self._root = schema
        self._rules: dict[str, str] = {}
        self._refs: dict[str, str] = {}
        self._writers: Mapping[str, Callable[[Schema, str], str]] = {
            "object": self._object,
            "array": self._array,
            "string": self._string,
            "integer": self._integer,
            "number": self._number,
            "boolean": lambda schema, place: "boolean",
            "null": lambda schema, place: "null",
        }

    def text(self, before: str, after: str) -> str:
        """The whole grammar."""
        instance = self._schema(self._root, "")
        root = f"{_quoted(before)} {instance} {_quoted(after)}" if before or after else instance
        rules = {"root": root, **self._rules, **_RULES}
        text = "".join(f"{name} ::= {body}\n" for name, body in rules.items())
        if len(text.encode()) > MAX_GRAMMAR:
            raise _Bad("", f"its grammar is longer than {MAX_GRAMMAR} bytes")
        return text

    def _named(self, body: str) -> str:
        """A new rule; its name."""
        name = f"r{len(self._rules)}"
        if len(self._rules) >= MAX_RULES:
            raise _Bad("", f"it needs more than {MAX_RULES} rules")
        self._rules[name] = body
        return name

    # --- any schema: an expression for its instances ---

    def _schema(self, schema: Json, place: str) -> str:
        if schema is True:
            return "value"
        if not isinstance(schema, Mapping):
            raise _Bad(place, "it is no schema that has instances")
        for word, write in (("$ref", self._ref), ("enum", self._enum), ("const", self._const)):
            if word in schema:
                return write(schema, place)
        for word in ("anyOf", "oneOf"):
            if word in schema:
                self._check(schema, place, word)
                return self._choice(schema[word], f"{place}/{word}")
        if "allOf" in schema:
            return self._schema(_merged(schema, place), place)
        return self._typed(schema, place)

    def _check(self, schema: Schema, place: str, *words: str) -> None:
        for word in schema:
            if word not in words and word not in _NOTES:
                raise _Bad(f"{place}/{word}", f"{word} cannot be followed here")

    def _ref(self, schema: Schema, place: str) -> str:
        self._check(schema, place, "$ref")
        target = schema["$ref"]
        if not isinstance(target, str) or not target.startswith("#"):
            raise _Bad(f"{place}/$ref", "it must point into the schema itself")
        if target not in self._refs:
            name = self._refs[target] = self._named("")  # known before: it may point to itself
            self._rules[name] = self._schema(self._pointed(target, place), target)
        return self._refs[target]

    def _pointed(self, target: str, place: str) -> Json:
        found = self._root
        for part in target[1:].split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            if isinstance(found, Mapping) and name in found:
                found = found[name]
            elif isinstance(found, list) and name.isdecimal() and int(name) < len(found):
                found = found[int(name)]
            else:
                raise _Bad(f"{place}/$ref", f"there is no {target}")
        return found

    def _enum(self, schema: Schema, place: str) -> str:
        self._check(schema, place, "enum", "type")
        values = schema["enum"]
        if not isinstance(values, list | tuple) or not values:
            raise _Bad(f"{place}/enum", "it must be a list of values")
        fitting = [value for value in values if _has_type(value, schema.get("type"))]
        if not fitting:
            raise _Bad(f"{place}/enum", "no value is of the type that is asked for")
        return _either([_literal(value) for value in fitting])

    def _const(self, schema: Schema, place: str) -> str:
        self._check(schema, place, "const", "type")
        return _literal(schema["const"])

    def _choice(self, schemas: Json, place: str) -> str:
        if not isinstance(schemas, list | tuple) or not schemas:
            raise _Bad(place, "it must be a list of schemas")
        parts = [self._schema(one, f"{place}/{at}") for at, one in enumerate(schemas)]
        return self._named(_either(parts))

    def _typed(self, schema: Schema, place: str) -> str:
        kinds = schema.get("type", _implied(schema))
        names = kinds if isinstance(kinds, list | tuple) else (kinds,)
        if names == (None,):
            self._check(schema, place)
            return "value"
        if not names or not all(isinstance(name, str) and name in _OF_TYPE for name in names):
            raise _Bad(f"{place}/type", "it must be a type of JSON")
        known = [word for name in names for word in _OF_TYPE[str(name)]]
        self._check(schema, place, "type", *known)
        return _either([self._writers[str(name)](schema, place) for name in names])

    # --- by type ---

    def _object(self, schema: Schema, place: str) -> str:
        properties, required = schema.get("properties", {}), schema.get("required", ())
        if not isinstance(properties, Mapping) or not isinstance(required, list | tuple):
            raise _Bad(place, "properties must be an object, and required a list")
        wanted = {name: properties.get(name, True) for name in map(str, required)}
        every = {**properties, **wanted}
        self._check_count(schema, place, len(wanted), len(every))
        if not every:
            return self._open_object(schema.get("additionalProperties", True), place)
        tail = ('ws "}"', 'ws "}"')  # after nothing, and after something
        for name, one in reversed(every.items()):
            value = self._schema(one, f"{place}/properties/{name}")
            tail = self._before(f'{_literal(name)} ws ":" ws {value}', tail, name in wanted)
        return f'"{{" ws {tail[0]}'

    def _before(self, member: str, tail: tuple[str, str], is_wanted: bool) -> tuple[str, str]:
        """What may stand from a property on: if none came before it, and if one did."""
        alone, after = f"{member} {tail[1]}", f'ws "," ws {member} {tail[1]}'
        if is_wanted:
            return self._named(alone), self._named(after)
        return self._named(_either([alone, tail[0]])), self._named(_either([after, tail[1]]))

    def _check_count(self, schema: Schema, place: str, least: int, most: int) -> None:
        low = _whole(schema, "minProperties", place) or 0
        high = _whole(schema, "maxProperties", place)
        if low > least or (high is not None and (high < most or not most)):
            raise _Bad(place, "a number of properties cannot be followed: name them as required")

    def _open_object(self, values: Json, place: str) -> str:
        if values is False:
            return '"{" ws "}"'
        value = self._schema(values, f"{place}/additionalProperties")
        member = f'string ws ":" ws {value}'
        return self._named(f'"{{" ws ({member} (ws "," ws {member})*)? ws "}}"')

    def _array(self, schema: Schema, place: str) -> str:
        if schema.get("uniqueItems"):
            raise _Bad(f"{place}/uniqueItems", "that no item comes twice cannot be followed")
        first = schema.get("prefixItems", ())
        if not isinstance(first, list | tuple):
            raise _Bad(f"{place}/prefixItems", "it must be a list of schemas")
        low = max(len(first), _whole(schema, "minItems", place) or 0)
        high = _whole(schema, "maxItems", place)
        if low > MAX_REPEAT or (high is not None and high < low):
            raise _Bad(place, f"it must have from {low} to at most {MAX_REPEAT} items")
        rest = schema.get("items", not first)
        if rest is False:
            rest, high = True, len(first)
        item = self._named(self._schema(rest, f"{place}/items"))
        heads = [self._schema(one, f"{place}/prefixItems/{at}") for at, one in enumerate(first)]
        return f'"[" ws {_items(heads, item, low, high)} ws "]"'

    def _string(self, schema: Schema, place: str) -> str:
        form, low = schema.get("format"), _whole(schema, "minLength", place) or 0
        high = _whole(schema, "maxLength", place)
        if low > MAX_REPEAT or (high is not None and high < low):
            raise _Bad(place, f"it must have from {low} to at most {MAX_REPEAT} characters")
        if not low and high is None:
            return _FORMATS.get(form, "string") if isinstance(form, str) else "string"
        most = "" if high is None else str(min(high, MAX_REPEAT))
        return rf'"\"" char{{{low},{most}}} "\""'

    def _integer(self, schema: Schema, place: str) -> str:
        if schema.get("multipleOf", 1) != 1:
            raise _Bad(f"{place}/multipleOf", "multiples cannot be followed")
        low, high = _bounds(schema, place)
        return "integer" if low is high is None else self._named(_range(low, high, place))

    def _number(self, schema: Schema, place: str) -> str:
        low, high = _bounds(schema, place)
        if low is high is None:
            return "number"
        return self._named(_range(low, high, place, fraction=" fraction"))


# --- objects and lists ---


def _merged(schema: Schema, place: str) -> Schema:
    """One schema of an `allOf` of objects, or of a single one."""
    parts, rest = schema["allOf"], {key: schema[key] for key in schema if key != "allOf"}
    if not isinstance(parts, list | tuple) or not all(isinstance(one, Mapping) for one in parts):
        raise _Bad(f"{place}/allOf", "it must be a list of schemas")
    every = [one for one in (rest, *parts) if isinstance(one, Mapping) and _words(one)]
    if len(every) == 1:
        return every[0]
    properties: dict[str, Json] = {}
    required: list[Json] = []
    for one in every:
        if (
            not all(word in _JOINED for word in _words(one))
            or one.get("type", "object") != "object"
        ):
            raise _Bad(f"{place}/allOf", "only objects with other properties can be joined")
        own, wanted = one.get("properties", {}), one.get("required", ())
        if not isinstance(own, Mapping) or not isinstance(wanted, list | tuple):
            raise _Bad(f"{place}/allOf", "properties must be an object, and required a list")
        if any(name in properties for name in own):
            raise _Bad(f"{place}/allOf", "a property stands in two of them")
        properties |= own
        required += wanted
    return {"type": "object", "properties": properties, "required": required}


_JOINED: Final = ("type", "properties", "required")
"""keywords of schemas that can be joined"""


def _items(heads: Sequence[str], item: str, low: int, high: int | None) -> str:
    """Items with commas between them, `heads` first."""
    comma = ' ws "," ws '
    least = max(0, low - len(heads))
    most = None if high is None else min(high, MAX_REPEAT) - len(heads)
    if heads:
        more = "" if most == 0 else f' (ws "," ws {item}){_times(least, most)}'
        return comma.join(heads) + more
    if most == 0:
        return ""
    rest = f'(ws "," ws {item}){_times(max(0, least - 1), None if most is None else most - 1)}'
    return f"{item} {rest}" if least else f"({item} {rest})?"


def _times(low: int, high: int | None) -> str:
    return f"{{{low},{'' if high is None else high}}}"


# --- numbers ---


def _bounds(schema: Schema, place: str) -> tuple[float | None, float | None]:
    """The least and the most, as numbers that are themselves allowed; for fractions a little
    narrower than asked where a bound is excluded."""
    low, high = (_real(schema, word, place) for word in ("minimum", "maximum"))
    above, below = (_real(schema, word, place) for word in ("exclusiveMinimum", "exclusiveMaximum"))
    if above is not None:
        low = max(math.floor(above) + 1, -math.inf if low is None else low)
    if below is not None:
        high = min(math.ceil(below) - 1, math.inf if high is None else high)
    return low, high


def _range(low: float | None, high: float | None, place: str, fraction: str = "") -> str:
    """Numbers between two bounds; with fractions wherever the next whole number is one, too."""
    least = None if low is None else math.ceil(low)
    most = None if high is None else math.floor(high)
    parts = []
    if most is None or most >= 0:
        parts += _above(max(0, least or 0), most, fraction)
    if least is None or least < 0:
        start = 1 if most is None or most >= 0 else -most
        parts += [f'"-" ({part})' for part in _above(start, None if least is None else -least, "")]
    if not parts:
        raise _Bad(place, "no number is within its bounds")
    return _either(parts)


def _above(low: int, high: int | None, fraction: str) -> list[str]:
    parts = _digits(low, high)
    if fraction and (high is None or high - 1 >= low):
        whole = _either(_digits(low, None if high is None else high - 1))
        parts.append(f"({whole}){fraction}")
    return parts


def _digits(low: int, high: int | None) -> list[str]:
    """Whole numbers from `low` to `high`, none of them negative."""
    if high is not None and high < low:
        return []
    parts, start = [], low
    while high is None or start <= high:
        text = str(start)
        end = 10 ** len(text) - 1
        if len(text) > MAX_DIGITS:
            break
        if high is None and start == 10 ** (len(text) - 1) and start:
            parts.append(f"[1-9] [0-9]{{{len(text) - 1},{MAX_DIGITS - 1}}}")
            break
        top = end if high is None else min(end, high)
        parts.append(_same_length(text, str(top)))
        start = top + 1
    return parts


def _same_length(low: str, high: str) -> str:
    """Digits from `low` to `high`, which have as many."""
    if not low:
        return '""'
    if low[0] == high[0]:
        return f'"{low[0]}" {_grouped(_same_length(low[1:], high[1:]))}'.removesuffix(' ""')
    rest = len(low) - 1
    if not low[1:].strip("0") and not high[1:].strip("9"):
        return f"[{low[0]}-{high[0]}]{_any(rest)}"
    parts = [f'"{low[0]}" {_grouped(_same_length(low[1:], "9" * rest))}']
    if int(high[0]) - int(low[0]) > 1:
        parts.append(f"[{int(low[0]) + 1}-{int(high[0]) - 1}]{_any(rest)}")
    parts.append(f'"{high[0]}" {_grouped(_same_length("0" * rest, high[1:]))}')
    return _either(parts)


def _any(count: int) -> str:
    return f" [0-9]{{{count}}}" if count else ""


def _grouped(expression: str) -> str:
    return f"({expression})" if "|" in expression else expression


def _whole(schema: Schema, word: str, place: str) -> int | None:
    value = schema.get(word)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _Bad(f"{place}/{word}", "it must be a whole number")
    return value


def _real(schema: Schema, word: str, place: str) -> float | None:
    value = schema.get(word)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _Bad(f"{place}/{word}", "it must be a number")
    if not abs(value) < 10**MAX_DIGITS:
        raise _Bad(f"{place}/{word}", f"it has more than {MAX_DIGITS} digits")
    return value


# --- values and words ---


def _implied(schema: Schema) -> str | None:
    """The type that keywords speak of, where none is named."""
    words = _words(schema)
    for name in ("object", "array", "string"):
        if words and all(word in _OF_TYPE[name] for word in words):
            return name
    return None


def _words(schema: Schema) -> list[str]:
    """The keywords that say which instances are valid."""
    return [word for word in schema if word not in _NOTES]


def _has_type(value: Json, kinds: Json) -> bool:
    if kinds is None:
        return True
    names = kinds if isinstance(kinds, list | tuple) else (kinds,)
    match value:
        case bool():
            return "boolean" in names
        case None:
            return "null" in names
        case int():
            return "integer" in names or "number" in names
        case float():
            return "number" in names
        case str():
            return "string" in names
        case Mapping():
            return "object" in names
        case _:
            return "array" in names


def _either(parts: Sequence[str]) -> str:
    unlike = list(dict.fromkeys(parts))
    return unlike[0] if len(unlike) == 1 else "(" + " | ".join(unlike) + ")"


def _literal(value: Json) -> str:
    """The text of one value, quoted for a grammar."""
    return _quoted(json.dumps(value, ensure_ascii=False))


def _quoted(text: str) -> str:
    for plain, written in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n")):
        text = text.replace(plain, written)
    return f'"{text}"'
