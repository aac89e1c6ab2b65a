"""What a lane costs, wallets included, at mainnet's prices: pinned to the unit of gas.

`PEER` is a public two-way channel in FunC (ton-blockchain/payment-channels), measured alike: the
fees of all transactions that a step causes.
"""

import re

import pytest
from pytoniq_core import Cell

from ledger import settle
from ledger.chain import wallet
from ledger.chain.config import mainnet_config
from ledger.chain.records import read_fees
from ledger.chain.wallet import Transfer
from ledger.contracts import build, cells
from ledger.money import Nano
from p2p.identity import Identity
from tests.ledger.contracts.cases import CLAIM_COST, CLOSE_COST
from tests.ledger.contracts.world import DAY, NETWORK, STRANGER, TON, World, terms

PAYER, PAYEE = Identity(b"\x05" * 32), Identity(b"\x06" * 32)
PEER_OPEN, PEER_CLOSE = 22_900_000, 7_800_000

GAS = {
    "open": 456,
    "top_up": 739,
    "claim": 6_221,
    "claim_for": 5_431,
    "start_close": 4_434,
    "finish": 3_039,
    "close": 7_929,
    "close_nothing_due": 6_404,
}


def account(key):
    return wallet.address(key.public, NETWORK)


class Street:
    """A world in which payer and payee have wallets that were used before."""

    def __init__(self):
        self.world = World(config=terms(payer=account(PAYER), payee=account(PAYEE)))
        for key in (PAYER, PAYEE):
            init = wallet.state_init(key.public, NETWORK)
            self.world.send(STRANGER, 10 * TON, dest=account(key), init=init, bounce=False)
            self.transfer(Transfer(dest=STRANGER, value=Nano(1)), key)

    def transfer(self, transfer, key=PAYER):
        seqno = wallet.seqno(self.world.account(account(key)).data)
        until = self.world.now + 60
        boc = wallet.transfer(key, [transfer], network=NETWORK, seqno=seqno, valid_until=until)
        return self.world.deliver(Cell.one_from_boc(boc), account(key))

    def to_lane(self, value, body=None, init=None):
        dest = self.world.lane
        return self.transfer(
            Transfer(dest=dest, value=Nano(value), body=body, state_init=init, bounce=not init)
        )

    def open(self):
        return self.to_lane(TON, init=self.world.init)


@pytest.fixture(scope="module")
def life():
    """The transactions of every step."""
    street = Street()
    w = street.world
    steps = {
        "open": street.open(),
        "top_up": street.to_lane(TON, cells.top_up_body()),
        "claim": w.claim(TON // 3),
        "claim_for": street.to_lane(TON // 50, cells.claim_body(w.voucher(TON // 2))),
        "start_close": street.to_lane(TON // 50, cells.start_close_body()),
    }
    w.now += DAY
    steps["finish"] = street.to_lane(TON // 50, cells.finish_body())
    street = Street()
    street.open()
    steps["close"] = street.world.close(TON // 3)
    street = Street()
    street.open()
    steps["close_nothing_due"] = street.world.close(0)
    steps["lane"] = w.lane
    return steps


def fees(txs):
    return sum(tx.fees.value for tx in txs)


@pytest.mark.parametrize("step", GAS)
def test_gas(life, step):
    used = [tx.gas for tx in life[step] if tx.account == life["lane"]]
    assert used == [GAS[step]]


def test_a_life_costs_little(life):
    """Open, one claim, close; the bench's `lane_life_fee_ton`."""
    assert fees(life["open"]) <= 7_100_000
    assert fees(life["claim"]) <= 4_200_000
    assert fees(life["close"]) <= 5_400_000
    assert fees(life["open"]) + fees(life["claim"]) + fees(life["close"]) <= 16_500_000


def test_dearer_than_half_a_peer_is_no_step(life):
    assert fees(life["open"]) + fees(life["close"]) < (PEER_OPEN + PEER_CLOSE) // 2


def test_other_steps_cost_little(life):
    for step, most in (("top_up", 3_300), ("claim_for", 6_000), ("start_close", 5_100)):
        assert fees(life[step]) <= most * 1_000
    assert fees(life["finish"]) <= 4_600_000


def test_what_is_charged_is_more_than_is_burnt_but_not_much():
    """The difference stays on the lane, which is the payer's: no claim may cost it anything."""
    assert constant("GAS_CLAIM") * 100 in range(GAS["claim"] * 105, GAS["claim"] * 110)
    assert constant("GAS_CLOSE") * 100 in range(GAS["close"] * 105, GAS["close"] * 110)


def test_settling_knows_what_is_charged():
    for name in ("GAS_CLAIM", "GAS_CLOSE", "IMPORT_BITS", "IMPORT_CELLS"):
        assert getattr(settle, name) == constant(name)
    costs = settle.Months().costs(read_fees(Cell.one_from_boc(mainnet_config())), 0.0)
    assert (costs.claim.value, costs.close.value) == (CLAIM_COST, CLOSE_COST)


def test_the_largest_external_is_paid_for():
    """An order beside a voucher whose total takes all 15 bytes that `Coins` may have."""
    prices = read_fees(Cell.one_from_boc(mainnet_config()))
    bits = (32 + 512 + 267 + 32 + 32) + (512 + 32 + 267 + 4 + 8 * 15)
    assert prices.forward(bits, 2) <= prices.forward(constant("IMPORT_BITS"), 3)


def test_checks_fit_the_gas_credit(life):
    """An external has 10,000 units before it is accepted; a claim needs less in all."""
    assert max(GAS.values()) < 9_000


def constant(name):
    return int(re.search(rf"const int {name} = (\d+);", build.SOURCES[1].read_text())[1])
