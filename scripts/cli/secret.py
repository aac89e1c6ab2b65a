"""Secrets that a command needs: from a file, or typed at a terminal; never from its arguments."""

import sys
from getpass import getpass
from pathlib import Path

from scripts.failure import Failed

MAX_WORDS = 4_096
"""characters of a file with words"""


def passphrase(file: Path | None, prompt: str = "Passphrase") -> str:
    """One that opens something. Raises `Failed` without file and terminal."""
    return _from_file(file) if file is not None else _typed(prompt)


def new_passphrase(file: Path | None) -> str:
    """One to encrypt with, typed twice; empty: none is wanted. Raises `Failed`."""
    if file is not None:
        return _from_file(file)
    first = _typed("New passphrase (empty: none)")
    if first and _typed("The same again") != first:
        message = "The two passphrases differ; nothing was changed."
        raise Failed("usage", message, "Run the command again.")
    return first


def words(file: str | None) -> str:
    """The words of a wallet; `-` is standard input. Raises `Failed`."""
    if file is None:
        _need_terminal("--words-file FILE, or --words-file - for standard input")
        sys.stderr.write("The 24 words, in their order: ")
        sys.stderr.flush()
        return sys.stdin.readline()
    if file == "-":
        return sys.stdin.read(MAX_WORDS)
    try:
        with Path(file).open(encoding="utf-8") as opened:
            return opened.read(MAX_WORDS)
    except (OSError, UnicodeDecodeError) as error:
        message = f"The words cannot be read from {file}: {error}."
        raise Failed("usage", message, "Name a text file with the 24 words.") from error


def _from_file(file: Path) -> str:
    from scripts import vault

    return vault.read_passphrase(file)


def _typed(prompt: str) -> str:
    _need_terminal("--passphrase-file FILE")
    try:
        return getpass(f"{prompt}: ", stream=sys.stderr)
    except EOFError as error:
        raise Failed("usage", "Nothing was typed.", "Run the command again.") from error


def _need_terminal(instead: str) -> None:
    if not sys.stdin.isatty():
        message = "This command asks for a secret, and standard input is no terminal."
        raise Failed("usage", message, f"Give {instead}.")
