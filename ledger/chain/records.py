"""What a chain stores, read from cells: transactions, accounts, prices; and an external's name.

Cells come from lite-servers and from strangers' contracts: anything that is not what it should be
raises `CodecError`. Schemas: `block.tlb` of TON; the normalized hash: TEP-467.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pytoniq_core import Address, Builder, Cell, Slice
from pytoniq_core.boc.deserialize import Boc
from pytoniq_core.boc.hashmap.parse import deserialize_hml
from pytoniq_core.tlb.account import ShardAccount
from pytoniq_core.tlb.block import CurrencyCollection
from pytoniq_core.tlb.transaction import (
    ExternalMsgInfo,
    InternalMsgInfo,
    MessageAny,
    TransactionDescr,
    TransactionOrdinary,
)

from ledger.chain.base import MAX_EXTERNAL, Contract, Fees, Message, Status, Tx
from ledger.lane import Account
from ledger.money import ZERO, Nano
from p2p.errors import CodecError

MAX_CELLS: Final = 8_192
"""cells of one message; TON's own limit (config 43)."""

MAX_OUTGOING: Final = 256
"""messages of one transaction: 255 actions, or one bounce."""

_STATUS: Final = {
    "account_uninit": Status.UNINIT,
    "account_active": Status.ACTIVE,
    "account_frozen": Status.FROZEN,
}


def read_transaction(cell: Cell) -> Tx:
    """An ordinary transaction."""
    with _reading("transaction"):
        return _transaction(cell)


def read_effects(cell: Cell) -> tuple[Nano, list[Cell]]:
    """The fees of a transaction and the messages it sends: what a collator needs, no more."""
    with _reading("transaction"):
        reader = cell.begin_parse()
        reader.skip_bits(4 + 256 + 64 + 256 + 64 + 32)
        count = reader.load_uint(15)
        reader.skip_bits(2 + 2)
        _, outgoing = _message_cells(reader.load_ref().begin_parse(), count)
        return Nano(reader.load_coins()), outgoing


def read_message(cell: Cell) -> Message:
    """A message by itself."""
    with _reading("message"):
        return _message(cell)


def read_account(address: Account, shard_account: Cell) -> Contract | None:
    """The account in a `ShardAccount`; None if there is none."""
    with _reading("account"):
        return _account(address, shard_account)


def read_external(boc: bytes) -> tuple[Account, Cell]:
    """Whom an external is for, and its cell; its size is checked before anything is built."""
    with _reading("external"):
        if len(boc) > MAX_EXTERNAL or Boc.deserialize_boc_header(boc)["cells_num"] > MAX_CELLS:
            raise CodecError("an external is too large")
        cell = Cell.one_from_boc(boc)
        message = MessageAny.deserialize(cell.begin_parse())
        dest = _account_of(message.info.dest) if message.is_external else None
        if dest is None:
            raise CodecError("no external for an account of workchain 0")
        return dest, cell


def normalized_hash(external: Cell) -> bytes:
    """The name of an external, the same however it is wrapped (TEP-467).

    That is: no source, no import fee, no StateInit, the body in a reference.
    """
    with _reading("external"):
        message = MessageAny.deserialize(external.begin_parse())
        plain = Builder().store_uint(0b10, 2).store_address(None).store_address(message.info.dest)
        plain.store_coins(0).store_bit_int(0).store_bit_int(1).store_ref(message.body)
        return bytes(plain.end_cell().hash)


def read_fees(config: Cell) -> Fees:
    """The basechain's prices in a config dictionary."""
    with _reading("config"):
        flat_gas, flat_price, gas_price = _gas_prices(_param(config, 21))
        lump, bit, cell = _forward_prices(_param(config, 25))
        storage_bit, storage_cell = _storage_prices(_param(config, 18))
        return Fees(
            gas_price=gas_price,
            flat_gas=flat_gas,
            flat_price=Nano(flat_price),
            forward_lump=Nano(lump),
            forward_bit=bit,
            forward_cell=cell,
            storage_bit=storage_bit,
            storage_cell=storage_cell,
        )


@contextmanager
def _reading(what: str) -> Iterator[None]:
    try:
        yield
    except CodecError:
        raise
    except Exception as error:  # pytoniq-core raises whatever it stumbles upon, bare ones too
        raise CodecError(f"no {what}: {error!r}") from error


def _transaction(cell: Cell) -> Tx:
    reader = cell.begin_parse()
    if reader.load_uint(4) != 0b0111:
        raise CodecError("not a transaction")
    account, lt = Account(reader.load_bytes(32)), reader.load_uint(64)
    reader.skip_bits(256 + 64)
    time = reader.load_uint(32)
    count = reader.load_uint(15)
    reader.skip_bits(2 + 2)
    incoming, outgoing = _messages(reader.load_ref().begin_parse(), count)
    fees = Nano(CurrencyCollection.deserialize(reader).grams)
    reader.load_ref()
    description = TransactionDescr.deserialize(reader.load_ref().begin_parse())
    if not isinstance(description, TransactionOrdinary):
        raise CodecError("not an ordinary transaction")
    compute = description.compute_ph
    ran = compute if compute is not None and compute.type_ == "vm" else None
    return Tx(
        account=account,
        lt=lt,
        hash=bytes(cell.hash),
        time=time,
        fees=fees,
        incoming=incoming,
        outgoing=outgoing,
        exit_code=None if ran is None else ran.exit_code,
        success=not description.aborted,
        gas=0 if ran is None else ran.gas_used or 0,
    )


def _messages(reader: Slice, count: int) -> tuple[Message | None, tuple[Message, ...]]:
    incoming, outgoing = _message_cells(reader, count)
    first = None if incoming is None else _message(incoming)
    return first, tuple(_message(cell) for cell in outgoing)


def _message_cells(reader: Slice, count: int) -> tuple[Cell | None, list[Cell]]:
    if count > MAX_OUTGOING:
        raise CodecError(f"{count} messages of one transaction")
    incoming = reader.load_ref() if reader.load_bit() else None
    outgoing = reader.load_ref() if reader.load_bit() else None
    if outgoing is None:
        return incoming, []
    return incoming, [_find(outgoing, 15, place).load_ref() for place in range(count)]


def _find(root: Cell, bits: int, key: int) -> Slice:
    """The value of `key` in a `Hashmap`: one path is walked, as its cells may be shared."""
    reader: Slice = root.begin_parse()
    wanted = f"{key:0{bits}b}"
    while True:
        _, label = deserialize_hml(reader, len(wanted))
        if not wanted.startswith(label.to01()):
            raise CodecError(f"no key {key}")
        wanted = wanted[len(label) :]
        if not wanted:
            return reader
        reader = reader.refs[int(wanted[0])].begin_parse()
        wanted = wanted[1:]


def _greatest(root: Cell, bits: int) -> Slice:
    """The value of the greatest key."""
    reader: Slice = root.begin_parse()
    while True:
        bits -= deserialize_hml(reader, bits)[0]
        if bits <= 0:
            return reader
        reader = reader.refs[1].begin_parse()
        bits -= 1


def _message(cell: Cell) -> Message:
    message = MessageAny.deserialize(cell.begin_parse())
    info = message.info
    init = None if message.init is None else message.init.serialize()
    if isinstance(info, InternalMsgInfo):
        return _internal(info, message.body, init, bytes(cell.hash))
    external = isinstance(info, ExternalMsgInfo)
    return Message(
        source=None if external else _account_of(info.src),
        dest=_account_of(info.dest) if external else None,
        value=ZERO,
        forward_fee=ZERO,
        bounce=False,
        bounced=False,
        body=message.body,
        init=init,
        hash=normalized_hash(cell) if external else bytes(cell.hash),
    )


def _internal(info: InternalMsgInfo, body: Cell, init: Cell | None, name: bytes) -> Message:
    return Message(
        source=_account_of(info.src),
        dest=_account_of(info.dest),
        value=Nano(info.value_coins),
        forward_fee=Nano(info.fwd_fee + info.ihr_fee),
        bounce=info.bounce,
        bounced=info.bounced,
        body=body,
        init=init,
        hash=name,
    )


def _account_of(address: object) -> Account | None:
    if isinstance(address, Address) and address.wc == 0 and address.anycast is None:
        return Account(address.hash_part)
    return None


def _account(address: Account, cell: Cell) -> Contract | None:
    shard = ShardAccount.deserialize(cell.begin_parse())
    if shard.account is None:
        return None
    storage = shard.account.storage
    status = _STATUS[storage.state.type_]
    init = storage.state.state_init if status is Status.ACTIVE else None
    return Contract(
        address=address,
        status=status,
        balance=Nano(storage.balance.grams),
        code=None if init is None else init.code,
        data=None if init is None else init.data,
        last_lt=shard.last_trans_lt,
        last_hash=shard.last_trans_hash,
    )


def _gas_prices(reader: Slice) -> tuple[int, int, int]:
    """Flat units, their price, and the price beyond, of `GasLimitsPrices`."""
    flat_gas = flat_price = 0
    tag = reader.load_uint(8)
    if tag == 0xD1:
        flat_gas, flat_price = reader.load_uint(64), reader.load_uint(64)
        tag = reader.load_uint(8)
    if tag not in (0xDD, 0xDE):
        raise CodecError("no gas prices")
    return flat_gas, flat_price, reader.load_uint(64)


def _forward_prices(reader: Slice) -> tuple[int, int, int]:
    if reader.load_uint(8) != 0xEA:
        raise CodecError("no forward prices")
    return reader.load_uint(64), reader.load_uint(64), reader.load_uint(64)


def _storage_prices(reader: Slice) -> tuple[int, int]:
    """The prices in force: of the latest time."""
    newest = _greatest(reader.to_cell(), 32)
    if newest.load_uint(8) != 0xCC:
        raise CodecError("no storage prices")
    newest.skip_bits(32)
    return newest.load_uint(64), newest.load_uint(64)


def _param(config: Cell, number: int) -> Slice:
    reader: Slice = _find(config, 32, number).load_ref().begin_parse()
    return reader
