"""I3: a payee that looks now and then loses nothing to a payer that closes alone."""

import pytest

from ledger import settle
from ledger.settle import Wait
from p2p.entropy import seeded
from simulations.scenarios.closing import Closing, schedule
from simulations.shrink import Trial, shrink


def closed(seed, numbers=None):
    entropy = seeded(seed)
    faults = schedule(entropy)
    kept = faults if numbers is None else faults.keep(numbers)
    closing = Closing(entropy, seed, kept)
    return closing, closing.run()


@pytest.mark.parametrize("first", [0, 6])
def test_no_old_state_is_finalised_under_any_faults(first):
    ended = 0
    for seed in range(first, first + 6):
        closing, broken = closed(seed)
        assert not broken, (seed, broken, [str(fault) for fault in schedule(seeded(seed))])
        ended += len(closing.chain.ended)
    assert ended >= 4


@pytest.mark.slow
def test_no_old_state_is_finalised_in_many_more_seeds():
    assert not [seed for seed in range(100, 300) if closed(seed)[1]]


def test_a_watcher_that_sleeps_is_told_of(monkeypatch):
    monkeypatch.setattr(settle, "decide", lambda row, costs, now: Wait())
    _, broken = closed(0)
    assert {one.invariant for one in broken} == {"I3"}

    def failing(trial):
        return bool(closed(0, trial.faults)[1])

    whole = Trial(seed=0, nodes=2, until=0.0, faults=schedule(seeded(0)).numbers)
    assert shrink(failing, whole, least=2, most=10).faults == ()
