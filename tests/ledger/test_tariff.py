"""What an answer costs, and receipts to the byte."""

from dataclasses import replace
from fractions import Fraction

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import tariff
from ledger.money import MAX_NANO, ZERO, Nano
from ledger.tariff import (
    MAX_PRICE,
    MAX_TOKENS,
    Count,
    Plan,
    Prices,
    Receipt,
    Stop,
    cost,
    fair,
    plan,
    prompt_ticks,
    quote,
    total_ticks,
)
from ledger.tick import MAX_TICKS
from p2p.errors import BadSignature, CodecError, RemoteError
from p2p.identity import Identity, verify

WORKER = Identity(b"w" * 32)
OTHER = Identity(b"o" * 32)

counts = st.builds(Count, *[st.integers(0, 10**6)] * 4)
prices = st.builds(Prices, *[st.integers(0, 10**12)] * 4)

RECEIPT = Receipt(
    offer=b"\x01" * 32,
    model=b"\x02" * 32,
    prompt_hash=b"\x03" * 32,
    answer_hash=b"\x04" * 32,
    tokens=Count(10, 0, 7, 2),
    cost=ZERO,
    ticks=0,
    stop=Stop.STOP,
    started=1_795_000_000,
    ended=1_795_000_004,
    worker=WORKER.id,
)

hashes = st.binary(min_size=32, max_size=32)
u32 = st.integers(0, 2**32 - 1)
receipts = st.builds(
    Receipt,
    offer=hashes,
    model=hashes,
    prompt_hash=hashes,
    answer_hash=hashes,
    tokens=st.builds(Count, *[st.integers(0, MAX_TOKENS)] * 4),
    cost=st.integers(0, MAX_NANO).map(Nano),
    ticks=st.integers(0, 2**16 - 1),
    stop=st.sampled_from(Stop),
    started=u32,
    ended=u32,
    worker=st.just(WORKER.id),
)


@given(counts, prices)
def test_a_cost_is_the_exact_sum_rounded_up_once(count, price):
    exact = sum(Fraction(n * p, 10**6) for n, p in zip(count, price, strict=True))
    assert 0 <= cost(count, price).value - exact < 1


def test_cocoons_price_of_20_nano_a_token():
    price = Prices(completion=20_000_000)
    assert cost(Count(completion=3), price) == Nano(60)


@given(counts)
def test_free_is_free(count):
    assert cost(count, Prices()) == ZERO
    assert Prices().free
    assert not Prices(cached=1).free


@given(counts, prices)
def test_no_answer_within_its_bounds_costs_more_than_its_quote(count, price):
    price = price._replace(cached=min(price.cached, price.prompt))
    assert cost(count, price) <= quote(count.read, count.written, price)


def test_the_dearest_answer_there_can_be_still_has_a_cost():
    cost(Count(*[MAX_TOKENS] * 4), Prices(*[MAX_PRICE] * 4))


def test_what_is_reused_may_not_cost_more():
    assert fair(Prices(prompt=5, cached=5))
    assert not fair(Prices(prompt=5, cached=6))
    assert not fair(Prices(completion=MAX_PRICE + 1))


@given(receipts)
def test_a_receipt_reads_back(receipt):
    assert tariff.verify(tariff.sign(receipt, WORKER), WORKER.public) == receipt


def test_a_receipt_to_the_byte():
    signed = tariff.sign(RECEIPT, WORKER)
    body, signature = signed[:-64], signed[-64:]
    # The judge is msgpack alone: string keys in the order of their bytes, shortest forms.
    fields = {
        "answer_hash": b"\x04" * 32,
        "cost": 0,
        "ended": 1_795_000_004,
        "model": b"\x02" * 32,
        "offer": b"\x01" * 32,
        "prompt_hash": b"\x03" * 32,
        "started": 1_795_000_000,
        "stop": 0,
        "ticks": 0,
        "tokens": [10, 0, 7, 2],
        "v": 1,
        "worker": WORKER.id,
    }
    assert body == msgpack.packb(fields)
    assert list(fields) == sorted(fields)
    assert verify(WORKER.public, b"tussah/receipt/1\0" + body, signature)


def test_a_receipt_of_another_is_none():
    with pytest.raises(BadSignature):
        tariff.verify(tariff.sign(RECEIPT, OTHER), WORKER.public)
    with pytest.raises(BadSignature):
        tariff.verify(tariff.sign(RECEIPT, WORKER), OTHER.public)


@given(st.data())
def test_a_changed_receipt_is_none(data):
    signed = bytearray(tariff.sign(RECEIPT, WORKER))
    at = data.draw(st.integers(0, len(signed) - 1))
    signed[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(RemoteError):
        tariff.verify(bytes(signed), WORKER.public)


def test_every_truncation_is_refused():
    signed = tariff.sign(RECEIPT, WORKER)
    for size in range(len(signed)):
        with pytest.raises(RemoteError):
            tariff.verify(signed[:size], WORKER.public)
    with pytest.raises(RemoteError):
        tariff.verify(signed + b"\0", WORKER.public)


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"stop": 7},
        {"stop": -1},
        {"stop": True},
        {"tokens": [1, 2, 3]},
        {"tokens": [1, 2, 3, MAX_TOKENS + 1]},
        {"cost": MAX_NANO + 1},
        {"worker": b"short"},
        {"started": 2**32},
        {"ticks": 2**16},
        {"extra": 1},
        {"offer": None},
    ],
)
def test_a_receipt_with_a_field_out_of_bounds_is_none(change):
    fields = {**msgpack.unpackb(RECEIPT.body()), **change}
    body = msgpack.packb(dict(sorted(fields.items())))
    signed = body + WORKER.sign(b"tussah/receipt/1\0" + body)
    with pytest.raises(CodecError):
        tariff.read(signed)


def test_a_receipt_that_is_no_map_or_lacks_a_field_is_none():
    fields = msgpack.unpackb(RECEIPT.body())
    del fields["ticks"]
    for body in (msgpack.packb([1]), msgpack.packb({1: 2}), msgpack.packb(fields)):
        with pytest.raises(CodecError):
            tariff.read(body + bytes(64))


def test_hashes_are_bound_to_the_session():
    one, two = b"1" * 32, b"2" * 32
    assert tariff.hash_prompt(one, b"hi") != tariff.hash_prompt(two, b"hi")
    assert tariff.hash_answer(one, b"hi") != tariff.hash_answer(two, b"hi")


def test_classes_count_as_others_do():
    count = Count(prompt=1, cached=2, completion=4, reasoning=8)
    assert (count.read, count.written) == (3, 12)
    assert replace(RECEIPT, tokens=count) != RECEIPT


# --- ticks ---


def planned(price, prompt=1_000, answer=500, *, answer_rate=20, prompt_rate=400, wait=0.2):
    return plan(price, prompt, answer, answer_rate=answer_rate, prompt_rate=prompt_rate, wait=wait)


def test_a_plan_by_hand():
    # 60 tokens in 1.5 waits; 60 * 40 nano; 1,000 prompt tokens at 10 nano; 1,200 tokens a step
    price = Prices(10_000_000, 5_000_000, 40_000_000, 20_000_000)
    found = planned(price, wait=2.0)
    assert found == Plan(k=60, tick=Nano(2_400), p0=5, g=5, ticks=5 + 9)
    assert found.amount == Nano(14 * 2_400)


@pytest.mark.parametrize(("wait", "rate", "k"), [(0, 20, 16), (1, 20, 30), (1.01, 21, 32)])
def test_a_tick_lasts_half_as_long_again_as_the_wait(wait, rate, k):
    assert planned(Prices(completion=1), answer_rate=rate, wait=wait).k == k


def test_a_tick_is_at_most_256_tokens():
    assert planned(Prices(completion=1), answer_rate=1_000, wait=10).k == 256


def test_what_costs_nothing_takes_no_ticks():
    assert planned(Prices()) == tariff.FREE
    assert tariff.FREE.amount == ZERO


def test_an_answer_that_costs_nothing_takes_ticks_for_its_prompt_alone():
    found = planned(Prices(prompt=10**9), prompt=131_072)
    assert found.ticks == found.p0 <= MAX_TICKS


def test_a_plan_beyond_the_longest_chain_is_refused():
    with pytest.raises(ValueError, match="ticks"):
        planned(Prices(completion=1), prompt=0, answer=300_000)


fairs = st.builds(Prices, *[st.integers(0, 10**12)] * 4).filter(fair)


@given(fairs, st.integers(0, 131_072), st.integers(0, 131_072), st.data())
def test_the_planned_ticks_pay_for_whatever_the_answer_turns_out_to_be(price, size, most, data):
    found = planned(price, size, most)
    cached, written = data.draw(st.integers(0, size)), data.draw(st.integers(0, most))
    reasoning = data.draw(st.integers(0, written))
    count = Count(size - cached, cached, written - reasoning, reasoning)
    assert cost(count, price) <= found.amount
    assert found.ticks <= MAX_TICKS


@given(fairs, st.integers(0, 131_072), st.integers(0, 131_072))
def test_both_sides_find_the_same_ticks_from_an_offer(price, size, most):
    found = planned(price, size, most)
    if price.free:
        return
    assert total_ticks(price, size, most, k=found.k, tick=found.tick) == found.ticks
    assert prompt_ticks(Count(prompt=size), price, found.tick) == found.p0


@given(fairs, st.integers(0, 131_072), st.integers(0, 131_072))
def test_what_is_cached_takes_no_more_ticks_than_what_is_read(price, size, cached):
    whole, reused = Count(prompt=size + cached), Count(prompt=size, cached=cached)
    assert prompt_ticks(reused, price, Nano(7)) <= prompt_ticks(whole, price, Nano(7))
