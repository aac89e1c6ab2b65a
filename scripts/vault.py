"""`wallet.key` of a home: made, opened, given another passphrase, made anew from its 24 words.

A passphrase comes from a prompt, from the file that `wallet.passphrase_file` names, or from
systemd, which gives a service its credentials in a directory. It is never an argument.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from ledger import backup, keystore, words
from ledger.keystore import Keys
from p2p.entropy import Entropy
from p2p.errors import BadKeystore, RemoteError, WrongPassphrase
from scripts.failure import Failed
from scripts.home import Home, write_private

CREDENTIAL: Final = "tussah-passphrase"
"""Name of the credential: `LoadCredential=tussah-passphrase:/path` in a systemd unit."""

MAX_PASSPHRASE: Final = 1_024
"""characters"""

HOW: Final = (
    "Unlock it with `tussah wallet unlock`, or name a file with its passphrase in the setting "
    "wallet.passphrase_file."
)


def exists(home: Home) -> bool:
    """Whether there is a wallet in this home."""
    return home.wallet.exists()


def is_encrypted(home: Home) -> bool:
    """Whether its wallet needs a passphrase. Raises `Failed`."""
    try:
        return keystore.needs_passphrase(_content(home))
    except BadKeystore as error:
        raise _damaged(home, error) from error


def opened(home: Home, passphrase: str = "") -> Keys:
    """The keys of its wallet. Raises `Failed`: `wallet_locked`, `wrong_passphrase` among it."""
    if not passphrase and is_encrypted(home):
        raise Failed("wallet_locked", f"{home.wallet} is encrypted, and nobody unlocked it.", HOW)
    try:
        return keystore.unseal(_content(home), passphrase)
    except BadKeystore as error:
        raise _damaged(home, error) from error
    except WrongPassphrase as error:
        message = f"{home.wallet} does not open: {error}."
        advice = "Try again, or restore it from its 24 words."
        raise Failed("wrong_passphrase", message, advice) from error


def made(home: Home, entropy: Entropy) -> Keys:
    """The keys of its wallet, a new one without a passphrase if there is none. Raises `Failed`."""
    home.prepare()
    if not exists(home):
        with suppress(FileExistsError):  # another process of this home was faster: its key counts
            keep(home, keystore.make(entropy), "", entropy)
    return opened(home)


def keep(
    home: Home, keys: Keys, passphrase: str, entropy: Entropy, *, replace: bool = False
) -> None:
    """Write the file; durable before this returns. Raises `Failed` if the disk does not take it.

    Raises `FileExistsError` for a wallet that is there, unless it may be replaced.
    """
    try:
        write_private(home.wallet, keystore.seal(keys, passphrase, entropy), replace=replace)
    except FileExistsError:
        raise
    except OSError as error:
        message = f"{home.wallet} cannot be written: {os.strerror(error.errno or 0)}."
        raise Failed("failed", message, "See to the disk; what was there is as it was.") from error


def restored(
    home: Home, text: str, passphrase: str, entropy: Entropy, *, kept: bytes = b""
) -> Keys:
    """Make the wallet of these words that of the home. Raises `Failed` where there is one.

    `kept` is a backup of its vouchers, for the node's next start.
    """
    try:
        keys = keystore.of(words.read(text))
    except ValueError as error:
        message = f"These are not the words of a wallet: {error}."
        raise Failed("usage", message, "Type all 24 in their order, as they were shown.") from error
    _check_backup(kept, keys)
    home.prepare()
    _check_empty(home)
    write_private(home.restoring, kept)  # first: a wallet without it would never be looked for
    try:
        keep(home, keys, passphrase, entropy)
    except FileExistsError as error:
        raise _occupied(home, home.wallet) from error
    return keys


def _check_backup(kept: bytes, keys: Keys) -> None:
    try:
        if kept:
            backup.unseal(kept, keys.master)
    except RemoteError as error:
        message = f"The backup cannot be used: {error}. Nothing was restored."
        advice = "Name the backup of this wallet, or leave it out: words alone bring back the rest."
        raise Failed("usage", message, advice) from error


def _check_empty(home: Home) -> None:
    """What is in a store hangs on the wallet that it was made for."""
    for path in (home.wallet, home.ledger):
        if path.exists():
            raise _occupied(home, path)


def _occupied(home: Home, path: Path) -> Failed:
    return Failed(
        "unsafe_home",
        f"{path} is there: {home.path} has a wallet of its own already.",
        "Restore into another directory with --home, or move both wallet.key and ledger.db away.",
    )


# --- passphrases ---


def given(file: str, environ: Mapping[str, str]) -> str:
    """The passphrase for a start that nobody watches; empty: there is none. Raises `Failed`."""
    if file:
        return read_passphrase(Path(file).expanduser())
    directory = environ.get("CREDENTIALS_DIRECTORY")
    credential = Path(directory) / CREDENTIAL if directory else None
    return read_passphrase(credential) if credential is not None and credential.exists() else ""


def read_passphrase(path: Path) -> str:
    """The first line of a file. Raises `Failed`."""
    try:
        with path.open(encoding="utf-8") as file:
            line = file.readline(MAX_PASSPHRASE + 1)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        message = f"The passphrase cannot be read from {path}: {why}."
        raise Failed("usage", message, "Name a file whose first line is the passphrase.") from error
    phrase = line.removesuffix("\n")
    if not phrase or len(phrase) > MAX_PASSPHRASE:
        message = f"The first line of {path} is no passphrase of 1 to {MAX_PASSPHRASE} characters."
        raise Failed("usage", message, "Write the passphrase there, and nothing before it.")
    return phrase


# --- the file ---


def _content(home: Home) -> bytes:
    try:
        with home.wallet.open("rb") as file:
            return file.read(keystore.MAX_FILE + 1)
    except FileNotFoundError as error:
        message = f"There is no wallet in {home.path}."
        advice = "A node that pays makes one; `tussah wallet restore` makes one of its 24 words."
        raise Failed("not_found", message, advice) from error
    except OSError as error:
        message = f"{home.wallet} cannot be read: {os.strerror(error.errno or 0)}."
        raise Failed("unsafe_home", message, "See who owns it, and to the disk.") from error


def _damaged(home: Home, error: BadKeystore) -> Failed:
    return Failed(
        "unsafe_home",
        f"{home.wallet} holds no key: {error}.",
        "Move it away, and make it anew with `tussah wallet restore` and its 24 words; without "
        "them, move it away to get a new and empty wallet.",
    )
