"""Shrinking finds what a failure needs, and nothing more."""

import pytest

from p2p.entropy import seeded
from simulations.shrink import Trial, shrink

WHOLE = Trial(seed=1, nodes=30, until=60.0, faults=tuple(range(24)))


def needs(*faults, nodes=1, until=0.0):
    def failing(trial):
        enough = trial.nodes >= nodes and trial.until >= until
        return enough and set(faults) <= set(trial.faults)

    return failing


@pytest.mark.parametrize("faults", [(), (7,), (3, 17), (0, 11, 23)])
def test_only_the_faults_that_matter_are_left(faults):
    assert shrink(needs(*faults), WHOLE).faults == faults


def test_then_fewer_nodes_and_an_earlier_end_are_found():
    small = shrink(needs(5, nodes=3, until=20.0), WHOLE, least=2)
    assert (small.faults, small.nodes) == ((5,), 3)
    assert 20.0 <= small.until < 21.0


def test_what_is_found_fails_however_strange_the_failure_is():
    entropy = seeded(3)
    for _ in range(50):
        bad = {entropy.below(24) for _ in range(4)}

        def failing(trial, bad=bad):
            return len(bad & set(trial.faults)) >= 2

        small = shrink(failing, WHOLE)
        assert failing(small)
        assert len(small.faults) == 2 or len(bad) < 2


def test_trials_are_counted():
    tried = []

    def failing(trial):
        tried.append(trial)
        return {1, 2} <= set(trial.faults)

    small = shrink(failing, WHOLE, most=5)
    assert len(tried) <= 6
    assert {1, 2} <= set(small.faults)


def test_what_does_not_fail_is_not_shrunk():
    with pytest.raises(ValueError, match="fails"):
        shrink(lambda trial: False, WHOLE)
