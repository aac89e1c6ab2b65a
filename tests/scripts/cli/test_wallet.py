"""`tussah wallet backup`, `restore`, `passphrase`, `unlock` as people and programs meet them."""

import io
import stat
import sys

import pytest

from ledger import backup, keystore
from ledger.backup import Backup
from p2p.entropy import seeded
from scripts import vault
from scripts.cli import secret
from scripts.failure import Failed

KEYS = keystore.make(seeded(3))
WORDS = " ".join(KEYS.words)


@pytest.fixture(autouse=True)
def cheap(monkeypatch):
    seal = keystore.seal
    monkeypatch.setattr(keystore, "seal", lambda *given: seal(*given, passes=1, memory=8_192))


@pytest.fixture
def wallet(shell):
    """A home with a wallet, not encrypted."""
    shell.home.prepare()
    vault.keep(shell.home, KEYS, "", seeded(1))
    return shell.home


@pytest.fixture
def phrase(tmp_path):
    file = tmp_path / "phrase"
    file.write_text("luna\n")
    return str(file)


@pytest.fixture
def typed(monkeypatch):
    """A person at a terminal, who types these lines."""

    def type_(*lines):
        answers = iter(lines)
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
        monkeypatch.setattr(secret, "getpass", lambda prompt, stream: next(answers))

    return type_


def test_words_go_round(shell, wallet, tmp_path, phrase, validate):
    """Backup, a new directory, restore, another passphrase, backup: the same words."""
    status, document = shell.document("wallet", "backup")
    assert (status, document["words"], document["encrypted"]) == (0, list(KEYS.words), False)
    validate(document, "backup")

    paper = tmp_path / "paper"
    paper.write_text(" ".join(document["words"]) + "\n")
    shell.home = type(shell.home)(tmp_path / "other")
    given = ["--words-file", str(paper), "--passphrase-file", phrase]
    status, document = shell.document("wallet", "restore", *given)
    assert (status, document["encrypted"]) == (0, True)
    assert document["public_key"] == KEYS.master.wallet.public.hex()
    validate(document, "restore")

    status, document = shell.document("wallet", "backup", "--passphrase-file", phrase)
    assert (status, document["words"], document["encrypted"]) == (0, list(KEYS.words), True)
    given = ["--passphrase-file", phrase, "--no-passphrase"]
    status, document = shell.document("wallet", "passphrase", *given)
    assert (status, document["encrypted"]) == (0, False)
    validate(document, "passphrase")
    assert shell.document("wallet", "backup")[1]["words"] == list(KEYS.words)


def test_people_get_numbered_words_and_a_warning(shell, wallet):
    status, out, err = shell("wallet", "backup")
    assert status == 0
    assert out.split()[1::2] == list(KEYS.words)
    assert out.startswith(f" 1 {KEYS.words[0]}")
    assert "has the coins" in err


def test_words_are_read_from_standard_input(shell, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(WORDS))
    status, _, err = shell("wallet", "restore", "--words-file", "-", "--no-passphrase")
    assert (status, KEYS.master.wallet.public.hex() in err) == (0, True)
    assert not [word for word in KEYS.words if f" {word} " in err]


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        (["wallet", "restore"], "--words-file"),
        (["wallet", "passphrase"], "--passphrase-file"),
    ],
)
def test_without_a_terminal_the_flag_is_named(shell, wallet, words, flag):
    status, document = shell.document(*words)
    assert (status, document["error"]["code"]) == (2, "usage")
    assert flag in document["error"]["advice"]


def test_person_encrypts_a_wallet(shell, wallet, typed):
    typed("luna", "luna")
    assert shell("wallet", "passphrase")[0] == 0
    assert vault.opened(wallet, "luna").words == KEYS.words
    typed("luna", "atlas", "atlsa")
    status, _, err = shell("wallet", "passphrase")
    assert (status, "differ; nothing was changed" in err) == (2, True)
    assert vault.opened(wallet, "luna").words == KEYS.words


def test_home_with_a_wallet_is_not_restored_into(shell, wallet, tmp_path, validate):
    paper = tmp_path / "paper"
    paper.write_text(WORDS)
    given = ["--words-file", str(paper), "--no-passphrase"]
    status, document = shell.document("wallet", "restore", *given)
    assert (status, document["error"]["code"]) == (1, "unsafe_home")
    validate(document, "error")


def test_unlock_hands_the_passphrase_to_the_node(shell, node, phrase, validate):
    status, document = shell.document("wallet", "unlock", "--passphrase-file", phrase)
    assert (status, node.unlocked) == (0, ["luna"])
    validate(document, "unlock")
    node.refuses = Failed("wrong_passphrase", "It does not open.", "Try again.")
    status, out, err = shell("wallet", "unlock", "--passphrase-file", phrase)
    assert (status, out, err) == (2, "", "tussah: It does not open. Try again.\n")


def test_unlock_without_a_node_is_exit_3_before_anything_is_asked(shell):
    assert shell.document("wallet", "unlock")[1]["exit"] == 3


def test_vouchers_are_kept_and_brought_back(shell, node, tmp_path, validate):
    kept = Backup(promises=(), counters=((b"m" * 32, 7, 22),))
    node.sealed = backup.seal(kept, KEYS.master, seeded(1))
    file, paper = tmp_path / "vouchers", tmp_path / "paper"
    paper.write_text(WORDS)
    status, document = shell.document("wallet", "backup", "--vouchers", str(file))
    assert (status, document["file"]) == (0, str(file))
    validate(document, "vouchers")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    shell.home = type(shell.home)(tmp_path / "other")
    given = ["--words-file", str(paper), "--no-passphrase", "--vouchers"]
    status, document = shell.document("wallet", "restore", *given, str(paper))
    assert (status, document["error"]["code"]) == (2, "usage")
    assert not vault.exists(shell.home)
    assert shell("wallet", "restore", *given, str(file))[0] == 0
    assert backup.unseal(shell.home.restoring.read_bytes(), KEYS.master) == kept
