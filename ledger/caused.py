"""What the messages of this node caused on the chain, transaction by transaction, with fees."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ledger.chain.base import Chain, Message, Tx
from ledger.lane import Account
from ledger.money import ZERO, Nano

_PAGES: Final = 10
"""of transactions of one account searched for one"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caused:
    """A transaction that an external caused; the first is its own."""

    hash: bytes
    """Empty if the account is gone, and cannot tell."""
    account: Account
    source: Account | None
    """Who sent what it took in; none: we, from outside."""
    op: int
    """First 32 bits of that message; 0 if it had fewer."""
    value: Nano
    """Coins that came with it."""
    fees: Nano
    """Paid by the account, and for forwarding what it sent."""
    gas: int
    lt: int
    at: int
    """Unix time"""


async def find(
    chain: Chain, account: Account, after_lt: int, is_it: Callable[[Tx], bool]
) -> Tx | None:
    """The first transaction of an account, after a time, that is the one.

    Raises what `Chain.transactions` does.
    """
    for _ in range(_PAGES):
        page = await chain.transactions(account, after_lt)
        for tx in page:
            if is_it(tx):
                return tx
        if not page:
            return None
        after_lt = page[-1].lt
    return None


def told(tx: Tx) -> Caused:
    """A transaction as it is kept."""
    message = tx.incoming
    forwarded = sum((out.forward_fee for out in tx.outgoing if out.dest is not None), ZERO)
    return Caused(
        hash=tx.hash,
        account=tx.account,
        source=None if message is None else message.source,
        op=0 if message is None else _op(message),
        value=ZERO if message is None else message.value,
        fees=tx.fees + forwarded,
        gas=tx.gas,
        lt=tx.lt,
        at=tx.time,
    )


def _op(message: Message) -> int:
    body = message.body.begin_parse()
    return int(body.load_uint(32)) if body.remaining_bits >= 32 else 0
