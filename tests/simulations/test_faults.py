"""Faults are data: drawn from a seed, each with a stream of its own that no other moves."""

import pytest

from p2p.entropy import seeded
from p2p.transport.fabric import Constant
from simulations.faults import Fault, Kind, Schedule, Troubled, Weather, draw

START = 1_000.0


def drawn(seed=1, **changes):
    of = {"nodes": range(6), "until": 60.0, "rate": 0.5, "kinds": list(Kind), **changes}
    return draw(seeded(seed), **of)


def one(kind, *, nodes=(0,), share=1.0, amount=2.0, number=0, lasts=10.0):
    fault = Fault(
        number=number, kind=kind, at=5.0, lasts=lasts, nodes=nodes, share=share, amount=amount
    )
    return Weather(Schedule(seeded(1), [fault]), START)


def test_a_seed_draws_the_same_faults_again_and_another_seed_others():
    assert drawn().faults == drawn().faults != drawn(2).faults
    assert 15 <= len(drawn()) <= 50
    assert all(fault.at < 60.0 and set(fault.nodes) <= set(range(6)) for fault in drawn())


def test_faults_left_out_move_no_other():
    whole = drawn()
    part = whole.keep(whole.numbers[1::2])
    assert part.faults == whole.faults[1::2]
    for fault in part:
        assert part.stream(fault).token(32) == whole.stream(fault).token(32)


def test_what_a_fault_draws_is_its_own_whatever_else_strikes():
    both = [
        Fault(number=n, kind=kind, at=0.0, lasts=99.0, nodes=(0,), share=0.5, amount=0.0)
        for n, kind in enumerate((Kind.DELAY, Kind.DUPLICATE))
    ]
    alone, together = (Weather(Schedule(seeded(1), kept), START) for kept in (both[1:], both))
    for _ in range(200):
        doubled = [len(weather.copies(START, 0, 1)) for weather in (alone, together)]
        assert doubled[0] == doubled[1]


def test_faults_of_nodes_that_are_not_there_are_left_out():
    assert all(max(fault.nodes) < 3 for fault in drawn().among(3))


def test_a_fault_strikes_from_its_moment_to_its_end():
    weather = one(Kind.DROP)
    struck = [not weather.copies(START + at, 0, 1) for at in (4.9, 5.0, 14.9, 15.0)]
    assert struck == [False, True, True, False]
    assert weather.copies(START + 6, 1, 0) == [0.0]


@pytest.mark.parametrize(
    ("kind", "copies"),
    [(Kind.DROP, []), (Kind.DELAY, [2.0]), (Kind.DUPLICATE, [0.0, 2.0])],
)
def test_messages_are_lost_late_or_double(kind, copies):
    assert one(kind).copies(START + 6, 0, 1) == copies


def test_reordering_makes_some_later_than_others():
    weather = one(Kind.REORDER)
    late = [weather.copies(START + 6, 0, 1)[0] for _ in range(50)]
    assert len(set(late)) == 50
    assert max(late) < 2.0


def test_on_an_ordered_way_nothing_is_lost_only_late():
    assert one(Kind.DROP).ordered(START + 6, 0, 1) > 0.0


def test_bytes_are_flipped_or_cut_off():
    data = bytes(100)
    flipped = one(Kind.CORRUPT).mangled(START + 6, 0, data)
    assert sum(byte.bit_count() for byte in flipped) == 1
    assert len(one(Kind.TRUNCATE).mangled(START + 6, 0, data)) < 100
    assert one(Kind.CORRUPT).mangled(START + 6, 1, data) == data
    assert one(Kind.TRUNCATE).mangled(START + 6, 0, b"") == b""


@pytest.mark.parametrize(
    ("kind", "cut"),
    [
        (Kind.PARTITION, {(0, 2), (2, 0), (1, 2), (2, 1)}),
        (Kind.ONE_WAY, {(0, 1), (1, 0), (0, 2), (1, 2)}),
        (Kind.CLOG, {(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)}),
    ],
)
def test_ways_are_cut(kind, cut):
    weather = one(kind, nodes=(0, 1))
    pairs = [(a, b) for a in range(3) for b in range(3) if a != b]
    assert {pair for pair in pairs if weather.cut(START + 6, *pair)} == cut
    assert not any(weather.cut(START + 20, *pair) for pair in pairs)


def test_a_swizzle_clogs_one_by_one_and_heals_in_another_order():
    weather = one(Kind.SWIZZLE, nodes=(0, 1, 2), number=2)
    clogged = [
        tuple(node for node in range(3) if weather.cut(START + 5 + tenth, node, 3))
        for tenth in range(11)
    ]
    assert clogged[0] == (0,)
    assert (0, 1, 2) in clogged
    assert clogged[-1] == ()
    assert len({nodes for nodes in clogged if len(nodes) == 2}) == 2


def test_clocks_go_wrong_and_some_stay_wrong():
    skewed, jumped = one(Kind.SKEW, number=1), one(Kind.JUMP)
    assert [skewed.ahead(START + at, 0) for at in (4, 6, 16)] == [0.0, 2.0, 0.0]
    assert [jumped.ahead(START + at, 0) for at in (4, 6, 16)] == [0.0, 2.0, 2.0]
    assert jumped.ahead(START + 6, 1) == 0.0


def test_a_fabric_under_faults_loses_doubles_and_refuses():
    assert Troubled(Constant(), one(Kind.DROP)).route(START + 6, 0, 1, 100) == ()
    assert len(Troubled(Constant(), one(Kind.DUPLICATE)).route(START + 6, 0, 1, 100)) == 2
    clogged = Troubled(Constant(), one(Kind.CLOG))
    assert clogged.admit(START + 6, 1, 0, 100) is None
    assert clogged.admit(START + 20, 1, 0, 100) == START + 20
