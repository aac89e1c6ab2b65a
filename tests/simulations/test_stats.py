"""Intervals and warm-up, against scipy where it is installed and published tables where not."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.entropy import seeded
from simulations.metrics import Kind, Series, Window
from simulations.stats import mser5, t_interval, t_probability, t_quantile, wilson, window

TABLE = {1: 12.7062047364, 2: 4.30265272991, 4: 2.77644510520, 9: 2.26215716280, 29: 2.04522964213}
"""Student's t at 97.5 %, by degrees of freedom (Abramowitz and Stegun 26.10)."""


@pytest.mark.parametrize("freedom", TABLE)
def test_quantiles_of_t_are_those_of_the_table(freedom):
    assert t_quantile(0.975, freedom) == pytest.approx(TABLE[freedom], rel=1e-10)
    assert t_quantile(0.025, freedom) == -t_quantile(0.975, freedom)


@pytest.mark.parametrize("freedom", [1, 2, 3, 7, 30, 999, 0.5])
@pytest.mark.parametrize("probability", [0.6, 0.9, 0.975, 0.9999])
def test_quantiles_of_t_are_scipys(stats, freedom, probability):
    assert t_quantile(probability, freedom) == pytest.approx(
        float(stats.t.ppf(probability, freedom)), rel=1e-9
    )


@given(st.floats(-50, 50), st.floats(0.5, 200))
def test_t_is_symmetric(value, freedom):
    assert t_probability(value, freedom) + t_probability(-value, freedom) == pytest.approx(1.0)


@pytest.mark.parametrize("values", [[1.0, 2.0], [5.0, 5.0, 5.0], [0.1, -4.0, 7.5, 3.25, 9.0]])
def test_intervals_of_means_are_scipys(stats, values):
    ours = t_interval(values)
    if len(set(values)) == 1:
        assert (ours.low, ours.high) == (values[0], values[0])
        return
    low, high = stats.t.interval(0.95, len(values) - 1, stats.tmean(values), stats.sem(values))
    assert (ours.low, ours.high) == (pytest.approx(low), pytest.approx(high))


def test_one_run_has_no_interval():
    assert t_interval([3.0]).mean == 3.0
    assert (t_interval([3.0]).low, t_interval([3.0]).high) == (None, None)
    assert math.isnan(t_interval([]).mean)


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (10, 10), (3, 17), (951, 1000)])
def test_proportions_have_scipys_wilson_interval(stats, successes, trials):
    ours = wilson(successes, trials)
    judge = stats.binomtest(successes, trials).proportion_ci(method="wilson")
    assert ours.low == pytest.approx(judge.low, abs=1e-12)
    assert ours.high == pytest.approx(judge.high, abs=1e-12)


def test_wilson_is_that_of_a_worked_example():
    """7 of 10: (0.3968, 0.8922), as in Wilson 1927's formula worked by hand."""
    ours = wilson(7, 10)
    assert (round(ours.low, 4), round(ours.high, 4)) == (0.3968, 0.8922)


def test_intervals_hold_the_truth_as_often_as_they_say():
    held = 0
    for seed in range(400):
        entropy = seeded(seed)
        interval = t_interval([sum(entropy.uniform() for _ in range(12)) for _ in range(6)])
        held += interval.low <= 6.0 <= interval.high
    assert 0.92 < held / 400 < 0.98


def noise(count, seed=1):
    entropy = seeded(seed)
    return [entropy.uniform() for _ in range(count)]


def test_a_transient_is_cut():
    values = [10.0 - at / 10 + each for at, each in enumerate(noise(100))] + noise(900, 2)
    first, stationary = mser5(values)
    assert stationary
    assert 75 <= first <= 130


def test_a_series_at_rest_keeps_nearly_all():
    first, stationary = mser5(noise(1000))
    assert stationary
    assert first < 300


def test_a_series_that_has_not_come_to_rest_is_flagged_and_kept():
    values = [0.0] * 700 + [100.0 + each for each in noise(300)]
    assert mser5(values) == Window(0, False)


def test_yes_and_no_have_no_transient():
    series = Series(Kind.CHANCE)
    for number in range(200):
        series.add(number // 10, float(number not in (20, 150)))
    assert mser5(series.values()) == Window(0, False)
    assert window(None, 1.0, series) == Window(0, True)
    assert window(5.0, 1.0, series) == Window(50, True)


@pytest.mark.parametrize("values", [[], [1.0] * 40, [5.0] * 1000])
def test_little_or_constant_is_not_cut(values):
    assert mser5(values) == Window(0, True)
