"""SHA-256 of model files, taken once: some gigabytes take a while at every start.

A file is the same as long as its place, size, time of change and inode are.
"""

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeAlias, final

from scripts.home import Home, write_private

MAX_KEPT: Final = 64
"""files; the one that was looked at longest ago is forgotten for a new one"""

_Mark: TypeAlias = tuple[int, int, int]
"""size, time of change in ns, inode"""


@final
class Digests:
    """What is known of files. Its calls block: make them in a thread."""

    def __init__(self, home: Home) -> None:
        self._file = home.digests
        self._known = self._read()

    def of(self, path: Path) -> bytes:
        """The digest of a file. Raises `OSError` for one that cannot be read."""
        path = path.resolve()
        mark = _mark(path)
        known = self._known.pop(str(path), None)
        if known is None or known[0] != mark:
            with path.open("rb") as file:
                known = mark, hashlib.file_digest(file, "sha256").digest()
            self._known[str(path)] = known
            self._write()
        else:
            self._known[str(path)] = known
        return known[1]

    def _read(self) -> dict[str, tuple[_Mark, bytes]]:
        """A file that holds none is as good as absent: all is hashed again."""
        with suppress(OSError, ValueError, TypeError, AttributeError):
            said = json.loads(self._file.read_text("utf-8"))
            return {
                str(path): ((int(size), int(time), int(inode)), bytes.fromhex(digest))
                for path, (size, time, inode, digest) in said.items()
                if len(digest) == 2 * hashlib.sha256().digest_size
            }
        return {}

    def _write(self) -> None:
        """A disk that takes nothing costs time at the next start, no more."""
        while len(self._known) > MAX_KEPT:
            del self._known[next(iter(self._known))]
        text = json.dumps(
            {path: [*mark, digest.hex()] for path, (mark, digest) in self._known.items()}
        )
        with suppress(OSError):
            write_private(self._file, text + "\n")


def _mark(path: Path) -> _Mark:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino
