"""Data sets that experiments may read: where they are expected, and whether they are right.

None is part of the program: without them the quantiles that are built in are used, or a trace is
missed by name.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Final, Literal, NamedTuple

from simulations import code
from simulations.experiment import Experiment
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


class Used(NamedTuple):
    """A file that a run reads."""

    path: str
    sha256: str


def place(given: str | None) -> Path | None:
    """The directory of data: the one given, else `TUSSAH_DATA`."""
    name = given or os.environ.get("TUSSAH_DATA")
    return Path(name) if name else None


def verify(directory: Path | None) -> tuple[File, ...]:
    """Look at every data set that is known."""
    return tuple(_look(directory, name, wanted) for name, wanted in KNOWN.items())


def used(exp: Experiment) -> tuple[Used, ...]:
    """The files that an experiment reads here; a latency matrix that is not at hand is none."""
    latency, arrivals = exp.network.latency, exp.workload.arrivals
    paths = [Path(name) for name in (arrivals.file, exp.nodes.capability) if name]
    if latency.kind == "matrix":
        found = Path(latency.file) if latency.file else matrix.find()
        paths += [] if found is None else [found]
    return tuple(Used(path=str(path), sha256=_digest(path)) for path in paths if path.is_file())


def run_hash(exp: Experiment, seed: int) -> str:
    """Names a run: by its setting, its seed, the code, and the data that it reads."""
    return code.run_hash(exp.config_hash(), seed, [each.sha256 for each in used(exp)])


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
    found = _digest(path)
    return File(name=name, state="ok" if found == wanted else "wrong", found=found)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
