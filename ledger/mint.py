"""A mint: sells credits for vouchers, locks them for workers, pays by ticks, gives change.

    customer --voucher--> credits --spend--> lock --ticks--> worker's voucher
                             ^                 |
                             +---- change -----+

`MintCore` holds no money and remembers nothing: each method is one transaction on a `MintBook`, and
what it answers may leave once that is durable. It checks everything before it writes anything, so a
refusal is an `Err` and the book is as it was. Whatever it signs it signs the same again, so a reply
that was lost is had by asking again.

It knows customers by their lanes and workers by their ids, and never learns which of the former
paid which of the latter: credits are signed blind.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from hashlib import sha256
from hmac import compare_digest
from typing import Final, final

from ledger import wire
from ledger.book import Entry, Issued, LaneIn, LaneOut, LockRow, MintBook, Purchase, Sheet
from ledger.credit import (
    BUNDLES,
    EPOCH_SECONDS,
    Keyset,
    Signed,
    Spend,
    change_exponents,
    check,
    nullifier,
    owner_of,
    worth,
)
from ledger.lane import PayeeLane, PayerLane, Phase
from ledger.messages import (
    MAX_RESTORE,
    Buy,
    Change,
    Changed,
    Code,
    Err,
    KeysetList,
    Lock,
    Locked,
    Pending,
    Restore,
    Restored,
    Settle,
    Settled,
    Sigs,
    Swap,
    swap_root,
)
from ledger.mintkeys import MintKeys
from ledger.money import ZERO, Nano
from ledger.policy import Policy
from ledger.receipt import Iou, LockReceipt
from ledger.tick import Verifier
from ledger.voucher import Voucher
from p2p.errors import (
    BadPreimage,
    BadSignature,
    Closing,
    CodecError,
    OverCapacity,
    Stale,
)
from p2p.identity import AdnlId

MAX_LOCK: Final = 7_200
"""seconds from a lock to its expiry: an asker should not wait for its change for longer than an
answer can take."""

BATCH: Final = 64
"""locks finalised in one transaction: 50 ms of signing if all of them leave much change"""

_DAY: Final = 86_400


@final
class MintCore:
    """See the module. `fee_bp`, in 1/10,000, is what keysets published from now on say."""

    def __init__(self, keys: MintKeys, policy: Policy, fee_bp: int) -> None:
        self._keys = keys
        self._policy = policy
        self._fee_bp = fee_bp
        self._id = keys.identity.id
        self._parsed: dict[bytes, Keyset] = {}

    # --- customers ---

    def keysets(self, book: MintBook, now: float) -> KeysetList:
        """All that can still be swapped, that on sale last; publishes it if it is not there."""
        self._on_sale(book, now)
        return KeysetList(tuple(k.signed for k in self._live(book) if k.swappable(now)))

    def buy(self, book: MintBook, now: float, request: Buy) -> Sigs | Err:
        """Sell a bundle for a voucher."""
        digest = sha256(wire.encode(request)).digest()
        known = book.purchase(request.rid)
        if known is not None:
            return self._sold_before(known, digest, request)

        keyset = self._on_sale(book, now)
        exponents = BUNDLES.get(request.bundle, ())
        if not exponents or len(exponents) != len(request.outputs):
            return Err(Code.BAD_REQUEST, "no such bundle, or not its number of outputs")
        if request.epoch != keyset.epoch:
            return Err(Code.STALE_KEYSET, f"on sale is epoch {keyset.epoch}")
        paid = self._paid(book, now, request.voucher, keyset.price(exponents))
        if isinstance(paid, Err):
            return paid
        outputs = tuple(zip(exponents, request.outputs, strict=True))
        sigs = self._sign_new(book, keyset, outputs)
        if isinstance(sigs, Err):
            return sigs

        book.save_lane_in(paid)
        book.add_purchase(Purchase(rid=request.rid, epoch=keyset.epoch, digest=digest))
        _issue(book, keyset.epoch, outputs, request.rid)
        fee = keyset.price(exponents) - worth(exponents)
        book.post(_day(now), Entry.FEE, fee)
        return sigs

    def change(self, book: MintBook, now: float, request: Change) -> Changed | Pending | Err:
        """What a lock left over, once the worker is done or its time is."""
        lock = book.lock(request.lock)
        if lock is None:
            return Err(Code.UNKNOWN_LOCK)
        if not compare_digest(owner_of(request.secret), lock.owner):
            return Err(Code.BAD_AUTH, "not the secret of this lock")
        lock = self._lapse(book, now, lock)
        if not lock.final:
            return Pending(self._deadline(lock.expiry))
        return Changed(paid_ticks=lock.i, sigs=self._change_of(book, lock))

    def swap(self, book: MintBook, now: float, request: Swap) -> Sigs | Err:
        """Credits of any live epoch for those on sale. `expiry` of the spend does not matter."""
        try:
            spend = Spend.parse(request.spend)
        except CodecError as error:
            return Err(Code.BAD_REQUEST, str(error))
        keyset = self._keyset(book, spend.terms.epoch)
        refusal = self._no_swap(spend, request)
        if refusal is not None:
            return refusal
        if keyset is None or not keyset.swappable(now):
            return Err(Code.EXPIRED, "credits of an epoch that is over")
        if book.spent(keyset.epoch, _nullifiers(keyset, spend)) == spend.lock_id:
            return self._sign_again(book, spend.lock_id, [B for _, B in request.outputs])
        return self._swap_new(book, now, spend, keyset, request)

    def restore(self, book: MintBook, now: float, request: Restore) -> Restored:
        """Which of these were signed: for who has lost all but the seed."""
        rows = [row for blind in request.blinds for row in book.issued(blind)]
        found = ((row.blind, row.j, self._sign_row(row)) for row in rows[:MAX_RESTORE])
        return Restored(tuple(found))

    # --- workers, whose links say who they are ---

    def lock(self, book: MintBook, now: float, request: Lock, worker: AdnlId) -> Locked | Err:
        """Spend coins and hold them for a worker; the same spend again has the same answer."""
        try:
            spend = Spend.parse(request.spend)
        except CodecError as error:
            return Err(Code.BAD_REQUEST, str(error))
        known = book.lock(spend.lock_id)
        if known is not None and known.worker == worker:
            return self._receipt(known)

        keyset = self._keyset(book, spend.terms.epoch)
        refusal = self._wrong_terms(spend, worker)
        if refusal is not None:
            return refusal
        if keyset is None or not keyset.spendable(now) or not self._in_time(spend, now):
            return Err(Code.EXPIRED, "too late for these credits, or for this session")
        nullifiers = _nullifiers(keyset, spend)
        refusal = self._bad_coins(book, spend, nullifiers) or self._no_room(book, request, spend)
        if refusal is not None:
            return refusal
        lock = LockRow.new(spend, nullifiers, request.lane, now)
        _spend(book, spend, nullifiers)
        book.save_lock(lock)
        return self._receipt(lock)

    def settle(self, book: MintBook, now: float, request: Settle, worker: AdnlId) -> Settled | Err:
        """Pay for ticks; old ones again change nothing. `final` leaves the rest to the asker."""
        lock = book.lock(request.lock)
        if lock is None or lock.worker != worker:
            return Err(Code.UNKNOWN_LOCK)
        lock = self._lapse(book, now, lock)
        if lock.final:
            late = request.i > lock.i
            return Err(Code.EXPIRED) if late else self._settled(book, now, lock)

        ticks = Verifier(lock.x, lock.ticks, lock.i)
        try:
            ticks.accept(request.i, request.x)
        except BadPreimage as error:
            return Err(Code.BAD_PREIMAGE, str(error))
        lock = self._pay_ticks(book, lock, ticks)
        if request.final:
            lock = self._finalise(book, lock)
        return self._settled(book, now, lock)

    def clear(self, book: MintBook, worker: AdnlId) -> Voucher | None:
        """Pay what is owed onto the worker's lane, as far as it reaches; its newest voucher."""
        out = book.payout(worker)
        if out is None:
            return None
        free = _less(PayerLane(out.row).capacity, book.reserved(out.row.lane))
        owed = book.owed(worker)
        amount = min(owed, free)
        if amount:
            book.save_owed(worker, owed - amount)
            out = self._give(book, out, amount)
        return self._voucher(out)

    # --- time, and the books ---

    def expire(self, book: MintBook, now: float) -> int:
        """Finalise locks whose time is up, at most `BATCH`, and drop epochs that are over.

        Returns how many locks; if that is `BATCH` there may be more.
        """
        self._on_sale(book, now)
        due = book.due(now - self._policy.final_delay, BATCH)
        for lock in due:
            self._finalise(book, lock)
        if len(due) < BATCH:
            self._drop_old(book, now)
        return len(due)

    def next_deadline(self, book: MintBook, now: float) -> float:
        """When `expire` has something to do: a lock's time is up, or a new epoch begins."""
        epoch = (int(now) // EPOCH_SECONDS + 1) * EPOCH_SECONDS
        expiry = book.first_expiry()
        return epoch if expiry is None else min(epoch, self._deadline(expiry))

    def audit(self, book: MintBook) -> Sheet:
        """The balance sheet, whose difference must be zero."""
        return book.sheet()

    # --- keysets ---

    def _on_sale(self, book: MintBook, now: float) -> Keyset:
        """The book decides, not the settings: two keysets signed for one epoch would be fraud."""
        epoch = int(now) // EPOCH_SECONDS
        keyset = self._keyset(book, epoch)
        if keyset is None:
            keyset = self._keys.keyset(epoch, self._fee_bp)
            book.add_keyset(epoch, keyset.signed)
        return keyset

    def _keyset(self, book: MintBook, epoch: int) -> Keyset | None:
        return next((k for k in self._live(book) if k.epoch == epoch), None)

    def _live(self, book: MintBook) -> Sequence[Keyset]:
        return [self._parse(signed) for signed in book.keysets()]

    def _parse(self, signed: bytes) -> Keyset:
        """Remembered, since reading one takes 0.5 ms."""
        if signed not in self._parsed:
            self._parsed[signed] = Keyset.parse(signed, self._keys.identity.public)
        return self._parsed[signed]

    def _drop_old(self, book: MintBook, now: float) -> None:
        for keyset in self._live(book):
            if not keyset.swappable(now):
                book.post(_day(now), Entry.EXPIRED, book.outstanding(keyset.epoch))
                book.drop_epoch(keyset.epoch)
                del self._parsed[keyset.signed]
                self._keys.forget(keyset.epoch)

    # --- selling and signing ---

    def _paid(self, book: MintBook, now: float, voucher: Voucher, price: Nano) -> LaneIn | Err:
        """The customer's lane as it will be, nothing written yet.

        What a voucher promises beyond the price waits for the next purchase: a customer that was
        refused shows the same voucher again.
        """
        lane = book.lane_in(voucher.lane)
        if lane is None:
            return Err(Code.UNKNOWN_LANE)
        payee = PayeeLane(lane.row)
        try:
            payee.receive(voucher, now)
        except (BadSignature, Closing, OverCapacity, Stale) as error:
            return Err(Code.VOUCHER, str(error))
        charged = lane.charged + price
        if charged > payee.row.cumulative:
            return Err(Code.PRICE, f"the voucher must promise {charged}")
        return LaneIn(row=payee.row, charged=charged)

    def _sold_before(self, known: Purchase, digest: bytes, request: Buy) -> Sigs | Err:
        if known.digest != digest:
            return Err(Code.BAD_REQUEST, "another purchase has this id")
        outputs = zip(BUNDLES[request.bundle], request.outputs, strict=True)
        return Sigs(tuple(self._keys.sign(known.epoch, j, B) for j, B in outputs))

    def _sign_new(
        self, book: MintBook, keyset: Keyset, outputs: Sequence[tuple[int, bytes]]
    ) -> Sigs | Err:
        blinds = [B for _, B in outputs]
        if len(dict.fromkeys(blinds)) != len(blinds):
            return Err(Code.BAD_REQUEST, "an output stands twice")
        if any(book.issued(B) for B in blinds):
            return Err(Code.BAD_REQUEST, "an output was signed before")
        try:
            return Sigs(tuple(self._keys.sign(keyset.epoch, j, B) for j, B in outputs))
        except CodecError as error:
            return Err(Code.BAD_REQUEST, str(error))

    def _no_swap(self, spend: Spend, request: Swap) -> Err | None:
        terms = spend.terms
        if terms.mint != self._id or terms.payee != self._id:
            return Err(Code.BAD_REQUEST, "not a spend to this mint")
        if terms.root != swap_root(request.epoch, request.outputs):
            return Err(Code.BAD_AUTH, "a spend for other outputs")
        if worth(j for j, _ in request.outputs) != spend.amount:
            return Err(Code.BAD_REQUEST, "the outputs are worth something else")
        return None

    def _swap_new(
        self, book: MintBook, now: float, spend: Spend, old: Keyset, request: Swap
    ) -> Sigs | Err:
        new = self._on_sale(book, now)
        if request.epoch != new.epoch:
            return Err(Code.STALE_KEYSET, f"on sale is epoch {new.epoch}")
        nullifiers = _nullifiers(old, spend)
        refusal = self._bad_coins(book, spend, nullifiers)
        if refusal is not None:
            return refusal
        sigs = self._sign_new(book, new, request.outputs)
        if isinstance(sigs, Sigs):
            _spend(book, spend, nullifiers)
            _issue(book, new.epoch, request.outputs, spend.lock_id)
        return sigs

    def _sign_again(self, book: MintBook, source: bytes, blinds: Sequence[bytes]) -> Sigs | Err:
        rows = _issued_by(book, source, blinds)
        if len(rows) != len(blinds):
            return Err(Code.EXPIRED, "the epoch of that swap is over")
        return Sigs(tuple(self._sign_row(row) for row in rows))

    def _sign_row(self, row: Issued) -> Signed:
        return self._keys.sign(row.epoch, row.j, row.blind)

    # --- locks ---

    def _in_time(self, spend: Spend, now: float) -> bool:
        return now + self._policy.least_lock <= spend.terms.expiry <= now + MAX_LOCK

    def _wrong_terms(self, spend: Spend, worker: AdnlId) -> Err | None:
        if spend.terms.mint != self._id:
            return Err(Code.BAD_REQUEST, "credits of another mint")
        if spend.terms.payee != worker:
            return Err(Code.BAD_AUTH, "a spend to somebody else")
        return None

    def _bad_coins(self, book: MintBook, spend: Spend, nullifiers: Sequence[bytes]) -> Err | None:
        """One bad coin refuses all. The look-up comes first: it is cheaper than the group."""
        other = book.spent(spend.terms.epoch, nullifiers)
        if other is not None:
            return Err(Code.SPENT, other.hex())
        try:
            check(spend, self._keys.secrets(spend.terms.epoch))
        except BadSignature as error:
            return Err(Code.BAD_AUTH, str(error))
        return None

    def _no_room(self, book: MintBook, request: Lock, spend: Spend) -> Err | None:
        """All of the amount must be payable, for all of it may become ticks."""
        worker = spend.terms.payee
        if request.lane is None:
            promised = book.owed(worker) + book.reserved_debt(worker)
            room = self._policy.iou_limit
        else:
            out = book.lane_out(request.lane)
            if out is None or out.worker != worker:
                return Err(Code.NO_CAPACITY, "no lane to this worker")
            promised = book.reserved(request.lane)
            room = PayerLane(out.row).capacity
        if promised + spend.amount > room:
            return Err(Code.NO_CAPACITY, f"{_less(room, promised)} left")
        return None

    def _receipt(self, lock: LockRow) -> Locked:
        receipt = LockReceipt(
            lock=lock.id,
            worker=lock.worker,
            session=lock.session,
            amount=lock.amount,
            tick=lock.tick,
            ticks=lock.ticks,
            root=lock.root,
            expiry=lock.expiry,
            issued=lock.issued,
            nullifiers=lock.nullifiers,
        )
        return Locked(receipt.sign(self._keys.identity))

    def _deadline(self, expiry: int) -> int:
        return expiry + self._policy.final_delay

    def _lapse(self, book: MintBook, now: float, lock: LockRow) -> LockRow:
        """A lock whose time is up is final, whether or not `expire` has come by."""
        over = not lock.final and self._deadline(lock.expiry) <= now
        return self._finalise(book, lock) if over else lock

    def _finalise(self, book: MintBook, lock: LockRow) -> LockRow:
        """Sign the change; what is too little for a credit, or has no blank, is the worker's."""
        change = _change(lock)
        rest = lock.unpaid - worth(j for j, _ in change)
        lock = replace(lock, final=True)
        book.save_lock(lock)
        _issue(book, lock.epoch, change, lock.id)
        self._pay(book, lock, rest)
        return lock

    def _change_of(self, book: MintBook, lock: LockRow) -> tuple[tuple[int, Signed], ...]:
        given = _issued_by(book, lock.id, lock.blanks)
        return tuple((row.j, self._sign_row(row)) for row in given)

    # --- paying workers ---

    def _pay_ticks(self, book: MintBook, lock: LockRow, ticks: Verifier) -> LockRow:
        due = lock.tick * (ticks.index - lock.i)
        lock = replace(lock, i=ticks.index, x=ticks.newest)
        book.save_lock(lock)
        self._pay(book, lock, due)
        return lock

    def _pay(self, book: MintBook, lock: LockRow, due: Nano) -> None:
        """Onto the lane of the lock; if that has closed meanwhile, it is owed."""
        if not due:
            return
        out = book.lane_out(lock.lane) if lock.lane is not None else None
        if out is not None and due <= PayerLane(out.row).capacity:
            self._give(book, out, due)
        else:
            book.save_owed(lock.worker, book.owed(lock.worker) + due)
            self.clear(book, lock.worker)

    def _give(self, book: MintBook, out: LaneOut, amount: Nano) -> LaneOut:
        lane = PayerLane(out.row)
        lane.pay(amount, self._keys.payer(out.row.config.lane_id))
        out = replace(out, row=lane.row)
        book.save_lane_out(out)
        return out

    def _voucher(self, out: LaneOut) -> Voucher:
        return PayerLane(out.row).voucher(self._keys.payer(out.row.config.lane_id))

    def _settled(self, book: MintBook, now: float, lock: LockRow) -> Settled:
        out = book.lane_out(lock.lane) if lock.lane is not None else None
        if out is None or out.row.phase is not Phase.OPEN:
            out = book.payout(lock.worker)
        owed = book.owed(lock.worker)
        iou = Iou(worker=lock.worker, owed=owed, at=int(now))
        return Settled(
            i=lock.i,
            voucher=None if out is None else self._voucher(out),
            iou=iou.sign(self._keys.identity) if owed else None,
            change_ready=lock.final,
        )


def _nullifiers(keyset: Keyset, spend: Spend) -> tuple[bytes, ...]:
    return tuple(nullifier(keyset.key(j), m) for j, m in spend.coins)


def _spend(book: MintBook, spend: Spend, nullifiers: Sequence[bytes]) -> None:
    exponents = (j for j, _ in spend.coins)
    spent = tuple(zip(nullifiers, exponents, strict=True))
    book.add_spent(spend.terms.epoch, spent, spend.lock_id)


def _issue(book: MintBook, epoch: int, outputs: Iterable[tuple[int, bytes]], source: bytes) -> None:
    rows = [Issued(blind=B, epoch=epoch, j=j, source=source) for j, B in outputs]
    book.add_issued(rows)


def _issued_by(book: MintBook, source: bytes, blinds: Iterable[bytes]) -> list[Issued]:
    """What a purchase, swap or lock had signed, in the order of its blinds."""
    return [row for B in blinds for row in book.issued(B) if row.source == source]


def _change(lock: LockRow) -> list[tuple[int, bytes]]:
    """The binary digits of what is left, the greatest first, each on the next blank.

    Whether a blank was signed before for somebody else does not matter: a worker sees the blanks
    before it settles and could buy with them, and the change would be its own.
    """
    digits = reversed(change_exponents(lock.unpaid))
    return list(zip(digits, lock.blanks, strict=False))


def _day(now: float) -> int:
    return int(now) // _DAY


def _less(amount: Nano, taken: Nano) -> Nano:
    return amount - taken if amount > taken else ZERO
