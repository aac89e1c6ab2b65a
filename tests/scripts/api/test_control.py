"""The control API over its own socket, before a node that a test scripts."""

import json
import logging
import socket
import stat
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from inference.client import AskFailed
from ledger.money import Nano
from p2p.identity import AdnlId
from scripts.api import asking, client, control, events, local
from scripts.api.dht import Wish
from scripts.api.server import serve
from scripts.failure import Failed
from scripts.log import configured
from scripts.settings import Log

PATIENCE = 20


@pytest.fixture
async def path(operator, tmp_path, monkeypatch, nursery):
    """The socket of a running control API."""
    monkeypatch.chdir(tmp_path)
    socket_path = tmp_path.relative_to(tmp_path) / "control.sock"
    await nursery.start(serve, control.app(operator), [local.listen(socket_path)])
    return socket_path


async def called(function, *args):
    """Run the blocking client beside the server."""
    with trio.fail_after(PATIENCE):
        return await trio.to_thread.run_sync(partial(function, *args))


async def ask(path, body):
    """The events of an ask, to the end."""
    return await called(lambda: list(client.stream(path, "POST", "/ask", body)))


QUESTION = client.question("Name two moths.")


async def test_documents_are_what_the_node_says(path, validate):
    validate(await called(client.call, path, "GET", "/version"), "version")
    assert (await called(client.call, path, "GET", "/peers"))["schema"] == "tussah/peers/1"
    assert (await called(client.call, path, "GET", "/models"))["schema"] == "tussah/models/1"


async def test_answer_streams_and_ends_with_its_document(path, validate):
    events = await ask(path, QUESTION)
    assert [name for name, _ in events] == ["offered", "progress", *["piece"] * 4, "done"]
    assert "".join(data["text"] for name, data in events if name == "piece") == "Luna, atlas."
    document = events[-1][1]
    validate(document, "ask")
    assert document["answer"] == "Luna, atlas."
    assert document["tokens_per_s"] == 30.0
    assert document["privacy"]["asker"] == "basic"


async def test_sync_client_tells_the_pieces_and_returns_the_document(path):
    pieces = []
    document = await called(client.ask, path, QUESTION, pieces.append)
    assert "".join(pieces) == document["answer"] == "Luna, atlas."


async def test_request_reaches_the_asker_in_thousandths(path, operator):
    body = {
        "model": "moth",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "?"}],
        "max_tokens": 7,
        "temperature": 0.25,
        "top_k": 0,
        "stop": "\n",
        "seed": 5,
        "tussah": {"relays": 0, "deadline_s": 9, "worker": "ab" * 32},
    }
    await ask(path, body)
    ((request, wish),) = operator.asked
    assert (request.model, request.max_tokens, request.temperature) == ("moth", 7, 250)
    assert (request.top_k, request.top_p, request.stop, request.seed) == (0, 950, ("\n",), 5)
    assert [message.role for message in request.messages] == ["system", "user"]
    assert (wish.relays, wish.deadline_s, wish.worker) == (0, 9.0, AdnlId(b"\xab" * 32))


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"role": "moth", "content": ""}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_k": -1}, "top_k"),
        ({"stop": [""]}, "stop"),
        ({"stop": list("abcde")}, "stop"),
        ({"temprature": 1}, "temprature"),
        ({"tussah": []}, "tussah"),
        ({"tussah": {"relays": 4}}, "relays"),
        ({"tussah": {"worker": "ab"}}, "tussah.worker"),
        ({"tussah": {"max_prize": 1}}, "tussah.max_prize"),
        ({"tussah": {"max_price_nano": -1}}, "max_price_nano"),
        ({"tussah": {"max_price_nano": 0.5}}, "max_price_nano"),
        ({"tussah": {"max_price_nano": 2**63}}, "max_price_nano"),
        ({"tussah": {"buy": "yes"}}, "buy"),
    ],
)
async def test_request_that_does_not_do_is_refused_by_name(path, operator, change, param):
    with pytest.raises(Failed) as failed:
        await ask(path, {**QUESTION, **change})
    assert (failed.value.failure.code, failed.value.failure.param) == ("invalid_request", param)
    assert operator.asked == []


async def test_mistyped_field_gets_a_suggestion(path):
    with pytest.raises(Failed, match="Did you mean temperature"):
        await ask(path, {**QUESTION, "temprature": 1})


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b"[]", b"\xff"])
async def test_body_that_is_no_request_is_refused(path, body):
    status, document = await raw(path, "POST /ask", body)
    assert (status, document["error"]["code"]) == (400, "invalid_request")


async def test_body_too_large_is_refused(path, monkeypatch):
    monkeypatch.setattr(local, "MAX_BODY", 10)
    status, document = await raw(path, "POST /ask", b"x" * 11)
    assert (status, document["error"]["code"]) == (413, "request_too_large")


LANE = "UQCrq6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq5jh"


@pytest.mark.parametrize("name", ["wallet", "credits", "lanes", "receipts"])
async def test_money_is_shown(path, validate, name):
    validate(await called(client.call, path, "GET", f"/{name}"), name)


async def test_bundle_is_bought_by_name_or_as_the_node_likes(path, operator, validate):
    for body in ({}, {"bundle": None}, {"bundle": "L"}):
        validate(await called(client.call, path, "POST", "/credits/buy", body), "purchase")
    assert operator.bought == [None, None, "L"]


async def test_purchase_streams_what_it_costs_and_how_it_goes(path, operator, validate):
    told = await buy(path)
    assert [name for name, _ in told] == ["purchase", "opening", "opening", "bought", "done"]
    intent, opening = told[0][1], told[2][1]
    assert (intent["price_nano"], intent["deposit_nano"]) == (33_721_176, 200_000_000)
    assert (intent["chain"], intent["worthless"], intent["lane"]) == ("local", True, None)
    assert (opening["block"], opening["waited_s"]) == (8_126, 2.2)
    validate(told[-1][1], "purchase")
    assert operator.bought == ["S"]


async def buy(path):
    body = {"bundle": "S", "stream": True}
    return await called(lambda: list(client.stream(path, "POST", "/credits/buy", body)))


@pytest.mark.parametrize("told", [0, 2])
async def test_purchase_that_fails_has_its_status_or_is_the_last_event(path, operator, told):
    operator.steps = operator.steps[:told]
    operator.refuses = Failed("chain_unreachable", "It did not work.")
    with pytest.raises(Failed) as failed:
        await buy(path)
    assert failed.value.failure.code == "chain_unreachable"


@pytest.mark.parametrize(("agreed", "words"), [(0, "nothing is bought"), (1, "goes on with it")])
async def test_who_leaves_a_purchase_hears_what_becomes_of_it(path, operator, agreed, words):
    operator.steps = [*operator.steps[:agreed], None]
    stream = client.Stream(path, "POST", "/credits/buy", {"stream": True})
    operator.at_rest = stream.stop
    with pytest.raises(Failed, match=words) as failed:
        await called(list, stream)
    assert failed.value.failure.code == "cancelled"
    assert ("credits list" in failed.value.failure.advice) is bool(agreed)
    assert operator.bought == []


async def test_purchase_inside_an_ask_is_told_in_its_stream(path, operator, priced, steps):
    operator.script = [priced[0], *steps, *priced[1:]]
    names = [name for name, _ in await ask(path, QUESTION)]
    assert names[:5] == ["purchase", "opening", "opening", "bought", "offered"]


async def test_whether_an_ask_may_buy_reaches_the_node(path, operator):
    for buy in (True, False, None):
        await ask(path, client.question("?", buy=buy))
    assert [wish.buy for _, wish in operator.asked] == [True, False, None]


@pytest.mark.parametrize("bundle", ["", "XL", "s", 5, ["S"], {}])
async def test_bundle_that_is_not_sold_is_refused(path, operator, bundle):
    with pytest.raises(Failed, match="only S, M, L are sold") as failed:
        await called(client.call, path, "POST", "/credits/buy", {"bundle": bundle})
    assert (failed.value.failure.code, failed.value.failure.param) == ("invalid_request", "bundle")
    assert operator.bought == []


async def test_lane_is_settled_and_closed(path, operator, validate):
    for action in ("settle", "close"):
        validate(await called(client.call, path, "POST", f"/lanes/{LANE}/{action}", {}), "lanes")
    assert operator.moved == [("settle", LANE), ("close", LANE)]


async def test_lane_does_nothing_else(path, operator):
    with pytest.raises(Failed, match="cannot be told to burn"):
        await called(client.call, path, "POST", f"/lanes/{LANE}/burn", {})
    assert operator.moved == []


@pytest.mark.parametrize("target", ["/credits/buy", f"/lanes/{LANE}/close"])
async def test_money_is_not_moved_by_a_get(path, operator, target):
    status, document = await raw(path, f"GET {target}", b"")
    assert (status, document["error"]["code"]) == (405, "method_not_allowed")
    assert operator.bought == operator.moved == []


@pytest.mark.parametrize(
    ("code", "http"),
    [
        ("no_credits", 402),
        ("insufficient_funds", 402),
        ("mint_unreachable", 503),
        ("chain_unreachable", 503),
        ("free_network", 400),
    ],
)
async def test_money_that_cannot_be_moved_has_its_status(path, operator, validate, code, http):
    operator.refuses = Failed(code, "It did not work.", "Try later.")
    for line in ("POST /credits/buy", "GET /wallet"):
        status, document = await raw(path, line, b"{}")
        assert (status, document["error"]["code"]) == (http, code)
        validate(document, "error")


async def test_receipt_is_kept_once_the_answer_is_whole(path, operator):
    await ask(path, QUESTION)
    (done,) = operator.kept
    assert done.text == "Luna, atlas."


async def test_answer_that_failed_has_no_receipt_to_keep(path, operator):
    lost = AskFailed(code="worker_lost", message="It is gone.", advice="Ask again.", text="Luna")
    operator.script = [*operator.script[:4], lost]
    with pytest.raises(Failed):
        await ask(path, QUESTION)
    assert operator.kept == []


async def test_price_cap_reaches_the_asker_in_nano(path, operator):
    await ask(path, client.question("?", max_price_nano=20))
    await ask(path, client.question("?"))
    assert [wish.max_price for _, wish in operator.asked] == [Nano(20), None]


async def test_failure_before_an_offer_has_its_status(path, operator, validate):
    operator.script = [AskFailed(code="no_worker", message="Nobody is there.", advice="Wait.")]
    status, document = await raw(path, "POST /ask", json.dumps(QUESTION).encode())
    assert status == 503
    validate(document, "error")
    assert document["exit"] == 4
    assert document["error"]["request_id"]


@pytest.mark.parametrize("line", ["POST /ask", "POST /credits/buy", "GET /status"])
async def test_what_failed_is_found_in_the_log_by_the_id_that_was_told(
    path, operator, tmp_path, capsys, line
):
    operator.script = [AskFailed(code="no_worker", message="Nobody is there.", advice="Wait.")]
    operator.refuses = Failed("no_credits", "There are none.", "Earn some.")
    with configured(Log(format="json", file=str(tmp_path / "log"))):
        _, document = await raw(path, line, json.dumps(QUESTION).encode())
    logging.disable(logging.NOTSET)
    lines = [json.loads(text) for text in (tmp_path / "log").read_text().splitlines()]
    assert document["error"]["request_id"] in [entry.get("request_id") for entry in lines]


async def test_failure_after_an_offer_is_the_last_event(path, operator):
    lost = AskFailed(code="worker_lost", message="It is gone.", advice="Ask again.", text="Luna")
    operator.script = [*operator.script[:4], lost]
    with pytest.raises(Failed) as failed:
        await ask(path, QUESTION)
    assert failed.value.failure.code == "worker_lost"


async def test_a_slow_answer_may_begin_as_late_as_any_deadline(path):
    """A worker is waited for without a byte; only then does silence mean that the node is stuck."""
    stream = client.Stream(path, "POST", "/ask", QUESTION)
    assert stream._connection.timeout > asking.MAX_DEADLINE
    await called(list, stream)
    assert events.HEARTBEAT < client.PATIENCE


async def test_node_that_cannot_ask_says_why(path, operator):
    operator.raises = Failed("joining_network", "Nobody answers.", "Wait.")
    with pytest.raises(Failed, match="Nobody answers") as failed:
        await ask(path, QUESTION)
    assert failed.value.failure.meaning.exit == 4


STORE = {"name": "moths", "value_hex": "00", "ttl_s": 60, "idx": 1, "keep": True}


async def test_value_is_stored_as_it_was_wished(path, operator, validate):
    validate(await called(client.call, path, "POST", "/dht/values", STORE), "dht-stored")
    await called(client.call, path, "POST", "/dht/values", {"name": "moths", "value_hex": ""})
    assert operator.lookups.wishes == [
        Wish(name="moths", content=b"\0", idx=1, ttl=60, keep=True),
        Wish(name="moths", content=b""),
    ]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"name": ""}, "name"),
        ({"name": "m" * 128}, "name"),
        ({"name": 7}, "name"),
        ({"value_hex": "0"}, "value_hex"),
        ({"value_hex": "00" * 769}, "value_hex"),
        ({"value_hex": None}, "value_hex"),
        ({"ttl_s": 0}, "ttl_s"),
        ({"ttl_s": 3_601}, "ttl_s"),
        ({"ttl_s": True}, "ttl_s"),
        ({"ttl_s": 1.5}, "ttl_s"),
        ({"idx": 16}, "idx"),
        ({"idx": -1}, "idx"),
        ({"keep": 1}, "keep"),
        ({"kep": True}, "kep"),
    ],
)
async def test_value_that_does_not_do_is_refused_by_name(path, operator, change, param):
    with pytest.raises(Failed) as failed:
        await called(client.call, path, "POST", "/dht/values", {**STORE, **change})
    assert (failed.value.failure.code, failed.value.failure.param) == ("invalid_request", param)
    assert operator.lookups.wishes == []


@pytest.mark.parametrize("body", [[], "moths", {}, {"name": "moths"}, {"value_hex": "00"}])
async def test_value_without_its_parts_is_refused(path, operator, body):
    with pytest.raises(Failed) as failed:
        await called(client.call, path, "POST", "/dht/values", body)
    assert failed.value.failure.code == "invalid_request"


@pytest.mark.parametrize(
    ("target", "param"),
    [
        ("/dht/values", "id"),
        ("/dht/nodes", "id"),
        ("/dht/values?id=a&idx=x", "idx"),
        ("/dht/values?id=a&idx=16", "idx"),
        ("/dht/values?id=a&idx=99999999999999999999", "idx"),
    ],
)
async def test_lookup_without_a_key_is_refused(path, operator, target, param):
    with pytest.raises(Failed) as failed:
        await called(client.call, path, "GET", target)
    assert (failed.value.failure.code, failed.value.failure.param) == ("invalid_request", param)
    assert operator.lookups.asked == []


@pytest.mark.parametrize("kept", [1, 5], ids=["before the offer", "in mid-answer"])
async def test_client_that_leaves_cancels_the_ask(path, operator, kept):
    operator.script = [*operator.script[:kept], None]
    stream = trio.SocketStream(trio.socket.socket(socket.AF_UNIX))
    with trio.fail_after(PATIENCE):
        await stream.socket.connect(str(path))
        body = json.dumps(QUESTION).encode()
        head = f"POST /ask HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        await stream.send_all(head.encode() + body)
        await operator.begun.wait()
        await stream.aclose()
        await operator.ended.wait()


async def test_offer_tells_the_prices_and_the_most_it_can_cost(path, operator, priced):
    operator.script = priced
    (offered,) = [data for name, data in await ask(path, QUESTION) if name == "offered"]
    assert offered["prices"]["completion"] == 150_000_000
    assert offered["quoted_nano"] == 14_400_000


async def test_who_stops_reads_what_was_paid(path, operator, validate):
    """The client closes its side alone, and the last event tells."""
    operator.script = [*operator.script[:4], None]
    stream = client.Stream(path, "POST", "/ask", QUESTION)
    operator.at_rest = stream.stop
    with pytest.raises(Failed) as failed:
        await called(list, stream)
    failure = failed.value.failure
    assert (failure.code, failure.meaning.exit) == ("cancelled", 130)
    assert failure.cost == {"quoted_nano": 1_000, "paid_nano": 300, "change_nano": 700}
    validate(failure.document(), "error")
    await operator.ended.wait()


async def test_who_stops_before_an_offer_has_a_status(path, operator):
    operator.script = [operator.script[0], None]
    stream = client.Stream(path, "POST", "/ask", QUESTION)
    operator.at_rest = stream.stop
    with pytest.raises(Failed) as failed:
        await called(list, stream)
    assert failed.value.failure.code == "cancelled"


async def test_who_stops_where_nobody_has_a_last_word_was_interrupted(
    path, operator, nursery, monkeypatch
):
    monkeypatch.setattr(events, "LAST_WORDS", 0.01)
    stream = client.Stream(path, "POST", "/ask", QUESTION)

    @asynccontextmanager
    async def joining(request, wish):
        stream.stop()
        await trio.sleep_forever()
        yield

    monkeypatch.setattr(operator, "answer", joining)
    with pytest.raises(Failed, match="Interrupted") as failed:
        await called(list, stream)
    assert failed.value.failure.code == "cancelled"


async def test_shutdown_begins_to_drain(path, operator):
    assert (await called(client.call, path, "POST", "/shutdown"))["stopping"]
    assert operator.stopped


async def test_get_changes_nothing(path, operator):
    status, document = await raw(path, "GET /shutdown", b"")
    assert (status, document["error"]["code"]) == (405, "method_not_allowed")
    assert not operator.stopped


async def test_unknown_path_is_named(path):
    with pytest.raises(Failed, match="no GET /statsu"):
        await called(client.call, path, "GET", "/statsu")


async def test_bug_in_the_node_shows_no_detail(path, capsys):
    status, document = await raw(path, "GET /status", b"")
    assert (status, document["error"]["code"]) == (500, "internal")
    assert "planted" not in json.dumps(document)


async def test_socket_is_private(path):
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_other_users_are_turned_away(path, monkeypatch):
    monkeypatch.setattr(local.os, "getuid", lambda: 1)
    with pytest.raises(Failed, match="did not finish"):
        await called(client.call, path, "GET", "/version")


async def test_nothing_on_the_socket_is_no_running_node(tmp_path):
    with pytest.raises(Failed) as failed:
        await called(client.call, tmp_path / "control.sock", "GET", "/version")
    assert (failed.value.failure.code, failed.value.failure.meaning.exit) == ("not_running", 3)


async def raw(path, line, body):
    """Status and document of a request of any bytes."""
    stream = trio.SocketStream(trio.socket.socket(socket.AF_UNIX))
    async with stream:
        with trio.fail_after(PATIENCE):
            await stream.socket.connect(str(path))
            head = f"{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}"
            await stream.send_all(head.encode() + b"\r\n\r\n" + body)
            text = b"".join([piece async for piece in stream])
    head, _, rest = text.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(rest)
