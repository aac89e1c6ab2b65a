"""What a command costs before it does anything: processor time of the whole process.

`status` is asked of a stand-in for a node, in this process, so that only the command is measured;
beside it runs an interpreter that does nothing.
"""

import json
import os
import socket
import socketserver
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Final

from scripts import version
from scripts.bench.report import Bench, Bound, Result, judged, middle
from scripts.failure import Document, Failed
from scripts.home import Home

BARE: Final = ("-c", "pass")
TUSSAH: Final = ("-m", "scripts.cli.main")

AIMS: Final = {"status_cpu_ms": Bound(most=300.0), "help_cpu_ms": Bound(most=300.0)}
"""Longer than that and it feels like waiting."""


def measure(quick: bool, say: Callable[[str], None]) -> Bench:
    """Run the benchmark; `say` gets a line of progress now and then."""
    rounds = 5 if quick else 15
    with tempfile.TemporaryDirectory(prefix="tussah-") as directory:
        home = Home(Path(directory) / "home")
        home.prepare()
        with _standing_in(home):
            status = (*TUSSAH, "status", "--json", "--home", str(home.path))
            subjects = {"bare": BARE, "status": status, "help": (*TUSSAH, "--help")}
            for words in subjects.values():  # the first start of each compiles modules
                _cpu_ms(words)
            taken = [
                {name: _cpu_ms(words) for name, words in subjects.items()} for _ in range(rounds)
            ]
    say(f"{rounds} rounds of {len(subjects)} processes")
    results = [_row(name, [each[name] for each in taken], taken) for name in ("status", "help")]
    return Bench(
        bench="cli",
        quick=quick,
        rounds=rounds,
        results=results,
        aims=judged(results, AIMS),
        notes=["what the node itself does for `status` is not in it"],
    )


def _row(name: str, own: Sequence[float], taken: Sequence[dict[str, float]]) -> Result:
    bare = middle([each["bare"] for each in taken])
    value = middle(own, 1)
    against = "an interpreter that does nothing"
    ratio = round(value / bare, 1) if bare else None
    return Result(name=f"{name}_cpu_ms", value=value, unit="ms", ratio=ratio, against=against)


def _cpu_ms(words: Sequence[str]) -> float:
    """Processor time of one interpreter, from its start to its end. Raises `Failed`."""
    null = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)
    process = os.posix_spawn(
        sys.executable, [sys.executable, *words], os.environ, file_actions=[null]
    )
    _, status, used = os.wait4(process, 0)
    if status:
        raise Failed("failed", f"{' '.join(words)} ended with {os.waitstatus_to_exitcode(status)}.")
    return (used.ru_utime + used.ru_stime) * 1_000.0


# --- a node's control API, as far as `status` asks ---


class _Said(BaseHTTPRequestHandler):
    """Says who it is, and how it is."""

    def do_GET(self) -> None:
        body = json.dumps(version.document() if self.path == "/version" else STATUS).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *words: object) -> None:  # noqa: A002 - the library's name
        """Nothing."""


class _Node(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def get_request(self) -> tuple[socket.socket, str]:
        """As of TCP, whose clients have addresses."""
        request, _ = super().get_request()
        return request, "local"


@contextmanager
def _standing_in(home: Home) -> Iterator[None]:
    with _Node(str(home.socket), _Said) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


STATUS: Final[Document] = {"schema": "tussah/status/1", "alerts": [{"message": "moth " * 10}] * 40}
"""As long as a real one."""
