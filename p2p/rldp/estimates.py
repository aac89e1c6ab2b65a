"""What one peer's path is taken to be: its round trip, its losses; and how fast symbols may leave.

Each estimate by itself; `p2p.rldp.congestion` puts them together.
"""

from collections import deque
from collections.abc import Callable
from typing import Final, final

START_ROUND_TRIP: Final = 0.05
"""seconds, before any sample."""

CONFIRM_DELAY: Final = 0.001
"""seconds that a confirm waits for company: the last symbol before it does not show them."""

MIN_ROUND_TRIP: Final = 0.001
"""seconds: what seems faster came just before the confirm of others."""

MAX_ROUND_TRIP: Final = 10.0
"""seconds: a sample above it tells of a suspended machine, not of the path."""

MEMORY: Final = 5.0
"""seconds for which the best rate and the best round trip count."""

SLOTS: Final = 10
"""parts of that time, each of which keeps its best sample only."""

BURST, MAX_BURST, BURST_TIME = 20.0, 40.0, 0.001
"""symbols that may leave at once: at first; later; and at a high rate, in seconds of it."""

MAX_LATE: Final = 0.05
"""seconds by which a timer that is late is made up for at most."""

MIN_WAIT: Final = 0.001
"""seconds until the next symbols may leave: a finer timer costs more than it evens out."""

START_LOSS, MIN_LOSS, MAX_LOSS = 0.1, 0.001, 0.2
"""shares of symbols lost that are reckoned with."""

LOSS_SAMPLE: Final = 1_000
"""symbols whose fate is known, by which that share is estimated anew."""

PROBE_TIMEOUT: Final = 0.1
"""seconds without a confirm before any sample of the round trip."""


@final
class Recent:
    """The best sample of the last five seconds: the greatest or the least, as `best` says."""

    def __init__(self, best: Callable[[float, float], float], default: float) -> None:
        self.value = default
        self._best = best
        self._slots: deque[tuple[int, float]] = deque()

    def add(self, now: float, sample: float) -> None:
        """Take a sample; the first one takes the place of the default."""
        slot = int(now * (SLOTS / MEMORY))
        if self._slots and self._slots[-1][0] == slot:
            sample = self._best(sample, self._slots.pop()[1])
        self._slots.append((slot, sample))

        while self._slots[0][0] <= slot - SLOTS:
            self._slots.popleft()
        self.value = self._slots[0][1]
        for _, other in self._slots:
            self.value = self._best(self.value, other)


@final
class RoundTrip:
    """Seconds from a symbol to its confirm, as RFC 6298 smooths them."""

    def __init__(self) -> None:
        self.smoothed = START_ROUND_TRIP
        self.variation = 0.0
        self._least = Recent(min, START_ROUND_TRIP)
        self._latest: float | None = None

    @property
    def least(self) -> float:
        """The path's own time, without its queues."""
        return self._least.value

    @property
    def patience(self) -> float:
        """How old a symbol must be to be thought lost when later ones have been confirmed."""
        return max(self.smoothed, self._latest or 0.0) * 8 / 7

    @property
    def probe_after(self) -> float:
        """How long to wait for any confirm before asking for one with another symbol."""
        if self._latest is None:
            return PROBE_TIMEOUT
        return self.smoothed + 4 * self.variation + MIN_WAIT

    def sample(self, now: float, seconds: float) -> None:
        """Take a measurement; one beyond all reason is ignored."""
        if not 0 <= seconds <= MAX_ROUND_TRIP:
            return
        seconds = max(seconds, MIN_ROUND_TRIP)
        if self._latest is None:
            self.smoothed, self.variation = seconds, seconds / 2
        else:
            self.variation += (abs(seconds - self.smoothed) - self.variation) / 4
            self.smoothed += (seconds - self.smoothed) / 8
        self._latest = seconds
        self._least.add(now, seconds)


@final
class Loss:
    """The share of symbols that do not arrive."""

    def __init__(self) -> None:
        self.share = START_LOSS
        self._known = 0
        self._lost = 0

    def count(self, delivered: int, lost: int) -> None:
        """The fate of some symbols is known."""
        self._known += delivered + lost
        self._lost += lost
        if self._known >= LOSS_SAMPLE:
            self.share = min(MAX_LOSS, max(MIN_LOSS, self._lost / self._known))
            self._known = self._lost = 0


@final
class Bucket:
    """Lets symbols out at a pace that may change, and no more than a burst of them at once.

    A timer that is late, as on a busy machine it is, would cost all that should have left by then
    beyond one burst: for that time it is made up, as far as the window lets.
    """

    def __init__(self, now: float) -> None:
        self._level = BURST
        self._at = now
        self._due: float | None = None

    def level(self, now: float, pace: float) -> float:
        """Symbols that may leave now."""
        late = min(now - self._due, MAX_LATE) if self._due is not None else 0.0
        most = max(MAX_BURST, pace * max(BURST_TIME, late))
        self._level = min(most, self._level + pace * (now - self._at))
        self._at = now
        self._due = None
        return self._level

    def take(self, count: int) -> None:
        """Symbols leave. A probe may when none should: it is made up for."""
        self._level -= count

    def ready_at(self, pace: float) -> float:
        """When at least one symbol may leave, after a `level` below one."""
        self._due = self._at + max(MIN_WAIT, (1.0 - self._level) / pace)
        return self._due
