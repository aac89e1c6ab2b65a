"""Askers who take an answer no faster than they must: their node grants its first relay no credit.

The relay sends them a window of cells and then nothing; what comes behind stands in the relay for
another window, then in the next one, and the rest in the worker, up to what a circuit may have
queued there. So who reads nothing fills no more than that, wherever it asks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final, final

from p2p.defaults import CREDIT_CELLS, UPLOAD_CAP
from p2p.onion.cell import FRAME_SIZE, Command
from simulations.reading import Between

HELD: Final = CREDIT_CELLS * FRAME_SIZE
"""bytes that a relay has queued at the most of one circuit that is not read"""

KEPT: Final = UPLOAD_CAP
"""and a worker"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowReader:
    """What an experiment says of them."""

    bytes: Annotated[int, Between(1, UPLOAD_CAP)] = 300_000
    """of the answer that each wants"""


@final
class Hoard:
    """A `Plot` that lets no credit out."""

    def apply(self, frame: bytes) -> Sequence[bytes]:
        """Everything but credits."""
        return [] if frame[4] == Command.CREDIT else [frame]
