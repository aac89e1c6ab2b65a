"""`tussah dht`: the network's distributed table, who is where and small signed values."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated
from urllib.parse import urlencode

from cyclopts import Parameter

from scripts.api import client
from scripts.cli.client import reach
from scripts.cli.common import PLAIN, Common, give, out, say
from scripts.cli.words import count
from scripts.failure import Document, Failed

MAX_VALUE = 768
"""bytes of a value, as in `p2p.dht.value`."""

MAX_FILE = 2 << 20
"""bytes of a file that are read: more than a configuration, or a value, may have."""


def get(
    key: str,
    /,
    *,
    name: str | None = None,
    idx: int = 0,
    ton_config: str | None = None,
    common: Common = PLAIN,
) -> int:
    """Look up a value. The nodes that are asked see your address and what you look for.

    Where a node listens stands under its id: tussah dht get ID --name address (or libp2p).

    Parameters
    ----------
    key
        With --name the owner's ADNL id: 64 hex digits, TON's 55 letters, or the first digits of a
        node that `tussah peers` lists. Without it the id of the key: 64 hex digits.
    name
        Name of the value.
    idx
        Its index, 0 to 15.
    ton_config
        Ask another DHT, TON's own for one: its global configuration file. No node need run; this
        home's network learns nothing of it.
    """
    from scripts.cli import render

    if ton_config is not None:
        from scripts import abroad

        return _show(abroad.get(_read(ton_config), key, name, idx), render.value, common)
    query = {"id": key, "idx": str(idx), **({} if name is None else {"name": name})}
    return _show(_call(common, f"/dht/values?{urlencode(query)}"), render.value, common)


def put(
    name: str,
    value: str | None = None,
    /,
    *,
    file: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    ttl: int = 3600,
    idx: int = 0,
    keep: bool = False,
    common: Common = PLAIN,
) -> int:
    """Store a value under this node's own key, signed: anybody can read it, nobody else change it.

    It takes the place of the last one of this name only if it is forgotten later than that.

    Parameters
    ----------
    name
        Name of the value.
    value
        The value as text, at most 768 bytes.
    file
        Take it from a file; - is standard input.
    ttl
        Seconds until it is forgotten, 3600 at most.
    idx
        Its index, 0 to 15.
    keep
        Store it again and again while the node runs. Else it is stored once.
    """
    from scripts.cli import render

    body = {
        "name": name,
        "value_hex": _content(value, file).hex(),
        "ttl_s": ttl,
        "idx": idx,
        "keep": keep,
    }
    return _show(_call(common, "/dht/values", body), render.stored, common)


def find_node(target: str, /, *, ton_config: str | None = None, common: Common = PLAIN) -> int:
    """Show the nodes of the DHT nearest to an id, the nearest first.

    Parameters
    ----------
    target
        64 hex digits, TON's 55 letters, or the first digits of a node that `tussah peers` lists.
    ton_config
        Ask another DHT, as for `tussah dht get`.
    """
    from scripts.cli import render

    if ton_config is not None:
        from scripts import abroad

        return _show(abroad.find_node(_read(ton_config), target), render.nodes, common)
    return _show(_call(common, f"/dht/nodes?{urlencode({'id': target})}"), render.nodes, common)


def config(*, common: Common = PLAIN) -> int:
    """Print the network's bootstrap nodes as TON's tools read them: a global configuration.

    Their records are fetched now, as each has signed its own. It is JSON with --json and without.
    """
    document = _call(common, "/dht/config")
    missing = document["missing"]
    assert isinstance(missing, list)
    if missing:
        say(f"{count(len(missing), 'bootstrap node')} did not answer and cannot be listed.")
    out(json.dumps(document["config"], indent=1) + "\n")
    return 0


def _call(common: Common, target: str, body: Document | None = None) -> Document:
    return client.call(reach(common.home), "GET" if body is None else "POST", target, body)


def _content(value: str | None, file: str | None) -> bytes:
    if (value is None) is (file is None):
        message = "Give the value, or the file that holds it: one of the two."
        raise Failed("usage", message, "See tussah dht put --help.")
    content = _read(file) if file is not None else (value or "").encode()
    if len(content) > MAX_VALUE:
        raise Failed(
            "usage",
            f"The value has {len(content)} bytes; a DHT takes {MAX_VALUE} at most.",
            "Store where it can be had, and its hash.",
        )
    return content


def _read(file: str) -> bytes:
    try:
        if file == "-":
            return sys.stdin.buffer.read(MAX_FILE)
        with Path(file).open("rb") as opened:
            return opened.read(MAX_FILE)
    except OSError as error:
        raise Failed("usage", f"{file} cannot be read: {error.strerror}.", param="file") from error


def _show(document: Document, draw: Callable[[Mapping[str, object]], None], common: Common) -> int:
    if common.as_json:
        give(document)
    else:
        draw(document)
    return 0
