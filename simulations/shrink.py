"""Makes a failing run small: fewer faults, then fewer nodes, then an earlier end.

Faults are removed by delta debugging (Zeller and Hildebrandt 2002): halves first, then smaller
parts, until no single one can be spared. Each trial is a whole run from its seed, so what is left
fails by itself and is replayed by one line.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, TypeAlias

MOST: Final = 400
"""runs that one shrinking takes at the most"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A run, as far as shrinking changes it."""

    seed: int
    nodes: int
    until: float
    """seconds"""
    faults: tuple[int, ...]
    """Numbers of those that strike."""


Failing: TypeAlias = Callable[[Trial], bool]
"""Runs a trial: whether it fails as the first one did."""


class _Enough(Exception):  # noqa: N818 - no error: as many trials as were wanted
    """No more trials."""


def shrink(failing: Failing, trial: Trial, *, least: int = 1, most: int = MOST) -> Trial:
    """A smaller trial that fails, the same one if none is found; `least` nodes are left.

    Raises `ValueError` if the trial does not fail.
    """
    if not failing(trial):
        raise ValueError("only what fails can be shrunk")
    best, left = trial, most

    def fails(smaller: Trial) -> bool:
        nonlocal best, left
        if left <= 0:
            raise _Enough
        left -= 1
        if not failing(smaller):
            return False
        best = smaller
        return True

    try:
        _fewer_faults(fails, best)
        _fewer_nodes(fails, best, least)
        _earlier(fails, best)
    except _Enough:
        pass
    return best


def _fewer_faults(fails: Failing, trial: Trial) -> None:
    """ddmin over the numbers of the faults."""
    parts = 2
    if trial.faults and fails(replace(trial, faults=())):
        return
    while len(trial.faults) >= 2:
        smaller = _without_a_part(fails, trial, parts)
        if smaller is not None:
            trial, parts = smaller, max(2, parts - 1)
        elif parts < len(trial.faults):
            parts = min(len(trial.faults), parts * 2)
        else:
            return


def _without_a_part(fails: Failing, trial: Trial, parts: int) -> Trial | None:
    for part in _split(trial.faults, parts):
        rest = tuple(number for number in trial.faults if number not in part)
        smaller = replace(trial, faults=rest)
        if fails(smaller):
            return smaller
    return None


def _split(faults: Sequence[int], parts: int) -> list[Sequence[int]]:
    """As even as can be."""
    bounds = [len(faults) * i // parts for i in range(parts + 1)]
    return [faults[a:b] for a, b in pairwise(bounds) if a < b]


def _fewer_nodes(fails: Failing, trial: Trial, least: int) -> None:
    """Half of those that may go, as long as that fails; then one at a time less of them."""
    step = (trial.nodes - least) // 2
    while step >= 1 and trial.nodes > least:
        smaller = replace(trial, nodes=max(least, trial.nodes - step))
        if fails(smaller):
            trial = smaller
        else:
            step //= 2


def _earlier(fails: Failing, trial: Trial) -> None:
    """By bisection, to a second."""
    low, high = 0.0, trial.until
    while high - low > 1.0:
        middle = (low + high) / 2
        if fails(replace(trial, until=middle)):
            high = middle
        else:
            low = middle
