"""Draws against an independent judge's distributions."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.entropy import seeded
from simulations.samplers import Percentiles, gamma, geometric, normal, weibull

numpy = pytest.importorskip("numpy")

DRAWS = 5_000


@pytest.fixture
def fits(stats):
    """Whether draws are of a distribution, by Kolmogorov and Smirnov at one in a thousand."""

    def fit(draw, judge, seed=1):
        entropy = seeded(seed)
        return stats.kstest([draw(entropy) for _ in range(DRAWS)], judge).pvalue > 0.001

    return fit


def test_normal_draws_are_normal(stats, fits):
    assert fits(normal, stats.norm.cdf)


@pytest.mark.parametrize("shape", [0.23, 0.87, 1.0, 2.7, 40.0])
def test_gamma_draws_are_gamma(stats, fits, shape):
    assert fits(lambda entropy: gamma(entropy, shape), stats.gamma(shape).cdf)


@pytest.mark.parametrize(("shape", "scale"), [(0.38, 42.4), (0.34, 21.3), (0.59, 41.9), (2.0, 1.0)])
def test_weibull_draws_are_weibull(stats, fits, shape, scale):
    judge = stats.weibull_min(shape, scale=scale)
    assert fits(lambda entropy: weibull(entropy, shape, scale), judge.cdf)


def test_another_shape_is_told_apart(stats, fits):
    assert not fits(lambda entropy: gamma(entropy, 1.0), stats.gamma(1.1).cdf)


@pytest.mark.parametrize("mean", [1.0, 1.5, 4.0, 30.0])
def test_geometric_draws_have_their_mean_and_begin_at_one(mean):
    entropy = seeded(3)
    draws = [geometric(entropy, mean) for _ in range(DRAWS)]
    error = math.sqrt(mean * (mean - 1.0) / DRAWS)
    assert min(draws) == 1
    assert sum(draws) / DRAWS == pytest.approx(mean, abs=3.5 * error + 1e-9)


def test_percentiles_are_met_at_their_ranks_and_linear_between(fits):
    table = Percentiles((0.0, 0.5, 1.0), (10.0, 20.0, 100.0))
    values = [table.at(rank) for rank in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert values == [10.0, 15.0, 20.0, 60.0, 100.0]
    assert table.mean == 37.5
    assert fits(table.draw, lambda values: numpy.interp(values, [10, 20, 100], [0, 0.5, 1]))


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_percentiles_never_fall(one, other):
    table = Percentiles((0.0, 0.2, 0.9, 1.0), (1.0, 1.0, 5.0, 9.0))
    low, high = sorted((one, other))
    assert 1.0 <= table.at(low) <= table.at(high) <= 9.0


@pytest.mark.parametrize("ranks", [(0.0, 1.0, 1.0), (0.1, 1.0), (0.0, 0.9)])
def test_percentiles_need_a_value_for_each_rank(ranks):
    with pytest.raises(ValueError, match="each rank"):
        Percentiles(ranks, (1.0, 2.0))
