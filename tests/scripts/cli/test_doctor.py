"""`tussah doctor`: each check says what is the matter, and what to do."""

import json
import zipfile
from pathlib import Path

import pytest

from scripts.cli.doctor import examine


def status(alerts=(), **changes):
    plain = {
        "node": {"roles": ["worker"], "chain": "local"},
        "network": {"joined": True, "directory_count": 7, "directory_live": 7},
        "reach": {"transports": [], "attachments": [], "mode": "direct", "advice": None},
    }
    parts = {name: {**part, **changes.get(name, {})} for name, part in plain.items()}
    return {**parts, "alerts": list(alerts)}


def alert(code):
    return {"code": code, "message": f"{code}!", "advice": "Do."}


def transport(dialable):
    return {"transport": "tcp", "dialable": dialable, "endpoint": "9.8.7.6:4001", "reason": "why"}


def states(**changes):
    return {finding.check: finding.state for finding in examine(status(**changes))}


def test_a_node_that_is_well_has_nothing_to_say():
    assert set(states().values()) == {"ok"}


@pytest.mark.parametrize(
    ("check", "state", "changes"),
    [
        ("network", "warn", {"network": {"joined": False}}),
        ("network", "fail", {"network": {"joined": False}, "alerts": [alert("joining_network")]}),
        ("reach.tcp", "ok", {"reach": {"transports": [transport("yes")]}}),
        ("reach.tcp", "warn", {"reach": {"transports": [transport("unknown")]}}),
        ("reach.tcp", "fail", {"reach": {"transports": [transport("no")], "mode": "outbound"}}),
        ("attachments", "fail", {"reach": {"mode": "outbound"}}),
        ("attachments", "ok", {"reach": {"mode": "relayed", "attachments": ["ab" * 32]}}),
        ("chain", "fail", {"alerts": [alert("chain_unreachable")]}),
        ("worker", "warn", {"alerts": [alert("worker")]}),
    ],
)
def test_each_trouble_has_a_line(check, state, changes):
    assert states(**changes)[check] == state


def test_who_is_reached_over_relays_need_not_forward_anything():
    found = states(
        reach={"transports": [transport("no")], "mode": "relayed", "attachments": ["ab" * 32]}
    )
    assert (found["reach.tcp"], found["attachments"]) == ("warn", "ok")


def test_who_only_asks_need_not_be_reached():
    changes = {"node": {"roles": []}, "reach": {"mode": "outbound"}}
    assert states(**changes) == {"network": "ok", "reach": "ok", "chain": "ok"}


def test_a_node_that_does_not_run_is_what_must_be_done(shell, validate):
    code, out, _ = shell("doctor")
    assert code == 1
    assert "fail  No node is running" in out
    code, document = shell.document("doctor")
    validate(document, "doctor")
    assert (code, document["healthy"]) == (1, False)


def test_a_home_that_others_may_enter_is_told_of(shell):
    shell.home.prepare()
    shell.home.path.chmod(0o755)
    _, document = shell.document("doctor")
    found = {check["check"]: check for check in document["checks"]}
    assert found["home"]["state"] == "fail"
    assert f"chmod 700 {shell.home.path}" in found["home"]["advice"]


def test_nodes_that_fell_silent_are_told_of():
    found = {finding.check: finding for finding in examine(status(network={"directory_live": 5}))}
    assert found["network"].state == "warn"
    assert "2 of which have been silent" in found["network"].message
    assert {one.check: one for one in examine(status())}["network"].state == "ok"


def test_that_nobody_has_tried_to_reach_it_is_told():
    found = {finding.check: finding for finding in examine(status())}
    assert found["reach"].message.startswith("Nobody has tried")
    assert "reach" not in {one.check for one in examine(status(reach={"attachments": [{}]}))}


def test_a_broken_file_and_a_broken_key_are_told_of(shell, monkeypatch):
    shell.home.prepare()
    shell.home.config.write_text("[ask]\nrelays = 9\n")
    shell.home.identity.write_text("moth")
    for file in (shell.home.config, shell.home.identity):
        file.chmod(0o600)
    _, document = shell.document("doctor", "--offline")
    found = {check["check"]: check for check in document["checks"]}
    assert {name for name, check in found.items() if check["state"] == "fail"} == {
        "settings",
        "identity",
    }
    assert "between 0 and 3" in found["settings"]["message"]
    assert "backup" in found["identity"]["advice"]


CANARIES = {
    "identity": "a1" * 32,
    "wallet": "abandon ability able about above absent absorb abstract absurd abuse",
    "api key": "tussah-aB3dE5gH7jK9mN1pQ3sT5vW7xY9zA2cD4fG6hJ8kL0",
    "prompt": "Name three moths",
    "answer": "Luna and atlas",
    "credit": "c3" * 32,
    "address": "203.0.113.77",
    "IPv6": "2001:db8:1:2:3:4:5:6",
    "home": "/home/canary",
    "lane": "UQCrq6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq5jh",
}


def test_a_bundle_holds_none_of_ten_planted_secrets(shell, monkeypatch, tmp_path):
    home, state = shell.home, status(network={"seen": CANARIES["address"]})
    home.prepare()
    home.identity.write_text(CANARIES["identity"])
    home.wallet.write_text(CANARIES["wallet"])
    home.api_key.write_text(CANARIES["api key"])
    home.config.write_text(f'[node]\nannounce = "{CANARIES["IPv6"]}"\n')
    for file in (home.identity, home.wallet, home.api_key, home.config):
        file.chmod(0o600)
    home.log.write_text(
        json.dumps({"event": "odd", "prompt": CANARIES["prompt"], "answer": CANARIES["answer"]})
        + f"\nTraceback {CANARIES['credit']} {CANARIES['address']} {CANARIES['api key']}\n"
        + f"{CANARIES['home']}/x.py {CANARIES['lane']}\n"
    )
    monkeypatch.setattr("pathlib.Path.home", lambda: Path(CANARIES["home"]))
    answers = {"/version": {"control": 1}, "/status": {**state, "version": "1"}}
    monkeypatch.setattr("scripts.api.client.call", lambda _path, _method, target: answers[target])
    file = tmp_path / "bundle.zip"
    code, document = shell.document("doctor", "--bundle", str(file))
    assert (code, document["bundle"]) == (0, str(file))
    assert file.stat().st_mode & 0o077 == 0

    with zipfile.ZipFile(file) as bundle:
        texts = {name: bundle.read(name).decode() for name in bundle.namelist()}
    assert set(texts) == {
        *("doctor.json", "status.json", "settings.json", "log.jsonl", "versions.json"),
    }
    assert '"event": "odd"' in texts["log.jsonl"]
    assert "203.0.*.*" in texts["status.json"]
    assert "2001:0db8:*" in texts["settings.json"]
    everything = "\n".join(texts.values())
    assert [name for name, canary in CANARIES.items() if canary in everything] == []


def test_a_bundle_takes_no_files_place(shell, tmp_path):
    file = tmp_path / "mine.zip"
    file.write_text("mine")
    assert shell("doctor", "--offline", "--bundle", str(file))[0] == 2
    assert file.read_text() == "mine"


def test_a_bundle_can_be_made_of_a_node_that_does_not_run(shell, tmp_path):
    code, out, err = shell("doctor", "--offline", "--bundle", str(tmp_path / "b.zip"))
    assert code == 0
    assert "No node" not in out
    assert err.startswith(f"Wrote {tmp_path / 'b.zip'}: doctor.json, ")
