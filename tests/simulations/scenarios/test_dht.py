"""The DHT as an experiment: what it measures is what is known to be right."""

import pytest

from p2p.entropy import seeded
from p2p.transport.fabric import EPOCH
from simulations import scenarios, theory
from simulations.experiment import load
from simulations.log import EventLog
from simulations.metrics import Meter
from simulations.reading import WrongExperiment
from simulations.scenarios import Setting

BASE = load({"name": "x", "scenario": "dht"}).with_(
    {
        "run.nodes": 100,
        "run.until": 8.0,
        "network.latency": {"kind": "constant", "rtt_ms": 100.0},
        "network.loss": 0.0,
        "workload.lookups_per_node_s": 0.1,
    }
)


def play(seed=1, **changes):
    built, exp = [], BASE.with_({key.replace("__", "."): value for key, value in changes.items()})
    meter = Meter(lambda: built[0].now if built else EPOCH)
    built.append(
        scenarios.build(Setting(exp=exp, entropy=seeded(seed), meter=meter, log=EventLog()))
    )
    built[0].run(EPOCH + exp.run.until)
    return built[0], {str(one.key): one for one in meter.summary()}


@pytest.fixture(scope="module")
def quiet():
    return play()


def test_lookups_in_a_warm_network_end_at_the_nearest_node(quiet):
    _, found = quiet
    assert found["lookup_closest"].count > 40
    assert found["lookup_closest"].mean > 0.95
    assert found["table_live_share"].mean == 1.0
    assert found["nodes_up"].mean == 100.0
    assert "dropped" not in found


def test_hops_are_those_of_the_closed_form(quiet):
    _, found = quiet
    assert found["lookup_hops"].mean == pytest.approx(theory.kademlia_hops(100, 6), abs=0.6)
    assert 6 <= found["lookup_messages"].mean < 14


def test_lookup_takes_one_round_trip_for_each_hop_at_least(quiet):
    _, found = quiet
    assert found["lookup_s"].quantiles[0] >= 0.1
    assert found["lookup_s"].mean < 1.0


def test_tables_are_counted_with_those_of_the_seat(quiet):
    scenario, _ = quiet
    sizes = scenario.sizes(3)
    assert sizes["dht_contacts"] > 10
    assert sizes["seat_waiting"] <= 16


def test_values_that_were_published_are_found():
    _, found = play(workload__publishes_per_s=2.0)
    assert found["lookup_found"].mean > 0.95


def test_loss_is_counted_and_costs_time():
    _, found = play(workload__publishes_per_s=2.0, network__loss=0.05)
    assert found["dropped{lost}"].total > 0
    assert found["lookup_s"].quantiles[-1] > 2.0


def test_cold_network_joins():
    scenario, found = play(
        run__nodes=12, run__until=25.0, nodes__start="cold", workload__lookups_per_node_s=0.3
    )
    assert min(scenario.sizes(node)["dht_contacts"] for node in range(12)) >= 8
    assert found["lookup_closest"].mean > 0.5


def test_who_comes_and_goes_costs_time_and_tables():
    calm, churned = (
        play(run__until=15.0, run__nodes=50, workload__publishes_per_s=1.0, **more)[1]
        for more in ({}, {"churn__sessions": {"k": 0.59, "lambda_min": 0.15}})
    )
    assert churned["nodes_up"].mean < 45
    assert churned["table_live_share"].mean < calm["table_live_share"].mean == 1.0
    assert churned["lookup_s"].mean > calm["lookup_s"].mean
    assert churned["dropped{missed}"].total > 0


def test_who_is_behind_a_box_stands_in_no_table_but_asks():
    scenario, found = play(network__nat={"open": 0.5, "port_restricted": 0.5})
    assert found["table_live_share"].mean == 1.0
    assert found["lookup_closest"].mean > 0.9
    serving = [core for core in scenario.nodes if core.record() is not None]
    assert 35 < len(serving) < 70


def test_who_boasts_of_being_reached_is_asked_in_vain():
    nat = {"open": 0.5, "port_restricted": 0.5}
    _, found = play(network__nat=nat, adversary=[{"kind": "boastful", "share": 1.0}])
    assert found["dropped{unknown}"].total > 0
    assert found["table_live_share"].mean > 0.95


def test_adversary_or_fault_that_it_does_not_know_is_refused():
    with pytest.raises(WrongExperiment, match="boastful"):
        play(adversary=[{"kind": "sybil"}])
    with pytest.raises(WrongExperiment, match="fault"):
        play(fault=[{"kind": "disk_full", "share": 0.1}])
    with pytest.raises(WrongExperiment, match="knob"):
        play(fault=[{"kind": "drop", "share": 0.1, "speed": 3}])


def test_faults_come_at_their_rate_and_are_over():
    _, found = play(fault=[{"kind": "clog", "share": 0.2, "rate": 1.0, "for": 0.5}], run__until=6.0)
    assert found["dropped{refused}"].total > 0
