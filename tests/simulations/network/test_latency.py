"""How long ways are: the figures that each model was made for, and that order does not matter."""

import math
import os
from itertools import pairwise
from pathlib import Path
from statistics import fmean, quantiles, variance

import numpy as np
import pytest

from p2p.entropy import seeded
from simulations import theory
from simulations.network import matrix, regions
from simulations.network.latency import (
    QUANTILES,
    Coordinates,
    Everywhere,
    Measured,
    Quantiles,
    Regional,
    Star,
)
from simulations.network.matrix import Matrix
from simulations.network.regions import RTT_MS, Regions

DATA = Path(os.environ.get("TUSSAH_DATA", "/work/shared/data")) / matrix.FILE

planetlab = pytest.mark.skipif(
    not DATA.is_file(), reason=f"the matrix is not at hand: no {matrix.FILE} under TUSSAH_DATA"
)


def kinds(seed=1):
    entropy = seeded(seed)
    triangle = [float(10 + n) for n in range(15)]
    return {
        "everywhere": Everywhere(0.1),
        "star": Star(entropy),
        "coordinates": Coordinates(entropy),
        "regional": Regional(entropy, Regions(entropy)),
        "measured": Measured(entropy, Matrix(triangle)),
        "quantiles": Quantiles(entropy),
    }


@pytest.mark.parametrize("kind", kinds())
def test_way_is_as_long_back_and_whoever_is_asked_about_first(kind):
    ahead, behind = kinds()[kind], kinds()[kind]
    pairs = [(a, b) for a in range(12) for b in range(12) if a != b]
    legs = {pair: ahead.leg(*pair) for pair in pairs}
    assert {pair: behind.leg(*pair) for pair in reversed(pairs)} == legs
    assert all(legs[a, b] == legs[b, a] >= 0.0 for a, b in pairs)


def rtts(model, pairs=4_000):
    """Milliseconds there and back, of many pairs of many nodes."""
    draws = seeded(99)
    some = [(draws.below(2_000), 2_000 + draws.below(2_000)) for _ in range(pairs)]
    return sorted(2_000.0 * model.leg(a, b) for a, b in some)


def at(values, share):
    return values[int(share * len(values))]


def test_coordinates_have_the_round_trips_they_were_fitted_to():
    found = rtts(kinds()["coordinates"])
    for share, expected in [(0.05, 100), (0.5, 188), (0.95, 301)]:
        assert at(found, share) == pytest.approx(expected, rel=0.07)


def test_coordinates_know_no_short_cuts():
    model, draws = kinds()["coordinates"], seeded(5)
    for _ in range(500):
        a, b, c = (draws.below(400) for _ in range(3))
        if len({a, b, c}) == 3:
            assert model.leg(a, c) <= model.leg(a, b) + model.leg(b, c) + 1e-12


def test_quantiles_are_planetlabs():
    found = rtts(kinds()["quantiles"])
    for share, expected in [(0.05, 19.3), (0.25, 59.3), (0.5, 135), (0.75, 202), (0.95, 325)]:
        assert at(found, share) == pytest.approx(expected, rel=0.07)


def test_regions_have_their_shares_and_their_distances():
    entropy = seeded(3)
    where = Regions(entropy)
    model, count = Regional(entropy, where), 4_000
    drawn = [where.of(node) for node in range(count)]
    for number, name in enumerate(regions.NAMES):
        share = regions.SHARES[name]
        error = 4 * math.sqrt(share * (1 - share) / count)
        assert drawn.count(number) / count == pytest.approx(share, abs=error)

    europe, japan = drawn.index(1), drawn.index(4)
    heights = 2_000.0 * model.leg(europe, japan) - RTT_MS[1][4]
    assert 0.5 < heights < 200.0
    assert all(row[n] == RTT_MS[n][m] for m, row in enumerate(RTT_MS) for n in range(6))


def test_regions_unknown_or_without_shares_are_refused():
    for shares in ({"MARS": 1.0}, {"EU": 0.0}):
        with pytest.raises(ValueError, match="regions are"):
            Regions(seeded(1), shares)


def test_nodes_of_one_row_are_neighbours():
    model = Measured(seeded(1), Matrix([100.0, 200.0, 300.0]))
    assert {round(2_000.0 * model.leg(0, node)) for node in (1, 2)} <= {100, 200, 300}
    assert model.leg(0, 3) < model.leg(0, 1)
    assert 0.0005 < model.leg(0, 3) < 0.1


# --- the file of the matrix ---


def test_matrix_reads_what_was_written_row_by_row():
    table = Matrix([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    rows = [[round(1_000 * table.rtt(a, b)) for b in range(4)] for a in range(4)]
    assert rows == [[0, 1, 2, 3], [1, 0, 4, 5], [2, 4, 0, 6], [3, 5, 6, 0]]


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0\0", bytes(4)])
def test_file_that_is_no_triangle_is_refused(tmp_path, data):
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(ValueError, match=r"triangle|half"):
        matrix.read(tmp_path / "x")


@planetlab
def test_matrix_is_the_one_that_numpy_reads():
    assert matrix.digest(DATA) == matrix.SHA256
    ours, theirs = matrix.read(DATA), np.fromfile(DATA, dtype="<f2").astype(float)
    assert ours.rows == 490
    full = np.zeros((490, 490))
    full[np.triu_indices(490, 1)] = theirs
    full += full.T
    read = np.array([[ours.rtt(a, b) for b in range(490)] for a in range(490)])
    assert np.array_equal(read, full / 1_000.0)
    assert ours.rtt(0, 1) == 0.000175048828125
    assert ours.rtt(489, 488) == 0.04003125


@planetlab
def test_matrix_has_short_cuts_as_the_real_network_has():
    table, draws, short = matrix.read(DATA), seeded(4), 0
    for _ in range(20_000):
        a, b, c = (draws.below(490) for _ in range(3))
        short += table.rtt(a, c) > table.rtt(a, b) + table.rtt(b, c)
    assert short / 20_000 == pytest.approx(0.060, abs=0.012)


def test_matrix_is_looked_for_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.delenv("TUSSAH_DATA", raising=False)
    assert matrix.find() is None
    monkeypatch.setenv("TUSSAH_DATA", str(tmp_path))
    assert matrix.find() is None
    path = tmp_path / matrix.FILE
    path.parent.mkdir()
    path.write_bytes(b"\0\0")
    assert matrix.find() == path


# --- section 14, row 15 ---


@pytest.mark.parametrize(
    ("links", "legs"),
    [(2, 120_000), (4, 120_000), pytest.param(4, 1_200_000, marks=pytest.mark.slow)],
)
def test_delay_of_a_path_is_so_many_ways_of_the_network(links, legs):
    """Links drawn independently: mean and variance are so many times those of one.

    One pair in a hundred has three quarters of the variance, so it takes many.
    """
    model, draws = kinds()["quantiles"], seeded(15)
    paths = []
    for _ in range(legs // links):
        hops = [draws.below(1 << 30) for _ in range(links + 1)]
        paths.append(sum(model.leg(a, b) for a, b in pairwise(hops)))
    one_way = [(share, there_and_back / 2.0) for share, there_and_back in QUANTILES]
    expected = theory.legs(links, theory.of_quantiles(one_way))
    assert fmean(paths) == pytest.approx(expected.mean, rel=0.02)
    assert variance(paths) == pytest.approx(expected.variance, rel=0.05)


def test_quantiles_helper_agrees_with_the_standard_library():
    found = rtts(kinds()["quantiles"])
    assert at(found, 0.5) == pytest.approx(quantiles(found, n=2)[0], rel=0.01)
