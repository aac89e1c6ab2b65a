"""A model's file as it grows: preallocated, chunk by chunk, and never forgotten half-way.

    NAME.part       the file, at its full length from the start
    NAME.part.map   one byte per chunk: 1 once its bytes are on the disk and their hash is right

Killed at any point it goes on at the last good chunk; a torn map is made anew by hashing the part.
"""

import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import final

from inference import catalogue
from inference.catalogue import Item


@final
class Part:
    """A file of which some chunks are there. All calls block: make them in a thread."""

    def __init__(self, path: Path, item: Item, file: int, marks: bytearray) -> None:
        self._path = path
        self._item = item
        self._file = file
        self._marks = marks
        self.spans = tuple(spans_of(item))
        """Where each chunk begins, and its length."""

    @classmethod
    def open(cls, path: Path, item: Item) -> "Part":
        """The part that is there, or a new one of the file's full length."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part_path = _part_of(path)
        file = os.open(part_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        is_new = os.fstat(file).st_size != item.size
        if is_new:
            os.ftruncate(file, item.size)
        part = cls(path, item, file, bytearray(len(item.chunks)))
        if not is_new:
            part.recall()
        return part

    def __enter__(self) -> "Part":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def recall(self) -> None:
        """Which chunks are there: by the map, or if that is torn by their hashes."""
        try:
            marks = map_of(self._path).read_bytes()
        except FileNotFoundError:
            marks = b""
        if len(marks) == len(self._marks) and not set(marks) - {0, 1}:
            self._marks[:] = marks
            return
        for index, (at, size) in enumerate(self.spans):
            self._marks[index] = self._is_right(index, os.pread(self._file, size, at))
        self._write_map()

    def put(self, index: int, data: bytes) -> bool:
        """Take a chunk, durably, if it is the right one."""
        if not self._is_right(index, data):
            return False
        at, _ = self.spans[index]
        view = memoryview(data)
        while view:
            written = os.pwrite(self._file, view, at)
            at, view = at + written, view[written:]
        os.fdatasync(self._file)
        self._marks[index] = 1
        self._write_map()
        return True

    def finish(self) -> Path | None:
        """Give the file its name, if all of it is what the catalogue says; else forget it."""
        digest = sha256()
        for at, size in self.spans:
            digest.update(os.pread(self._file, size, at))
        if digest.digest() != self._item.sha256:
            map_of(self._path).unlink(missing_ok=True)
            _part_of(self._path).unlink(missing_ok=True)
            return None
        os.fsync(self._file)
        _part_of(self._path).rename(self._path)
        map_of(self._path).unlink(missing_ok=True)
        _sync(self._path.parent)
        return self._path

    @property
    def missing(self) -> list[int]:
        """Chunks that are not there."""
        return [index for index, mark in enumerate(self._marks) if not mark]

    @property
    def missing_bytes(self) -> int:
        """How long they are."""
        return sum(self.spans[index][1] for index in self.missing)

    def _is_right(self, index: int, data: bytes) -> bool:
        return sha256(data).digest() == self._item.chunks[index]

    def _write_map(self) -> None:
        """One write of a few bytes: a torn one has the wrong length, or a chunk too few."""
        file = os.open(map_of(self._path), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(file, self._marks, 0)
            os.ftruncate(file, len(self._marks))
            os.fdatasync(file)
        finally:
            os.close(file)


def spans_of(item: Item) -> Iterator[tuple[int, int]]:
    """Where each chunk begins, and its length."""
    for at in range(0, item.size, catalogue.CHUNK):
        yield at, min(catalogue.CHUNK, item.size - at)


def _part_of(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def map_of(path: Path) -> Path:
    """Where it stands which chunks are there."""
    return path.with_name(path.name + ".part.map")


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
