"""Buying ahead: credits come at a moment that says nothing, not when the next answer needs them.

A mint sees who buys and when, and that somebody spends and when. A purse that bought when it ran
out would join the two. So once it runs low, a bundle is bought at a random moment of the next
hours; over a lane that there is already, as nobody was asked about a deposit.
"""

from typing import Final, final

import structlog
import trio

from ledger.lane import Phase
from ledger.payment import CannotPay, Purchase, Unpaid
from ledger.policy import Policy
from ledger.purse import Purse
from p2p.entropy import Entropy
from p2p.errors import LocalError

AGAIN: Final = 600.0
"""seconds until a store that could not be read, or a mint that did not sell, is tried again: at the
least, as the moment is drawn anew"""

log = structlog.get_logger()


@final
class Ahead:
    """See the module."""

    def __init__(self, purse: Purse, policy: Policy, *, entropy: Entropy) -> None:
        self._purse = purse
        self._within = policy.buy_within
        self._entropy = entropy

    async def run(self) -> None:
        """Keep the purse from running out, until cancelled."""
        while True:
            try:
                await self._low()
                await trio.sleep(self._within * self._entropy.uniform())
                if await self._purse.runs_low():  # nobody has bought since
                    await self._purse.buy(agree=_over_a_lane)
            except (CannotPay, LocalError) as error:
                log.info("ahead.postponed", reason=str(error))
                await trio.sleep(AGAIN)

    async def _low(self) -> None:
        """Wait until the purse runs low. Raises `LocalError`."""
        while not await self._purse.runs_low():
            await self._purse.changed()


def _over_a_lane(purchase: Purchase) -> None:
    if purchase.lane is not Phase.OPEN:
        raise CannotPay(Unpaid.NOT_AGREED, "it would open a lane")
