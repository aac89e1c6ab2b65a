"""Sweeps: the same whatever the engine, whoever dies on the way, and never twice."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import simulations as sim
from p2p.errors import LocalError
from simulations import code, outputs, sweep
from simulations.experiment import as_tree, canonical, load
from simulations.reading import WrongExperiment
from simulations.run import run

ROOT = Path(__file__).parent.parent.parent

TINY = {
    "name": "tiny",
    "scenario": "dht",
    "run": {"nodes": 8, "until": 6, "seeds": "0..2"},
    "workload": {"lookups_per_node_s": 0.5, "publishes_per_s": 1.0},
}

PATIENCE = 60.0
"""seconds for what takes a few: a hang ends the test, nothing measures"""


def tiny(**changes):
    return load(TINY).with_({key.replace("__", "."): value for key, value in changes.items()})


@pytest.fixture(scope="module")
def undisturbed():
    """What every disturbed sweep must come to; run here, in one process."""
    return {seed: run(tiny(), seed).digest for seed in range(3)}


def digests(result):
    return {each.seed: each.digest for each in result.runs}


def age(directory):
    return {path: path.stat().st_mtime_ns for path in directory.rglob("manifest.json")}


def test_a_sweep_is_every_seed_at_every_point_and_is_not_run_twice(tmp_path, undisturbed):
    said = []
    exp = tiny(run__seeds="0..1", sweep__grid={"network.loss": [0.01, 0.3]})
    result = sweep.sweep(exp, out=tmp_path, workers=2, say=said.append)
    assert [(each.task.point["network.loss"], each.task.seed) for each in result.done] == [
        (loss, seed) for loss in (0.01, 0.3) for seed in range(2)
    ]
    assert [each.digest for each in result.runs[:2]] == [undisturbed[0], undisturbed[1]]
    assert said[-1] == "4 of 4 runs, 0 s left"

    before = age(tmp_path)
    again = sweep.sweep(exp, out=tmp_path, workers=2)
    assert all(each.resumed for each in again.done)
    assert again.summary() == result.summary()
    assert age(tmp_path) == before


def test_a_summary_has_an_interval_for_each_metric_at_each_point(tmp_path):
    result = sweep.sweep(tiny(), out=tmp_path, engine="here")
    lines = {line.metric: line for line in result.summary()}
    messages = [each.metrics["messages{dht}"] for each in result.runs]
    interval = lines["messages{dht}"].interval
    assert min(messages) > interval.low or max(messages) < interval.high
    assert interval.n == 3
    assert lines["lookup_found"].interval.n > 3, "trials of all seeds"
    assert lines["lookup_s.p99"].warning == "3 seeds are few"
    pytest.importorskip("polars", reason="polars is not installed: the extra sim brings it")
    assert result.frame().height == len(lines)


def test_one_seed_has_no_interval(tmp_path):
    result = sweep.sweep(tiny(run__seeds="1"), out=tmp_path, engine="here")
    for line in result.summary():
        assert (line.interval.low, line.interval.high) == (None, None)
        assert line.warning == "one seed, no interval"


DEADLY = """
import os
from simulations.experiment import from_tree
from simulations.recording import perform

def work(tree, seed, directory):
    if seed == 1:
        os._exit(9)
    perform(from_tree(tree), seed, directory)
"""


@pytest.mark.slow
def test_a_run_that_kills_its_process_fails_and_the_others_do_not(
    tmp_path, monkeypatch, undisturbed
):
    (tmp_path / "deadly.py").write_text(DEADLY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sweep, "_work", __import__("deadly").work)
    result = sweep.sweep(tiny(), out=tmp_path / "out", workers=2)
    assert [each.error for each in result.done] == ["", "its process died, twice", ""]
    assert digests(result) == {seed: undisturbed[seed] for seed in (0, 2)}


SCRIPT = """
import json, sys
from pathlib import Path
from simulations.experiment import from_tree
from simulations.sweep import sweep

if __name__ == "__main__":
    sweep(from_tree(json.loads(sys.argv[1])), out=Path(sys.argv[2]), workers=2)
"""


def started(tmp_path):
    """A sweep in a process of its own."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    return subprocess.Popen(
        [sys.executable, script, canonical(as_tree(tiny())), tmp_path / "out"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def workers(parent):
    children = psutil.Process(parent.pid).children()
    return [each for each in children if "spawn_main" in " ".join(each.cmdline())]


def until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.slow
def test_a_worker_that_is_killed_changes_nothing(tmp_path, undisturbed):
    with started(tmp_path) as parent:
        until(lambda: list((tmp_path / "out").glob("*/seed-*")))
        workers(parent)[0].kill()
        assert parent.wait(PATIENCE) == 0
    runs = [outputs.read(each) for each in outputs.find(tmp_path / "out")]
    assert {each.seed: each.digest for each in runs} == undisturbed


def test_a_sweep_that_is_killed_goes_on_where_it_was(tmp_path, undisturbed):
    with started(tmp_path) as parent:
        until(lambda: outputs.find(tmp_path / "out"))
        children = workers(parent)
        parent.kill()
        parent.wait(PATIENCE)
    assert psutil.wait_procs(children, PATIENCE)[1] == []
    before = age(tmp_path)

    result = sweep.sweep(tiny(), out=tmp_path / "out", engine="here")

    assert digests(result) == undisturbed
    assert any(each.resumed for each in result.done)
    assert before.items() <= age(tmp_path).items()


def test_a_run_of_other_code_is_run_again(tmp_path, monkeypatch):
    exp = tiny(run__seeds="1")
    sweep.sweep(exp, out=tmp_path, engine="here")
    before = age(tmp_path)
    monkeypatch.setattr(code, "code_hash", lambda: "other")
    assert not sweep.outputs.is_complete(
        next(iter(before)).parent, sweep.tasks(exp, tmp_path)[0].run_hash
    )


@pytest.mark.parametrize("engine", ["ray", "dask", "futures=2"])
def test_an_engine_that_is_none_is_said_so(engine):
    with pytest.raises(WrongExperiment, match="There is no engine"):
        sweep.sweep(tiny(), engine=engine)


def test_no_workers_do_nothing():
    with pytest.raises(WrongExperiment, match="a worker at least"):
        sweep.sweep(tiny(), workers=0)


def test_without_dask_its_engine_says_what_to_install(monkeypatch):
    monkeypatch.setattr(sweep, "find_spec", lambda name: None)
    with pytest.raises(LocalError, match="Install the extra"):
        sweep.sweep(tiny(), engine="dask=tcp://127.0.0.1:1")


def test_the_api_of_researchers(undisturbed):
    study = sim.load(TINY).with_(nodes=8)
    result = study.sweep(seeds=range(1, 2), engine="here")
    assert digests(result) == {1: undisturbed[1]}
    said = []
    assert study.run(seed=1, until=6.0, progress=said.append).digest == undisturbed[1]
    with pytest.raises(WrongExperiment, match="follow each other"):
        study.sweep(seeds=[1, 5])
    with pytest.raises(AttributeError):
        sim.nothing  # noqa: B018
