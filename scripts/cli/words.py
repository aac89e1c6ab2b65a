"""Amounts, counts and advice as people read them, in a line of talk."""

import os
import re
import shlex
from pathlib import Path

from scripts.failure import Document
from scripts.home import locate

NANO_PER_TON = 1_000_000_000


def ton(nano: object) -> str:
    """`0.00004 TON`."""
    assert isinstance(nano, int)
    whole, rest = divmod(nano, NANO_PER_TON)
    return f"{whole}.{rest:09}".rstrip("0").rstrip(".") + " TON"


def count(number: object, thing: str) -> str:
    """`1 relay`, `2 relays`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def spent(cost: Document) -> str:
    """What an answer that did not become whole has cost all the same."""
    quoted, change = ton(cost["quoted_nano"]), ton(cost["change_nano"])
    if not cost["paid_nano"]:
        return f"Nothing was paid for it; {quoted} that was set aside comes back by itself."
    return (
        f"{ton(cost['paid_nano'])} was paid for it of {quoted} that was set aside; {change} comes "
        "back by itself (`tussah credits list`)."
    )


COMMAND = re.compile(
    r"\btussah (?=(?:up|down|ask|status|peers|circuits|id|models|network|dht|wallet|credits|lanes"
    r"|receipts|localchain|chat|config|doctor|earnings|key|logs|mint|page|prices|service|top|worker)"
    r"\b(?! --worker|[a-z ]* --help))"
)
"""A command that is advised about the node at hand: not one for help, nor for another node."""


def at_home(advice: str, home: Path) -> str:
    """Advice whose commands reach the node of this home, which need not be the usual one."""
    if home == locate(None, os.environ).path:
        return advice
    return COMMAND.sub(lambda _: f"tussah --home {shlex.quote(str(home))} ", advice)
