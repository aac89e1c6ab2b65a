"""Where the local API listens: on loopback alone, at a port that its owner knows."""

import errno
from contextlib import suppress
from typing import Final

import trio

from scripts.failure import Failed

PORT: Final = 8_420
"""Tried first where nobody chose one."""

AUTO, OFF = "auto", "off"


async def opened(chosen: str) -> list[trio.SocketListener]:
    """Listeners on 127.0.0.1 and, where there is one, on ::1, at the same port; none if `off`.

    `auto` is port 8420, or any free one if another program has that. Raises `Failed`
    (`address_in_use`) for a port of one's own choice that is taken.
    """
    if chosen == OFF:
        return []
    port = PORT if chosen == AUTO else int(chosen)
    try:
        return await _both(port)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            message = f"The local API cannot listen on port {port}: {error.strerror}."
            raise Failed("failed", message, "Choose another with --set api.port=PORT.") from error
    if chosen == AUTO:
        return await _both(0)
    message = f"Port {port} of the local API is taken by another program."
    raise Failed("address_in_use", message, "Choose another with --set api.port=PORT, or `auto`.")


async def _both(port: int) -> list[trio.SocketListener]:
    listeners = list(await trio.open_tcp_listeners(port, host="127.0.0.1"))
    with suppress(OSError):  # no IPv6 here, or its port is taken: 127.0.0.1 is enough
        listeners += await trio.open_tcp_listeners(port_of(listeners), host="::1")
    return listeners


def port_of(listeners: list[trio.SocketListener]) -> int:
    """The port that they share."""
    port = listeners[0].socket.getsockname()[1]
    assert isinstance(port, int)
    return port
