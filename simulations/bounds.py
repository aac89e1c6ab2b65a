"""Tables and how long each may be."""

from collections.abc import Mapping


def within(sizes: Mapping[str, int], bounds: Mapping[str, int]) -> str:
    """I10: which table is longer than it may be, "" if none."""
    for name, size in sizes.items():
        if name in bounds and size > bounds[name]:
            return f"{name} holds {size}, and may hold {bounds[name]}"
    return ""
