"""Buckets, slots, and the two sides of a shape by themselves."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p import defaults
from p2p.errors import OnionError
from p2p.onion.cell import MAX_DATA, Cell, Kind
from p2p.onion.shaping import (
    DUMMY,
    LAST,
    AskerShape,
    EndShape,
    Pacer,
    answer_bucket,
    prompt_bucket,
)
from p2p.onion.streams import Streams

NOW = 1_800_000_000.0
RATES = st.sampled_from([1, *defaults.ANSWER_RATES])


# --- buckets ---


@pytest.mark.parametrize(
    ("cells", "bucket"),
    [(1, 4), (3, 4), (4, 4), (5, 8), (8, 8), (9, 16), (3_759, 4_096), (4_096, 4_096)],
)
def test_an_upload_is_padded_to_a_power_of_two_cells(cells, bucket):
    assert prompt_bucket(cells) == bucket


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [
        (0.25, 8),
        (8, 8),
        (8.25, 16),
        (16, 16),
        (20, 32),
        (512.1, 1_024),
        (1_024, 1_024),
        (1_024.25, 2_048),
        (2_048.5, 3_072),
        (3_600, 4_096),
    ],
)
def test_an_answer_is_filled_up_to_8_seconds_doubled_then_to_steps_of_1024(seconds, bucket):
    assert answer_bucket(seconds) == bucket


@given(st.integers(1, 10**6))
def test_a_prompt_bucket_is_the_smallest_that_holds(cells):
    bucket = prompt_bucket(cells)
    assert bucket >= cells
    assert bucket == 4 or bucket < 2 * cells
    assert prompt_bucket(bucket) == bucket


@given(st.floats(0.01, 10**5))
def test_an_answer_bucket_is_the_smallest_that_holds(seconds):
    bucket = answer_bucket(seconds)
    assert isinstance(bucket, int)
    assert bucket >= seconds
    assert bucket == 8 or bucket < 2 * seconds or bucket < seconds + 1_024
    assert answer_bucket(bucket) == bucket


# --- slots ---


@given(RATES, st.integers(1, 10**6))
def test_slots_do_not_drift(rate, number):
    pacer = Pacer(rate, NOW)
    pacer.number = number - 1
    assert pacer.due == NOW + number / rate
    assert abs(Fraction(pacer.due) - (Fraction(NOW) + Fraction(number, rate))) < Fraction(1, 10**6)


@given(RATES, st.lists(st.floats(0, 30), max_size=40))
def test_a_slot_is_given_once_and_the_missed_ones_never(rate, waits):
    pacer, now, taken = Pacer(rate, NOW), NOW, []
    for wait in waits:
        now += wait
        due = pacer.due
        assert pacer.take(now) == (due <= now)
        assert not pacer.take(now)
        assert pacer.due > now
        if due <= now:
            assert NOW + pacer.number / rate <= now
            taken.append(pacer.number)
    assert taken == sorted(set(taken))


@given(RATES, st.integers(1, 300))
def test_who_wakes_at_every_slot_gets_every_slot(rate, count):
    pacer = Pacer(rate, NOW)
    for number in range(1, count + 1):
        assert pacer.take(pacer.due)
        assert pacer.number == number


# --- the asker ---


def asker(size, *, ends=True):
    streams = Streams(asker=True, most=1)
    streams.send(1, b"q" * size)
    if ends:
        streams.end(1)
    return streams, AskerShape(4, streams)


def burst_of(shape):
    cells = []
    while (cell := shape.burst(NOW)) is not None:
        cells.append(cell)
    return cells


@given(st.integers(1, 40 * MAX_DATA))
def test_an_upload_has_a_power_of_two_cells_and_its_end_last(size):
    _, shape = asker(size)
    cells = burst_of(shape)
    assert len(cells) == prompt_bucket(-(-size // MAX_DATA))
    assert [cell.kind for cell in cells].index(Kind.END) == len(cells) - 1
    assert sum(len(cell.data) for cell in cells) == size


def test_nothing_leaves_before_the_end():
    streams, shape = asker(2 * MAX_DATA, ends=False)
    assert not burst_of(shape)
    streams.end(1)
    kinds = [cell.kind for cell in burst_of(shape)]
    assert kinds == [Kind.DATA, Kind.DUMMY, Kind.DUMMY, Kind.END]


def test_an_upload_that_has_no_room_leaves_in_full_cells():
    streams, shape = asker(defaults.UPLOAD_CAP, ends=False)
    assert len(burst_of(shape)) == 1
    streams.send(1, b"q" * MAX_DATA)
    assert len(burst_of(shape)) == 1
    streams.end(1)
    assert len(burst_of(shape)) == 4_096 - 2


@pytest.mark.parametrize("gone", range(5))
def test_an_upload_that_is_given_up_has_the_cells_it_would_have_had(gone):
    streams, shape = asker(5 * MAX_DATA)
    cells = [shape.burst(NOW) for _ in range(gone)]
    streams.reset(1, 0)
    cells += burst_of(shape)
    assert len(cells) == 8 if gone else 4
    assert cells[-1].kind is Kind.RESET


def test_leaving_before_the_end_gives_the_upload_up():
    streams, shape = asker(3 * MAX_DATA, ends=False)
    shape.leave()
    assert [cell.kind for cell in burst_of(shape)] == [Kind.DUMMY] * 3 + [Kind.RESET]
    assert streams.is_over


def test_a_tick_waits_for_the_next_second():
    streams, shape = asker(10)
    burst_of(shape)
    streams.send(1, b"tick")
    assert shape.burst(NOW + 0.5) is None
    assert shape.slot(NOW + 0.5, free=True) is None
    assert shape.slot(NOW + 1.0, free=True).data == b"tick"
    assert shape.slot(NOW + 2.0, free=True) == DUMMY


def test_an_endpoint_without_a_cell_for_five_slots_is_silent():
    _, shape = asker(10)
    burst_of(shape)
    for second in range(1, 6):
        shape.slot(NOW + second, free=True)
        assert not shape.silent
    shape.hear(NOW + 5.5, DUMMY)
    for second in range(6, 12):
        assert not shape.silent
        shape.slot(NOW + second, free=True)
    assert shape.silent


def test_an_endpoint_owes_nothing_while_the_upload_is_on_a_slow_line():
    _, shape = asker(10)
    burst_of(shape)
    for second in range(1, 31):
        shape.slot(NOW + second, free=True, waits=True)
    assert not shape.silent


def test_a_laptop_that_slept_does_not_take_the_others_for_silent():
    _, shape = asker(10)
    burst_of(shape)
    shape.slot(NOW + 500, free=True)
    assert not shape.silent


def test_an_answer_before_the_upload_ends_is_an_offence():
    _, shape = asker(10, ends=False)
    with pytest.raises(OnionError):
        shape.hear(NOW, DUMMY)


@pytest.mark.parametrize(
    ("heard", "answer_s", "left_s", "link_bytes"),
    [(1, 8, 7.75, 1_200 * 44), (32, 8, 0, 1_200 * 44), (33, 16, 7.75, 1_200 * 84)],
)
def test_what_shows_is_told(heard, answer_s, left_s, link_bytes):
    _, shape = asker(10)
    burst_of(shape)
    assert shape.facts() is None
    for _ in range(heard):
        shape.hear(NOW, DUMMY)
    facts = shape.facts()
    assert (facts.rate, facts.prompt_cells) == (4, 4)
    assert (facts.answer_s, facts.left_s, facts.link_bytes) == (answer_s, left_s, link_bytes)


# --- the endpoint ---


def endpoint(rate=4):
    streams = Streams(asker=False)
    shape = EndShape(rate, streams)
    for kind, data in ((Kind.DATA, b"q"), (Kind.END, b"")):
        cell = Cell(1, kind, 0, 1 if kind is Kind.END else 0, data)
        streams.take(cell)
        shape.hear(NOW, cell)
    return streams, shape


def slots_of(shape, until=10**5):
    cells = []
    while shape.due is not None and shape.due <= NOW + until:
        cells.append((shape.due - NOW, shape.slot(shape.due, free=True)))
    return cells


@pytest.mark.parametrize("rate", defaults.ANSWER_RATES)
@pytest.mark.parametrize(("ends", "bucket"), [(0.1, 8), (7.9, 8), (8.05, 16), (30, 32)])
def test_dummies_fill_the_bucket_and_the_last_cell_is_marked(rate, ends, bucket):
    streams, shape = endpoint(rate)
    cells = slots_of(shape, ends)
    streams.send(1, b"answer")
    streams.end(1)
    cells += slots_of(shape)
    assert len(cells) == rate * bucket
    assert cells[-1][0] == bucket
    assert [bool(cell.flags & LAST) for _, cell in cells] == [False] * (rate * bucket - 1) + [True]
    assert b"".join(cell.data for _, cell in cells) == b"answer"
    assert shape.over


def test_words_that_are_too_many_for_a_bucket_take_the_next():
    streams, shape = endpoint()
    streams.send(1, b"a" * (33 * MAX_DATA))
    streams.end(1)
    cells = slots_of(shape)
    assert len(cells) == 64
    assert sum(len(cell.data) for _, cell in cells) == 33 * MAX_DATA


def test_a_slot_without_credit_is_gone_and_the_mark_comes_later():
    streams, shape = endpoint()
    streams.end(1)
    for _ in range(31):
        shape.slot(shape.due, free=True)
    assert shape.slot(shape.due, free=False) is None
    assert not shape.over
    assert shape.slot(shape.due, free=True).flags == LAST


def test_nothing_leaves_before_the_question_has_ended():
    streams = Streams(asker=False)
    shape = EndShape(4, streams)
    cell = Cell(1, Kind.DATA, 0, 0, b"question")
    streams.take(cell)
    shape.hear(NOW, cell)
    streams.send(1, b"early")
    assert shape.due is None
    assert shape.burst(NOW) is None


def test_a_shaped_circuit_carries_one_request():
    _, shape = endpoint()
    with pytest.raises(OnionError):
        shape.hear(NOW, Cell(2, Kind.DATA, 0, 0, b"more"))
