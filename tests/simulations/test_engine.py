"""Jobs that share a machine, and jobs that do not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.engine import SPEEDUP, Apart, Batching, Machine

LONE = Machine(speedup=((1, 1.0),))
"""More jobs do no more together."""


def ends(engine, starts):
    """When each job ends: jobs begin at these moments, and take so long alone."""
    found, todo = {}, sorted(enumerate(starts), key=lambda each: each[1][0])
    while todo or engine.next_end() is not None:
        end = engine.next_end()
        if todo and (end is None or todo[0][1][0] < end):
            job, (start, seconds) = todo.pop(0)
            engine.begin(start, job, seconds)
        else:
            found |= dict.fromkeys(engine.take(end), end)
    return found


def test_job_alone_takes_its_time():
    machine = Machine()
    assert machine.alone(315, 280) == pytest.approx(3.0)
    assert ends(Batching(machine), [(5.0, 3.0)]) == {0: pytest.approx(8.0)}


def test_two_jobs_on_a_machine_that_does_no_more_take_twice_as_long():
    assert ends(Batching(LONE), [(0.0, 2.0), (0.0, 2.0)]) == pytest.approx({0: 4.0, 1: 4.0})
    # half a job before the other comes, then side by side, then alone
    assert ends(Batching(LONE), [(0.0, 2.0), (1.0, 2.0)]) == pytest.approx({0: 3.0, 1: 4.0})


def test_jobs_apart_do_not_know_of_each_other():
    assert ends(Apart(), [(0.0, 2.0), (1.0, 0.5)]) == {0: 2.0, 1: 1.5}


@pytest.mark.parametrize(("active", "factor"), [*SPEEDUP, (2, 1.07), (6, 1.34), (40, 1.65), (0, 1)])
def test_speedup_is_as_measured_and_linear_between(active, factor):
    assert Machine().factor(active) == pytest.approx(factor)


@given(st.lists(st.tuples(st.floats(0.0, 100.0), st.floats(0.01, 20.0)), min_size=1, max_size=20))
def test_work_is_neither_lost_nor_made(starts):
    """On a machine that does no more for more jobs it is busy for exactly the sum of them."""
    found = ends(Batching(LONE), starts)
    busy, until = 0.0, 0.0
    for start, seconds in sorted(starts):
        until = max(until, start) + seconds
        busy += seconds
    assert len(found) == len(starts)
    assert max(found.values()) == pytest.approx(until, abs=1e-4)
    assert all(found[job] >= start + seconds - 1e-4 for job, (start, seconds) in enumerate(starts))
