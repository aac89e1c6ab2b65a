"""TON as the ledger sees it: one `Chain`, embedded in this process or reached through pytoniq."""
