"""Settings: flags before environment before the TOML file before defaults, one merge for all.

Standard library only, so that the command line, the daemon and tests use it alone. A setting's
name is `section.field`; its environment variable `TUSSAH_SECTION_FIELD`.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar, get_type_hints

from scripts.failure import Failed, suggestion

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

S = TypeVar("S", bound="DataclassInstance")

Provenance: TypeAlias = Mapping[str, str]
"""Where each setting's value comes from, in words, by its dotted name."""

ROLES = ("relay", "worker", "mint")

AMOUNT = r"[0-9]{1,9}(\.[0-9]{1,9})?( TON)?|[0-9]{1,18}n"
"""`0.01`, `0.01 TON`, `20n`: what `ledger.money.Nano.parse` reads."""

RESERVED = ("TUSSAH_HOME", "TUSSAH_PYTHON")
"""Names under `TUSSAH_` that are no settings: where the home is, what set-up runs on."""


def _number(default: float, *, low: float, high: float) -> float:
    """A number within bounds, both allowed."""
    number: float = field(default=default, metadata={"low": low, "high": high})
    return number


def _integer(default: int, *, low: int, high: int) -> int:
    """An integer within bounds, both allowed."""
    integer: int = field(default=default, metadata={"low": low, "high": high})
    return integer


def _one_of(default: str, *choices: str) -> str:
    """A word out of a closed list."""
    word: str = field(default=default, metadata={"choices": choices})
    return word


def _amount(default: str) -> str:
    """Money, as people write it."""
    amount: str = field(
        default=default, metadata={"pattern": AMOUNT, "like": "an amount of TON, such as 0.01"}
    )
    return amount


def _port(default: str) -> str:
    """A port, or a word instead of one."""
    port: str = field(
        default=default,
        metadata={
            "pattern": r"auto|off|[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}"
            r"|655[0-2][0-9]|6553[0-5]",
            "like": "a port, auto or off",
        },
    )
    return port


def _count(default: str, most: int) -> str:
    """A small number, or `auto`."""
    numbers = "|".join(str(number) for number in range(most, 0, -1))
    count: str = field(
        default=default,
        metadata={"pattern": f"auto|{numbers}", "like": f"auto, or a number from 1 to {most}"},
    )
    return count


def _hours(default: str) -> str:
    """A part of the day, or nothing."""
    clock = "([01][0-9]|2[0-3]):[0-5][0-9]"
    hours: str = field(
        default=default,
        metadata={"pattern": f"|{clock}-{clock}", "like": "hours such as 22:00-07:00, or empty"},
    )
    return hours


def _label(default: str, *, most: int) -> str:
    """Text of so many bytes at the most."""
    text: str = field(default=default, metadata={"bytes": most})
    return text


def _some_of(*choices: str) -> tuple[str, ...]:
    """Any of a closed list of words, none by default."""
    words: tuple[str, ...] = field(default=(), metadata={"choices": choices})
    return words


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """How this node takes part."""

    roles: tuple[str, ...] = _some_of(*ROLES)
    """What it does for others; a node without roles only asks."""
    host: str = ""
    """IP address to listen on; empty: the one of this node in the profile's bootstrap list, else
    127.0.0.1 in a dev network and 0.0.0.0 in others."""
    port: int = _integer(0, low=0, high=65_535)
    """TCP and UDP port to listen on; 0: as for `host`, else any free one."""
    announce: str = ""
    """IP address that others dial; empty: the one listened on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """The local API that OpenAI's clients speak, on loopback."""

    port: str = _port("auto")
    """`auto`: 8420, or any free one if that is taken; `off`: there is none."""
    key_required: bool = True
    """Without, every program of every user of this machine may ask, and spend."""
    origins: tuple[str, ...] = ()
    """Web pages that may use it, besides the node's own: `http://localhost:3000`."""
    max_requests: int = _integer(32, low=1, high=1_024)
    """Answers at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a request may reveal and how long it may take."""

    model: str = "auto"
    relays: int = _integer(3, low=0, high=3)
    """Relays between this node and the worker; 0 shows the worker this node's address."""
    shaping: int = _integer(1, low=0, high=2)
    """How little the traffic of a request says of its texts: 0 cells leave as they are ready; 1 the
    prompt is padded, and the answer comes at one rate for 8, 16, 32 ... seconds; 2 the link to the
    first relay carries four frames a second each way, day and night."""
    swift: bool = False
    """A shaped answer at 10 cells a second instead of 4: sooner, for twice the bytes."""
    deadline: float = _number(300.0, low=1.0, high=3_600.0)
    """seconds: the request ends by then, always."""
    max_price: str = _amount("0.01 TON")
    """The most that one request may cost."""
    audit: float = _number(0.02, low=0.0, high=1.0)
    """The part of long answers that this node computes again, if it serves the same model: who is
    found to serve another is not asked any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """What this node serves."""

    model: str = "auto"
    """Path of a GGUF file; `auto`: the built-in model."""
    slots: str = _count("auto", 16)
    """Answers at once; `auto`: what memory allows."""
    context: int = _integer(2_048, low=256, high=131_072)
    """tokens: prompt and answer together."""
    max_vram: float = _number(0.8, low=0.05, high=1.0)
    """The part of a GPU's free memory that may be taken."""
    max_ram: float = _number(0.6, low=0.05, high=1.0)
    """The part of the free main memory that may be taken."""
    threads: int = _integer(0, low=0, high=256)
    """Of the processor; 0: as many as measure best when the model is loaded."""
    idle_unload: float = _number(600.0, low=0.0, high=604_800.0)
    """seconds without a question after which the model leaves memory; it is loaded for the next.
    0: never."""
    label: str = _label("", most=32)
    """Shown beside the model, at most 32 bytes."""
    price: str = _amount("0")
    """TON per 1,000 tokens of an answer; 0: free. A price needs a network with a chain."""
    price_prompt: str = _amount("0")
    """TON per 1,000 tokens of a prompt; those that need not be computed again cost a quarter."""
    allow_direct: bool = False
    """Also answer askers that come without relays."""
    engine: str = _one_of("llama", "llama", "fake")
    """`fake` makes words without a model: for tests."""
    fake_rate: float = _number(0.0, low=0.0, high=1_000_000.0)
    """tokens a second of the fake engine; 0: as fast as they are read."""
    seed: int = _integer(0, low=0, high=2**63 - 1)
    """Seed of the fake engine."""
    upstream: str = ""
    """http://HOST:PORT of a server that speaks OpenAI's protocol and computes instead, as
    llama-server, Ollama and vLLM do. Its answers cannot be audited."""
    upstream_model: str = ""
    """Which of its models; empty: the first that it lists."""
    upstream_remote: bool = False
    """Also a server elsewhere than on this machine or in the network at home: it reads the prompts
    of strangers, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """When a worker gives way to who uses this machine; `tussah worker limits` shows them."""

    on_battery: str = _one_of("pause", "pause", "serve")
    battery_min: float = _number(30.0, low=0.0, high=100.0)
    """percent: below, it pauses on mains too; it goes on 5 above."""
    max_temperature: float = _number(83.0, low=40.0, high=120.0)
    """degrees Celsius of the hottest sensor."""
    yield_gpu: bool = True
    """Give way to other programs on the GPU."""
    yield_cpu: bool = True
    """Give way to other programs on the processor."""
    quiet_hours: str = _hours("")
    """Hours without work, by the clock on the wall: `22:00-07:00`."""
    metered: str = _one_of("pause", "pause", "serve")
    """On a network whose traffic is paid for, where the platform says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mint:
    """Selling credits and redeeming them."""

    fee_bp: int = _integer(50, low=0, high=200)
    """Hundredths of a percent that a buyer pays on top; nobody buys for more than 200."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wallet:
    """What may be spent without asking first."""

    buy: str = _one_of("auto", "auto", "yes", "ask")
    """Whether an ask that finds too few credits may buy some, and open a lane for that. `yes`: it
    says so and does; `ask`: only once somebody agrees (`ask --yes`); `auto`: as `yes` in a dev
    network, whose coins are worth nothing, else as `ask`."""
    per_day: str = _amount("1 TON")
    """The most that answers may cost in a day of UTC; those under way count in full."""
    passphrase_file: str = ""
    """Its first line opens an encrypted wallet at the start; empty: systemd's credential
    `tussah-passphrase`, else the wallet stays locked until `tussah wallet unlock`."""
    backup_file: str = ""
    """Where vouchers are kept a second time, sealed for this wallet: each hour, and on 0.05 TON
    gained; best on another disk. Empty: nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """The daemon's own words; never prompts, answers, keys or whole addresses."""

    level: str = _one_of("info", "debug", "info", "warning", "error")
    format: str = _one_of("auto", "auto", "console", "json")
    """`auto`: console on a terminal, else JSON lines."""
    file: str = ""
    """Empty: standard error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a person can set."""

    network: str = ""
    """Profile in `networks/`; empty and only one there: that one."""
    node: Node = Node()
    api: Api = Api()
    ask: Ask = Ask()
    worker: Worker = Worker()
    manners: Manners = Manners()
    mint: Mint = Mint()
    wallet: Wallet = Wallet()
    log: Log = Log()


def load(
    *, flags: Mapping[str, object], environ: Mapping[str, str], file: Path
) -> tuple[Settings, Provenance]:
    """The settings in force, and where each came from. A flag that is None was not given.

    Raises `Failed` (`invalid_setting`) for an unknown name or a value out of bounds.
    """
    given: dict[str, tuple[object, str]] = {}
    for layer in (_from_file(file), _from_environment(environ), _from_flags(flags)):
        given.update(layer)

    settings = _merge(Settings(), "", given)
    provenance = {name: given[name][1] if name in given else "default" for name in names()}
    return settings, provenance


def names() -> list[str]:
    """Every setting's dotted name, in order."""
    return list(_names(Settings(), ""))


def known(name: str) -> str:
    """The name of a setting, as it is. Raises `Failed` (`invalid_setting`) for any other."""
    _check_known(name, names(), f"There is no setting {name}.")
    return name


def parse(name: str, text: str) -> object:
    """A value of a setting, out of what a person wrote. Raises `Failed` (`invalid_setting`)."""
    return value(_merge(Settings(), "", {known(name): (text, "as given")}), name)


def value(settings: Settings, name: str) -> object:
    """What a setting is, by its dotted name."""
    found: object = settings
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _names(section: "DataclassInstance", prefix: str) -> Iterator[str]:
    for entry in fields(section):
        value = getattr(section, entry.name)
        if is_dataclass(value) and not isinstance(value, type):
            yield from _names(value, f"{prefix}{entry.name}.")
        else:
            yield prefix + entry.name


# --- the three layers above the defaults: name -> (value, where it came from) ---

Layer: TypeAlias = dict[str, tuple[object, str]]


def _from_flags(flags: Mapping[str, object]) -> Layer:
    present = {name: value for name, value in flags.items() if value is not None}
    for name in present:
        _check_known(name, names(), f"There is no setting {name}.")
    return {name: (value, f"flag --{name}") for name, value in present.items()}


def _from_environment(environ: Mapping[str, str]) -> Layer:
    by_variable = {variable(name): name for name in names()}
    layer: Layer = {}
    for key, value in environ.items():
        if key.startswith("TUSSAH_") and key not in RESERVED:
            _check_known(key, list(by_variable), f"No setting is called {key} in the environment.")
            layer[by_variable[key]] = (value, f"environment {key}")
    return layer


def _from_file(file: Path) -> Layer:
    try:
        document = tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Failed("invalid_setting", f"{file} cannot be read: {error}.") from error
    layer: Layer = {}
    for name, value in _flatten(document, ""):
        _check_known(name, names(), f"{file} sets {name}, which is no setting.")
        layer[name] = (value, f"file {file}")
    return layer


def _flatten(table: Mapping[str, object], prefix: str) -> Iterator[tuple[str, object]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return "TUSSAH_" + name.replace(".", "_").upper()


def _check_known(name: str, known: list[str], message: str) -> None:
    if name not in known:
        advice = suggestion(name, known) or f"Known: {', '.join(known)}."
        raise Failed("invalid_setting", message, advice, param=name)


# --- values ---


def _merge(section: S, prefix: str, given: Layer) -> S:
    """A section with the values given, each converted to its field's type and checked."""
    changes: dict[str, object] = {}
    hints = get_type_hints(type(section))
    for entry in fields(section):
        name, value = prefix + entry.name, getattr(section, entry.name)
        if is_dataclass(value) and not isinstance(value, type):
            changes[entry.name] = _merge(value, f"{name}.", given)
        elif name in given:
            changes[entry.name] = _value(name, hints[entry.name], entry, given)
    return replace(section, **changes)


def _value(name: str, kind: object, entry: "Field[object]", given: Layer) -> object:
    raw, origin = given[name]
    if type(raw) is int and "pattern" in entry.metadata:
        raw = str(raw)  # a number where a word may stand as well: `slots = 4`
    try:
        value = _convert(raw, kind)
        _check_bounds(value, entry.metadata)
    except ValueError as error:
        message = f"{name} = {raw!r} ({origin}) does not do: {error}."
        raise Failed("invalid_setting", message, param=name) from error
    return value


def _convert(raw: object, kind: object) -> object:
    """A raw value in its field's type; text is parsed. Raises `ValueError`."""
    if kind is bool:
        return _yes(raw)
    if kind is int:
        return _whole(raw)
    if kind is float:
        return _real(raw)
    if kind is str:
        return _text(raw)
    return _list(raw)


def _yes(raw: object) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    value = words.get(raw.lower()) if isinstance(raw, str) else raw
    if not isinstance(value, bool):
        raise ValueError("it must be true or false")
    return value


def _whole(raw: object) -> int:
    if isinstance(raw, str) or (isinstance(raw, int) and not isinstance(raw, bool)):
        try:
            return int(raw)
        except ValueError:
            pass
    raise ValueError("it must be a whole number")


def _real(raw: object) -> float:
    if isinstance(raw, str | int | float) and not isinstance(raw, bool):
        try:
            return float(raw)
        except ValueError:
            pass
    raise ValueError("it must be a number")


def _text(raw: object) -> str:
    if not isinstance(raw, str):
        raise ValueError("it must be text")
    return raw


def _list(raw: object) -> tuple[str, ...]:
    if isinstance(raw, str):
        return tuple(word.strip() for word in raw.split(",") if word.strip())
    if isinstance(raw, list | tuple) and all(isinstance(word, str) for word in raw):
        return tuple(raw)
    raise ValueError("it must be a list of words")


def _check_bounds(value: object, metadata: Mapping[str, object]) -> None:
    low, high, choices = metadata.get("low"), metadata.get("high"), metadata.get("choices")
    if isinstance(value, int | float) and isinstance(low, int | float):
        assert isinstance(high, int | float)
        if not low <= value <= high:
            raise ValueError(f"it must be between {low:g} and {high:g}")
    if isinstance(value, str):
        _check_text(value, metadata)
    if isinstance(choices, tuple):
        for word in value if isinstance(value, tuple) else (value,):
            if word not in choices:
                raise ValueError(f"{word!r} is none of {', '.join(choices)}")


def _check_text(value: str, metadata: Mapping[str, object]) -> None:
    pattern, most = metadata.get("pattern"), metadata.get("bytes")
    if isinstance(pattern, str) and not re.fullmatch(pattern, value):
        raise ValueError(f"it must be {metadata['like']}")
    if isinstance(most, int) and len(value.encode()) > most:
        raise ValueError(f"it must have at most {most} bytes")
