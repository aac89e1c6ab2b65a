"""The tables of a node's store. Amounts are nano, keys and hashes bytes, times Unix seconds.

A node keeps both halves: what it holds (lanes, credits, sessions) and, if it is a mint, what it
owes. Rows that money hangs on are never deleted before the chain shows that they are done.
"""

from typing import Final

VERSION: Final = 1
"""`PRAGMA user_version` of a store with these tables."""

NODE: Final = """
CREATE TABLE lane (                  -- LaneRow, written by ledger/lane_rows.py alone
    id BLOB PRIMARY KEY,             -- the contract's address, 32 bytes
    role TEXT NOT NULL,              -- payer | payee
    peer BLOB,                       -- ADNL id of the other side, if it is known
    config BLOB NOT NULL,            -- LaneConfig, canonical
    phase TEXT NOT NULL,
    cumulative INTEGER NOT NULL,     -- payer: promised; payee: the best voucher held
    sig BLOB NOT NULL,               -- payee: of that voucher
    deposit INTEGER NOT NULL,
    claimed INTEGER NOT NULL,
    balance INTEGER NOT NULL,
    close_at INTEGER NOT NULL,
    seen_at REAL NOT NULL,
    opened_at REAL NOT NULL,
    claimed_at REAL NOT NULL,
    poor_since REAL NOT NULL,
    valid_until INTEGER NOT NULL     -- of a close order that we signed
) STRICT;

CREATE INDEX lane_by_peer ON lane (peer, role);

CREATE TABLE chain_msg (
    hash BLOB PRIMARY KEY,           -- normalised hash of the external message
    lane BLOB,
    kind TEXT NOT NULL,              -- open | top_up | claim | close | start_close | finish
    boc BLOB NOT NULL,
    until INTEGER NOT NULL,          -- not valid after
    state TEXT NOT NULL,             -- made | sent | seen | dead
    made_at REAL NOT NULL DEFAULT 0,
    fees INTEGER NOT NULL DEFAULT 0  -- of every transaction it caused, once seen
) STRICT;

CREATE TABLE credit (
    mint BLOB NOT NULL,
    epoch INTEGER NOT NULL,
    i INTEGER NOT NULL,              -- index of the secret
    j INTEGER NOT NULL,              -- worth 2^j nano; -1 while the mint has not said
    m BLOB NOT NULL,
    c BLOB,                          -- the unblinded point, once live
    state TEXT NOT NULL,             -- blinded | live | reserved | spent
    rid BLOB NOT NULL,               -- the purchase or session that made it
    session BLOB,                    -- the session that it is reserved for
    PRIMARY KEY (mint, epoch, i)
) STRICT, WITHOUT ROWID;

CREATE INDEX credit_by_state ON credit (state, mint, epoch);
CREATE INDEX credit_by_rid ON credit (rid);
CREATE INDEX credit_by_session ON credit (session) WHERE session IS NOT NULL;

CREATE TABLE counter (
    mint BLOB NOT NULL,
    epoch INTEGER NOT NULL,
    next INTEGER NOT NULL,           -- the first index never used
    PRIMARY KEY (mint, epoch)
) STRICT, WITHOUT ROWID;

CREATE TABLE outbox (
    id BLOB PRIMARY KEY,             -- a purchase's request id
    peer BLOB NOT NULL,
    epoch INTEGER NOT NULL,
    body BLOB NOT NULL,              -- sent again until answered, byte for byte
    until INTEGER NOT NULL,
    done INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE session (
    session BLOB PRIMARY KEY,        -- SHA-256 of the offer
    role TEXT NOT NULL,              -- payer | payee
    mint BLOB NOT NULL,
    epoch INTEGER NOT NULL,
    spend BLOB NOT NULL,
    lock BLOB NOT NULL UNIQUE,
    amount INTEGER NOT NULL,
    tick INTEGER NOT NULL,
    ticks INTEGER NOT NULL,
    expiry INTEGER NOT NULL,
    i INTEGER NOT NULL DEFAULT 0,    -- ticks revealed, by us or to us
    x BLOB,                          -- the newest of them
    settled INTEGER NOT NULL DEFAULT 0,
    secret BLOB,                     -- payer: opens the change
    due REAL NOT NULL DEFAULT 0,     -- when to fetch the change or to settle next
    state TEXT NOT NULL              -- payer: reserved|locked|over|done  payee: open|final|done
) STRICT;

CREATE INDEX session_by_state ON session (role, state);

CREATE TABLE receipt (
    session BLOB PRIMARY KEY,
    at REAL NOT NULL,
    signed BLOB NOT NULL
) STRICT;
"""

MINT: Final = """
CREATE TABLE keyset (
    epoch INTEGER PRIMARY KEY,
    signed BLOB NOT NULL,
    start INTEGER NOT NULL,
    spend_until INTEGER NOT NULL,
    swap_until INTEGER NOT NULL
) STRICT;

CREATE TABLE issued (
    b BLOB PRIMARY KEY,              -- the blinded point that was signed
    epoch INTEGER NOT NULL,
    j INTEGER NOT NULL,
    rid BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX issued_by_epoch ON issued (epoch);

CREATE TABLE purchase (
    rid BLOB PRIMARY KEY,
    lane BLOB NOT NULL,
    cum INTEGER NOT NULL,
    request BLOB NOT NULL,           -- SHA-256: the same id with other content is refused
    reply BLOB NOT NULL
) STRICT;

CREATE TABLE nullifier (
    epoch INTEGER NOT NULL,
    n BLOB NOT NULL,
    lock BLOB NOT NULL,
    PRIMARY KEY (epoch, n)
) STRICT, WITHOUT ROWID;

CREATE TABLE lock (
    id BLOB PRIMARY KEY,
    worker BLOB NOT NULL,
    lane BLOB,                       -- none: on the book as a debt
    epoch INTEGER NOT NULL,
    session BLOB NOT NULL,
    amount INTEGER NOT NULL,
    tick INTEGER NOT NULL,
    ticks INTEGER NOT NULL,
    root BLOB NOT NULL,
    i INTEGER NOT NULL DEFAULT 0,
    x BLOB NOT NULL,
    expiry INTEGER NOT NULL,
    issued INTEGER NOT NULL,
    nullifiers BLOB NOT NULL,
    blanks BLOB NOT NULL,
    owner BLOB NOT NULL,
    state TEXT NOT NULL,             -- open | final
    change INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX lock_by_state ON lock (state, expiry);
CREATE INDEX lock_by_worker ON lock (worker, state);

CREATE TABLE lane_in (
    id BLOB PRIMARY KEY,
    cum INTEGER NOT NULL             -- highest voucher counted on the book
) STRICT;

CREATE TABLE lane_out (
    id BLOB PRIMARY KEY,
    worker BLOB NOT NULL,
    funded INTEGER NOT NULL,
    promised_cum INTEGER NOT NULL,
    claimed INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX lane_out_by_worker ON lane_out (worker);

CREATE TABLE iou (
    worker BLOB PRIMARY KEY,
    owed INTEGER NOT NULL
) STRICT;

CREATE TABLE book (
    day INTEGER NOT NULL,
    kind TEXT NOT NULL,
    nano INTEGER NOT NULL,
    PRIMARY KEY (day, kind)
) STRICT, WITHOUT ROWID;
"""
