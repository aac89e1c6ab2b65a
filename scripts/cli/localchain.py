"""`tussah localchain`: a chain of one's own, on this machine."""

from scripts.cli.common import PLAIN, Common, give, out
from scripts.failure import Document
from scripts.home import Home

PORT = 4443
BLOCK_TIME = 0.4
"""As in `scripts.localchain`, which is only loaded to run."""


def localchain(*, port: int = PORT, block_time: float = BLOCK_TIME, common: Common = PLAIN) -> int:
    """Run a TON chain with coins for the asking. It runs until Ctrl-C.

    Parameters
    ----------
    port
        TCP port of its lite-server on loopback; 0: any.
    block_time
        Seconds between blocks.
    """
    from scripts import localchain as process

    common.home.prepare()
    # One directory may hold a node and a chain: each has its own lock and socket.
    home = Home(common.home.path / "localchain")
    wanted = process.Wanted(port=port, block_time=block_time)
    return process.main(wanted, home=home, ready=lambda document: _tell(document, common))


def _tell(document: Document, common: Common) -> None:
    if common.as_json:
        give(document)
        return
    out(
        f"chain      {document['network']}, a block each {document['block_time']} s\n"
        f"listening  {document['address']}, key {document['key']}\n"
        f"control    {document['control']}\n"
    )
