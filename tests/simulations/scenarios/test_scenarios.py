"""How a scenario is found by its name, and what it may be asked for."""

import sys
from types import ModuleType

import pytest

from p2p.entropy import seeded
from p2p.transport.fabric import EPOCH
from simulations import scenarios
from simulations.experiment import load
from simulations.metrics import Meter
from simulations.reading import WrongExperiment
from simulations.scenarios import Audit, Setting, Violation


def setting(**changes):
    exp = load({"name": "x", "scenario": "queue"}).with_(changes)
    return Setting(exp=exp, entropy=seeded(1), meter=Meter(lambda: EPOCH), log=None)


@pytest.fixture
def queue(monkeypatch):
    module = ModuleType("simulations.scenarios.queue")
    module.build = lambda given: given
    module.KNOBS = ("dht", "onion.relays")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def test_a_scenario_is_built_by_its_module(queue):
    given = setting()
    assert scenarios.build(given) is given


def test_a_number_that_no_core_of_the_scenario_would_see_is_refused(queue):
    scenarios.build(setting(**{"protocol.dht.k": 5, "protocol.onion.relays": 2}))
    for name in ("overlay.fanout", "onion.guards"):
        with pytest.raises(WrongExperiment, match=name):
            scenarios.build(setting(**{f"protocol.{name}": 1}))


def test_a_level_that_a_scenario_does_not_have_is_refused(queue):
    with pytest.raises(WrongExperiment, match="no level L2"):
        scenarios.build(setting(**{"run.level": "L2"}))


def test_a_scenario_that_is_not_there_is_said_so(monkeypatch):
    monkeypatch.setattr(scenarios, "import_module", missing)
    with pytest.raises(WrongExperiment, match="not part of this version"):
        scenarios.build(setting())


def missing(name):
    raise ModuleNotFoundError(name=name)


def test_violations_are_all_counted_and_some_kept(monkeypatch):
    monkeypatch.setattr(scenarios, "MAX_VIOLATIONS", 3)
    audit = Audit()
    audit.check("I1", 10)
    for node in range(5):
        audit.fail(Violation(invariant="I1", at=EPOCH, node=node, detail="a coin is missing"))
    assert (audit.checked, audit.failed, len(audit.violations)) == ({"I1": 10}, {"I1": 5}, 3)
