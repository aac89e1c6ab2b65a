"""The desk: bounds, turns between circuits, and nothing kept of who has left."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.schedule import MAX_TAGS, Desk
from p2p.onion.cell import CircuitId

A, B, C = (CircuitId(number) for number in (1, 2, 3))


def admit(desk, token, circuit, prompt=10, max_tokens=20):
    return desk.admit(token, circuit, prompt=prompt, max_tokens=max_tokens)


def order(desk):
    """Tokens in the order they get the one slot."""
    taken = []
    while (token := desk.next()) is not None:
        taken.append(token)
        desk.leave(token)
    return taken


def test_circuits_take_turns_however_much_one_sends():
    desk = Desk(2)
    for token, circuit in enumerate([A, A, B, C], 1):
        assert admit(desk, token, circuit)
    assert desk.next() == 1
    assert desk.next() == 3
    desk.leave(1)
    assert desk.next() == 4
    desk.leave(3)
    assert desk.next() == 2


def test_short_jobs_go_before_long_ones_that_came_with_them():
    desk = Desk(1)
    assert admit(desk, 1, A, prompt=5_000, max_tokens=2_000)
    assert admit(desk, 2, B, prompt=10, max_tokens=20)
    assert order(desk) == [2, 1]


def test_long_job_gives_way_to_no_more_short_ones_than_make_up_its_length():
    """However many come, each by a circuit of its own: decision 38."""
    desk = Desk(1)
    assert admit(desk, 0, CircuitId(1), prompt=100, max_tokens=0)
    assert desk.next() == 0
    assert admit(desk, 1, CircuitId(2), prompt=1_000, max_tokens=0)
    running = 0
    for token in range(2, 100):
        assert admit(desk, token, CircuitId(token + 1), prompt=100, max_tokens=0)
        desk.leave(running)
        running = desk.next()
        if running == 1:
            break
    assert token - 2 <= 1_000 // 100


def test_ties_go_by_arrival():
    desk = Desk(1)
    assert admit(desk, 1, B)
    assert admit(desk, 2, A)
    assert order(desk) == [1, 2]


def test_one_running_and_two_waiting_of_a_circuit():
    desk = Desk(4)
    assert admit(desk, 1, A)
    assert desk.next() == 1
    assert admit(desk, 2, A)
    assert admit(desk, 3, A)
    assert not admit(desk, 4, A)
    assert desk.next() is None
    desk.leave(1)
    assert desk.next() == 2


@pytest.mark.parametrize("slots", [1, 3])
def test_twice_as_many_wait_as_there_are_slots(slots):
    desk = Desk(slots)
    for token in range(slots):
        assert admit(desk, token, CircuitId(token))
        desk.next()
    for token in range(slots, 3 * slots):
        assert not desk.full
        assert admit(desk, token, CircuitId(token))
    assert desk.full
    assert not admit(desk, 99, CircuitId(99))


def test_tokens_ahead_are_those_of_jobs_that_are_there():
    desk = Desk(1)
    assert desk.tokens_ahead == (0, 0)
    admit(desk, 1, A, prompt=100, max_tokens=40)
    desk.next()
    admit(desk, 2, B, prompt=7, max_tokens=60)
    assert desk.tokens_ahead == (7, 50)
    desk.leave(1)
    desk.leave(2)
    desk.leave(2)
    assert desk.tokens_ahead == (0, 0)


def test_a_desk_that_emptied_starts_anew():
    desk = Desk(1)
    for token in range(10):
        admit(desk, token, A)
        assert desk.next() == token
        desk.leave(token)
    assert desk.sizes() == {"waiting": 0, "running": 0, "circuits": 0}


@given(st.lists(st.tuples(st.sampled_from(["admit", "next", "leave"]), st.integers(0, 2_000))))
def test_any_order_of_commands_keeps_the_bounds(commands):
    desk = Desk(2)
    waiting, running = [], []
    for token, (command, number) in enumerate(commands):
        if command == "admit" and admit(desk, token, CircuitId(number), prompt=number + 1):
            waiting.append(token)
        elif command == "next" and (taken := desk.next()) is not None:
            waiting.remove(taken)
            running.append(taken)
        elif command == "leave" and waiting + running:
            gone = (waiting + running)[number % len(waiting + running)]
            desk.leave(gone)
            waiting, running = ([t for t in some if t != gone] for some in (waiting, running))
        assert (desk.waiting, desk.running) == (len(waiting), len(running))
        assert len(running) <= 2
        assert len(waiting) <= 4


def test_tags_of_circuits_that_left_are_bounded():
    desk = Desk(1)
    admit(desk, 0, A)
    desk.next()
    for token in range(1, MAX_TAGS + 50):
        admit(desk, token, CircuitId(token + 10))
        desk.leave(token)
    assert desk.sizes()["circuits"] <= MAX_TAGS
