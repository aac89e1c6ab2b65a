"""`tussah wallet`, `credits`, `lanes`: what this node has, owes and is owed."""

from collections.abc import Callable
from typing import Literal
from urllib.parse import quote

from scripts.api import client
from scripts.cli.client import reach
from scripts.cli.common import PLAIN, Common, give, interrupting
from scripts.cli.purchase import PurchaseTalk
from scripts.failure import Document, Failed


def wallet(*, common: Common = PLAIN) -> int:
    """Show the wallet: coins on the chain, credits at hand, and how many lanes are open."""
    from scripts.cli import render

    return _show(client.call(reach(common.home), "GET", "/wallet"), render.wallet, common)


def credits_(*, common: Common = PLAIN) -> int:
    """Show the credits at hand: coins that a mint has signed without seeing them."""
    from scripts.cli import render

    return _show(client.call(reach(common.home), "GET", "/credits"), render.coins, common)


def buy(bundle: Literal["S", "M", "L"] | None = None, /, *, common: Common = PLAIN) -> int:
    """Buy a bundle of credits from the network's mint, over a circuit.

    The first purchase opens a lane to the mint on the chain, which takes a few blocks.

    Parameters
    ----------
    bundle
        S 0.0042 TON, M 0.0336 TON or L 0.1342 TON. Only these are sold, so that a purchase says
        little. Without one, the size that is also bought when an answer finds no credits.
    """
    from scripts.cli import render

    return _show(_buy(bundle, common), render.purchase, common)


def _buy(bundle: str | None, common: Common) -> Document:
    """The `purchase` document. The first Ctrl-C hears from the node what becomes of it."""
    body = {"stream": True, **({} if bundle is None else {"bundle": bundle})}
    stream, talk = client.Stream(reach(common.home), "POST", "/credits/buy", body), PurchaseTalk()
    try:
        with interrupting(stream.stop):
            for name, document in stream:
                if name == "done":
                    return document
                if name != "bought":  # the document says so
                    talk.hear(name, document)
    finally:
        talk.rest()
    raise Failed(client.LOST, "The node ended the purchase without a word.", "See its log.")


def lanes(*, common: Common = PLAIN) -> int:
    """Show every lane and its transactions on the chain, with their fees."""
    from scripts.cli import render

    return _show(client.call(reach(common.home), "GET", "/lanes"), render.lanes, common)


def settle(address: str, /, *, common: Common = PLAIN) -> int:
    """Claim now what a lane owes this node, whatever the fee.

    Parameters
    ----------
    address
        The lane, as `tussah lanes list` shows it.
    """
    return _act(address, "settle", common)


def close(address: str, /, *, common: Common = PLAIN) -> int:
    """Close a lane: what is owed to the payee, the rest to the payer.

    As the payee this is done within a block or two. As the payer it takes as long as the lane says,
    a day at the least: until then the payee may still claim what it was promised.

    Parameters
    ----------
    address
        The lane, as `tussah lanes list` shows it.
    """
    return _act(address, "close", common)


def _act(address: str, action: str, common: Common) -> int:
    from scripts.cli import render

    document = _move(common, f"/lanes/{quote(address, safe='')}/{action}", {})
    return _show(document, render.lanes, common)


def _move(common: Common, target: str, body: Document) -> Document:
    """What moves money waits for the chain."""
    return client.call(reach(common.home), "POST", target, body, patience=client.MOVING)


def _show(document: Document, draw: Callable[[Document], None], common: Common) -> int:
    if common.as_json:
        give(document)
    else:
        draw(document)
    return 0
