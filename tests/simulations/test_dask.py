"""Dask as the engine of a sweep: a real cluster on this machine, the same digests."""

import subprocess
import sys
from importlib.util import find_spec

import pytest

from simulations import outputs, sweep
from simulations.experiment import load
from simulations.run import run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("distributed") is None, reason="Dask comes with the extra sim"),
]


TINY = {
    "name": "tiny",
    "scenario": "dht",
    "run": {"nodes": 8, "until": 6, "seeds": "0..3"},
    "workload": {"lookups_per_node_s": 1.5, "publishes_per_s": 2.0},
}

SCRIPT = """
import sys
from pathlib import Path
from simulations.experiment import load
from simulations.sweep import sweep
from distributed import LocalCluster

if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        engine = f"dask={cluster.scheduler_address}"
        result = sweep(load(eval(sys.argv[1])), out=Path(sys.argv[2]), engine=engine)
    print([each.error for each in result.done])
"""


def test_a_cluster_gives_the_digests_of_one_process(tmp_path):
    """In a process of its own: Dask leaves threads and loops behind that are no concern of ours."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, script, repr(TINY), tmp_path / "out"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(filter(None, sys.path)), "PATH": "/usr/bin:/bin"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['', '', '', '']"
    runs = [outputs.read(each) for each in outputs.find(tmp_path / "out")]
    assert {each.seed: each.digest for each in runs} == {
        seed: run(load(TINY), seed).digest for seed in range(4)
    }
    again = sweep.sweep(load(TINY), out=tmp_path / "out", engine="here")
    assert all(each.resumed for each in again.done)
    assert outputs.manifest(outputs.find(tmp_path / "out")[0])["out"].startswith(str(tmp_path))
