"""The numbers of the protocol that an experiment may change: `part.name`, each a field of the
settings that a real core takes.

Constants that nodes of one network must agree on (`p2p/defaults.py`) are no settings, and cannot be
changed from here: no code of the protocol is patched for an experiment.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from functools import cache
from types import UnionType
from typing import (
    Annotated,
    Final,
    Literal,
    TypeAlias,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

from p2p.adnl.limits import Limits
from p2p.dht.settings import Settings as DhtSettings
from p2p.onion.cell import MAX_RELAYS
from p2p.overlay.settings import Settings as OverlaySettings
from simulations.reading import Between, read_value, unknown, wrong

S = TypeVar("S")

Value: TypeAlias = bool | int | float | str

SETTINGS: Final[Mapping[str, type]] = {
    "adnl": Limits,
    "dht": DhtSettings,
    "overlay": OverlaySettings,
}
"""Whose fields are knobs, by part."""

OTHERS: Final[Mapping[str, object]] = {
    "onion.relays": Annotated[int, Between(1, MAX_RELAYS)],
    "onion.guards": bool,
    "market.best": Annotated[int, Between(0, 10_000)],
    "queue.choices": Annotated[int, Between(1, 64)],
    "queue.slots": Annotated[int, Between(1, 1_024)],
    "queue.endless": bool,
    "queue.service": Literal["exponential", "engine"],
}
"""Arguments of functions that a scenario calls."""

_LARGEST: Final = 1e12


def check(name: str, value: object) -> None:
    """Raise `WrongExperiment` for a knob that is none, or a value that it cannot have."""
    kinds = known()
    if name not in kinds:
        raise unknown(f"protocol.{name}", [f"protocol.{each}" for each in kinds])
    _read(name, kinds[name], value)


def apply(settings: S, part: str, protocol: Mapping[str, Value]) -> S:
    """Settings of a part with what an experiment changes."""
    changes = {
        name.removeprefix(f"{part}."): _read(name, known()[name], value)
        for name, value in protocol.items()
        if name.startswith(f"{part}.")
    }
    return replace(settings, **changes) if changes else settings  # type: ignore[type-var]


@cache
def known() -> Mapping[str, object]:
    """Every knob and its type."""
    return {**OTHERS, **dict(_of_settings())}


def _of_settings() -> Iterator[tuple[str, object]]:
    for part, kind in SETTINGS.items():
        hints = get_type_hints(kind)
        for field in fields(kind):
            hint = hints[field.name]
            if _is_number(hint) or _is_span(hint):
                yield f"{part}.{field.name}", hint


def _read(name: str, hint: object, value: object) -> object:
    where = f"protocol.{name}"
    if _is_span(hint):
        return _span(where, value)
    found = read_value(_alone(hint), value, where)
    if isinstance(found, int | float) and not 0 <= found <= _LARGEST:
        raise wrong(where, f"from 0 to {_LARGEST:g}", value)
    return found


def _span(where: str, value: object) -> tuple[float, float]:
    """Bounds between which something is drawn: `5` are two equal ones, `2..5` are two."""
    first, _, last = str(value).partition("..")
    try:
        low, high = float(first), float(last or first)
    except ValueError:
        raise wrong(where, "seconds, or a range of them like 2..5", value) from None
    if not 0 <= low <= high <= _LARGEST:
        raise wrong(where, "a range that rises, like 2..5", value)
    return low, high


def _is_number(hint: object) -> bool:
    return _alone(hint) in (bool, int, float)


def _is_span(hint: object) -> bool:
    return get_origin(hint) is tuple and get_args(hint) == (float, float)


def _alone(hint: object) -> object:
    """A type without the None that stands for no limit."""
    if isinstance(hint, UnionType):
        return next(each for each in get_args(hint) if each is not type(None))
    return hint
