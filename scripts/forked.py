"""Python programs as processes, forked from one that has imported already what they need.

Imports are three seconds of a core in a node's start: a network of ten would wait for half a minute
before anything happens. The fork server is the standard library's; it ends with this process.
"""

import multiprocessing
import os
import runpy
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final, final

_CONTEXT: Final = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["scripts.preloaded"])


@final
class Process:
    """`python WORDS` in a session of its own, with its output at the end of a file.

    WORDS are `-m MODULE` or the path of a script, and its arguments. Nothing is ever written to its
    standard input, which ends with this process or at `let_go`. `name` is what `ps` and `top` show.
    """

    def __init__(
        self, words: Sequence[str], *, name: str, output: Path, environment: Mapping[str, str]
    ) -> None:
        output.touch(0o600)
        _see_to_server()
        theirs, self._held = _CONTEXT.Pipe(duplex=False)
        given = (tuple(words), name, str(output), dict(environment), theirs)
        self._process = _CONTEXT.Process(target=_begin, args=given, daemon=True)
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        """Its number."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit status, negative for the signal that ended it; None while it lives."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send it a signal; nothing happens once it has ended."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL."""
        self._process.kill()

    def wait(self, seconds: float | None = None) -> int:
        """Its exit status, once it has ended. Raises `TimeoutError` after so many seconds."""
        self._process.join(seconds)
        if self.returncode is None:
            raise TimeoutError(f"process {self.pid} has not ended in {seconds} s")
        return self.returncode

    def let_go(self) -> None:
        """Its standard input ends."""
        self._held.close()


def _see_to_server() -> None:
    """It must not take a `scripts` for ours that lies where the person happens to be."""
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        forkserver.ensure_running()
    finally:
        del os.environ["PYTHONSAFEPATH"]
        if before is not None:
            os.environ["PYTHONSAFEPATH"] = before


def _begin(
    words: Sequence[str],
    name: str,
    output: str,
    environment: Mapping[str, str],
    held: "Connection[bytes, bytes]",
) -> None:
    """In the child: become what it would be had it been started by the interpreter."""
    os.setsid()
    with suppress(OSError):  # there is no such file but on Linux
        Path("/proc/self/comm").write_text(name)
    os.dup2(held.fileno(), 0)
    held.close()
    log = os.open(output, os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    os.environ.clear()
    os.environ.update(environment)
    _run(*words)


def _run(first: str, *rest: str) -> None:
    if first == "-m":
        sys.argv = list(rest)
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [first, *rest]
        runpy.run_path(first, run_name="__main__")
