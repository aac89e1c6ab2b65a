"""What a person is told of a worker that was started in the background: that it serves, and how."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, cast

from scripts.api import client
from scripts.cli.common import out, say
from scripts.cli.words import at_home, ton
from scripts.failure import Document, Failed
from scripts.home import Home

PAUSE: Final = 0.2
"""seconds between two looks"""

PATIENCE: Final = 300.0
"""seconds: the largest models load for minutes"""


def tell(home: Home) -> int:
    """Wait until the worker has made up its mind, and say how it serves; the exit status.

    A node whose worker cannot serve goes on: it still asks, and relays if it is told to.
    """
    status = _settled(home.socket)
    worker = _map(status["worker"])
    state, reasons = (
        str(worker["state"]),
        [str(each) for each in cast("list[str]", worker["reasons"])],
    )
    out("".join(f"{name:<11}{text}\n" for name, text in _lines(home, status).items()))
    match state:
        case "serving":
            out("Serving.\n")
            return 0
        case "paused":
            say(f"Not serving now: {'; '.join(reasons)}.")
            return 0
        case _:
            advice = at_home("See `tussah doctor` and `tussah logs`.", home.path)
            raise Failed("failed", f"The worker does not serve: {'; '.join(reasons)}", advice)


def _settled(path: Path) -> Document:
    """The first `status` in which the worker no longer loads. Ctrl-C leaves the node alone."""
    until, told = time.monotonic() + PATIENCE, False
    while True:
        status = client.call(path, "GET", "/status")
        if _map(status["worker"])["state"] != "loading" or time.monotonic() > until:
            return status
        if not told:
            say("The model is loading and being measured ...")
            told = True
        time.sleep(PAUSE)


def _lines(home: Home, status: Document) -> dict[str, str]:
    """What is known of machine, model, speed and price."""
    limits = client.call(home.socket, "GET", "/worker")
    worker, machine = _map(status["worker"]), _map(status["machine"])
    fit = limits["fit"]
    lines = {"machine": f"{os.cpu_count()} processors{_power(machine)}"}
    if worker["model"] is not None:
        why = f": {_map(fit)['why']}" if fit else ""
        lines["model"] = f"{str(worker['model']).partition(':')[0]}{why}"
    if worker["tokens_per_s"] is not None:
        lines["speed"] = f"answers up to {worker['tokens_per_s']:.0f} tokens/s"
    change = at_home("change it: tussah config set worker.price", home.path)
    lines["price"] = f"{_price(worker['prices'])}; {change}"
    rules = cast("list[Document]", limits["rules"])
    on = [str(rule["rule"]) for rule in rules if rule["value"] not in (None, False, "serve")]
    shown = at_home("tussah worker limits", home.path)
    lines["manners"] = (
        f"gives way by {', '.join(on)}: {shown}" if on else f"gives way to nothing: {shown}"
    )
    return lines


def _power(machine: Mapping[str, object]) -> str:
    battery = machine["battery"]
    if battery is None:
        return ""
    return ", on mains" if _map(battery)["on_mains"] else ", on battery"


def _price(prices: object) -> str:
    if not isinstance(prices, Mapping) or not any(prices.values()):
        return "free"
    answer, prompt = (ton(round(cast("float", prices[name]))) for name in ("completion", "prompt"))
    return f"{answer} for 1,000 tokens of an answer, {prompt} of a prompt"


def _map(part: object) -> Mapping[str, object]:
    assert isinstance(part, Mapping)
    return part
