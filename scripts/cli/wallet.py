"""`tussah wallet backup`, `restore`, `passphrase`, `unlock`: the secret that money hangs on."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from scripts.api import client
from scripts.cli import secret
from scripts.cli.client import reach
from scripts.cli.common import PLAIN, Common, give, out, say
from scripts.cli.words import count, ton
from scripts.failure import Document, Failed
from scripts.home import write_private

LINE = 4
"""words shown in a line"""


def backup(
    *,
    vouchers: Path | None = None,
    passphrase_file: Path | None = None,
    common: Common = PLAIN,
) -> int:
    """Show the 24 words that this wallet can be made from again. No node need run.

    Write them on paper, in their order. Whoever has them has the coins; they are the same for any
    wallet program of TON. They bring back all but the vouchers that this node was promised coins
    by: those are kept by the setting wallet.backup_file, or now by --vouchers.

    Parameters
    ----------
    vouchers
        Show no words; have the running node write its vouchers to this file, sealed for the wallet.
    passphrase_file
        File whose first line is the wallet's passphrase; else it is asked for if there is one.
    """
    if vouchers is not None:
        return _keep_vouchers(vouchers, common)
    from scripts import vault

    phrase = ""
    if vault.is_encrypted(common.home):
        phrase = secret.passphrase(passphrase_file)
    words = vault.opened(common.home, phrase).words
    if common.as_json:
        give({"schema": "tussah/backup/1", "words": list(words), "encrypted": bool(phrase)})
        return 0
    for at in range(0, len(words), LINE):
        line = (f"{n:>2} {word:<9}" for n, word in enumerate(words[at : at + LINE], at + 1))
        out(" ".join(line).rstrip() + "\n")
    say("Whoever has these words has the coins. Write them on paper; keep no picture of them.")
    return 0


def _keep_vouchers(file: Path, common: Common) -> int:
    document = client.call(reach(common.home), "GET", "/wallet/vouchers")
    try:
        write_private(file, bytes.fromhex(str(document["sealed"])))
    except OSError as error:
        message = f"{file} cannot be written: {error.strerror}."
        raise Failed("usage", message, "Name another file.") from error
    told = f"Wrote {count(document['lanes'], 'lane')} with {ton(document['promised_nano'])}."
    return _end({**document, "file": str(file)}, told, common)


def restore(
    *,
    words_file: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    passphrase_file: Path | None = None,
    no_passphrase: bool = False,
    vouchers: Path | None = None,
    common: Common = PLAIN,
) -> int:
    """Make this home's wallet out of its 24 words. A home that has one is left alone.

    At its next start the node looks for what was there: its lanes on the chain, and at the mints
    of its network the credits that were bought. That takes some minutes, and some relays.

    Parameters
    ----------
    words_file
        File with the words, - for standard input; else they are asked for.
    passphrase_file
        File whose first line is to be the wallet's passphrase; else it is asked for.
    no_passphrase
        Do not encrypt the wallet: whoever can read its file has the coins.
    vouchers
        The file of wallet.backup_file, or of `tussah wallet backup --vouchers`.
    """
    from p2p.entropy import SystemEntropy
    from scripts import vault

    kept = b"" if vouchers is None else _read(vouchers)
    text = secret.words(words_file)
    phrase = "" if no_passphrase else secret.new_passphrase(passphrase_file)
    keys = vault.restored(common.home, text, phrase, SystemEntropy(), kept=kept)
    document: Document = {
        "schema": "tussah/restore/1",
        "public_key": keys.master.wallet.public.hex(),
        "encrypted": bool(phrase),
        "file": str(common.home.wallet),
    }
    told = f"Restored the wallet with the key {document['public_key']}. Start the node: tussah up"
    return _end(document, told, common)


def passphrase(
    *,
    passphrase_file: Path | None = None,
    new_passphrase_file: Path | None = None,
    no_passphrase: bool = False,
    common: Common = PLAIN,
) -> int:
    """Encrypt the wallet's file with a passphrase, change it, or take it away.

    A node that runs goes on; it asks for the new one at its next start.

    Parameters
    ----------
    passphrase_file
        File whose first line is the present passphrase; else it is asked for if there is one.
    new_passphrase_file
        File whose first line is to be the new one; else it is asked for.
    no_passphrase
        Take the passphrase away: whoever can read the file has the coins.
    """
    from p2p.entropy import SystemEntropy
    from scripts import vault

    home, old = common.home, ""
    if vault.is_encrypted(home):
        old = secret.passphrase(passphrase_file, "Present passphrase")
    keys = vault.opened(home, old)
    new = "" if no_passphrase else secret.new_passphrase(new_passphrase_file)
    vault.keep(home, keys, new, SystemEntropy(), replace=True)
    document: Document = {"schema": "tussah/passphrase/1", "encrypted": bool(new)}
    told = "The wallet's file is encrypted." if new else "The wallet's file is not encrypted."
    return _end(document, told, common)


def unlock(*, passphrase_file: Path | None = None, common: Common = PLAIN) -> int:
    """Open the encrypted wallet of the running node, until it stops.

    Parameters
    ----------
    passphrase_file
        File whose first line is the passphrase; else it is asked for.
    """
    socket = reach(common.home)
    body = {"passphrase": secret.passphrase(passphrase_file)}
    document = client.call(socket, "POST", "/wallet/unlock", body)
    return _end(document, "The wallet is open until the node stops.", common)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        message = f"{file} cannot be read: {error.strerror}."
        raise Failed("usage", message, "Name the backup of this wallet's vouchers.") from error


def _end(document: Document, told: str, common: Common) -> int:
    if common.as_json:
        give(document)
    else:
        say(told)
    return 0
