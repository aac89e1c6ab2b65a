"""Money: exact, bounded, and never mixed with other numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.money import MAX_NANO, ZERO, Nano
from p2p.errors import Insufficient

amounts = st.integers(0, MAX_NANO).map(Nano)


@given(amounts)
def test_what_is_printed_reads_back(amount):
    assert Nano.parse(str(amount)) == amount
    assert Nano.parse(str(amount).removesuffix(" TON")) == amount
    assert Nano.parse(f"{amount.value}n") == amount


@pytest.mark.parametrize(
    ("text", "nano"),
    [
        ("0", 0),
        ("1.5 TON", 1_500_000_000),
        ("1.5", 1_500_000_000),
        ("20n", 20),
        ("0.000000001", 1),
        ("0.00004 TON", 40_000),
        ("9223372036.854775807", MAX_NANO),
    ],
)
def test_the_forms_of_an_amount(text, nano):
    assert Nano.parse(text) == Nano(nano)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "n",
        " TON",
        "-1",
        "+1",
        "1e3",
        "1_000",
        "1,5",
        ".5",
        "1.",
        "1. TON",
        "0.0000000001",
        "1.5n",
        "1 ton",
        "1TON",
        "1  TON",
        "\u0661",
        "\u00b2",
        "1.\u0661",
        "0x10",
        "nan",
        "9223372036.854775808",
        "9" * 1_000,
    ],
)
def test_other_text_is_no_amount(text):
    with pytest.raises(ValueError, match="amount"):
        Nano.parse(text)


def test_shortest_decimal_is_printed():
    assert [str(Nano(n)) for n in (0, 1, 40_000, 10**9, 15 * 10**8)] == [
        "0 TON",
        "0.000000001 TON",
        "0.00004 TON",
        "1 TON",
        "1.5 TON",
    ]


@given(amounts, amounts)
def test_sums_and_differences_are_exact_or_refused(a, b):
    if a.value + b.value <= MAX_NANO:
        assert (a + b).value == a.value + b.value
        assert a + b - b == a
    else:
        with pytest.raises(ValueError, match="no amount"):
            a + b
    if a < b:
        with pytest.raises(Insufficient):
            a - b


@given(st.integers(0, 10**9).map(Nano), st.integers(1, 10**6))
def test_parts_of_an_amount_cover_it(amount, parts):
    part = amount.ceil_div(parts)
    assert part * parts >= amount
    assert part == ZERO or Nano(part.value - 1) * parts < amount


@pytest.mark.parametrize(
    "mix",
    [
        lambda: Nano(1) + 1,
        lambda: 1 + Nano(1),
        lambda: Nano(1) - 1,
        lambda: Nano(1) == 1,
        lambda: Nano(1) != 1,
        lambda: Nano(1) < 2,
        lambda: Nano(1) >= 0,
        lambda: Nano(1) * 1.5,
        lambda: Nano(1) * True,
        lambda: Nano(1) * Nano(1),
        lambda: Nano(1.0),
        lambda: Nano(True),
        lambda: Nano("1"),
    ],
)
def test_tokens_are_not_money(mix):
    with pytest.raises(TypeError):
        mix()


def test_no_debt_and_no_more_than_a_database_holds():
    for value in (-1, MAX_NANO + 1):
        with pytest.raises(ValueError, match="no amount"):
            Nano(value)


def test_amounts_are_values():
    assert {Nano(1): "one"}[Nano(1)] == "one"
    assert not ZERO
    assert Nano(1)
    assert repr(Nano(5)) == "Nano(5)"
    assert sorted([Nano(2), Nano(1)]) == [Nano(1), Nano(2)]
