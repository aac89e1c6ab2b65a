"""An experiment as the text of a TOML file: all its values, in the order of the dataclasses."""

import json
import re
from collections.abc import Iterator, Mapping

from simulations.experiment import Experiment, as_tree


def as_toml(exp: Experiment) -> str:
    """The file that this experiment is read from again."""
    return "\n".join(_lines(as_tree(exp))).strip() + "\n"


def _lines(tree: Mapping[str, object]) -> Iterator[str]:
    for key, value in tree.items():
        if not isinstance(value, Mapping) and not _is_tables(value):
            yield f"{key} = {_value(value)}"
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield f"\n[{key}]"
            yield from (f"{_key(name)} = {_value(each)}" for name, each in value.items())
        elif isinstance(value, list) and _is_tables(value):
            for table in value:
                yield f"\n[[{key}]]"
                yield from (f"{_key(name)} = {_value(each)}" for name, each in table.items())


def _is_tables(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, Mapping) for each in value)


def _value(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case str():
            return json.dumps(value, ensure_ascii=False)
        case list():
            return f"[{', '.join(map(_value, value))}]"
        case Mapping():
            entries = (f"{_key(key)} = {_value(each)}" for key, each in value.items())
            return f"{{{', '.join(entries)}}}"
        case _:
            raise TypeError(f"{value!r} is no value of TOML")


def _key(name: str) -> str:
    """A key as it stands; one with dots is one key all the same."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)
