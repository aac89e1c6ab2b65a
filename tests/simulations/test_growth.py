"""What a long run leaves behind: nothing that grows, nothing that only a collector would free."""

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from p2p.entropy import seeded
from p2p.transport.fabric import EPOCH
from simulations import scenarios
from simulations.experiment import load
from simulations.log import EventLog
from simulations.metrics import Meter
from simulations.scenarios import Setting

ROOT = Path(__file__).parent.parent.parent

CHURNED = load({"name": "x", "scenario": "dht"}).with_(
    {
        "run.nodes": 50,
        "run.until": 10_000.0,
        "churn.sessions": {"k": 0.59, "lambda_min": 5.0},
        "workload.lookups_per_node_s": 0.01,
        "workload.publishes_per_s": 0.05,
        "measure.bucket": 100.0,
    }
)


def build(exp):
    return scenarios.build(
        Setting(exp=exp, entropy=seeded(1), meter=Meter(lambda: EPOCH), log=EventLog())
    )


def test_nodes_that_come_and_go_leave_no_cycles():
    """The world goes without the collector: a life that ends must be freed by itself."""
    brief = {"run.nodes": 20, "run.until": 25.0, "churn.sessions.lambda_min": 0.1}
    scenario = build(CHURNED.with_(brief))
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        scenario.run(EPOCH + 25.0)
        gc.collect()
        ours = ("p2p.", "simulations.")
        found = [thing for thing in gc.garbage if type(thing).__module__.startswith(ours)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    assert found == []


@pytest.mark.slow
def test_ten_thousand_seconds_need_no_more_memory_than_two_thousand():
    """In a process of its own, of whose memory the most at any time is looked at."""
    code = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("growth", {__file__!r})
module = sys.modules["growth"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
scenario = module.build(module.CHURNED)
for seconds in (2_000, 10_000):
    scenario.run(module.EPOCH + seconds)
    print(module.resource.getrusage(module.resource.RUSAGE_SELF).ru_maxrss)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    early, late = map(int, done.stdout.split())
    assert late <= 1.05 * early
