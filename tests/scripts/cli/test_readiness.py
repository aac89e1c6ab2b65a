"""What `up --worker --detach` tells of the worker, once it has made up its mind."""

import pytest

from scripts.cli import readiness
from scripts.failure import Failed
from scripts.home import Home

LIMITS = {
    "fit": {"why": "runs on the processor"},
    "rules": [
        {"rule": "battery", "value": "pause"},
        {"rule": "metered", "value": "serve"},
        {"rule": "quiet", "value": None},
        {"rule": "heat", "value": 83.0},
    ],
}


def status(state, *reasons, **changes):
    worker = {
        "state": state,
        "reasons": list(reasons),
        "model": "moth-q4:" + "ab" * 32,
        "tokens_per_s": 29.6,
        "prices": {"completion": 50_000_000, "prompt": 10_000_000},
    }
    machine = {"battery": {"percent": 50.0, "on_mains": True}}
    return {"worker": {**worker, **changes}, "machine": machine}


@pytest.fixture
def told(monkeypatch, tmp_path, capsys):
    """Runs it against a node that says these, one after another; status, output, talk."""

    def tell(*statuses):
        answers = iter(statuses)

        def call(_path, _method, target):
            return LIMITS if target == "/worker" else next(answers)

        monkeypatch.setattr(readiness.client, "call", call)
        monkeypatch.setattr(readiness, "PAUSE", 0.0)
        code = readiness.tell(Home(tmp_path))
        return code, *capsys.readouterr()

    return tell


def test_a_worker_that_loads_is_waited_for(told, tmp_path):
    code, out, err = told(status("loading"), status("loading"), status("serving"))
    assert (code, err) == (0, "The model is loading and being measured ...\n")
    assert out.splitlines()[1:] == [
        "model      moth-q4: runs on the processor",
        "speed      answers up to 30 tokens/s",
        "price      0.05 TON for 1,000 tokens of an answer, 0.01 TON of a prompt; change it: "
        f"tussah --home {tmp_path} config set worker.price",
        f"manners    gives way by battery, heat: tussah --home {tmp_path} worker limits",
        "Serving.",
    ]
    assert out.splitlines()[0].endswith(" processors, on mains")


def test_a_worker_that_gives_way_says_why(told):
    code, out, err = told(status("paused", "paused: on battery (41 %)", prices=None))
    assert code == 0
    assert "Serving." not in out
    assert "price      free;" in out
    assert err == "Not serving now: paused: on battery (41 %).\n"


def test_a_worker_that_cannot_serve_is_a_failure_with_its_reason(told):
    with pytest.raises(Failed, match="no such model") as failed:
        told(status("stopped", "There is no such model.", model=None, tokens_per_s=None))
    assert failed.value.failure.meaning.exit == 1
    assert "doctor" in failed.value.failure.advice
