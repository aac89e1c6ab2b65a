"""What every command has: `--json`, `--home`, and one way to end."""

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Annotated

from cyclopts import Parameter

from scripts.cli.words import at_home, spent
from scripts.failure import Document, Failure
from scripts.home import Home, locate


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """Options of every command."""

    as_json: Annotated[bool, Parameter(name="--json")] = False
    """Print one JSON document on standard output."""
    directory: Annotated[str | None, Parameter(name="--home")] = None
    """The node's directory; else TUSSAH_HOME, else the platform's place for data."""

    @property
    def home(self) -> Home:
        """Where the node of this command lives."""
        return locate(self.directory, os.environ)


PLAIN = Common()
"""The options when none is given."""


def out(text: str) -> None:
    """Data, on standard output."""
    sys.stdout.write(text)
    sys.stdout.flush()


def say(text: str) -> None:
    """Talk, on standard error: a whole line."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def give(document: Document) -> None:
    """A JSON document, on standard output."""
    out(json.dumps(document, ensure_ascii=False) + "\n")


def fail(failure: Failure, home: Home, *, as_json: bool) -> int:
    """Report a failure; returns the exit status."""
    failure = replace(failure, advice=at_home(failure.advice, home.path))
    if as_json:
        give(failure.document())
    say(f"tussah: {failure}")
    if failure.cost is not None:
        say(at_home(spent(failure.cost), home.path))
    return failure.meaning.exit


_NOT_OURS = (signal.SIG_IGN, None)
"""Handlers that are left alone: ignored, or not Python's."""


@contextmanager
def interrupting(stop: Callable[[], None]) -> Iterator[None]:
    """Have the first SIGINT or SIGTERM call `stop`; the next ends the command at once.

    `stop` may be called twice, and in another thread: a signal that comes between the last look for
    one and a wait for bytes would else be noticed with the next byte, which may never come.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    ours = [number for number, handler in before.items() if handler not in _NOT_OURS]

    def first(number: int, frame: object) -> None:
        restore()
        stop()

    def restore() -> None:
        for each in ours:
            signal.signal(each, before[each])

    for number in ours:
        signal.signal(number, first)
    try:
        with _beside(ours, stop):
            yield
    finally:
        restore()


@contextmanager
def _beside(numbers: Sequence[int], stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` in a thread once one of these signals has come."""
    listening, told = socket.socketpair()
    told.setblocking(False)

    def listen() -> None:
        while number := listening.recv(1):
            if number[0] in numbers:
                stop()

    thread = threading.Thread(target=listen, daemon=True)
    before = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        told.close()
        thread.join()
        listening.close()
