"""Closed forms, at the values that others have measured."""

import math

import pytest

from simulations import theory


@pytest.mark.parametrize(
    ("k", "slope"), [(1, 0.721), (3, 0.459), (8, 0.326), (10, 0.305), (20, 0.254)]
)
def test_hops_grow_with_the_logarithm_of_the_network_by_a_known_slope(k, slope):
    hops = [theory.kademlia_hops(nodes, k) for nodes in (1_000, 10_000)]
    assert (hops[1] - hops[0]) / math.log(10) == pytest.approx(slope, abs=0.0005)


def test_of_as_many_nodes_as_a_bucket_holds_one_is_asked():
    assert theory.kademlia_hops(6, 6) == theory.kademlia_hops(2, 6) == 1.0
