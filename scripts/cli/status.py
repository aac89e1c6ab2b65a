"""`tussah status`, `peers`, `models`: what the node knows."""

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


def models(*, common: Common = PLAIN) -> int:
    """Show every model that is on offer or on this machine."""
    document = _get("/models", common)
    if document is not None:
        from scripts.cli import render

        render.models(document)
    return 0


def _get(target: str, common: Common) -> Document | None:
    """The document to draw; None if it was printed as it is."""
    document = client.call(reach(common.home), "GET", target)
    if not common.as_json:
        return document
    give(document)
    return None
