"""What a lane costs on TON: opened by one wallet, claimed from and closed by another.

Fees are the `total_fees` of every transaction that a step causes, as explorers show them; two
thirds of each forward fee, 0.00027 TON a message, are not among them.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from ledger import voucher
from ledger.chain import wallet
from ledger.chain.embedded import NETWORK, EmbeddedChain
from ledger.chain.wallet import Transfer
from ledger.contracts import cells
from ledger.lane import Account, LaneConfig
from ledger.money import NANO_PER_TON, ZERO, Nano
from ledger.policy import MAIN
from p2p.identity import Identity
from scripts.bench.report import Result

FUNC_LIFE, FUNC_CLAIM = 0.031, 0.0078
"""TON: the payment channel in FunC of 2022 from opening to close, and its close; it has no claim.
Measured likewise, in TVM 12 with gas at 400 nano, when this contract was designed."""

NOTE: Final = (
    "the channel of 2022 has no claim: a claim is compared with its close, a life with its opening "
    "and close"
)

PAYER, PAYEE = Identity(b"r" * 32), Identity(b"e" * 32)
FUNDS: Final = Nano(NANO_PER_TON)
CLAIMED, AT_END = Nano(100_000_000), Nano(150_000_000)
"""What vouchers promise when they are claimed, and when the lane is closed."""


class LaneFees(NamedTuple):
    """Of each step in the life of a lane."""

    open: Nano
    claim: Nano
    close: Nano

    @property
    def life(self) -> Nano:
        """From the first to the last."""
        return self.open + self.claim + self.close


async def measure() -> list[Result]:
    """The two figures that people pay by."""
    fees = await lane_fees()
    return [
        _result("lane_life_fee_ton", fees.life, FUNC_LIFE, "FunC channel of 2022, open and close"),
        _result("lane_claim_fee_ton", fees.claim, FUNC_CLAIM, "FunC channel of 2022, close"),
    ]


def _result(name: str, fee: Nano, peer: float, against: str) -> Result:
    ton = fee.value / NANO_PER_TON
    return Result(name=name, value=ton, unit="TON", ratio=round(ton / peer, 3), against=against)


async def lane_fees() -> LaneFees:
    """One life on a chain in this process; both wallets are there already."""
    chain = EmbeddedChain.open(None)
    try:
        payer, payee = [await _wallet(chain, key) for key in (PAYER, PAYEE)]
        config = _config(payer, payee)
        parties = payer, payee, cells.lane_address(config)
        until = (await chain.head()).time + 60
        return LaneFees(
            await _fees(chain, parties, _opening(config, until)),
            await _fees(chain, parties, _claim(parties[-1], until)),
            await _fees(chain, parties, _close(parties[-1], until)),
        )
    finally:
        chain.close()


async def _wallet(chain: EmbeddedChain, key: Identity) -> Account:
    """An account with a wallet's code, which it gets with its first transfer."""
    account = wallet.address(key.public, NETWORK)
    await chain.fund(account, FUNDS)
    await chain.mine()
    await chain.send(_transfer(key, Transfer(dest=account, value=ZERO), 0, 2**32 - 1))
    await chain.mine(3)
    return account


def _opening(config: LaneConfig, until: int) -> bytes:
    deposit = Transfer(
        dest=cells.lane_address(config),
        value=MAIN.lane_deposit,
        state_init=cells.state_init(config),
        bounce=False,
    )
    return _transfer(PAYER, deposit, 1, until)


def _claim(lane: Account, until: int) -> bytes:
    return cells.claim_order(lane, voucher.sign(PAYER, lane, CLAIMED), until, PAYEE)


def _close(lane: Account, until: int) -> bytes:
    return cells.close_order(lane, voucher.sign(PAYER, lane, AT_END), until, PAYEE)


def _transfer(key: Identity, message: Transfer, seqno: int, until: int) -> bytes:
    return wallet.transfer(key, [message], network=NETWORK, seqno=seqno, valid_until=until)


async def _fees(chain: EmbeddedChain, parties: Iterable[Account], boc: bytes) -> Nano:
    """What an external and all that follows from it cost its accounts."""
    before = (await chain.head()).lt
    await chain.send(boc)
    await chain.mine(4)
    caused = [tx for account in parties for tx in await chain.transactions(account, before)]
    assert all(tx.success for tx in caused)
    return sum((tx.fees for tx in caused), ZERO)


def _config(payer: Account, payee: Account) -> LaneConfig:
    return LaneConfig(
        payer_key=PAYER.public,
        payee_key=PAYEE.public,
        payer=payer,
        payee=payee,
        network=NETWORK,
        lane_id=1,
        close_delay=MAIN.close_delay,
        min_claim=ZERO,
    )
