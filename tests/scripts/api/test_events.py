"""Server-sent events over a real socket: what is said while nothing happens, and at the end."""

import pytest
import trio

from scripts.api import exchange
from scripts.api.events import Events
from scripts.failure import Failed

GET = "GET / HTTP/1.1\nHost: localhost\nConnection: close\n\n"


def app(work, heartbeat=10.0):
    return Events(work, heartbeat=heartbeat)


async def test_reader_is_kept_awake_once_it_is_promised_an_answer(run):
    go = trio.Event()

    async def work(stream):
        await stream.begin({"x-tussah-worker": "ab"})
        await go.wait()
        await stream.event("done", {"answer": "Luna"})

    client = await (await run(app(work, heartbeat=0.01))).connect()
    await client.say(GET)
    head = await client.until(b"\r\n\r\n")
    assert b"content-type: text/event-stream; charset=utf-8" in head
    assert b"cache-control: no-cache" in head
    assert b"x-tussah-worker: ab" in head
    await client.until(b": waiting\n\n")
    go.set()
    rest = await client.rest()
    assert b'event: done\ndata: {"answer": "Luna"}\n\n' in rest
    assert rest.endswith(b"0\r\n\r\n")


async def test_nothing_is_promised_before_it_begins(run):
    go = trio.Event()

    async def work(stream):
        await go.wait()
        raise Failed("no_worker", "Nobody is there.")

    running = await run(app(work, heartbeat=0.01))
    client = await running.connect()
    await client.say(GET)
    await running.until(lambda statistics: statistics.requests)
    go.set()
    assert (await client.rest()).startswith(b"HTTP/1.1 503 ")


async def test_failure_after_the_beginning_is_the_last_event(run):
    async def work(stream):
        await stream.begin({})
        raise Failed("worker_lost", "It is gone.")

    client = await (await run(app(work))).connect()
    await client.say(GET)
    text = await client.rest()
    assert text.startswith(b"HTTP/1.1 200 ")
    assert b"event: error\ndata: " in text
    assert text.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("begun", [False, True])
async def test_bug_in_the_work_is_a_500_or_a_cut_stream(run, monkeypatch, begun):
    lines = []

    class Log:
        def exception(self, event, **keys):
            lines.append(event)

    monkeypatch.setattr(exchange, "log", Log())

    async def work(stream):
        if begun:
            await stream.begin({})
        raise ZeroDivisionError

    client = await (await run(app(work))).connect()
    await client.say(GET)
    text = await client.rest()
    assert text.startswith(b"HTTP/1.1 200 " if begun else b"HTTP/1.1 500 ")
    assert not (begun and text.endswith(b"0\r\n\r\n"))
    assert lines == ["api.request_failed"]


async def test_work_of_a_reader_that_leaves_is_cancelled(run):
    begun, ended = trio.Event(), trio.Event()

    async def work(stream):
        try:
            await stream.begin({})
            begun.set()
            await trio.sleep_forever()
        finally:
            ended.set()

    running = await run(app(work))
    client = await running.connect()
    await client.say(GET)
    await begun.wait()
    await client.stream.aclose()
    await ended.wait()
    await running.until(lambda statistics: not statistics.connections)


async def test_work_of_a_reader_that_stalls_is_cancelled(run):
    ended = trio.Event()

    async def work(stream):
        try:
            await stream.begin({})
            while True:
                await stream.event("piece", {"text": "x" * 65_536})
        finally:
            ended.set()

    running = await run(app(work), write_seconds=0.05)
    client = await running.connect()
    await client.say(GET)
    await ended.wait()
    await running.until(lambda statistics: not statistics.connections)
