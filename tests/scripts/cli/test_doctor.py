"""`tussah doctor`: each check says what is the matter, and what to do."""

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
