"""TON's own virtual machine and transaction rules, in this process, through tonpy.

Kept as narrow as it is because tonpy is a release candidate of one vendor: another emulator must
be able to take its place. No account is kept here; a state goes in and the next one comes out.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, final

from pytoniq_core import Address, Builder, Cell
from tonpy.libs.python_ton import PyEmulator, method_name_to_id
from tonpy.tvm.c7 import C7
from tonpy.tvm.tvm import TVM
from tonpy.types import Cell as TonCell
from tonpy.types import CellSlice, Stack

from ledger.chain.base import StackValue
from ledger.chain.boc import write_boc
from ledger.chain.stack import read_stack, write_stack
from ledger.lane import Account

ABSENT: Final[Cell] = (
    Builder().store_ref(Builder().store_bit_int(0).end_cell()).store_uint(0, 256 + 64).end_cell()
)
"""The `ShardAccount` of an account that does not exist."""

GET_GAS: Final = 1_000_000
"""units a get-method may use, as at lite-servers"""

_OUT_OF_GAS: Final = -14
_EXIT: Final = re.compile(r"terminating vm with exit code (-?\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A transaction took place, which need not mean that the contract succeeded.

    Bags of cells, for reading one takes longer than making it: a history that only passes the
    account on need not.
    """

    account_boc: bytes
    """The `ShardAccount` afterwards."""
    transaction_boc: bytes

    @property
    def shard_account(self) -> Cell:
        """`account_boc`, read."""
        return _cell(self.account_boc)

    @property
    def transaction(self) -> Cell:
        """`transaction_boc`, read."""
        return _cell(self.transaction_boc)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """An external that was not accepted, so that nothing happened."""

    exit_code: int | None
    """The contract's; 0 if it ended without accepting; None if it never ran."""
    log: str


Outcome: TypeAlias = Done | Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Got:
    """What a get-method left behind; its values only count if the exit code is 0 or 1."""

    exit_code: int
    values: tuple[StackValue, ...]
    """The first result first."""


@final
class Engine:
    """Runs transactions under the rules and prices of one config. For one thread."""

    def __init__(self, config: bytes) -> None:
        self._config = TonCell(_text(config))
        self._emulator = PyEmulator(self._config.cell)

    def transact(
        self, shard_account: Cell | bytes, message: Cell | bytes, *, now: int, lt: int, seed: bytes
    ) -> Outcome:
        """Deliver `message` at `now`; equal arguments give equal results, to the bit.

        A `ShardAccount` and a message, as cells or as bags.

        `lt` is the transaction's logical time, `seed` the block's 32 bytes of randomness. Raises
        `RuntimeError` if an internal message cannot be delivered, which is the caller's mistake.
        """
        emulator = self._emulator
        emulator.set_rand_seed(seed.hex().upper())
        account, incoming = _ton(shard_account).cell, _ton(message).cell
        try:
            taken = emulator.emulate_transaction(account, incoming, str(now), str(lt), 1, False)
        except RuntimeError as error:
            if not _is_external(message):
                raise
            return Refused(exit_code=None, log=str(error))
        if not taken:
            return Refused(exit_code=_exit_code(emulator.vm_log), log=emulator.vm_log)
        return Done(
            account_boc=b64decode(emulator.account_cell.to_boc()),
            transaction_boc=b64decode(emulator.transaction_cell.to_boc()),
        )

    def get_method(
        self,
        *,
        code: Cell,
        data: Cell,
        address: Account,
        now: int,
        balance: int,
        name: str | int,
        arguments: Sequence[StackValue] = (),
    ) -> Got:
        """Run a get-method on a state; an integer is a method's id."""
        method = method_name_to_id(name) if isinstance(name, str) else name
        tvm = TVM(code=_ton(code), data=_ton(data))
        tvm.set_c7(self._context(code, address, now, balance))
        tvm.set_gas_limit(GET_GAS, GET_GAS)
        tvm.set_stack(_stack((*arguments, method)))
        stack = tvm.run(unpack_stack=False, allow_non_success=True)
        exit_code = int(tvm.exit_code)
        if exit_code not in (0, 1):
            return Got(exit_code=exit_code, values=())
        left = b64decode(stack.serialize().to_boc())
        return Got(exit_code=exit_code, values=read_stack(left))

    def _context(self, code: Cell, address: Account, now: int, balance: int) -> C7:
        myself = Builder().store_address(Address((0, address))).end_cell()
        return C7(
            time=now,
            balance_grams=balance,
            address=CellSlice(_text(myself.to_boc())),
            global_config=self._config,
            my_code=_ton(code),
            rand_seed=0,
        )


def _exit_code(log: str) -> int:
    """A contract that did not accept: what it ended with. Only the log says it."""
    if "out-of-gas" in log:
        return _OUT_OF_GAS
    found = _EXIT.findall(log)
    return int(found[-1]) if found else 0


def _stack(values: Sequence[StackValue]) -> Stack:
    return Stack.deserialize(CellSlice(_text(write_stack(values))))


def _is_external(message: Cell | bytes) -> bool:
    cell = message if isinstance(message, Cell) else _cell(message)
    return bool(cell.bits[:2].to01() == "10")


def _ton(cell: Cell | bytes) -> TonCell:
    return TonCell(_text(cell if isinstance(cell, bytes) else write_boc([cell])))


def _cell(boc: bytes) -> Cell:
    return Cell.one_from_boc(boc)


def _text(boc: bytes) -> str:
    return b64encode(boc).decode()
