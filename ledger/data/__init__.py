"""Data files of the ledger; see README.md beside."""
