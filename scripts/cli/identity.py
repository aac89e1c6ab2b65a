"""`tussah id`: who this home's node is."""

from scripts.api import client
from scripts.cli.client import reach
from scripts.cli.common import PLAIN, Common, give
from scripts.failure import Document, Failed


def id_(*, common: Common = PLAIN) -> int:
    """Show who this node is: its ADNL id, libp2p PeerId, public key and addresses.

    A node that relays, serves or mints keeps its key in this home. One that only asks has a new one
    at each start, so that nobody can follow it. No node need run.
    """
    document = _document(common)
    if common.as_json:
        give(document)
    else:
        from scripts.cli import render

        render.identity(document)
    return 0


def _document(common: Common) -> Document:
    """What the running node says; without one, what the home knows."""
    try:
        return client.call(reach(common.home), "GET", "/id")
    except Failed as failed:
        if failed.failure.code != "not_running":
            raise
    from scripts import identity

    return identity.of_home(common.home)
