"""Overlays and directories as an experiment: who hears what, and who holds which list."""

import pytest

from p2p.entropy import seeded
from p2p.overlay.advert import Role
from p2p.transport.fabric import EPOCH
from simulations import scenarios
from simulations.experiment import load
from simulations.log import EventLog
from simulations.metrics import Meter
from simulations.scenarios import Setting
from simulations.scenarios.directory import RULES

BASE = load({"name": "x", "scenario": "directory"}).with_(
    {
        "run.nodes": 16,
        "run.until": 26.5,
        "network.latency": {"kind": "constant", "rtt_ms": 100.0},
        "network.loss": 0.0,
        "nodes.mix": {"relay": 0.5, "worker": 0.25, "client": 0.25},
    }
)


def play(**changes):
    built, exp = [], BASE.with_({key.replace("__", "."): value for key, value in changes.items()})
    meter = Meter(lambda: built[0].now if built else EPOCH)
    log = EventLog()
    built.append(scenarios.build(Setting(exp=exp, entropy=seeded(1), meter=meter, log=log)))
    built[0].run(EPOCH + exp.run.until)
    return built[0], {str(one.key): one for one in meter.summary()}


@pytest.fixture(scope="module")
def quiet():
    return play()


def test_adverts_reach_everybody_within_a_second(quiet):
    _, found = quiet
    assert found["advert_coverage"].mean > 0.97
    assert found["advert_delay_s"].quantiles[99] < 1.0
    assert 0.5 < found["advert_duplicates"].mean < 6.0


def test_all_hold_one_list_of_those_who_said_something(quiet):
    scenario, found = quiet
    assert found["directory_agreement"].mean == 1.0
    listing = scenario.citizens[15].directory.listing
    assert len(listing.usable(Role(0))) == 12
    assert listing.status().epoch == int((EPOCH + 26.5) // RULES.epoch)


def test_tables_are_those_of_seat_overlay_and_directory(quiet):
    scenario, _ = quiet
    assert {"seat_book", "overlay_events"} <= scenario.sizes(2).keys()
    assert len(scenario.nodes) == 16


def test_seed_decides_everything_in_both_worlds():
    small = {"run__nodes": 12, "run__until": 6.0}
    logs = [play(**small, run__level=level)[0].log for level in ("L1", "L1", "L2")]
    assert logs[0].records > 500
    assert len({log.digest for log in logs}) == 1


def test_who_comes_and_goes_is_heard_again():
    scenario, found = play(
        churn__sessions={"k": 0.59, "lambda_min": 0.2}, network__loss=0.02, run__until=16.5
    )
    assert found["nodes_up"].mean < 15.5
    assert max(scenario._lives) > 1
    assert found["advert_delay_s"].count > 15
    assert found["dropped{missed}"].total > 0
