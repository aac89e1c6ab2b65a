"""The shape of a request: what those see who look at its links, whatever is asked and answered.

    asker     the upload as fast as credit lets it, padded to a power of two cells, the END last;
              from there one cell a second, to the answer's last cell
    endpoint  nothing until that END; from there `rate` cells a second, for 8, 16, 32 ... seconds

What is said waits for the next slot, and a slot in which nothing waits carries a dummy: ticks,
refusals, resets and the silence of a model at work look alike. A slot in which a cell cannot leave
is gone: nothing is made up for. Once all is said the endpoint fills up the bucket it is in, and
marks the last cell; the asker then ends the circuit. A shaped circuit carries one request.

Nothing here knows a key, a link or a clock: `Streams` says what is to be said.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeAlias, final

from p2p import defaults
from p2p.errors import OnionError
from p2p.onion.cell import FRAME_SIZE, Cell, Kind
from p2p.onion.streams import Streams

LAST: Final = 1
"""Cell flag: the endpoint's shape ends with this cell."""

STREAM: Final = 1
"""The stream of a shaped circuit's one request."""

SILENT_SLOTS: Final = 5
"""slots of the asker, seconds, without a cell of an endpoint that owes four in each"""


class Shaping(IntEnum):
    """How a request is shaped."""

    OFF = 0
    """Cells leave when they are ready."""
    PADDED = 1
    """As above, from the prompt to the end of its bucket."""
    ALWAYS = 2
    """And the link to the guard carries frames at one rate day and night."""


# --- buckets and slots ---


def prompt_bucket(cells: int) -> int:
    """Cells that an upload of so many is padded to."""
    return max(defaults.LEAST_UPLOAD, 1 << (cells - 1).bit_length())


def answer_bucket(seconds: float) -> int:
    """Seconds that an answer which has taken so many is filled up to."""
    bucket = defaults.FIRST_BUCKET
    while bucket < min(seconds, defaults.LONG_BUCKET):
        bucket *= 2
    if seconds <= bucket:
        return bucket
    return -int(-seconds // defaults.LONG_BUCKET) * defaults.LONG_BUCKET


@final
class Pacer:
    """Slots of one rate: number i, from 1 on, is due at `began + i / rate` exactly."""

    __slots__ = ("_began", "_rate", "number")

    def __init__(self, rate: float, began: float) -> None:
        self._rate = rate
        self._began = began
        self.number = 0
        """The newest slot that has come."""

    @property
    def due(self) -> float:
        """When the next slot comes."""
        return self._at(self.number + 1)

    def age(self, now: float) -> float:
        """Seconds since the first slot's beginning."""
        return now - self._began

    def take(self, now: float) -> bool:
        """Whether another slot has come; of several only the newest is left."""
        if now < self.due:
            return False
        number = int((now - self._began) * self._rate)
        while self._at(number + 1) <= now:  # the product above may be rounded down, or up
            number += 1
        while self._at(number) > now:
            number -= 1
        self.number = max(number, self.number + 1)
        return True

    def _at(self, number: int) -> float:
        return self._began + number / self._rate


# --- the two sides ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What of a request shows on each link of its path, by what has come of it so far."""

    rate: int
    """cells/s of the answer"""
    prompt_cells: int
    """that the upload was padded to"""
    answer_s: int
    """seconds: the bucket that the answer's newest cell lies in"""
    left_s: float
    """seconds until that bucket ends"""
    always: bool = False
    """The link to the guard is paced, so that on it nothing of this shows at all."""

    @property
    def link_bytes(self) -> int:
        """Of frames, both ways, on each link of the path, to the bucket's end."""
        return FRAME_SIZE * (self.prompt_cells + self.answer_s * (self.rate + ASKER_RATE))


ASKER_RATE: Final = 1
"""cells/s from an asker who waits for its answer or reads it: a tick is late by a second at most"""


@final
class AskerShape:
    """The asker's side of a shaped request. `over` once the answer's last cell has come."""

    __slots__ = ("_heard", "_pacer", "_padded", "_rate", "_sent", "_silent", "_streams", "over")

    def __init__(self, rate: int, streams: Streams) -> None:
        self._rate = rate
        self._streams = streams
        self._sent = self._padded = 0
        self._pacer: Pacer | None = None
        self._heard = self._silent = 0
        self.over = False

    @property
    def begun(self) -> bool:
        """Whether anything has been given to it to send."""
        return self._sent > 0 or self._streams.upload.cells > 0

    @property
    def due(self) -> float | None:
        """When the next slot comes."""
        return None if self._pacer is None else self._pacer.due

    @property
    def silent(self) -> bool:
        """Whether the endpoint has said nothing for so long that it is gone."""
        return self._silent > SILENT_SLOTS

    def measure(self) -> None:
        """The upload is whole: its cells are counted now, whatever becomes of it."""
        if not self._padded:
            self._padded = prompt_bucket(self._sent + self._streams.upload.cells)

    def leave(self) -> None:
        """The caller has gone: an upload that has not come to its END is given up."""
        if self._pacer is None and not self._streams.upload.ends:
            self._streams.reset(STREAM, 0)

    def burst(self, now: float) -> Cell | None:
        """A cell that waits for credit alone: the next of the upload, once that is whole.

        Before, full cells leave only where there is no room for more: else the first write would
        tell how many there are.
        """
        if self._pacer is not None:
            return None
        upload = self._streams.upload
        if not upload.ends:
            is_full = self._streams.writable <= 0
            return self._count(self._streams.next()) if is_full and upload.cells > 1 else None
        self.measure()
        if upload.cells == 1 and self._sent < self._padded - 1:
            return self._count(DUMMY)
        if upload.cells == 1:
            self._pacer = Pacer(ASKER_RATE, now)
        return self._count(self._streams.next())

    def resumed(self, now: float, *, ended: bool) -> None:
        """It goes on over another circuit, to whose end the upload has come or not.

        If not, what is missing is filled up to as many cells as before: how many there are would
        tell how many had come, and so how long the text is.
        """
        self._silent = 0
        if not ended:
            self._pacer, self._sent = None, 0
        elif self._pacer is not None:
            self._heard = max(self._heard, int(self._pacer.age(now) * self._rate))

    def slot(self, now: float, *, free: bool, waits: bool = False) -> Cell | None:
        """The cell of a slot that has come, unless none can leave.

        `waits`: cells of ours are in line yet, so that the endpoint cannot owe anything.
        """
        assert self._pacer is not None, "slots follow the END"
        if not self._pacer.take(now):
            return None
        self._silent += not waits
        return (self._streams.next() or DUMMY) if free else None

    def hear(self, now: float, cell: Cell) -> None:
        """A cell of the endpoint. Raises `OnionError` for one before the upload's END."""
        if self._pacer is None:
            raise OnionError("an answer before its prompt")
        self._heard += 1
        self._silent = 0
        self.over = bool(cell.flags & LAST)

    def facts(self) -> Shape | None:
        """What shows of it; None before there is anything to see of the answer."""
        if not self._heard:
            return None
        seconds = self._heard / self._rate
        bucket = answer_bucket(seconds)
        return Shape(
            rate=self._rate,
            prompt_cells=self._padded,
            answer_s=bucket,
            left_s=bucket - seconds,
        )

    def _count(self, cell: Cell | None) -> Cell | None:
        self._sent += 1
        return cell


@final
class EndShape:
    """The endpoint's side of a shaped request. `over` once its last cell has been given out."""

    __slots__ = ("_last", "_pacer", "_rate", "_streams", "over")

    def __init__(self, rate: int, streams: Streams) -> None:
        self._rate = rate
        self._streams = streams
        self._pacer: Pacer | None = None
        self._last = 0
        """Number of the bucket's last slot, once all is said."""
        self.over = False

    @property
    def due(self) -> float | None:
        """When the next slot comes."""
        return None if self._pacer is None or self.over else self._pacer.due

    def burst(self, now: float) -> Cell | None:
        """A cell that waits for credit alone: none ever does."""
        return None

    def resumed(self) -> None:
        """It goes on over another circuit; some of what was said is said again."""
        self.over, self._last = False, 0

    def slot(self, now: float, *, free: bool) -> Cell | None:
        """The cell of a slot that has come, unless none can leave."""
        assert self._pacer is not None, "slots follow the END"
        if not self._pacer.take(now) or not free:
            return None
        cell = self._streams.next() or DUMMY
        if not self._last and self._streams.is_over:
            self._last = self._rate * answer_bucket(self._pacer.number / self._rate)
        if self._last and self._pacer.number >= self._last:
            self.over = True
            cell = cell._replace(flags=LAST)
        return cell

    def hear(self, now: float, cell: Cell) -> None:
        """A cell of the asker. An END begins the slots. Raises `OnionError` for more."""
        if cell.stream > STREAM:
            raise OnionError("a second request on a shaped circuit")
        if self._pacer is None and cell.kind in (Kind.END, Kind.RESET):
            self._pacer = Pacer(self._rate, now)


RequestShape: TypeAlias = AskerShape | EndShape

DUMMY: Final = Cell(0, Kind.DUMMY, 0, 0, b"")
"""A cell that says nothing."""
