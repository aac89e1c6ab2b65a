"""Rows 5 and 6: queues of theory; and the desk of the real worker, whose room is bounded.

A mean of a queue converges slowly: the bounds of the design are those of the `slow` tests.
"""

import os
from pathlib import Path

import pytest

from simulations import theory
from simulations.arrivals import LENGTHS
from simulations.engine import Machine
from simulations.stats import mser5

DATA = Path(os.environ.get("TUSSAH_DATA", "/work/shared/data")) / "workload"


def servers(count, load, *, slots=1, **knobs):
    return {
        "run": {"nodes": count},
        "nodes": {"mix": {"worker": 1.0}},
        "workload": {"arrivals": {"kind": "poisson", "rate": load * count * slots}},
        "protocol": {
            "queue.slots": slots,
            "queue.endless": True,
            "queue.service": "exponential",
            **{f"queue.{name}": value for name, value in knobs.items()},
        },
    }


@pytest.mark.parametrize(
    ("choices", "seconds", "within"),
    [pytest.param(1, 200, 0.15, marks=pytest.mark.slow), (2, 60, 0.05)],
)
def test_shortest_of_some_queues_takes_as_long_as_theory_says(play, choices, seconds, within):
    """Row 5, a load of .7."""
    _, seen = play("queue", seconds, window=mser5, **servers(100, 0.7, choices=choices))
    assert seen["sojourn_s"].mean == pytest.approx(theory.best_of(choices, 0.7), rel=within)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("choices", "load", "count", "seconds"),
    [
        (1, 0.7, 100, 1_000),
        (2, 0.7, 200, 200),
        (3, 0.7, 200, 200),
        (1, 0.9, 100, 4_000),
        (2, 0.9, 200, 400),
        (3, 0.9, 200, 400),
    ],
)
def test_shortest_of_some_queues_is_within_five_percent(play, choices, load, count, seconds):
    """Rows 5 and 5b. One choice at .9 needs 4,000 service times, and has not all it could use."""
    _, seen = play("queue", seconds, window=mser5, **servers(count, load, choices=choices))
    form = theory.best_of(choices, load)
    assert seen["sojourn_s"].stationary
    assert seen["sojourn_s"].mean == pytest.approx(form, rel=0.05)


@pytest.mark.parametrize(
    ("seconds", "within"), [(400, 0.15), pytest.param(4_000, 0.05, marks=pytest.mark.slow)]
)
def test_worker_of_four_slots_is_erlangs(play, seconds, within):
    """Row 6, M/M/4 at a load of .8."""
    _, seen = play("queue", seconds, window=mser5, **servers(10, 0.8, slots=4))
    assert seen["wait_s"].mean == pytest.approx(theory.erlang_wait(4, 0.8), rel=within)
    assert seen["worker_load"].mean == pytest.approx(0.8, rel=within / 3)
    waiting = 4 * 0.8 * theory.erlang_wait(4, 0.8)  # Little's law
    assert seen["queue"].mean == pytest.approx(waiting, rel=2 * within)


@pytest.mark.parametrize("load", [0.9, pytest.param(1.2, marks=pytest.mark.slow)])
def test_real_desk_turns_away_and_makes_wait_as_a_bounded_room_does(play, load):
    """The desk holds two jobs a slot that wait, and who is turned away draws twice more."""
    _, seen = play("queue", 80, window=mser5, **servers(25, load, slots=4, endless=False))
    form = theory.redrawn(4, 8, load, 3)
    refused = seen["ask_outcome{refusal}"].total if "ask_outcome{refusal}" in seen else 0.0
    answered = seen["ask_outcome{answer}"].total
    assert refused / (refused + answered) == pytest.approx(form.refused, abs=0.02)
    assert seen["wait_s"].mean == pytest.approx(form.wait, rel=0.1)


def test_machine_that_is_shared_serves_what_it_can_and_no_more(play):
    """Eight slots do 1.47 times what one does; ten requests a second are three times as much."""
    settings = servers(10, 0.0, slots=8, endless=False, service="engine")
    settings["workload"]["arrivals"]["rate"] = 10.0
    _, seen = play("queue", 300, **settings)
    machine = Machine(slots=8)
    alone = machine.alone(LENGTHS["conv"].prompt.mean, LENGTHS["conv"].answer.mean)
    able = 10 * machine.factor(8) / alone
    assert seen["worker_load"].mean > 0.95
    assert seen["ask_outcome{answer}"].total / 300 == pytest.approx(able, rel=0.1)


@pytest.mark.parametrize("service", ["conv", "code"])
def test_published_trace_is_played(play, service):
    path = DATA / f"azure_llm_2023_{service}.csv.gz"
    if not path.exists():
        pytest.skip(f"no trace at {path}; set TUSSAH_DATA to a folder that has it")
    settings = servers(20, 0.0, slots=4, endless=False, service="engine")
    settings["workload"]["arrivals"] = {"kind": "trace", "rate": 2.0, "file": str(path)}
    queue, seen = play("queue", 200, **settings)
    assert seen["ask_outcome{answer}"].total > 50
    assert queue.log.records > 150


def test_same_seed_same_digest(play):
    digests = [play("queue", 20, seed=s, **servers(5, 0.7))[0].log.digest for s in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]
