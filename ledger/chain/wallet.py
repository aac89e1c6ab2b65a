"""A wallet of TON, version 5 revision 1, with one key: its address, and transfers it signs.

Any TON wallet program given the same key and network shows the same address. The code below is that
of github.com/ton-blockchain/wallet-contract-v5, as deployed on mainnet.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pytoniq_core import Address, Builder, Cell

from ledger.lane import Account
from ledger.money import Nano
from p2p.identity import Identity

CODE: Final = Cell.one_from_boc(
    "b5ee9c7201021401000281000114ff00f4a413f4bcf2c80b01020120020d020148030402dcd020d749c12091"
    "5b8f6320d70b1f2082106578746ebd21821073696e74bdb0925f03e082106578746eba8eb48020d72101d074"
    "d721fa4030fa44f828fa443058bd915be0ed44d0810141d721f4058307f40e6fa1319130e18040d721707fdb"
    "3ce03120d749810280b99130e070e2100f020120050c020120060902016e07080019adce76a2684020eb90eb"
    "85ffc00019af1df6a2684010eb90eb858fc00201480a0b0017b325fb51341c75c875c2c7e00011b262fb5134"
    "35c280200019be5f0f6a2684080a0eb90fa02c0102f20e011e20d70b1f82107369676ebaf2e08a7f0f01e68e"
    "f0eda2edfb218308d722028308d723208020d721d31fd31fd31fed44d0d200d31f20d31fd3ffd70a000af901"
    "40ccf9109a28945f0adb31e1f2c087df02b35007b0f2d0845125baf2e0855036baf2e086f823bbf2d0882292"
    "f800de01a47fc8ca00cb1f01cf16c9ed542092f80fde70db3cd81003f6eda2edfb02f404216e926c218e4c02"
    "21d73930709421c700b38e2d01d72820761e436c20d749c008f2e09320d74ac002f2e09320d71d06c712c200"
    "5230b0f2d089d74cd7393001a4e86c128407bbf2e093d74ac000f2e093ed55e2d20001c000915be0ebd72c08"
    "142091709601d72c081c12e25210b1e30f20d74a111213009601fa4001fa44f828fa443058baf2e091ed44d0"
    "810141d718f405049d7fc8ca0040048307f453f2e08b8e14038307f45bf2e08c22d70a00216e01b3b0f2d090"
    "e2c85003cf1612f400c9ed54007230d72c08248e2d21f2e092d200ed44d0d2005113baf2d08f54503091319c"
    "01810140d721d70a00f2e08ee2c8ca0058cf16c9ed5493f2c08de20010935bdb31e1d74cd0"
)

MAX_MESSAGES: Final = 255
"""messages of one transfer; the length of TVM's list of actions."""

MODE: Final = 1 + 2
"""Pay for delivery beside the value; skip a message that cannot be paid (the wallet insists)."""

_SIGNED: Final = 0x7369676E
"""`sign`: an external, signed."""
_SEND: Final = 0x0EC3C86D
"""`action_send_msg` of TVM's action list."""
_CLIENT: Final = 1 << 31
"""Wallet ids: `(1 | workchain int8 | version uint8 | number uint15) xor network`, the rest 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """Coins, and perhaps a body and code, for one account."""

    dest: Account
    value: Nano
    body: Cell | None = None
    state_init: Cell | None = None
    """Deploys the account, if its hash is the address."""
    bounce: bool = True
    """Whether an account that fails, or has no code, sends the rest back."""


def state_init(public: bytes, network: int) -> Cell:
    """What a new wallet begins with; its hash is the address."""
    wallet_id = (_CLIENT ^ network) & 0xFFFFFFFF
    data = Builder().store_bit_int(1).store_uint(0, 32).store_uint(wallet_id, 32)
    data.store_bytes(public).store_bit_int(0)
    init = Builder().store_uint(0b00110, 5).store_ref(CODE).store_ref(data.end_cell())
    cell: Cell = init.end_cell()
    return cell


def address(public: bytes, network: int) -> Account:
    """Where the wallet of this key is, or will be."""
    return Account(bytes(state_init(public, network).hash))


def seqno(data: Cell | None) -> int:
    """The number that the next transfer must bear, from the wallet's data; 0 before it exists."""
    if data is None:
        return 0
    reader = data.begin_parse()
    reader.load_bit()
    return int(reader.load_uint(32))


def transfer(
    key: Identity, messages: Sequence[Transfer], *, network: int, seqno: int, valid_until: int
) -> bytes:
    """An external for `key`'s wallet to send `messages`; deploys it too if `seqno` is 0.

    Raises `ValueError` for more than `MAX_MESSAGES`.
    """
    if len(messages) > MAX_MESSAGES:
        raise ValueError(f"{len(messages)} messages: a wallet sends at most {MAX_MESSAGES}")
    order = Builder().store_uint(_SIGNED, 32).store_uint((_CLIENT ^ network) & 0xFFFFFFFF, 32)
    order.store_uint(valid_until, 32).store_uint(seqno, 32)
    order.store_bit_int(1).store_ref(_actions(messages)).store_bit_int(0)
    body = order.end_cell()
    signed = Builder().store_cell(body).store_bytes(key.sign(bytes(body.hash))).end_cell()
    init = state_init(key.public, network) if seqno == 0 else None
    return external(address(key.public, network), signed, init)


def external(dest: Account, body: Cell, init: Cell | None = None) -> bytes:
    """A message from outside, as a bag of cells."""
    message = Builder().store_uint(0b10, 2).store_address(None).store_address(Address((0, dest)))
    message.store_coins(0)
    boc: bytes = _attach(message, body, init).to_boc()
    return boc


def internal(order: Transfer) -> Cell:
    """The message of a transfer; source, time and fees are the chain's to fill in."""
    message = Builder().store_bit_int(0).store_bit_int(1).store_bit_int(order.bounce)
    message.store_bit_int(0).store_address(None).store_address(Address((0, order.dest)))
    message.store_coins(order.value.value).store_bit_int(0).store_coins(0).store_coins(0)
    message.store_uint(0, 64).store_uint(0, 32)
    return _attach(message, order.body or Cell.empty(), order.state_init)


def _actions(messages: Sequence[Transfer]) -> Cell:
    """TVM's action list: each refers to the one before it."""
    actions: Cell = Cell.empty()
    for order in messages:
        action = Builder().store_ref(actions).store_uint(_SEND, 32).store_uint(MODE, 8)
        actions = action.store_ref(internal(order)).end_cell()
    return actions


def _attach(message: Builder, body: Cell, init: Cell | None) -> Cell:
    """StateInit and body, each inside where it fits: a cell less costs less."""
    if init is None:
        message.store_bit_int(0)
    else:
        _store_either(message.store_bit_int(1), init, spare=2)
    _store_either(message, body, spare=1)
    cell: Cell = message.end_cell()
    return cell


def _store_either(message: Builder, part: Cell, *, spare: int) -> None:
    """`part` inside, if `spare` bits beside it stay free for flags; else as a reference."""
    fits = len(part.bits) + spare <= message.available_bits
    if fits and len(part.refs) <= message.available_refs:
        message.store_bit_int(0).store_cell(part)
    else:
        message.store_bit_int(1).store_ref(part)
