"""What a confirm does to the symbols on their way, and what it cannot claim."""

from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.rldp.congestion import Mark
from p2p.rldp.fec import MAX_SIZE, SYMBOL_SIZE, limit_of, symbols_of
from p2p.rldp.flight import SURPLUS, Flight, copies

RTT = 0.1


def mark(at=0.0):
    return Mark(at, 0, 0.0, 0.0)


def flight(*bursts, source=100):
    """A part of which bursts of symbols have left, one each second from 0."""
    made = Flight(source)
    for second, count in enumerate(bursts):
        made.send(count, mark(float(second)))
    return made


def test_confirm_names_the_last_symbols_and_counts_all():
    part = flight(40)
    outcome = part.confirm(0.1, RTT, 40, 0xFFFF_FFFF, 40)
    assert (outcome.delivered, outcome.lost, outcome.newest) == (40, 0, mark())
    assert (part.received, part.lost, part.in_flight) == (40, 0, 0)


def test_symbol_below_the_mask_is_known_by_the_count_alone():
    part = flight(40)
    outcome = part.confirm(0.05, RTT, 40, 0xFFFF_FFFF, 37)
    assert (outcome.delivered, outcome.lost) == (37, 0)
    assert part.in_flight == 3
    outcome = part.confirm(9.0, RTT, 40, 0xFFFF_FFFF, 37)
    assert (outcome.delivered, outcome.lost, outcome.newest) == (0, 3, None)
    assert part.in_flight == 0


@pytest.mark.parametrize(
    ("now", "highest", "lost"),
    [
        (0.05, 4, 0),  # too young
        (0.2, 3, 0),  # too close behind
        (0.2, 4, 1),
        (0.2, 10, 1),
    ],
)
def test_symbol_is_lost_when_old_and_three_behind(now, highest, lost):
    part = flight(10)
    mask = (1 << (highest - 1)) - 1
    outcome = part.confirm(now, RTT, highest, mask, highest - 1)
    assert outcome.lost == lost
    assert part.in_flight == 10 - (highest - 1) - lost


def test_symbol_that_was_given_up_and_arrives_is_lost_no_more():
    part = flight(10)
    assert part.confirm(1.0, RTT, 10, 0x1FF, 9).lost == 1
    outcome = part.confirm(1.1, RTT, 10, 0x3FF, 10)
    assert (outcome.delivered, outcome.lost) == (1, -1)
    assert (part.lost, part.in_flight) == (0, 0)


def test_confirm_that_comes_late_changes_nothing():
    part = flight(10)
    part.confirm(0.1, RTT, 10, 0x3FF, 10)
    outcome = part.confirm(0.2, RTT, 5, 0x1F, 5)
    assert (outcome.delivered, outcome.lost, outcome.newest) == (0, 0, None)


def test_newest_is_the_last_sent_of_those_not_confirmed_before():
    part = flight(2, 2, 2)
    assert part.confirm(2.0, RTT, 4, 0b1100, 2).newest == mark(0.0)
    assert part.confirm(2.0, RTT, 6, 0b11110, 4).newest == mark(2.0)


@pytest.mark.parametrize(
    ("max_seqno", "mask", "count"),
    [
        (11, 1, 1),
        (10, 1, 11),
        (3, 1, 4),
        (3, 0b1000, 1),
        (10, 0b111, 2),
        (0, 1, 1),
        (0, 1, 0),
        (-1, 0, 0),
        (5, 1, -1),
        (2**31 - 1, 1, 1),
    ],
)
def test_confirm_of_what_was_never_sent_is_refused(max_seqno, mask, count):
    part = flight(10)
    assert part.confirm(0.1, RTT, max_seqno, mask, count) is None
    assert part.in_flight == 10


def test_short_part_learns_its_round_trip_from_its_completion():
    part = flight(2, 2, source=3)
    assert part.complete() == (3, 0, mark(1.0))
    part = flight(2, 2, source=3)
    part.confirm(1.0, RTT, 1, 1, 1)
    assert part.complete() == (2, 0, None)
    assert flight().complete() is None
    assert flight(1).complete().newest == mark(0.0)


def test_symbols_given_up_of_a_part_that_is_complete_are_lost_no_more():
    part = flight(10, source=4)
    part.confirm(9.0, RTT, 10, 0, 0)
    assert (part.lost, part.in_flight) == (7, 3)
    assert part.complete() == (4, -4, None)
    assert (part.lost, part.in_flight) == (3, 3)


@pytest.mark.parametrize(
    ("source", "received", "wanted"),
    [
        (1, 0, 1),
        (10, 0, 11),
        (16, 3, 18),
        (40, 44, 45),
        (2_605, 0, 2_610),
        (40, 45, 50),
        (40, 49, 50),
        (40, 50, 55),
        (1, 1, 6),
    ],
)
def test_some_more_than_the_source_are_wanted_and_then_five_at_a_time(source, received, wanted):
    part = flight(received, source=source)
    part.confirm(0.0, RTT, received, (1 << min(32, received)) - 1, received)
    assert part.short(0.1) == copies(wanted - received, 0.1)


@pytest.mark.parametrize("size", [1, SYMBOL_SIZE, 50_000, MAX_SIZE])
def test_no_more_leaves_than_can_be_made(size):
    part = Flight(symbols_of(size))
    while (count := part.short(0.2)) > 0:
        part.send(count, mark())
        part.confirm(9.0, RTT, part.sent, 0, 0)
    assert part.left == 0
    assert part.sent <= limit_of(size)


def test_peer_that_confirms_more_than_anybody_needs_is_insatiable():
    part = flight(100, source=30)
    part.confirm(0.1, RTT, 100, 1, 30 + SURPLUS)
    assert not part.insatiable
    part.confirm(0.1, RTT, 100, 1, 31 + SURPLUS)
    assert part.insatiable


@pytest.mark.parametrize("loss", [0.001, 0.1, 0.2])
@pytest.mark.parametrize("wanted", [1, 2, 5, 11, 27, 50])
def test_copies_are_the_least_of_which_enough_arrive(wanted, loss):
    def chance_of_fewer(count):
        return sum(comb(count, k) * (1 - loss) ** k * loss ** (count - k) for k in range(wanted))

    count = copies(wanted, loss)
    assert chance_of_fewer(count) <= 1.000_001e-3
    assert count == wanted or chance_of_fewer(count - 1) > 0.999_999e-3


@given(st.integers(51, 5_000), st.floats(0.001, 0.2))
def test_copies_of_many_leave_six_deviations(wanted, loss):
    count = copies(wanted, loss)
    spread = 6 * (count * loss * (1 - loss)) ** 0.5
    assert count * (1 - loss) - spread >= wanted - 1e-6
    assert (count - 1) * (1 - loss) - spread <= wanted


CONFIRM = st.tuples(st.integers(-2, 130), st.integers(0, 2**32 - 1), st.integers(-2, 130))


@given(st.lists(st.one_of(st.integers(1, 20), CONFIRM), max_size=40))
def test_no_peer_makes_the_account_impossible(steps):
    part, now, delivered, lost = Flight(30), 0.0, 0, 0
    for step in steps:
        now += 0.05
        if isinstance(step, int):
            part.send(step, mark(now))
            continue
        outcome = part.confirm(now, RTT, *step)
        if outcome is not None:
            delivered += outcome.delivered
            lost += outcome.lost
            assert outcome.delivered >= 0
        assert 0 <= part.in_flight == part.sent - delivered - lost
        assert 0 <= part.received <= part.sent
