"""Carriers of links: memory (virtual time) and libp2p (TCP, Noise, yamux)."""
