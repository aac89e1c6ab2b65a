"""What people put into a node's wallet and take out of it, and what the node has earned."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import trio
from pytoniq_core import Address
from pytoniq_core.boc.address import AddressError

from inference.market import Known
from ledger import earnings as accounts
from ledger import externals
from ledger.earnings import By
from ledger.externals import Fate
from ledger.lane import Account, Role
from ledger.money import Nano
from ledger.orders import WALLET_FEES
from p2p.errors import Insufficient, RemoteError, Unreachable
from scripts import receipts
from scripts.api import earnings
from scripts.failure import Document, Failed
from scripts.funds import Treasury, address

PATIENCE: Final = 20.0
"""seconds that a withdrawal is waited for; it goes on by itself"""

MOST_RECEIPTS: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """What somebody wants taken out."""

    to: str
    """As it was typed."""
    dest: Account
    bounce: bool
    """Whether an account that takes no coins sends them back."""
    amount: Nano | None
    """None: all but what a wallet needs for fees."""
    key: bytes
    """The same again for the same wish, however often it is sent."""


def wish(to: str, amount: str, key: str, *, mainnet: bool) -> Withdrawal:
    """A withdrawal as a person typed it. Raises `Failed`."""
    try:
        found = Address(to)
    except (ValueError, LookupError, AddressError) as error:
        message = f"{to} is no address of TON."
        advice = "Copy it whole from the wallet that is to get the coins; nothing was sent."
        raise Failed("invalid_request", message, advice, param="to") from error
    if found.wc != 0:
        message = "Coins can only be sent to accounts of workchain 0."
        raise Failed("invalid_request", message, "Nothing was sent.", param="to")
    if found.is_test_only and mainnet:
        message = f"{to} is an address of test networks, and this network's coins are real."
        raise Failed("invalid_request", message, "Nothing was sent.", param="to")
    return Withdrawal(
        to=to,
        dest=Account(bytes(found.hash_part)),
        bounce=bool(found.is_bounceable),
        amount=None if amount == "all" else _amount(amount),
        key=key.encode(),
    )


def _amount(text: str) -> Nano:
    try:
        amount = Nano.parse(text)
    except ValueError as error:
        message = f"{text} is no amount: {error}."
        advice = "Write 0.5 for TON, 20n for nano, or all."
        raise Failed("invalid_request", message, advice, param="amount") from error
    if not amount:
        raise Failed("invalid_request", "Nothing is no amount to send.", param="amount")
    return amount


async def withdraw(treasury: Treasury, wanted: Withdrawal) -> Document:
    """Send coins away, and wait a while until the chain has them. Raises `Failed`."""
    lanes = treasury.lanes
    try:
        with trio.fail_after(PATIENCE):
            amount = wanted.amount or await _all(treasury)
            message = await lanes.withdraw(
                wanted.dest, amount, bounce=wanted.bounce, key=wanted.key
            )
    except Insufficient as error:
        raise Failed("insufficient_funds", f"Nothing was sent: {error}.") from error
    except (Unreachable, RemoteError, trio.TooSlowError) as error:
        why = str(error) or f"it has said nothing for {PATIENCE:.0f} s"
        advice = "Try again once `tussah status` says that it is there."
        raise Failed("chain_unreachable", f"Nothing was sent: {why}.", advice) from error
    with trio.move_on_after(PATIENCE):
        await lanes.outcome(message, whole=True)
    return await _outcome(treasury, wanted, amount, message)


async def _all(treasury: Treasury) -> Nano:
    balance, _ = await treasury.sight.look()
    if balance is None:
        raise Unreachable("the chain does not say what is in the wallet")
    if balance <= WALLET_FEES:
        raise Insufficient(f"the wallet holds {balance}, and keeps {WALLET_FEES} for fees")
    return balance - WALLET_FEES


async def _outcome(
    treasury: Treasury, wanted: Withdrawal, amount: Nano, message: bytes
) -> Document:
    external, told = await treasury.store.read(
        lambda c: (externals.load(c, message), externals.caused(c, message))
    )
    if external.fate is Fate.DEAD:
        late = "The chain did not take the withdrawal in time: nothing was sent."
        raise Failed("chain_unreachable", late, "Try again.")
    done = external.fate is Fate.DONE
    return earnings.withdrawal(
        wanted.to,
        amount,
        state="done" if done else "sent",
        fees=external.fees if done else None,
        transaction=told[0].hash if told else None,
    )


def deposit(treasury: Treasury, amount: str | None) -> Document:
    """Where coins for this node go. Raises `Failed`."""
    return earnings.deposit(
        address(treasury.lanes.account),
        treasury.chain.name,
        None if amount is None else _amount(amount),
        worthless=treasury.chain.worthless,
    )


async def earned(treasury: Treasury, by: By, models: Sequence[Known]) -> Document:
    """What this node's worker has earned."""
    groups = await treasury.store.read(lambda c: accounts.earnings(c, by))
    lanes = [
        story.row
        for story in await treasury.lanes.snapshot()
        if story.row.role is Role.PAYEE and story.row.live
    ]
    totals = await treasury.totals()
    known = {model.identity: model for model in models}

    def name(identity: bytes) -> str | None:
        model = known.get(identity)
        return None if model is None else f"{model.base}@{model.quant}"

    return earnings.earnings(by, groups, due=totals.due, lanes=len(lanes), name=name)


async def signed(treasury: Treasury, public: bytes) -> Document:
    """The receipts that this node has signed as a worker, whose key is `public`."""
    bills = await treasury.store.read(lambda c: accounts.bills(c, MOST_RECEIPTS))
    return receipts.document([(bill, public) for bill in bills])
