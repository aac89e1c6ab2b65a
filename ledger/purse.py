"""An asker's purse: buys credits ahead, sets them aside for a session, fetches the change.

What goes to a mint goes over a circuit of its own (`ledger/line.py`). A mint is believed only with
the keyset whose digest everybody's directory holds: with a keyset of one's own it could tell its
customers apart. Everything is in the store before it leaves, so that a purse which stops anywhere
goes on from there: purchases are sent again byte for byte, sessions that were cut off are over.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypeVar, final

import structlog
import trio

from ledger import coins, lane_rows, wire
from ledger.coins import Holdings, Session
from ledger.credit import BUNDLES, Keyset, SpendTerms, worth
from ledger.keys import Master
from ledger.lane import LaneRow, Phase, Role
from ledger.lanes import Lanes, pay_on
from ledger.line import Line, opened
from ledger.messages import (
    Change,
    Changed,
    Code,
    Err,
    KeysetList,
    Keysets,
    LaneAccept,
    LaneOffer,
    LanePropose,
    LaneTerms,
    Pending,
    Reply,
    Request,
    Sigs,
)
from ledger.money import Nano
from ledger.payment import CannotPay, Payment, PayTerms, Unpaid
from ledger.policy import Policy
from ledger.store import Connection, Store
from ledger.tick import Chain
from ledger.voucher import Voucher
from p2p.drive import SystemClock
from p2p.entropy import Entropy
from p2p.errors import (
    BadSignature,
    Insufficient,
    NoCapacity,
    RemoteError,
    TussahError,
    Unreachable,
)
from p2p.identity import AdnlId
from p2p.node import Node
from p2p.overlay.advert import Advert
from p2p.overlay.advert import Role as NodeRole

if TYPE_CHECKING:  # the stubs that libp2p brings stand before trio's own types
    from trio_typing import TaskStatus

R = TypeVar("R", bound=Reply)

MAX_WANTED: Final = 4
"""mints that a want can name"""

RETRY_FIRST: Final = 2.0
RETRY_LAST: Final = 300.0
"""seconds before a mint that could not be reached is asked again: doubled, first to last"""

SLACK: Final = 5.0
"""seconds after a lock's expiry until a mint that knows no such lock is believed"""

log = structlog.get_logger()


class _Refused(Exception):  # noqa: N818 - what the mint said, not an error of ours
    """A mint answered with a refusal."""

    def __init__(self, err: Err) -> None:
        super().__init__(f"{err.code.value} {err.detail}".strip())
        self.code = err.code


@final
class Purse:
    """See the module. `run` first; a `ledger.payment.Purse`."""

    def __init__(
        self,
        node: Node,
        store: Store,
        lanes: Lanes,
        master: Master,
        policy: Policy,
        *,
        mints: Sequence[AdnlId],
        entropy: Entropy,
        relays: int = 3,
    ) -> None:
        self._node = node
        self._store = store
        self._lanes = lanes
        self._seed = master.credit_seed
        self._master = master
        self._policy = policy
        self._trusted = tuple(mints)
        self._entropy = entropy
        self._relays = relays
        self._clock = SystemClock()
        self._buying = trio.Lock()
        self._more = trio.Event()
        self._accused: frozenset[AdnlId] = frozenset()
        self._nursery: trio.Nursery | None = None
        self._retry: dict[bytes, float] = {}

    async def run(self, *, task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        """Finish what was left, then fetch change as it falls due, until cancelled."""
        now = self._clock.now()
        await self._store.write(lambda c: coins.abandoned(c, now))
        self._accused = await self._store.read(coins.accused)
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await self._fetch_all_change()

    # --- what an ask needs ---

    def mints(self) -> tuple[AdnlId, ...]:
        """The trusted mints that are listed now."""
        return tuple(mint for mint in self._trusted if self._advert(mint))[:MAX_WANTED]

    async def prepare(self, terms: PayTerms) -> Payment:
        """See `ledger.payment.Purse`. Buys a bundle first where there is none to cover it."""
        mint = self._common(terms.mints)
        try:
            return await self._reserve(mint, terms)
        except Insufficient:
            await self.buy(mint=mint)
        try:
            return await self._reserve(mint, terms)
        except Insufficient as error:
            wanted = terms.tick * terms.ticks
            raise CannotPay(
                Unpaid.NO_CREDITS, f"{wanted} are wanted at once, more than a bundle has"
            ) from error

    def release(self, payment: Payment) -> None:
        """See `ledger.payment.Purse`."""
        session = payment.terms.session
        self._store.post(lambda c: coins.release(c, session))

    def collect(self, payment: Payment, *, locked: bool, revealed: int, owed: int) -> None:
        """See `ledger.payment.Purse`."""
        session, (least, most) = payment.terms.session, self._policy.change_delay
        due = self._clock.now() + least + (most - least) * self._entropy.uniform()
        if not locked:  # it may be locked until it expires
            due = max(due, payment.terms.expiry + SLACK)
        self._store.post(lambda c: coins.over(c, session, revealed=revealed, owed=owed, due=due))
        if self._nursery is not None:
            self._nursery.start_soon(self._look_again)

    async def holdings(self) -> Holdings:
        """What can be spent now, for people."""
        now = self._clock.now()
        return await self._store.read(lambda c: coins.holdings(c, self._trusted, now))

    # --- buying ---

    async def buy(self, bundle: str | None = None, *, mint: AdnlId | None = None) -> Nano:
        """Buy a bundle, opening a lane to the mint if there is none; what the credits are worth.

        Raises `CannotPay`. What was promised and not sold waits for the next purchase.
        """
        mint = mint or self._common(self._trusted)
        bundle = bundle or self._policy.bundle
        async with self._buying:
            try:
                return await self._buy(mint, bundle)
            except Insufficient as error:
                raise CannotPay(Unpaid.NO_CREDITS, f"the wallet is too empty: {error}") from error
            except NoCapacity as error:
                raise CannotPay(Unpaid.LANE, str(error)) from error
            except _Refused as error:
                raise CannotPay(Unpaid.LANE, f"the mint refused: {error}") from error
            except Unreachable as error:
                raise CannotPay(Unpaid.MINT_DOWN, str(error)) from error
            except RemoteError as error:
                raise CannotPay(Unpaid.NO_MINT, f"the mint broke a rule: {error}") from error

    async def _buy(self, mint: AdnlId, bundle: str) -> Nano:
        await self._check_float(bundle)
        async with opened(self._node, mint, relays=self._relays) as line:
            keyset = await self._on_sale(line, mint)
            left = await self._finish_purchases(line, mint)
            if left:
                return left
            lane = await self._lane(line, mint)
            return await self._purchase(line, keyset, lane, bundle)

    async def _check_float(self, bundle: str) -> None:
        held = await self.holdings()
        cap = self._policy.float_cap
        if held.value + held.in_flight + worth(BUNDLES[bundle]) > cap:
            raise CannotPay(
                Unpaid.NO_CREDITS, f"more than {cap} in credits are never held at a time"
            )

    async def _on_sale(self, line: Line, mint: AdnlId) -> Keyset:
        """The newest keyset, if it is the one that everybody sees."""
        keysets = await self._keysets(line, mint)
        newest = keysets[-1] if keysets else None
        if newest is None or newest.digest != self._listed(mint).fields.mint:
            raise BadSignature("the mint shows us another keyset than the directory has")
        return newest

    async def _keysets(self, line: Line, mint: AdnlId) -> list[Keyset]:
        reply = await _asked(line, Keysets(), KeysetList)
        public = self._listed(mint).public
        return [Keyset.parse(signed, public) for signed in reply.keysets]

    async def _purchase(self, line: Line, keyset: Keyset, lane: LaneRow, bundle: str) -> Nano:
        rid = self._entropy.token(16)

        def work(connection: Connection) -> bytes:
            voucher = self._promise(connection, lane.lane, keyset.price(BUNDLES[bundle]))
            request = coins.order(
                connection, self._seed, keyset, rid=rid, bundle=bundle, voucher=voucher
            )
            return wire.encode(request)

        body = await self._store.write(work)
        return await self._send_purchase(line, keyset, rid, body)

    def _promise(self, connection: Connection, lane: bytes, price: Nano) -> Voucher:
        """A voucher that covers a price; what earlier ones promised in vain counts towards it."""
        row = lane_rows.load(connection, lane)
        assert row is not None
        wanted = coins.charged(connection, lane) + price
        missing = wanted.value - row.cumulative.value
        return pay_on(connection, self._master, lane, Nano(max(0, missing)))

    async def _send_purchase(self, line: Line, keyset: Keyset, rid: bytes, body: bytes) -> Nano:
        answer = await line.call(body)
        reply = wire.answer(answer, Sigs)
        if isinstance(reply, Err):
            if reply.code is not Code.BUSY:  # it may have been sold before: it is sent again
                await self._store.write(lambda c: coins.refused(c, rid))
            raise _Refused(reply)
        try:
            worth_ = await self._store.write(
                lambda c: coins.sold(c, self._seed, keyset, rid, reply)
            )
        except BadSignature:
            await self._accuse(keyset.mint, rid, answer)
            raise
        log.info("credits.bought", nano=worth_.value)
        return worth_

    async def _accuse(self, mint: AdnlId, rid: bytes, answer: bytes) -> None:
        self._accused |= {mint}
        log.warning("mint.accused")
        await self._store.write(lambda c: coins.accuse(c, rid, answer))

    async def _finish_purchases(self, line: Line, mint: AdnlId) -> Nano | None:
        """Send again what was not answered; what the first of them brought."""
        for rid, body in await self._store.read(lambda c: coins.unanswered(c, mint)):
            request = wire.read_request(body)
            keyset = self._find(await self._keysets(line, mint), getattr(request, "epoch", 0))
            if keyset is not None:
                return await self._send_purchase(line, keyset, rid, body)
        return None

    def _find(self, keysets: Sequence[Keyset], epoch: int) -> Keyset | None:
        return next((keyset for keyset in keysets if keyset.epoch == epoch), None)

    # --- the lane to a mint ---

    async def _lane(self, line: Line, mint: AdnlId) -> LaneRow:
        """An open lane that the mint knows of. Raises `CannotPay` if the chain is away."""
        rows = await self._store.read(
            lambda c: [row for row in lane_rows.every(c, Role.PAYER, of=mint) if row.live]
        )
        usable = [row for row in rows if row.phase in _USABLE]
        row = min(usable, key=lambda row: _USABLE.index(row.phase), default=None)
        try:
            if row is None:
                offer = await _asked(line, LaneTerms(), LaneOffer)
                row = await self._lanes.open(offer, self._policy.lane_deposit, peer=mint)
            proposal = await self._lanes.proposal(row.lane)
        except Unreachable as error:
            raise CannotPay(Unpaid.CHAIN_DOWN, str(error)) from error
        await self._introduce(line, proposal)
        return row

    async def _introduce(self, line: Line, proposal: LanePropose) -> None:
        """Tell the mint of the lane, until its own look at the chain shows it."""
        for wait in _LOOKS:
            try:
                await _asked(line, proposal, LaneAccept)
            except _Refused as error:
                if error.code is not Code.NOT_ACTIVE:
                    raise
                await trio.sleep(wait)
            else:
                return
        raise Unreachable("the mint does not see the lane on the chain")

    # --- spending ---

    async def _reserve(self, mint: AdnlId, terms: PayTerms) -> Payment:
        # Before anything is set aside: the mint may be gone by now.
        public = self._listed(self._common((mint,))).public
        chain = Chain(self._seed, terms.session, terms.ticks)
        secret, now = self._entropy.token(32), self._clock.now()
        bare = SpendTerms(
            mint=mint,
            epoch=0,
            payee=terms.payee,
            session=terms.session,
            expiry=terms.expiry,
            tick=terms.tick,
            ticks=terms.ticks,
            root=chain.root,
            blanks=(),
            owner=bytes(32),
        )
        try:
            spend = await self._store.write(
                lambda c: coins.reserve(c, self._seed, bare, secret, now)
            )
        except trio.Cancelled:
            self._store.post(lambda c: coins.release(c, terms.session))
            raise
        return Payment(
            terms=terms,
            mint=mint,
            mint_public=public,
            lock_id=spend.lock_id,
            spend=spend.encode(),
            chain=chain,
        )

    # --- change ---

    async def _fetch_all_change(self) -> None:
        while True:
            more, session = self._more, await self._store.read(coins.next_over)
            if session is not None and session.due <= self._clock.now():
                await self._fetch_change(session)
                continue
            wake = math.inf if session is None else self._clock.trio_time(session.due)
            with trio.move_on_at(wake):
                await more.wait()

    async def _look_again(self) -> None:
        """Wake the fetching once all that was written before can be read."""
        await self._store.write(lambda c: None)
        self._more.set()
        self._more = trio.Event()

    async def _fetch_change(self, session: Session) -> None:
        """One try; what fails is tried again, with growing pauses."""
        try:
            async with opened(self._node, session.mint, relays=self._relays) as line:
                await self._change(line, session)
        except _Refused as error:
            await self._unknown(session, error)
        except TussahError as error:
            log.info("change.postponed", reason=str(error))
            await self._postpone(session)
        else:
            self._retry.pop(session.session, None)

    async def _change(self, line: Line, session: Session) -> None:
        request = Change(session.lock, session.secret)
        body = await line.call(wire.encode(request))
        match wire.read_reply(body):
            case Changed() as reply:
                await self._take_change(line, session, reply)
            case Pending(until=until):
                await self._put_off(session, max(until, self._clock.now() + RETRY_FIRST))
            case Err() as err:
                raise _Refused(err)
            case _:
                raise BadSignature("the mint gave no answer to what was asked")

    async def _take_change(self, line: Line, session: Session, reply: Changed) -> None:
        keyset = self._find(await self._keysets(line, session.mint), session.epoch)
        if keyset is None:
            raise BadSignature("the mint does not show the keyset that it sold")
        back = await self._store.write(
            lambda c: coins.changed(c, self._seed, keyset, session, reply)
        )
        is_short = back < coins.least_change(session, reply.paid_ticks)
        if is_short or reply.paid_ticks > session.revealed:
            log.warning("mint.short_change", got=back.value)
        elif reply.paid_ticks > session.owed:  # the row and the receipt are the evidence
            log.warning("worker.overcharged", ticks=reply.paid_ticks, billed=session.owed)
        log.info("change.fetched", nano=back.value)

    async def _unknown(self, session: Session, error: _Refused) -> None:
        """A mint that never locked the session, and cannot any more, has our coins still live."""
        if error.code is Code.UNKNOWN_LOCK and self._clock.now() >= session.expiry + SLACK:
            await self._store.write(lambda c: coins.release(c, session.session))
        elif error.code is Code.UNKNOWN_LOCK:
            await self._put_off(session, session.expiry + SLACK)
        else:
            log.warning("change.refused", code=error.code.value)
            await self._postpone(session)

    async def _postpone(self, session: Session) -> None:
        wait = min(RETRY_LAST, 2 * self._retry.get(session.session, RETRY_FIRST / 2))
        self._retry[session.session] = wait
        await self._put_off(session, self._clock.now() + wait)

    async def _put_off(self, session: Session, due: float) -> None:
        await self._store.write(lambda c: coins.postpone(c, session.session, due))

    # --- small ---

    def _common(self, mints: Sequence[AdnlId]) -> AdnlId:
        """A mint that both sides use and that is there. Raises `CannotPay`."""
        for mint in mints:
            if mint in self._trusted and self._advert(mint) is not None:
                return mint
        raise CannotPay(Unpaid.NO_MINT, "no mint of this network is listed now")

    def _advert(self, mint: AdnlId) -> Advert | None:
        entry = self._node.directory.find(mint)
        if entry is None or mint in self._accused:
            return None
        listed = NodeRole.MINT in entry.advert.roles and entry.advert.fields.mint is not None
        return entry.advert if listed else None

    def _listed(self, mint: AdnlId) -> Advert:
        advert = self._advert(mint)
        if advert is None:
            raise Unreachable("the mint is not listed any more")
        return advert


_USABLE: Final = (Phase.OPEN, Phase.OPENING)
"""The best first. One that is opening, for an ask that was cancelled, is waited for: another would
take another deposit."""

_LOOKS: Final = (0.5, 1.0, 2.0, 4.0)
"""seconds between proposals: the mint may read the chain from another server than we"""


async def _asked(line: Line, request: Request, kind: type[R]) -> R:
    """The answer of the right kind. Raises `_Refused`, and what `Line.call` raises."""
    reply = wire.answer(await line.call(wire.encode(request)), kind)
    if isinstance(reply, Err):
        raise _Refused(reply)
    return reply
