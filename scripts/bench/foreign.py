"""llama-cpp-python's own server beside our engine, where it is installed: by HTTP, streaming."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Final

from scripts.bench.bare import NICENESS, WORDS
from scripts.bench.report import Result

NEEDS: Final = ("fastapi", "uvicorn", "sse_starlette", "starlette_context", "pydantic_settings")
"""what `llama_cpp.server` is written with; none of it is a dependency of ours"""

STREAMS: Final = (1, 4)
START_WAIT: Final = 120.0
"""seconds until it must answer"""


def measured(
    path: Path, length: int, threads: int, ours: Sequence[Result], say: Callable[[str], None]
) -> tuple[list[Result], list[str]]:
    """Rows against it, or a note why there are none."""
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        return [], [
            f"llama_cpp.server was not measured: {', '.join(missing)} not installed; "
            "llama-server neither: no binary of it comes with a package"
        ]
    rows = []
    with server(path, context=512 * max(STREAMS), threads=threads) as port:
        _seconds(port, 1, 4)
        for count in (count for count in STREAMS if _own(ours, count)):
            rate = count * length / _seconds(port, count, length)
            own = _own(ours, count)
            say(f"llama_cpp.server: {rate:.1f} 1/s with {count} streams")
            rows.append(
                Result(
                    name=f"tokens_per_second_{count}_vs_llama_cpp_server",
                    value=own,
                    unit="1/s",
                    ratio=round(own / rate, 3),
                    against="llama_cpp.server",
                )
            )
    return rows, ["llama-server was not measured: no binary of it comes with a package"]


def _own(ours: Sequence[Result], count: int) -> float:
    """What our engine does with so many streams; 0 if that was not measured."""
    name = f"tokens_per_second_{count}"
    return next((row.value for row in ours if row.name == name), 0.0)


START: Final = (
    f"import os, runpy; os.nice({NICENESS}); "
    "runpy.run_module('llama_cpp.server', run_name='__main__')"
)
"""as nice as our engine is"""


@contextmanager
def server(path: Path, *, context: int, threads: int) -> Iterator[int]:
    """A `llama_cpp.server` on loopback, at the port that it gives."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-c", START, "--model", str(path)]
    options = ["--host", "127.0.0.1", "--port", str(port), "--n_ctx", str(context)]
    options += ["--n_threads", str(threads)]
    environment = {**os.environ, "GOMP_SPINCOUNT": "1000"}
    with subprocess.Popen(  # noqa: S603 - an installed package's
        [*command, *options, "--verbose", "false"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
    ) as process:
        try:
            _await(port, process)
            yield port
        finally:
            process.kill()


def _await(port: int, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + START_WAIT
    while time.monotonic() < until and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), 1.0):
                return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError("llama_cpp.server did not start")


def _seconds(port: int, count: int, length: int) -> float:
    began = time.perf_counter()
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(lambda number: _stream(port, number, length), range(count)))
    return time.perf_counter() - began


def _stream(port: int, number: int, length: int) -> None:
    """One answer, read to its end."""
    body = {
        "prompt": WORDS.format(*[number] * 4),
        "max_tokens": length,
        "temperature": 0.8,
        "stream": True,
        "logit_bias": {"2": -100},
    }
    connection = HTTPConnection("127.0.0.1", port, timeout=600)
    try:
        headers = {"content-type": "application/json"}
        connection.request("POST", "/v1/completions", json.dumps(body), headers)
        connection.getresponse().read()
    finally:
        connection.close()
