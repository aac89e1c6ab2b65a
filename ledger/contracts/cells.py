"""The lane contract in cells: its code, where a lane's address comes from, and what is said to it.

    lane#_   payer_key:bits256 payee_key:bits256 claimed:Coins close_at:uint32 cfg:^config
    config#_ payer:MsgAddressInt payee:MsgAddressInt network:int32 lane_id:uint64
             close_delay:uint32 min_claim:Coins
    voucher_body#4c414e45 lane:MsgAddressInt cumulative:Coins   signed by payer_key
    voucher#_    sig:bits512 body:voucher_body
    order_body#_ lane:MsgAddressInt valid_until:uint32 op:uint32 ^voucher   signed by payee_key
    external#_   op:uint32 sig:bits512 order_body

What is signed is the hash of a cell. `lane.fc` is the other end of all of this.
"""

from enum import IntEnum
from importlib import resources
from typing import Final, NamedTuple

from pytoniq_core import Address, Builder, Cell, Slice

from ledger.chain.wallet import external
from ledger.lane import Account, LaneConfig, Op
from ledger.money import ZERO, Nano
from ledger.voucher import Voucher
from p2p.errors import CodecError
from p2p.identity import Identity

CODE: Final[Cell] = Cell.one_from_boc(
    resources.files(__package__).joinpath("lane.boc").read_bytes()
)
"""What `build.py` makes of `lane.fc`."""

CODE_HASH: Final = bytes(CODE.hash)

_VOUCHER_TAG: Final = 0x4C414E45


class Paid(IntEnum):
    """Why a lane sent coins: how the body of its message begins."""

    CLAIM = 0x4C4EFF01
    CLOSE = 0x4C4EFF02
    REST = 0x4C4EFF03
    EXCESS = 0x4C4EFF04


class Payout(NamedTuple):
    """What a lane says with the coins it sends."""

    kind: Paid
    claimed: Nano
    """All that was claimed of the lane so far, this included."""


class LaneData(NamedTuple):
    """What a lane's account holds."""

    config: LaneConfig
    claimed: Nano
    close_at: int
    """Unix time from which the payer may take the rest; 0: not asked for; 1: closed."""


# --- the account ---


def lane_address(config: LaneConfig) -> Account:
    """The account that these terms hash to; of no other terms, and of no other code."""
    return Account(bytes(state_init(config).hash))


def state_init(config: LaneConfig) -> Cell:
    """What a lane begins with."""
    init = Builder().store_uint(0b00110, 5).store_ref(CODE).store_ref(data(config))
    cell: Cell = init.end_cell()
    return cell


def data(config: LaneConfig, claimed: Nano = ZERO, close_at: int = 0) -> Cell:
    """The data of a lane in some state."""
    lane = Builder().store_bytes(config.payer_key).store_bytes(config.payee_key)
    lane.store_coins(claimed.value).store_uint(close_at, 32).store_ref(_config(config))
    cell: Cell = lane.end_cell()
    return cell


def read_data(cell: Cell) -> LaneData:
    """The state in a lane's data. Raises `CodecError` for any other cell."""
    try:
        return _read_data(cell)
    except CodecError:
        raise
    except Exception as error:  # pytoniq-core raises whatever it stumbles upon
        raise CodecError("not the data of a lane") from error


def read_init(cell: Cell) -> LaneConfig | None:
    """The terms of the lane that a StateInit brings to life; None for any other account."""
    try:
        config = read_data(cell.refs[1]).config
    except (CodecError, IndexError):
        return None
    return config if state_init(config).hash == cell.hash else None


# --- what is said to it ---


def voucher_cell(voucher: Voucher) -> Cell:
    """A voucher as the contract reads it."""
    body = Builder().store_uint(_VOUCHER_TAG, 32).store_address(Address((0, voucher.lane)))
    body.store_coins(voucher.cumulative.value)
    cell: Cell = Builder().store_bytes(voucher.sig).store_cell(body.end_cell()).end_cell()
    return cell


def claim_order(lane: Account, voucher: Voucher, valid_until: int, payee: Identity) -> bytes:
    """The external that pays the payee what is due, less what the claim costs."""
    return _order(Op.CLAIM, lane, voucher, valid_until, payee)


def close_order(lane: Account, voucher: Voucher, valid_until: int, payee: Identity) -> bytes:
    """The external that pays the payee what is due, and the payer the rest, for good."""
    return _order(Op.CLOSE, lane, voucher, valid_until, payee)


def claim_body(voucher: Voucher) -> Cell:
    """Anybody's claim for the payee, in an internal message that brings its gas (0.02 TON)."""
    cell: Cell = Builder().store_uint(Op.CLAIM, 32).store_ref(voucher_cell(voucher)).end_cell()
    return cell


def start_close_body() -> Cell:
    """The payer's, from its wallet: from `close_delay` seconds on it may take the rest."""
    return _op(Op.START_CLOSE)


def finish_body() -> Cell:
    """Anybody's, once it is time: the rest goes to the payer."""
    return _op(Op.FINISH)


def top_up_body() -> Cell:
    """More coins for the lane; sent bounceable, so that a lane that is gone returns them."""
    return _op(Op.TOP_UP)


# --- what it says ---


def read_payout(body: Cell) -> Payout | None:
    """What a lane said with its coins; None for any other body."""
    reader = body.begin_parse()
    if len(body.bits) < 36 or reader.preload_uint(32) not in tuple(Paid):
        return None
    kind = Paid(reader.load_uint(32))
    size = reader.load_uint(4)
    if len(reader.bits) != 8 * size or size > 7:
        return None
    return Payout(kind, Nano(reader.load_uint(8 * size) if size else 0))


# --- the parts ---


def _config(config: LaneConfig) -> Cell:
    cell = Builder().store_address(Address((0, config.payer)))
    cell.store_address(Address((0, config.payee))).store_int(config.network, 32)
    cell.store_uint(config.lane_id, 64).store_uint(config.close_delay, 32)
    done: Cell = cell.store_coins(config.min_claim.value).end_cell()
    return done


def _read_data(cell: Cell) -> LaneData:
    lane = cell.begin_parse()
    payer_key, payee_key = lane.load_bytes(32), lane.load_bytes(32)
    claimed, close_at = Nano(lane.load_coins() or 0), lane.load_uint(32)
    terms = lane.load_ref().begin_parse()
    config = LaneConfig(
        payer_key=payer_key,
        payee_key=payee_key,
        payer=_account(terms),
        payee=_account(terms),
        network=terms.load_int(32),
        lane_id=terms.load_uint(64),
        close_delay=terms.load_uint(32),
        min_claim=Nano(terms.load_coins() or 0),
    )
    if data(config, claimed, close_at).hash != cell.hash:
        raise CodecError("more than the data of a lane, or written in another way")
    return LaneData(config, claimed, close_at)


def _account(reader: Slice) -> Account:
    address = reader.load_address()
    if not isinstance(address, Address) or address.wc != 0:
        raise CodecError("no account of workchain 0")
    return Account(bytes(address.hash_part))


def _order(op: Op, lane: Account, voucher: Voucher, valid_until: int, payee: Identity) -> bytes:
    order = Builder().store_address(Address((0, lane))).store_uint(valid_until, 32)
    body = order.store_uint(op, 32).store_ref(voucher_cell(voucher)).end_cell()
    signed = Builder().store_uint(op, 32).store_bytes(payee.sign(bytes(body.hash)))
    return external(lane, signed.store_cell(body).end_cell())


def _op(op: Op) -> Cell:
    cell: Cell = Builder().store_uint(op, 32).end_cell()
    return cell
