"""What a payee answers about lanes to it: a mint to its customers, a worker to its mints.

Whoever asks over a circuit is nobody; over a link it is a peer, and a lane of its own stays its
own. Proposals and vouchers make us look at the chain, so only so many are in work at a time.
"""

from typing import Final, TypeAlias, final

import structlog
import trio

from ledger import lane_rows
from ledger.lane import LaneRow, Role, Unfit
from ledger.lanes import Lanes
from ledger.messages import (
    Code,
    Err,
    LaneAccept,
    LaneAck,
    LaneClose,
    LaneClosing,
    LanePropose,
    LaneReply,
    LaneTerms,
    LaneVoucher,
)
from ledger.store import Store
from ledger.voucher import Voucher
from p2p.errors import (
    BadSignature,
    Closing,
    Insufficient,
    LocalError,
    OverCapacity,
    Rejected,
    RemoteError,
    Stale,
    Unreachable,
)
from p2p.identity import AdnlId

PayeeRequest: TypeAlias = LaneTerms | LanePropose | LaneVoucher | LaneClose

IN_WORK: Final = 8
WAITING: Final = 64
"""requests that look at the chain at once, and that wait for their turn; others are refused"""

log = structlog.get_logger()


@final
class Payee:
    """See the module."""

    def __init__(self, lanes: Lanes, store: Store) -> None:
        self._lanes = lanes
        self._store = store
        self._places = trio.CapacityLimiter(IN_WORK)
        self._accepted = trio.Event()

    async def answer(self, request: PayeeRequest, peer: AdnlId | None) -> LaneReply | Err:
        """The reply to a payer. Never raises because of what the request is."""
        if isinstance(request, LaneTerms):
            return self._lanes.offer()
        if self._places.statistics().tasks_waiting >= WAITING:
            return Err(Code.BUSY)
        async with self._places:
            try:
                return await self._look(request, peer)
            except (Unreachable, RemoteError) as error:
                log.info("payee.chain.unreachable", reason=str(error))
                return Err(Code.BUSY, "the chain cannot be asked")
            except LocalError as error:  # a full disk, which the store logs, or too much to do
                log.info("payee.busy", reason=str(error))
                return Err(Code.BUSY)

    async def accepted(self) -> None:
        """Wait until a lane is accepted after this call."""
        await self._accepted.wait()

    async def _look(self, request: PayeeRequest, peer: AdnlId | None) -> LaneReply | Err:
        match request:
            case LaneTerms():
                return self._lanes.offer()
            case LanePropose():
                return await self._propose(request, peer)
            case LaneVoucher(voucher=voucher):
                return await self._receive(voucher)
            case LaneClose(voucher=voucher):
                return await self._close(voucher)

    async def _propose(self, request: LanePropose, peer: AdnlId | None) -> LaneReply | Err:
        admitted = await self._lanes.propose(request.config, request.voucher, peer=peer)
        if isinstance(admitted, Unfit):
            return Err(Code(admitted.code), admitted.detail)
        self._accepted.set()
        self._accepted = trio.Event()
        return LaneAccept(admitted.lane)

    async def _receive(self, voucher: Voucher) -> LaneReply | Err:
        """An old voucher is answered with the best one's total: a resend is harmless."""
        if await self._lane(voucher) is None:
            return Err(Code.UNKNOWN_LANE)
        try:
            await self._lanes.receive(voucher)
        except (BadSignature, Closing, OverCapacity, Stale) as error:
            return Err(Code.VOUCHER, str(error))
        row = await self._lane(voucher)
        assert row is not None
        return LaneAck(row.cumulative)

    async def _close(self, voucher: Voucher) -> LaneReply | Err:
        """For who shows our best voucher, or a better one: strangers cannot end a lane."""
        received = await self._receive(voucher)
        if not isinstance(received, LaneAck):
            return received
        if received.cumulative != voucher.cumulative:
            return Err(Code.VOUCHER, "not the newest")
        try:
            return LaneClosing(await self._lanes.close(voucher.lane))
        except (Closing, Insufficient, Rejected) as error:
            return Err(Code.NOT_ACTIVE, str(error))

    async def _lane(self, voucher: Voucher) -> LaneRow | None:
        row = await self._store.read(lambda c: lane_rows.load(c, voucher.lane))
        return row if row is not None and row.role is Role.PAYEE else None
