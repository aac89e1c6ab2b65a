"""One party of a demonstration or benchmark: a node that ends with its standard input.

`python -m scripts.party --home DIR [--record]`: the node of that home, as `tussah up` runs it.
With `--record` it is watched, and two more requests on its control socket tell what was seen.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from scripts import daemon, process, settings
from scripts.api import local
from scripts.daemon import Daemon
from scripts.failure import Document, Failed
from scripts.home import Home
from scripts.recorder import Markers, Recorder


def main(argv: Sequence[str] | None = None, recorder: Recorder | None = None) -> int:
    """Run the node until it is stopped, or until whoever started it is gone."""
    parser = argparse.ArgumentParser(prog="scripts.party", description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--record", action="store_true")
    chosen = parser.parse_args(argv)
    home = Home(chosen.home)
    process.end_with_input()
    try:
        wanted, _ = settings.load(flags={}, environ=os.environ, file=home.config)
        if not chosen.record:
            return daemon.main(wanted, home=home, ready=_up)
        watching = recorder or Recorder()
        return daemon.main(
            wanted, home=home, ready=_up, recorder=watching, routes=_routes(watching)
        )
    except Failed as failed:
        sys.stderr.write(f"{failed.failure}\n")
        return failed.failure.meaning.exit


def _up(document: Document) -> None:
    """The control API tells when the node is up; nothing need be said."""


def _routes(recorder: Recorder) -> daemon.Routes:
    def routes(node: Daemon) -> list[BaseRoute]:
        async def about(request: Request) -> Response:
            return local.answer(recorder.about(node.identity.public).to_json())

        async def seen(request: Request) -> Response:
            markers = Markers.from_json(await request.json())
            return local.answer(recorder.seen(markers, node.identity.id).to_json())

        return [
            Route("/recorder", about, methods=["GET"]),
            Route("/recorder", seen, methods=["POST"]),
        ]

    return routes


if __name__ == "__main__":
    sys.exit(main())
