"""Remembers what the arithmetic of credits came to, as nodes have the same keys in every run.

Each function is pure, so what it gave once it gives again: the code stays the real one, and a run
spends its time on what it is about. Nothing is remembered outside of `remembered`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Final

from ledger import credit, mintkeys
from ledger.contracts import cells

KEPT: Final = 1 << 16
"""results of each function"""

_derive = lru_cache(KEPT)(credit.derive)
_blind = lru_cache(KEPT)(credit.blind)
_unblind = lru_cache(KEPT)(credit.unblind)
_hash_to_point = lru_cache(KEPT)(credit.hash_to_point)
_is_point = lru_cache(KEPT)(credit.is_point)
_sign = lru_cache(KEPT)(credit.sign)
_data = lru_cache(KEPT)(cells.data)
_init = lru_cache(KEPT)(cells.state_init)


@contextmanager
def remembered() -> Iterator[None]:
    """Inside, the same question is worked out once."""
    modules = (
        (credit, {"derive": _derive, "blind": _blind, "unblind": _unblind}),
        (credit, {"hash_to_point": _hash_to_point, "is_point": _is_point}),
        (mintkeys, {"sign": _sign}),
        (cells, {"data": _data, "state_init": _init}),
    )
    before = [(module, name, getattr(module, name)) for module, of in modules for name in of]
    for module, of in modules:
        for name, function in of.items():
            setattr(module, name, function)
    try:
        yield
    finally:
        for module, name, function in before:
            setattr(module, name, function)
