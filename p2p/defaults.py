"""Every number the protocol fixes, with its unit and the reason for it.

Byte layouts stand beside their codec (`p2p/onion/cell.py`); what stands here are the bounds and
times that two nodes must agree on or that a user may feel.
"""

# --- adverts and the directory ---

MAX_ADVERT = 768
"""bytes: one ADNL simple broadcast of TON holds no more."""

MAX_ADVERTS = 65_536
"""adverts kept: 26 MB at the mean size of 390 bytes."""
