"""A line that `receipts export` writes is valid; one that was touched anywhere is not."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import tariff
from ledger.money import Nano
from ledger.tariff import Count, Receipt, Stop
from p2p.identity import Identity
from scripts import receipts

WORKER, OTHER = Identity(b"w" * 32), Identity(b"o" * 32)


def exported(worker=WORKER, **said):
    receipt = Receipt(
        offer=b"s" * 32,
        model=b"m" * 32,
        prompt_hash=b"p" * 32,
        answer_hash=b"a" * 32,
        tokens=Count(prompt=20, completion=12),
        cost=Nano(3_000),
        ticks=3,
        stop=Stop.STOP,
        started=1_790_000_000,
        ended=1_790_000_004,
        worker=worker.id,
    )
    signed = tariff.sign(replace(receipt, **said), worker)
    return receipts.line(signed, worker.public)


def faults(*documents):
    checked = receipts.verify(json.dumps(document) for document in documents)
    return [each["fault"] for each in checked["receipts"]]


def test_exported_receipt_is_valid():
    document = receipts.verify([json.dumps(exported()), "", "  "])
    assert (document["valid"], document["invalid"]) == (1, 0)
    assert document["receipts"][0]["cost_nano"] == 3_000


def test_receipt_counts_once_however_often_it_stands_there():
    other = exported(offer=b"t" * 32)
    lines = [json.dumps(each) for each in (exported(), other, exported(), exported())]
    document = receipts.verify(lines)
    assert [document[name] for name in ("valid", "repeated", "invalid")] == [2, 2, 0]
    assert [each["repeats"] for each in document["receipts"]] == [None, None, 1, 1]


def test_two_receipts_of_one_offer_that_differ_are_not_both_true():
    assert faults(exported(), exported(cost=Nano(4_000)), exported()) == [
        None,
        "says something else than line 1 of one offer",
        None,
    ]
    assert faults(exported(), exported(OTHER)) == [None, None]


@pytest.mark.parametrize("name", [name for name in exported() if name not in ("schema", "signed")])
def test_no_word_of_a_receipt_can_be_changed(name):
    document = exported()
    old = document[name]
    flipped = f"{old[:-1]}{int(old[-1], 16) ^ 1:x}" if isinstance(old, str) else None
    document[name] = [*old[:-1], old[-1] + 1] if isinstance(old, list) else flipped or old + 1
    assert faults(document) != [None]
    del document[name]
    assert faults(document) != [None]


@given(st.data())
def test_no_byte_that_was_signed_can_be_changed(data):
    document = exported()
    signed = bytearray.fromhex(document["signed"])
    signed[data.draw(st.integers(0, len(signed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert faults({**document, "signed": signed.hex()}) != [None]


def test_receipt_of_another_worker_is_not_this_ones():
    assert faults({**exported(), "public": OTHER.public.hex()}) != [None]


@given(st.text(max_size=200))
def test_what_is_no_receipt_is_said_to_be_none(text):
    checked = receipts.verify([text])
    assert all(each["fault"] for each in checked["receipts"])


def test_endless_line_and_deep_json_are_refused():
    checked = receipts.verify(["[" * 10_000, "x" * (receipts.MAX_LINE + 1)])
    assert checked["invalid"] == 2
