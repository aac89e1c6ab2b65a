"""Rows 2 to 4: news through real memberships, against the closed forms of epidemics."""

import math

import pytest

from p2p.entropy import seeded
from simulations import theory
from simulations.news import Village, mesh, strangers

slow = pytest.mark.slow


@pytest.mark.parametrize(
    ("fanout", "rounds"),
    [(2, 8), (4, 2), *(pytest.param(f, 40, marks=slow) for f in (2, 3, 4, 6))],
)
def test_news_reaches_as_many_as_the_form_says(fanout, rounds):
    """Row 2, infect and die: within .01, or three errors of the mean if that is more."""
    nodes = 1_000
    village = Village(nodes, strangers(nodes, 20, seeded(2)), 20, seeded(3))
    shares = [village.tell(first, fanout).reached / nodes for first in range(rounds)]
    form = theory.infected(fanout)
    error = 3.0 * math.sqrt(form * (1.0 - form) / (nodes * rounds))
    # a loss early on leaves more out: the spread of the mean is wider than that of single nodes
    slope = 1.0 / (1.0 - fanout * (1.0 - form))
    assert sum(shares) / rounds == pytest.approx(form, abs=max(0.01, slope * error))


@pytest.mark.parametrize(
    ("surplus", "nodes", "runs"),
    [
        (0, 120, 80),
        *(pytest.param(surplus, 1_000, 200, marks=slow) for surplus in (-1, 0, 1, 2)),
    ],
)
def test_all_are_reached_as_often_as_the_form_says(surplus, nodes, runs):
    """Row 3, with a fanout of ln n and so much more."""
    fanout = math.log(nodes) + surplus
    village = Village(nodes, strangers(nodes, 60, seeded(4)), 60, seeded(5))
    reached = [village.tell(first % nodes, fanout).reached for first in range(runs)]
    whole = reached.count(nodes)
    form = theory.everyone_reached(surplus)
    assert whole / runs == pytest.approx(form, abs=3.0 * math.sqrt(form * (1.0 - form) / runs))


@pytest.mark.parametrize(
    ("nodes", "chords"), [(5, 0), (200, 300), pytest.param(1_000, 3_000, marks=slow)]
)
def test_flood_of_a_mesh_has_exactly_so_many_duplicates(nodes, chords):
    """Row 4: two messages an edge, but for the one each node was told by."""
    edges = mesh(nodes, chords, seeded(6))
    both_ways = [*edges, *((there, here) for here, there in edges)]
    village = Village(nodes, both_ways, nodes, seeded(7))
    spread = village.tell(0, nodes)
    assert spread.reached == nodes
    assert spread.duplicates == theory.flood_duplicates(nodes, len(edges))
