"""How fast symbols may leave for one peer, and how many may be on their way: BBR, as in TON.

The rate is what confirms say was delivered, not what was lost: a symbol that is lost is replaced by
another, and a line that loses a tenth is not a full one. Three modes (Cardwell et al., "BBR",
ACM Queue 14-5, 2016):

    START   faster by 2.8 each round trip, until the rate has stopped growing
    DRAIN   slower by 2.8, until what START put in the queues of the path has left them
    PROBE   at the rate measured; in a cycle, one round trip less and one more, to follow the path

Nothing here knows what a symbol holds, nor which transfer it belongs to: `p2p.rldp.flight` keeps
account of that, and gives the outcome of each confirm to `Congestion.heard`.
"""

from enum import Enum
from typing import Final, NamedTuple, final

from p2p.rldp.estimates import CONFIRM_DELAY, MIN_ROUND_TRIP, Bucket, Loss, Recent, RoundTrip

START_RATE: Final = 100.0
"""symbols a second that a peer is thought to bear before anything is known of it: 0.7 Mbit/s."""

MIN_PACE: Final = 10.0
"""symbols a second that may always leave: whatever confirms say, a path is never stopped."""

MAX_RATE: Final = 200_000.0
"""symbols a second that a peer can make us believe in: far more than a core can send."""

GROWTH: Final = 2.8
"""how much faster per round trip in START: 2 / ln 2, with which the rate at least doubles."""

FULL_GROWTH, FULL_ROUNDS = 1.25, 3
"""A pipe is full when the rate has grown by less than a quarter in three round trips."""

CYCLE: Final = (0.75, 1.0, 1.0, 1.0, 1.0, 1.25)
"""paces of PROBE in shares of the rate, a round trip each. The last is increased by what is lost:
else a path that loses a fifth would deliver less than the rate even then, and seem ever slower."""

WINDOW: Final = 2.0
"""symbols on their way in PROBE, in shares of what the path holds; before, GROWTH."""

MIN_WINDOW: Final = 10
"""symbols that may always be on their way."""


class Mode(Enum):
    """See the module."""

    START = "start"
    DRAIN = "drain"
    PROBE = "probe"


class Mark(NamedTuple):
    """What was known when some symbols left, to measure their confirm against."""

    sent_at: float
    delivered: int
    """symbols delivered by then"""
    delivered_at: float
    """when the last of those was confirmed"""
    first_sent_at: float
    """when that last one had been sent"""


class Outcome(NamedTuple):
    """What a confirm told about the symbols of one part."""

    delivered: int
    lost: int
    """below zero if symbols given up arrived after all"""
    newest: Mark | None
    """of the last sent among those confirmed for the first time"""


@final
class Congestion:
    """What one peer's path bears; see the module. Time never falls between calls."""

    def __init__(self, now: float) -> None:
        self.round_trip = RoundTrip()
        self.loss = Loss()
        self.mode = Mode.START
        self.in_flight = 0
        """symbols sent that are neither confirmed nor given up"""

        self._rate = Recent(max, START_RATE)
        self._excess = Recent(max, 0.0)
        self._bucket = Bucket(now)
        self._delivered = 0
        self._delivered_at = now
        self._first_sent_at = now
        self._paused_until = 0

        self._bunch = 0
        self._bunch_at = now
        self._round_end = 0
        self._peak = 0.0
        self._flat_rounds = 0
        self._phase = 0
        self._phase_at = now

    # --- what the path bears ---

    @property
    def rate(self) -> float:
        """Symbols a second that the path has been seen to deliver."""
        return self._rate.value

    @property
    def pace(self) -> float:
        """Symbols a second to send."""
        return max(MIN_PACE, self._pace())

    @property
    def window(self) -> int:
        """Symbols that may be on their way: more than the path holds, and what confirms bunch."""
        held = self.rate * (self.round_trip.least + CONFIRM_DELAY)
        gain = WINDOW if self.mode is Mode.PROBE else GROWTH
        return max(MIN_WINDOW, int(gain * held + self._excess.value + 1))

    # --- sending ---

    def allowance(self, now: float) -> int:
        """How many symbols may leave now."""
        return min(int(self._bucket.level(now, self.pace)), self.window - self.in_flight)

    def ready_at(self) -> float | None:
        """When another may leave, after `allowance` gave none; None until a confirm comes."""
        if self.in_flight >= self.window:
            return None
        return self._bucket.ready_at(self.pace)

    def send(self, now: float, count: int) -> Mark:
        """Symbols leave: the mark to keep with each of them."""
        if not self.in_flight:
            self._delivered_at = self._first_sent_at = now
        self.in_flight += count
        self._bucket.take(count)
        return Mark(now, self._delivered, self._delivered_at, self._first_sent_at)

    def pause(self) -> None:
        """There is nothing to send although more might leave.

        What is on its way, or leaves before that has arrived, says how much there was to send and
        not what the path bears: it can only raise the rate.
        """
        self._paused_until = self._delivered + self.in_flight

    # --- hearing ---

    def heard(self, now: float, outcome: Outcome) -> None:
        """A confirm came."""
        self.loss.count(outcome.delivered, outcome.lost)
        self._deliver(now, outcome)

    def completed(self, now: float, outcome: Outcome) -> None:
        """A part was completed: nothing is known of the symbols that are not delivered."""
        self._deliver(now, outcome)

    def forget(self, now: float, count: int) -> None:
        """Nothing more will be heard of so many symbols on their way."""
        self.in_flight -= count
        self._advance(now)

    # --- inside ---

    def _pace(self) -> float:
        match self.mode:
            case Mode.START:
                return self.rate * GROWTH
            case Mode.DRAIN:
                return self.rate / GROWTH
            case Mode.PROBE:
                share = CYCLE[self._phase]
                return self.rate * (share if share <= 1 else share / (1 - self.loss.share))

    def _deliver(self, now: float, outcome: Outcome) -> None:
        self.in_flight -= outcome.delivered + outcome.lost
        if outcome.delivered:
            self._delivered += outcome.delivered
            self._delivered_at = now
            self._gather(now, outcome.delivered)
        if outcome.newest is not None:
            self._measure(now, outcome.newest)
        self._advance(now)

    def _gather(self, now: float, delivered: int) -> None:
        """Confirms beyond what the rate explains come in bunches: some machine or radio was busy.

        Were the window not wider by them, it would be empty while the next bunch is gathered.
        """
        explained = self.rate * (now - self._bunch_at)
        if self._bunch <= explained:
            self._bunch, self._bunch_at, explained = 0, now, 0.0
        self._bunch += delivered
        self._excess.add(now, min(self._bunch - explained, self.window))

    def _measure(self, now: float, mark: Mark) -> None:
        self._first_sent_at = mark.sent_at
        self.round_trip.sample(now, now - mark.sent_at)

        # Of the two spans the longer: confirms that come in a bunch do not speed up the path.
        sending = mark.sent_at - mark.first_sent_at
        hearing = now - mark.delivered_at
        span = max(sending, hearing, MIN_ROUND_TRIP)
        delivered = self._delivered - mark.delivered
        rate = min(MAX_RATE, delivered / span)
        paused = mark.delivered < self._paused_until
        # A symbol can be named after it was counted: that says nothing of how fast any came.
        if delivered and (not paused or rate > self.rate):
            self._rate.add(now, rate)

        if mark.delivered >= self._round_end:
            self._round_end = self._delivered
            self._round(paused=paused)

    def _round(self, *, paused: bool) -> None:
        """What left after the last round trip's confirms has been confirmed itself."""
        if self.mode is not Mode.START or paused:
            return
        if self.rate >= self._peak * FULL_GROWTH:
            self._peak, self._flat_rounds = self.rate, 0
            return
        self._flat_rounds += 1
        if self._flat_rounds >= FULL_ROUNDS:
            self.mode = Mode.DRAIN

    def _advance(self, now: float) -> None:
        least = self.round_trip.least
        if self.mode is Mode.DRAIN and self.in_flight <= self.rate * least:
            self.mode, self._phase, self._phase_at = Mode.PROBE, 0, now
        elif self.mode is Mode.PROBE and now - self._phase_at >= least:
            self._phase = (self._phase + 1) % len(CYCLE)
            self._phase_at = now
