"""Puts messages into a block, as TON's collator does, for a shard that is the whole workchain.

Messages are delivered in the order they came; what a transaction sends is delivered in the same
block, up to `MAX_TRANSACTIONS`. Equal inputs give equal hashes: the random seed of a block is a
hash of its number, and logical time rises by a fixed step.
"""

from collections import deque
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final, TypeAlias, final

import structlog
from pytoniq_core import Address, Builder, Cell

from ledger.chain.base import Message
from ledger.chain.boc import read_cell, write_boc
from ledger.chain.engine import ABSENT, Done, Engine, Outcome
from ledger.chain.records import read_effects, read_message
from ledger.chain.store import Block, ChainStore, Changes
from ledger.lane import Account
from ledger.money import Nano

LT_STEP: Final = 1_000_000
"""Logical time between transactions: more than the messages that one can send."""

MAX_TRANSACTIONS: Final = 256
"""Of one block: about a second of work. The rest waits for the next one."""

GIVER: Final = Account(sha256(b"tussah/giver").digest())
"""Whom the faucet's coins come from. It has no contract and no key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class External:
    """A message from outside; dropped if its account does not accept it."""

    dest: Account
    cell: Cell
    name: bytes
    """The normalized hash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gift:
    """Coins from the giver; they do not come back."""

    dest: Account
    value: Nano


_SUMMED: Final = 0x40
"""flag in byte 4 of a bag of cells: the last 4 bytes are a checksum"""

Input: TypeAlias = External | Gift

log = structlog.get_logger()


@final
class Collator:
    """Makes one block: `deliver` returns what to commit."""

    def __init__(self, engine: Engine, store: ChainStore, before: Block, *, time: int) -> None:
        self._engine = engine
        self._store = store
        self._block = Block(seqno=before.seqno + 1, time=time, lt=before.lt)
        self._seed = sha256(self._block.seqno.to_bytes(4, "big")).digest()
        self._waiting: deque[tuple[Message, Cell]] = deque()
        self._changes = Changes(block=self._block)

    def deliver(self, inputs: deque[Input]) -> Changes:
        """Deliver what earlier blocks left, then `inputs`, taking from the left those that fit.

        Nothing is changed until the result is committed.
        """
        for number, boc in self._store.queue(MAX_TRANSACTIONS):
            self._changes.taken.append(number)
            self._wait(read_cell(boc))
        self._drain()
        while inputs and self._room:
            self._take(inputs.popleft())
            self._drain()
        return self._finish()

    @property
    def _room(self) -> bool:
        return len(self._changes.transactions) < MAX_TRANSACTIONS

    def _drain(self) -> None:
        while self._waiting and self._room:
            self._deliver(*self._waiting.popleft())

    def _take(self, one: Input) -> None:
        match one:
            case Gift():
                self._changes.totals["giver"] -= one.value.value
                self._wait(self._message(one))
            case External():
                outcome = self._transact(one.dest, one.cell)
                if isinstance(outcome, Done):
                    self._record(one.dest, outcome)

    def _wait(self, cell: Cell) -> None:
        """Queue a message of a contract. One for no account of ours is lost, and counted."""
        message = read_message(cell)
        if message.dest is None:
            self._lose(message)
        else:
            self._waiting.append((message, cell))

    def _lose(self, message: Message) -> None:
        self._changes.totals["astray"] += message.value.value + message.forward_fee.value

    def _deliver(self, message: Message, cell: Cell) -> None:
        assert message.dest is not None
        try:
            outcome = self._transact(message.dest, cell)
        except RuntimeError as error:  # the machine's only word for a message it cannot take
            log.warning("chain.undeliverable", reason=str(error))
            return self._lose(message)
        assert isinstance(outcome, Done)
        self._changes.totals["fees"] += message.forward_fee.value
        self._record(message.dest, outcome)

    def _transact(self, account: Account, message: Cell) -> Outcome:
        return self._engine.transact(
            self._state(account),
            message,
            now=self._block.time // 1000,
            lt=self._lt(),
            seed=self._seed,
        )

    def _lt(self) -> int:
        return self._block.lt + LT_STEP * (1 + len(self._changes.transactions))

    def _state(self, account: Account) -> Cell | bytes:
        """As this block has left it so far."""
        return self._changes.accounts.get(account) or self._store.account(account) or ABSENT

    def _record(self, account: Account, done: Done) -> None:
        boc = _unsummed(done.transaction_boc)
        self._changes.transactions.append((account, self._lt(), boc))
        self._changes.accounts[account] = _unsummed(done.account_boc)
        fees, sent = read_effects(read_cell(boc))
        self._changes.totals["fees"] += fees.value
        for cell in sent:
            self._wait(cell)

    def _finish(self) -> Changes:
        self._changes.block = replace(self._block, lt=self._lt() - LT_STEP)
        self._changes.queued = [write_boc([cell]) for _, cell in self._waiting]
        return self._changes

    def _message(self, gift: Gift) -> Cell:
        """An internal message without bounce."""
        message = Builder().store_uint(0b0100, 4).store_address(Address((0, GIVER)))
        message.store_address(Address((0, gift.dest))).store_coins(gift.value.value)
        message.store_bit_int(0).store_coins(0).store_coins(0)
        message.store_uint(self._lt(), 64).store_uint(self._block.time // 1000, 32)
        cell: Cell = message.store_bit_int(0).store_bit_int(0).end_cell()
        return cell


def _unsummed(boc: bytes) -> bytes:
    """A bag without its CRC-32C: in Python that takes as long as all else in reading one."""
    if not boc[4] & _SUMMED:
        return boc
    return boc[:4] + bytes([boc[4] & ~_SUMMED]) + boc[5:-4]
