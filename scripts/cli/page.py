"""`tussah page`: the chat page of a running node."""

import webbrowser
from pathlib import Path
from typing import Final

from scripts.api import client
from scripts.cli.client import reach
from scripts.cli.common import PLAIN, Common, give, out, say
from scripts.failure import Failed
from scripts.home import Home, write_private

LEAP: Final = (
    '<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer">'
    '<title>Tussah</title><meta http-equiv="refresh" content="0; url={url}">\n'
)
"""Takes a browser to the page: its key must not stand on a command line, which others can see."""


def page(*, common: Common = PLAIN) -> int:
    """Open the chat page in a browser: questions, the network, who knows what, money.

    Where there is no browser the address is printed instead; it holds the node's key.
    """
    home = common.home
    url = _url(home)
    is_open = not common.as_json and _open(home, url)
    if common.as_json:
        give({"schema": "tussah/page/1", "url": url})
    elif is_open:
        say(f"Opened {url.partition('#')[0]} in your browser.")
    else:
        say("No browser could be opened. The address holds this node's key: keep it to yourself.")
        out(f"{url}\n")
    return 0


def _url(home: Home) -> str:
    api = client.call(reach(home), "GET", "/status")["api"]
    assert isinstance(api, dict)
    if api["url"] is None:
        message = "This node has no local API, which serves the page."
        raise Failed("failed", message, "Start it again with --set api.port=auto.")
    address = str(api["url"]).removesuffix("v1")
    return address if api["key_file"] is None else f"{address}#k={home.api_secret()}"


def _open(home: Home, url: str) -> bool:
    leap = home.path / "page.html"
    write_private(leap, LEAP.format(url=url))
    return webbrowser.open(Path(leap).as_uri())
