"""`tussah top`: the node as it is now, twice a second, in the terminal.

It only reads `status`; what it draws of rates and their past it has seen itself.
"""

import os
import select
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from scripts.api import client
from scripts.cli.client import reach
from scripts.cli.common import PLAIN, Common, give
from scripts.cli.words import at_home, count, ton
from scripts.failure import CODES, Document, Failed

if TYPE_CHECKING:
    from rich.console import RenderableType

PAUSE: Final = 0.5
"""seconds between two looks"""

PAST: Final = 60
"""looks that are remembered: half a minute"""

BARS: Final = "▁▂▃▄▅▆▇█"

KEYS: Final = {"p": "/worker/pause", "r": "/worker/resume"}
"""What a key asks of the node."""


class Look(NamedTuple):
    """A `status` document, and when it came, in seconds of a clock that only goes forward."""

    at: float
    status: Document


def top(*, common: Common = PLAIN) -> int:
    """Watch the node in the terminal: work, money, network, alerts. q leaves.

    p pauses the worker, r has it go on. With --json each look is a `status` document on a line of
    its own, for as long as somebody reads.
    """
    path = reach(common.home)
    try:
        if common.as_json:
            _stream(path)
        elif not (sys.stdin.isatty() and sys.stdout.isatty()):
            advice = at_home("See `tussah status`, or `tussah top --json`.", common.home.path)
            raise Failed("usage", "There is no terminal to draw on.", advice)
        else:
            _watch(path)
    except KeyboardInterrupt:  # the usual end
        return CODES["interrupted"].exit
    return 0


def _stream(path: Path) -> None:
    while True:
        give(client.call(path, "GET", "/status"))
        time.sleep(PAUSE)


def _watch(path: Path) -> None:
    """Draw until somebody has enough."""
    from rich.console import Console
    from rich.live import Live

    looks: deque[Look] = deque(maxlen=PAST)
    console, said = Console(), ""
    with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            looks.append(Look(time.monotonic(), client.call(path, "GET", "/status")))
            live.update(frame(looks, said), refresh=True)
            match pressed(PAUSE):
                case "q":
                    return
                case key if key in KEYS:
                    said = _do(path, KEYS[key])
                case _:
                    pass


def _do(path: Path, target: str) -> str:
    try:
        client.call(path, "POST", target, {})
    except Failed as failed:
        return str(failed)
    return ""


@contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """Keys as they are pressed, without Enter; each waits so many seconds for one."""
    import termios
    import tty

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)

    def pressed(seconds: float) -> str:
        ready, _, _ = select.select([terminal], [], [], seconds)
        return os.read(terminal, 1).decode("ascii", "replace") if ready else ""

    try:
        tty.setcbreak(terminal)
        yield pressed
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


# --- drawing ---


def frame(looks: Sequence[Look], said: str = "") -> "RenderableType":
    """All that is shown, of what was seen until now; `said` is the answer to a key."""
    from rich.console import Group
    from rich.table import Table

    now = looks[-1].status
    halves = Table.grid(expand=True)
    halves.add_column(ratio=1)
    halves.add_column(ratio=1)
    halves.add_row(_panel("work", _work(looks)), _panel("money", _money(now)))
    halves.add_row(_panel("network", _network(now)), _panel("machine", _machine(now)))
    panels = [_panel(_title(now), [_reach(now)]), halves]
    alerts = [_alert(alert) for alert in _list(now["alerts"])]
    if alerts:
        panels.append(_panel("alerts", alerts, style="yellow"))
    foot = said or "q leaves   p pauses the worker   r has it go on"
    return Group(*panels, foot)


def _panel(title: str, lines: Sequence[str], style: str = "none") -> "RenderableType":
    from rich.panel import Panel
    from rich.text import Text

    return Panel(Text("\n".join(lines)), title=title, title_align="left", border_style=style)


def _title(now: Document) -> str:
    node = _map(now["node"])
    roles = ", ".join(_words(node["roles"])) or "asks only"
    return f"tussah {str(node['id'])[:8]} - {node['network']} - {roles}"


def _reach(now: Document) -> str:
    reached, api = _map(now["reach"]), _map(now["api"])
    where = ", ".join(_words(reached["addresses"])) or "it only dials"
    asking = count(api["open_requests"], "question")
    return f"{reached['mode']}: {where}   {asking} under way   since {now['started_at']}"


def _work(looks: Sequence[Look]) -> list[str]:
    """What it does for others: the worker's tokens, the relay's bytes."""
    now = looks[-1].status
    lines: list[str] = []
    if now["worker"] is not None:
        worker = _map(now["worker"])
        slots = _map(worker["slots"])
        rates = _rates(looks, "worker", "tokens")
        lines += [
            f"worker {worker['state']}  {str(worker['model'] or 'no model').partition(':')[0]}",
            *_words(worker["reasons"]),
            f"{_sparkline(rates)}  {_last(rates):.1f} tokens/s",
            f"{slots['busy'] or 0} of {slots['total'] or 0} slots busy, "
            f"{worker['queue'] or 0} waiting, {worker['answered']} answered",
        ]
    if now["relay"] is not None:
        relay = _map(now["relay"])
        rates = _rates(looks, "relay", "bytes")
        lines += [
            f"relay  {count(relay['circuits'], 'circuit')}, {count(relay['cells'], 'cell')}",
            f"{_sparkline(rates)}  {_last(rates) / 1e3:.1f} kB/s",
        ]
    return lines or ["It only asks."]


def _money(now: Document) -> list[str]:
    money = _map(now["money"])
    if money["credits_nano"] is None:
        return ["Answers are free here."]
    names = {
        "wallet_nano": "in the wallet",
        "credits_nano": "in credits",
        "earned_today_nano": "earned today",
        "spent_today_nano": "spent today",
        "due_nano": "due to this node",
        "owed_nano": "due to others",
    }
    return [
        f"{ton(money[name]):>18}  {what}" for name, what in names.items() if money[name] is not None
    ]


def _network(now: Document) -> list[str]:
    network = _map(now["network"])
    age, agreement = network["directory_age_s"], network["directory_agreement"]
    lines = [
        "joined" if network["joined"] else "joining",
        f"{count(network['relays'], 'relay')}, {count(network['workers'], 'worker')}, "
        f"{count(network['mints'], 'mint')}; {count(network['links'], 'link')}",
    ]
    if isinstance(age, int | float) and isinstance(agreement, int | float):
        lines.append(f"list {age:.0f} s old, {100 * agreement:.0f} % agree")
    return lines


def _machine(now: Document) -> list[str]:
    machine = _map(now["machine"])
    lines = [f"load {machine['cpu_load']}"]
    if machine["temperature_c"] is not None:
        lines.append(f"{machine['temperature_c']} °C")
    if machine["vram"] is not None:
        vram = _map(machine["vram"])
        lines.append(f"graphics memory {_mib(vram['used_bytes'])} of {_mib(vram['total_bytes'])}")
    if machine["battery"] is not None:
        battery = _map(machine["battery"])
        power = "on mains" if battery["on_mains"] else "on battery"
        lines.append(f"{battery['percent']} %, {power}")
    return [*lines, f"this process {_mib(machine['rss_bytes'])}"]


def _alert(alert: object) -> str:
    told = _map(alert)
    return f"{told['message']} {told['advice']}"


def _rates(looks: Sequence[Look], part: str, name: str) -> list[float]:
    """How fast a count has grown, a second, from each look to the next."""
    seen = [
        (each.at, _number(_map(each.status[part])[name])) for each in looks if each.status[part]
    ]
    return [
        max(0.0, after - before) / (later - earlier)
        for (earlier, before), (later, after) in pairwise(seen)
    ]


def _sparkline(values: Sequence[float], width: int = 24) -> str:
    """The last values as bars, the highest of them the full one."""
    shown = list(values)[-width:]
    most = max(shown, default=0.0) or 1.0
    bars = (BARS[round(value / most * (len(BARS) - 1))] for value in shown)
    return "".join(bars).rjust(width, BARS[0])


def _last(values: Sequence[float]) -> float:
    return values[-1] if values else 0.0


def _mib(size: object) -> str:
    return f"{_number(size) / 2**20:,.0f} MiB"


def _number(value: object) -> float:
    return value if isinstance(value, int | float) else 0.0


def _words(words: object) -> list[str]:
    return [str(word) for word in _list(words)]


def _map(part: object) -> Mapping[str, object]:
    assert isinstance(part, Mapping)
    return part


def _list(part: object) -> Sequence[object]:
    assert isinstance(part, list)
    return part
