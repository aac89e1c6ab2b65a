"""Canonical sampling: the published vectors, a plain twin, and the distribution it draws from."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.engine import sample
from inference.engine.base import Sampling

NONCE = bytes(range(16))


def test_key_and_states_are_the_published_ones():
    key = sample.seed_key(NONCE)
    assert key.hex() == "ac75ff469edeff2a84379e9b17157f31b41eb3f146fdc7b29d9ef2cccf7457de"
    assert sample.stream_state(key, 0) == 0x7B22CC45E84254D3
    assert sample.stream_state(key, 1000) == 0x1FEF11A1589CD951


def test_variates_are_the_published_ones():
    key = sample.seed_key(NONCE)
    first, second = sample.stream_state(key, 0), sample.stream_state(key, 1)
    assert sample.mix(first ^ 0) == 0x78D55525C07222E4
    assert sample.uniform(first, 0) == 0.4720051972548807
    assert sample.gumbel(first, 0) == 0.28666221624997956
    assert sample.mix(second ^ 49151) == 0xFEBF63D9A922182E
    assert sample.gumbel(second, 49151) == 5.317678521911676


def test_an_integer_seed_stands_for_one_nonce():
    assert sample.seeded_nonce(-1) == sample.seeded_nonce(-1)
    assert sample.seeded_nonce(1) != sample.seeded_nonce(-1)
    assert len(sample.seeded_nonce(2**63 - 1)) == 16


def plain_choice(row, sampling, answer):
    """The specification once more, over the whole vocabulary and without numpy's selection."""
    row = row.copy()
    for token, bias in sampling.bias:
        row[token] += np.float32(bias / 1000)
    for token, count in Counter(answer).items():
        row[token] -= np.float32((sampling.frequency * count + sampling.presence) / 1000)
    ids = sorted(range(len(row)), key=lambda token: (-row[token], token))
    ids = ids[: min(sampling.top_k or 1000, 1000)]
    weights = [math.exp(float(row[token]) - float(row[ids[0]])) for token in ids]
    shares = [weight / sum(weights) for weight in weights]
    kept, total = [], 0.0
    for token, share in zip(ids, shares, strict=True):
        kept.append((token, share))
        total += share
        if total >= sampling.top_p / 1000:
            break
    kept = [pair for pair in kept if pair[1] >= sampling.min_p / 1000 * shares[0]] or kept[:1]
    if sampling.temperature == 0:
        return ids[0]
    state = sample.stream_state(sample.seed_key(sampling.nonce), len(answer))
    heat = sampling.temperature / 1000
    scores = [(float(row[token]) / heat + sample.gumbel(state, token), -token) for token, _ in kept]
    return -max(scores)[1]


def random_sampling(draw):
    return Sampling(
        nonce=draw.bytes(16),
        temperature=int(draw.choice([0, 1, 300, 800, 2000])),
        top_p=int(draw.choice([0, 500, 950, 1000])),
        top_k=int(draw.choice([0, 1, 40, 1000])),
        min_p=int(draw.choice([0, 50, 1000])),
        frequency=int(draw.choice([0, -500, 700])),
        presence=int(draw.choice([0, 1500])),
        bias=((int(draw.integers(0, 30)), int(draw.integers(-9000, 9000))),),
    )


@pytest.mark.parametrize("part", range(4))
def test_a_plain_twin_chooses_the_same_tokens(part):
    draw = np.random.default_rng(part)
    for _ in range(500):
        size = int(draw.integers(31, 700))
        row = (draw.standard_normal(size) * 4).astype(np.float32)
        if draw.random() < 0.3:
            row = np.round(row)  # many equal logits: the order of ids decides
        sampling = random_sampling(draw)
        answer = [int(token) for token in draw.integers(0, size, int(draw.integers(0, 9)))]
        assert sample.choose(row, sampling, answer) == plain_choice(row, sampling, answer)


def test_the_selection_of_a_large_vocabulary_is_exact():
    draw = np.random.default_rng(5)
    for top_k in (1, 40, 1000):
        row = np.round(draw.standard_normal(49_152) * 40).astype(np.float32)
        sampling = Sampling(nonce=NONCE, top_k=top_k, top_p=1000)
        assert sample.choose(row, sampling, ()) == plain_choice(row, sampling, ())


def test_the_row_is_left_as_it_was():
    row = np.zeros(50, np.float32)
    sample.choose(row, Sampling(nonce=NONCE, bias=((3, 500),), presence=100), (1, 2))
    assert not row.any()


def test_choices_follow_the_softmax():
    logits = np.array([1.0, 0.5, 0.0, -1.0, -30.0], np.float32)
    sampling = Sampling(nonce=NONCE, temperature=1000, top_p=1000)
    drawn = Counter(sample.choose(logits, sampling, (0,) * index) for index in range(4000))
    weights = np.exp(logits[:4].astype(np.float64))
    expected = 4000 * weights / weights.sum()
    chi_square = sum((drawn[token] - expected[token]) ** 2 / expected[token] for token in range(4))
    assert chi_square < 16.27  # 0.1 % at three degrees of freedom; the seed is fixed


@given(
    st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=60),
    st.binary(min_size=16, max_size=16),
)
def test_there_is_always_a_choice(logits, nonce):
    row = np.array(logits, np.float32)
    sampling = Sampling(nonce=nonce, top_p=0, min_p=1000, top_k=3)
    assert 0 <= sample.choose(row, sampling, ()) < len(row)


def test_logprobs_are_those_of_the_softmax():
    row = np.array([0.0, math.log(3.0)], np.float32)
    logs = sample.logprobs(row)
    assert logs == pytest.approx([math.log(0.25), math.log(0.75)])
    assert sample.most_likely(logs, 1) == ((1, pytest.approx(math.log(0.75))),)


def test_a_margin_is_nothing_for_what_is_drawn_and_clipped_for_what_cannot_be():
    row = np.linspace(0.0, 8.0, 100, dtype=np.float32)
    for temperature in (0, 800):
        sampling = Sampling(nonce=b"n" * 16, temperature=temperature, top_k=5)
        drawn = sample.choose(row, sampling, ())
        assert sample.margin(row, sampling, (), drawn) == 0.0
        assert sample.margin(row, sampling, (), 3) == sample.CLIP
        kept = sample.candidates(row, sampling, ())
        others = [sample.margin(row, sampling, (), one.token) for one in kept]
        assert [margin for margin in others if not margin] == [0.0]
        assert max(others) <= sample.CLIP
