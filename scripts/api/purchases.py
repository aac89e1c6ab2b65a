"""A purchase of credits as the API tells it: what it is about to cost, how it goes, what it was."""

import math
from collections.abc import Awaitable, Callable
from typing import TypeAlias, final

import trio

from ledger.payment import Bought, Opening, Purchase, PurchaseStep, Told
from scripts.api.answer import Terms
from scripts.api.events import Stream, Work
from scripts.failure import Document, Failed

Buy: TypeAlias = Callable[[Told], Awaitable[Document]]
"""Buys; returns the `purchase` document. Raises `Failed`."""


async def tell(stream: Stream, step: PurchaseStep, terms: Terms) -> None:
    """Send a step as an event."""
    if not stream.begun:
        await stream.begin({})
    match step:
        case Purchase():
            await stream.event("purchase", _purchase(step, terms))
        case Opening():
            opening = {"mint": step.mint.hex(), "block": step.block, "waited_s": step.waited}
            await stream.event("opening", opening)
        case Bought():
            bought = {"value_nano": step.value.value, "price_nano": step.price.value}
            await stream.event("bought", bought)


def _purchase(purchase: Purchase, terms: Terms) -> Document:
    return {
        "mint": purchase.mint.hex(),
        "bundle": purchase.bundle,
        "value_nano": purchase.value.value,
        "price_nano": purchase.price.value,
        "lane": None if purchase.lane is None else purchase.lane.value,
        "deposit_nano": purchase.deposit.value,
        "fees_nano": purchase.fees.value,
        "chain": terms.chain,
        "worthless": terms.worthless,
    }


def work(buy: Buy, terms: Callable[[], Terms]) -> Work:
    """What streams a purchase: each step, then its document as `done`.

    A reader who leaves is told what becomes of it.
    """

    async def stream_purchase(stream: Stream) -> None:
        teller, steps = trio.open_memory_channel[PurchaseStep](math.inf)
        waiting = _Waiting()
        stream.when_left(waiting.leave)
        async with trio.open_nursery() as nursery, steps:
            nursery.start_soon(waiting.run, buy, teller)
            async for step in steps:
                await tell(stream, step, terms())
        document = waiting.result()
        if not stream.begun:
            await stream.begin({})
        await stream.event("done", document)

    return stream_purchase


@final
class _Waiting:
    """For one purchase, until its reader leaves."""

    def __init__(self) -> None:
        self._scope = trio.CancelScope()
        self._is_agreed = False
        self._outcome: Document | Failed | None = None

    async def run(self, buy: Buy, teller: "trio.MemorySendChannel[PurchaseStep]") -> None:
        """Wait for it; what it tells goes to `teller`, which ends with it."""

        def told(step: PurchaseStep) -> None:
            self._is_agreed = True
            teller.send_nowait(step)

        with teller, self._scope:
            try:
                self._outcome = await buy(told)
            except Failed as failed:
                self._outcome = failed

    def leave(self) -> None:
        """Wait no longer."""
        self._scope.cancel()

    def result(self) -> Document:
        """The document. Raises `Failed`."""
        if isinstance(self._outcome, Failed):
            raise self._outcome
        if self._outcome is not None:
            return self._outcome
        if not self._is_agreed:
            raise Failed(
                "cancelled", "Interrupted before anything was promised: nothing is bought."
            )
        raise Failed(
            "cancelled",
            "Interrupted, but the purchase was under way: the node goes on with it.",
            "`tussah credits list` shows what it brings, `tussah lanes list` the lane.",
        )
