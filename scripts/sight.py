"""The wallet as it was last seen on the chain, and what its owner should know of either."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Final, final

import trio

from ledger.chain.lite import LiteChain
from ledger.lanes import Lanes
from ledger.money import ZERO, Nano
from ledger.orders import WALLET_FEES
from ledger.policy import Policy
from p2p.errors import RemoteError, Unreachable
from scripts.api.status import Alert

FEW: Final = 5.0
"""seconds that the balance of a wallet may be waited for"""

SILENT: Final = 5.0
"""seconds without a word from the chain after which `tussah status` says so"""

LOOK_EVERY: Final = 10.0
"""seconds between looks at the wallet for `tussah status`, which asks no chain; more where lanes
are watched less often"""


@final
class Sight:
    """The wallet as it was last seen on the chain."""

    def __init__(self, chain: LiteChain, lanes: Lanes) -> None:
        self._chain = chain
        self._lanes = lanes
        self.balance: Nano | None = None
        """None: never seen"""
        self._silent_since: float | None = None

    @property
    def silent_for(self) -> float | None:
        """Seconds for which the chain has not answered; None: it does, or not long enough."""
        if self._silent_since is None:
            return None
        seconds = trio.current_time() - self._silent_since
        return seconds if seconds >= SILENT else None

    async def keep(self, every: float) -> None:
        """Look now and then, sooner where the chain has not answered, until cancelled."""
        while True:
            await self.look()
            await trio.sleep(every if self._silent_since is None else SILENT / 2)

    async def look(self) -> tuple[Nano | None, str]:
        """Balance and state now; unknown, if the chain does not tell in time."""
        began = trio.current_time()
        with trio.move_on_after(FEW), suppress(Unreachable, RemoteError):
            contract = await self._chain.account(self._lanes.account)
            self.balance = ZERO if contract is None else contract.balance
            self._silent_since = None
            return self.balance, "uninit" if contract is None else contract.status.value
        if self._silent_since is None:
            self._silent_since = began
        return None, "unknown"

    async def costs(self) -> tuple[Nano | None, Nano | None]:
        """Of a claim and of a close now; unknown, if the chain does not tell in time."""
        with trio.move_on_after(FEW), suppress(Unreachable, RemoteError):
            costs = await self._lanes.costs()
            return costs.claim, costs.close
        return None, None

    # --- what its owner should know ---

    def alerts(self, chain: str) -> Iterator[Alert]:
        """That the chain of this name does not answer."""
        silent = self.silent_for
        if silent is None:
            return
        yield Alert(
            code="chain_unreachable",
            message=f"The {chain} chain has not answered for {silent:.0f} s: lanes can be neither "
            "opened nor settled.",
            advice="See whether its lite-server is up (`tussah network show` names it). Nothing is "
            "lost: what is due is done once it answers.",
        )

    def mint_alerts(self, policy: Policy, to: str) -> Iterator[Alert]:
        """That a mint with this address lacks coins: it pays workers over lanes that it opens."""
        balance, deposit = self.balance, policy.payout_deposit
        if balance is None or balance >= deposit + WALLET_FEES:
            return
        yield Alert(
            code="mint_empty",
            message=f"The mint's wallet holds {balance}. A lane to a worker takes {deposit}, and "
            f"up to {WALLET_FEES} for fees: no further worker can be paid.",
            advice=f"Send coins to {to}; a chain of one's own gives them away: "
            f"tussah --home DIR localchain --give-to {to} --amount 5",
        )
