"""The path's benchmark: what it makes of the rounds that it was given, and its plan."""

from dataclasses import asdict

import pytest

from scripts.bench import path, report
from scripts.bench.path import Round


def answer(ttft, rate, text="silk"):
    """One that was asked at 10 s."""
    first = 10.0 + ttft / 1_000
    return Round(asked=10.0, first=first, last=first + 63 / rate, pieces=[text], tokens=64)


def bench(**direct):
    rounds = [
        (answer(80 + n, 99), answer(130 + n, 50), answer(60, 100, **direct)) for n in range(3)
    ]
    return path._bench(True, rounds, 30.0)


def test_both_ways_through_the_network_are_held_against_the_engine():
    results = {row.name: row for row in bench().results}
    assert results["added_ttft_ms"].value == pytest.approx(21)
    assert results["added_ttft_ms_paid"].value == pytest.approx(71)
    assert results["added_ttft_ms_paid"].ratio == pytest.approx(71 / 60, abs=0.001)
    assert results["tokens_per_second"].ratio == pytest.approx(0.99)
    assert results["asks_per_second"].value == 30.0


def test_what_is_paid_is_reported_and_has_no_aim():
    assert {aim.name: aim.met for aim in bench().aims} == {
        "added_ttft_ms": True,
        "tokens_per_second": True,
    }


def test_subjects_that_do_not_agree_make_the_comparison_void():
    assert "same text" in bench().notes[0]
    assert "void" in bench(text="wool").notes[0]


def test_only_one_worker_is_paid_and_all_but_two_cost_nothing():
    plan = path._plan()
    names = [name for role, name in plan.names() if role == "worker"]
    lines = {name: plan.config.get(name, "") for name in names}
    assert [name for name, given in lines.items() if "price" in given] == [path.PAID]
    real = [name for name, given in lines.items() if "fake" not in given]
    assert real == [path.FREE, path.PAID]


def test_a_bench_is_a_document(validate):
    result = report.document(bench(), report.machine())
    validate(result, "bench")
    assert result["results"][0] == asdict(bench().results[0])
