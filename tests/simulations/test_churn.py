"""Comings and goings: as the measurements say, and in equilibrium from the first instant."""

from itertools import pairwise
from statistics import fmean, median

import pytest

from p2p.entropy import seeded
from p2p.transport.fabric import EPOCH
from simulations import theory
from simulations.churn import MEASURED, Churn, Sessions, covering
from simulations.samplers import weibull

DEBIAN = MEASURED["debian"]
FLATOUT = MEASURED["flatout"]


@pytest.mark.parametrize(
    ("name", "half", "mean"), [("debian", 16, 163), ("redhat", 7, 119), ("flatout", 23, 65)]
)
def test_sessions_are_as_long_as_was_measured(name, half, mean):
    sessions = MEASURED[name]
    assert sessions.median / 60 == pytest.approx(half, abs=0.6)
    assert sessions.mean / 60 == pytest.approx(mean, abs=1.0)


def test_rest_of_a_session_is_what_the_closed_form_says():
    """Section 14, row 16: 136 minutes for FlatOut."""
    assert FLATOUT.residual == pytest.approx(theory.residual(FLATOUT.k, FLATOUT.scale))
    assert FLATOUT.residual / 60 == pytest.approx(136, abs=1)
    draws = seeded(2)
    rests = [covering(draws, FLATOUT) * draws.uniform() for _ in range(20_000)]
    assert fmean(rests) == pytest.approx(FLATOUT.residual, rel=0.05)


def test_samplers_are_scipys(stats):
    """Kolmogorov and Smirnov, with seeds that are fixed: no chance of a bad day."""
    draws = seeded(3)
    plain = [weibull(draws, 0.59, 1.0) for _ in range(5_000)]
    assert stats.kstest(plain, stats.weibull_min(0.59).cdf).pvalue > 0.01
    unit = Sessions(k=0.59, scale=1.0)
    biased = [covering(draws, unit) ** 0.59 for _ in range(5_000)]
    assert stats.kstest(biased, stats.gamma(1.0 + 1.0 / 0.59).cdf).pvalue > 0.01


def test_as_many_are_there_at_the_start_as_later():
    churn = Churn(seeded(1), FLATOUT, online=0.7)
    nodes = [list(churn.moves(node, EPOCH + 20_000.0)) for node in range(1_500)]
    for after in (0.0, 1_000.0, 10_000.0, 19_999.0):
        here = sum(_here(moves, EPOCH + after) for moves in nodes)
        assert here / 1_500 == pytest.approx(0.7, abs=0.045)


def _here(moves, when):
    past = [move for move in moves if move.at <= when]
    return bool(past) and past[-1].comes


def test_moves_of_a_node_alternate_and_are_its_own():
    churn = Churn(seeded(1), DEBIAN, graceful=0.5)
    moves = [list(churn.moves(node, EPOCH + 50_000.0)) for node in range(40)]
    for one in moves:
        assert all(a.comes != b.comes and a.at <= b.at for a, b in pairwise(one))
    assert list(Churn(seeded(1), DEBIAN, graceful=0.5).moves(7, EPOCH + 50_000.0)) == moves[7]
    goings = [move for one in moves for move in one if not move.comes]
    assert 0.3 < fmean(move.graceful for move in goings) < 0.7


def test_everybody_is_there_if_all_are_wanted():
    churn = Churn(seeded(1), FLATOUT, online=1.0)
    moves = list(churn.moves(0, EPOCH + 100_000.0))
    assert moves[0].comes
    assert all(b.at == a.at for a, b in pairwise(moves) if b.comes)


def test_fewer_are_there_at_night():
    by_day = Churn(seeded(1), Sessions(k=1.0, scale=600.0), online=0.5, diurnal=0.9)
    gaps = {True: [], False: []}
    for node in range(300):
        moves = list(by_day.moves(node, EPOCH + 86_400.0))
        for a, b in pairwise(moves):
            if b.comes:
                gaps[a.at % 86_400.0 < 43_200.0].append(b.at - a.at)
    assert median(gaps[False]) > 2 * median(gaps[True])


@pytest.mark.parametrize("wrong", [{"online": 0.0}, {"online": 1.5}, {"diurnal": -1.0}])
def test_what_is_no_share_is_refused(wrong):
    with pytest.raises(ValueError, match="share"):
        Churn(seeded(1), DEBIAN, **wrong)


def test_world_is_told_of_every_move():
    class World:
        def __init__(self):
            self.told = []

        def start(self, node, *, at=None, build=None):
            assert (build is None) is (at == EPOCH)
            self.told.append((at, True))

        def stop(self, node, *, at=None, graceful=True):
            self.told.append((at, False))

    world, churn = World(), Churn(seeded(1), FLATOUT)
    churn.run(world, 3, EPOCH + 30_000.0, build=object)
    assert world.told == [(move.at, move.comes) for move in churn.moves(3, EPOCH + 30_000.0)]
