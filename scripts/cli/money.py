"""`tussah wallet`, `credits`, `lanes`, `earnings`: what this node has, owes and is owed."""

import secrets
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote

from cyclopts import Parameter

from scripts.api import client
from scripts.cli.client import reach
from scripts.cli.common import PLAIN, Common, give, interrupting, say
from scripts.cli.purchase import PurchaseTalk
from scripts.cli.words import count, ton
from scripts.failure import CODES, Document, Failed


def wallet(*, common: Common = PLAIN) -> int:
    """Show the wallet: coins on the chain, credits at hand, and how many lanes are open."""
    from scripts.cli import render

    return _show(client.call(reach(common.home), "GET", "/wallet"), render.wallet, common)


def deposit(*, amount: str | None = None, qr: bool = True, common: Common = PLAIN) -> int:
    """Show where coins for this node go: its address, a link that wallets open, and a QR code.

    Parameters
    ----------
    amount
        How much the link asks for, in TON.
    qr
        Draw the QR code; --no-qr does not.
    """
    from scripts.cli import render

    target = "/wallet/deposit" + ("" if amount is None else f"?amount={quote(amount, safe='')}")
    document = client.call(reach(common.home), "GET", target)
    return _show(document, partial(render.deposit, qr=qr), common)


def withdraw(
    address: str,
    amount: str,
    /,
    *,
    yes: Annotated[bool, Parameter(name=["--yes", "-y"])] = False,
    common: Common = PLAIN,
) -> int:
    """Send coins from this node's wallet to an address. Coins on lanes are not in the wallet.

    Once sent they cannot be called back. The command waits until the chain has taken them, for 20
    seconds; a withdrawal that is on its way then goes on, and stands in `tussah wallet show`.

    Parameters
    ----------
    address
        Who gets them, as wallets of TON write it.
    amount
        How much, in TON; `all` leaves 0.015 TON for fees.
    yes
        Send them without asking first; needed where no terminal is.
    """
    from scripts.cli import render

    socket = reach(common.home)
    if not yes:
        _confirm(address, amount)
    body = {"to": address, "amount": amount, "idempotency_key": secrets.token_hex(16)}
    document = client.call(socket, "POST", "/wallet/withdraw", body, patience=client.MOVING)
    return _show(document, render.withdrawal, common)


def _confirm(address: str, amount: str) -> None:
    """Ask the person at the terminal. Raises `Failed`."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        message = "Nothing was sent: somebody has to agree, and standard input is no terminal."
        raise Failed("not_agreed", message, "Agree with --yes.")
    whole = (
        amount if amount == "all" or "TON" in amount or amount.endswith("n") else f"{amount} TON"
    )
    sys.stderr.write(f"Send {whole} to {address}? This cannot be undone. [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Failed("not_agreed", "Nothing was sent.")


def earnings(*, by: Literal["day", "model"] = "day", common: Common = PLAIN) -> int:
    """Show what this node's worker has earned, by day or by model.

    Every figure is a sum over sessions; `tussah receipts export --earned` writes their receipts.

    Parameters
    ----------
    by
        How sessions are put together.
    """
    from scripts.cli import render

    return _show(
        client.call(reach(common.home), "GET", f"/earnings?by={by}"), render.earnings, common
    )


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


def audit(*, common: Common = PLAIN) -> int:
    """Show the balance sheet of this node's mint; status 1 if it does not balance.

    What customers promised is what is out in credits, locked, promised to workers, owed, kept as
    fees, expired, or paid in advance. Any difference is a bug: stop the mint, and keep its store.
    """
    from scripts.cli import render

    document = client.call(reach(common.home), "GET", "/mint/audit")
    _show(document, render.audit, common)
    return CODES["failed"].exit if document["difference_nano"] else 0


def share(file: Path, /, *, common: Common = PLAIN) -> int:
    """Write the vouchers of the lanes that pay this node to a file, for a friend to watch.

    Whoever has the file can claim for this node, and pays for that; it holds no key. Give it to
    somebody whose node is up while yours sleeps, and again when much more was promised.

    Parameters
    ----------
    file
        Where to write it.
    """
    import json

    from scripts.home import write_private

    document = client.call(reach(common.home), "GET", "/lanes/shared")
    lanes = document["lanes"]
    assert isinstance(lanes, list)
    try:
        write_private(file, json.dumps(document) + "\n")
    except OSError as error:
        message = f"{file} cannot be written: {error.strerror}."
        raise Failed("usage", message, "Name another file.") from error
    if common.as_json:
        give(document)
    else:
        say(f"Wrote {count(len(lanes), 'lane')} to {file}; your friend runs: tussah lanes watch")
    return 0


def watch(file: Path, /, *, common: Common = PLAIN) -> int:
    """Watch the lanes of a friend, whose `tussah lanes share` wrote the file.

    When a payer closes one of them alone, and the friend has not answered six hours before the end,
    this node claims for it: 0.02 TON and a transfer's fee out of this wallet, what is left of that
    goes to the friend.

    Parameters
    ----------
    file
        The friend's file.
    """
    import json

    try:
        body = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        message = f"{file} cannot be read as JSON: {error}."
        raise Failed("usage", message, "Your friend writes it: tussah lanes share FILE.") from error
    document = client.call(reach(common.home), "POST", "/lanes/watch", {"lanes": _lanes_in(body)})
    if common.as_json:
        give(document)
    else:
        promised = ton(document["promised_nano"])
        say(f"{count(document['watched'], 'lane')} of friends watched, {promised} promised on them")
    return 0


def _lanes_in(body: object) -> object:
    return body.get("lanes") if isinstance(body, dict) else None


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
