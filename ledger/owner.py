"""Whose store it is: every row hangs on one wallet, and means nothing under another."""

from ledger.store import Connection, blob, first


def own(connection: Connection, public: bytes) -> bool:
    """Make an empty store that of the wallet with this key; False if it is another's already."""
    row = first(connection, "SELECT public FROM owner")
    if row is None:
        connection.execute("INSERT INTO owner VALUES (?)", (public,))
    return row is None or blob(row[0]) == public
