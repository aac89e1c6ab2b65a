"""The money of a home: its keys, its store, the chain it reaches, its lanes, and who uses them.

Coins that are worth something wait for a later version (encrypted keys, backups, a watcher that
others can run): networks outside development are free until then, and this module says so.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias, final

import structlog
import trio
from pytoniq_core import Address
from pytoniq_core.boc.address import AddressError

from ledger import backup, lane_rows, owner, payment, totals
from ledger.ahead import Ahead
from ledger.caused import Caused
from ledger.chain import wallet
from ledger.chain.lite import LiteChain, LiteServer
from ledger.coins import Holdings
from ledger.credit import BUNDLES, EPOCH_SECONDS, worth
from ledger.externals import External
from ledger.guarding import Guarding
from ledger.keys import Master
from ledger.lane import Account, LaneRow, Phase, Role
from ledger.lane_writes import LaneStory, Told
from ledger.lanes import Lanes
from ledger.mintkeys import MintKeys
from ledger.money import Nano
from ledger.payee import Payee
from ledger.payment import CannotPay, Unpaid
from ledger.policy import DEV, Policy
from ledger.purse import Purse
from ledger.renewing import Renewing
from ledger.restoring import Restoring
from ledger.service import MintService
from ledger.sqlbook import SqlBook
from ledger.store import Connection, Store, blob
from ledger.tariff import Prices
from ledger.till import Till
from ledger.totals import Minted, Totals
from p2p.drive import SystemClock
from p2p.entropy import SystemEntropy
from p2p.errors import Closing, Insufficient, RemoteError, Unreachable
from p2p.identity import AdnlId, Identity
from p2p.node import Node
from scripts import vault
from scripts.api import money
from scripts.api.money import Coins, Funds, LaneView, Move
from scripts.api.status import Alert
from scripts.failure import Document, Failed
from scripts.home import Home
from scripts.keeping import Keeping
from scripts.networks import Chain, Profile
from scripts.settings import Settings
from scripts.shopping import Shopping
from scripts.sight import LOOK_EVERY, Sight

TRUST: Final = 2
"""What pytoniq takes the face's word for: a dev network runs its own chain."""

Act: TypeAlias = Callable[[bytes], Awaitable[bytes]]
"""Posts an external about a lane; returns its hash."""

PATIENCE: Final = 15.0
"""seconds for an external of a person's own to be seen on the chain"""

log = structlog.get_logger()


def persistent_account(home: Home, network: int) -> Account:
    """The wallet of a home on a chain, made at first use; the node need not run.

    Raises `Failed`, also for a wallet that is encrypted.
    """
    return wallet.address(vault.made(home, SystemEntropy()).master.wallet.public, network)


def address(account: Account) -> str:
    """An account as wallets show it."""
    return str(Address((0, account)).to_str(is_bounceable=False))


def account(text: str) -> bytes:
    """The account in an address that a person typed. Raises `Failed`."""
    try:
        found = Address(text)
    except (ValueError, LookupError, AddressError) as error:
        message = f"{text} is no address of the chain."
        raise Failed("usage", message, "`tussah lanes list` shows the lanes.") from error
    return bytes(found.hash_part)


def prices(settings: Settings) -> Prices:
    """What this node's worker asks for, in nano per million tokens."""
    answer = Nano.parse(settings.worker.price) * PER_MILLION
    prompt = Nano.parse(settings.worker.price_prompt) * PER_MILLION
    return Prices(
        prompt=prompt.value,
        cached=prompt.value // CACHED,
        completion=answer.value,
        reasoning=answer.value,
    )


PER_MILLION: Final = 1_000
"""Prices are set per thousand tokens."""

CACHED: Final = 4
"""A token that need not be computed again costs this part of one that must be."""


def needed(profile: Profile) -> Chain:
    """The chain of a network. Raises `Failed` for one that has none, or has coins of worth."""
    if profile.chain is None:
        raise Failed(
            "free_network",
            f"Network {profile.name} is free: it has no chain, and nobody on it is paid.",
            "Nothing need be bought or settled here; just ask.",
        )
    if not profile.dev or not profile.chain.worthless:
        raise Failed(
            "free_network",
            f"Network {profile.name} is no dev network, and this version moves no real money.",
            "See how payments work with `tussah demo`.",
        )
    return profile.chain


def check_prices(settings: Settings, profile: Profile) -> None:
    """Raise `Failed` if the worker is to be paid where nobody can pay it."""
    if prices(settings).free:
        return
    free = "Set worker.price and worker.price_prompt to 0 to answer for free"
    if profile.chain is None:
        message = f"The worker has a price, but network {profile.name} has no chain to be paid on."
        raise Failed("free_network", message, f"{free}, or join a network that has one.")
    needed(profile)
    if not profile.mints:
        message = f"The worker has a price, but network {profile.name} names no mint."
        raise Failed("free_network", message, f"{free}, or join a network that names one.")


@asynccontextmanager
async def opened(
    home: Home,
    profile: Profile,
    settings: Settings,
    node: Node,
    identity: Identity,
    master: Master,
) -> AsyncIterator["Treasury"]:
    """The money of a home, while its node runs.

    Raises `Failed`, and `LocalError` if the store cannot be used, or fails later.
    """
    chain = needed(profile)
    entropy, policy = SystemEntropy(), DEV
    servers = [
        LiteServer(host=server.endpoint.host, port=server.endpoint.port, key=server.key)
        for server in chain.servers
    ]
    async with (
        Store.open(home.ledger) as store,
        LiteChain.open(servers, chain.network, trust=TRUST) as lite,
        trio.open_nursery() as nursery,
    ):
        if not await store.write(lambda c: owner.own(c, master.wallet.public)):
            raise Failed(
                "unsafe_home",
                f"{home.ledger} belongs to another wallet than {home.wallet}.",
                "Bring back the wallet.key that it was made with, or move ledger.db away.",
            )
        lanes = Lanes(lite, store, master, policy, entropy=entropy)
        await nursery.start(lanes.run)
        purse = Purse(
            node,
            store,
            lanes,
            master,
            policy,
            mints=[mint for mint in profile.mints if mint != identity.id],
            entropy=entropy,
            relays=settings.ask.relays,
            per_day=Nano.parse(settings.wallet.per_day),
        )
        await nursery.start(purse.run)
        renewing = Renewing(
            *(node, store, master.credit_seed, policy, purse.known, SystemClock()),
            entropy=entropy,
            relays=settings.ask.relays,
        )
        restoring = Restoring(
            *(node, lite, store, lanes, master, policy, purse.known),
            entropy=entropy,
            relays=settings.ask.relays,
        )
        guard, keeping = Guarding(lite, store, lanes, policy), _keeping(settings, store, master)
        nursery.start_soon(renewing.run)
        nursery.start_soon(guard.run)
        if home.restoring.exists():
            nursery.start_soon(_restore, home, restoring, renewing, master)
        if keeping is not None:
            nursery.start_soon(keeping.run)
        sight, shopping = Sight(lite, lanes), Shopping(purse, lite, nursery)
        nursery.start_soon(sight.keep, max(LOOK_EVERY, policy.watch_every))
        if settings.wallet.buy != "ask":  # `auto` asks nobody here, where coins are worth nothing
            nursery.start_soon(Ahead(purse, policy, entropy=entropy).run)
        yield Treasury(
            *(settings, profile, chain, store, master, lanes, shopping, policy, sight),
            *(home.restoring, keeping, guard),
        )
        nursery.cancel_scope.cancel()


def _keeping(settings: Settings, store: Store, master: Master) -> Keeping | None:
    file = settings.wallet.backup_file
    return Keeping(store, master, Path(file).expanduser(), SystemEntropy()) if file else None


async def _restore(home: Home, restoring: Restoring, renewing: Renewing, master: Master) -> None:
    """Look for what a restored wallet had, once: a stop in the middle begins it anew."""
    file = await trio.Path(home.restoring).read_bytes()
    try:
        kept = backup.unseal(file, master) if file else None
    except RemoteError as error:
        log.warning("restore.backup", reason=str(error))  # it was looked at when it was given
        kept = None
    await restoring.run(kept)
    renewing.wake()
    home.restoring.unlink(missing_ok=True)


@final
@dataclass(frozen=True, slots=True)
class Treasury:
    """What the parts of a node use, and what people ask about it."""

    settings: Settings
    profile: Profile
    chain: Chain
    store: Store
    master: Master
    lanes: Lanes
    shopping: Shopping
    policy: Policy
    sight: Sight
    restoring: Path
    """The file that is there while what a restored wallet had is looked for."""
    keeping: Keeping | None
    """What keeps the backup of vouchers, where one is wanted."""
    guard: Guarding
    """What watches lanes of friends."""

    def mint(self, identity: Identity) -> MintService:
        """The mint of this node."""
        return MintService(
            MintKeys(self.master, identity),
            self.store,
            self.lanes,
            Payee(self.lanes, self.store),
            self.policy,
            SystemClock(),
            fee_bp=self.settings.mint.fee_bp,
        )

    def till(self, identity: Identity, node: Node) -> Till:
        """The till of this node's worker."""

        def public(peer: AdnlId) -> bytes | None:
            entry = node.directory.find(peer)
            return None if entry is None else entry.advert.public

        return Till(
            identity.id,
            node,
            self.store,
            self.lanes,
            Payee(self.lanes, self.store),
            self.policy,
            SystemClock(),
            mints=self.profile.mints,
            public=public,
            entropy=SystemEntropy(),
        )

    # --- for people ---

    def alerts(self, roles: Sequence[str]) -> Iterator[Alert]:
        """What the owner of a node with these roles should know of its money."""
        yield from self.sight.alerts(self.chain.name)
        if self.keeping is not None:
            yield from self.keeping.alerts()
        if self.restoring.exists():
            yield Alert(
                code="restoring",
                message="What this restored wallet had is looked for: lanes on the chain, credits "
                "at the mints.",
                advice="Leave the node running until this line is gone.",
            )
        if "mint" in roles:
            yield from self.sight.mint_alerts(self.policy, address(self.lanes.account))

    async def totals(self) -> Totals:
        """What the store comes to."""
        mints, now = self.profile.mints, SystemClock().now()
        return await self.store.read(lambda c: totals.totals(c, mints, now))

    async def minted(self) -> Minted:
        """What this node's mint has out."""
        return await self.store.read(totals.minted)

    async def wallet(self) -> Document:
        """The `wallet` document."""
        return money.wallet(await self._funds(chain=True))

    async def credits(self) -> Document:
        """The `credits` document."""
        return money.credits_(await self._funds())

    async def open_lanes(self) -> Document:
        """The `lanes` document."""
        return money.lanes(await self._funds())

    async def buy(self, bundle: str | None, told: payment.Told) -> Document:
        """Buy a bundle, telling how it goes; the `purchase` document. Raises `Failed`."""
        try:
            bought = await self.shopping.buy(bundle, told)
        except CannotPay as error:
            raise failure(error) from error
        value, price = bought.value, bought.price
        return money.purchase(_bundle(value), value, price, await self._funds())

    async def audit(self) -> Document:
        """The `audit` document of this node's mint."""

        def look(connection: Connection) -> Document:
            counts, now = totals.minted(connection), SystemClock().now()
            return money.audit(
                SqlBook(connection).sheet(),
                issued=counts.issued,
                redeemed=counts.redeemed,
                purchases=totals.purchases(connection, int(now) // EPOCH_SECONDS),
            )

        return await self.store.read(look)

    async def vouchers(self) -> Document:
        """The `vouchers` document: a backup of what words cannot bring back, sealed."""
        kept = await self.store.read(backup.read)
        sealed = backup.seal(kept, self.master, SystemEntropy())
        return {
            "schema": "tussah/vouchers/1",
            "lanes": len(kept.promises),
            "promised_nano": kept.promised.value,
            "sealed": sealed.hex(),
        }

    async def settle(self, lane: bytes) -> Document:
        """Claim what a lane owes us. Raises `Failed`."""
        if await self._role(lane) is Role.PAYER:
            message = "That lane is one that this node pays on: nothing on it can be claimed here."
            advice = "`tussah lanes close` brings back what is not promised."
            raise Failed("invalid_request", message, advice)
        return await self._post(lane, self.lanes.claim)

    async def close(self, lane: bytes) -> Document:
        """Close a lane that pays us, or begin to close one that we pay. Raises `Failed`."""
        is_payer = await self._role(lane) is Role.PAYER
        return await self._post(lane, self.lanes.start_close if is_payer else self.lanes.close)

    async def keep_receipt(self, session: bytes, signed: bytes, public: bytes, at: float) -> None:
        """Keep what a worker signed for."""
        await self.store.write(
            lambda c: c.execute(
                "INSERT OR IGNORE INTO receipt (session, at, signed, public) VALUES (?, ?, ?, ?)",
                (session, at, signed, public),
            )
        )

    async def receipts(self) -> list[tuple[bytes, bytes]]:
        """Signed receipts and their workers' keys, the newest first."""
        return await self.store.read(_receipts)

    # --- inside ---

    async def _role(self, lane: bytes) -> Role:
        """Our side of a lane. Raises `Failed`."""
        row = await self.store.read(lambda c: lane_rows.load(c, lane))
        if row is None:
            message = f"This node has no lane at {address(Account(lane))}."
            raise Failed("invalid_request", message, "`tussah lanes list` shows the lanes.")
        return row.role

    async def _post(self, lane: bytes, act: Act) -> Document:
        """Send an external, and wait until all that it causes is on the chain."""
        try:
            with trio.fail_after(PATIENCE):  # one waits for those that were sent before it
                message = await act(lane)
            with trio.move_on_after(PATIENCE):
                await self.lanes.outcome(message, whole=True)
        except trio.TooSlowError as error:
            late = f"The chain has taken nothing for {PATIENCE:.0f} s."
            advice = (
                "`tussah status` says whether it is there, `tussah lanes list` how the lane is."
            )
            raise Failed("chain_unreachable", late, advice) from error
        except (Insufficient, Closing) as error:
            raise Failed("failed", f"The contract would refuse: {error}.") from error
        except Unreachable as error:
            raise Failed("chain_unreachable", f"The chain cannot be reached: {error}.") from error
        except RemoteError as error:
            raise Failed("invalid_request", f"That cannot be done: {error}.") from error
        return await self.open_lanes()

    async def _funds(self, *, chain: bool = False) -> Funds:
        """Everything there is; the balance only if the chain is to be asked."""
        stories, sums = await self.lanes.snapshot(), await self.totals()
        past, out = [story.externals for story in stories], await self.lanes.withdrawals()
        balance, state = await self.sight.look() if chain else (None, "unknown")
        claim, close = await self.sight.costs() if chain else (None, None)
        return Funds(
            chain=self.chain.name,
            worthless=self.chain.worthless,
            address=address(self.lanes.account),
            state=state,
            balance=balance,
            coins=_coins(sums.credits),
            lanes=[_lane(story) for story in stories],
            per_request=Nano.parse(self.settings.ask.max_price),
            per_day=Nano.parse(self.settings.wallet.per_day),
            float_cap=self.policy.float_cap,
            spent_today=sums.spent_today,
            claim_fee=claim,
            close_fee=close,
            history=sorted(
                (move for told in (*past, out) for move in _moves(told)),
                key=lambda move: move.at,
                reverse=True,
            ),
        )


def _bundle(value: Nano) -> str:
    """The bundle of that worth: a purchase may be one that was begun earlier, and not answered."""
    return next(name for name, exponents in BUNDLES.items() if worth(exponents) == value)


def failure(error: CannotPay) -> Failed:
    """Why nothing could be bought, as people are told."""
    code, advice = _ADVICE[error.reason]
    return Failed(code, f"No credits were bought: {error}.", advice)


_ADVICE: Final = {
    Unpaid.NO_CREDITS: ("no_credits", "`tussah wallet show` says what is there."),
    Unpaid.LANE: ("no_credits", "`tussah lanes list` says how the lane is; try again in a minute."),
    Unpaid.NO_MINT: ("mint_unreachable", "`tussah peers` shows whether a mint is up; try again."),
    Unpaid.MINT_DOWN: ("mint_unreachable", "Try again; what was promised is not lost."),
    Unpaid.NO_PATH: (
        "no_path",
        "Wait for more relays to join, or set ask.relays lower: fewer hide less.",
    ),
    Unpaid.CHAIN_DOWN: ("chain_unreachable", "Check the chain of the network, then try again."),
    Unpaid.NOT_AGREED: ("not_agreed", "Nobody need agree to this: buy again."),
    Unpaid.DEAR: ("price_above_cap", "Wait for another mint, or join a network that names one."),
    Unpaid.LIMIT: (
        "price_above_cap",
        "It is another day at midnight UTC; `tussah config set wallet.per_day` allows more.",
    ),
    Unpaid.STORE: ("internal", "See to the disk, then try again; nothing was spent."),
}


def _receipts(connection: Connection) -> list[tuple[bytes, bytes]]:
    rows = connection.execute("SELECT signed, public FROM receipt ORDER BY at DESC LIMIT 1000")
    return [(blob(signed), blob(public)) for signed, public in rows]


def _coins(held: Holdings) -> Coins:
    epoch = held.newest_epoch
    return Coins(
        by_value=held.by_value,
        in_flight=held.in_flight,
        epoch_ends=None if epoch is None else float((epoch + 4) * EPOCH_SECONDS),
    )


def _lane(story: LaneStory) -> LaneView:
    row = story.row
    return LaneView(
        address=address(Account(row.lane)),
        role=row.role.value,
        peer="" if story.peer is None else story.peer.hex(),
        deposit=_deposit(row),
        voucher=row.cumulative,
        claimed=row.claimed,
        state=row.phase.value,
        expires_at=float(row.close_at) if row.phase is Phase.CLOSING else None,
        returned=row.returned,
    )


def _deposit(row: LaneRow) -> Nano:
    return row.deposit if row.role is Role.PAYER else row.funded


def _moves(told: Sequence[Told]) -> Iterator[Move]:
    for external, caused in told:
        for transaction in caused:
            yield _move(external, transaction)


def _move(external: External, caused: Caused) -> Move:
    return Move(
        at=float(caused.at),
        kind=external.kind.value,
        amount=caused.value,
        fee=caused.fees,
        account=address(caused.account),
        peer="" if caused.source is None else address(caused.source),
        transaction=caused.hash.hex(),
    )
