"""`tussah receipts`: what workers have signed for."""

import sys
from collections.abc import Mapping
from pathlib import Path

from scripts.api import client
from scripts.cli.client import reach
from scripts.cli.common import PLAIN, Common, give, out
from scripts.failure import CODES, Document, Failed


def list_(*, earned: bool = False, common: Common = PLAIN) -> int:
    """Show the receipts of this node's answers, the newest first.

    Parameters
    ----------
    earned
        Those that this node has signed as a worker, instead of those it was given.
    """
    document = _get(common, earned=earned)
    if common.as_json:
        give(document)
    else:
        from scripts.cli import render

        render.receipts(document)
    return 0


def export(*, earned: bool = False, common: Common = PLAIN) -> int:
    """Write this node's receipts as JSON lines, for `receipts verify` or other programs.

    Parameters
    ----------
    earned
        Those that this node has signed as a worker, instead of those it was given.
    """
    import json

    for receipt in _receipts(_get(common, earned=earned)):
        out(json.dumps(receipt) + "\n")
    return 0


def verify(file: str = "-", /, *, common: Common = PLAIN) -> int:
    """Check exported receipts: keys, signatures and words. No node is needed.

    Parameters
    ----------
    file
        JSON lines as `receipts export` writes them; - is standard input.
    """
    from scripts import receipts

    document = receipts.verify(_lines(file))
    if common.as_json:
        give(document)
    else:
        from scripts.cli import render

        render.verification(document)
    return CODES["failed"].exit if document["invalid"] else 0


def _get(common: Common, *, earned: bool) -> Document:
    return client.call(reach(common.home), "GET", f"/receipts{'/signed' if earned else ''}")


def _receipts(document: Document) -> list[Mapping[str, object]]:
    receipts = document["receipts"]
    assert isinstance(receipts, list)
    return receipts


def _lines(file: str) -> list[str]:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        message = f"{file} cannot be read as text: {error}."
        raise Failed("usage", message, param="file") from error
    return text.splitlines()
