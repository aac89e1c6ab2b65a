"""`tussah worker`: when this node serves, and when it gives way to who uses the machine."""

import re
from typing import Final

from scripts.api import client
from scripts.cli.client import reach, start_detached
from scripts.cli.common import PLAIN, Common, give, say
from scripts.cli.words import at_home
from scripts.failure import Document, Failed

UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def start(*, common: Common = PLAIN) -> int:
    """Serve again after `worker stop`. Without a running node one is started that serves.

    What the machine's limits say still holds: `tussah worker limits` shows them.
    """
    try:
        return _order("start", None, common)
    except Failed as failed:
        if failed.failure.code != "not_running":
            raise
    started = start_detached(common.home, ["--worker"])
    say(
        f"No node was running: started one that serves (process {started['pid']}). "
        + at_home("Stop it with `tussah down`.", common.home.path)
    )
    return _order("start", None, common)


def stop(*, common: Common = PLAIN) -> int:
    """Serve nothing until `worker start`, also after a restart of the node.

    Running answers end where they are: what was said is paid, and the model leaves memory. The node
    goes on: it relays and asks as before.
    """
    return _order("stop", None, common)


def pause(duration: str | None = None, /, *, common: Common = PLAIN) -> int:
    """Take nothing new; running answers finish, and the model stays in memory.

    Parameters
    ----------
    duration
        How long: 90s, 30m, 2h, 1h30m, 1d. Without it, until `tussah worker resume`.
    """
    return _order("pause", None if duration is None else _seconds(duration), common)


def resume(*, common: Common = PLAIN) -> int:
    """End a pause or a stop. What the machine's limits say still holds."""
    return _order("resume", None, common)


def limits(*, common: Common = PLAIN) -> int:
    """Show the rules by which the worker gives way, what is measured, and what holds it now."""
    return _show(client.call(reach(common.home), "GET", "/worker"), common)


def _order(action: str, seconds: float | None, common: Common) -> int:
    body = {} if seconds is None else {"seconds": seconds}
    return _show(client.call(reach(common.home), "POST", f"/worker/{action}", body), common)


def _show(document: Document, common: Common) -> int:
    if common.as_json:
        give(document)
    else:
        from scripts.cli import render

        render.worker(document)
    return 0


def _seconds(duration: str) -> float:
    """`1h30m` in seconds."""
    found = re.fullmatch(r"(?:[0-9]{1,5}[smhd])+", duration)
    seconds = sum(
        int(number) * UNITS[unit] for number, unit in re.findall(r"([0-9]+)([smhd])", duration)
    )
    if found is None or not seconds:
        message = f"{duration!r} is no duration."
        raise Failed("usage", message, "Write 30m, 2h or 1h30m.", param="duration")
    return float(seconds)
