"""Experiments on the cores over virtual time."""
