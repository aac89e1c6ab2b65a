"""Canonical sampling `tussah-gumbel/1`: one row of logits and a seed give one token, everywhere.

The choice is seeded Gumbel-max: each candidate's score is its logit over the temperature plus a
Gumbel variate that is a hash of (nonce, index in the answer, token). Whoever has the model can
repeat the choice, so an answer can be checked token by token; and since small numeric differences
move scores only a little, an honest worker on another machine nearly always agrees. The idea is
published as Token-DiFR (arXiv 2511.20621).

Numpy selects the candidates among the vocabulary; what follows is plain float64 arithmetic in a
fixed order, so that implementations can agree to the last bit.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from inference.engine.base import MILLE, Sampling

Row: TypeAlias = NDArray[np.float32]
"""The logits of one position, one per token of the vocabulary."""

MAX_TOP_K: Final = 1_000
"""candidates at most: the tail beyond has no weight, and sorting it costs."""

CLIP: Final = 0.5
"""the largest margin: a token that could not have been drawn counts as much"""

_MASK: Final = 2**64 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A token that may be chosen and what it scored."""

    token: int
    score: float


def choose(row: Row, sampling: Sampling, answer: Sequence[int]) -> int:
    """The next token after `answer`, the tokens of this answer so far.

    The row must hold no NaN and a finite maximum: a device checks that, as a broken model's fault.
    """
    return best(candidates(row, sampling, answer)).token


def best(kept: Sequence[Candidate]) -> Candidate:
    """The highest score; the smaller id among equals."""
    return max(kept, key=lambda candidate: (candidate.score, -candidate.token))


def margin(row: Row, sampling: Sampling, answer: Sequence[int], claimed: int) -> float:
    """How far a claimed next token is from being the one: 0 for `choose`'s own, `CLIP` at most.

    It is the best score less the claimed token's, which other numerics move only a little. The clip
    is for the rest: one near-tie of two numerics would outweigh a hundred equal tokens.
    """
    kept = candidates(row, sampling, answer)
    score = next((one.score for one in kept if one.token == claimed), -math.inf)
    return min(CLIP, best(kept).score - score)


def candidates(row: Row, sampling: Sampling, answer: Sequence[int]) -> list[Candidate]:
    """All tokens that survive top-k, top-p and min-p, most likely first, with their scores: at
    temperature 0 these are their logits."""
    ids, logits = _most_likely(_adjusted(row, sampling, answer), sampling.top_k)
    kept = _count_kept(logits, sampling)
    if sampling.temperature == 0:
        pairs = zip(ids[:kept], logits[:kept], strict=True)
        return [Candidate(token=token, score=logit) for token, logit in pairs]
    temperature = sampling.temperature / MILLE
    state = stream_state(seed_key(sampling.nonce), len(answer))
    return [
        Candidate(token=token, score=logit / temperature + gumbel(state, token))
        for token, logit in zip(ids[:kept], logits[:kept], strict=True)
    ]


# --- step 1: bias and penalties, in float32 like the logits ---


def _adjusted(row: Row, sampling: Sampling, answer: Sequence[int]) -> Row:
    if not sampling.bias and not sampling.frequency and not sampling.presence:
        return row
    row = row.copy()
    for token, bias in sampling.bias:
        if token < len(row):
            row[token] += np.float32(bias / MILLE)
    for token, count in Counter(answer).items():
        row[token] -= np.float32((sampling.frequency * count + sampling.presence) / MILLE)
    return row


# --- step 2: the top k by (logit descending, id ascending) ---


def _most_likely(row: Row, top_k: int) -> tuple[list[int], list[float]]:
    size = min(top_k or MAX_TOP_K, MAX_TOP_K, len(row))
    pool = np.flatnonzero(row >= _floor(row, size))
    order = np.argsort(-row[pool], kind="stable")[:size]
    ids = pool[order]
    return ids.tolist(), row[ids].astype(np.float64).tolist()


def _floor(row: Row, size: int) -> float:
    """A value that at least `size` logits reach, and few more do.

    It is the `size`-th largest of the maxima of disjoint groups: each such group holds a logit at
    least as large. Six times faster than a partition of the vocabulary.
    """
    groups = max(size * 4, 1_024)
    if len(row) >= groups * 2:
        depth = len(row) // groups
        row = row[: groups * depth].reshape(depth, groups).max(axis=0)
    return float(np.partition(row, len(row) - size)[len(row) - size])


# --- step 3: top-p, then min-p, on probabilities without temperature ---


def _count_kept(logits: list[float], sampling: Sampling) -> int:
    weights = [math.exp(logit - logits[0]) for logit in logits]
    total = sum(weights)
    by_top_p = _shortest_prefix([weight / total for weight in weights], sampling.top_p / MILLE)
    floor = sampling.min_p / MILLE * (weights[0] / total)
    return max(1, sum(weight / total >= floor for weight in weights[:by_top_p]))


def _shortest_prefix(shares: list[float], least: float) -> int:
    cumulated = 0.0
    for count, share in enumerate(shares, 1):
        cumulated += share
        if cumulated >= least:
            return count
    return len(shares)


# --- step 4: the seeded Gumbel variates ---


def seed_key(nonce: bytes) -> bytes:
    """The key of one answer's variates."""
    return blake2b(nonce, digest_size=32, person=b"tussah.seed").digest()


def stream_state(key: bytes, index: int) -> int:
    """The state that all variates of the answer's token number `index` share."""
    position = index.to_bytes(4, "little")
    digest = blake2b(position, digest_size=8, key=key, person=b"tussah.gumbel").digest()
    return int.from_bytes(digest, "little")


def mix(x: int) -> int:
    """SplitMix64's finaliser (Steele et al., 2014): 64 bits in, 64 well-mixed bits out."""
    x = (x + 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def uniform(state: int, token: int) -> float:
    """The open interval (0, 1), 53 bits; never an end, so both logarithms are finite."""
    return ((mix(state ^ token) >> 11) + 0.5) / 2.0**53


def gumbel(state: int, token: int) -> float:
    """The standard Gumbel variate of a token at a position."""
    return -math.log(-math.log(uniform(state, token)))


def seeded_nonce(seed: int) -> bytes:
    """The nonce that an API's integer `seed` stands for."""
    return blake2b(
        seed.to_bytes(8, "little", signed=True), digest_size=16, person=b"tussah.nonce"
    ).digest()


# --- probabilities for people: before bias, temperature and cuts ---


def logprobs(row: Row) -> NDArray[np.float64]:
    """The natural logarithm of each token's probability."""
    shifted = row.astype(np.float64) - float(row.max())
    shifted -= math.log(float(np.exp(shifted).sum()))
    return shifted


def most_likely(logs: NDArray[np.float64], count: int) -> tuple[tuple[int, float], ...]:
    """The `count` best (token, logprob), best first, the smaller id among equals."""
    order = np.argsort(-logs, kind="stable")[:count]
    return tuple((int(token), float(logs[token])) for token in order)
