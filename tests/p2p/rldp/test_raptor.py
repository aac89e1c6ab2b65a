"""RaptorQ in Python: judged by the library where both compute the RFC's code."""

import pytest
import raptorq
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p.entropy import sample, seeded
from p2p.rldp import rfc6330, solver
from p2p.rldp.raptor import Code, code_of, solve

SIZE = 8
"""bytes of a symbol: the library wants a multiple of eight."""


def source(count, size=SIZE, seed=1):
    data = seeded(seed).token(count * size)
    return {seqno: data[seqno * size : (seqno + 1) * size] for seqno in range(count)}


def packets(symbols, repairs, size=SIZE):
    """The library's symbols by number."""
    encoder = raptorq.Encoder.with_defaults(b"".join(symbols.values()), size)
    packed = encoder.get_encoded_packets(repairs)
    return {int.from_bytes(packet[:4], "big"): packet[4:] for packet in packed}


@pytest.mark.parametrize("count", [1, 9, 10, 11, 49, 138, 391, 1_100, 2_605])
def test_code_of_the_rfc_has_the_symbols_of_the_library(count):
    symbols = source(count)
    block = solve(Code(count, as_in_rfc=True), symbols, SIZE)
    for seqno, symbol in packets(symbols, 30).items():
        assert block.symbol(seqno) == symbol


@settings(max_examples=40)
@given(st.integers(1, 400), st.integers(0, 99))
def test_codes_of_the_rfc_and_of_ton_are_one_where_it_is_said(count, seed):
    symbols = source(count, seed=seed)
    block = solve(code_of(count), symbols, SIZE)
    judge = packets(symbols, 10)
    same = [block.symbol(count + n) == judge[count + n] for n in range(10)]
    assert any(same) != code_of(count).is_tons_own


def test_a_quarter_of_all_sizes_is_tons_own():
    own = [count for count in range(1, 2_606) if Code(count).is_tons_own]
    assert len(own) == 608
    assert own[0] == 49
    assert not Code(2_605).is_tons_own, "a whole part of RLDP2"


@settings(max_examples=40)
@given(st.integers(1, 260), st.integers(0, 2**32), st.booleans())
def test_any_symbols_that_suffice_give_the_block_back(count, seed, as_in_rfc):
    code, symbols = Code(count, as_in_rfc=as_in_rfc), source(count, seed=seed)
    block = solve(code, symbols, SIZE)
    numbers = sample(seeded(seed), range(3 * count + 5), count + 4)
    again = solve(code, {seqno: block.symbol(seqno) for seqno in numbers}, SIZE)
    assert [again.symbol(seqno) for seqno in range(count)] == list(symbols.values())


@pytest.mark.parametrize("count", [1, 12, 53, 391])
def test_too_few_symbols_give_nothing(count):
    code, symbols = code_of(count), source(count)
    block = solve(code, symbols, SIZE)
    for missing in (1, 2, count):
        fewer = {seqno: block.symbol(seqno + count) for seqno in range(count - missing)}
        if fewer:
            assert solve(code, fewer, SIZE) is None


def test_symbols_that_contradict_one_another_give_nothing():
    code, symbols = code_of(53), source(53)
    block = solve(code, symbols, SIZE)
    symbols |= {seqno: block.symbol(seqno) for seqno in range(53, 80)}
    assert solve(code, symbols, SIZE) is not None
    symbols[60] = bytes(SIZE)
    assert solve(code, symbols, SIZE) is None


@pytest.mark.parametrize("count", [0, -1, 2_641])
def test_block_of_a_size_that_none_has_is_refused(count):
    with pytest.raises(ValueError, match="no block"):
        Code(count)


def test_few_unknowns_are_set_aside():
    """What is set aside costs its square; the largest blocks had 40 of 2,600."""
    for count in (500, 2_528):
        code = Code(count)
        rows = [*code.zero_sums, *(code.columns(n) for n in range(code.padded))]
        order = solver._peel(rows, code.shape.width)
        assert len(order.inactive) < 60
        assert len(order.steps) + len(order.inactive) == code.shape.width


def test_tables_are_whole():
    for table in (rfc6330.V0, rfc6330.V1, rfc6330.V2, rfc6330.V3):
        assert len(table) == len(dict.fromkeys(table)) == 256
        assert max(table) < 2**32
    padded = [row[0] for row in rfc6330.SIZES]
    assert padded == sorted(padded)
    assert padded[-1] >= 2_605


@given(st.integers(1, 255), st.integers(0, 255))
def test_products_are_those_of_gf_256(a, b):
    def product(a, b):
        total = 0
        for bit in range(8):
            total ^= (a << bit) * (b >> bit & 1)
        for bit in reversed(range(8, 16)):
            total ^= (0x11D << bit - 8) * (total >> bit & 1)
        return total

    assert solver._row(a)[b] == product(a, b)
    assert product(a, solver._INVERSES[a]) == 1
