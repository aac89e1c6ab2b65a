"""What is said of a purchase while it is made: what it will cost, how far the chain is."""

import sys
import time
from typing import final

from scripts.cli.common import say
from scripts.cli.words import ton
from scripts.failure import Document

SAY_EVERY = 10.0
"""seconds between lines of progress where no terminal shows them in place"""


@final
class PurchaseTalk:
    """Tells the events of a purchase on standard error; others are no concern of its."""

    def __init__(self) -> None:
        self.under_way = False
        """Whether one was begun and its end not heard of."""
        self._said_at = -SAY_EVERY
        self._in_place = False

    def hear(self, name: str, document: Document) -> None:
        """Tell an event."""
        if name == "purchase":
            self.under_way = True
            for line in _intent(document):
                say(line)
        elif name == "opening":
            self._progress(document)
        elif name in ("bought", "done"):
            self.under_way = False
            self.rest()
            if name == "bought":
                say(f"bought {ton(document['value_nano'])} in credits")

    def rest(self) -> None:
        """End a line of progress that is shown in place."""
        if self._in_place:
            say("")
        self._in_place = False

    def _progress(self, document: Document) -> None:
        waited = document["waited_s"]
        assert isinstance(waited, int | float)
        line = (
            f"opening a lane to mint {_short(document['mint'])} ... "
            f"(block {document['block']}, {waited:.0f} s)"
        )
        if sys.stderr.isatty():
            self._in_place = True
            sys.stderr.write(f"\r{line}")
            sys.stderr.flush()
        elif time.monotonic() - self._said_at >= SAY_EVERY:
            self._said_at = time.monotonic()
            say(line)


def _intent(purchase: Document) -> list[str]:
    value, price, deposit = (purchase[f"{name}_nano"] for name in ("value", "price", "deposit"))
    assert isinstance(value, int)
    assert isinstance(price, int)
    worth = f" ({purchase['chain']} coins, worth nothing)" if purchase["worthless"] else ""
    lines = [
        f"buying credits: bundle {purchase['bundle']}, {ton(value)} for {ton(price)}, of which "
        f"{ton(price - value)} is the mint's fee{worth}"
    ]
    if deposit:
        lines.append(
            f"opening a lane for it: {ton(deposit)} to mint {_short(purchase['mint'])}, and up to "
            f"{ton(purchase['fees_nano'])} for fees; what is not paid over it comes back when it "
            "is closed"
        )
    return lines


def _short(identity: object) -> str:
    return str(identity)[:8]
