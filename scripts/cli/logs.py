"""`tussah logs`: what the node has written, as people or programs read it.

A node takes prompts, answers, keys and whole addresses out before it writes. What is shown passes
the same filter again: a traceback may stand between the lines.
"""

import json
import os
import time
from collections import deque
from collections.abc import Iterator, Mapping
from io import BufferedReader
from itertools import chain
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from scripts import settings
from scripts.cli.common import PLAIN, Common, give, out
from scripts.failure import CODES, Failed
from scripts.home import Home
from scripts.redaction import HIDDEN, SECRETS, scrub

PAUSE: Final = 0.25
"""seconds between looks at a log that is followed"""

MOST: Final = 4 * 1024 * 1024
"""bytes of the end of a log that are read: a busy day"""

LEVELS: Final = ("debug", "info", "warning", "error", "critical")

OWN: Final = ("timestamp", "level", "event")
"""Keys of a line that have a place of their own."""


def logs(
    *,
    follow: Annotated[bool, Parameter(name=["--follow", "-f"])] = False,
    lines: Annotated[int, Parameter(name=["--lines", "-n"])] = 100,
    level: str = "debug",
    common: Common = PLAIN,
) -> int:
    """Show what the node has written: no prompt, answer, key or whole address is ever in it.

    A node that was started with --detach, or by a command that needed one, writes to a file in its
    directory. One in a terminal writes there, one of systemd to the journal, unless the setting
    log.file names a file.

    Parameters
    ----------
    follow
        Wait for more, until Ctrl-C. With --json each line is a document of its own.
    lines
        How many of the last to show.
    level
        The least that is shown: debug, info, warning or error.
    """
    if level not in LEVELS:
        raise Failed("usage", f"There is no level {level}.", f"Known: {', '.join(LEVELS)}.")
    file = place(common.home)
    try:
        with file.open("rb") as opened:
            shown = list(_last(opened, lines, level))
            if common.as_json and not follow:
                give({"schema": "tussah/logs/1", "file": str(file), "lines": shown})
                return 0
            for line in chain(shown, _coming(opened, level) if follow else ()):
                _show(line, as_json=common.as_json)
    except KeyboardInterrupt:  # the usual end of following
        return CODES["interrupted"].exit
    except OSError as error:
        raise Failed(
            "not_found",
            f"There is no log at {file}: {error.strerror}.",
            "A node in a terminal writes there, one of systemd to `journalctl --user -u tussah`.",
        ) from error
    return 0


def place(home: Home) -> Path:
    """Where the log of a home's node is, if it writes to a file."""
    try:
        chosen, _ = settings.load(flags={}, environ={}, file=home.config)
    except Failed:  # a file that cannot be used is the doctor's to tell
        return home.log
    return Path(chosen.log.file) if chosen.log.file else home.log


def last(file: Path, lines: int) -> list[Mapping[str, object]]:
    """The end of a log; empty if there is none."""
    try:
        with file.open("rb") as opened:
            return list(_last(opened, lines, "debug"))
    except OSError:
        return []


def _last(file: BufferedReader, lines: int, level: str) -> Iterator[Mapping[str, object]]:
    """The last lines that matter; the file is at its end then."""
    file.seek(max(0, os.fstat(file.fileno()).st_size - MOST))
    read = (_parsed(raw) for raw in file.read().splitlines())
    return iter(deque((line for line in read if _matters(line, level)), max(lines, 0)))


def _coming(file: BufferedReader, level: str) -> Iterator[Mapping[str, object]]:
    """Lines as they are written, for ever."""
    rest = b""
    while True:
        rest += file.read()
        *whole, rest = rest.split(b"\n")
        yield from (line for line in map(_parsed, whole) if _matters(line, level))
        time.sleep(PAUSE)


def _parsed(raw: bytes) -> Mapping[str, object]:
    """A line as a document, without what must not be shown; `event` alone if it was none."""
    text = scrub(raw.decode("utf-8", "replace"))
    try:
        line = json.loads(text)
    except ValueError:
        line = None
    if not isinstance(line, dict):
        return {"event": text}
    return {key: HIDDEN if key in SECRETS else value for key, value in line.items()}


def _matters(line: Mapping[str, object], level: str) -> bool:
    """What has no level, a traceback for one, always does."""
    own = line.get("level")
    return own not in LEVELS or LEVELS.index(str(own)) >= LEVELS.index(level)


def _show(line: Mapping[str, object], *, as_json: bool) -> None:
    if as_json:
        give(line)
        return
    at = str(line.get("timestamp", ""))[11:19]
    rest = " ".join(f"{key}={value}" for key, value in line.items() if key not in OWN)
    head = f"{at:<8}  {line.get('level', '')!s:<7}  " if at else ""
    out(f"{head}{line.get('event', '')}{'  ' if rest else ''}{rest}\n")
