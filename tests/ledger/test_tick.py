"""Ticks: each proves all before it, a false one changes nothing, and nobody is far ahead."""

from hashlib import blake2b, sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.money import ZERO, Nano
from ledger.tick import (
    MAX_TICKS,
    Chain,
    Verifier,
    answer_due,
    may_read,
    may_spend,
    prompt_due,
)
from p2p.errors import BadPreimage

SEED, SESSION = b"\x22" * 32, b"\x44" * 32


def values(seed: bytes, session: bytes, n: int) -> list[bytes]:
    """The whole chain, written down: the value at 0 is the secret, that at n the root."""
    chain = [blake2b(session, key=seed, person=b"tussah.tick", digest_size=32).digest()]
    for _ in range(n):
        chain.append(sha256(b"tussah/tick" + chain[-1]).digest())
    return chain


@given(st.integers(1, 300), st.data())
def test_a_chain_reveals_its_values_backwards_in_any_order(n, data):
    chain, expected = Chain(SEED, SESSION, n), values(SEED, SESSION, n)
    assert chain.root == expected[n]
    for i in data.draw(st.lists(st.integers(0, n), max_size=20)):
        assert chain.reveal(i) == expected[n - i]


def test_the_longest_chain_is_revealed_to_its_end():
    chain, expected = Chain(SEED, SESSION, MAX_TICKS), values(SEED, SESSION, MAX_TICKS)
    assert [chain.reveal(i) for i in range(MAX_TICKS + 1)] == expected[::-1]


def test_a_chain_is_of_its_seed_and_session_alone():
    root = Chain(SEED, SESSION, 8).root
    assert Chain(SEED, SESSION, 8).root == root
    assert Chain(SEED, b"\x45" * 32, 8).root != root
    assert Chain(b"\x23" * 32, SESSION, 8).root != root
    assert Chain(SEED, SESSION, 9).reveal(1) == root, "a longer chain would give a shorter away"


@pytest.mark.parametrize("n", [-1, 0, MAX_TICKS + 1])
def test_a_session_has_one_to_16384_ticks(n):
    with pytest.raises(ValueError, match="ticks"):
        Chain(SEED, SESSION, n)


@pytest.mark.parametrize("i", [-1, 9])
def test_nothing_is_revealed_beyond_the_chain(i):
    with pytest.raises(ValueError, match="tick"):
        Chain(SEED, SESSION, 8).reveal(i)


def test_a_chain_shows_no_secret_when_printed():
    chain = Chain(SEED, SESSION, 8)
    assert chain.reveal(8).hex()[:8] not in repr(chain)


@given(st.integers(1, 100), st.lists(st.integers(0, 100), max_size=20))
def test_ticks_in_any_order_with_gaps_count_to_the_highest(n, order):
    chain = Chain(SEED, SESSION, n)
    verifier, highest = Verifier(chain.root, n), 0
    for i in (i for i in order if i <= n):
        highest = max(highest, i)
        assert verifier.accept(i, chain.reveal(i)) == verifier.index == highest
        assert verifier.newest == chain.reveal(highest)


@given(st.integers(0, 20), st.integers(-1, 22), st.binary(max_size=40) | st.integers(0, 20))
def test_a_false_tick_is_refused_and_changes_nothing(seen, i, x):
    chain = Chain(SEED, SESSION, 20)
    verifier = Verifier(chain.root, 20)
    verifier.accept(seen, chain.reveal(seen))
    preimage = chain.reveal(x) if isinstance(x, int) else x
    if 0 <= i <= seen and len(preimage) == 32:
        assert verifier.accept(i, preimage) == seen
    elif preimage == chain.reveal(min(max(i, 0), 20)) and 0 <= i <= 20:
        assert verifier.accept(i, preimage) == i
        return
    else:
        with pytest.raises(BadPreimage):
            verifier.accept(i, preimage)
    assert (verifier.index, verifier.newest) == (seen, chain.reveal(seen))


def test_a_verifier_goes_on_where_it_was():
    chain = Chain(SEED, SESSION, 20)
    verifier = Verifier(chain.reveal(7), 20, 7)
    assert verifier.accept(9, chain.reveal(9)) == 9
    with pytest.raises(BadPreimage):
        verifier.accept(10, chain.reveal(9))


@pytest.mark.parametrize("wrong", [(b"", 8, 0), (b"\0" * 32, MAX_TICKS + 1, 0), (b"\0" * 32, 8, 9)])
def test_a_verifier_is_of_a_session_that_can_be(wrong):
    with pytest.raises(ValueError, match="tick"):
        Verifier(*wrong)


# --- who is ahead ---


@given(st.integers(0, 60), st.integers(1, 16), st.integers(0, 80))
def test_reading_ahead_is_out_by_one_step_at_most(p0, step, steps):
    due = prompt_due(p0, step, steps)
    assert may_read(due, p0, step, steps + 1), "an honest asker is never waited for"
    assert due - min(p0, step * steps) <= step, "an asker has paid one step too many at most"
    unpaid = min(p0, step * steps)
    if unpaid:
        assert not may_read(unpaid - 1, p0, step, steps)
    assert may_read(unpaid, p0, step, steps)


@given(st.integers(0, 60), st.integers(1, 10_000), st.integers(0, 400_000))
def test_an_answer_is_out_by_one_tick_at_most(p0, tick, spent):
    due = answer_due(p0, Nano(tick), MAX_TICKS, Nano(spent))
    allowed = may_spend(due, p0, Nano(tick))
    if due < MAX_TICKS:
        assert allowed >= Nano(spent), "an honest asker is never waited for"
        assert (due - p0) * tick - spent <= tick, "an asker has paid one tick too many at most"
    paid = Nano(tick) * (due - p0)
    assert allowed - paid == Nano(tick), "a worker is owed one tick at most"


def test_no_more_ticks_than_were_locked_and_nothing_before_the_prompt_is_paid():
    assert answer_due(3, Nano(10), 5, Nano(10_000)) == 5
    assert may_spend(2, 3, Nano(10)) == ZERO
    assert may_spend(3, 3, Nano(10)) == Nano(10)
