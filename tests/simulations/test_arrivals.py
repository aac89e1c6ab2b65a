"""Requests as drawn, and as a file has them."""

import gzip
import os
import statistics
from bisect import bisect_right
from itertools import islice, pairwise
from pathlib import Path

import pytest

from p2p.entropy import seeded
from simulations import arrivals
from simulations.arrivals import LENGTHS, BadTrace, Request, drawn, gamma_gaps, poisson, trace

DATA = Path(os.environ.get("TUSSAH_DATA", "/work/shared/data")) / "workload"


def gaps_of(process, count=20_000):
    return list(islice(process, count))


@pytest.mark.parametrize(("shape", "variation"), [(0.87, 1.072), (4.0, 0.5)])
def test_gamma_gaps_have_the_rate_and_vary_by_the_shape(shape, variation):
    gaps = gaps_of(gamma_gaps(seeded(1), 5.53, shape))
    assert statistics.mean(gaps) == pytest.approx(1 / 5.53, rel=0.03)
    assert statistics.stdev(gaps) / statistics.mean(gaps) == pytest.approx(variation, rel=0.03)


def test_poisson_gaps_vary_as_much_as_they_last():
    gaps = gaps_of(poisson(seeded(2), 2.0))
    assert statistics.mean(gaps) == pytest.approx(0.5, rel=0.03)
    assert statistics.stdev(gaps) == pytest.approx(0.5, rel=0.03)


def test_drawn_requests_come_in_order_with_lengths_of_the_service():
    requests = list(islice(drawn(poisson(seeded(3), 1.0), LENGTHS["conv"], seeded(4)), 4_000))
    assert all(before.at < after.at for before, after in pairwise(requests))
    assert statistics.median(each.prompt for each in requests) == pytest.approx(1_020, rel=0.03)
    assert statistics.median(each.answer for each in requests) == pytest.approx(129, rel=0.06)


@pytest.mark.parametrize(
    "pack", [lambda text: text.encode(), lambda text: gzip.compress(text.encode())]
)
def test_trace_is_read_plain_and_packed_and_stretched_to_a_rate(tmp_path, pack):
    packed = pack("t_us,context,generated\n0,10,20\n500000,30,40\n2000000,50,60\n")
    path = tmp_path / ("trace.csv.gz" if packed[:1] == b"\x1f" else "trace.csv")
    path.write_bytes(packed)
    assert list(trace(path)) == [Request(0.0, 10, 20), Request(0.5, 30, 40), Request(2.0, 50, 60)]
    assert [each.at for each in trace(path, rate=10.0)] == pytest.approx([0.0, 0.05, 0.2])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "t_us,context,generated\n",
        "t_us,context,generated\n0,1,1\n",
        "t_us,context\n0,1\n5,1\n",
        "t_us,context,generated\n0,1,1\n5,1\n",
        "t_us,context,generated\n0,1,1\n5,x,1\n",
        "t_us,context,generated\n5,1,1\n4,1,1\n",
        "t_us,context,generated\n0,1,1\n5,-1,1\n",
    ],
)
def test_what_is_no_trace_is_refused_in_words(tmp_path, text):
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(BadTrace, match=r"trace\.csv"):
        list(trace(path))


def test_trace_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(BadTrace, match="cannot be read"):
        list(trace(tmp_path / "absent.csv"))
    (tmp_path / "torn.csv.gz").write_bytes(gzip.compress(b"t_us")[:-4])
    with pytest.raises(BadTrace, match="cannot be read"):
        list(trace(tmp_path / "torn.csv.gz"))


def test_trace_unpacks_no_further_than_a_trace_may(tmp_path, monkeypatch):
    monkeypatch.setattr(arrivals, "MAX_TRACE", 1_000)
    (tmp_path / "bomb.csv.gz").write_bytes(gzip.compress(bytes(100_000)))
    with pytest.raises(BadTrace, match="longer"):
        list(trace(tmp_path / "bomb.csv.gz"))


@pytest.mark.parametrize(
    ("service", "rate", "variation"), [("conv", 5.53, 1.09), ("code", 2.57, 13.15)]
)
def test_tables_and_rates_are_those_of_the_published_traces(service, rate, variation):
    path = DATA / f"azure_llm_2023_{service}.csv.gz"
    if not path.exists():
        pytest.skip(f"no trace at {path}; set TUSSAH_DATA to a folder that has it")
    requests = list(trace(path))
    gaps = [after.at - before.at for before, after in pairwise(requests)]
    assert 1 / statistics.mean(gaps) == pytest.approx(rate, rel=0.01)
    assert statistics.stdev(gaps) / statistics.mean(gaps) == pytest.approx(variation, rel=0.01)
    for table, lengths in (
        (LENGTHS[service].prompt, [each.prompt for each in requests]),
        (LENGTHS[service].answer, [each.answer for each in requests]),
    ):
        assert distance(table, sorted(lengths)) < 0.05


def distance(table, ordered):
    """The furthest that the share up to a value is from what the table says, rounded, of it."""
    return max(
        abs(bisect_right(ordered, value) / len(ordered) - rank(table, value + 0.5))
        for value in dict.fromkeys(ordered[::20])
    )


def rank(table, value):
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if table.at(middle) < value else (low, middle)
    return (low + high) / 2
