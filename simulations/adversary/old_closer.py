"""A payer who closes its lane alone, and goes on paying from it as if nothing were.

Whoever takes its later vouchers has until the end of the delay to claim them. What the payee held
six hours before that end is claimed by then, and what it has not claimed when the lane is gone, the
old state that the payer began to close on, is lost.
"""

from dataclasses import dataclass
from typing import Annotated

from simulations.reading import Between


@dataclass(frozen=True, slots=True, kw_only=True)
class OldCloser:
    """What an experiment says of it."""

    after: Annotated[int, Between(1, 100)] = 2
    """vouchers that it has given before it begins to close; it gives the others after that"""
