"""Blocks and states in TON's form for a chain that keeps accounts only: what a client checks.

A lite-server proves an account by two Merkle proofs: from a block's hash to the hash of its state,
and from that to the account. The chain behind the face has neither blocks nor states as cells, so
each answer gets a state with this one account, and a block that ends in this state. That satisfies
a client which trusts the server for the hash of the block (trust level 2 of pytoniq) and no other:
there are no validators to sign it. Source: ton-blockchain/ton, crypto/block/block.tlb.
"""

import struct
from functools import lru_cache
from hashlib import sha256
from typing import Final

from pytoniq_core import Account as Contents
from pytoniq_core import Builder, Cell, HashMap, begin_cell

from ledger.chain.base import Head
from ledger.chain.boc import write_boc
from ledger.chain.lite_api import BASECHAIN, MASTERCHAIN, WHOLE_SHARD, BlockId

_PRUNED: Final = 1
_MERKLE_PROOF: Final = 3
"""Types of exotic cells (TVM whitepaper, 3.1.7)."""

_EMPTY: Final = begin_cell().end_cell()


def masterchain_block(network: int, head: Head) -> BlockId:
    """The name of the masterchain's block of this moment; its hashes are no cell's."""
    seed = struct.pack("<iqqq", network, head.seqno, int(head.time), head.lt)
    root, file = (sha256(b"tussah/block/" + part + seed).digest() for part in (b"root", b"file"))
    return BlockId(MASTERCHAIN, WHOLE_SHARD, head.seqno, root, file)


def shard_block(network: int, head: Head, state: Cell) -> tuple[BlockId, Cell]:
    """The basechain's block that ends in `state`, and its name."""
    block = _block(network, head, BASECHAIN, state)
    root = block.get_hash(0)
    name = BlockId(BASECHAIN, WHOLE_SHARD, head.seqno, root, sha256(b"tussah/file" + root).digest())
    return name, block


def account_proof(network: int, head: Head, account: bytes, entry: Cell) -> tuple[BlockId, bytes]:
    """The block that holds an account, and the proof of it as a BoC of two roots.

    `entry` is the account's ShardAccount; the account itself is pruned from the proof.
    """
    state = _state(network, head, BASECHAIN, _one_account(account, entry))
    name, block = shard_block(network, head, state)
    return name, write_boc([_proof(block), _proof(state)])


@lru_cache(maxsize=256)
def empty_block(network: int, head: Head) -> BlockId:
    """The basechain's block of this moment with no account in it."""
    state = _state(network, head, BASECHAIN, _no_accounts())
    return shard_block(network, head, state)[0]


def shard_hashes(network: int, head: Head) -> Cell:
    """`HashmapE 32 ^(BinTree ShardDescr)`: the basechain is one shard."""
    leaf = _shard_descr(head, empty_block(network, head))
    tree = begin_cell().store_bit(0).store_cell(leaf).end_cell()
    hashes = HashMap(32, value_serializer=lambda cell, into: into.store_ref(cell))
    hashes.set_int_key(BASECHAIN, tree)
    return _cell(begin_cell().store_dict(hashes.serialize()))


def config_proof(network: int, head: Head, config: Cell) -> tuple[bytes, bytes]:
    """Proofs of a block's state and of the configuration in it. `config` is its dictionary."""
    extra = _masterchain_extra(network, head, config)
    state = _state(network, head, MASTERCHAIN, _no_accounts(), extra)
    block = _block(network, head, MASTERCHAIN, state)
    return write_boc([_proof(block)]), write_boc([_proof(state)])


def header_proof(network: int, head: Head, workchain: int) -> bytes:
    """A block's header, as lookups give it."""
    state = _state(network, head, workchain, _no_accounts())
    return write_boc([_proof(_block(network, head, workchain, state))])


def _cell(builder: Builder) -> Cell:
    cell: Cell = builder.end_cell()
    return cell


def _proof(cell: Cell) -> Cell:
    builder = Builder(type_=_MERKLE_PROOF).store_uint(_MERKLE_PROOF, 8)
    builder.store_bytes(cell.get_hash(0)).store_uint(cell.get_depth(0), 16)
    return _cell(builder.store_ref(cell))


def _pruned(cell: Cell) -> Cell:
    builder = Builder(type_=_PRUNED).store_uint(_PRUNED, 8).store_uint(1, 8)
    return _cell(builder.store_bytes(cell.get_hash(0)).store_uint(cell.get_depth(0), 16))


def _block(network: int, head: Head, workchain: int, state: Cell) -> Cell:
    """block#11ef55aa of a state, which is pruned; nothing before it, no flows and messages."""
    update = begin_cell().store_ref(_EMPTY).store_ref(_pruned(state)).end_cell()
    block = begin_cell().store_uint(0x11EF55AA, 32).store_int(network, 32)
    block.store_ref(_block_info(head, workchain)).store_ref(_pruned(_EMPTY))
    return _cell(block.store_ref(update).store_ref(_pruned(_EMPTY)))


def _block_info(head: Head, workchain: int) -> Cell:
    before = begin_cell().store_uint(head.lt, 64).store_uint(max(head.seqno - 1, 0), 32)
    before.store_bytes(bytes(64))
    info = begin_cell().store_uint(0x9BC7A987, 32).store_uint(0, 32).store_uint(0, 8 + 8)
    info.store_uint(head.seqno, 32).store_uint(0, 32).store_cell(_shard(workchain))
    info.store_uint(int(head.time), 32).store_uint(head.lt, 64).store_uint(head.lt, 64)
    return _cell(info.store_uint(0, 4 * 32).store_ref(before.end_cell()))


def _state(
    network: int, head: Head, workchain: int, accounts: Cell, extra: Cell | None = None
) -> Cell:
    """shard_state#9023afe2 with an empty queue."""
    state = begin_cell().store_uint(0x9023AFE2, 32).store_int(network, 32)
    state.store_cell(_shard(workchain)).store_uint(head.seqno, 32).store_uint(0, 32)
    state.store_uint(int(head.time), 32).store_uint(head.lt, 64).store_uint(head.seqno, 32)
    state.store_ref(_EMPTY).store_bit(0).store_ref(accounts)
    return _cell(state.store_ref(_totals()).store_maybe_ref(extra))


def _shard(workchain: int) -> Cell:
    """shard_ident$00 of a workchain that is one shard."""
    ident = begin_cell().store_uint(0, 2).store_uint(0, 6)
    return _cell(ident.store_int(workchain, 32).store_uint(0, 64))


def _totals() -> Cell:
    """Loads, balance, fees, libraries and the masterchain's block: all none."""
    return _cell(begin_cell().store_uint(0, 64 + 64).store_uint(0, 5 + 5).store_uint(0, 2))


def _no_accounts() -> Cell:
    """HashmapAugE without an entry: no root, DepthBalanceInfo of nothing."""
    return _cell(begin_cell().store_bit(0).store_uint(0, 5 + 5))


def _one_account(account: bytes, entry: Cell) -> Cell:
    """HashmapAugE 256 of one entry, which stands in the root under a label of all 256 bits."""
    slice_ = entry.begin_parse()
    inner = slice_.load_ref()
    aside = begin_cell().store_uint(0, 5).store_coins(_balance(inner)).store_bit(0).end_cell()
    leaf = begin_cell().store_uint(0b10, 2).store_uint(256, 9).store_bytes(account)
    leaf.store_cell(aside).store_ref(_pruned(inner)).store_bytes(slice_.load_bytes(40))
    return _cell(begin_cell().store_bit(1).store_ref(leaf.end_cell()).store_cell(aside))


def _shard_descr(head: Head, block: BlockId) -> Cell:
    """shard_descr#a."""
    nothing = begin_cell().store_uint(0, 5 + 5).end_cell()
    descr = begin_cell().store_uint(0xA, 4).store_uint(block.seqno, 32).store_uint(block.seqno, 32)
    descr.store_uint(head.lt, 64).store_uint(head.lt, 64)
    descr.store_bytes(block.root_hash).store_bytes(block.file_hash)
    descr.store_uint(0, 8).store_uint(0, 32).store_uint(1 << 63, 64)
    descr.store_uint(block.seqno, 32).store_uint(int(head.time), 32).store_bit(0)
    return _cell(descr.store_ref(nothing))


def _masterchain_extra(network: int, head: Head, config: Cell) -> Cell:
    """masterchain_state_extra#cc26: shards, configuration, no validators and no blocks before."""
    rest = begin_cell().store_uint(0, 16).store_uint(0, 32 + 32 + 1)
    rest.store_uint(0, 1 + 65).store_uint(0, 1 + 1)
    extra = begin_cell().store_uint(0xCC26, 16).store_cell(shard_hashes(network, head))
    extra.store_bytes(bytes([0x55]) * 32).store_ref(config).store_ref(rest.end_cell())
    return _cell(extra.store_uint(0, 5))


def _balance(account: Cell) -> int:
    """Nano that an Account holds; 0 of none."""
    whole = Contents.deserialize(account.begin_parse())
    return 0 if whole is None else int(whole.storage.balance.grams)


def logical_time(transaction: Cell) -> int:
    """Of a transaction's cell: it follows the tag and the account."""
    return int(transaction.begin_parse().skip_bits(4 + 256).load_uint(64))
