"""How far a run or a sweep is: a line for people each second, one for programs each five."""

import json
import time
from collections.abc import Callable
from typing import Final, TextIO, final

from simulations.run import Moment

EACH_LINE: Final = 1.0
"""seconds between lines on a terminal"""

EACH_ENTRY: Final = 5.0
"""seconds between lines of `progress.jsonl`"""


@final
class Ticker:
    """Calls nothing more often than every so many seconds."""

    def __init__(self, each: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._each = each
        self._clock = clock
        self._next = clock() + each

    def due(self) -> bool:
        """Whether it is time again; then not for a while."""
        now = self._clock()
        if now < self._next:
            return False
        self._next = now + self._each
        return True


@final
class Talk:
    """Says how a run gets on, a line each second."""

    def __init__(
        self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say = say
        self._ticker = Ticker(EACH_LINE, clock)
        self._last: Moment | None = None

    def __call__(self, moment: Moment) -> None:
        """Say it if it is time."""
        if self._ticker.due():
            self._say(line(moment, self._last))
            self._last = moment


@final
class Journal:
    """Writes how a run gets on, a line of JSON each five seconds and at the first look."""

    def __init__(self, file: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._ticker = Ticker(EACH_ENTRY, clock)
        self._empty = True

    def __call__(self, moment: Moment) -> None:
        """Write it if it is time."""
        if self._ticker.due() or self._empty:
            self._empty = False
            self._file.write(json.dumps(entry(moment)) + "\n")
            self._file.flush()


def line(moment: Moment, last: Moment | None = None) -> str:
    """How far it is, how fast, and when it will be done."""
    since = last.wall_s if last else 0.0
    took = max(moment.wall_s - since, 1e-9)
    rate = (moment.records - (last.records if last else 0)) / took
    pace = (moment.virtual_s - (last.virtual_s if last else 0.0)) / took
    text = (
        f"{moment.virtual_s:.1f} of {moment.until_s:g} s ({pace:.2g} x), "
        f"{rate:,.0f} records/s, {moment.rss_bytes / 1e6:.0f} MB, {_left(remaining(moment))}"
    )
    if moment.busiest is not None:
        text += f"; virtual time stands still, node {moment.busiest} does most"
    return text


def remaining(moment: Moment) -> float | None:
    """Seconds until it is done if it goes on as so far; None before anything is known."""
    if moment.virtual_s <= 0.0:
        return None
    return moment.wall_s * (moment.until_s - moment.virtual_s) / moment.virtual_s


def entry(moment: Moment) -> dict[str, object]:
    """A moment as JSON."""
    left = remaining(moment)
    return {
        "virtual_s": moment.virtual_s,
        "until_s": moment.until_s,
        "wall_s": round(moment.wall_s, 3),
        "records": moment.records,
        "rss_bytes": moment.rss_bytes,
        "eta_s": None if left is None else round(left, 1),
        "busiest": moment.busiest,
    }


def sweep_line(done: int, total: int, wall_s: float, fresh: int) -> str:
    """How far a sweep is; `fresh` of the runs done were run now."""
    left = wall_s * (total - done) / fresh if fresh else None
    return f"{done} of {total} runs, {_left(left)}"


def _left(seconds: float | None) -> str:
    if seconds is None:
        return "time left unknown"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    words = f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else None
    return f"{words or f'{rest} s'} left"
