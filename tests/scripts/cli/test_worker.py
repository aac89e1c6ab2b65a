"""`tussah worker`: what its owner says, and what it shows."""

from dataclasses import replace

import pytest

from inference.limits import Verdict
from scripts import version
from scripts.api import client
from scripts.cli import worker
from scripts.failure import Failed


@pytest.mark.parametrize(
    ("words", "order"),
    [
        (("stop",), ("stop", None)),
        (("start",), ("start", None)),
        (("resume",), ("resume", None)),
        (("pause",), ("pause", None)),
        (("pause", "2h"), ("pause", 7_200.0)),
        (("pause", "1h30m"), ("pause", 5_400.0)),
        (("pause", "90s"), ("pause", 90.0)),
        (("pause", "1d"), ("pause", 86_400.0)),
    ],
)
def test_what_the_owner_says_reaches_the_node(shell, node, validate, words, order):
    status, document = shell.document("worker", *words)
    assert status == 0
    validate(document, "worker")
    assert node.orders == [order]


@pytest.mark.parametrize("duration", ["2", "h", "0s", "2 h", "1y", "999999d"])
def test_a_pause_takes_a_duration(shell, node, duration):
    status, out, err = shell("worker", "pause", duration)
    assert (status, out, node.orders) == (2, "", [])
    assert "1h30m" in err


def test_limits_say_what_holds_the_worker_and_what_is_measured(shell, node, validate):
    status, document = shell.document("worker", "limits")
    assert status == 0
    validate(document, "worker")
    rules = {rule["rule"]: rule for rule in document["rules"]}
    assert rules["battery"]["holds"]
    assert rules["battery"]["measured"] == "41 %, on battery"
    assert (rules["heat"]["value"], rules["heat"]["measured"]) == (83.0, 61.5)
    assert rules["quiet"]["value"] == "22:00-07:00"
    assert rules["gpu"]["measured"] is None
    assert [name for name in rules if rules[name]["holds"]] == ["battery"]
    shown = shell("worker", "limits")[1]
    assert "paused moth-q4" in shown
    assert "on battery (41 %); resumes on mains" in shown
    assert "no sensor" in shown
    assert "runs on the processor" in shown


def test_a_node_that_serves_nothing_says_how_to_serve(shell, node):
    node.refuses = Failed("invalid_setting", "This node serves no model.", "tussah up --worker")
    status, out, err = shell("worker", "pause")
    assert (status, out) == (2, "")
    assert "up --worker" in err


def test_start_without_a_node_starts_one_that_serves(shell, monkeypatch):
    started, asked = [], []

    def start(home, options):
        started.append(options)
        return {"pid": 7}

    def call(path, method, target, body=None):
        asked.append(target)
        if target == "/version" and not started:
            raise Failed("not_running", "No node runs.", "tussah up")
        return version.document() if target == "/version" else SERVING

    monkeypatch.setattr(worker, "start_detached", start)
    monkeypatch.setattr(client, "call", call)
    status, out, err = shell("worker", "start")
    assert (status, started, asked[-1]) == (0, [["--worker"]], "/worker/start")
    assert "process 7" in err
    assert "serving moth" in out


SERVING = {
    "schema": "tussah/worker/1",
    "state": "serving",
    "reasons": [],
    "until_at": None,
    "model": "moth",
    "loaded": True,
    "fit": None,
    "rules": [],
}


@pytest.mark.parametrize("seconds", [0, -1, True, "2h", 1e12])
def test_the_node_takes_no_other_pause(shell, node, seconds):
    with pytest.raises(Failed) as failed:
        client.call(shell.home.socket, "POST", "/worker/pause", {"seconds": seconds})
    assert failed.value.failure.param == "seconds"
    assert node.orders == []


def test_the_node_takes_no_other_order(shell, node):
    with pytest.raises(Failed, match="cannot be told to dance"):
        client.call(shell.home.socket, "POST", "/worker/dance", {})


def test_an_end_of_the_pause_is_shown(shell, node):
    node.manners = replace(node.manners, verdict=Verdict(until=1_700_000_000.0))
    assert "2023-11-14T22:13:20Z" in shell("worker", "limits")[1]
