"""`wallet.key` of a home: nobody's but its owner's, never lost, never replaced by accident."""

import os
import stat

import pytest

from ledger import keystore
from ledger.keystore import Keys
from p2p.entropy import seeded
from scripts import vault
from scripts.failure import Failed
from scripts.home import Home, write_private

KEYS = keystore.make(seeded(3))
WORDS = " ".join(KEYS.words)


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path / "home")
    home.prepare()
    return home


@pytest.fixture(autouse=True)
def cheap(monkeypatch):
    """An argon2id of a moment: what the real one costs is not looked at here."""
    seal = keystore.seal
    monkeypatch.setattr(keystore, "seal", lambda *given: seal(*given, passes=1, memory=8_192))


def code(failed):
    return failed.value.failure.code


def test_wallet_is_made_once_and_private(home):
    first = vault.made(home, seeded(1))
    kept = home.wallet.read_bytes()
    assert stat.S_IMODE(home.wallet.stat().st_mode) == 0o600
    assert not vault.is_encrypted(home)
    assert vault.made(home, seeded(2)).words == first.words
    assert home.wallet.read_bytes() == kept


def test_wallet_of_a_faster_process_counts(home, monkeypatch):
    vault.keep(home, KEYS, "", seeded(1))
    monkeypatch.setattr(vault, "exists", lambda home: False)
    assert vault.made(home, seeded(2)).words == KEYS.words


def test_encrypted_wallet_opens_with_its_passphrase_alone(home):
    vault.keep(home, KEYS, "luna", seeded(1))
    assert vault.is_encrypted(home)
    with pytest.raises(Failed, match=r"encrypted.*wallet unlock.*passphrase_file") as failed:
        vault.opened(home)
    assert (code(failed), failed.value.failure.meaning.exit) == ("wallet_locked", 2)
    with pytest.raises(Failed) as failed:
        vault.opened(home, "atlas")
    assert (code(failed), failed.value.failure.meaning.exit) == ("wrong_passphrase", 2)
    assert "atlas" not in str(failed.value)
    assert vault.opened(home, "luna").words == KEYS.words


def test_words_make_the_wallet_again(home):
    vault.restored(home, WORDS, "luna", seeded(1))
    assert vault.opened(home, "luna").master.secret == KEYS.master.secret


def test_wrong_words_write_nothing(home):
    swapped = " ".join([KEYS.words[1], KEYS.words[0], *KEYS.words[2:]])
    with pytest.raises(Failed, match="not the words of a wallet") as failed:
        vault.restored(home, swapped, "", seeded(1))
    assert code(failed) == "usage"
    assert not vault.exists(home)


@pytest.mark.parametrize("name", ["wallet", "ledger"])
def test_home_with_money_is_not_restored_into(home, name):
    write_private(getattr(home, name), "mine")
    with pytest.raises(Failed, match=f"{getattr(home, name).name} is there"):
        vault.restored(home, WORDS, "", seeded(1))
    assert getattr(home, name).read_text() == "mine"


def test_damaged_wallet_is_refused_and_stays(home):
    for content in (b"", b"moth\n", b"TSKS" + bytes(200), keystore.seal(KEYS, "", seeded(1))[:-1]):
        write_private(home.wallet, content)
        with pytest.raises(Failed, match=r"holds no key.*24 words") as failed:
            vault.made(home, seeded(1))
        assert code(failed) == "unsafe_home"
        assert home.wallet.read_bytes() == content


def test_no_wallet_is_said_to_be_none(home):
    with pytest.raises(Failed, match="There is no wallet") as failed:
        vault.opened(home)
    assert code(failed) == "not_found"


def test_full_disk_leaves_the_old_wallet(home, monkeypatch):
    vault.keep(home, KEYS, "", seeded(1))

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    other = Keys(words=KEYS.words, master=KEYS.master)
    with pytest.raises(Failed, match=r"No space.*as it was"):
        vault.keep(home, other, "luna", seeded(1), replace=True)
    assert vault.opened(home).words == KEYS.words


def test_passphrase_comes_from_file_or_credential(tmp_path):
    file = tmp_path / vault.CREDENTIAL
    file.write_text("luna moth\nrest\n")
    credentials = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert vault.given(str(file), {}) == "luna moth"
    assert vault.given("", credentials) == "luna moth"
    assert vault.given("", {}) == vault.given("", {"CREDENTIALS_DIRECTORY": "/nowhere"}) == ""


@pytest.mark.parametrize("content", [None, b"\nluna\n", b"", b"x" * 1_025, b"\xff\n"])
def test_file_without_a_passphrase_is_refused(tmp_path, content):
    file = tmp_path / "phrase"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(Failed, match="phrase") as failed:
        vault.given(str(file), {})
    assert code(failed) == "usage"
