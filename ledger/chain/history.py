"""What a lite-server's cells prove about an account's past and a chain's configuration.

A transaction names the one before it by time and hash, so a page that begins with the newest one
of a known account state needs no other proof. Anything that does not fit raises `RemoteError`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pytoniq_core import Cell
from pytoniq_core.proof.check_proof import check_block_header_proof, check_proof
from pytoniq_core.tlb.block import ShardStateUnsplit

from ledger.chain.base import Tx
from ledger.chain.boc import read_boc
from ledger.chain.records import read_transaction
from ledger.lane import Account
from p2p.errors import RemoteError

PAGE: Final = 16
"""transactions that a lite-server gives at a time, at most."""


def read_page(boc: bytes, address: Account, lt: int, name: bytes) -> tuple[list[Tx], int, bytes]:
    """The transactions of a page, newest first, then time and hash of the one before them all.

    The page must begin with the transaction of `address` at `lt` whose hash is `name`. Time 0 is
    that of no transaction.
    """
    page = []
    for cell in read_boc(boc)[:PAGE]:
        tx = read_transaction(cell)
        if (cell.hash, tx.lt, tx.account) != (name, lt, address):
            raise RemoteError("a transaction that was not asked for")
        page.append(tx)
        name, lt = _before(cell)
        if lt >= tx.lt:
            raise RemoteError("a transaction before itself")
        if lt == 0:
            break
    if not page:
        raise RemoteError("no transaction where one was named")
    return page, lt, name


def read_last(proof: bytes, address: Account) -> tuple[int, bytes]:
    """Time and hash of an account's last transaction, in the proof of its ShardAccount.

    Time 0 if the proof says nothing of it, as for an account that never was.
    """
    roots = read_boc(proof) if proof else []
    if len(roots) != 2:
        return 0, b""
    with _reading("proof of an account"):
        state = ShardStateUnsplit.deserialize(roots[1][0].begin_parse())
        entry = state.accounts[0].get(int.from_bytes(address, "big"))
        return (0, b"") if entry is None else (entry.last_trans_lt, entry.last_trans_hash)


def check_state(block_proof: Cell, state_proof: Cell, root_hash: bytes) -> None:
    """Check that a block of this hash ends in the state of `state_proof`."""
    with _reading("proof of a state"):
        check_proof(block_proof, root_hash)
        state_hash = check_block_header_proof(block_proof[0], root_hash, store_state_hash=True)
        check_proof(state_proof, state_hash)


def read_config(state_proof: Cell) -> tuple[int, Cell]:
    """The chain's global id and its configuration, in a proof of the masterchain's state.

    The dictionary stands in masterchain_state_extra#cc26, after the shards and an address.
    """
    with _reading("state of the masterchain"):
        state = state_proof[0]
        network: int = state.begin_parse().skip_bits(32).load_int(32)
        extra = state[3].begin_parse().skip_bits(16)
        if extra.load_bit():
            extra.load_ref()
        config: Cell = extra.load_ref()
        return network, config


def _before(transaction: Cell) -> tuple[bytes, int]:
    """Hash and time of the one before: they follow tag, account and time."""
    reader = transaction.begin_parse().skip_bits(4 + 256 + 64)
    return reader.load_bytes(32), reader.load_uint(64)


@contextmanager
def _reading(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever pytoniq-core runs into in a stranger's cells
        raise RemoteError(f"no {what}: {error!r}") from error
