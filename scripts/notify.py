"""Tells systemd how a node does: that it is up, that it lives, that it ends. No library is needed.

Without NOTIFY_SOCKET in the environment, as everywhere but in a unit, nothing happens.
"""

import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio


def tell(word: str) -> None:
    """Send one state: READY=1, WATCHDOG=1, STOPPING=1."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    to = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    with to, suppress(OSError):  # systemd restarts itself now and then; the next word arrives
        to.connect(address.replace("@", "\0", 1) if address[0] == "@" else address)
        to.send(word.encode())


async def watchdog(breathe: Callable[[], Awaitable[object]]) -> None:
    """Say that the node lives, three times in what systemd allows, as long as it `breathe`s.

    What hangs there hangs here: systemd restarts a node that it does not hear of.
    """
    allowed = os.environ.get("WATCHDOG_USEC", "")
    if not allowed.isdecimal():
        return
    while True:
        await breathe()
        tell("WATCHDOG=1")
        await trio.sleep(int(allowed) / 1e6 / 3)
