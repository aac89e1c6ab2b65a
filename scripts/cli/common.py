"""What every command has: `--json`, `--home`, and one way to end."""

import json
import os
import sys
from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

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


def fail(failure: Failure, *, as_json: bool) -> int:
    """Report a failure; returns the exit status."""
    if as_json:
        give(failure.document())
    say(f"tussah: {failure}")
    return failure.meaning.exit
