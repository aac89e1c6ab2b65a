"""How far a run is, as a line, as JSON, and not too often."""

import io
import json

import pytest

from simulations.progress import Journal, Talk, Ticker, entry, line, sweep_line
from simulations.run import Moment


def moment(virtual_s, wall_s, records=0, busiest=None):
    return Moment(
        virtual_s=virtual_s,
        until_s=60.0,
        wall_s=wall_s,
        records=records,
        rss_bytes=50_000_000,
        busiest=busiest,
    )


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_a_line_says_how_far_how_fast_and_how_long():
    said = line(moment(20.0, 10.0, 50_000))
    assert said == "20.0 of 60 s (2 x), 5,000 records/s, 50 MB, 20 s left"


def test_rates_are_of_the_time_since_the_last_line():
    said = line(moment(21.0, 12.0, 51_000), moment(20.0, 10.0, 50_000))
    assert said.startswith("21.0 of 60 s (0.5 x), 500 records/s")


def test_when_time_stands_still_the_busiest_node_is_named():
    assert line(moment(20.0, 80.0, busiest=17)).endswith("stands still, node 17 does most")


@pytest.mark.parametrize(
    ("virtual_s", "wall_s", "left"),
    [
        (0.0, 5.0, "time left unknown"),
        (30.0, 90.0, "1 min 30 s left"),
        (1.0, 300.0, "4 h 55 min left"),
    ],
)
def test_what_is_left_is_as_long_as_so_far(virtual_s, wall_s, left):
    assert line(moment(virtual_s, wall_s)).endswith(left)


def test_a_sweep_says_how_many_runs_and_how_long():
    assert sweep_line(3, 10, 30.0, 2) == "3 of 10 runs, 1 min 45 s left"
    assert sweep_line(3, 10, 30.0, 0) == "3 of 10 runs, time left unknown"


def test_nothing_is_said_more_often_than_each_second():
    clock, said = Clock(), []
    talk = Talk(said.append, clock)
    for tenth in range(35):
        clock.now = 100.0 + tenth / 10
        talk(moment(tenth / 10 + 0.1, tenth / 10 + 0.1))
    assert len(said) == 3


def test_a_ticker_does_not_catch_up():
    clock = Clock()
    ticker = Ticker(1.0, clock)
    clock.now += 10.0
    assert [ticker.due(), ticker.due()] == [True, False]


def test_a_journal_has_a_line_at_once_and_each_five_seconds():
    clock, file = Clock(), io.StringIO()
    journal = Journal(file, clock)
    for second in range(12):
        clock.now = 100.0 + second
        journal(moment(second + 1.0, second + 1.0, records=second))
    entries = [json.loads(each) for each in file.getvalue().splitlines()]
    assert [each["records"] for each in entries] == [0, 5, 10]
    assert entries[0] == entry(moment(1.0, 1.0))
    assert entries[0]["eta_s"] == 59.0
