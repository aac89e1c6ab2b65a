"""Numbers of a belief, at the ends and at a published value."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.entropy import seeded
from simulations import theory
from simulations.privacy import belief, evenly


def test_who_is_known_has_no_entropy():
    known = belief([0.0, 3.0, 0.0])
    assert (known.size, known.entropy_bits, known.min_entropy_bits, known.degree) == (1, 0, 0, 0)
    assert belief([1.0]).degree == 0.0


def test_even_chances_hide_best():
    assert belief([0.25] * 4) == evenly(4, 4)
    assert belief([1.0] * 4 + [0.0] * 12) == evenly(4, 16)
    assert evenly(4, 16) == (4, 2.0, 2.0, 0.5)
    assert evenly(1, 1).degree == 0.0


def test_nobody_can_have_asked_nothing():
    with pytest.raises(ValueError, match="somebody"):
        belief([0.0, 0.0])


@given(st.lists(st.floats(0.001, 1.0), min_size=2, max_size=30))
def test_the_first_guess_is_never_harder_than_all(chances):
    numbers = belief(chances)
    assert 0.0 <= numbers.min_entropy_bits <= numbers.entropy_bits + 1e-9
    assert numbers.entropy_bits <= math.log2(len(chances)) + 1e-9
    assert 0.0 <= numbers.degree <= 1.0 + 1e-9


def crowd_path(entropy, nodes, forwarding):
    """Who passes a message on in Crowds, one after the other, whoever sends it first."""
    path = [entropy.below(nodes)]
    while entropy.uniform() < forwarding:
        path.append(entropy.below(nodes))
    return path


def test_crowd_of_twenty_hides_as_published():
    """Row 13: how often the first collaborator is told by who began, and what that leaves."""
    nodes, forwarding, entropy = 20, 0.75, seeded(13)
    before = [0] * nodes
    while sum(before) < 8_000:
        path = [1, *crowd_path(entropy, nodes, forwarding)]  # 1 begins, 0 collaborates
        if 0 in path:
            before[path[path.index(0) - 1]] += 1
    expected = theory.crowds(nodes, 1, forwarding)
    error = math.sqrt(expected.first * (1 - expected.first) / 8_000)
    assert before[1] / 8_000 == pytest.approx(expected.first, abs=3 * error)
    seen = belief(before[1:])
    assert seen.entropy_bits == pytest.approx(expected.entropy, abs=0.03)
    assert seen.degree == pytest.approx(expected.degree, abs=0.01)
