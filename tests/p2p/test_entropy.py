"""Randomness as an argument: the published vectors, and what a seed promises."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.entropy import SystemEntropy, choice, exponential, sample, seeded, shuffle


def test_stream_of_a_seed_is_the_published_one():
    assert seeded(1).token(8).hex() == "b533764f583d59c0"
    assert seeded(1).fork("net/0").token(8).hex() == "d9948c5745281a14"

    entropy = seeded(7)
    assert [entropy.below(10) for _ in range(8)] == [7, 8, 3, 0, 4, 2, 0, 0]
    assert entropy.uniform() == 0.7137363810389048


@given(st.lists(st.integers(0, 200), max_size=12))
def test_stream_does_not_depend_on_how_it_is_cut(sizes):
    whole = seeded(3).token(sum(sizes))
    pieces = seeded(3)
    assert b"".join(pieces.token(size) for size in sizes) == whole


@given(st.permutations(["node/0", "node/1", "node/0/dht", "workload"]), st.integers(0, 100))
def test_forks_depend_neither_on_their_order_nor_on_draws_before(labels, drawn):
    entropy = seeded(5)
    entropy.token(drawn)
    forks = {label: entropy.fork(label).token(16) for label in labels}
    assert forks == {label: seeded(5).fork(label).token(16) for label in labels}
    assert len(dict.fromkeys(forks.values())) == 4


def chi_square(counts, expected):
    return sum((count - expected) ** 2 / expected for count in counts)


@pytest.mark.parametrize("n", [2, 10, 17, 100, 129])
def test_below_is_uniform(n):
    draws = 400 * n
    entropy = seeded(n)
    counts = Counter(entropy.below(n) for _ in range(draws))

    assert all(0 <= value < n for value in counts)
    free = n - 1  # degrees of freedom; mean = free, variance = 2 free
    assert chi_square([counts[v] for v in range(n)], 400) < free + 4 * math.sqrt(2 * free)


@pytest.mark.parametrize("bits", [1, 3, 7, 8, 9])
def test_below_has_no_bias_just_above_a_power_of_two(bits):
    """Where `value % n` would favour half of the range by two to one."""
    n, draws = 2**bits + 1, 20_000
    entropy = seeded(100 + bits)
    low = sum(entropy.below(n) < n // 2 for _ in range(draws)) / draws
    share = (n // 2) / n
    assert abs(low - share) < 4 * math.sqrt(share * (1 - share) / draws)


def test_below_one_is_zero_and_draws_nothing():
    entropy = seeded(1)
    assert entropy.below(1) == 0
    assert entropy.token(8).hex() == "b533764f583d59c0"


@pytest.mark.parametrize("n", [0, -1])
def test_below_refuses_an_empty_range(n):
    with pytest.raises(ValueError, match="n >= 1"):
        seeded(1).below(n)


def test_uniform_fills_the_unit_interval():
    entropy = seeded(2)
    counts = Counter(int(entropy.uniform() * 16) for _ in range(16_000))
    assert sorted(counts) == list(range(16))
    assert chi_square(counts.values(), 1000) < 15 + 4 * math.sqrt(30)


@given(st.lists(st.integers(), max_size=30), st.integers(0, 1000))
def test_shuffle_keeps_every_item(items, seed):
    shuffled = list(items)
    shuffle(seeded(seed), shuffled)
    assert Counter(shuffled) == Counter(items)


def test_shuffle_makes_every_order_equally_likely():
    entropy, counts = seeded(4), Counter()
    for _ in range(6000):
        items = [0, 1, 2]
        shuffle(entropy, items)
        counts[tuple(items)] += 1
    assert len(counts) == 6
    assert chi_square(counts.values(), 1000) < 5 + 4 * math.sqrt(10)


@given(st.integers(0, 12), st.integers(0, 15))
def test_sample_takes_distinct_items(count, k):
    taken = sample(seeded(9), range(count), k)
    assert len(taken) == len(dict.fromkeys(taken)) == min(count, k)


def test_sample_takes_each_item_equally_often():
    entropy, counts = seeded(11), Counter()
    for _ in range(4000):
        counts.update(sample(entropy, range(8), 2))
    assert chi_square([counts[item] for item in range(8)], 1000) < 7 + 4 * math.sqrt(14)


def test_choice_reaches_every_item():
    entropy = seeded(6)
    assert {choice(entropy, "abc") for _ in range(100)} == set("abc")


def test_exponential_has_its_mean_and_its_tail():
    entropy = seeded(8)
    gaps = [exponential(entropy, 2.0) for _ in range(20_000)]
    assert min(gaps) >= 0.0
    assert abs(sum(gaps) / len(gaps) - 2.0) < 4 * 2.0 / math.sqrt(len(gaps))
    assert abs(sum(gap > 4.0 for gap in gaps) / len(gaps) - math.exp(-2)) < 0.01


def test_system_entropy_never_repeats_and_is_its_own_fork():
    entropy = SystemEntropy()
    assert entropy.fork("node/1") is entropy
    assert entropy.token(16) != entropy.token(16)
    assert 0.0 <= entropy.uniform() < 1.0
    assert 0 <= entropy.below(3) < 3
