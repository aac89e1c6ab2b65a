"""What `status` says of a chain that is away and of a mint that lacks coins, and when it stops."""

from types import SimpleNamespace

import pytest
import trio

from ledger.chain.base import Contract, Status
from ledger.money import ZERO, Nano
from ledger.orders import WALLET_FEES
from ledger.policy import DEV
from p2p.errors import Timeout
from scripts.sight import FEW, LOOK_EVERY, SILENT, Sight

ADDRESS = "UQDNzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3NzW9D"
ENOUGH = DEV.payout_deposit + WALLET_FEES


class Chain:
    """One account on a chain that may be away, or stuck."""

    def __init__(self):
        self.balance = Nano(10**9)
        self.is_up, self.hangs = True, False

    async def account(self, account):
        if self.hangs:
            await trio.sleep_forever()
        if not self.is_up:
            raise Timeout("away")
        if self.balance == ZERO:
            return None
        return Contract(
            address=account,
            status=Status.ACTIVE,
            balance=self.balance,
            code=None,
            data=None,
            last_lt=1,
            last_hash=bytes(32),
        )


@pytest.fixture
def chain():
    return Chain()


@pytest.fixture
async def sight(chain, nursery):
    sight = Sight(chain, SimpleNamespace(account=bytes(32)))
    nursery.start_soon(sight.keep, LOOK_EVERY)
    return sight


def codes(sight):
    alerts = [*sight.alerts("local"), *sight.mint_alerts(DEV, ADDRESS)]
    return [alert.code for alert in alerts]


@pytest.mark.parametrize("hangs", [False, True], ids=["away", "stuck"])
async def test_chain_that_is_away_is_an_alert_until_it_is_back(chain, sight, autojump_clock, hangs):
    await trio.sleep(3 * LOOK_EVERY)
    assert codes(sight) == []
    chain.is_up, chain.hangs = False, hangs
    await trio.sleep(LOOK_EVERY + SILENT + FEW)
    (alert,) = sight.alerts("local")
    assert alert.code == "chain_unreachable"
    assert alert.message.startswith("The local chain has not answered for ")
    assert "tussah network show" in alert.advice
    chain.is_up, chain.hangs = True, False
    await trio.sleep(SILENT + FEW)
    assert codes(sight) == []


async def test_chain_that_was_never_there_is_an_alert(chain, autojump_clock):
    chain.is_up = False
    sight = Sight(chain, SimpleNamespace(account=bytes(32)))
    await sight.look()
    await trio.sleep(SILENT)
    assert codes(sight) == ["chain_unreachable"]


@pytest.mark.parametrize(
    ("balance", "expected"),
    [(ZERO, ["mint_empty"]), (ENOUGH - Nano(1), ["mint_empty"]), (ENOUGH, [])],
)
async def test_mint_that_can_pay_no_further_worker_is_an_alert(
    chain, sight, autojump_clock, balance, expected
):
    chain.balance = balance
    assert codes(sight) == []  # nobody has looked
    await trio.sleep(1.5 * LOOK_EVERY)
    assert codes(sight) == expected
    for alert in sight.mint_alerts(DEV, ADDRESS):
        assert str(balance) in alert.message
        assert f"--give-to {ADDRESS}" in alert.advice
