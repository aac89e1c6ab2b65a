"""`tussah up`, `tussah down`: the node's life."""

import gc
import os
from typing import Annotated

from cyclopts import Parameter

from scripts import settings
from scripts.api import client
from scripts.cli import readiness
from scripts.cli.client import reach, start_detached
from scripts.cli.common import PLAIN, Common, give, out, say
from scripts.cli.words import at_home
from scripts.failure import Document, Failed
from scripts.home import pid, wait_unlocked

DRAIN_SECONDS = 75.0
"""seconds `down` waits: the node gives its running answers 60."""


def up(
    *,
    worker: bool = False,
    relay: bool = False,
    mint: bool = False,
    only_ask: Annotated[bool, Parameter(name="--client")] = False,
    network: str | None = None,
    host: str | None = None,
    port: int | None = None,
    model: str | None = None,
    upstream: str | None = None,
    changes: Annotated[tuple[str, ...], Parameter(name="--set")] = (),
    detach: bool = False,
    common: Common = PLAIN,
) -> int:
    """Start the node. It runs until Ctrl-C, which lets running answers finish.

    Parameters
    ----------
    worker
        Serve a model.
    relay
        Forward others' circuits.
    mint
        Sell credits and redeem them; the network's profile must name this node.
    only_ask
        Only ask, whatever the settings say; with a new identity at each start.
    network
        The joined network to take part in.
    host
        IP address to listen on.
    port
        TCP and UDP port to listen on.
    model
        What to serve: path of a GGUF file, or auto.
    upstream
        http://HOST:PORT of a server that speaks OpenAI's protocol, to serve what it computes.
    changes
        NAME=VALUE of any setting; may be repeated.
    detach
        Return once the node is up and its worker serves, and let it run. With --json, once it is
        up.
    """
    flags: dict[str, object] = {
        "network": network,
        "node.roles": _roles(only_ask=only_ask, relay=relay, worker=worker, mint=mint),
        "node.host": host,
        "node.port": port,
        "worker.model": model,
        "worker.upstream": upstream,
        **dict(_change(change) for change in changes),
    }
    home = common.home
    chosen, _ = settings.load(flags=flags, environ=os.environ, file=home.config)
    if detach:
        options = [option for name, value in flags.items() for option in _as_option(name, value)]
        document = start_detached(home, options)
        _tell(document, common)
        serves = "worker" in chosen.node.roles and not common.as_json
        return readiness.tell(home) if serves else 0

    # Not before it is certain that a node will run here: it loads the whole network stack. What is
    # imported stays: the collector, looking through it again and again, takes a third of that time.
    gc.disable()
    from scripts import daemon

    gc.freeze()
    gc.enable()
    return daemon.main(chosen, home=home, ready=lambda document: _tell(document, common))


def _roles(*, only_ask: bool, **chosen: bool) -> tuple[str, ...] | None:
    roles = tuple(name for name, on in chosen.items() if on)
    if only_ask and roles:
        message = f"--client goes alone: it takes no role, and --{roles[0]} is one."
        raise Failed("usage", message, "Leave one of them out.")
    return roles if roles or only_ask else None


def _change(change: str) -> tuple[str, str]:
    name, equals, value = change.partition("=")
    if not equals:
        raise Failed("usage", f"--set {change} lacks a value.", "Write it as NAME=VALUE.")
    return name, value


def _as_option(name: str, value: object) -> list[str]:
    """A setting for a child's command line."""
    if value is None:
        return []
    if isinstance(value, tuple):
        return [f"--{role}" for role in value] or ["--client"]
    return ["--set", f"{name}={value}"]


def _tell(document: Document, common: Common) -> None:
    if common.as_json:
        give(document)
        return
    roles = document["roles"]
    assert isinstance(roles, list)
    out(
        f"node       {str(document['id'])[:8]} - {', '.join(roles) or 'asks only'}\n"
        f"network    {document['network']}\n"
        f"listening  {document['address'] or 'no: it only dials'}\n"
        f"local API  {_local(document['api'], common)}\n"
        f"process    {document['pid']}; {at_home('stop it with tussah down', common.home.path)}\n"
    )


def _local(url: object, common: Common) -> str:
    return f"{url}; {at_home('its key: tussah key api', common.home.path)}" if url else "off"


def down(*, common: Common = PLAIN) -> int:
    """Stop the node. Running answers finish first, within a minute."""
    home = common.home
    path, process = reach(home), pid(home)
    client.call(path, "POST", "/shutdown")
    if not common.as_json:
        say("Stopping; running answers finish first.")
    if not wait_unlocked(home, DRAIN_SECONDS):
        message = f"The node has not stopped after {DRAIN_SECONDS:.0f} s."
        raise Failed("failed", message, f"End it: kill {process}")
    if common.as_json:
        give({"schema": "tussah/down/1", "pid": process, "stopped": True})
    else:
        out("Stopped.\n")
    return 0
