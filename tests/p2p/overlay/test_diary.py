"""On how many of the last seven days a node was listed."""

from hypothesis import given
from hypothesis import strategies as st

from p2p.overlay import diary as diaries
from p2p.overlay.diary import Diary

DAY = 86_400.0
A, B = b"a" * 32, b"b" * 32


def test_days_are_counted_once_and_forgotten_after_a_week():
    diary = Diary()
    for day in (0, 0.1, 1, 3, 3.5):
        diary.mark(day * DAY, [A])
    assert [diary.days(day * DAY, A) for day in (3, 6, 7, 8, 9, 10, 11)] == [3, 3, 2, 1, 1, 0, 0]
    assert diary.days(3 * DAY, B) == 0


def test_what_others_say_counts_for_whom_we_do_not_know():
    diary = Diary()
    diary.mark(0.0, [A])
    diary.learn(0.0, {A: 7, B: 5})
    assert (diary.days(0.0, A), diary.days(0.0, B)) == (1, 5)
    diary.mark(DAY, [B])
    assert (diary.days(DAY, B), diary.days(6 * DAY, B)) == (6, 2)
    diary.learn(0.0, {b"c" * 32: 0, b"d" * 32: 99})
    assert (len(diary), diary.days(0.0, b"d" * 32)) == (3, 7)


@given(st.lists(st.integers(0, 20), max_size=20))
def test_days_are_those_of_the_last_seven(marked):
    diary, marked = Diary(), sorted(marked)
    for day in marked:
        diary.mark(day * DAY, [A])
    today = marked[-1] if marked else 0
    assert diary.days(today * DAY, A) == len({day for day in marked if today - day < 7})


def test_the_least_listed_are_forgotten_when_there_are_too_many(monkeypatch):
    monkeypatch.setattr(diaries, "MOST", 8)
    diary = Diary()
    regulars = [bytes([1, number]) for number in range(3)]
    for day in range(4):
        diary.mark(day * DAY, [*regulars, bytes([2, day]), bytes([3, day])])
    assert len(diary) <= 8
    assert [diary.days(3 * DAY, node) for node in regulars] == [4, 4, 4]
