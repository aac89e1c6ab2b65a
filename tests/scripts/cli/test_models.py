"""`tussah models` and `prices`: what they show, what they ask, what they send to the node."""

import io

import pytest

from scripts.failure import Failed


def test_models_alone_lists_them(shell, node, validate):
    assert shell.document("models")[1] == shell.document("models", "list")[1]
    status, document = shell.document("models", "list")
    assert status == 0
    validate(document, "models")
    shown = shell("models")[1]
    assert "FITS" in shown
    assert "luna@q4_1:abababababab" in shown


def test_a_model_is_shown_with_its_pin_and_why_it_fits(shell, node, validate):
    status, document = shell.document("models", "show", "luna")
    assert status == 0
    validate(document, "model")
    shown = shell("models", "show", "luna")[1]
    assert f"tussah ask --model luna@sha256:{'ab' * 32}" in shown
    assert "runs on the processor" in shown
    assert "q4_1 10.0 MB" in shown
    assert node.shelf.asked == ["luna", "luna"]


def test_pull_says_licence_and_progress_and_ends_with_the_model(shell, node, validate, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    status, out, err = shell("models", "pull", "luna")
    assert status == 0
    assert "under the licence MIT" in err
    assert "5 of 10 MB, 1.0 MB/s, 5 s to go" in err
    assert "luna@q4_1" in out
    assert node.shelf.pulled == [f"luna@q4_1:{'ab' * 32}"]  # in full, whatever was asked for
    validate(shell.document("models", "pull", "luna")[1], "model")


def test_a_licence_that_is_not_open_is_asked_about(shell, node, monkeypatch):
    node.shelf.licence = "Llama-3.2"
    status, _, err = shell("models", "pull", "luna")
    assert (status, node.shelf.pulled) == (2, [])
    assert "--yes" in err
    assert shell("models", "pull", "luna", "--yes")[0] == 0
    assert len(node.shelf.pulled) == 1


@pytest.mark.parametrize(("typed", "pulled"), [("y\n", 1), ("n\n", 0), ("\n", 0)])
def test_a_person_is_asked_about_the_licence(shell, node, monkeypatch, typed, pulled):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    node.shelf.licence = "Llama-3.2"
    monkeypatch.setattr("sys.stdin", Terminal(typed))
    monkeypatch.setattr("sys.stderr", Terminal())
    status = shell("models", "pull", "luna")[0]
    assert (status == 0, len(node.shelf.pulled)) == (bool(pulled), pulled)


def test_a_pull_that_fails_says_why_and_what_to_do(shell, node):
    node.shelf.raises = Failed("failed", "luna is not here: no room.", "Make room.")
    status, out, err = shell("models", "pull", "luna")
    assert (status, out) == (1, "")
    assert "Make room." in err


def test_rm_and_unknown_names(shell, node, validate):
    status, document = shell.document("models", "rm", "luna")
    assert status == 0
    validate(document, "removed")
    assert "10 MB are free" in shell("models", "rm", "luna")[2]
    node.shelf.refuses = Failed("model_not_found", "No catalogue here names a model.", "Known: ...")
    status, out, _ = shell("models", "show", "mothra")
    assert (status, out) == (4, "")


def test_a_catalogue_is_sent_with_its_signature(shell, node, validate, tmp_path):
    (tmp_path / "moths.toml").write_text("version = 1")
    (tmp_path / "moths.sig").write_bytes(bytes(64))
    status, document = shell.document("models", "add", str(tmp_path / "moths.toml"))
    assert status == 0
    validate(document, "catalogue")
    assert node.shelf.added == [(b"version = 1", bytes(64), None)]
    assert shell("models", "add", str(tmp_path / "moths.toml"), "--key", "ab" * 32)[0] == 0
    assert node.shelf.added[1][2] == b"\xab" * 32
    assert shell("models", "add", str(tmp_path / "none.toml"))[0] == 2
    assert shell("models", "add", str(tmp_path / "moths.toml"), "--key", "xy")[0] == 2


def test_prices_are_of_a_thousand_tokens(shell, node, validate):
    status, document = shell.document("prices")
    assert status == 0
    validate(document, "prices")
    shown = shell("prices")[1]
    assert "0.001 / 0.0015 / 0.002" in shown
