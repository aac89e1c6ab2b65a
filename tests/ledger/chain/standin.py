"""A chain that says what it is told: enough of one to test the face and lite-clients."""

import trio
from pytoniq_core import Address, Cell, HashMap, begin_cell

from ledger.chain.base import GetFailed, Head, NotAccepted
from p2p.identity import Identity

NETWORK = -4242
KEY = Identity(bytes([7]) * 32)
ALICE = bytes([0x22]) * 32
NOBODY = bytes([0x23]) * 32


def shard_account(address, nano, lt=5, last_hash=bytes(32), data=None):
    """A ShardAccount with an active account in it."""
    init = begin_cell().store_uint(0, 2).store_maybe_ref(begin_cell().store_uint(1, 9).end_cell())
    init.store_maybe_ref(data).store_bit(0)
    inner = begin_cell().store_bit(1).store_address(Address((0, address)))
    inner.store_uint(0, 3 + 3 + 3).store_uint(7, 32).store_bit(0)
    inner.store_uint(lt, 64).store_coins(nano).store_bit(0)
    inner.store_bit(1).store_cell(init.end_cell())
    entry = begin_cell().store_ref(inner.end_cell()).store_bytes(last_hash)
    return entry.store_uint(lt, 64).end_cell()


def transaction(address, lt, before=(bytes(32), 0), fees=1):
    """An ordinary transaction that took in nothing and computed nothing."""
    messages = begin_cell().store_bit(0).store_bit(0).end_cell()
    update = begin_cell().store_uint(0x72, 8).store_bytes(bytes(64)).end_cell()
    # trans_ord, credit_first, no storage and credit phase, compute skipped for want of state
    description = begin_cell().store_uint(0, 4).store_bit(0).store_bit(0).store_bit(0)
    description.store_bit(0).store_uint(0, 2).store_bit(0).store_bit(1).store_bit(0).store_bit(0)
    cell = begin_cell().store_uint(0b0111, 4).store_bytes(address).store_uint(lt, 64)
    cell.store_bytes(before[0]).store_uint(before[1], 64).store_uint(1_700_000_000, 32)
    cell.store_uint(0, 15).store_uint(0b1010, 4).store_ref(messages)
    cell.store_coins(fees).store_bit(0).store_ref(update)
    return cell.store_ref(description.end_cell()).end_cell()


class StandIn:
    """One account, some transactions, and blocks when a test says so."""

    network = NETWORK

    def __init__(self):
        self.newest = Head(seqno=3, time=1_700_000_000, lt=3_000_000)
        self.accounts = {ALICE: shard_account(ALICE, 12_345)}
        self.past = {}
        self.sent = []
        self.refusal = None
        self.busy = trio.Event()
        self.let_go = None
        self.running = 0
        self._mined = trio.Event()

    def mine(self):
        head = self.newest
        self.newest = Head(seqno=head.seqno + 1, time=head.time + 1, lt=head.lt + 1_000_000)
        self._mined.set()
        self._mined = trio.Event()

    def live(self, address, count):
        """Give an account a past of `count` transactions."""
        cells, before = [], (bytes(32), 0)
        for number in range(1, count + 1):
            cells.append(transaction(address, number * 10, before, fees=number))
            before = (cells[-1].hash, number * 10)
        self.past[address] = cells
        self.accounts[address] = shard_account(address, 1, lt=before[1], last_hash=before[0])

    async def head(self):
        return self.newest

    async def wait(self, seqno):
        while self.newest.seqno < seqno:
            await self._mined.wait()
        return self.newest

    async def send(self, boc):
        if self.refusal:
            raise self.refusal
        self.sent.append(boc)
        return bytes(32)

    async def run_get(self, address, method, *args):
        if self.let_go is not None:
            self.running += 1
            self.busy.set()
            await self.let_go.wait()
        if address == NOBODY:
            raise GetFailed(-256)
        return (method, *args)

    async def shard_account(self, address):
        return self.accounts.get(address)

    async def raw_transactions(self, address, lt, limit):
        cells = [cell for at, cell in enumerate(self.past.get(address, []), 1) if at * 10 <= lt]
        return [(self.newest, cell) for cell in reversed(cells)][:limit]

    async def config(self):
        params = HashMap(32, value_serializer=lambda cell, into: into.store_ref(cell))
        params.set_int_key(18, storage_prices())
        params.set_int_key(21, prices(0xDD, 26_214_400, 0))
        params.set_int_key(25, prices(0xEA, 400_000, 26_214_400, 2_621_440_000))
        params.set_int_key(77, begin_cell().end_cell())
        return params.serialize()


def prices(tag, *numbers):
    cell = begin_cell().store_uint(tag, 8)
    for number in numbers:
        cell.store_uint(number, 64)
    return cell.store_uint(0, (5 * 64) if tag == 0xDD else 64).end_cell()


def storage_prices():
    value = begin_cell().store_uint(0xCC, 8).store_uint(0, 32).store_uint(1, 64).store_uint(500, 64)
    entries = HashMap(32, value_serializer=lambda cell, into: into.store_cell(cell))
    entries.set_int_key(0, value.store_uint(0, 128).end_cell())
    return entries.serialize()


def refusal(code):
    return NotAccepted("not accepted", code)


def deep(levels):
    """A cell whose tree has 2 ** levels leaves, and `levels` cells."""
    cell = begin_cell().end_cell()
    for _ in range(levels):
        cell = Cell(cell.bits, [cell, cell])
    return cell
