"""The ledger's benchmark, small: every row of it, in the one shape, and what it measures."""

import json
import sys

import pytest

from ledger import credit
from scripts.bench import lane, ledger, locks, main, report

NAMES = {
    "vouchers_signed_per_second",
    "vouchers_verified_per_second",
    "ticks_per_second",
    "credits_blinded_per_second",
    "credits_signed_per_second",
    "credits_redeemed_per_second",
    "durable_redemptions_per_second",
    "durable_redemptions_bare_per_second",
    "durable_sessions_per_second",
    "lane_life_fee_ton",
    "lane_claim_fee_ton",
}


@pytest.fixture
def _small(monkeypatch):
    """Rates of this mean nothing; it only takes less time."""
    for name, value in {"SIGNATURES": 8, "CREDITS": 22, "TICKS": 16}.items():
        monkeypatch.setattr(ledger, name, value)
    for name, value in {"TOGETHER": 8, "ALONE": 3, "SESSIONS": 3}.items():
        monkeypatch.setattr(locks, name, value)


@pytest.mark.usefixtures("_small")
def test_prints_one_document_with_every_row_and_every_aim(capsys, validate):
    assert main.main("ledger", quick=True, as_json=True) == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    validate(document, "bench")
    assert {row["name"] for row in document["results"]} == NAMES
    assert all(row["value"] > 0 for row in document["results"])
    assert {aim["name"] for aim in document["aims"]} == set(ledger.AIMS)
    assert "ticks_per_second" in printed.err


def test_without_tons_machine_the_fees_are_left_out_and_the_notes_say_so(monkeypatch):
    monkeypatch.delattr("scripts.bench.lane")
    monkeypatch.setitem(sys.modules, "scripts.bench.lane", None)
    rows, notes = ledger._lane_fees()
    assert rows == []
    assert "left out" in notes[0]


@pytest.mark.parametrize(
    ("name", "value", "ratio", "met"),
    [
        ("vouchers_signed_per_second", 1.0, 0.8, True),
        ("vouchers_signed_per_second", 10**9, 0.79, False),
        ("ticks_per_second", 5_000.0, None, True),
        ("ticks_per_second", 4_999.9, None, False),
        ("lane_claim_fee_ton", 0.0045, 9.9, True),
        ("lane_claim_fee_ton", 0.0046, 0.1, False),
    ],
)
def test_an_aim_is_met_on_its_bound_and_missed_beyond(name, value, ratio, met):
    row = report.Result(name=name, value=value, unit="1/s", ratio=ratio)
    assert [aim.met for aim in report.judged([row], ledger.AIMS)] == [met]


def test_people_read_small_fees_too():
    row = report.Result(name="lane_claim_fee_ton", value=0.004102, unit="TON")
    bench = report.Bench(bench="ledger", quick=True, rounds=3, results=[row], aims=[])
    assert "0.00410 TON" in report.lines(bench)[0]


async def test_a_life_is_an_opening_a_claim_and_a_close_and_costs_the_same_each_time():
    fees = await lane.lane_fees()
    assert fees.life == fees.open + fees.claim + fees.close
    assert fees == await lane.lane_fees()
    assert all(fee.value > 1_000_000 for fee in fees)  # no step was left out


def test_credits_of_the_benchmark_are_those_of_a_purchase():
    keys = locks.KEYS.secrets(locks.EPOCH)
    (made,) = locks.coins((12,), iter([5]))
    m, r = credit.derive(locks.SEED, locks.MINT.id, locks.EPOCH, 5)
    public, blinded = credit.public_key(keys[12]), credit.blind(m, r)
    bought = credit.unblind(public, r, blinded, credit.sign(keys[12], public, blinded))
    assert (made.m, made.C) == (m, bought)
