"""Operators that lied to this home: not asked for a month, restarts included.

All that is kept of whom was asked: who refused, or was lost, is forgotten with the process.
"""

import json
import math
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, final

import structlog

from inference.market import BAN, Memory
from scripts.home import Home, write_private

GROUP_SIZE: Final = 32
"""bytes of an operator group"""

log = structlog.get_logger()


@final
class Bans:
    """A `memory` whose bans outlive the process."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self.memory = Memory(_read(home, time.time()))
        self._kept = self.memory.bans()

    def keep(self) -> None:
        """Write down what is new. A full disk must not cost an answer."""
        bans = self.memory.bans()
        if bans == self._kept:
            return
        text = json.dumps({group.hex(): until for group, until in bans.items()})
        try:
            write_private(self._home.bans, text + "\n")
        except OSError as error:
            log.warning("bans.unkept", why=error.strerror)
            return
        self._kept = bans


def _read(home: Home, now: float) -> Mapping[bytes, float]:
    """Those still in force; a file that holds none is as good as absent."""
    with suppress(OSError, ValueError, TypeError, AttributeError):
        said = json.loads(home.bans.read_text("utf-8"))
        bans = {bytes.fromhex(group): float(until) for group, until in said.items()}
        return {group: until for group, until in bans.items() if _is_ban(group, until, now)}
    return {}


def _is_ban(group: bytes, until: float, now: float) -> bool:
    return len(group) <= GROUP_SIZE and math.isfinite(until) and now < until <= now + BAN
