"""Bugs, planted into the real code: each breaks one promise, and no other test of it is asked."""

from dataclasses import replace

from inference.meter import Spending
from ledger import mint, wire
from ledger.book import LockRow
from ledger.credit import Spend, worth
from ledger.mint import MintCore
from ledger.service import MintService
from ledger.sqlbook import SqlBook
from ledger.tick import Verifier
from ledger.till import Till
from p2p.errors import CodecError


def refund_twice(patch):
    """I1: what a lock leaves is change for the asker, and paid to the worker as well."""
    original = MintCore._finalise

    def finalise(self, book, lock):
        change = mint._change(lock)
        final = original(self, book, lock)
        self._pay(book, lock, worth(j for j, _ in change))
        return final

    patch.setattr(MintCore, "_finalise", finalise)


def no_nonce(patch):
    """I2: a settlement that is older than another is taken for the newest."""

    class Gullible:
        def __init__(self, root, n, index=0):
            self.index, self.newest, self._real = index, root, Verifier(root, n, index)

        def accept(self, i, x):
            if i > self.index:
                self._real.accept(i, x)
            self.index, self.newest = i, x

    original = MintCore._pay_ticks

    def pay_ticks(self, book, lock, ticks):
        if ticks.index >= lock.i:
            return original(self, book, lock, ticks)
        lock = replace(lock, i=ticks.index, x=ticks.newest)
        book.save_lock(lock)
        return lock

    patch.setattr(mint, "Verifier", Gullible)
    patch.setattr(MintCore, "_pay_ticks", pay_ticks)


def ticks_ahead(patch):
    """I4: an asker shows what pays for tokens that have not come."""
    original = Spending.due
    patch.setattr(Spending, "due", lambda self, count: self._bounded(original(self, count) + 2))


def nullifiers_in_memory(patch):
    """I5: which credits were spent is known until the mint is started again."""
    spent = {}
    begin, add = MintService.__init__, SqlBook.add_spent

    def begun(self, *args, **kwargs):
        spent.clear()
        begin(self, *args, **kwargs)

    def add_spent(self, epoch, ones, lock):
        for nullifier, _ in ones:
            spent[epoch, nullifier] = lock
            self._do("DELETE FROM nullifier WHERE epoch = ? AND n = ?", epoch, nullifier)
        add(self, epoch, ones, lock)

    def find(self, epoch, nullifiers):
        return next((spent[epoch, n] for n in nullifiers if (epoch, n) in spent), None)

    patch.setattr(MintService, "__init__", begun)
    patch.setattr(SqlBook, "add_spent", add_spent)
    patch.setattr(SqlBook, "spent", find)


def forgotten_timeout(patch):
    """I6: a settlement that is not answered in time is waited for, and not asked for again."""

    async def settle(self, held):
        while held.again:
            held.again = False
            await self._settle_once(held)
        held.settling = False

    patch.setattr(Till, "_settle", settle)


def lock_again(patch):
    """I7: a lock that is asked for again is made again."""
    original = MintCore.lock

    def lock(self, book, now, request, worker):
        spend = Spend.parse(request.spend)
        known = book.lock(spend.lock_id)
        if known is None or known.worker != worker:
            return original(self, book, now, request, worker)
        return self._receipt(LockRow.new(spend, known.nullifiers, request.lane, now))

    patch.setattr(MintCore, "lock", lock)


def unchecked_length(patch):
    """I11: a request that is cut off is read beyond its end."""
    original = wire.read_request

    def read_request(data):
        try:
            return original(data)
        except CodecError as error:
            raise IndexError("beyond the end") from error

    patch.setattr(wire, "read_request", read_request)
