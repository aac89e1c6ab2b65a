"""TON's distributed hash table: who is where, and small signed values, kept by everybody."""
