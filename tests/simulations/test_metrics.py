"""Series of counters, gauges and observations in virtual time."""

import math

import pytest

from p2p.errors import LocalError
from p2p.transport.fabric import EPOCH
from simulations import metrics
from simulations.metrics import Key, Meter, Row, Window


class Clock:
    now = EPOCH

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_points_are_sums_of_counts_and_means_of_the_rest(clock):
    meter = Meter(clock, bucket=2.0)
    for second in range(4):
        clock.now = EPOCH + second
        meter.count("messages", 10, "dht")
        meter.observe("lookup_s", second)
        meter.gauge("nodes_up", 7)
    assert list(meter.rows()) == [
        Row(0.0, "lookup_s", "", 0.5),
        Row(2.0, "lookup_s", "", 2.5),
        Row(0.0, "messages", "dht", 20.0),
        Row(2.0, "messages", "dht", 20.0),
        Row(0.0, "nodes_up", "", 7.0),
        Row(2.0, "nodes_up", "", 7.0),
    ]


def test_a_summary_has_mean_and_quantiles(clock):
    meter = Meter(clock)
    for value in range(101):
        meter.observe("lookup_s", float(value))
    meter.count("messages", 3, "dht")
    (lookup, messages) = meter.summary()
    assert (lookup.mean, lookup.count) == (50.0, 101)
    assert lookup.quantiles[0::50] == (0.0, 50.0, 100.0)
    assert (str(messages.key), messages.total, messages.quantiles) == ("messages{dht}", 3.0, ())


def test_a_window_leaves_out_the_beginning(clock):
    meter = Meter(clock)
    for value in (100.0, 100.0, 1.0, 3.0):
        clock.now += 1.0
        meter.observe("lookup_s", value)
    series = meter.series[Key("lookup_s", "")]
    (summary,) = meter.summary(lambda each: Window(each.since(3), True))
    assert series.since(0) == 0
    assert series.since(99) == 4
    assert (summary.mean, summary.count, summary.cut) == (2.0, 2, 2)


def test_a_window_of_everything_leaves_nothing(clock):
    meter = Meter(clock)
    meter.observe("lookup_s", 1.0)
    (summary,) = meter.summary(lambda _: Window(1, True))
    assert math.isnan(summary.mean)
    assert (summary.count, summary.quantiles) == (0, ())


def test_of_very_many_observations_a_share_is_kept(clock, monkeypatch):
    monkeypatch.setattr(metrics, "MAX_KEPT", 64)
    meter = Meter(clock)
    for value in range(1000):
        clock.now = EPOCH + value
        meter.observe("lookup_s", float(value))
    series = meter.series[Key("lookup_s", "")]
    kept = list(series.values())
    assert 32 <= len(kept) < 64
    assert kept == [float(value) for value in range(0, 1000, 1000 // len(kept) + 1)]
    (summary,) = meter.summary()
    assert (summary.mean, summary.count) == (499.5, 1000)
    (half,) = meter.summary(lambda each: Window(each.since(500), True))
    assert half.mean == pytest.approx(750, rel=0.02)
    assert half.count == pytest.approx(500, abs=32)


def test_a_name_that_nobody_has_described_is_refused(clock):
    with pytest.raises(LocalError, match="lookup_time"):
        Meter(clock).observe("lookup_time", 1.0)


def test_every_metric_says_what_it_is():
    for name, metric in metrics.METRICS.items():
        assert metric.about, name
        assert name.endswith("_s") <= (metric.unit in ("s", "1/s")), name
