"""The tables of a node's store. Amounts are nano, keys and hashes bytes, times Unix seconds.

A node keeps both halves: what it holds (lanes, credits, sessions) and, if it is a mint, what it
owes. Rows that money hangs on are never deleted before the chain shows that they are done.
"""

from collections.abc import Mapping
from typing import Final

VERSION: Final = 6
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
    valid_until INTEGER NOT NULL,    -- of a close order that we signed
    lt INTEGER NOT NULL DEFAULT 0,   -- of the newest transaction seen
    returned INTEGER NOT NULL DEFAULT 0 -- payer: what came back at the end
) STRICT;

CREATE INDEX lane_by_peer ON lane (peer, role);

CREATE TABLE chain_msg (             -- External, written by ledger/externals.py alone
    hash BLOB PRIMARY KEY,           -- normalised hash of the external message
    lane BLOB NOT NULL,              -- what it is about; empty: no lane
    dest BLOB NOT NULL,              -- account that it goes to: the lane or our wallet
    kind TEXT NOT NULL,              -- of Kind: open, claim, close ...
    boc BLOB NOT NULL,
    until INTEGER NOT NULL,          -- not valid after
    after_lt INTEGER NOT NULL,       -- its transaction is later than this one of `dest`
    balance INTEGER NOT NULL,        -- of the lane when this was made
    made_at REAL NOT NULL,
    state TEXT NOT NULL,             -- made | seen | done | dead
    fees INTEGER NOT NULL DEFAULT 0  -- of every transaction it caused, once done
) STRICT;

CREATE INDEX chain_msg_by_state ON chain_msg (state);
CREATE INDEX chain_msg_by_lane ON chain_msg (lane, made_at);

CREATE TABLE chain_tx (              -- what an external caused, its own transaction first
    msg BLOB NOT NULL REFERENCES chain_msg (hash),
    n INTEGER NOT NULL,
    hash BLOB NOT NULL,              -- empty: the account is gone, and took its history with it
    account BLOB NOT NULL,
    source BLOB,                     -- whose message it was, none: ours from outside
    op INTEGER NOT NULL,             -- first 32 bits of that message, 0: it had fewer
    value INTEGER NOT NULL,          -- coins that came with it
    fees INTEGER NOT NULL,           -- paid by the account, and to forward what it sent
    gas INTEGER NOT NULL,
    lt INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (msg, n)
) STRICT, WITHOUT ROWID;

CREATE TABLE credit (
    mint BLOB NOT NULL,
    epoch INTEGER NOT NULL,
    i INTEGER NOT NULL,              -- index of the secret
    j INTEGER NOT NULL,              -- worth 2^j nano; -1 while the mint has not said
    m BLOB NOT NULL,
    c BLOB,                          -- the unblinded point, once live
    state TEXT NOT NULL,             -- blinded | found | live | reserved | spent
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
    lane BLOB NOT NULL,              -- whose voucher pays for it
    price INTEGER NOT NULL,
    done INTEGER NOT NULL DEFAULT 0  -- 0 sent, 1 sold, 2 refused, 3 accused
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
    owed INTEGER NOT NULL DEFAULT 0, -- payer: ticks that the worker may have, by its receipt
    settled INTEGER NOT NULL DEFAULT 0, -- ticks that the mint has paid
    secret BLOB,                     -- payer: opens the change
    due REAL NOT NULL DEFAULT 0,     -- when to fetch the change or to settle next
    state TEXT NOT NULL              -- payer: reserved|locked|over|done  payee: open|final|done
) STRICT;

CREATE INDEX session_by_state ON session (role, state);

CREATE TABLE taking (                -- a worker's side of a session that is paid for
    lock BLOB PRIMARY KEY,
    session BLOB NOT NULL,
    mint BLOB NOT NULL,
    tick INTEGER NOT NULL,
    ticks INTEGER NOT NULL,
    expiry INTEGER NOT NULL,
    i INTEGER NOT NULL,              -- ticks revealed to us
    x BLOB NOT NULL,                 -- the newest of them
    settled INTEGER NOT NULL,        -- ticks that the mint has paid
    final INTEGER NOT NULL,          -- no more ticks will come
    done INTEGER NOT NULL            -- nor anything from the mint
) STRICT;

CREATE INDEX taking_open ON taking (mint) WHERE NOT done;
CREATE INDEX taking_by_mint ON taking (mint);

CREATE TABLE debt (                  -- what a mint owes us without a lane
    mint BLOB PRIMARY KEY,
    owed INTEGER NOT NULL,
    signed BLOB NOT NULL
) STRICT;

CREATE TABLE receipt (
    session BLOB PRIMARY KEY,
    at REAL NOT NULL,
    signed BLOB NOT NULL,
    public BLOB NOT NULL             -- the worker's key, which checks it
) STRICT;
"""

PEOPLE: Final = """
CREATE TABLE owner (                 -- the wallet that all rows hang on
    public BLOB PRIMARY KEY
) STRICT, WITHOUT ROWID;

CREATE TABLE errand (                -- what a person asked for once, however often it is sent
    key BLOB PRIMARY KEY,
    msg BLOB NOT NULL REFERENCES chain_msg (hash)
) STRICT, WITHOUT ROWID;

CREATE TABLE bill (                  -- the receipts that this node has signed as a worker
    lock BLOB PRIMARY KEY REFERENCES taking (lock),
    signed BLOB NOT NULL
) STRICT, WITHOUT ROWID;
"""

FRIENDS: Final = """
CREATE TABLE guarded (               -- lanes of friends that are watched, with their best vouchers
    lane BLOB PRIMARY KEY,
    config BLOB NOT NULL,            -- LaneConfig, canonical
    cumulative INTEGER NOT NULL,
    sig BLOB NOT NULL
) STRICT, WITHOUT ROWID;
"""

BATCHES: Final = """
CREATE TABLE chain_also (            -- further lanes that one transfer of the wallet is about
    msg BLOB NOT NULL REFERENCES chain_msg (hash),
    lane BLOB NOT NULL,
    kind TEXT NOT NULL,
    balance INTEGER NOT NULL,        -- of the lane when the message was made
    PRIMARY KEY (msg, lane)
) STRICT, WITHOUT ROWID;

CREATE INDEX chain_also_by_lane ON chain_also (lane);
"""

PINS: Final = """
CREATE TABLE pin (                   -- the keyset that an epoch's credits are bought with
    mint BLOB NOT NULL,
    epoch INTEGER NOT NULL,
    signed BLOB NOT NULL,
    PRIMARY KEY (mint, epoch)
) STRICT, WITHOUT ROWID;

CREATE TABLE fraud (                 -- what a mint has said and may not say
    mint BLOB NOT NULL,
    about BLOB NOT NULL,             -- a purchase, a session, or the digest of a second keyset
    said BLOB NOT NULL,
    PRIMARY KEY (mint, about)
) STRICT, WITHOUT ROWID;
"""

MINT: Final = """
CREATE TABLE keyset (
    epoch INTEGER PRIMARY KEY,
    signed BLOB NOT NULL
) STRICT;

CREATE TABLE purchase (
    rid BLOB PRIMARY KEY,
    epoch INTEGER NOT NULL,
    digest BLOB NOT NULL             -- of the request: the same id with other content is refused
) STRICT, WITHOUT ROWID;

CREATE INDEX purchase_by_epoch ON purchase (epoch);

CREATE TABLE issued (
    b BLOB NOT NULL,                 -- the blinded point that was signed
    epoch INTEGER NOT NULL,
    j INTEGER NOT NULL,
    source BLOB NOT NULL,            -- a purchase or swap, or the lock that gave it as change
    PRIMARY KEY (b, source)          -- a worker sees blanks: it may have bought with one before
) STRICT, WITHOUT ROWID;

CREATE INDEX issued_by_epoch ON issued (epoch, j);

CREATE TABLE nullifier (
    epoch INTEGER NOT NULL,
    n BLOB NOT NULL,
    j INTEGER NOT NULL,
    lock BLOB NOT NULL,
    PRIMARY KEY (epoch, n)
) STRICT, WITHOUT ROWID;

CREATE TABLE lock (
    id BLOB PRIMARY KEY,
    worker BLOB NOT NULL,
    lane BLOB,                       -- none: owed
    epoch INTEGER NOT NULL,
    session BLOB NOT NULL,
    amount INTEGER NOT NULL,
    tick INTEGER NOT NULL,
    ticks INTEGER NOT NULL,
    root BLOB NOT NULL,
    expiry INTEGER NOT NULL,
    issued INTEGER NOT NULL,
    nullifiers BLOB NOT NULL,        -- 32 bytes each
    blanks BLOB NOT NULL,            -- 32 bytes each
    owner BLOB NOT NULL,
    i INTEGER NOT NULL,
    x BLOB NOT NULL,
    final INTEGER NOT NULL
) STRICT;

CREATE INDEX lock_open ON lock (expiry) WHERE NOT final;
CREATE INDEX lock_open_by_lane ON lock (lane) WHERE NOT final;
CREATE INDEX lock_open_by_worker ON lock (worker) WHERE NOT final;
CREATE INDEX lock_by_epoch ON lock (epoch);

CREATE TABLE lane_in (               -- beside the lane: a customer's
    id BLOB PRIMARY KEY,
    charged INTEGER NOT NULL         -- price of all that was bought on it
) STRICT;

CREATE TABLE lane_out (              -- beside the lane: one to a worker
    id BLOB PRIMARY KEY,
    worker BLOB NOT NULL
) STRICT;

CREATE INDEX lane_out_by_worker ON lane_out (worker);

CREATE TABLE iou (
    worker BLOB PRIMARY KEY,
    owed INTEGER NOT NULL
) STRICT;

CREATE TABLE book (
    day INTEGER NOT NULL,
    entry TEXT NOT NULL,
    nano INTEGER NOT NULL,
    PRIMARY KEY (day, entry)
) STRICT, WITHOUT ROWID;
"""

_MOVED: Final = """
INSERT INTO fraud SELECT peer, id, reply FROM outbox WHERE reply IS NOT NULL;
ALTER TABLE outbox DROP COLUMN reply;
"""

_ENDS: Final = """
ALTER TABLE lane ADD COLUMN lt INTEGER NOT NULL DEFAULT 0;
ALTER TABLE lane ADD COLUMN returned INTEGER NOT NULL DEFAULT 0;
"""

UPGRADES: Final[Mapping[int, str]] = {1: PINS + _MOVED, 2: _ENDS, 3: PEOPLE, 4: FRIENDS, 5: BATCHES}
"""What makes of a store of each version one of the next."""
