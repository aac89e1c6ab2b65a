"""The demonstration: what it measures holds, and a planted leak of each kind turns it red.

Real processes and sockets; the fake engine, as what is checked here is the path. `make demo` runs
the same with the real model.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from scripts import demo
from scripts.failure import Failed

HERE = Path(__file__).parent

QUESTION = 'Who wove "wild silk" first, and where? Überall?'

FAKE = dict.fromkeys(
    ("worker", "client"),
    'worker.engine = "fake"\nworker.seed = 7\nworker.fake_rate = 60.0\n',
)

PLAN = replace(
    demo.PLAN, config={role: line + demo.PLAN.config[role] for role, line in FAKE.items()}
)

FREE = replace(demo.PLAN, mints=0, config=FAKE)
"""Starts in half the time, for what has nothing to do with money."""

KEYS = {
    *("schema", "nodes", "model", "question", "answer", "usage", "cost", "timing_ms"),
    *("path", "shaping", "chain", "found", "parties", "checks", "wall_s"),
}


def run(capsys, plan):
    """Exit status, document and the talk beside it."""
    status = demo.main(QUESTION, as_json=True, plan=plan)
    out, talk = capsys.readouterr()
    return status, json.loads(out), talk


def planted(name, script):
    return replace(FREE, programs={name: [str(HERE / script), "--record"]})


def red(document):
    return [check["name"] for check in document["checks"] if not check["ok"]]


def test_demo_measures_that_nobody_joins_asker_and_answer(capsys):
    status, document, talk = run(capsys, PLAN)

    assert (status, red(document)) == (0, [])
    assert set(document) == KEYS
    client, guard, middle, last, worker = document["path"]
    saw = {party["name"]: party["saw"] for party in document["parties"]}
    assert (client, worker[:6]) == ("client", "worker")
    assert saw[guard]["client_id"]
    assert saw[guard]["client_address"]
    assert not any(saw[middle][what] for what in ("client_id", "worker_id", "prompt", "answer"))
    assert saw[last]["worker_id"]
    assert not saw[last]["client_id"]
    assert saw[worker]["prompt"]
    assert saw[worker]["answer"]
    assert not saw[worker]["client_id"]
    assert len({found["root"] for found in document["found"]}) == 1
    for found in document["found"]:
        asks = found["name"] == "client"
        assert (found["dht"] == found["members"] == 0) is asks
    assert document["shaping"] == 1
    assert document["question"] == QUESTION
    assert document["answer"] in talk
    assert "Every process was stopped" in talk


def test_relay_that_logs_what_it_sees_turns_a_check_red(capsys):
    status, document, _ = run(capsys, planted("relay-1", "planted_relay.py"))
    assert status == 1
    assert red(document) == ["logs"]


def test_worker_that_is_told_who_asks_turns_a_check_red(capsys):
    status, document, _ = run(capsys, planted("client", "planted_client.py"))
    assert status == 1
    assert red(document) == ["worker"]


def test_party_that_does_not_start_ends_the_demo_and_everything_else(capsys, tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("import sys; sys.exit('no disk left')")
    with pytest.raises(Failed) as failed:
        demo.main(QUESTION, plan=replace(FREE, programs={"worker-2": [str(broken)]}))
    message = failed.value.failure.message
    assert message.startswith("worker-2 ended with status 1")
    assert "no disk left" in message


def test_nothing_outlives_a_demo_that_is_killed():
    code = "import test_demo as t; t.demo.main(t.QUESTION, plan=t.FREE, keep=True)"
    environment = {**os.environ, "PYTHONPATH": f"{HERE}:{HERE.parent.parent}"}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment, text=True
    )
    with process:
        while "The network keeps running" not in (line := process.stdout.readline()):
            assert line
        children = [*descendants_of(process.pid)]
        assert len(children) >= 7
        process.kill()
    for child in children:
        wait_gone(child)


def descendants_of(pid):
    """Processes that it has begun, or that these have (Linux)."""
    tasks = Path(f"/proc/{pid}/task/{pid}/children")
    for child in map(int, tasks.read_text().split()):
        yield child
        yield from descendants_of(child)


def wait_gone(pid):
    """Return when the process has ended; its new parent may still have to bury it."""
    descriptor = os.pidfd_open(pid) if Path(f"/proc/{pid}").exists() else None
    if descriptor is not None:
        import select

        with os.fdopen(descriptor, "rb", closefd=True):
            ready, _, _ = select.select([descriptor], [], [], 60.0)
        assert ready
