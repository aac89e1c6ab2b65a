"""One run: reproducible, limited, summed up, and written so that it can be read again."""

import gzip
import json
import sys
from hashlib import sha256
from types import ModuleType

import pytest

from p2p.errors import LocalError
from p2p.transport.fabric import EPOCH
from simulations import data, frames, outputs
from simulations import run as running
from simulations.experiment import load
from simulations.log import EventLog
from simulations.recording import perform
from simulations.run import Trial, run
from simulations.scenarios import Violation

TINY = {
    "name": "tiny",
    "scenario": "dht",
    "run": {"nodes": 8, "until": 6},
    "workload": {"lookups_per_node_s": 1.5, "publishes_per_s": 2.0},
}


def tiny(**changes):
    return load(TINY).with_({key.replace("__", "."): value for key, value in changes.items()})


@pytest.fixture(scope="module")
def done():
    return run(tiny(), 7)


def test_a_seed_decides_everything(done):
    again = run(tiny(), 7, guarded=True)
    assert again.digest == done.digest
    assert again.rows == done.rows
    assert again.checkpoints == done.checkpoints
    assert run(tiny(), 8).digest != done.digest


def test_a_run_says_what_it_measured(done):
    assert done.outcome == "ok"
    assert done.virtual_s == 6.0
    assert done.metrics["lookup_found"] > 0.5
    assert done.metrics["messages{dht}"] > 0
    assert done.records > 100


def test_only_metrics_that_are_wanted_are_kept():
    some = run(tiny(measure__metrics=["lookup_s"]), 7)
    assert list(some.metrics) == ["lookup_s"]
    assert {row.metric for row in some.rows} == {"lookup_s"}


def test_a_trial_is_stepped_by_hand_and_looked_into(done):
    trial = Trial(tiny(), 7)
    trial.run(until=3.0)
    assert trial.now == 3.0
    assert len(trial.nodes) == 8
    assert sum(trial.nodes[3].sizes().values()) > 0
    trial.run(until=6.0)
    assert trial.digest == done.digest


def test_without_a_log_there_is_no_digest():
    silent = run(tiny(run__log="off"), 7)
    assert (silent.digest, silent.records, silent.outcome) == (None, 0, "ok")


def test_a_run_of_other_data_has_another_name(monkeypatch, tmp_path):
    monkeypatch.delenv("TUSSAH_DATA", raising=False)
    exp = tiny(network__latency__kind="matrix")
    without = data.run_hash(exp, 1)
    (tmp_path / "latency").mkdir()
    file = tmp_path / "latency" / "planetlab_rtt_490.f16"
    file.write_bytes(b"\x00" * 6)
    monkeypatch.setenv("TUSSAH_DATA", str(tmp_path))
    assert data.run_hash(exp, 1) != without
    assert data.used(exp) == ((str(file), sha256(b"\x00" * 6).hexdigest()),)
    assert data.used(tiny(network__latency__kind="constant")) == ()


# --- limits ---


def test_a_limit_of_records_stops_a_run_within_5_percent():
    stopped = run(tiny(limits__records=400), 7)
    assert (stopped.outcome, stopped.detail) == (
        "limit",
        f"limits.records: {stopped.records} records",
    )
    assert 400 <= stopped.records <= 420


def test_a_limit_of_time_stops_a_run_within_5_percent(monkeypatch):
    """The clock is ours: a second passes with each slice of a hundredth of the limit."""
    clock = Hands()
    monkeypatch.setattr(running.time, "monotonic", clock)
    stopped = run(tiny(run__until=1000, limits__wall_s=100), 7)
    assert stopped.outcome == "limit"
    assert stopped.detail == "limits.wall_s: 100 s"
    assert 100 <= stopped.wall_s <= 105


class Hands:
    now = 0.0

    def __call__(self):
        self.now += 0.5
        return self.now


def test_a_limit_of_memory_stops_a_run():
    stopped = run(tiny(limits__rss_mb=1), 7)
    assert (stopped.outcome, stopped.detail) == ("limit", "limits.rss_mb: 1 MB")


# --- what goes wrong ---


class Fragile:
    """A scenario whose core raises in the second second."""

    nodes = ()

    def __init__(self, setting):
        self.now = EPOCH
        self.setting = setting
        self.log = setting.log

    def run(self, until, max_records=None):
        self.now = until
        if until > EPOCH + 1.0:
            raise ZeroDivisionError("of a core")
        self.setting.audit.check("I1")
        return True


class Leaky(Fragile):
    """A scenario that breaks an invariant and goes on."""

    def run(self, until, max_records=None):
        self.now = until
        self.setting.audit.check("I1")
        self.setting.audit.fail(Violation(invariant="I1", at=until, node=3, detail="a coin less"))
        return True


def scripted(monkeypatch, kind):
    module = ModuleType("simulations.scenarios.queue")
    module.build = kind
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return tiny(scenario="queue")


def test_what_a_core_raises_is_kept_with_its_seed(monkeypatch):
    failed = run(scripted(monkeypatch, Fragile), 7)
    assert failed.outcome == "failed"
    assert "ZeroDivisionError: of a core" in failed.detail
    assert failed.checked["I1"] > 0


def test_a_broken_invariant_is_an_outcome(monkeypatch, tmp_path):
    violated = perform(scripted(monkeypatch, Leaky), 7, tmp_path / "run")
    assert violated.outcome == "violated"
    assert violated.failed == violated.checked
    read = outputs.read(tmp_path / "run")
    assert read.violations == violated.violations
    (invariant,) = outputs.document(read)["invariants"]
    assert invariant == {
        "name": "I1",
        "checked": violated.checked["I1"],
        "failed": violated.failed["I1"],
    }


def test_a_setting_that_no_scenario_knows_is_no_run():
    with pytest.raises(LocalError, match="overlay"):
        run(tiny(protocol={"overlay.fanout": 3}), 7)


def test_when_time_stands_still_the_busiest_node_is_named(monkeypatch):
    monkeypatch.setattr(running, "STILL_S", 0.0)
    moments = []

    class Stuck(Fragile):
        def run(self, until, max_records=None):
            for number in range(10):
                self.log.add(EPOCH, 2 if number else 1, 0, None, b"")
            if len(moments) == 3:
                self.now = until
            return False

    run(scripted(monkeypatch, Stuck).with_(until=0.001), 7, progress=moments.append)
    assert [moment.busiest for moment in moments[1:3]] == [2, 2]


# --- files ---


@pytest.mark.parametrize("extra", [True, False], ids=["parquet", "csv"])
def test_a_run_is_read_as_it_was_written(tmp_path, monkeypatch, extra):
    if extra and not frames.available():
        pytest.skip("polars is not installed: the extra sim brings it")
    monkeypatch.setattr(frames, "available", lambda: extra)
    written = perform(tiny(), 7, tmp_path / "run")
    read = outputs.read(tmp_path / "run")
    assert read == written
    files = {path.name for path in (tmp_path / "run").iterdir()}
    table = "metrics.parquet" if extra else "metrics.csv"
    assert files == {"manifest.json", table, "checkpoints.csv", "progress.jsonl"}


def test_a_run_without_its_manifest_is_none(tmp_path):
    perform(tiny(), 7, tmp_path / "run")
    manifest = tmp_path / "run" / "manifest.json"
    assert outputs.is_complete(tmp_path / "run", json.loads(manifest.read_text())["run_hash"])
    manifest.rename(manifest.with_suffix(".part"))
    assert not outputs.is_complete(tmp_path / "run", "any")
    with pytest.raises(LocalError, match="no finished run"):
        outputs.read(tmp_path / "run")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"schema": "tussah/sim-run/1"}'])
def test_a_damaged_manifest_is_said_so(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(LocalError, match=r"manifest\.json"):
        outputs.read(tmp_path)


def records(directory):
    with gzip.open(directory / "events.jsonl.gz", "rt") as file:
        return [json.loads(line) for line in file]


def test_records_are_kept_if_the_log_is_full_and_some_of_them_as_a_sample(tmp_path):
    full = perform(tiny(run__log="full"), 7, tmp_path / "full")
    some = perform(tiny(run__log="sample:0.2"), 7, tmp_path / "some")
    assert full.digest == some.digest == run(tiny(), 7).digest
    everything, part = records(tmp_path / "full"), records(tmp_path / "some")
    assert len(everything) == full.records
    assert 0.1 * full.records < len(part) < 0.3 * full.records
    assert all(each in everything for each in part)
    perform(tiny(run__log="full"), 7, tmp_path / "again")
    both = [(tmp_path / name / "events.jsonl.gz").read_bytes() for name in ("full", "again")]
    assert both[0] == both[1]


def test_records_add_up_to_the_digest(tmp_path):
    perform(tiny(run__log="full"), 7, tmp_path / "full")
    log = EventLog()
    for each in records(tmp_path / "full"):
        kind = next(number for number, name in outputs.KINDS.items() if name == each["kind"])
        log.add(each["t"], each["node"], kind, each["peer"], bytes.fromhex(each["data"]))
    assert log.digest == outputs.read(tmp_path / "full").digest


def test_frames_are_of_polars():
    pytest.importorskip("polars", reason="polars is not installed: the extra sim brings it")
    frame = run(tiny(), 7).frame()
    assert frame.columns == ["t", "metric", "label", "value"]
    assert frame.height > 10


def test_without_polars_a_frame_says_what_to_install(monkeypatch):
    monkeypatch.setattr(frames, "available", lambda: False)
    with pytest.raises(LocalError, match="Install the extra"):
        run(tiny(), 7).frame()
