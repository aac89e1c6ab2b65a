"""The text of a TL schema, read: constructors, their fields, and their ids on the wire.

A line is the id in hexadecimal and the declaration that it is the CRC-32 of, as `schema.tl` has it:

    6b561285 adnl.node id:PublicKey addr_list:adnl.addressList = adnl.Node
"""

import re
from typing import Final, NamedTuple
from zlib import crc32


class Field(NamedTuple):
    """A field as declared: `flag` is the bit it hangs on, None if it is always there."""

    name: str
    type: str
    flag: int | None = None


class Declaration(NamedTuple):
    """A constructor or a function; TL tells them apart no further."""

    name: str
    fields: tuple[Field, ...]
    flags_at: int | None
    """before which field the flags (`#`) stand, themselves none of `fields`."""
    result: str
    id: bytes
    """as it stands on the wire, in front of a boxed value."""

    @property
    def class_name(self) -> str:
        """DhtKeyDescription for `dht.keyDescription`."""
        return "".join(part[0].upper() + part[1:] for part in self.name.split("."))


def read(text: str) -> list[Declaration]:
    """Every declaration in a schema. Raises `ValueError` for an id that is not its own."""
    lines = text.splitlines()
    return [_declaration(line) for line in lines if line and not line.startswith("//")]


def _declaration(line: str) -> Declaration:
    number, _, text = line.partition(" ")
    text = " ".join(text.replace("(", "").replace(")", "").split())
    if crc32(text.encode()) != int(number, 16):
        raise ValueError(f"{number} is not the id of: {text}")

    left, _, result = text.partition(" = ")
    name, _, rest = left.partition(" ")
    fields = [_field(found) for found in _FIELD.finditer(rest)]
    types = [field.type for field in fields]
    return Declaration(
        name,
        tuple(field for field in fields if field.type != "#"),
        types.index("#") if "#" in types else None,
        result,
        bytes.fromhex(number)[::-1],
    )


def _field(found: re.Match[str]) -> Field:
    flag = found["flag"]
    return Field(found["name"], found["type"], None if flag is None else int(flag))


_FIELD: Final = re.compile(r"(?P<name>\w+):(flags\.(?P<flag>\d+)\?)?(?P<type>(vector )?[\w.#]+)")
