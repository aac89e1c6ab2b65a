"""The simulator's benchmark, small: every row of it, in the one shape."""

import json

import pytest

from scripts.bench import main, sim

NAMES = {
    "events_per_cpu_second_1000",
    "cpu_seconds_per_virtual_second_1000",
    "bare_heapq_wakes_per_cpu_second",
    "bare_trio_wakes_per_cpu_second",
    "full_node_events_per_cpu_second_30",
    "events_per_cpu_second_10000",
    "cpu_seconds_per_virtual_second_10000",
    "build_seconds_10000",
    "peak_mb_10000",
    "events_per_cpu_second_1000_full",
    "cpu_seconds_per_virtual_second_1000_full",
    "build_seconds_1000_full",
}


@pytest.fixture
def _small(monkeypatch):
    """Figures of this mean nothing; it only takes less time."""
    small = {"SMALL": 20, "LARGE": 30, "FULL": 5, "WAKES": 2_000, "SECONDS": 1.0}
    for name, value in {**small, "LARGE_SECONDS": 0.5, "FULL_LARGE_SECONDS": 0.5}.items():
        monkeypatch.setattr(sim, name, value)


@pytest.mark.usefixtures("_small")
def test_prints_one_document_with_every_row_and_every_aim(capsys, validate):
    assert main.main("sim", as_json=True) == 0
    document = json.loads(capsys.readouterr().out)
    validate(document, "bench")
    names = {row["name"] for row in document["results"]}
    assert names - {"bare_simpy_wakes_per_cpu_second"} == NAMES
    assert {row["name"] for row in document["aims"]} == set(sim.AIMS)


def test_run_says_what_it_cost():
    done = sim.run(sim._dht(10, 1.0))
    assert done.records > 0
    assert done.rate == pytest.approx(done.records / done.run_s)
    assert done.cost == pytest.approx(done.run_s)
