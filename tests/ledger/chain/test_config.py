"""Mainnet's configuration is the one we think it is, and dearer ones differ in prices alone."""

from dataclasses import replace
from hashlib import sha256

import pytest
from pytoniq_core import Cell, HashMap

from ledger.chain.boc import read_cell
from ledger.chain.config import FORWARD, GAS, mainnet_config, scale_config
from ledger.chain.records import read_fees
from ledger.money import Nano

DIGEST = "5e632204a785a02c20a5a2f0413b13f87bdd942a8a1e0628d13c99b346fb797c"
FEES = read_fees(read_cell(mainnet_config()))


def params(boc):
    parsed = HashMap.parse(read_cell(boc).begin_parse(), 32)
    return {number: value.load_ref() for number, value in parsed.items()}


def test_it_is_pinned():
    boc = mainnet_config()
    assert len(boc) == 114_795
    assert sha256(boc).hexdigest() == DIGEST


def test_prices():
    assert FEES.gas_price == 400 << 16
    assert FEES.forward_lump == Nano(400_000)
    assert (FEES.forward_bit, FEES.forward_cell) == (400 << 16, 40_000 << 16)


def test_gas_limits():
    """`flat_pfx`, then price, limit, special limit, credit."""
    reader = params(mainnet_config())[21].begin_parse()
    reader.skip_bits(8 + 64 + 64 + 8)
    assert [reader.load_uint(64) for _ in range(4)] == [400 << 16, 1_000_000, 1_000_000, 10_000]


def test_the_machine_is_of_version_12():
    reader = params(mainnet_config())[8].begin_parse()
    assert (reader.load_uint(8), reader.load_uint(32)) == (0xC4, 12)


def test_scaled_by_one_it_is_the_same():
    same = scale_config(mainnet_config(), (*GAS, *FORWARD), 1)
    assert read_cell(same).hash == read_cell(mainnet_config()).hash


def test_dear_gas():
    dear = read_fees(read_cell(scale_config(mainnet_config(), GAS, 100)))
    assert dear == replace(FEES, gas_price=FEES.gas_price * 100, flat_price=FEES.flat_price * 100)


def test_dear_forwarding():
    dear = read_fees(read_cell(scale_config(mainnet_config(), FORWARD, 7)))
    assert dear == replace(
        FEES,
        forward_lump=FEES.forward_lump * 7,
        forward_bit=FEES.forward_bit * 7,
        forward_cell=FEES.forward_cell * 7,
    )


def test_nothing_else_changes():
    before, after = params(mainnet_config()), params(scale_config(mainnet_config(), (21, 25), 3))
    assert before.keys() == after.keys()
    assert [n for n in before if before[n].hash != after[n].hash] == [21, 25]


def test_other_parameters_hold_no_such_prices():
    with pytest.raises(ValueError, match="18"):
        scale_config(mainnet_config(), (18,), 2)
    assert isinstance(read_cell(mainnet_config()), Cell)
