"""The keyset that a mint's credits of an epoch were bought with, held to for good.

A mint could show each customer keys of its own and know them by those. Before the first purchase of
an epoch a keyset is held against the directory; from then on the store says which it was, and no
other is taken, neither for what is bought next nor for change, nor after a restart. Two keysets
that a mint has signed for one epoch are proof against it.
"""

from ledger.credit import Keyset
from ledger.store import Connection, blob, first
from p2p.identity import AdnlId


def pin(connection: Connection, keyset: Keyset) -> bool:
    """Hold to a keyset. False if that is another than before: then both are kept as proof."""
    before = _pinned(connection, keyset.mint, keyset.epoch)
    if before is None:
        values = (keyset.mint, keyset.epoch, keyset.signed)
        connection.execute("INSERT INTO pin (mint, epoch, signed) VALUES (?, ?, ?)", values)
    elif before != keyset.signed:
        accuse(connection, keyset.mint, keyset.digest, keyset.signed)
        return False
    return True


def pinned(connection: Connection, mint: AdnlId, epoch: int, public: bytes) -> Keyset | None:
    """The keyset that is held to; `public` is the mint's key."""
    signed = _pinned(connection, mint, epoch)
    return None if signed is None else Keyset.parse(signed, public)


def _pinned(connection: Connection, mint: AdnlId, epoch: int) -> bytes | None:
    row = first(connection, "SELECT signed FROM pin WHERE mint = ? AND epoch = ?", mint, epoch)
    return None if row is None else blob(row[0])


# --- proof against a mint ---


def accuse(connection: Connection, mint: AdnlId, about: bytes, said: bytes) -> None:
    """Keep what a mint said and may not say: of a purchase, a session, or its keys."""
    values = (mint, about, said)
    connection.execute("INSERT OR IGNORE INTO fraud (mint, about, said) VALUES (?, ?, ?)", values)


def accused(connection: Connection) -> frozenset[AdnlId]:
    """The mints against which there is proof; nothing is bought there any more."""
    rows = connection.execute("SELECT DISTINCT mint FROM fraud")
    return frozenset(AdnlId(blob(mint)) for (mint,) in rows)
