"""The chain as the ledger sees it: accounts, externals, transactions with their fees.

`Chain` is the seam: `lite.LiteChain` speaks to lite-servers of TON, `embedded.EmbeddedChain` is a
chain in this process. Times are Unix seconds of the chain's own clock, which is not ours.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol, TypeAlias

from pytoniq_core import Cell, Slice

from ledger.lane import Account
from ledger.money import Nano
from p2p.errors import Rejected

StackValue: TypeAlias = "int | Cell | Slice | tuple[StackValue, ...] | None"
"""What a get-method takes and gives. An address is a slice, which as an argument is its cell."""

MAX_EXTERNAL: Final = 65_535
"""bytes of an external's bag of cells; TON's own limit (config 43)."""

NOT_ACTIVE: Final = -256
"""The exit code that lite-servers give for a get-method of an account without code."""


class NotAccepted(Rejected):
    """The chain refuses an external: malformed, not accepted by its account, or one too many."""

    def __init__(self, why: str, exit_code: int | None = None) -> None:
        super().__init__(why)
        self.exit_code = exit_code
        """The contract's own code; None if it never ran."""


class GetFailed(Rejected):
    """A get-method ended with another exit code than 0 or 1."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"exit code {exit_code}")
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The newest block."""

    seqno: int
    time: int
    lt: int


class Status(Enum):
    """What an account that exists can be."""

    UNINIT = "uninit"
    """coins, no code"""
    ACTIVE = "active"
    FROZEN = "frozen"
    """could not pay for its storage: only a hash of the state is kept"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """The state of an account."""

    address: Account
    status: Status
    balance: Nano
    code: Cell | None
    data: Cell | None
    last_lt: int
    last_hash: bytes
    """The newest transaction: where a reader of transactions begins."""

    @property
    def code_hash(self) -> bytes | None:
        """32 bytes; None unless active."""
        return None if self.code is None else bytes(self.code.hash)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message that a transaction took in or gave out."""

    source: Account | None
    """None: from outside, or of another workchain."""
    dest: Account | None
    """None: to outside, or of another workchain."""
    value: Nano
    """0 for externals."""
    forward_fee: Nano
    """The part of the forward fee that travels along; the sender's `Tx.fees` hold the rest."""
    bounce: bool
    bounced: bool
    body: Cell
    init: Cell | None
    """The StateInit that came with it."""
    hash: bytes
    """32 bytes; of an external the normalized hash, which `Chain.send` returned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tx:
    """One transaction of one account."""

    account: Account
    lt: int
    hash: bytes
    time: int
    fees: Nano
    """All that this transaction paid: gas, storage, import, and a third of each forward fee."""
    incoming: Message | None
    outgoing: tuple[Message, ...]
    exit_code: int | None
    """Of the compute phase; None if there was nothing to run."""
    success: bool
    """Neither phase failed. Coins sent to an account without code fail to compute, and arrive."""
    gas: int
    """units used"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fees:
    """Prices of the basechain, from config 18, 21 and 25; fractions are of 2^16, as there."""

    gas_price: int
    """nano per 2^16 units of gas"""
    flat_gas: int
    """units that cost `flat_price` together"""
    flat_price: Nano
    forward_lump: Nano
    forward_bit: int
    """nano per 2^16 bits"""
    forward_cell: int
    """nano per 2^16 cells"""
    storage_bit: int
    """nano per 2^16 bit-seconds"""
    storage_cell: int
    """nano per 2^16 cell-seconds"""

    def gas(self, units: int) -> Nano:
        """What `units` of gas cost, as GETGASFEE says."""
        beyond = max(0, units - self.flat_gas) * self.gas_price
        return self.flat_price + Nano(_whole(beyond))

    def forward(self, bits: int, cells: int) -> Nano:
        """The forward fee of a message, its root cell not counted; also an external's import."""
        return self.forward_lump + Nano(_whole(self.forward_bit * bits + self.forward_cell * cells))

    def storage(self, bits: int, cells: int, seconds: int) -> Nano:
        """What it costs to be stored."""
        return Nano(_whole((self.storage_bit * bits + self.storage_cell * cells) * seconds))


def _whole(fractions: int) -> int:
    """Fractions of 2^16, rounded up."""
    return -(-fractions >> 16)


class Chain(Protocol):
    """A TON chain.

    Every call may raise `Unreachable`, and `RemoteError` for an answer that is no answer; none
    sets a time limit of its own beyond what one exchange may take. Cancelling is harmless: an
    external that `send` was cancelled at may or may not be on its way.
    """

    @property
    def network(self) -> int:
        """Global id: mainnet -239, testnet -3, embedded -4242."""

    async def head(self) -> Head:
        """The newest block."""

    async def account(self, address: Account) -> Contract | None:
        """The state of an account; None if there is none."""

    async def run_get(
        self, address: Account, method: str, *args: StackValue
    ) -> tuple[StackValue, ...]:
        """What a get-method leaves on the stack, first result first. Raises `GetFailed`."""

    async def send(self, boc: bytes) -> bytes:
        """Hand in an external; returns its normalized hash, by which its transaction is known.

        That it was taken promises nothing: look for the transaction, and send again until it has
        expired. Raises `NotAccepted`.
        """

    async def transactions(self, address: Account, after_lt: int, limit: int = 100) -> list[Tx]:
        """The first `limit` transactions later than `after_lt`, oldest first."""

    async def wait(self, seqno: int) -> Head:
        """Return the newest block once it is `seqno` or later. The caller sets the time limit."""

    async def fees(self) -> Fees:
        """Prices as the config says now."""
