"""The servers that `bench api` holds ours against, each as a process; both live on asyncio."""

import asyncio
import socket
import sys
from functools import partial
from typing import Final

from scripts.bench.streaming import app, ready

BACKLOG: Final = 512
"""connections that wait to be accepted: more than the benchmark opens at once"""

APP: Final = app(partial(asyncio.sleep, 0))


def main(name: str) -> None:
    """Serve on a free port of loopback, until killed."""
    with socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as listener:
        ready(listener.getsockname()[1])
        if name == "uvicorn":
            _uvicorn(listener)
        else:
            _hypercorn(listener)


def _uvicorn(listener: socket.socket) -> None:
    import uvicorn

    config = uvicorn.Config(
        APP, http="h11", ws="none", lifespan="off", log_config=None, access_log=False
    )
    uvicorn.Server(config).run(sockets=[listener])


def _hypercorn(listener: socket.socket) -> None:
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    config = Config()
    config.bind = [f"fd://{listener.fileno()}"]
    config.loglevel = "CRITICAL"
    asyncio.run(serve(APP, config))  # type: ignore[arg-type]


if __name__ == "__main__":
    main(sys.argv[1])
