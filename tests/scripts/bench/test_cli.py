"""The benchmark of the command line: whole processes, measured by the system's own accounting."""

import json

import pytest

from scripts.bench import cli, main
from scripts.failure import Failed


def test_prints_one_document_with_both_rows(capsys, validate, monkeypatch):
    spent = {cli.BARE: 20.0, "status": 250.0, "--help": 310.0}
    monkeypatch.setattr(
        cli,
        "_cpu_ms",
        lambda words: next(ms for word, ms in spent.items() if word in (words, *words)),
    )
    assert main.main("cli", quick=True, as_json=True) == 0
    document = json.loads(capsys.readouterr().out)
    validate(document, "bench")
    assert [(row["name"], row["value"], row["ratio"]) for row in document["results"]] == [
        ("status_cpu_ms", 250.0, 12.5),
        ("help_cpu_ms", 310.0, 15.5),
    ]
    assert [aim["met"] for aim in document["aims"]] == [True, False]


def test_the_stand_in_is_asked_as_a_node_is(tmp_path):
    home = cli.Home(tmp_path / "home")
    home.prepare()
    with cli._standing_in(home):
        assert cli._cpu_ms((*cli.TUSSAH, "status", "--json", "--home", str(home.path))) > 0
    with pytest.raises(Failed, match="ended with 3"):
        cli._cpu_ms((*cli.TUSSAH, "status", "--json", "--home", str(home.path)))
