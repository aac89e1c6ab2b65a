"""Full nodes as an experiment."""

from contextlib import nullcontext

import pytest

from p2p.entropy import seeded
from p2p.transport.fabric import EPOCH
from simulations import scenarios
from simulations.adversary.slow_reader import HELD
from simulations.experiment import load
from simulations.log import EventLog
from simulations.memo import Seals
from simulations.metrics import Meter
from simulations.reading import WrongExperiment
from simulations.scenarios import Setting

BASE = load({"name": "x", "scenario": "town"}).with_(
    {
        "run.nodes": 9,
        "run.until": 17.0,
        "network.loss": 0.0,
        "network.latency": {"kind": "constant", "rtt_ms": 60.0},
        "workload.arrivals": {"kind": "poisson", "rate": 1.0},
        "nodes.mix": {"client": 0.3, "relay": 0.6, "worker": 0.1},
    }
)


def build(**changes):
    exp = BASE.with_(changes)
    meter = Meter(lambda: built[0].now if built else EPOCH)
    built = []
    built.append(scenarios.build(Setting(exp=exp, entropy=seeded(1), meter=meter, log=EventLog())))
    return built[0], meter


def test_questions_are_answered_through_the_whole_stack():
    scenario, meter = build()
    scenario.run(EPOCH + 17.0)
    found = {str(one.key): one for one in meter.summary()}
    assert found["ask_outcome{answer}"].total >= 2
    assert "ask_outcome{error}" not in found
    assert 0.5 < found["ask_s"].mean < 5.0
    assert found["nodes_up"].mean == 9.0
    assert sum(scenario.sizes(0).values()) > 0
    for core in scenario.nodes:
        core.finish()


def test_town_without_a_path_is_refused():
    with pytest.raises(WrongExperiment, match="5 nodes"):
        build(**{"run.nodes": 4})


@pytest.mark.slow
def test_seals_that_are_remembered_change_nothing(monkeypatch):
    kept, _ = build()
    kept.run(EPOCH + 15.0)
    monkeypatch.setattr(Seals, "kept", lambda self: nullcontext())
    plain, _ = build()
    plain.run(EPOCH + 15.0)
    assert kept.log.digest == plain.log.digest
    for core in (*kept.nodes, *plain.nodes):
        core.finish()


@pytest.mark.slow
def test_who_reads_nothing_fills_a_window_of_each_relay_and_no_more():
    clients = {"run.nodes": 10, "run.until": 22.0}
    scenario, meter = build(adversary=[{"kind": "slow_reader", "nodes": [8]}], **clients)
    scenario.run(EPOCH + 22.0)
    found = {str(one.key): one for one in meter.summary()}
    most = found["queue_bytes{relay}"].quantiles[100]
    assert 0 < most <= HELD
    assert found["ask_outcome{answer}"].total >= 5
    for core in scenario.nodes:
        core.finish()


@pytest.mark.slow
def test_a_flood_of_circuits_leaves_others_their_answers():
    clients = {"run.nodes": 10, "run.until": 22.0}
    flood = {"kind": "flooder", "nodes": [8], "rate": 20.0, "seconds": 6.0}
    scenario, meter = build(adversary=[flood], **clients)
    scenario.run(EPOCH + 22.0)
    found = {str(one.key): one for one in meter.summary()}
    assert found["ask_outcome{answer}"].total >= 5
    for core in scenario.nodes:
        core.finish()


def test_attackers_of_a_town_are_its_clients():
    with pytest.raises(WrongExperiment, match="from 6 to 8"):
        build(adversary=[{"kind": "slow_reader", "nodes": [1]}])
    with pytest.raises(WrongExperiment, match="adversary tempter"):
        build(adversary=[{"kind": "tempter"}])
