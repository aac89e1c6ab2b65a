"""A worker's till: locks what askers pay at their mint, keeps ticks, has the mint pay for them.

Nothing is worked for before the mint has locked it and we have written that down; nothing counts as
paid before the mint's voucher is in the store. What a stop interrupts is settled at the next start:
its newest tick is on the disk.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, final

import structlog
import trio

from ledger import lane_rows, takings, wire
from ledger.credit import Spend
from ledger.lane import Phase, Role
from ledger.lanes import Lanes
from ledger.messages import (
    Code,
    Err,
    LaneClose,
    LaneProgress,
    LanePropose,
    LaneTerms,
    LaneVoucher,
    LaneWant,
    Reply,
    Settle,
    Settled,
)
from ledger.messages import Lock as LockRequest
from ledger.messages import Locked as LockedReply
from ledger.money import ZERO, Nano
from ledger.orders import LIFE as ORDER_LIFE
from ledger.payee import Payee
from ledger.payment import Decline, Locked
from ledger.payouts import Caller, call
from ledger.policy import Policy
from ledger.receipt import Iou, LockReceipt
from ledger.store import Connection, Store
from ledger.takings import Taking
from ledger.voucher import Voucher
from p2p.drive import Clock
from p2p.entropy import Entropy
from p2p.errors import (
    BadSignature,
    Closing,
    CodecError,
    LocalError,
    OverCapacity,
    RemoteError,
    Stale,
    Unreachable,
)
from p2p.identity import AdnlId

if TYPE_CHECKING:  # the stubs that libp2p brings stand before trio's own types
    from trio_typing import TaskStatus

MOST_MINTS: Final = 4
"""whose credits an offer can name"""

LOCK_PAUSES: Final = (0.0, 0.3, 1.2)
"""seconds before each try at a lock; a mint that was away for a moment hears the next one"""

LOCK_TIME: Final = 11.0
"""seconds for all of them: the asker is told that the mint is silent after twelve"""

AGAIN_FIRST, AGAIN_LAST = 0.5, 30.0
"""seconds between tries at a mint that does not answer: doubled from the first to the last"""

WANT_FIRST, WANT_LAST = 0.5, 60.0
"""seconds between requests for a lane

All pauses are half as long again or less, at random: a mint that comes back is not met by all of
its workers at once.
"""

SWEEP: Final = 30.0
"""seconds between looks for sessions that are past their time: a mint waits 120 for us"""

PATIENCE: Final = 86_400
"""seconds past its expiry that a lock is asked for; then its mint is given up"""

log = structlog.get_logger()

_DECLINES: Final = {
    Code.SPENT: Decline.SPENT,
    Code.BAD_AUTH: Decline.BAD_AUTH,
    Code.EXPIRED: Decline.EXPIRED,
    Code.NO_CAPACITY: Decline.NO_CAPACITY,
    Code.BUSY: Decline.BUSY,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TillStatistics:
    """A snapshot."""

    open: int
    """sessions that are not wholly settled"""
    locked: int
    declined: int
    settled: int
    """sessions settled since the start"""
    lanes: int
    """mints with an open lane to us"""


@dataclass(slots=True)
class _Session:
    """A taking in memory, newer than its row by milliseconds."""

    taking: Taking
    wanted: int = 0
    """ticks to be paid, of those that were kept"""
    settling: bool = False
    again: bool = False
    """Asked for while under way."""


@final
class Till:
    """See the module, and `payment.Till`. `run` must run for `keep` and `settle` to be done."""

    def __init__(
        self,
        me: AdnlId,
        caller: Caller,
        store: Store,
        lanes: Lanes,
        payee: Payee,
        policy: Policy,
        clock: Clock,
        *,
        mints: Sequence[AdnlId],
        public: Callable[[AdnlId], bytes | None],
        entropy: Entropy,
    ) -> None:
        """`mints`: whose credits we take, the dearest first; `public`: a listed node's key."""
        self._me = me
        self._caller = caller
        self._store = store
        self._lanes = lanes
        self._payee = payee
        self._policy = policy
        self._clock = clock
        self._trusted = tuple(mints)
        self._public = public
        self._entropy = entropy

        self._open: dict[AdnlId, bytes] = {}
        self._sessions: dict[bytes, _Session] = {}
        # One at a time for each mint: of two answers the later says what the mint owes now.
        self._turns: defaultdict[AdnlId, trio.Lock] = defaultdict(trio.Lock)
        self._unkept: dict[bytes, Taking] = {}
        self._kept = trio.Event()
        self._nursery: trio.Nursery | None = None
        self._stopped = False
        self._locked = self._declined = self._settled = 0

    async def run(self, *, task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        """Keep, settle and see to lanes until cancelled; takes up what a stop interrupted."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                await self._resume()
                nursery.start_soon(self._keep)
                nursery.start_soon(self._sweep)
                for mint in self._trusted:
                    nursery.start_soon(self._tend, mint)
                task_status.started()
                try:
                    await trio.sleep_forever()
                finally:  # before the nursery closes: who stops with us may still settle
                    self._nursery = None
        finally:
            self._nursery, self._stopped = None, True
            self._flush()

    def statistics(self) -> TillStatistics:
        """A snapshot."""
        return TillStatistics(
            open=len(self._sessions),
            locked=self._locked,
            declined=self._declined,
            settled=self._settled,
            lanes=len(self._open),
        )

    # --- what a mint asks of us ---

    async def answer_peer(self, peer: AdnlId, body: bytes) -> bytes:
        """The reply to a request over a link, for a node that is no mint itself."""
        reply: Reply
        try:
            request = wire.read_request(body)
        except CodecError as error:
            return wire.encode(Err(Code.BAD_REQUEST, str(error)))
        match request:
            case LaneTerms() | LanePropose() | LaneVoucher() | LaneClose():
                reply = await self._payee.answer(request, peer)
            case _:
                reply = Err(Code.BAD_REQUEST, "not a mint")
        return wire.encode(reply)

    # --- the seam ---

    def mints(self) -> Sequence[AdnlId]:
        """Whose credits are taken, at most 4; empty while none can be."""
        return [mint for mint in self._trusted if self._takes(mint)][:MOST_MINTS]

    async def lock(self, spend: bytes, session: bytes, tick: Nano) -> Locked | Decline:
        """Check a spend against our offer and lock it at its mint. A silent mint is BUSY."""
        result = await self._lock(spend, session, tick)
        if isinstance(result, Decline):
            self._declined += 1
        else:
            self._locked += 1
        return result

    def keep(self, lock_id: bytes, index: int, preimage: bytes) -> None:
        """The newest tick: durable with the next commit."""
        held = self._sessions.get(lock_id)
        if held is None or held.taking.final or index <= held.taking.i:
            return
        held.taking = replace(held.taking, i=index, x=preimage)
        self._to_disk(held)

    def settle(self, lock_id: bytes, *, final: bool, ticks: int) -> None:
        """Have the mint pay `ticks`, were later ones kept too; repeated until it does."""
        held = self._sessions.get(lock_id)
        if held is None or held.taking.final:
            return
        held.wanted = max(held.wanted, ticks)
        if final:
            held.taking = replace(held.taking.upto(held.wanted), final=True)
            self._to_disk(held)
        self._begin(held)

    def bill(self, lock_id: bytes, receipt: bytes) -> None:
        """Keep a receipt that we have signed."""
        with suppress(LocalError):  # the disk, which the store logs, or one that is closed
            self._store.post(lambda c: takings.bill(c, lock_id, receipt))

    # --- locking ---

    async def _lock(self, data: bytes, session: bytes, tick: Nano) -> Locked | Decline:
        try:
            spend = Spend.parse(data)
        except CodecError:
            return Decline.TERMS
        terms = spend.terms
        public = self._public(terms.mint)
        if (terms.payee, terms.session) != (self._me, session) or terms.tick != tick:
            return Decline.TERMS
        if public is None or terms.mint not in self.mints():
            return Decline.TERMS
        receipt = await self._ask_lock(spend, public)
        if isinstance(receipt, Decline):
            return receipt
        try:
            new = await self._take(spend)
        except LocalError:  # the disk, which the store has logged
            return Decline.BUSY
        if not new:
            return Decline.SPENT
        return Locked(
            lock_id=spend.lock_id,
            receipt=receipt,
            tick=terms.tick,
            ticks=terms.ticks,
            root=terms.root,
            expiry=terms.expiry,
        )

    async def _ask_lock(self, spend: Spend, public: bytes) -> bytes | Decline:
        """The mint's receipt."""
        mint = spend.terms.mint
        reply = await self._call(mint, LockRequest(spend.encode(), self._open.get(mint)))
        if isinstance(reply, Err):
            return _DECLINES.get(reply.code, Decline.TERMS)
        if not _is_of(reply.receipt, spend, public):
            log.warning("till.receipt.wrong", mint=mint.hex()[:8])
            return Decline.BUSY
        return reply.receipt

    async def _call(self, mint: AdnlId, request: LockRequest) -> LockedReply | Err:
        """The same request again is harmless: a lost one is repeated, one that came amiss, too."""
        reply: LockedReply | Err = Err(Code.BUSY)
        with trio.move_on_after(LOCK_TIME):
            for pause in LOCK_PAUSES:
                await trio.sleep(self._about(pause))
                reply = await self._call_once(mint, request)
                if not isinstance(reply, Err) or reply.code is not Code.BUSY:
                    break
        return reply

    async def _call_once(self, mint: AdnlId, request: LockRequest) -> LockedReply | Err:
        try:
            return await call(self._caller, mint, request, LockedReply)
        except (Unreachable, RemoteError, LocalError) as error:
            log.info("till.lock.unanswered", mint=mint.hex()[:8], reason=str(error))
            return Err(Code.BUSY)

    async def _take(self, spend: Spend) -> bool:
        """Durable before any work: what we forget, the asker gets back as change.

        False for one that was taken before: the mint says yes to it again, but it pays once.
        """
        terms = spend.terms
        taking = Taking(
            lock=spend.lock_id,
            session=terms.session,
            mint=terms.mint,
            tick=terms.tick,
            ticks=terms.ticks,
            expiry=terms.expiry,
            x=terms.root,
        )
        new = await self._store.write(lambda c: takings.add(c, taking))
        if new:
            self._sessions[taking.lock] = _Session(taking)
        return new

    def _about(self, seconds: float) -> float:
        return seconds * (0.5 + self._entropy.uniform())

    # --- keeping ---

    def _to_disk(self, held: _Session) -> None:
        self._unkept[held.taking.lock] = held.taking
        if self._stopped:
            self._flush()
        else:
            self._kept.set()

    async def _keep(self) -> None:
        while True:
            await self._kept.wait()
            self._kept = trio.Event()
            await self._save()

    async def _save(self) -> None:
        unkept, self._unkept = self._unkept, {}
        try:
            await self._store.write(lambda c: _keep_all(c, unkept))
        except LocalError:  # the disk, which the store has logged: newer ticks come before these
            self._unkept = {**unkept, **self._unkept}
            self._kept.set()
            await trio.sleep(AGAIN_FIRST)

    def _flush(self) -> None:
        unkept, self._unkept = self._unkept, {}
        with suppress(LocalError):  # the disk: the store has logged it
            self._store.post(lambda c: _keep_all(c, unkept))

    # --- settling ---

    async def _resume(self) -> None:
        """Whatever was being answered when we stopped is over."""
        await self._store.write(takings.close_all)
        for taking in await self._store.read(takings.unfinished):
            held = self._sessions[taking.lock] = _Session(taking, taking.i)
            self._begin(held)

    async def _sweep(self) -> None:
        """Whatever happened to the work: what is past its time is settled."""
        while True:
            await trio.sleep(SWEEP)
            now = self._clock.now()
            for held in list(self._sessions.values()):
                if held.taking.expiry < now and not held.taking.final:
                    self.settle(held.taking.lock, final=True, ticks=held.taking.i)

    def _begin(self, held: _Session) -> None:
        """Once this till has stopped, the next one does it."""
        held.again = True
        if not held.settling and self._nursery is not None:
            held.settling = True
            self._nursery.start_soon(self._settle, held)

    async def _settle(self, held: _Session) -> None:
        """Until the mint has paid what was asked for last."""
        wait = AGAIN_FIRST
        while held.again:
            held.again = False
            if await self._settle_once(held):
                wait = AGAIN_FIRST
                continue
            held.again = True
            await trio.sleep(self._about(wait))
            wait = min(wait * 2, AGAIN_LAST)
        held.settling = False

    async def _settle_once(self, held: _Session) -> bool:
        """Whether the mint has answered for good."""
        taking = held.taking.upto(held.wanted)
        if taking.i <= taking.settled and not taking.final:
            return True
        try:
            if self._clock.now() > taking.expiry + PATIENCE:
                log.warning("till.given.up", mint=taking.mint.hex()[:8], ticks=taking.i)
                await self._finish(held)
                return True
            async with self._turns[taking.mint]:
                return await self._ask_settle(held, taking)
        except (Unreachable, RemoteError, LocalError) as error:
            log.info("till.settle.postponed", mint=taking.mint.hex()[:8], reason=str(error))
            return False

    async def _ask_settle(self, held: _Session, taking: Taking) -> bool:
        request = Settle(lock=taking.lock, i=taking.i, x=taking.x, final=taking.final)
        reply = await call(self._caller, taking.mint, request, Settled)
        if isinstance(reply, Err):
            return await self._refused(held, reply)
        return await self._paid(held, taking, reply)

    async def _refused(self, held: _Session, err: Err) -> bool:
        if err.code not in (Code.EXPIRED, Code.UNKNOWN_LOCK, Code.BAD_PREIMAGE):
            return False
        taking = held.taking.upto(held.wanted)
        log.warning("till.settle.refused", code=err.code.value, ticks=taking.i)
        if err.code is Code.EXPIRED and taking.i > taking.settled:
            # The lock ended before our newest ticks came; what was paid is still to be had.
            held.wanted = taking.settled
            held.taking = replace(taking.upto(taking.settled), final=True)
            held.again = True
            return True
        await self._finish(held)
        return True

    async def _paid(self, held: _Session, asked: Taking, reply: Settled) -> bool:
        """The voucher is durable before the ticks count as settled."""
        if reply.voucher is not None and not await self._receive(asked.mint, reply.voucher):
            return False
        iou = self._iou(asked.mint, reply)
        settled = max(held.taking.settled, reply.i)
        held.taking = replace(held.taking, settled=settled)

        def write(connection: Connection) -> takings.Account:
            takings.paid(connection, asked.lock, settled)
            takings.owe(connection, asked.mint, iou, reply.iou)
            return takings.account(connection, asked.mint)

        self._judge(asked.mint, await self._store.write(write))
        if asked.final and reply.change_ready:
            await self._finish(held)
        return True

    async def _receive(self, mint: AdnlId, voucher: Voucher) -> bool:
        try:
            await self._lanes.receive(voucher)
        except (BadSignature, Closing, OverCapacity, Stale) as error:
            log.warning("till.voucher.refused", mint=mint.hex()[:8], reason=str(error))
            return False
        return True

    def _iou(self, mint: AdnlId, reply: Settled) -> Iou | None:
        """What the mint owes us, in its own words. Raises `RemoteError` if they are none."""
        public = self._public(mint)
        if reply.iou is None or public is None:
            return None
        iou = Iou.parse(reply.iou, public)
        if iou.worker != self._me:
            raise BadSignature("a debt to somebody else")
        return iou

    def _judge(self, mint: AdnlId, account: takings.Account) -> None:
        """A mint that says it paid what we do not hold gets no more work."""
        if account.is_short:
            log.warning("till.short", mint=mint.hex()[:8], earned=str(account.earned))
            self._trusted = tuple(other for other in self._trusted if other != mint)

    async def _finish(self, held: _Session) -> None:
        await self._store.write(lambda c: takings.finish(c, held.taking.lock))
        self._sessions.pop(held.taking.lock, None)
        self._settled += 1

    # --- lanes from mints ---

    def _takes(self, mint: AdnlId) -> bool:
        if self._public(mint) is None:
            return False
        return mint in self._open or self._policy.iou_limit > ZERO

    async def _tend(self, mint: AdnlId) -> None:
        """See to it that the mint has a lane to us."""
        wait = WANT_FIRST
        while True:
            if await self._needs_lane(mint):
                await self._want(mint)
                await self._pause(self._about(wait))
                wait = min(wait * 2, WANT_LAST)
            else:
                wait = WANT_FIRST
                await self._pause(self._policy.watch_every)

    async def _needs_lane(self, mint: AdnlId) -> bool:
        """Whether there is none, and we have not closed one lately: who did wants none."""
        try:
            lane, closed_at = await self._store.read(lambda c: _newest_lane(c, mint))
        except LocalError as error:  # the disk, which the store has logged: as it was
            log.info("till.lane.unread", reason=str(error))
            return False
        if lane is not None:
            self._open[mint] = lane
            return False
        self._open.pop(mint, None)
        return self._clock.now() >= closed_at + self._policy.lane_rest

    async def _pause(self, seconds: float) -> None:
        """Shorter if a lane is accepted meanwhile."""
        with trio.move_on_after(seconds):
            await self._payee.accepted()

    async def _want(self, mint: AdnlId) -> None:
        if self._public(mint) is None:
            return
        try:
            reply = await call(self._caller, mint, LaneWant(), LaneProgress)
        except (Unreachable, RemoteError, LocalError) as error:
            log.info("till.lane.unanswered", mint=mint.hex()[:8], reason=str(error))
            return
        state = reply.code.value if isinstance(reply, Err) else reply.state.value
        log.info("till.lane.wanted", mint=mint.hex()[:8], state=state)


def _keep_all(connection: Connection, unkept: dict[bytes, Taking]) -> None:
    for taking in unkept.values():
        takings.keep(connection, taking)


def _newest_lane(connection: Connection, mint: AdnlId) -> tuple[bytes | None, float]:
    """The open lane, and when the last close that we signed was signed, 0 for never."""
    rows = lane_rows.every(connection, Role.PAYEE, of=mint, live=True)
    lane = next((row.lane for row in rows if row.phase is Phase.OPEN), None)
    signed = lane_rows.last_close(connection, Role.PAYEE, mint)
    return lane, float(max(0, signed - ORDER_LIFE))


def _is_of(signed: bytes, spend: Spend, public: bytes) -> bool:
    """Whether a receipt is the mint's, for exactly this spend."""
    try:
        receipt = LockReceipt.parse(signed, public)
    except (BadSignature, CodecError):
        return False
    terms = spend.terms
    return (receipt.lock, receipt.worker, receipt.session, receipt.root) == (
        spend.lock_id,
        terms.payee,
        terms.session,
        terms.root,
    ) and (receipt.amount, receipt.tick, receipt.ticks, receipt.expiry) == (
        spend.amount,
        terms.tick,
        terms.ticks,
        terms.expiry,
    )
