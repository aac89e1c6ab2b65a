"""A node in this process: what it needs to start, what it says of itself, how its parts fail."""

import os
import re
import socket
import threading
from functools import partial
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import trio
from starlette.routing import Route

from inference.catalogue import DOMAIN
from p2p.entropy import SystemEntropy
from p2p.identity import Identity
from p2p.overlay.advert import Role
from p2p.wire import Endpoint
from scripts import daemon, networks
from scripts.api import client, local
from scripts.failure import Failed
from scripts.home import Home
from scripts.settings import load

PATIENCE = 30


@pytest.fixture
def home(tmp_path):
    """The first node of a network."""
    home = Home(tmp_path / "home")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        endpoint = Endpoint(*probe.getsockname())
    networks.create(home, "moths", endpoint=endpoint, entropy=SystemEntropy(), dev=True)
    return home


def wanted(home, **flags):
    named = {name.replace("__", "."): value for name, value in flags.items()}
    return load(flags=named, environ={}, file=home.config)[0]


@pytest.fixture
def start(home, nursery):
    """Start a node; it is stopped with the test."""

    async def begin(*, recorder=None, routes=None, **flags):
        chosen = wanted(home, **flags)
        run = partial(daemon.run, chosen, home=home, recorder=recorder, routes=routes)
        with trio.fail_after(PATIENCE):
            return await nursery.start(run)

    return begin


async def get(home, target):
    with trio.fail_after(PATIENCE):
        return await trio.to_thread.run_sync(client.call, home.socket, "GET", target)


async def alerts_of(node):
    """What its owner should know, once there is something."""
    with trio.fail_after(PATIENCE):
        while not (alerts := (await node.status())["alerts"]):  # noqa: ASYNC110
            await trio.sleep(0.01)  # an alert wakes nobody
    return alerts


async def test_relay_says_where_it_listens(home, start, validate):
    node = await start(node__roles="relay")
    expected = networks.load(home, "moths").bootstrap[0]
    assert (node.identity.id, node.node.endpoint) == (expected.id, expected.endpoint)
    validate(node.up(), "up")
    for name in ("status", "peers", "models", "version"):
        validate(await get(home, f"/{name}"), name)


async def test_settings_beat_the_profile(home, start):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    node = await start(node__roles="relay", node__port=port)
    assert node.node.endpoint == Endpoint("127.0.0.1", port)


async def test_who_only_asks_listens_nowhere_and_has_a_new_name(home, start):
    node = await start()
    assert node.node.endpoint is None
    assert node.identity.id != networks.load(home, "moths").bootstrap[0].id


def test_who_serves_keeps_its_name_and_who_asks_does_not(home):
    profile = networks.load(home, "moths")

    def name(**flags):
        return daemon.Daemon(wanted(home, **flags), home=home, profile=profile).identity.id

    assert name(node__roles="relay") == name(node__roles="worker")
    assert name() != name()


async def test_port_in_use_is_said_with_the_port(home, start):
    endpoint = networks.load(home, "moths").bootstrap[0].endpoint
    with socket.socket() as taken:
        taken.bind(endpoint)
        taken.listen()
        with pytest.raises(Failed, match=f"127.0.0.1:{endpoint.port}.*--port") as failed:
            await started_alone(home, node__roles="relay")
    assert failed.value.failure.code == "address_in_use"
    assert not home.socket.exists()


@pytest.mark.parametrize("setting", ["node.announce", "node.host"])
async def test_a_name_is_no_address(home, setting):
    with pytest.raises(Failed, match="'moths', which is no IP address") as failed:
        await started_alone(home, node__roles="relay", **{setting.replace(".", "__"): "moths"})
    assert failed.value.failure.code == "invalid_setting"


async def started_alone(home, **flags):
    """Run a node that is expected not to start."""
    with trio.fail_after(PATIENCE):
        await daemon.run(wanted(home, **flags), home=home)


async def test_second_node_in_one_home_is_told_of_the_first(home, start):
    await start()
    with pytest.raises(Failed, match=f"process {os.getpid()}") as failed:
        await started_alone(home)
    assert failed.value.failure.code == "already_running"
    await get(home, "/version")


async def test_no_network_is_said_before_anything_starts(tmp_path):
    empty = Home(tmp_path / "empty")
    with pytest.raises(Failed, match="network join"):
        await started_alone(empty)


async def test_worker_without_its_model_lives_on_and_says_why(home, start, validate):
    node = await start(node__roles="relay,worker", worker__model="/nowhere.gguf")
    await alerts_of(node)
    status = await get(home, "/status")
    validate(status, "status")
    assert status["worker"]["state"] == "stopped"
    assert "/nowhere.gguf" in status["alerts"][0]["message"]
    assert status["alerts"][0]["advice"]


async def listed(node):
    """A node as it knows itself, once it is listed."""
    with trio.fail_after(PATIENCE):
        while not (entry := node.node.directory.find(node.identity.id)):
            await node.node.directory_changed()
    return entry


async def test_worker_that_failed_is_not_listed_as_one(start):
    node = await start(node__roles="relay,worker", worker__model="/nowhere.gguf")
    await alerts_of(node)
    entry = await listed(node)
    assert (entry.advert.roles & Role.RELAY, entry.advert.roles & Role.WORKER) == (Role.RELAY, 0)


@pytest.mark.parametrize(
    ("model", "why"), [("/nowhere.gguf", "No such file"), (__file__, "no GGUF file")]
)
def test_process_that_is_to_serve_no_model_does_not_start(home, model, why):
    chosen = wanted(home, node__roles="worker", worker__model=model)
    with pytest.raises(Failed, match=f"{re.escape(model)} cannot be served: {why}"):
        daemon.main(chosen, home=home, ready=pytest.fail)


async def test_part_that_fails_inside_is_an_alert_without_detail(home, start, monkeypatch, capsys):
    def broken(settings, library):
        raise ZeroDivisionError("planted secret")

    monkeypatch.setattr(daemon.serving, "opened", broken)
    node = await start(node__roles="worker")
    (alert,) = await alerts_of(node)
    assert alert["message"] == "The worker has failed inside."


async def test_stopped_node_takes_no_question_and_leaves_nothing(home, nursery):
    run = partial(daemon.run, wanted(home), home=home)
    ended = trio.Event()

    async def whole(task_status):
        await run(task_status=task_status)
        ended.set()

    with trio.fail_after(PATIENCE):
        node = await nursery.start(whole)
        node.stop()
        with pytest.raises(Failed, match="is stopping"):
            async with node.answer(None, None):
                pass
        await ended.wait()
    assert not home.socket.exists()
    assert home.lock.read_text() == ""


async def test_recorder_and_routes_belong_to_a_demonstration(home, start):
    class Recorder:
        def message(self, link, sent, data): ...

        def plaintext(self, what, data): ...

        def meet(self, link, ours, theirs): ...

        def datagram(self, peer, sent, payload): ...

        def meet_udp(self, peer, ours, theirs): ...

    def routes(node):
        async def endpoint(request):
            return local.answer({"id": node.identity.id.hex()})

        return [Route("/recorder", endpoint)]

    node = await start(recorder=Recorder(), routes=routes)
    assert (await get(home, "/recorder"))["id"] == node.identity.id.hex()


async def worker_is(home, state):
    """The `status` of a node whose worker has come to this."""
    with trio.fail_after(PATIENCE):
        while (status := await get(home, "/status"))["worker"]["state"] != state:  # noqa: ASYNC110
            await trio.sleep(0.02)
    return status


async def post(home, target, body):
    with trio.fail_after(PATIENCE):
        return await trio.to_thread.run_sync(client.call, home.socket, "POST", target, body)


FAKE = {"node__roles": "relay,worker", "worker__engine": "fake", "manners__yield_cpu": False}


async def test_worker_is_paused_stopped_and_started_by_hand(home, start, validate, monkeypatch):
    node = await start(**FAKE)
    await worker_is(home, "serving")
    said = []

    async def publish(fields):
        said.append(fields.roles & (Role.RELAY | Role.WORKER))

    monkeypatch.setattr(node.node, "publish", publish)
    validate(await get(home, "/worker"), "worker")

    paused = await post(home, "/worker/pause", {"seconds": 7_200})
    validate(paused, "worker")
    assert paused["reasons"] == ["paused by its owner; `tussah worker resume` ends that"]
    assert paused["until_at"]
    status = await worker_is(home, "paused")
    validate(status, "status")
    assert (status["worker"]["reasons"], status["worker"]["until_at"]) == (
        paused["reasons"],
        paused["until_at"],
    )
    await post(home, "/worker/resume", {})
    await worker_is(home, "serving")

    await post(home, "/worker/stop", {})
    await worker_is(home, "stopped")
    await told(said, [Role.RELAY])
    assert not (await get(home, "/worker"))["loaded"]
    await post(home, "/worker/start", {})
    await worker_is(home, "serving")
    await told(said, [Role.RELAY, Role.RELAY | Role.WORKER])


async def told(said, expected):
    """Wait until the network was told this."""
    with trio.fail_after(PATIENCE):
        while said != expected:  # noqa: ASYNC110
            await trio.sleep(0.02)  # a verdict is applied in its own task


async def test_worker_that_was_stopped_stays_so_after_a_restart(home, start):
    home.worker.write_text('{"stop": true, "until": null}\n')
    await start(**{**FAKE, "node__roles": "worker"})
    status = await worker_is(home, "stopped")
    assert "worker start" in status["worker"]["reasons"][0]
    await post(home, "/worker/start", {})
    await worker_is(home, "serving")


async def test_node_that_serves_nothing_cannot_be_told_to(home, start):
    await start()
    with pytest.raises(Failed, match="serves no model") as failed:
        await post(home, "/worker/pause", {})
    assert failed.value.failure.code == "invalid_setting"


# --- models ---

SIGNER = Identity(b"s" * 32)
MODEL = b"GGUF" * 5_000


@pytest.fixture
def web():
    """A server of one file, which knows no Range; its address."""

    class Files(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("content-length", str(len(MODEL)))
            self.end_headers()
            self.wfile.write(MODEL)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Files)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/luna.gguf"
    server.shutdown()
    thread.join()
    server.server_close()


def moths(url):
    """A catalogue of one model, and its signature."""
    digest = sha256(MODEL).hexdigest()
    text = f"""
version = 1
issued = 2026-01-01T00:00:00Z
[[model]]
base = "luna"
quant = "q4_1"
title = "Luna"
licence = "MIT"
rank = 5
bytes = {len(MODEL)}
sha256 = "{digest}"
chunks = "{digest}"
template_sha256 = "{"ab" * 32}"
histogram = {{ q4_1 = {len(MODEL)} }}
context = 512
source = [{{ kind = "https", url = "{url}" }}]
[model.memory]
weights = 1000
kv_per_token = 10
layers = 1
parameters = 2000
vocabulary = 10
embedding_length = 4
"""
    return text, SIGNER.sign(DOMAIN + text.encode()).hex()


async def test_a_model_is_named_fetched_shown_and_removed(home, start, web, validate):
    await start()
    text, signature = moths(web)
    body = {"catalogue": text, "signature": signature, "key": SIGNER.public.hex()}
    validate(await post(home, "/models/add", body), "catalogue")
    before = await post(home, "/models/show", {"name": "luna"})
    validate(before, "model")
    assert (before["path"], before["fits"], before["downloaded_bytes"]) == (None, "cpu", 0)

    def pulled():
        return list(client.stream(home.socket, "POST", "/models/pull", {"name": "luna"}))

    with trio.fail_after(PATIENCE):
        events = await trio.to_thread.run_sync(pulled)
    assert events[-1][0] == "done"
    validate(events[-1][1], "model")
    assert events[-2][1]["done_bytes"] == len(MODEL)
    (file,) = home.models.iterdir()
    assert (str(file), file.read_bytes()) == (events[-1][1]["path"], MODEL)
    listed = await get(home, "/models")
    validate(listed, "models")
    here = {each["name"]: each["local"] for each in listed["models"]}
    assert here[before["name"]] == "ready"

    validate(await post(home, "/models/remove", {"name": "luna"}), "removed")
    assert list(home.models.iterdir()) == []
    validate(await get(home, "/prices"), "prices")
    with pytest.raises(Failed, match="No catalogue here names") as failed:
        await trio.to_thread.run_sync(
            lambda: list(client.stream(home.socket, "POST", "/models/pull", {"name": "mothra"}))
        )
    assert failed.value.failure.code == "model_not_found"
