"""Keys that fall due in order, and leave nothing behind."""

from hypothesis import given
from hypothesis import strategies as st

from p2p.timers import Timers


def test_keys_are_due_in_order_of_time_and_then_of_setting():
    timers = Timers()
    for key, when in (("a", 5.0), ("b", 3.0), ("c", 5.0)):
        timers.set(key, when)
    assert timers.next() == 3.0
    assert list(timers.take(5.0)) == ["b", "a", "c"]
    assert timers.next() is None


def test_setting_a_key_again_moves_it():
    timers = Timers()
    timers.set("a", 1.0)
    timers.set("a", 9.0)
    assert len(timers) == 1
    assert list(timers.take(8.0)) == []
    assert list(timers.take(9.0)) == ["a"]


def test_cleared_key_is_not_due():
    timers = Timers()
    timers.set("a", 1.0)
    timers.clear("a")
    timers.clear("a")
    assert "a" not in timers
    assert timers.next() is None


def test_key_set_while_taking_is_taken_if_due():
    timers = Timers()
    timers.set(1, 1.0)
    taken = []
    for key in timers.take(2.0):
        taken.append(key)
        if key < 3:
            timers.set(key + 1, 2.0)
    assert taken == [1, 2, 3]


def test_cleared_keys_take_no_room():
    timers = Timers()
    for key in range(10_000):
        timers.set(key, 1e9)
        timers.clear(key)
    assert len(timers._heap) < 200


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 20), st.booleans()), max_size=60))
def test_timers_do_as_a_dict_would(steps):
    timers, model = Timers(), {}
    for key, when, keep in steps:
        if keep:
            timers.set(key, float(when))
            model[key] = float(when)
        else:
            timers.clear(key)
            model.pop(key, None)
    assert timers.next() == min(model.values(), default=None)
    taken = list(timers.take(10.0))
    assert sorted(taken) == sorted(key for key, when in model.items() if when <= 10.0)
    assert len(timers) == len(model) - len(taken)
