"""Each promise of the local API's HTTP server, on a TCP and on a unix socket."""

import json

import pytest
import trio
import trio.lowlevel
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.api import exchange as module
from scripts.api.server import Limits, Server

GET = "GET / HTTP/1.1\nHost: localhost\n\n"


async def hello(scope, receive, send):
    """Answer with what the scope says."""
    body = json.dumps({"path": scope["path"], "query": scope["query_string"].decode()}).encode()
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-length", str(len(body)).encode())],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def echo(scope, receive, send):
    """Read the body whole, then say how many bytes it had."""
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        if not message["more_body"]:
            break
    await answer(send, str(size).encode())


async def answer(send, body):
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Watcher:
    """An app that waits for its client to leave, and tells the test."""

    def __init__(self, *, stream=False):
        self.arrived, self.left = trio.Event(), trio.Event()
        self.stream = stream

    async def __call__(self, scope, receive, send):
        assert (await receive())["type"] == "http.request"
        if self.stream:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"first", "more_body": True})
        self.arrived.set()
        assert (await receive())["type"] == "http.disconnect"
        self.left.set()


async def test_scope_says_what_the_request_says(run, kind):
    scopes = []

    async def app(scope, receive, send):
        scopes.append(scope)
        await hello(scope, receive, send)

    client = await (await run(app)).connect()
    await client.say("GET /a%20b?c=%20d HTTP/1.1\nHost: x\nX-Y: Z\n\n")
    status, _, body = await client.response()

    assert (status, json.loads(body)) == (200, {"path": "/a b", "query": "c=%20d"})
    (scope,) = scopes
    assert scope["asgi"]["spec_version"] == "2.3"
    assert (b"x-y", b"Z") in scope["headers"]
    assert scope["raw_path"] == b"/a%20b"
    assert (scope["client"] is None) == (kind == "unix")


async def test_whole_url_as_target_is_read_as_its_path(run):
    client = await (await run(hello)).connect()
    await client.say("GET http://localhost/a?b HTTP/1.1\nHost: localhost\n\n")
    _, _, body = await client.response()
    assert json.loads(body) == {"path": "/a", "query": "b"}


async def test_no_date_and_no_server_header(run):
    client = await (await run(hello)).connect()
    await client.say(GET)
    _, headers, _ = await client.response()
    assert not {"date", "server"} & headers.keys()


async def test_connection_is_kept_alive(run):
    client = await (await run(hello)).connect()
    for _ in range(3):
        await client.say(GET)
        assert (await client.response())[0] == 200


async def test_pipelined_requests_are_answered_in_order(run):
    client = await (await run(hello)).connect()
    await client.say("".join(f"GET /{n} HTTP/1.1\nHost: x\n\n" for n in range(5)))
    paths = [json.loads((await client.response())[2])["path"] for _ in range(5)]
    assert paths == ["/0", "/1", "/2", "/3", "/4"]


async def test_http_1_0_closes(run):
    client = await (await run(hello)).connect()
    await client.say("GET / HTTP/1.0\n\n")
    assert (await client.rest()).startswith(b"HTTP/1.1 200")


async def test_head_gets_headers_as_for_get_and_no_body(run):
    running = await run(hello)
    client = await running.connect()
    await client.say(GET)
    _, expected, _ = await client.response()
    await client.say("HEAD / HTTP/1.1\nHost: localhost\nConnection: close\n\n")
    head, _, body = (await client.rest()).partition(b"\r\n\r\n")
    assert f"content-length: {expected['content-length']}" in head.decode().lower()
    assert body == b""


# --- bad heads ---


@pytest.mark.parametrize(
    "garbage",
    [b"\0\1\2\3\r\n\r\n", b"GET /\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\0\1\0"],
    ids=["binary", "no version", "no host", "tls"],
)
async def test_bad_bytes_are_refused_and_closed(run, garbage):
    client = await (await run(hello)).connect()
    await client.say(garbage)
    await client.stream.send_eof()
    head, _, body = (await client.rest()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert json.loads(body)["error"]["code"] == "invalid_request"


async def test_head_over_its_bound_is_refused(run):
    client = await (await run(hello)).connect()
    await client.say(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 65_536 + b"\r\n\r\n")
    text = await client.rest()
    assert text.startswith(b"HTTP/1.1 431") or text == b""


async def test_head_at_its_bound_is_taken(run):
    client = await (await run(hello, head_bytes=200)).connect()
    start, end = b"GET / HTTP/1.1\r\nHost: x\r\nX: ", b"\r\n\r\n"
    await client.say(start + b"y" * (200 - len(start) - len(end)) + end)
    assert (await client.response())[0] == 200


async def test_slow_head_is_given_up(run):
    client = await (await run(hello, head_seconds=0.01)).connect()
    await client.say(b"GET / HT")
    head, _, body = (await client.rest()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408")
    assert json.loads(body)["error"]["code"] == "request_timeout"


async def test_silent_connection_is_closed_without_a_word(run):
    client = await (await run(hello, idle_seconds=0.01)).connect()
    assert await client.rest() == b""


async def test_connections_beyond_the_bound_wait_their_turn(run):
    running = await run(hello, connections=1)
    first, second = await running.connect(), await running.connect()
    await second.say(GET)
    await first.say(GET)
    assert (await first.response())[0] == 200
    assert running.server.statistics().connections == 1
    await first.stream.aclose()
    assert (await second.response())[0] == 200


# --- bodies ---


async def test_body_is_read_in_pieces(run):
    client = await (await run(echo)).connect()
    await client.say("POST / HTTP/1.1\nHost: x\nContent-Length: 300000\n\n")
    await client.say(b"x" * 300_000)
    assert await client.response() == (200, {"content-length": "6"}, b"300000")


async def test_chunked_body_is_read(run):
    client = await (await run(echo)).connect()
    await client.say("POST / HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\n3\nabc\n2\nde\n0\n\n")
    assert (await client.response())[2] == b"5"


async def test_body_that_stops_coming_is_a_disconnect(run):
    ended = trio.Event()

    async def app(scope, receive, send):
        await echo(scope, receive, send)
        ended.set()

    client = await (await run(app, body_seconds=0.01)).connect()
    await client.say("POST / HTTP/1.1\nHost: x\nContent-Length: 10\n\nabc")
    assert await client.rest() == b""
    await ended.wait()


async def test_body_cut_short_is_a_disconnect(run):
    client = await (await run(echo)).connect()
    await client.say("POST / HTTP/1.1\nHost: x\nContent-Length: 10\n\nabc")
    await client.stream.send_eof()
    assert await client.rest() == b""


async def test_expect_100_is_answered_when_the_app_reads(run):
    client = await (await run(echo)).connect()
    await client.say("POST / HTTP/1.1\nHost: x\nExpect: 100-continue\nContent-Length: 3\n\n")
    assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
    await client.say(b"abc")
    assert (await client.response())[2] == b"3"


async def test_expect_100_is_not_answered_when_the_app_does_not_read(run):
    client = await (await run(hello, drain_seconds=0.01)).connect()
    await client.say("POST / HTTP/1.1\nHost: x\nExpect: 100-continue\nContent-Length: 3\n\n")
    assert (await client.rest()).startswith(b"HTTP/1.1 200")


async def test_small_unread_body_keeps_the_connection(run):
    client = await (await run(hello)).connect()
    await client.say("POST / HTTP/1.1\nHost: x\nContent-Length: 30000\n\n")
    await client.say(b"x" * 30_000)
    assert (await client.response())[0] == 200
    await client.say(GET)
    assert (await client.response())[0] == 200


async def test_large_unread_body_closes_the_connection(run):
    client = await (await run(hello, drain_bytes=1_000)).connect()
    await client.say("POST / HTTP/1.1\nHost: x\nContent-Length: 70000\n\n")
    await client.say(b"x" * 70_000)
    await client.response()
    assert await client.rest() == b""


# --- disconnects and cancellation ---


@pytest.mark.parametrize("stream", [False, True], ids=["waiting", "streaming"])
async def test_client_that_leaves_is_seen(run, stream):
    app = Watcher(stream=stream)
    client = await (await run(app)).connect()
    await client.say(GET)
    await app.arrived.wait()
    await client.stream.aclose()
    await app.left.wait()


async def test_half_close_counts_as_gone(run):
    app = Watcher()
    client = await (await run(app)).connect()
    await client.say(GET)
    await app.arrived.wait()
    await client.stream.send_eof()
    await app.left.wait()


async def test_client_that_leaves_after_pipelined_bytes_is_seen(run):
    app = Watcher()
    client = await (await run(app)).connect()
    await client.say(GET + GET)
    await app.arrived.wait()
    await client.say(GET)
    await client.stream.aclose()
    await app.left.wait()


async def test_client_that_sends_too_far_ahead_counts_as_gone(run):
    app = Watcher()
    client = await (await run(app, ahead_bytes=1_000)).connect()
    await client.say(GET)
    await app.arrived.wait()
    await client.say(b"x" * 2_000)
    await app.left.wait()


async def flood(scope, receive, send):
    """Send for ever."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})


async def test_cancelling_with_a_stalled_reader_ends_at_once(run):
    running = await run(flood)
    client = await running.connect()
    await client.say(GET)
    await client.until(b"\r\n\r\n")
    await trio.testing.wait_all_tasks_blocked()

    running.scope.cancel()
    with trio.fail_after(2):
        await running.ended.wait()
    assert b"\r\n0\r\n" not in await client.rest()


async def test_stalled_reader_is_given_up(run):
    running = await run(flood, write_seconds=0.05)
    client = await running.connect()
    await client.say(GET)
    while not running.server.statistics().served:
        await trio.lowlevel.checkpoint()
    await client.rest()


async def test_coming_and_going_leaves_nothing_behind(run):
    running = await run(Watcher(stream=True))
    before = trio.lowlevel.current_statistics().tasks_living
    for _ in range(50):
        client = await running.connect()
        await client.say(GET)
        await client.until(b"first")
        await client.stream.aclose()
    while running.server.statistics().connections:
        await trio.lowlevel.checkpoint()
    assert trio.lowlevel.current_statistics().tasks_living == before


# --- apps that fail ---


@pytest.fixture
def errors(monkeypatch):
    """The error lines of the server's log."""
    lines = []

    class Log:
        def exception(self, event, **keys):
            lines.append((event, keys))

        def debug(self, event, **keys): ...

        info = warning = debug

    monkeypatch.setattr(module, "log", Log())
    return lines


async def broken(scope, receive, send):
    raise ZeroDivisionError("planted secret")


async def test_app_that_raises_before_the_head_is_a_500(run, errors):
    client = await (await run(broken)).connect()
    await client.say(GET)
    status, headers, body = await client.response()
    document = json.loads(body)

    assert (status, headers["content-type"]) == (500, "application/json")
    assert document["schema"] == "tussah/error/1"
    assert b"planted secret" not in body
    assert errors == [("api.request_failed", {"request_id": document["error"]["request_id"]})]


async def test_connection_survives_a_500(run, errors):
    client = await (await run(broken)).connect()
    for _ in range(2):
        await client.say(GET)
        assert (await client.response())[0] == 500


async def test_head_request_to_an_app_that_raises_has_no_body(run, errors):
    client = await (await run(broken)).connect()
    await client.say("HEAD / HTTP/1.1\nHost: x\nConnection: close\n\n")
    head, _, body = (await client.rest()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 500")
    assert body == b""


async def test_app_that_raises_after_its_head_was_given_but_not_sent_is_a_500(run, errors):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ZeroDivisionError

    client = await (await run(app)).connect()
    await client.say(GET)
    assert (await client.response())[0] == 500


async def test_app_that_raises_midway_closes_without_the_last_chunk(run, errors):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        raise ZeroDivisionError

    client = await (await run(app)).connect()
    await client.say(GET)
    text = await client.rest()
    assert text.startswith(b"HTTP/1.1 200")
    assert text.endswith(b"4\r\npart\r\n")
    assert len(errors) == 1


async def test_app_that_forgets_its_response_is_a_500(run, errors):
    async def app(scope, receive, send):
        return

    client = await (await run(app)).connect()
    await client.say(GET)
    assert (await client.response())[0] == 500
    assert len(errors) == 1


async def test_app_that_breaks_the_protocol_is_a_500(run, errors):
    async def app(scope, receive, send):
        await send({"type": "http.response.body", "body": b"x"})

    client = await (await run(app)).connect()
    await client.say(GET)
    assert (await client.response())[0] == 500


async def test_app_that_raises_because_its_client_left_is_no_error(run, errors):
    ended = trio.Event()

    async def app(scope, receive, send):
        await receive()
        await receive()
        ended.set()
        raise ConnectionError

    client = await (await run(app)).connect()
    await client.say(GET)
    await client.stream.aclose()
    await ended.wait()
    await trio.testing.wait_all_tasks_blocked()
    assert errors == []


# --- the end of a server ---


async def test_close_ends_idle_connections_and_the_listener(run):
    running = await run(hello)
    client = await running.connect()
    await client.say(GET)
    await client.response()
    running.server.close()
    assert await client.rest() == b""
    await running.ended.wait()
    with pytest.raises(ConnectionRefusedError):
        await running.connect()


async def test_close_lets_a_running_answer_finish(run):
    go = trio.Event()
    arrived = trio.Event()

    async def app(scope, receive, send):
        arrived.set()
        await go.wait()
        await answer(send, b"whole")

    running = await run(app)
    client = await running.connect()
    await client.say(GET)
    await arrived.wait()
    running.server.close()
    go.set()
    assert (await client.response())[2] == b"whole"
    assert await client.rest() == b""


async def test_close_cancels_what_outlasts_the_grace_period(run):
    app = Watcher(stream=True)
    running = await run(app, grace_seconds=0.01)
    client = await running.connect()
    await client.say(GET)
    await app.arrived.wait()
    running.server.close()
    assert (await client.rest()).endswith(b"5\r\nfirst\r\n")


# --- fuzz: nothing a client sends leaves a task or a socket behind ---

SIZED = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n12345678901234567890"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"


class OneClient:
    """A listener whose only client is there already."""

    def __init__(self, stream):
        self._streams = [stream]

    async def accept(self):
        if not self._streams:
            await trio.sleep_forever()
        return self._streams.pop()

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        return None


async def survives(data):
    """Send bytes and an end to a server, and see it let go of everything."""
    ours, theirs = trio.socket.socketpair()
    client = trio.SocketStream(ours)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            server = Server(echo, Limits())
            nursery.start_soon(server.run, [OneClient(trio.SocketStream(theirs))])
            await client.send_all(data)
            await client.send_eof()
            while await client.receive_some(65_536):
                pass
            await client.aclose()
            server.close()
    assert theirs.fileno() == -1
    assert server.statistics().connections == 0


@settings(max_examples=100, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=300),
        st.integers(0, len(SIZED)).map(lambda size: SIZED[:size]),
        st.integers(0, len(CHUNKED)).map(lambda size: CHUNKED[:size]),
        st.tuples(st.integers(0, len(CHUNKED)), st.binary(max_size=40)).map(
            lambda cut: CHUNKED[: cut[0]] + cut[1]
        ),
    )
)
def test_no_bytes_leave_anything_behind(data):
    trio.run(survives, data)
