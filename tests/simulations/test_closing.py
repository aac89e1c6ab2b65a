"""I3: a payee that looks now and then loses nothing to a payer that closes alone."""

import pytest

from ledger import settle
from ledger.settle import Wait
from p2p.entropy import seeded
from simulations import run
from simulations.experiment import load
from simulations.scenarios.closing import UNTIL, Closing, schedule
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


DAY = load({"name": "x", "scenario": "closing"}).with_(
    {
        "run.until": UNTIL,
        "adversary": [{"kind": "old_closer", "after": 2}],
        "fault": [{"kind": "chain_lag", "nodes": [1], "at": 7_200.0, "for": 600.0}],
    }
)


def lost(seed):
    trial = run.Trial(DAY, seed)
    trial.run(UNTIL)
    trial.close()
    (found,) = (one for one in trial.meter.summary() if one.key.metric == "loss_nano")
    assert trial.records >= 2
    return found.total


@pytest.mark.parametrize("seed", [0, 3])
def test_a_payer_that_closes_on_an_old_state_takes_nothing(seed):
    assert lost(seed) == 0


def test_a_payee_that_sleeps_loses_what_it_was_given_to_it(monkeypatch):
    monkeypatch.setattr(settle, "decide", lambda row, costs, now: Wait())
    assert lost(0) > 10**8


def test_a_watcher_that_sleeps_is_told_of(monkeypatch):
    monkeypatch.setattr(settle, "decide", lambda row, costs, now: Wait())
    _, broken = closed(0)
    assert {one.invariant for one in broken} == {"I3"}

    def failing(trial):
        return bool(closed(0, trial.faults)[1])

    whole = Trial(seed=0, nodes=2, until=0.0, faults=schedule(seeded(0)).numbers)
    assert shrink(failing, whole, least=2, most=10).faults == ()
