"""Is a run the same wherever it is made? Fresh processes, other hash seeds, engines and Pythons.

python -m simulations.check FILE SEED       prints the digest of one run
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from simulations.code import ROOT
from simulations.experiment import Experiment, as_tree, from_tree
from simulations.run import run
from simulations.sweep import sweep

SCHEMA: Final = "tussah/sim-check/1"

HASH_SEEDS: Final = (0, 1, 12345)

PYTHONS: Final = ("python3.11", "python3.12", "python3.13")

NEEDED: Final = "import cryptography, msgpack, nacl, raptorq, trio"
"""What another Python must have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to make the run, and what came of it."""

    name: str
    digest: str | None
    skipped: str = ""
    """why it could not be tried"""


def check(
    exp: Experiment,
    seed: int,
    *,
    engine: str | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Way, ...]:
    """Make one run every way there is here; with `engine` by that one, too.

    Of a grid it is the run at its first point.
    """
    _, exp = next(exp.with_({"run.seeds": str(seed), "sweep.grid": exp.sweep.grid}).points())
    ways: list[Way] = []
    for way in _ways(exp, seed, engine):
        say(f"{way.name}: {way.digest or way.skipped}")
        ways.append(way)
    return tuple(ways)


def agree(ways: tuple[Way, ...]) -> bool:
    """Whether all that were tried came to one digest."""
    return len({way.digest for way in ways if not way.skipped}) == 1


def document(exp: Experiment, seed: int, ways: tuple[Way, ...]) -> dict[str, object]:
    """The `sim check` document."""
    return {
        "schema": SCHEMA,
        "experiment": exp.name,
        "config_hash": exp.config_hash(),
        "seed": seed,
        "agree": agree(ways),
        "ways": [
            {"name": way.name, "digest": way.digest, "skipped": way.skipped or None} for way in ways
        ],
    }


def _ways(exp: Experiment, seed: int, engine: str | None) -> Iterator[Way]:
    for number in HASH_SEEDS:
        name = f"PYTHONHASHSEED={number}"
        yield Way(name=name, digest=_in_a_process(sys.executable, exp, seed, number))
    for name in ("futures", *([engine] if engine else [])):
        result = sweep(exp, engine=name, workers=2)
        yield Way(name=f"engine {name}", digest=next((r.digest for r in result.runs), "failed"))
    for name in PYTHONS:
        if not sys.executable.endswith(name) and name != _own():
            yield _by_another(name, exp, seed)


def _own() -> str:
    return "python{}.{}".format(*sys.version_info[:2])


def _by_another(name: str, exp: Experiment, seed: int) -> Way:
    python = shutil.which(name)
    if python is None:
        return Way(name=name, digest=None, skipped="not installed")
    able = subprocess.run([python, "-c", NEEDED], capture_output=True, check=False)  # noqa: S603
    if able.returncode:
        return Way(name=name, digest=None, skipped="has not the libraries of this project")
    return Way(name=name, digest=_in_a_process(python, exp, seed, 0))


def _in_a_process(python: str, exp: Experiment, seed: int, hash_seed: int) -> str:
    with tempfile.TemporaryDirectory(prefix="tussah-sim-") as directory:
        path = Path(directory) / "experiment.json"
        path.write_text(json.dumps(as_tree(exp)))
        done = subprocess.run(  # noqa: S603 (this program, by the interpreter that was found)
            [python, "-m", "simulations.check", str(path), str(seed)],
            env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    last = done.stderr.strip().splitlines()[-1:]
    return done.stdout.strip() if done.returncode == 0 else f"failed: {' '.join(last)}"


def main(file: str, seed: str) -> None:
    """Print the digest of one run."""
    exp = from_tree(json.loads(Path(file).read_text()))
    result = run(exp, int(seed), guarded=True)
    sys.stdout.write(f"{result.digest or result.outcome}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
