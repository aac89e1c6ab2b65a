"""Cells of the lane, against ton-core's builder and against the contract's own get-methods."""

import random

import pytest
import ton_core
from hypothesis import given
from hypothesis import strategies as st
from pytoniq_core import Address, Builder, Cell

from ledger import voucher as vouchers
from ledger.chain.boc import read_cell
from ledger.contracts import cells
from ledger.contracts.cells import LaneData, Paid, Payout, read_data, read_payout
from ledger.lane import LaneConfig, Op
from ledger.money import MAX_NANO, Nano
from p2p.errors import CodecError
from p2p.identity import verify
from tests.ledger.contracts.world import (
    NETWORK,
    PAYEE,
    PAYEE_KEY,
    PAYER,
    PAYER_KEY,
    STRANGER,
    TON,
    World,
    engine,
    terms,
)

NANOS = st.integers(0, MAX_NANO).map(Nano)
HASHES = st.binary(min_size=32, max_size=32)
CONFIGS = st.builds(
    LaneConfig,
    payer_key=HASHES,
    payee_key=HASHES,
    payer=HASHES,
    payee=HASHES,
    network=st.integers(-(2**31), 2**31 - 1),
    lane_id=st.integers(0, 2**64 - 1),
    close_delay=st.integers(0, 2**32 - 1),
    min_claim=NANOS,
)


@given(config=CONFIGS, claimed=NANOS, close_at=st.integers(0, 2**32 - 1))
def test_data_reads_back(config, claimed, close_at):
    cell = cells.data(config, claimed, close_at)
    assert read_data(cell) == LaneData(config, claimed, close_at)


@given(config=CONFIGS)
def test_the_address_is_that_of_ton_core(config):
    def account(hash_part):
        return ton_core.Address((0, hash_part))

    parties = ton_core.begin_cell().store_address(account(config.payer))
    parties.store_address(account(config.payee)).store_int(config.network, 32)
    parties.store_uint(config.lane_id, 64).store_uint(config.close_delay, 32)
    parties.store_coins(config.min_claim.value)
    data = ton_core.begin_cell().store_bytes(config.payer_key).store_bytes(config.payee_key)
    data.store_coins(0).store_uint(0, 32).store_ref(parties.end_cell())
    code = ton_core.Cell.one_from_boc(cells.CODE.to_boc())
    init = ton_core.StateInit(code=code, data=data.end_cell()).serialize()
    assert cells.lane_address(config) == init.hash


def test_every_term_is_in_the_address():
    other = {
        "payer_key": bytes(32),
        "payee_key": bytes(32),
        "payer": bytes(32),
        "payee": bytes(32),
        "network": -239,
        "lane_id": 8,
        "close_delay": 86_401,
        "min_claim": Nano(1),
    }
    addresses = {cells.lane_address(terms(**{name: value})) for name, value in other.items()}
    assert len(addresses | {cells.lane_address(terms())}) == len(other) + 1


def test_the_code_hash_is_pinned():
    """Lanes of another code are others' lanes: a change here is a new contract."""
    digest = "56ae79440d31f83e69ef6399791c47b6ae232024cbf5aa5d86c5799dd6e20d91"
    assert cells.CODE_HASH.hex() == digest


def test_a_voucher_cell_holds_what_its_payer_signed():
    voucher = vouchers.sign(PAYER_KEY, PAYER, Nano(TON))
    reader = cells.voucher_cell(voucher).begin_parse()
    signature, body = reader.load_bytes(64), reader.to_cell()
    assert body.hash == vouchers.body_hash(PAYER, Nano(TON))
    assert verify(PAYER_KEY.public, body.hash, signature)


@pytest.mark.parametrize(
    ("make", "op"), [(cells.claim_order, Op.CLAIM), (cells.close_order, Op.CLOSE)]
)
def test_an_order_is_signed_by_its_payee(make, op):
    voucher = vouchers.sign(PAYER_KEY, PAYER, Nano(TON))
    message = read_cell(make(PAYER, voucher, 77, PAYEE_KEY))
    reader = message.refs[0].begin_parse()
    assert reader.load_uint(32) == op
    signature, order = reader.load_bytes(64), reader.to_cell()
    assert verify(PAYEE_KEY.public, order.hash, signature)
    inner = order.begin_parse()
    assert inner.load_address() == Address((0, PAYER))
    assert (inner.load_uint(32), inner.load_uint(32)) == (77, op)
    assert inner.load_ref().hash == cells.voucher_cell(voucher).hash


def test_the_contract_reads_the_data_alike():
    config = terms(lane_id=2**64 - 1, close_delay=2**32 - 1, min_claim=Nano(10**17))
    values = got("get_config", cells.data(config))
    assert [value.load_address().hash_part for value in values[:2]] == [PAYER, PAYEE]
    assert [value.to_bytes(32, "big") for value in values[2:4]] == [
        PAYER_KEY.public,
        PAYEE_KEY.public,
    ]
    assert values[4:] == (NETWORK, 2**64 - 1, 2**32 - 1, 10**17)


def test_the_contract_says_its_state():
    data = cells.data(terms(), Nano(5 * TON), 1_234)
    assert got("get_lane", data) == (5 * TON, 1_234, 77, 20_000_000)


@pytest.mark.parametrize("name", ["seqno", "get_lanes", 1, 2**16])
def test_other_get_methods_are_none(name):
    assert run(name, cells.data(terms())).exit_code == 11


def got(name, data):
    result = run(name, data)
    assert result.exit_code == 0
    return result.values


def run(name, data):
    return engine().get_method(
        code=cells.CODE, data=data, address=STRANGER, now=0, balance=77, name=name
    )


def test_payouts_say_why():
    w = World().open(TON)
    said = [w.claim(TON // 4), w.claim_for(TON // 2), w.start_close(), w.close(TON // 2 + 1)]
    payouts = [read_payout(m.body) for txs in said for m in txs[0].outgoing]
    total = Nano(TON // 2)
    assert payouts == [
        Payout(Paid.CLAIM, Nano(TON // 4)),
        Payout(Paid.CLAIM, total),
        Payout(Paid.EXCESS, total),
        Payout(Paid.CLOSE, total + Nano(1)),
        Payout(Paid.REST, total + Nano(1)),
    ]


@pytest.mark.parametrize(
    "body",
    [
        Builder(),
        Builder().store_uint(0x4C4EFF01, 32),
        Builder().store_uint(0x4C4EFF05, 32).store_coins(1),
        Builder().store_uint(0x4C4EFF01, 32).store_uint(2, 4).store_uint(1, 8),
        Builder().store_uint(0x4C4EFF01, 32).store_coins(1).store_bit_int(0),
        Builder().store_uint(0x4C4EFF01, 32).store_coins(2**63),
        Builder().store_uint(0x4C4EFF01, 32).store_coins(2**119),
    ],
)
def test_other_bodies_are_no_payout(body):
    assert read_payout(body.end_cell()) is None


def test_other_cells_are_no_lane():
    lane = cells.data(terms())
    more = Builder().store_cell(lane).store_bit_int(1).end_cell()
    far = (
        Builder()
        .store_bits(lane.bits)
        .store_ref(
            Builder()
            .store_address(Address((-1, PAYER)))
            .store_bits(lane.refs[0].bits[267:])
            .end_cell()
        )
    )
    huge = Builder().store_bytes(bytes(64)).store_coins(2**63).store_uint(0, 32)
    huge = huge.store_ref(lane.refs[0])
    exotic = Cell(lane.bits, [Cell.empty()], -1)
    for cell in (Cell.empty(), lane.refs[0], more, far.end_cell(), huge.end_cell(), exotic):
        with pytest.raises(CodecError):
            read_data(cell)


def test_cells_of_strangers_are_read_or_refused():
    chance = random.Random(3)
    lane = cells.data(terms(), Nano(TON), 5)
    for _ in range(300):
        bits = lane.bits.copy()
        del bits[chance.randrange(len(bits)) :]
        bits.extend(chance.choices([0, 1], k=chance.randrange(64)))
        refs = chance.choice([[], lane.refs, [Cell.empty()], [lane]])
        try:
            read_data(Cell(bits, refs, -1))
        except CodecError:
            continue
