"""Keys that fall due in order, and leave nothing behind."""

from hypothesis import given
from hypothesis import strategies as st

from p2p.onion.timers import Due, Key, Timers


def test_keys_are_due_in_order_of_time_and_then_of_setting():
    timers = Timers()
    for of, when in ((1, 5.0), (2, 3.0), (3, 5.0)):
        timers.set(Key(Due.LIFE, of), when)
    assert timers.next() == 3.0
    assert [key.of for key in timers.take(5.0)] == [2, 1, 3]
    assert timers.next() is None


def test_setting_a_key_again_moves_it():
    timers = Timers()
    key = Key(Due.WRITE, 1)
    timers.set(key, 1.0)
    timers.set(key, 9.0)
    assert len(timers) == 1
    assert list(timers.take(8.0)) == []
    assert list(timers.take(9.0)) == [key]


def test_cleared_key_is_not_due():
    timers = Timers()
    key = Key(Due.WRITE, 1)
    timers.set(key, 1.0)
    timers.clear(key)
    timers.clear(key)
    assert key not in timers
    assert timers.next() is None


def test_key_set_while_taking_is_taken_if_due():
    timers = Timers()
    timers.set(Key(Due.OPEN, 1), 1.0)
    taken = []
    for key in timers.take(2.0):
        taken.append(key.of)
        if key.of < 3:
            timers.set(Key(Due.OPEN, key.of + 1), 2.0)
    assert taken == [1, 2, 3]


def test_cleared_keys_take_no_room():
    timers = Timers()
    for of in range(10_000):
        timers.set(Key(Due.LIFE, of), 1e9)
        timers.clear(Key(Due.LIFE, of))
    assert len(timers._heap) < 200


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 20), st.booleans()), max_size=60))
def test_timers_do_as_a_dict_would(steps):
    timers, model = Timers(), {}
    for of, when, keep in steps:
        key = Key(Due.IDLE, of)
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
