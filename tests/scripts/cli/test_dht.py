"""The commands of the DHT and of the node's id: what they ask, what they print, how they end."""

import json
from io import BytesIO, TextIOWrapper

import pytest

from p2p.identity import Identity, format_adnl
from scripts import abroad
from scripts.cli import render
from scripts.failure import Failed

ID = "ab" * 32

EVERY = [
    ["dht", "get", ID],
    ["dht", "put", "moths", "Luna"],
    ["dht", "find-node", ID],
    ["dht", "config"],
]


@pytest.mark.parametrize(
    ("words", "name"), [(EVERY[0], "dht-value"), (EVERY[1], "dht-stored"), (EVERY[2], "dht-nodes")]
)
def test_document_is_the_nodes(shell, node, validate, words, name):
    status, document = shell.document(*words)
    assert status == 0
    validate(document, name)


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_no_running_node_is_exit_3(shell, validate, words):
    status, document = shell.document(*words)
    assert (status, document["error"]["code"]) == (3, "not_running")
    validate(document, "error")


@pytest.mark.parametrize(
    ("code", "exit_status"), [("not_found", 4), ("dht_unreachable", 4), ("deadline", 124)]
)
@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_failure_has_its_exit_status(shell, node, validate, words, code, exit_status):
    node.lookups.raises = Failed(code, "It is dark.", "Wait for the moon.")
    assert shell(*words) == (exit_status, "", "tussah: It is dark. Wait for the moon.\n")
    status, document = shell.document(*words)
    assert (status, document["error"]["code"]) == (exit_status, code)
    validate(document, "error")


def test_what_is_looked_up_reaches_the_node(shell, node):
    shell("dht", "get", ID)
    shell("dht", "get", ID, "--name", "a/b?c=ü", "--idx", "3")
    shell("dht", "find-node", "../x y")
    assert node.lookups.asked == [(ID, None, 0), (ID, "a/b?c=ü", 3), "../x y"]


def test_what_is_stored_reaches_the_node(shell, node, tmp_path, monkeypatch):
    (tmp_path / "value").write_bytes(bytes(range(256)))
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(b"from\0input")))
    shell("dht", "put", "moths", "Lüna", "--ttl", "60", "--idx", "2", "--keep")
    shell("dht", "put", "moths", "--file", str(tmp_path / "value"))
    shell("dht", "put", "moths", "--file", "-")
    first, second, third = node.lookups.wishes
    assert (first.content.decode(), first.ttl, first.idx, first.keep) == ("Lüna", 60, 2, True)
    assert (second.content, second.ttl, second.keep) == (bytes(range(256)), 3600, False)
    assert third.content == b"from\0input"


@pytest.mark.parametrize(
    "words",
    [
        ["dht", "put", "moths"],
        ["dht", "put", "moths", "Luna", "--file", "x"],
        ["dht", "put", "moths", "L" * 769],
        ["dht", "put", "moths", "--file", "/nowhere/at/all"],
        ["dht", "put", "moths", "Luna", "--ttl", "0"],
        ["dht", "put", "moths", "Luna", "--ttl", "3601"],
        ["dht", "put", "moths", "Luna", "--idx", "16"],
        ["dht", "put", "m" * 128, "Luna"],
        ["dht", "put", "", "Luna"],
        ["dht", "get", ID, "--name", "x", "--idx", "16"],
        ["dht", "get", ID, "--ton-config", "/nowhere/at/all"],
        ["dht", "find-node"],
    ],
    ids=lambda words: " ".join(words)[:40],
)
def test_wrong_use_is_exit_2_and_nobody_is_asked(shell, node, validate, words):
    status, out, err = shell(*words)
    assert (status, out, err[:8]) == (2, "", "tussah: ")
    assert node.lookups.wishes == node.lookups.asked == []


def test_configuration_is_json_as_it_is_and_says_whom_it_lacks(shell, node):
    for words in (["dht", "config"], ["dht", "config", "--json"]):
        status, out, err = shell(*words)
        assert status == 0
        assert json.loads(out)["dht"]["static_nodes"]["nodes"][0]["@type"] == "dht.node"
        assert err == "1 bootstrap node did not answer and cannot be listed.\n"


def test_another_dht_is_asked_without_a_node(shell, tmp_path, monkeypatch):
    (tmp_path / "config").write_text("{}")
    asked = []
    monkeypatch.setattr(abroad, "get", lambda *args: asked.append(args) or VALUE)
    monkeypatch.setattr(abroad, "find_node", lambda *args: asked.append(args) or NODES)
    file = ["--ton-config", str(tmp_path / "config")]
    assert shell.document("dht", "get", ID, "--name", "address", *file) == (0, VALUE)
    assert shell.document("dht", "find-node", ID, *file) == (0, NODES)
    assert asked == [(b"{}", ID, "address", 0), (b"{}", ID)]


# --- for people ---

VALUE = {
    "key": {"id": "cd" * 32, "owner": ID, "name": "moths", "idx": 2},
    "rule": "signature",
    "expires_at": "2023-11-14T22:13:20Z",
    "value_hex": "00ff",
    "text": None,
    "reads": None,
}

NODES = {"nodes": [{"id": ID, "addresses": ["127.0.0.1:4001"]}, {"id": "cd" * 32, "addresses": []}]}


@pytest.mark.parametrize(
    ("facts", "last"),
    [
        ({}, ["hex    00ff"]),
        ({"text": "Luna"}, ["text   Luna"]),
        ({"reads": ["a:1", "b:2"], "text": "x"}, ["says   a:1", "says   b:2"]),
        ({"reads": []}, ["says   nothing"]),
    ],
)
def test_value_for_people(capsys, facts, last):
    render.value({**VALUE, **facts})
    assert capsys.readouterr().out.splitlines() == [
        f"key    {'cd' * 32}",
        "name   moths, index 2",
        f"owner  {ID} (signature rule)",
        "until  2023-11-14T22:13:20Z",
        *last,
    ]


def test_nodes_for_people(capsys):
    render.nodes(NODES)
    assert capsys.readouterr().out.splitlines() == [
        "ID" + " " * 64 + "ADDRESS",
        f"{ID}  127.0.0.1:4001",
        f"{'cd' * 32}  nowhere",
    ]


def test_stored_for_people_says_how_to_read_it(shell, node):
    assert shell("dht", "put", "moths", "Luna", "--keep")[1].splitlines()[:2] == [
        "stored   4 bytes by 6 nodes",
        "until    2023-11-14T22:13:20Z, and stored again while the node runs",
    ]
    owner = node.worker.id.hex()
    last = shell("dht", "put", "moths", "Luna")[1].splitlines()[-1]
    assert last == f"read it  tussah dht get {owner} --name moths"


# --- id ---


def test_id_of_a_running_node_is_what_it_says(shell, node, validate):
    status, document = shell.document("id")
    assert (status, document["id"], document["running"]) == (0, node.worker.id.hex(), True)
    validate(document, "id")


def test_id_without_a_running_node_is_what_the_home_knows(shell, validate):
    shell.home.prepare()
    shell.home.keep_seed(b"s" * 32)
    identity = Identity(b"s" * 32)
    status, document = shell.document("id")
    validate(document, "id")
    assert (status, document["id"]) == (0, identity.id.hex())
    assert (document["persistent"], document["running"], document["network"]) == (True, False, None)
    assert shell("id")[1].splitlines() == [
        f"id          {identity.id.hex()}",
        f"adnl        {format_adnl(identity.id)}.adnl",
        f"peer id     {identity.peer_id}",
        f"public key  {identity.public.hex()}",
        "addresses   the node does not run: tussah up",
    ]


def test_a_home_without_a_key_has_no_id_and_gets_none(shell, validate):
    status, document = shell.document("id")
    validate(document, "id")
    assert (status, document["id"], document["persistent"]) == (0, None, False)
    assert "new one at each start" in shell("id")[1]
    assert not shell.home.identity.exists()
