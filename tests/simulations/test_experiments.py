"""The ready experiments that are about networks: each is one, and asks what its name says."""

import pytest

from p2p.entropy import seeded
from p2p.transport.fabric import EPOCH
from simulations import scenarios
from simulations.experiment import load
from simulations.log import EventLog
from simulations.metrics import Meter
from simulations.scenarios import Setting

OURS = ["dht-hops", "churn-1000", "nat-mix", "advert-flood", "directory"]


@pytest.mark.parametrize("name", OURS)
def test_ready_experiment_runs_at_every_point_of_its_quick_grid(name):
    exp = load(name).quicker()
    assert exp.name == name
    assert exp.question.endswith("?")
    points = [point for _, point in exp.points()]
    assert 1 <= len(points) <= 8
    for point in points[:2]:
        small = point.with_({"run.nodes": 12, "run.until": 1.0})
        log, meter = EventLog(), Meter(lambda: EPOCH)
        scenario = scenarios.build(Setting(exp=small, entropy=seeded(0), meter=meter, log=log))
        assert scenario.run(EPOCH + 1.0)
        assert log.records > 0
