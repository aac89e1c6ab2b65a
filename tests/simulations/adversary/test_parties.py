"""Attackers of money: what each costs an honest party, and that it costs more without a defence."""

from collections import Counter
from dataclasses import dataclass

import pytest

from inference import quoting
from inference.meter import Earning
from ledger.sqlbook import SqlBook
from simulations import run
from simulations.experiment import load
from simulations.reading import WrongExperiment
from simulations.scenarios import witness
from tests.simulations import plants

BASE = load({"name": "x", "scenario": "lanes"}).with_(
    {
        "network.loss": 0.0,
        "network.latency": {"kind": "constant", "rtt_ms": 80.0},
        "network.uplink_mbps": "none",
        "network.downlink_mbps": "none",
    }
)


@dataclass(frozen=True)
class Told:
    attacks: list
    spends: Counter
    asks: list
    outcomes: Counter
    broken: set
    checked: dict


def play(kind, *, nodes=4, turns=2, until=60.0, seed=1, **knobs):
    exp = BASE.with_(
        {
            "run.nodes": nodes,
            "run.until": until,
            "workload.turns": turns,
            "adversary": [{"kind": kind, **knobs}],
        }
    )
    trial = run.Trial(exp, seed)
    try:
        trial.run(until)
    finally:
        trial.close()
    seen, asks = trial.scenario.witness, trial.scenario.asks
    return Told(
        attacks=seen.attacks,
        spends=seen.spends,
        asks=asks,
        outcomes=Counter(ask.outcome for ask in asks),
        broken={one.invariant for one in trial.audit.violations},
        checked=trial.audit.checked,
    )


SLOW_LIES = ("count", "model", "prompt", "pad")
LIES = ("cut", *(pytest.param(lie, marks=pytest.mark.slow) for lie in SLOW_LIES))


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_costs_a_tick_at_most_and_is_told_once_to_each(lie):
    told = play("lying_worker", nodes=7, lie=lie)
    assert told.attacks
    assert all(attack.loss <= 1 for attack in told.attacks)
    assert told.outcomes["answer"]  # of the other worker
    assert not told.broken
    found_out = {}
    for ask in told.asks:
        if any(
            one.asker == ask.node and ask.began <= one.began <= ask.ended for one in told.attacks
        ):
            found_out[ask.node] = min(ask.ended, found_out.get(ask.node, ask.ended))
    assert all(attack.began <= found_out[attack.asker] for attack in told.attacks)


def test_who_pays_further_ahead_loses_more(monkeypatch):
    plants.ticks_ahead(monkeypatch)
    told = play("lying_worker", lie="cut")
    assert "I4" in told.broken
    assert max(attack.loss for attack in told.attacks) > 1


def test_who_stops_paying_gets_a_tick_more_and_who_never_pays_a_step_of_reading():
    later, never = play("free_rider", after=2), play("free_rider")
    assert max(attack.loss for attack in later.attacks) <= 1
    assert max(attack.loss for attack in never.attacks) > 1
    assert all(attack.loss <= attack.bound for attack in [*later.attacks, *never.attacks])
    assert not later.broken | never.broken
    assert later.outcomes["answer"] >= 2


def test_a_worker_that_looks_at_no_tick_is_ridden(monkeypatch):
    monkeypatch.setattr(Earning, "affordable", lambda self, count, reasoning: None)
    assert "I4" in play("free_rider", after=1).broken


SPENDING = {"until": 150.0, "turns": 4}


def test_credits_are_locked_once_whoever_shows_them_again():
    told = play("double_spender", **SPENDING)
    assert told.spends["spent"] >= 2
    assert not told.broken


def test_a_mint_that_forgets_nullifiers_is_paid_twice_in_one_coin(monkeypatch):
    monkeypatch.setattr(SqlBook, "spent", lambda self, epoch, nullifiers: None)
    monkeypatch.setattr(SqlBook, "add_spent", lambda self, epoch, ones, lock: None)
    told = play("double_spender", **SPENDING)
    assert "I5" in told.broken


FLOOD = {"rate": 10.0, "seconds": 12.0, "turns": 3}


@pytest.fixture
def few(monkeypatch):
    """A flood that is felt takes hundreds of offers, or fewer that may stand."""
    monkeypatch.setattr(quoting, "MAX_QUOTES", 16)
    monkeypatch.setitem(witness.BOUNDS, "quoted", 16)


def test_a_flood_of_wants_fills_a_table_and_no_more(few):
    told = play("flooder", **FLOOD)
    assert not told.broken
    assert told.checked["I10"] > 80
    assert told.outcomes["answer"]


def test_a_worker_that_offers_to_everybody_is_filled(few, monkeypatch):
    monkeypatch.setattr(quoting.Quoting, "_crowded", lambda self: False)
    assert "I10" in play("flooder", **FLOOD).broken


def test_attackers_that_there_are_not_are_refused():
    with pytest.raises(WrongExperiment, match="adversary tempter"):
        play("tempter")
    with pytest.raises(WrongExperiment, match="from 1 to 33"):
        run.Trial(BASE.with_({"adversary": [{"kind": "lying_worker", "nodes": [50]}]}), 1)
