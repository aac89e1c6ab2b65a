"""ADNL over UDP as TON speaks it: packets, channels, and the core that joins them."""
