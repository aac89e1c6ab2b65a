"""A file is hashed once, and again when it is another."""

import os
from hashlib import sha256

import pytest

from scripts import digests
from scripts.digests import MAX_KEPT, Digests
from scripts.home import Home


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path / "home")
    home.prepare()
    return home


@pytest.fixture
def hashed(monkeypatch):
    """How many files were read."""
    count, real = [], digests.hashlib.file_digest

    def file_digest(file, name):
        count.append(file.name)
        return real(file, name)

    monkeypatch.setattr(digests.hashlib, "file_digest", file_digest)
    return count


def test_a_file_is_hashed_once_over_restarts(home, tmp_path, hashed):
    file = tmp_path / "moth.gguf"
    file.write_bytes(b"moth")
    for _ in range(3):
        assert Digests(home).of(file) == sha256(b"moth").digest()
    assert len(hashed) == 1


@pytest.mark.parametrize("change", ["size", "time", "inode"])
def test_another_file_in_its_place_is_hashed_again(home, tmp_path, hashed, change):
    file, other = tmp_path / "moth.gguf", tmp_path / "other"
    file.write_bytes(b"moth")
    os.utime(file, ns=(1, 1))
    Digests(home).of(file)
    if change == "inode":
        other.write_bytes(b"luna")
        os.utime(other, ns=(1, 1))
        other.rename(file)
    else:
        file.write_bytes(b"moths" if change == "size" else b"luna")
        os.utime(file, ns=(1, 1) if change == "size" else (2, 2))
    assert Digests(home).of(file) == sha256(file.read_bytes()).digest()
    assert len(hashed) == 2


@pytest.mark.parametrize("text", ["", "[]", "{", '{"/a": 1}', '{"/a": [1, 2, 3, "zz"]}'])
def test_a_broken_memory_is_none(home, tmp_path, text):
    home.digests.write_text(text)
    file = tmp_path / "moth.gguf"
    file.write_bytes(b"moth")
    assert Digests(home).of(file) == sha256(b"moth").digest()


def test_memory_is_bounded_and_a_full_disk_costs_nothing_else(home, tmp_path, monkeypatch):
    known = Digests(home)
    for number in range(MAX_KEPT + 3):
        (tmp_path / str(number)).write_bytes(b"moth")
        known.of(tmp_path / str(number))
    assert len(Digests(home)._known) == MAX_KEPT

    def full(path, text):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(digests, "write_private", full)
    (tmp_path / "last").write_bytes(b"luna")
    assert known.of(tmp_path / "last") == sha256(b"luna").digest()
