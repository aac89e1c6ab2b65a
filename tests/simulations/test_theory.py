"""Closed forms, at the values that others have measured, and against slower ways to the same."""

import math
from itertools import pairwise

import pytest

from simulations import theory
from simulations.theory import Moments


@pytest.mark.parametrize(
    ("k", "slope"), [(1, 0.721), (3, 0.459), (8, 0.326), (10, 0.305), (20, 0.254)]
)
def test_hops_grow_with_the_logarithm_of_the_network_by_a_known_slope(k, slope):
    hops = [theory.kademlia_hops(nodes, k) for nodes in (1_000, 10_000)]
    assert (hops[1] - hops[0]) / math.log(10) == pytest.approx(slope, abs=0.0005)
    assert theory.kademlia_slope(k) == pytest.approx(slope, abs=0.0005)


def test_of_as_many_nodes_as_a_bucket_holds_one_is_asked():
    assert theory.kademlia_hops(6, 6) == theory.kademlia_hops(2, 6) == 1.0


@pytest.mark.parametrize(
    ("form", "arguments", "value"),
    [
        (theory.infected, (2,), 0.7968),
        (theory.infected, (3,), 0.9405),
        (theory.infected, (4,), 0.9802),
        (theory.infected, (6,), 0.9975),
        (theory.everyone_reached, (-1,), 0.066),
        (theory.everyone_reached, (0,), 0.368),
        (theory.everyone_reached, (1,), 0.692),
        (theory.everyone_reached, (2,), 0.873),
        (theory.best_of, (1, 0.7), 3.333),
        (theory.best_of, (2, 0.7), 1.614),
        (theory.best_of, (3, 0.7), 1.357),
        (theory.best_of, (1, 0.9), 10),
        (theory.best_of, (2, 0.9), 2.614),
        (theory.best_of, (3, 0.9), 2.028),
        (theory.erlang_c, (4, 0.8), 0.5964),
        (theory.erlang_wait, (4, 0.8), 0.7455),
        (theory.fixed_wait, (0.8,), 2.0),
        (theory.both_ends, (1_000, 100), 0.00991),
        (theory.both_ends, (1_000, 200), 0.0398),
        (theory.worker_linked, (0.1, 0.1), 0.0190),
        (theory.worker_linked, (0.2, 0.2), 0.0720),
        (theory.prompt_linked, (0.1, 0.1), 0.0100),
        (theory.ever_linked, (0.1, 0.1, 100), 0.634),
        (theory.guarded, (0.1, 0.1, 100), 0.100),
        (theory.denied, (0.3,), 0.2079),
        (theory.denied, (0.3, 4), 0.2726),
        (theory.rounds, (100, 10), 100),
        (theory.rounds_of, (100, 10), 110),
        (theory.steered, (5, 10), 0.5),
        (theory.steered, (5, 20), 0.25),
        (theory.steered, (5, 5), 1.0),
        (theory.even, (5, 100), 0.05),
        (theory.first_token_legs, (4,), 16),
        (theory.call_fails, (0.05,), 0.0975),
        (theory.residual, (0.59, 41.9), 136),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_known_value(form, arguments, value):
    assert form(*arguments) == pytest.approx(value, rel=3e-3, abs=6e-5)


def test_crowd_of_twenty_with_one_collaborator():
    crowd = theory.crowds(20, 1, 0.75)
    assert crowd.first == pytest.approx(0.325)
    assert crowd.entropy == pytest.approx(3.724, abs=0.0005)
    assert crowd.degree == pytest.approx(0.877, abs=0.0005)


def test_exact_forms_come_near_those_for_very_many_relays():
    many = 1_000_000
    assert theory.both_ends(many, many // 10) == pytest.approx(0.01, rel=1e-4)
    linked = theory.worker_linked(0.1, 0.2)
    assert theory.worker_linked_of(many, many // 10, 0.2) == pytest.approx(linked, rel=1e-4)
    assert theory.denied_of(many, 300_000) == pytest.approx(theory.denied(0.3), rel=1e-4)
    with_worker = theory.denied_of(many, 300_000, workers=0.3)
    assert with_worker == pytest.approx(theory.denied(0.3, 4), rel=1e-4)


def test_guards_one_after_the_other_are_more_chances():
    once = theory.guarded(0.1, 0.1, 100)
    assert theory.guards_linked(0.1, 0.1, [100]) == pytest.approx(once)
    spans = [[100], [50, 50], [25] * 4, [1] * 100]
    for fewer, more in pairwise(theory.guards_linked(0.1, 0.1, span) for span in spans):
        assert fewer < more
    each_time = theory.ever_linked(0.1, 0.1, 100)
    assert theory.guards_linked(0.1, 0.1, [1] * 100) == pytest.approx(each_time)


def test_bounded_room_is_erlang_s_at_both_ends():
    none, all_but_endless = theory.bounded(4, 0, 0.8), theory.bounded(4, 400, 0.8)
    assert none.refused == pytest.approx(theory.erlang_b(4, 3.2))
    assert none.wait == 0.0
    assert all_but_endless.refused == pytest.approx(0.0, abs=1e-9)
    assert all_but_endless.wait == pytest.approx(theory.erlang_wait(4, 0.8))


def test_guard_that_fails_all_is_banned_at_once_and_one_that_fails_none_never():
    assert theory.banned(0.0, 20, 0.5, 20) == 1.0
    assert theory.banned(1.0, 20, 0.5, 100) == 0.0
    by_20 = sum(math.comb(20, passed) * 0.3**passed * 0.7 ** (20 - passed) for passed in range(10))
    assert theory.banned(0.3, 20, 0.5, 20) == pytest.approx(by_20)
    assert theory.banned(0.3, 20, 0.5, 40) > theory.banned(0.3, 20, 0.5, 30) > by_20


def test_links_that_share_a_node_vary_more_than_links_drawn_apart():
    one = Moments(mean=0.05, variance=0.01)
    assert theory.legs(4, one) == Moments(mean=0.2, variance=0.04)
    assert theory.legs(4, one, shared=0.002).variance == pytest.approx(0.052)
