"""Askers who stop paying: their ticks are made, and never leave.

What a worker can lose to one is what it gives on credit: a tick of the answer, or the step of a
prompt that is read before its payment can have come (`inference/meter.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, final

from inference.protocol import Kind, kind_of
from p2p.onion.cell import CircuitId
from simulations.reading import Between


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeRider:
    """What an experiment says of them."""

    after: Annotated[int, Between(0, 1_000_000)] = 0
    """messages with ticks that are let out first"""


@final
class Rider:
    """What such an asker says: a `Twist`."""

    def __init__(self, how: FreeRider) -> None:
        self._after = how.after
        self._let_out: dict[CircuitId, int] = {}

    def __call__(self, circuit: CircuitId, message: bytes) -> Sequence[bytes]:
        """All but the later ticks."""
        if kind_of(message) is not Kind.TICK:
            return [message]
        self._let_out[circuit] = self._let_out.get(circuit, 0) + 1
        return [message] if self._let_out[circuit] <= self._after else []
