"""How fast symbols leave, by the rules and on a pipe whose rate is known."""

import heapq
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p.entropy import seeded
from p2p.rldp import congestion
from p2p.rldp.congestion import Congestion, Mode, Outcome
from p2p.rldp.estimates import BURST_TIME, MAX_BURST
from p2p.rldp.flight import Flight

T0 = 1_800_000_000.0


class Pipe:
    """A sender with endless symbols, a queue before a slow line, and a peer that confirms."""

    def __init__(self, *, rate, round_trip, loss=0.0, queue=100_000, seed=1):
        self.rate, self.half, self.loss, self.queue = rate, round_trip / 2, loss, queue
        self.entropy = seeded(seed)
        self.road = Congestion(T0)
        self.flight = Flight(10**9)
        self.now, self.free = T0, T0
        self.sent, self.heard, self.rates = [], [], []
        self.arrived, self.highest = {}, 0
        self.events, self.count, self.confirm_due, self.send_due = [], 0, False, None

    def at(self, when, action, *args):
        self.count += 1
        heapq.heappush(self.events, (when, self.count, action, args))

    def run(self, seconds):
        self.send()
        end = self.now + seconds
        while self.events and self.events[0][0] <= end:
            self.now, _, action, args = heapq.heappop(self.events)
            action(*args)
        self.now = end

    def send(self):
        while (count := self.road.allowance(self.now)) >= 1:
            first, mark = self.flight.sent, self.road.send(self.now, count)
            assert self.road.in_flight <= self.road.window
            self.flight.send(count, mark)
            for seqno in range(first, first + count):
                self.sent.append(self.now)
                self.carry(seqno)
        again = self.road.ready_at()
        if again is not None and self.send_due is None:
            self.send_due = again
            self.at(again, self.wake)

    def wake(self):
        self.send_due = None
        self.send()

    def carry(self, seqno):
        waiting = (self.free - self.now) * self.rate
        if self.entropy.uniform() < self.loss or waiting > self.queue:
            return
        self.free = max(self.free, self.now) + 1 / self.rate
        self.at(self.free + self.half, self.arrive, seqno)

    def arrive(self, seqno):
        self.arrived[seqno] = self.now
        self.highest = max(self.highest, seqno + 1)
        if not self.confirm_due:
            self.confirm_due = True
            self.at(self.now + 0.001, self.confirm)

    def confirm(self):
        self.confirm_due = False
        mask = sum(1 << i for i in range(32) if self.highest - 1 - i in self.arrived)
        self.at(self.now + self.half, self.hear, self.highest, mask, len(self.arrived))

    def hear(self, *confirm):
        patience = self.road.round_trip.patience
        outcome = self.flight.confirm(self.now, patience, *confirm)
        assert outcome is not None
        self.road.heard(self.now, outcome)
        assert self.road.in_flight == self.flight.in_flight
        self.heard.append(self.now)
        self.rates.append(self.road.rate)
        self.send()

    def delivered(self, since):
        """Symbols a second that arrived in the last part of the run."""
        return sum(when >= since for when in self.arrived.values()) / (self.now - since)


# --- a pipe of known rate ---


@pytest.mark.parametrize("loss", [0.0, 0.1, 0.3])
@pytest.mark.parametrize(
    ("rate", "round_trip"), [(60, 0.05), (400, 0.2), (1_000, 0.02), (2_000, 0.001)]
)
def test_rate_becomes_that_of_the_pipe(rate, round_trip, loss):
    pipe = Pipe(rate=rate, round_trip=round_trip, loss=loss)
    pipe.run(3.0)
    settled = pipe.now
    pipe.run(2.0)
    assert pipe.road.mode is Mode.PROBE
    coarse = 0.5 / round_trip  # a symbol more or less in a round trip
    assert 0.95 * rate <= pipe.road.rate <= 1.1 * rate + coarse
    assert pipe.delivered(settled) > 0.95 * rate * (1 - loss)
    assert pipe.road.loss.share == pytest.approx(min(loss, 0.2), abs=0.03) or rate == 60


def test_queue_of_the_pipe_stays_short_once_it_is_full():
    pipe = Pipe(rate=2_000, round_trip=0.05)
    pipe.run(3.0)
    waiting = []
    for _ in range(200):
        pipe.run(0.01)
        waiting.append(max(0.0, pipe.free - pipe.now))
    assert max(waiting) <= 0.075
    assert sum(waiting) / len(waiting) <= 0.04


def test_rate_follows_a_pipe_that_narrows_and_widens():
    pipe = Pipe(rate=800, round_trip=0.02)
    pipe.run(2.0)
    pipe.rate = 200
    pipe.run(8.0)
    assert 190 <= pipe.road.rate <= 240
    pipe.rate = 800
    pipe.run(6.0)
    assert 760 <= pipe.road.rate <= 880


def test_queue_of_a_few_symbols_costs_loss_and_not_the_rate():
    pipe = Pipe(rate=2_000, round_trip=0.04, queue=30)
    pipe.run(3.0)
    settled = pipe.now
    pipe.run(2.0)
    assert pipe.delivered(settled) > 0.85 * 2_000


@settings(max_examples=20)
@given(
    rate=st.integers(50, 3_000),
    round_trip=st.floats(0.002, 0.4),
    loss=st.sampled_from([0.0, 0.02, 0.2]),
    seed=st.integers(0, 9),
)
def test_nothing_leaves_beyond_the_bucket_and_the_window(rate, round_trip, loss, seed):
    pipe = Pipe(rate=rate, round_trip=round_trip, loss=loss, seed=seed)
    pipe.run(1.0)

    pace = max([congestion.START_RATE, *pipe.rates]) * congestion.GROWTH
    burst = level = max(MAX_BURST, pace * BURST_TIME)
    for before, when in pairwise([T0, *pipe.sent]):
        level = min(burst, level + pace * (when - before)) - 1
        assert level >= -1


def test_start_is_left_when_the_rate_has_stopped_growing():
    pipe = Pipe(rate=5_000, round_trip=0.05)
    modes = []
    for _ in range(300):
        pipe.run(0.005)
        modes.append(pipe.road.mode)
    changes = [a for a, b in pairwise([*modes, None]) if a is not b]
    assert changes == [Mode.START, Mode.DRAIN, Mode.PROBE]
    assert modes.index(Mode.PROBE) <= 300


class Busy(Pipe):
    """Both machines are busy: each sleeps for a fifth to seven tenths of every 15 ms."""

    def at(self, when, action, *args):
        super().at(self.awake(when, action.__name__ in ("arrive", "confirm")), action, *args)

    def awake(self, when, receiver):
        slot = int((when - T0) / 0.015)
        asleep = 0.2 + 0.5 * seeded(2 * slot + receiver).uniform()
        return max(when, T0 + (slot + asleep) * 0.015)


def test_busy_machines_at_both_ends_do_not_slow_a_short_path():
    pipe = Busy(rate=4_000, round_trip=0.001)
    pipe.run(2.0)
    settled = pipe.now
    pipe.run(1.0)
    assert pipe.delivered(settled) > 0.9 * 4_000


# --- rates ---


def test_rate_is_what_arrived_by_the_longer_of_two_spans():
    road = Congestion(T0)
    first = road.send(T0, 10)
    road.heard(T0 + 0.1, Outcome(10, 0, first))
    assert road.rate == pytest.approx(100)

    # Sent in 10 ms, heard of within 100 ms.
    road.send(T0 + 0.2, 10)
    second = road.send(T0 + 0.21, 10)
    road.heard(T0 + 0.3, Outcome(20, 0, second))
    assert road.rate == pytest.approx(200)

    # Sent in a second, heard of at once.
    road.send(T0 + 0.4, 10)
    third = road.send(T0 + 1.4, 10)
    road.heard(T0 + 1.41, Outcome(20, 0, third))
    assert road.rate == pytest.approx(200)


def test_rate_measured_while_there_was_less_to_send_only_raises_it():
    road = Congestion(T0)
    road.heard(T0 + 0.1, Outcome(100, 0, road.send(T0, 100)))
    assert road.rate == pytest.approx(1_000)

    before = road.send(T0 + 7, 5)
    road.pause()
    after = road.send(T0 + 7, 1)
    road.heard(T0 + 7.1, Outcome(5, 0, before))
    road.heard(T0 + 7.1, Outcome(1, 0, after))
    assert road.rate == pytest.approx(1_000)
    road.send(T0 + 8, 300)
    road.heard(T0 + 8.1, Outcome(300, 0, road.send(T0 + 8, 0)))
    assert road.rate == pytest.approx(3_000)


def test_short_transfers_do_not_make_a_path_seem_slow():
    road = Congestion(T0)
    for second in range(20):
        mark = road.send(T0 + second, 1)
        road.pause()
        road.heard(T0 + second + 0.2, Outcome(1, 0, mark))
    assert road.rate == congestion.START_RATE
    assert road.mode is Mode.START


def test_confirms_at_once_cannot_claim_more_than_a_core_can_send():
    road = Congestion(T0)
    for step in range(60):
        now = T0 + step * 0.001
        count = max(1, road.allowance(now))
        road.heard(now, Outcome(count, 0, road.send(now, count)))
    assert road.rate <= congestion.MAX_RATE


def test_symbol_that_is_named_after_it_was_counted_is_no_sample_of_the_rate():
    road = Congestion(T0)
    road.send(T0, 10)
    road.heard(T0 + 0.1, Outcome(10, 0, None))
    road.heard(T0 + 0.2, Outcome(0, 0, road.send(T0 + 0.1, 1)))
    assert road.rate == congestion.START_RATE


@pytest.mark.parametrize("mode", Mode)
def test_path_is_never_slower_than_ten_symbols_a_second(mode):
    road = Congestion(T0)
    mark = road.send(T0, 30)
    road.mode = mode
    road.heard(T0 + 50, Outcome(1, 0, mark))
    assert road.rate == 1 / 50
    assert road.pace == congestion.MIN_PACE
    assert road.allowance(T0 + 50) <= 0
    road.forget(T0 + 50, 29)
    road.send(T0 + 50, road.allowance(T0 + 50))
    assert road.ready_at() is None or road.ready_at() <= T0 + 50.2


def test_window_is_twice_what_the_path_holds_and_wider_while_it_is_unknown():
    road = Congestion(T0)
    assert road.window == int(2.8 * 100 * 0.051 + 1) == 15
    road.mode = Mode.PROBE
    assert road.window == int(2 * 100 * 0.051 + 1) == 11
    road.heard(T0 + 0.001, Outcome(1, 0, road.send(T0, 1)))
    assert road.window == 10


def test_full_window_waits_for_a_confirm_and_an_empty_bucket_for_time():
    road = Congestion(T0)
    road.send(T0, 14)
    assert road.allowance(T0) == 1
    road.send(T0, 1)
    assert road.allowance(T0) == 0
    assert road.ready_at() is None
    road.forget(T0, 10)
    road.send(T0, 5)
    assert road.allowance(T0) == 0
    assert road.ready_at() == pytest.approx(T0 + 1 / 280)
    road.forget(T0, 10)
    assert road.in_flight == 0
