"""`tussah localchain`: a chain of one's own, on this machine."""

import shlex
from importlib.util import find_spec

from ledger.money import Nano
from scripts.api import client
from scripts.cli.common import PLAIN, Common, give, out
from scripts.failure import Document, Failed
from scripts.home import Home

PORT = 4443
BLOCK_TIME = 0.4
"""As in `scripts.localchain`, which is only loaded to run."""


def localchain(
    *,
    port: int = PORT,
    block_time: float = BLOCK_TIME,
    give_to: str | None = None,
    amount: str = "1",
    common: Common = PLAIN,
) -> int:
    """Run a TON chain with coins for the asking. It runs until Ctrl-C.

    Parameters
    ----------
    port
        TCP port of its lite-server on loopback; 0: any.
    block_time
        Seconds between blocks.
    give_to
        Run none: have the one that runs in this home give coins to an address.
    amount
        How many coins to give, in TON.
    """
    if give_to is not None:
        return _hand_out(give_to, amount, common)
    need_machine()
    from scripts import localchain as process

    common.home.prepare()
    wanted = process.Wanted(port=port, block_time=block_time)
    home = place(common.home)
    return process.main(wanted, home=home, ready=lambda document: _tell(document, common))


def need_machine(otherwise: str = "") -> None:
    """Raise `Failed` where TON's virtual machine is not installed; `otherwise` is more advice."""
    if find_spec("tonpy") is None:
        message = (
            "No chain can run here: TON's own virtual machine (the package tonpy) is not "
            "installed. It is made for Linux on x86-64 alone."
        )
        advice = "There, install it: pip install tonpy==0.0.0.1.4rc0."
        raise Failed("failed", message, f"{advice} {otherwise}".strip())


def place(home: Home) -> Home:
    """One directory may hold a node and a chain: each has its own lock and socket."""
    return Home(home.path / "localchain")


def call(home: Home, method: str, target: str, body: Document | None = None) -> Document:
    """A request to the chain that runs in a home. Raises `Failed`."""
    try:
        return client.call(place(home).socket, method, target, body)
    except Failed as failed:
        if failed.failure.code != "not_running":
            raise
        message = f"No chain runs in {home.path}."
        advice = f"Start one: tussah --home {shlex.quote(str(home.path))} localchain"
        raise Failed("not_running", message, advice) from failed


def _hand_out(address: str, amount: str, common: Common) -> int:
    try:
        coins = Nano.parse(amount)
    except ValueError as error:
        message = f"--amount {amount} is no amount: {error}."
        raise Failed("usage", message, "Write 0.5 for half a TON.") from error
    body = {"address": address, "nano": coins.value}
    document = call(common.home, "POST", "/fund", body)
    if common.as_json:
        give(document)
    else:
        balance = document["balance"]
        assert isinstance(balance, int)
        out(f"gave {coins} to {address}; it has {Nano(balance)} now\n")
    return 0


def _tell(document: Document, common: Common) -> None:
    if common.as_json:
        give(document)
        return
    out(
        f"chain      {document['network']}, a block each {document['block_time']} s\n"
        f"listening  {document['address']}, key {document['key']}\n"
        f"control    {document['control']}\n"
    )
