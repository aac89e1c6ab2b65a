"""A chain in this process: TON's own virtual machine and prices, one shard, no validators.

With a block time it lives by a clock: whatever waits is put into a block at the next boundary, and
blocks with nothing in them are only counted when somebody looks, so an idle chain costs nothing.
Without one, blocks come when `mine` says so, and time stands still between them. Everything runs in
the caller's thread: a block takes milliseconds, and virtual clocks stand still meanwhile.
"""

from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

import structlog
import trio
from pytoniq_core import Cell

from ledger.chain.base import (
    NOT_ACTIVE,
    Contract,
    Fees,
    GetFailed,
    Head,
    NotAccepted,
    StackValue,
    Tx,
)
from ledger.chain.boc import read_cell
from ledger.chain.collator import LT_STEP, Collator, External, Gift, Input
from ledger.chain.config import mainnet_config
from ledger.chain.engine import ABSENT, Engine, Refused
from ledger.chain.records import (
    normalized_hash,
    read_account,
    read_external,
    read_fees,
    read_message,
    read_transaction,
)
from ledger.chain.store import Block, ChainStore, Changes
from ledger.lane import Account
from ledger.money import ZERO, Nano
from p2p.drive import SystemClock
from p2p.entropy import Entropy
from p2p.errors import CodecError, Insufficient, LocalError

if TYPE_CHECKING:  # the stubs that libp2p brings stand before trio's own types
    from trio_typing import TaskStatus

NETWORK: Final = -4242
"""Global id of every embedded chain."""

SUPPLY: Final = Nano(5_000_000_000 * 10**9)
"""All coins, at the giver in the beginning; about as many as TON has."""

BIRTH: Final = 1_700_000_000
"""Unix seconds: when chains without a clock begin."""

STEP: Final = 1_000
"""milliseconds between blocks that are mined by hand"""

MAX_PENDING: Final = 64
"""externals of one account that wait for a block"""

MAX_ALL_PENDING: Final = 4_096

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What a network does to externals; chances in percent, drawn from `entropy`."""

    entropy: Entropy
    drop: int = 0
    """taken, and never seen again"""
    duplicate: int = 0
    """delivered twice"""
    delay_blocks: int = 0
    """delivered 0 to so many blocks later: so that a later one may overtake"""
    reject: int = 0
    """refused, though nothing is wrong"""

    def delays(self) -> list[int]:
        """How many blocks each copy of an external waits. Raises `NotAccepted`."""
        if self._happens(self.reject):
            raise NotAccepted("refused by a planted fault")
        copies = 0 if self._happens(self.drop) else 2 if self._happens(self.duplicate) else 1
        return [self.entropy.below(self.delay_blocks + 1) for _ in range(copies)]

    def _happens(self, chance: int) -> bool:
        return self.entropy.below(100) < chance


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """Where all coins are; transactions move them and make none."""

    genesis: Nano
    """All there ever were."""
    giver: Nano
    """Not given out yet."""
    accounts: Nano
    """Balances, read from the states themselves."""
    queued: Nano
    """In messages on their way, with the forward fees these carry."""
    fees: Nano
    """Paid to validators, of whom there are none."""
    astray: Nano
    """Sent where nobody is: other workchains."""

    @property
    def exact(self) -> bool:
        """Whether not a nano is missing or too many."""
        found = self.giver + self.accounts + self.queued + self.fees + self.astray
        return found == self.genesis


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainStatistics:
    """A snapshot."""

    pending: int
    """inputs that wait for a block"""
    accounts: int
    transactions: int
    blocks: int
    """blocks that are kept: those with something in them"""


@final
class EmbeddedChain:
    """See the module; a `base.Chain`, and a `face.RawChain`."""

    def __init__(
        self,
        store: ChainStore,
        *,
        block_time: float | None,
        now: Callable[[], float] | None,
        faults: Faults | None,
    ) -> None:
        newest, config = store.newest(), store.meta("config")
        assert newest is not None
        assert isinstance(config, bytes)
        self._store = store
        self._newest = newest
        self._period = None if block_time is None else max(1, round(block_time * 1_000))
        self._wall = now
        self._offset = _number(store, "offset")
        self._network = _number(store, "network")
        self._faults = faults
        self._use(config)

        self._pending: list[tuple[int, Input]] = []
        self._backlog = bool(store.queue(1))
        self._mined = trio.Event()
        self._work = trio.Event()

    @classmethod
    def open(
        cls,
        path: Path | None,
        *,
        block_time: float | None = None,
        now: Callable[[], float] | None = None,
        config: bytes | None = None,
        faults: Faults | None = None,
        network: int = NETWORK,
    ) -> "EmbeddedChain":
        """Continue the chain in the file, or begin one; None: in memory.

        `block_time` are seconds; None: `mine` makes blocks. `now` gives Unix seconds, by default
        the system's. `config` is a bag of cells for a chain that begins, by default mainnet's.
        Raises `LocalError` for a file that is none or of another network.
        """
        wall = None if block_time is None else now or SystemClock().now
        with ExitStack() as undone:
            store = ChainStore.open(path)
            undone.callback(store.close)
            if store.newest() is None:
                time = BIRTH * 1_000 if wall is None else _milliseconds(wall())
                store.found(
                    Block(seqno=0, time=time, lt=0),
                    SUPPLY,
                    {"network": network, "offset": 0, "config": config or mainnet_config()},
                )
            if store.meta("network") != network:
                raise LocalError(f"the chain in {path} is of another network than {network}")
            chain = cls(store, block_time=block_time, now=wall, faults=faults)
            undone.pop_all()
            return chain

    def close(self) -> None:
        """Close the file. Externals that no block took are forgotten, as by any node."""
        self._store.close()

    async def run(self, *, task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        """Make blocks until cancelled; for a chain with a block time."""
        if self._period is None:
            raise LocalError("this chain has no block time: mine its blocks")
        task_status.started()
        while True:
            await self._work.wait()
            await trio.sleep(self._until(self._head_seqno() + 1))
            self._mine(self._now())

    # --- as every chain ---

    @property
    def network(self) -> int:
        """Global id."""
        return self._network

    async def head(self) -> Head:
        """The newest block, empty ones counted."""
        await trio.lowlevel.checkpoint()
        return self._head()

    async def account(self, address: Account) -> Contract | None:
        """See `Chain.account`."""
        cell = await self.shard_account(address)
        return None if cell is None else read_account(address, cell)

    async def run_get(
        self, address: Account, method: str | int, *args: StackValue
    ) -> tuple[StackValue, ...]:
        """See `Chain.run_get`; an integer is a method's id."""
        contract = await self.account(address)
        if contract is None or contract.code is None:
            raise GetFailed(NOT_ACTIVE)
        got = self._engine.get_method(
            code=contract.code,
            data=contract.data or Cell.empty(),
            address=address,
            now=self._head().time,
            balance=contract.balance.value,
            name=method,
            arguments=args,
        )
        if got.exit_code not in (0, 1):
            raise GetFailed(got.exit_code)
        return got.values

    async def send(self, boc: bytes) -> bytes:
        """See `Chain.send`. Tried on the newest state first, as lite-servers do."""
        await trio.lowlevel.checkpoint()
        external = _external(boc)
        delays = [0] if self._faults is None else self._faults.delays()
        if external.name in (one.name for one in self._externals()):
            return external.name
        self._check_room(external)
        self._try(external)
        for delay in delays:
            self._add(external, delay)
        return external.name

    async def transactions(self, address: Account, after_lt: int, limit: int = 100) -> list[Tx]:
        """See `Chain.transactions`."""
        await trio.lowlevel.checkpoint()
        found = self._store.after(address, after_lt, max(0, limit))
        return [read_transaction(read_cell(boc)) for boc in found]

    async def wait(self, seqno: int) -> Head:
        """See `Chain.wait`."""
        await trio.lowlevel.checkpoint()
        while self._head_seqno() < seqno:
            with trio.move_on_after(self._until(seqno)):
                await self._mined.wait()
        return self._head()

    async def fees(self) -> Fees:
        """See `Chain.fees`."""
        await trio.lowlevel.checkpoint()
        return self._fees

    # --- for a face ---

    async def shard_account(self, address: Account) -> Cell | None:
        """The account's `ShardAccount`; None if it never had a transaction."""
        await trio.lowlevel.checkpoint()
        boc = self._store.account(address)
        return None if boc is None else read_cell(boc)

    async def raw_transactions(
        self, address: Account, lt: int, limit: int
    ) -> list[tuple[Head, Cell]]:
        """Transactions at `lt` and before, newest first, each with its block."""
        await trio.lowlevel.checkpoint()
        found = self._store.before(address, min(lt, 2**63 - 1), max(0, limit))
        return [(_as_head(block), read_cell(boc)) for block, boc in found]

    async def config(self) -> Cell:
        """The dictionary of the configuration."""
        await trio.lowlevel.checkpoint()
        return self._config

    # --- what no real chain offers ---

    async def fund(self, dest: Account, value: Nano) -> None:
        """Coins from the giver, with the next block. Raises `Insufficient`."""
        await trio.lowlevel.checkpoint()
        promised = sum(one.value.value for _, one in self._pending if isinstance(one, Gift))
        if self._store.total("giver") < promised + value.value:
            raise Insufficient("the giver has not so much")
        self._add(Gift(dest=dest, value=value), 0)

    async def mine(self, blocks: int = 1) -> Head:
        """Make so many blocks now."""
        await trio.lowlevel.checkpoint()
        for _ in range(blocks):
            self._mine(self._now() + (STEP if self._period is None else 0))
        return self._head()

    async def travel(self, seconds: float) -> Head:
        """Move the chain's time ahead, by a block with the new time."""
        await trio.lowlevel.checkpoint()
        ahead = _milliseconds(max(0.0, seconds))
        offset = self._offset + (0 if self._period is None else ahead)
        self._mine(self._now() + ahead, {"offset": offset})
        self._offset = offset
        return self._head()

    async def set_config(self, config: bytes) -> None:
        """Use another configuration from the next block on. Raises `CodecError`."""
        await trio.lowlevel.checkpoint()
        _prices(config)
        self._mine(self._now(), {"config": config})
        self._use(config)

    async def settled(self) -> Head:
        """Return once nothing waits for a block any more; `run` or `mine` must go on."""
        await trio.lowlevel.checkpoint()
        while self._pending or self._backlog:
            await self._mined.wait()
        return self._head()

    async def supply(self) -> Supply:
        """Where all coins are. Reads every account."""
        await trio.lowlevel.checkpoint()
        read = [read_account(at, read_cell(boc)) for at, boc in self._store.accounts()]
        queued = [read_message(read_cell(boc)) for _, boc in self._store.queue()]
        return Supply(
            genesis=Nano(self._store.total("genesis")),
            giver=Nano(self._store.total("giver")),
            accounts=sum((one.balance for one in read if one is not None), ZERO),
            queued=sum((one.value + one.forward_fee for one in queued), ZERO),
            fees=Nano(self._store.total("fees")),
            astray=Nano(self._store.total("astray")),
        )

    def statistics(self) -> ChainStatistics:
        """A snapshot."""
        sizes = self._store.sizes()
        return ChainStatistics(
            pending=len(self._pending),
            accounts=sizes["account"],
            transactions=sizes["tx"],
            blocks=sizes["block"],
        )

    # --- time ---

    def _now(self) -> int:
        """milliseconds of the chain's clock, which never falls"""
        if self._wall is None:
            return self._newest.time
        return max(self._newest.time, _milliseconds(self._wall()) + self._offset)

    def _head_seqno(self) -> int:
        """The newest kept block and the empty ones since."""
        if self._period is None:
            return self._newest.seqno
        return self._newest.seqno + (self._now() - self._newest.time) // self._period

    def _head(self) -> Head:
        seqno = self._head_seqno()
        time = self._newest.time + (seqno - self._newest.seqno) * (self._period or 0)
        return Head(seqno=seqno, time=time // 1_000, lt=self._newest.lt)

    def _until(self, seqno: int) -> float:
        """seconds until empty blocks alone make `seqno` the newest"""
        if self._period is None:
            return float("inf")
        then = self._newest.time + (seqno - self._newest.seqno) * self._period
        return max(0, then - self._now()) * 0.001

    # --- blocks ---

    def _use(self, config: bytes) -> None:
        self._engine = Engine(config)
        self._config = read_cell(config)
        self._fees = _prices(config)

    def _add(self, one: Input, delay: int) -> None:
        self._pending.append((self._head_seqno() + 1 + delay, one))
        self._work.set()

    def _mine(self, time: int, meta: dict[str, int | bytes] | None = None) -> None:
        """One block. If it cannot be committed, nothing has happened, and its inputs wait on."""
        before = Block(seqno=self._head_seqno(), time=self._newest.time, lt=self._newest.lt)
        due = deque(one for seqno, one in self._pending if seqno <= before.seqno + 1)
        later = [(seqno, one) for seqno, one in self._pending if seqno > before.seqno + 1]
        collator = Collator(self._engine, self._store, before, time=time)
        changes = collator.deliver(due)
        changes.meta = meta or {}
        self._store.commit(changes)
        self._pending = [(before.seqno + 2, one) for one in due] + later
        self._mined_block(changes)

    def _mined_block(self, changes: Changes) -> None:
        self._newest = changes.block
        self._backlog = bool(self._store.queue(1))
        if not self._pending and not self._backlog and self._work.is_set():
            self._work = trio.Event()  # one that is not set is what `run` waits for
        self._mined.set()
        self._mined = trio.Event()
        found = len(changes.transactions)
        log.debug("chain.block", seqno=changes.block.seqno, transactions=found)

    # --- externals ---

    def _externals(self) -> list[External]:
        return [one for _, one in self._pending if isinstance(one, External)]

    def _check_room(self, external: External) -> None:
        waiting = self._externals()
        if sum(one.dest == external.dest for one in waiting) >= MAX_PENDING:
            raise NotAccepted("too many externals of this account wait")
        if len(waiting) >= MAX_ALL_PENDING:
            raise NotAccepted("too many externals wait")

    def _try(self, external: External) -> None:
        boc = self._store.account(external.dest)
        head = self._head()
        outcome = self._engine.transact(
            boc or ABSENT,
            external.cell,
            now=head.time,
            lt=head.lt + LT_STEP,
            seed=sha256(head.seqno.to_bytes(4, "big")).digest(),
        )
        if isinstance(outcome, Refused):
            raise NotAccepted("not accepted by its account", outcome.exit_code)


@lru_cache(maxsize=8)
def _prices(config: bytes) -> Fees:
    """A configuration takes a tenth of a second to read. Raises `CodecError`."""
    return read_fees(read_cell(config))


def _external(boc: bytes) -> External:
    try:
        dest, cell = read_external(boc)
        return External(dest=dest, cell=cell, name=normalized_hash(cell))
    except CodecError as error:
        raise NotAccepted(str(error)) from error


def _number(store: ChainStore, key: str) -> int:
    value = store.meta(key)
    assert isinstance(value, int)
    return value


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1_000)


def _as_head(block: Block) -> Head:
    return Head(seqno=block.seqno, time=block.time // 1_000, lt=block.lt)
