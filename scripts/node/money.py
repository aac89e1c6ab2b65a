"""What the owner of a node does with its money, through the control API."""

import math
from typing import final

from ledger import backup
from ledger.earnings import By
from ledger.payment import Told
from p2p.errors import NoCapacity, RemoteError
from scripts import funds, receipts, sharing, takeouts, vault
from scripts.failure import Document, Failed
from scripts.funds import Treasury
from scripts.node.roles import LOCKED, SEE_STATUS, Roles
from scripts.node.site import Site


@final
class Money:
    """See the module. Everything raises `Failed` where there is no wallet."""

    def __init__(self, site: Site, roles: Roles) -> None:
        self._site = site
        self._roles = roles

    def _treasury(self) -> Treasury:
        funds.needed(self._site.profile)
        if not self._site.pays:
            message = "This node only relays, and has no wallet."
            raise Failed("invalid_request", message, "Start it without --relay to buy and to ask.")
        if self._roles.locked:
            message = "This node's wallet is encrypted, and nobody has unlocked it."
            raise Failed(LOCKED, message, vault.HOW)
        if self._roles.treasury is None:
            message = "This node's wallet is not open."
            raise Failed("stopping", message, f"Try again in a moment. {SEE_STATUS}")
        return self._roles.treasury

    async def unlock(self, passphrase: str) -> Document:
        """Open an encrypted wallet. The passphrase is forgotten at once."""
        funds.needed(self._site.profile)
        await self._roles.unlock(passphrase)
        return {"schema": "tussah/unlock/1", "locked": False}

    async def wallet(self) -> Document:
        """What this node has."""
        return await self._treasury().wallet()

    async def vouchers(self) -> Document:
        """A backup of its vouchers."""
        return await self._treasury().vouchers()

    async def credits(self) -> Document:
        """The credits at hand."""
        return await self._treasury().credits()

    async def buy(self, bundle: str | None, told: Told) -> Document:
        """Buy credits, once the network is there."""
        treasury = self._treasury()
        await self._site.join(self._site.running(), math.inf)
        return await treasury.buy(bundle, told)

    async def lanes(self) -> Document:
        """Its lanes."""
        return await self._treasury().open_lanes()

    async def move(self, action: str, lane: str) -> Document:
        """Settle or close a lane."""
        treasury, account = self._treasury(), funds.account(lane)
        return await (treasury.settle if action == "settle" else treasury.close)(account)

    async def audit(self) -> Document:
        """The balance sheet of its mint."""
        if "mint" not in self._site.roles:
            message = "This node is no mint, and has no books to balance."
            raise Failed("invalid_request", message, "Ask the node that runs with --mint.")
        return await self._treasury().audit()

    async def shared(self) -> Document:
        """Its vouchers, for a friend who watches."""
        treasury = self._treasury()
        kept = await treasury.store.read(backup.read)
        return sharing.document(kept, treasury.chain.network)

    async def watch(self, body: object) -> Document:
        """Watch a friend's lanes."""
        treasury, lanes = self._treasury(), sharing.read(body)
        try:
            await treasury.guard.watch(lanes)
        except (RemoteError, NoCapacity) as error:
            message = f"Nothing is watched: {error}."
            raise Failed("invalid_request", message, "Ask your friend for a new file.") from error
        promised, count = await treasury.guard.watched()
        return {"schema": "tussah/watch/1", "watched": count, "promised_nano": promised.value}

    async def receipts(self) -> Document:
        """What workers have signed for."""
        return receipts.document(await self._treasury().receipts())

    async def signed(self) -> Document:
        """What it has signed for itself, as a worker."""
        return await takeouts.signed(self._treasury(), self._site.identity.public)

    async def earnings(self, by: By) -> Document:
        """What it has earned."""
        return await takeouts.earned(self._treasury(), by, self._site.known())

    async def deposit(self, amount: str | None) -> Document:
        """Where coins for it go."""
        return takeouts.deposit(self._treasury(), amount)

    async def withdraw(self, to: str, amount: str, key: str) -> Document:
        """Send coins away."""
        treasury = self._treasury()
        wanted = takeouts.wish(to, amount, key, mainnet=not treasury.chain.worthless)
        return await takeouts.withdraw(treasury, wanted)
