"""Numbers that were seen: a window against a set of them all."""

from hypothesis import given
from hypothesis import strategies as st

from p2p.adnl.window import WIDTH, Window

NUMBERS = st.one_of(
    st.integers(1, 200),
    st.integers(2**40, 2**40 + 200),
    st.sampled_from([0, 1, 63, 64, 65, 2**63 - 1]),
)


@given(st.lists(NUMBERS, max_size=100))
def test_window_does_as_a_set_of_all_numbers_would(numbers):
    window, seen, highest = Window(), set(), 0
    for number in numbers:
        expected = number > 0 and (number in seen or number + WIDTH <= highest)
        assert window.seen(number) is expected
        if not expected:
            window.mark(number)
            if number > 0:
                seen.add(number)
                highest = max(highest, number)
        assert window.highest == highest
        assert window.mask < 1 << WIDTH


def test_the_oldest_number_in_the_window_is_still_known():
    window = Window()
    window.mark(100)
    assert not window.seen(37)
    assert window.seen(36)
    window.mark(37)
    assert window.seen(37)


def test_no_number_is_never_seen():
    window = Window()
    for _ in range(3):
        assert not window.seen(0)
        window.mark(0)
    assert window == Window()
