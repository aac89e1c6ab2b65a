"""`tussah ask`: a question out, an answer in, and what it cost and revealed."""

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, final

from cyclopts import Parameter

from scripts.api import client
from scripts.cli.client import reach_or_start
from scripts.cli.common import PLAIN, Common, give, interrupting, out, say
from scripts.cli.purchase import PurchaseTalk
from scripts.cli.render import quote
from scripts.cli.words import at_home, count, ton
from scripts.failure import CODES, Document, Failed
from scripts.shaping import shaping as told

STILL_BUYING = (
    "The node goes on buying: `tussah credits list` shows what that brings, `tussah lanes list` "
    "the lane."
)

FEW_SLOTS = 20
"""candidate workers below which the choice of one hides little: a warning is due"""

LATE_FINISH: Mapping[str, str] = {"deadline": "deadline", "worker_lost": "worker_lost"}
"""Ends of an answer that came only in part, and the code whose exit status they share."""


def ask(
    prompt: str | None = None,
    /,
    *,
    file: Annotated[str | None, Parameter(name=["--file", "-f"], allow_leading_hyphen=True)] = None,
    model: str | None = None,
    max_tokens: int | None = None,
    relays: int | None = None,
    shaping: int | None = None,
    swift: bool | None = None,
    deadline: float | None = None,
    max_price: str | None = None,
    yes: Annotated[bool, Parameter(name=["--yes", "-y"])] = False,
    common: Common = PLAIN,
) -> int:
    """Ask a question; the answer is printed as it comes.

    Without a running node one is started that only asks.

    Parameters
    ----------
    prompt
        The question.
    file
        A file put below the question; - is standard input.
    model
        The model to ask; auto takes what most workers serve.
    max_tokens
        The longest answer.
    relays
        Relays in between, 0 to 3. Fewer are faster and hide less; 0 shows the worker who asks.
    shaping
        0: cells leave when tokens are ready, so that their timing shows. 1: the prompt is padded,
        and the answer comes at one rate to the end of a bucket, whatever is in it. 2: as well, if
        the node keeps its line busy (setting ask.shaping).
    swift
        A shaped answer at 10 cells a second instead of 4.
    deadline
        Seconds after which the request ends, whatever has come.
    max_price
        The most that the request may cost: 0.01 is in TON, 20n in nano.
    yes
        Buy credits if there are too few, whatever the setting wallet.buy says.
    """
    ask_with = partial(
        client.question,
        _question(prompt, file),
        model=model,
        max_tokens=max_tokens,
        relays=relays,
        shaping=shaping,
        swift=swift,
        deadline_s=deadline,
        max_price_nano=_nano(max_price),
    )
    path = reach_or_start(common.home)
    try:
        document = _listen(path, ask_with(buy=True if yes else None), common)
    except Failed as failed:
        if not _agreed_now(failed):
            raise
        document = _listen(path, ask_with(buy=True), common)
    if common.as_json:
        give(document)
    else:
        _finish(document)
    late = LATE_FINISH.get(str(document["finish"]))
    return CODES[late].exit if late else 0


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


def _listen(path: Path, body: Document, common: Common) -> Document:
    """The `ask` document. The first Ctrl-C stops the answer, the next leaves at once."""
    stream, shown = client.Stream(path, "POST", "/ask", body), _Shown(common)
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

    def __init__(self, common: Common) -> None:
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
        elif name == "piece" and not document["channel"] and not self._is_silent:
            self._begun = True
            out(str(document["text"]))

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


def _question(prompt: str | None, file: str | None) -> str:
    """The prompt, then the file, a blank line between them."""
    parts = [part for part in (prompt, _contents(file)) if part and not part.isspace()]
    if not parts:
        raise Failed(
            "usage",
            "There is nothing to ask.",
            'Give a question (tussah ask "..."), or a file (-f FILE, -f - for standard input).',
        )
    return "\n\n".join(parts)


def _contents(file: str | None) -> str | None:
    if file is None:
        return None
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        message = f"{file} cannot be read as text: {error}."
        raise Failed("usage", message, param="--file") from error


def _finish(document: Document) -> None:
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
