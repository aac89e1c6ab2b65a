"""Benchmarks of this project beside its limits and peers, one command each."""
