"""An answer as it comes: shown piece by piece, interrupted, accounted for. For `ask` and `chat`."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias, final

from cyclopts import Parameter

from scripts.api import client
from scripts.cli.common import Common, interrupting, out, say
from scripts.cli.purchase import PurchaseTalk
from scripts.cli.render import quote
from scripts.cli.words import at_home, count, ton
from scripts.failure import Document, Failed
from scripts.shaping import shaping as told

Taken: TypeAlias = Callable[[str], None]
"""Gets each piece of an answer, whether it is shown or not."""

STILL_BUYING = (
    "The node goes on buying: `tussah credits list` shows what that brings, `tussah lanes list` "
    "the lane."
)

FEW_SLOTS = 20
"""candidate workers below which the choice of one hides little: a warning is due"""

LATE_FINISH: Mapping[str, str] = {"deadline": "deadline", "worker_lost": "worker_lost"}
"""Ends of an answer that came only in part, and the code whose exit status they share."""


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How to ask, as options of a command; None leaves it to the node's settings."""

    max_tokens: int | None = None
    """The longest answer."""
    relays: int | None = None
    """Relays in between, 0 to 3. Fewer are faster and hide less; 0 shows the worker who asks."""
    shaping: int | None = None
    """0: cells leave when tokens are ready, so that their timing shows. 1: the prompt is padded,
    and the answer comes at one rate to the end of a bucket, whatever is in it. 2: as well, if the
    node keeps its line busy (setting ask.shaping)."""
    swift: bool | None = None
    """A shaped answer at 10 cells a second instead of 4."""
    deadline: float | None = None
    """Seconds after which the request ends, whatever has come."""
    max_price: str | None = None
    """The most that a request may cost: 0.01 is in TON, 20n in nano."""
    yes: Annotated[bool, Parameter(name=["--yes", "-y"])] = False
    """Buy credits if there are too few, whatever the setting wallet.buy says."""

    def wish(self) -> Document:
        """The part of a request's body that is ours. Raises `Failed` (`usage`)."""
        return client.given(
            {
                "relays": self.relays,
                "shaping": self.shaping,
                "swift": self.swift,
                "deadline_s": self.deadline,
                "max_price_nano": _nano(self.max_price),
                "buy": True if self.yes else None,
            }
        )


USUAL = Manner()
"""When nothing is said of it."""


def ask(path: Path, body: Document, common: Common, taken: Taken | None = None) -> Document:
    """The `ask` document; a person at a terminal is asked whether to buy, if that is open.

    The first Ctrl-C stops the answer, the next leaves at once. Raises `Failed`: what came of the
    answer until then has been shown, and given to `taken`.
    """
    try:
        return _listen(path, body, common, taken)
    except Failed as failed:
        if not _agreed_now(failed):
            raise
    wish = body["tussah"]
    assert isinstance(wish, Mapping)
    return _listen(path, {**body, "tussah": {**wish, "buy": True}}, common, taken)


def _agreed_now(failed: Failed) -> bool:
    """Whether a person at a terminal agrees to what the ask would have bought."""
    if failed.failure.code != "not_agreed" or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    sys.stderr.write(f"{failed.failure.message}\nBuy them now? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _nano(amount: str | None) -> int | None:
    if amount is None:
        return None
    from ledger.money import Nano

    try:
        return Nano.parse(amount).value
    except ValueError as error:
        message = f"--max-price {amount} is no amount: {error}."
        raise Failed("usage", message, "Write 0.01 for TON, 20n for nano.") from error


def _listen(path: Path, body: Document, common: Common, taken: Taken | None) -> Document:
    stream, shown = client.Stream(path, "POST", "/ask", body), _Shown(common, taken)
    try:
        with interrupting(stream.stop):
            for name, document in stream:
                if name == "done":
                    return document
                shown.show(name, document)
        raise Failed(client.LOST, "The node ended the answer without a word.", "See its log.")
    except (KeyboardInterrupt, Failed) as error:
        shown.break_off(error)
        raise


@final
class _Shown:
    """What has been printed of an answer. With `--json` that is nothing: the document has it."""

    def __init__(self, common: Common, taken: Taken | None) -> None:
        self._taken = taken
        self._is_silent = common.as_json
        self._home = common.home.path
        self._begun = False
        self._quoted: object = 0
        self._purchase = PurchaseTalk()

    def show(self, name: str, document: Document) -> None:
        """Print an event. What is spent is said with `--json` too."""
        self._purchase.hear(name, document)
        if name == "offered":
            self._quoted = document["quoted_nano"]
            if self._quoted and not self._is_silent:
                say(quote(document))
        elif name == "piece" and not document["channel"]:
            self._piece(str(document["text"]))

    def _piece(self, text: str) -> None:
        if self._taken is not None:
            self._taken(text)
        if not self._is_silent:
            self._begun = True
            out(text)

    def break_off(self, error: BaseException) -> None:
        """End a cut answer with a line of its own, and say what is known of its cost."""
        if self._begun and not self._is_silent:
            out("\n")
        self._purchase.rest()
        if self._purchase.under_way and _goes_on(error):
            say(at_home(STILL_BUYING, self._home))
        is_told = isinstance(error, Failed) and error.failure.code != client.LOST
        if self._quoted and not is_told:
            say(
                f"At most {ton(self._quoted)} was paid: so much was set aside. What the worker "
                "has not earned comes back by itself while the node runs."
            )


def _goes_on(error: BaseException) -> bool:
    """Whether the node makes a purchase that nobody waits for any more."""
    return not isinstance(error, Failed) or error.failure.code in ("cancelled", "deadline")


def finish(document: Document) -> None:
    """End the answer's text, and say what it cost and who knows what of it."""
    if not str(document["answer"]).endswith("\n"):
        out("\n")
    usage, cost = _part(document, "usage"), _part(document, "cost")
    timing, privacy = _part(document, "timing_ms"), _part(document, "privacy")
    say(
        f"{count(usage['completion_tokens'], 'token')}  {timing['first_token']} ms to first token  "
        f"{ton(cost['paid_nano'])}"
    )
    if cost["quoted_nano"]:
        say(f"{ton(cost['quoted_nano'])} was set aside; {ton(cost['change_nano'])} comes back")
    say(
        f"privacy {privacy['asker']}: {count(privacy['relays'], 'relay')}, "
        f"{count(privacy['slots'], 'candidate worker')}, "
        f"{count(privacy['clients_claimed'], 'client')} claimed by the relays; "
        f"{privacy['readable_by']} reads the prompt"
    )
    say(told(privacy))
    if _number(privacy["slots"]) < FEW_SLOTS:
        say(
            f"Few to choose from: the worker was drawn among {privacy['slots']}, and below "
            f"{FEW_SLOTS} the choice hides little."
        )
    if document["finish"] != "stop":
        say(f"The answer ended early: {document['finish']}.")


def _number(value: object) -> int:
    assert isinstance(value, int)
    return value


def _part(document: Document, name: str) -> Mapping[str, object]:
    part = document[name]
    assert isinstance(part, Mapping)
    return part
