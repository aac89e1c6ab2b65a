"""`tussah status`, `peers`, `circuits`: what the node knows."""

from scripts.api import client
from scripts.cli.client import reach
from scripts.cli.common import PLAIN, Common, give
from scripts.failure import Document


def status(*, common: Common = PLAIN) -> int:
    """Show how the node is: who it is, whom it reaches, what it serves."""
    document = _get("/status", common)
    if document is not None:
        from scripts.cli import render

        render.status(document)
    return 0


def peers(*, common: Common = PLAIN) -> int:
    """Show every relay and worker this node knows of."""
    document = _get("/peers", common)
    if document is not None:
        from scripts.cli import render

        render.peers(document)
    return 0


def circuits(*, common: Common = PLAIN) -> int:
    """Show this node's circuits and the first relays that it keeps to.

    A circuit leads through relays to a worker or a mint, and carries one request. It is `building`,
    `open`, `mending` (a relay went away in mid-answer, and another way is being taken) or `padding`
    (the answer is there, and dummies fill its bucket). Of circuits of others, which only pass or
    end here, there are sums alone.

    The guards are three relays that see this node's address; every circuit begins at the first that
    can be reached. They are kept for 45 to 75 days: each new one is another chance to have a bad
    one. One behind which most of twenty circuits fail, or are killed, is `banned` for a week.
    """
    document = _get("/circuits", common)
    if document is not None:
        from scripts.cli import render

        render.circuits(document)
    return 0


def _get(target: str, common: Common) -> Document | None:
    """The document to draw; None if it was printed as it is."""
    document = client.call(reach(common.home), "GET", target)
    if not common.as_json:
        return document
    give(document)
    return None
