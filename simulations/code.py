"""Which code ran: one number over all that decides what a simulation does."""

import platform
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from hashlib import blake2b
from importlib import metadata
from pathlib import Path
from typing import Final

PACKAGES: Final = ("inference", "ledger", "p2p", "simulations")

SUFFIXES: Final = (".boc", ".fc", ".py", ".tl")
"""What runs; ready experiments are named by their own hash."""

LIBRARIES: Final = ("cryptography", "msgpack", "pynacl", "raptorq")
"""What cores are made with: another version may give another run."""

ROOT: Final = Path(__file__).parent.parent


@cache
def code_hash() -> str:
    """Over the sorted paths and the bytes of the packages."""
    whole = blake2b(digest_size=16)
    for path in sorted(_files()):
        name, content = path.relative_to(ROOT).as_posix().encode(), path.read_bytes()
        whole.update(b"%d %d " % (len(name), len(content)) + name + content)
    return whole.hexdigest()


def run_hash(config: str, seed: int, data: Sequence[str] = ()) -> str:
    """Names a run: two of one hash are the same, up to what the machine takes for it.

    `data` are the digests of the files that it reads.
    """
    text = "|".join([config, str(seed), code_hash(), *data])
    return blake2b(text.encode(), digest_size=16).hexdigest()


def machine() -> dict[str, str]:
    """Python, platform and the libraries of cores: what else a digest may depend on."""
    found = {"python": ".".join(map(str, sys.version_info[:3])), "platform": platform.platform()}
    return found | {name: _version(name) for name in LIBRARIES}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"


def _files() -> Iterator[Path]:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*"):
            if path.suffix in SUFFIXES:
                yield path
