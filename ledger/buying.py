"""Buying credits of a mint: its keyset, a lane to it, a voucher, blind signatures.

All of it goes over one circuit. A mint is believed only with the keyset whose digest everybody's
directory holds. A purchase is in the store before it leaves, and is sent again byte for byte until
it is answered; what a voucher promised in vain waits for the next purchase.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias, final

import structlog
import trio

from ledger import coins, lane_rows, pins, wire
from ledger.coins import Holdings
from ledger.credit import BUNDLES, Keyset, bundle_for, worth
from ledger.keys import Master
from ledger.lane import LaneRow, Phase, Role
from ledger.lane_writes import pay_on
from ledger.lanes import Lanes
from ledger.line import Line, Refused, opened
from ledger.messages import (
    Code,
    Err,
    LaneAccept,
    LaneOffer,
    LanePropose,
    LaneTerms,
    Sigs,
)
from ledger.mints import Mints
from ledger.money import ZERO, Nano
from ledger.orders import WALLET_FEES
from ledger.payment import CannotPay, Purchase, Unpaid
from ledger.policy import Policy
from ledger.store import Connection, Store
from ledger.voucher import Voucher
from p2p.drive import Clock
from p2p.entropy import Entropy
from p2p.errors import (
    BadSignature,
    Insufficient,
    LocalError,
    NoCapacity,
    NoPath,
    Rejected,
    RemoteError,
    Unreachable,
)
from p2p.identity import AdnlId
from p2p.node import Node

log = structlog.get_logger()

Agree: TypeAlias = Callable[[Purchase], object]
"""Told of a purchase before anything is promised for it; may raise `CannotPay`."""


@final
class Buying:
    """See the module. One purchase at a time."""

    def __init__(
        self,
        node: Node,
        store: Store,
        lanes: Lanes,
        master: Master,
        policy: Policy,
        mints: Mints,
        clock: Clock,
        *,
        entropy: Entropy,
        relays: int,
    ) -> None:
        self._node = node
        self._store = store
        self._lanes = lanes
        self._master = master
        self._seed = master.credit_seed
        self._policy = policy
        self._mints = mints
        self._clock = clock
        self._entropy = entropy
        self._relays = relays
        self._turn = trio.Lock()

    async def buy(
        self,
        bundle: str | None = None,
        *,
        mint: AdnlId | None = None,
        agree: Agree | None = None,
        wanted: Nano = ZERO,
    ) -> Nano:
        """Buy a bundle, opening a lane to the mint if there is none; what the credits are worth.

        `agree` is told what it will cost before anything is promised for it, and may raise
        `CannotPay`, as this does. What was promised and not sold waits for the next purchase; that
        one needs no agreement. For an ask that lacks the credits for `wanted`, a bundle that has
        them; and nothing, 0, if another purchase has brought them while this one waited its turn.
        """
        mint = mint or self._mints.common(self._mints.trusted)
        async with self._turn:
            with _said():
                if wanted and await self._has(mint, wanted):
                    return ZERO
                return await self._buy(
                    mint, bundle or bundle_for(wanted, self._policy.bundle), agree
                )

    async def _has(self, mint: AdnlId, wanted: Nano) -> bool:
        now = self._clock.now()
        return await self._store.read(lambda c: coins.covers(c, mint, wanted, now))

    async def runs_low(self) -> bool:
        """Whether a bundle should be bought ahead of need, over a lane that there is already.

        Raises `LocalError`.
        """
        mints = self._mints.usable()
        if not mints:
            return False
        row, held = await self._usable_lane(mints[0]), await self.holdings()
        usual = worth(BUNDLES[self._policy.bundle])
        low = (held.value + held.in_flight) * 100 < usual * self._policy.buy_below
        return low and row is not None and row.phase is Phase.OPEN

    async def holdings(self) -> Holdings:
        """What can be spent now. Raises `LocalError`."""
        now = self._clock.now()
        return await self._store.read(lambda c: coins.holdings(c, self._mints.trusted, now))

    async def _buy(self, mint: AdnlId, bundle: str, agree: Agree | None) -> Nano:
        await self._check_float(bundle)
        async with opened(self._node, mint, relays=self._relays) as line:
            keyset = await self._on_sale(line, mint)
            left = await self._finish(line, mint)
            if left:
                return left
            row = await self._usable_lane(mint)
            if agree is not None:
                agree(self._intent(keyset, bundle, row))
            lane = await self._lane(line, mint, row)
            return await self._purchase(line, keyset, lane, bundle)

    def _intent(self, keyset: Keyset, bundle: str, lane: LaneRow | None) -> Purchase:
        exponents = BUNDLES[bundle]
        return Purchase(
            mint=keyset.mint,
            bundle=bundle,
            value=worth(exponents),
            price=keyset.price(exponents),
            lane=None if lane is None else lane.phase,
            deposit=self._policy.lane_deposit if lane is None else ZERO,
            fees=WALLET_FEES if lane is None else ZERO,
        )

    async def _check_float(self, bundle: str) -> None:
        held = await self.holdings()
        cap = self._policy.float_cap
        if held.value + held.in_flight + worth(BUNDLES[bundle]) > cap:
            raise CannotPay(
                Unpaid.NO_CREDITS, f"more than {cap} in credits are never held at a time"
            )

    # --- the keyset ---

    async def _on_sale(self, line: Line, mint: AdnlId) -> Keyset:
        """The newest keyset, if it is not too dear."""
        newest = await self._mints.on_sale(line, mint)
        if newest.fee_bp > self._policy.most_fee_bp:
            raise CannotPay(Unpaid.DEAR, _dear(newest.fee_bp, self._policy.most_fee_bp))
        return newest

    # --- a purchase ---

    async def _purchase(self, line: Line, keyset: Keyset, lane: LaneRow, bundle: str) -> Nano:
        rid = self._entropy.token(16)

        def work(connection: Connection) -> bytes | None:
            if not pins.pin(connection, keyset):
                return None
            voucher = self._promise(connection, lane.lane, keyset.price(BUNDLES[bundle]))
            request = coins.order(
                connection, self._seed, keyset, rid=rid, bundle=bundle, voucher=voucher
            )
            return wire.encode(request)

        body = await self._store.write(work)
        if body is None:
            self._accused(keyset.mint)
            raise BadSignature("the mint has signed two keysets for one week")
        return await self._send(line, keyset, rid, body)

    def _promise(self, connection: Connection, lane: bytes, price: Nano) -> Voucher:
        """A voucher that covers a price; what earlier ones promised in vain counts towards it."""
        row = lane_rows.load(connection, lane)
        assert row is not None
        wanted = coins.charged(connection, lane) + price
        missing = wanted.value - row.cumulative.value
        return pay_on(connection, self._master, lane, Nano(max(0, missing)))

    async def _send(self, line: Line, keyset: Keyset, rid: bytes, body: bytes) -> Nano:
        answer = await line.call(body)
        reply = wire.answer(answer, Sigs)
        if isinstance(reply, Err):
            if reply.code is not Code.BUSY:  # it may have been sold before: it is sent again
                await self._store.write(lambda c: coins.refused(c, rid))
            raise Refused(reply)
        try:
            value = await self._store.write(lambda c: coins.sold(c, self._seed, keyset, rid, reply))
        except BadSignature:
            self._accused(keyset.mint)
            await self._store.write(lambda c: _cheated(c, keyset.mint, rid, answer))
            raise
        log.info("credits.bought", nano=value.value)
        return value

    async def _finish(self, line: Line, mint: AdnlId) -> Nano | None:
        """Send again what was not answered; what the first of them brought.

        The keyset is the one that it was ordered with, whatever the mint shows now.
        """
        for rid, epoch, body in await self._store.read(lambda c: coins.unanswered(c, mint)):
            keyset = await self._pinned(mint, epoch)
            if keyset is not None:
                return await self._send(line, keyset, rid, body)
        return None

    async def _pinned(self, mint: AdnlId, epoch: int) -> Keyset | None:
        public = self._mints.listed(mint).public
        return await self._store.read(lambda c: pins.pinned(c, mint, epoch, public))

    def _accused(self, mint: AdnlId) -> None:
        self._mints.accused |= {mint}
        log.warning("mint.accused")

    # --- the lane to a mint ---

    async def _usable_lane(self, mint: AdnlId) -> LaneRow | None:
        rows = await self._store.read(
            lambda c: list(lane_rows.every(c, Role.PAYER, of=mint, live=True))
        )
        usable = [row for row in rows if row.phase in _USABLE]
        return min(usable, key=lambda row: _USABLE.index(row.phase), default=None)

    async def _lane(self, line: Line, mint: AdnlId, row: LaneRow | None) -> LaneRow:
        """An open lane that the mint knows of. Raises `CannotPay` if the chain is away."""
        offer = None if row is not None else await line.ask(LaneTerms(), LaneOffer)
        try:
            if offer is not None:
                row = await self._lanes.open(offer, self._policy.lane_deposit, peer=mint)
            assert row is not None
            proposal = await self._lanes.proposal(row.lane)
        except Rejected:  # what the mint wants of a lane
            raise
        except (Unreachable, RemoteError) as error:
            raise CannotPay(Unpaid.CHAIN_DOWN, str(error)) from error
        await self._introduce(line, proposal)
        return row

    async def _introduce(self, line: Line, proposal: LanePropose) -> None:
        """Tell the mint of the lane, until its own look at the chain shows it."""
        for wait in _LOOKS:
            try:
                await line.ask(proposal, LaneAccept)
            except Refused as error:
                if error.code is not Code.NOT_ACTIVE:
                    raise
                await trio.sleep(wait)
            else:
                return
        raise Unreachable("the mint does not see the lane on the chain")


_USABLE: Final = (Phase.OPEN, Phase.OPENING)
"""The best first. One that is opening, for an ask that was cancelled, is waited for: another would
take another deposit."""

_LOOKS: Final = (0.5, 1.0, 2.0, 4.0)
"""seconds between proposals: the mint may read the chain from another server than we"""


@contextmanager
def _said() -> Iterator[None]:
    """Whatever may go wrong in a purchase, as the asker is told."""
    try:
        yield
    except Insufficient as error:
        raise CannotPay(Unpaid.NO_CREDITS, f"the wallet is too empty: {error}") from error
    except NoPath as error:
        raise CannotPay(Unpaid.NO_PATH, str(error)) from error
    except NoCapacity as error:
        raise CannotPay(Unpaid.LANE, str(error)) from error
    except LocalError as error:
        raise CannotPay(Unpaid.STORE, str(error)) from error
    except Refused as error:
        raise CannotPay(Unpaid.LANE, f"the mint refused: {error}") from error
    except Unreachable as error:
        raise CannotPay(Unpaid.MINT_DOWN, str(error)) from error
    except RemoteError as error:
        raise CannotPay(Unpaid.NO_MINT, f"the mint broke a rule: {error}") from error


def _cheated(connection: Connection, mint: AdnlId, rid: bytes, answer: bytes) -> None:
    coins.spoilt(connection, rid)
    pins.accuse(connection, mint, rid, answer)


def _dear(asked: int, most: int) -> str:
    return (
        f"it asks for {_percent(asked)} of what is bought, this node pays {_percent(most)} at most"
    )


def _percent(basis_points: int) -> str:
    whole, rest = divmod(basis_points, 100)
    return f"{whole}.{rest:02} %"
