"""Blocks for accounts without blocks: proofs that others' checks accept, and only as they stand."""

import pytest
from pytoniq_core import Address, Block, BlockIdExt, Cell, begin_cell
from pytoniq_core.proof.check_proof import ProofError, check_account_proof, check_proof
from pytoniq_core.tlb.utils import deserialize_shard_hashes
from ton_core import Address as OtherAddress
from ton_core import BlockIdExt as OtherBlock
from ton_core import Cell as OtherCell
from ton_core import check_account_proof as other_check

from ledger.chain import blocks
from ledger.chain.base import Head
from ledger.chain.boc import write_boc
from ledger.chain.history import check_state, read_config
from p2p.errors import RemoteError
from tests.ledger.chain.standin import ALICE, NETWORK, NOBODY, StandIn, deep, shard_account

HEAD = Head(seqno=7, time=1_700_000_000, lt=9_000_000)
ENTRY = shard_account(ALICE, 12_345_678_901, lt=42, last_hash=bytes([9]) * 32, data=deep(60))


def named(block):
    return BlockIdExt(
        block.workchain, block.shard, block.seqno, block.root_hash.hex(), block.file_hash.hex()
    )


def test_an_account_is_proved_to_others():
    shard, proof = blocks.account_proof(NETWORK, HEAD, ALICE, ENTRY)
    where, state = Address((0, ALICE)), ENTRY.refs[0]
    found = check_account_proof(proof, named(shard), where, state, return_account_descr=True)
    assert (found.last_trans_lt, found.last_trans_hash) == (42, bytes([9]) * 32)


def test_a_second_library_accepts_the_same_proof():
    shard, proof = blocks.account_proof(NETWORK, HEAD, ALICE, ENTRY)
    name = OtherBlock(0, shard.shard, 7, shard.root_hash.hex(), shard.file_hash.hex())
    state = OtherCell.one_from_boc(write_boc([ENTRY.refs[0]]))
    found = other_check(proof, name, OtherAddress((0, ALICE)), state, return_account_descr=True)
    assert found.last_trans_lt == 42


def test_a_proof_proves_no_other_state_account_or_block():
    shard, proof = blocks.account_proof(NETWORK, HEAD, ALICE, ENTRY)
    richer = shard_account(ALICE, 12_345_678_902, lt=42).refs[0]
    with pytest.raises(ProofError):
        check_account_proof(proof, named(shard), Address((0, ALICE)), richer)
    with pytest.raises(KeyError):
        check_account_proof(proof, named(shard), Address((0, NOBODY)), ENTRY.refs[0])
    other = blocks.empty_block(NETWORK, HEAD)
    with pytest.raises(ProofError):
        check_account_proof(proof, named(other), Address((0, ALICE)), ENTRY.refs[0])


def test_the_account_itself_stays_out_of_its_proof():
    big = shard_account(ALICE, 1, data=begin_cell().store_bytes(bytes(120)).end_cell())
    small = shard_account(ALICE, 1)
    assert len({len(blocks.account_proof(NETWORK, HEAD, ALICE, e)[1]) for e in (big, small)}) == 1


def test_both_roots_are_merkle_proofs():
    _, proof = blocks.account_proof(NETWORK, HEAD, ALICE, ENTRY)
    for root in Cell.from_boc(proof):
        check_proof(root, root[0].get_hash(0))


def test_shards_name_the_block_of_the_basechain():
    shards = deserialize_shard_hashes(blocks.shard_hashes(NETWORK, HEAD).begin_parse())
    (descr,) = shards[0].list
    name = blocks.empty_block(NETWORK, HEAD)
    assert (descr.seq_no, descr.end_lt, descr.gen_utime) == (7, 9_000_000, 1_700_000_000)
    assert (descr.root_hash, descr.file_hash) == (name.root_hash, name.file_hash)
    assert descr.next_validator_shard_signed == name.shard


def test_headers_are_read_by_others():
    info = Block.deserialize(
        Cell.one_from_boc(blocks.header_proof(NETWORK, HEAD, -1))[0].begin_parse()
    ).info
    assert (info.seqno, info.gen_utime, info.end_lt) == (7, 1_700_000_000, 9_000_000)
    assert (info.shard.workchain_id, info.prev_ref.prev.seqno) == (-1, 6)


async def test_the_configuration_is_proved_as_part_of_a_state():
    config = await StandIn().config()
    block, state = (
        Cell.one_from_boc(proof) for proof in blocks.config_proof(NETWORK, HEAD, config)
    )
    assert read_config(state) == (NETWORK, config)
    check_state(block, state, block[0].get_hash(0))
    with pytest.raises(RemoteError):
        check_state(block, state, bytes(32))
    with pytest.raises(RemoteError):
        check_state(block, block, block[0].get_hash(0))


@pytest.mark.parametrize("cell", [deep(0), deep(2), deep(6)])
def test_cells_that_are_no_state_are_a_remote_error(cell):
    with pytest.raises(RemoteError):
        read_config(cell)


def test_names_of_blocks_differ_by_network_number_and_time():
    heads = [HEAD, Head(seqno=8, time=HEAD.time, lt=HEAD.lt), Head(seqno=7, time=1, lt=HEAD.lt)]
    names = {blocks.masterchain_block(network, head) for network in (-3, -239) for head in heads}
    assert len(names) == 6
