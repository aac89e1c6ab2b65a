"""Onion circuits of fixed cells: pure cores, no socket, clock, task or global randomness."""
