"""The path's estimates, each by its rule."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.rldp.estimates import Bucket, Loss, Recent, RoundTrip

T0 = 1_800_000_000.0


# --- the bucket ---


def test_bucket_gives_twenty_then_the_pace_then_forty_at_most():
    bucket = Bucket(T0)
    assert bucket.level(T0, 100.0) == 20
    bucket.take(20)
    assert bucket.ready_at(100.0) == pytest.approx(T0 + 0.01)
    assert bucket.level(T0 + 0.05, 100.0) == pytest.approx(5)
    assert bucket.level(T0 + 9, 100.0) == 40
    assert bucket.level(T0 + 10, 100_000.0) == 100


def test_bucket_waits_a_millisecond_at_least_and_for_what_a_probe_took():
    bucket = Bucket(T0)
    bucket.take(20)
    assert bucket.ready_at(1e6) == T0 + 0.001
    bucket.take(9)
    assert bucket.ready_at(10.0) == pytest.approx(T0 + 1.0)


@pytest.mark.parametrize(("late", "symbols"), [(0.0, 40), (0.001, 40), (0.02, 200), (9.0, 500)])
def test_bucket_makes_up_for_a_late_timer_and_only_for_that(late, symbols):
    bucket = Bucket(T0)
    bucket.take(20)
    due = bucket.ready_at(10_000.0)
    assert bucket.level(due + late, 10_000.0) <= symbols + 1
    assert bucket.level(due + late + 0.01, 10_000.0) >= 40
    assert bucket.level(due + 20, 10_000.0) == 40


# --- the best of five seconds ---


def test_best_sample_counts_for_five_seconds():
    rate = Recent(max, 7.0)
    assert rate.value == 7.0
    rate.add(T0, 3.0)
    assert rate.value == 3.0
    rate.add(T0 + 0.1, 9.0)
    rate.add(T0 + 0.2, 4.0)
    rate.add(T0 + 4.4, 5.0)
    assert rate.value == 9.0
    rate.add(T0 + 5.1, 2.0)
    assert rate.value == 5.0
    rate.add(T0 + 60, 1.0)
    assert rate.value == 1.0


@given(st.lists(st.tuples(st.floats(0, 2), st.floats(0, 100)), min_size=1, max_size=60))
def test_best_sample_is_that_of_a_list_kept_whole(steps):
    kept, rate, now = [], Recent(min, 0.0), T0
    for pause, sample in steps:
        now += pause
        rate.add(now, sample)
        kept.append((int(now * 2), sample))
        assert rate.value == min(value for slot, value in kept if slot > int(now * 2) - 10)


# --- round trips ---


def test_round_trip_is_smoothed_as_rfc_6298_says():
    trip = RoundTrip()
    assert (trip.smoothed, trip.least, trip.probe_after) == (0.05, 0.05, 0.1)
    trip.sample(T0, 0.08)
    assert (trip.smoothed, trip.variation, trip.least) == (0.08, 0.04, 0.08)
    trip.sample(T0, 0.16)
    assert trip.variation == pytest.approx(0.04 * 3 / 4 + 0.08 / 4)
    assert trip.smoothed == pytest.approx(0.08 * 7 / 8 + 0.16 / 8)
    assert trip.least == 0.08
    assert trip.patience == pytest.approx(0.16 * 8 / 7)
    assert trip.probe_after == pytest.approx(trip.smoothed + 4 * trip.variation + 0.001)


@pytest.mark.parametrize("sample", [-0.1, 10.1, 1e9])
def test_round_trip_beyond_reason_is_ignored(sample):
    trip = RoundTrip()
    trip.sample(T0, sample)
    assert (trip.smoothed, trip.probe_after) == (0.05, 0.1)


def test_round_trip_is_never_less_than_a_confirm_waits():
    trip = RoundTrip()
    trip.sample(T0, 1e-5)
    assert trip.least == trip.smoothed == 0.001


# --- loss ---


def test_loss_is_estimated_anew_each_thousand_symbols():
    loss = Loss()
    assert loss.share == 0.1
    loss.count(950, 49)
    assert loss.share == 0.1
    loss.count(0, 1)
    assert loss.share == 0.05
    loss.count(990, 10)
    assert loss.share == 0.01


@pytest.mark.parametrize(("lost", "share"), [(0, 0.001), (600, 0.2), (1_000, 0.2)])
def test_loss_is_kept_within_bounds(lost, share):
    loss = Loss()
    loss.count(1_000 - lost, lost)
    assert loss.share == share
