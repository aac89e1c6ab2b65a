"""How a lane ended that we pay on, told by what it sent back.

A lane that closes deletes its account, and a lite-server may forget its history with it. Its last
message brought its payer the rest, and says how much was claimed in all: that is in the wallet's
history, whoever closed the lane and whether we were up or not.
"""

from dataclasses import dataclass

from ledger.caused import Caused, find, told
from ledger.chain.base import Chain, Message, Tx
from ledger.contracts.cells import Paid, read_payout
from ledger.lane import Account, LaneRow, Op
from ledger.money import ZERO, Nano


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """What became of a lane's coins."""

    claimed: Nano
    """All that its payee took."""
    returned: Nano
    """What came back to us at last."""
    message: bytes
    """32 bytes: hash of the message that brought it."""
    caused: tuple[Caused, ...]
    """The lane's last transaction, and that of our wallet."""


async def read_end(chain: Chain, row: LaneRow) -> End | None:
    """None as long as nothing has come back. Raises what `Chain.transactions` does."""
    lane = Account(row.lane)
    tx = await find(chain, row.config.payer, row.lt, lambda tx: _rest(tx, lane) is not None)
    rest = None if tx is None else _rest(tx, lane)
    if tx is None or rest is None:
        return None
    message, claimed = rest
    last = await find(chain, lane, row.lt, lambda tx: _sent(tx, message))
    taken = claimed - min(row.claimed, claimed)
    own = _unread(row, message, taken, tx) if last is None else told(last)
    return End(
        claimed=claimed, returned=message.value, message=message.hash, caused=(own, told(tx))
    )


def _rest(tx: Tx, lane: Account) -> tuple[Message, Nano] | None:
    """The message with which a lane ended, and what it says of all claims."""
    message = tx.incoming
    if message is None or message.source != lane:
        return None
    payout = read_payout(message.body)
    if payout is None or payout.kind is not Paid.REST:
        return None
    return message, payout.claimed


def _sent(tx: Tx, message: Message) -> bool:
    return any(sent.hash == message.hash for sent in tx.outgoing)


def _unread(row: LaneRow, rest: Message, taken: Nano, tx: Tx) -> Caused:
    """A lane's last transaction, which cannot be read: what nobody got of it was fees."""
    got = taken + rest.value
    return Caused(
        hash=b"",
        account=Account(row.lane),
        source=None,
        op=Op.CLOSE,
        value=ZERO,
        fees=row.balance - min(got, row.balance),
        gas=0,
        lt=tx.lt - 1,
        at=tx.time,
    )
