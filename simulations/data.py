"""Data sets that experiments may read: where they are expected, and whether they are right.

None is part of the program: without them the quantiles that are built in are used, or a trace is
missed by name.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Final, Literal

from simulations.network import matrix

SCHEMA: Final = "tussah/sim-data/1"

KNOWN: Final[Mapping[str, str]] = {
    matrix.FILE: matrix.SHA256,
    "workload/azure_llm_2023_code.csv.gz": (
        "1848bccdc2c8aaeba81f809e7ee327b404e0bdd5ffd37282ca588f10b003edca"
    ),
    "workload/azure_llm_2023_conv.csv.gz": (
        "95135d32205d89b986e54b5021d8f09f9a8773a2b13115b30b4c26bee38d246c"
    ),
}
"""SHA-256 by path below the directory of data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A data set, as it was found."""

    name: str
    state: Literal["ok", "absent", "wrong"]
    found: str | None
    """its SHA-256"""


def place(given: str | None) -> Path | None:
    """The directory of data: the one given, else `TUSSAH_DATA`."""
    name = given or os.environ.get("TUSSAH_DATA")
    return Path(name) if name else None


def verify(directory: Path | None) -> tuple[File, ...]:
    """Look at every data set that is known."""
    return tuple(_look(directory, name, wanted) for name, wanted in KNOWN.items())


def document(directory: Path | None, files: tuple[File, ...]) -> dict[str, object]:
    """The `sim data verify` document."""
    return {
        "schema": SCHEMA,
        "directory": None if directory is None else str(directory),
        "files": [
            {
                "name": each.name,
                "state": each.state,
                "sha256": KNOWN[each.name],
                "found": each.found,
            }
            for each in files
        ],
    }


def _look(directory: Path | None, name: str, wanted: str) -> File:
    path = None if directory is None else directory / name
    if path is None or not path.is_file():
        return File(name=name, state="absent", found=None)
    with path.open("rb") as file:
        found = file_digest(file, "sha256").hexdigest()
    return File(name=name, state="ok" if found == wanted else "wrong", found=found)
