"""Which line of the protocol caused what a log records: the interpreter's profiler, while asked.

A record is what a core was given or said. What it says are events and sends, each an object that
some line made; the calls between two records are seen, and that line is kept.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final, NamedTuple, final

from simulations.code import ROOT
from simulations.log import Record

PACKAGES: Final = tuple(str(ROOT / name) + "/" for name in ("p2p", "ledger", "inference"))

MAX_CALLS: Final = 100_000
"""calls between two records that are kept"""

MAX_CAUSES: Final = 4
"""lines that are shown of one record"""

_GENERATED: Final = "<string>"
"""The file of the constructors that dataclasses and named tuples have."""


class Cause(NamedTuple):
    """A line that made an object, or a function that took what came."""

    file: str
    line: int
    function: str
    made: str
    """the class of the object; empty for a function that was entered"""

    def __str__(self) -> str:
        what = f"made {self.made}" if self.made else "entered"
        return f"{what} in {self.function} at {self.file}:{self.line}"


@final
class Tracer:
    """Remembers the calls of the protocol's code since the last record."""

    def __init__(self) -> None:
        self._calls: list[Cause] = []
        self._on = False

    @contextmanager
    def tracing(self) -> Iterator[None]:
        """Look at every call of this thread."""
        self._on = True
        before = sys.getprofile()
        sys.setprofile(self._profile)
        try:
            yield
        finally:
            sys.setprofile(before)
            self._on = False
            self._calls.clear()

    def causes(self, record: Record) -> tuple[Cause, ...]:
        """What made a record that has just been added; forgets the calls before it."""
        if not self._on:
            return ()
        calls, self._calls = self._calls, []
        text = record.data[:128].decode(errors="replace")
        named = [each for each in calls if each.made and text.startswith(f"{each.made}(")]
        entered = [each for each in calls if not each.made]
        return tuple(dict.fromkeys(named[-1:] or entered[-MAX_CAUSES:]))

    def _profile(self, frame: FrameType, event: str, _: object) -> None:
        if event != "call" or len(self._calls) >= MAX_CALLS:
            return
        file = frame.f_code.co_filename
        if file == _GENERATED or file.startswith("<"):
            self._made(frame)
        elif file.startswith(PACKAGES):
            self._calls.append(_at(frame, ""))

    def _made(self, frame: FrameType) -> None:
        """A constructor that nobody wrote: the line is its caller's."""
        caller, name = frame.f_back, frame.f_code.co_name
        if caller is None or not caller.f_code.co_filename.startswith(PACKAGES):
            return
        if name == "__init__":
            self._calls.append(_at(caller, type(frame.f_locals["self"]).__name__))
        elif "_cls" in frame.f_locals:
            self._calls.append(_at(caller, frame.f_locals["_cls"].__name__))


def _at(frame: FrameType, made: str) -> Cause:
    code = frame.f_code
    file = str(Path(code.co_filename).relative_to(ROOT))
    line = frame.f_lineno if made else code.co_firstlineno
    return Cause(file=file, line=line, function=code.co_qualname, made=made)
