"""How the parties of a demonstration found each other, as each says itself."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from scripts.demo.story import Check, Found
from scripts.parties import CHAIN, Network, Party

PATIENCE: Final = 3.0
"""seconds in which all have the list of an epoch that has just begun."""

PAUSE: Final = 0.2
"""seconds between two looks: other processes signal nothing."""


def found(network: Network) -> Sequence[Found]:
    """Ask every node; again for a while if their lists differ, as they do when an epoch begins."""
    end = time.monotonic() + PATIENCE
    while True:
        all_found = [_found(party) for party in network.parties if party.role != CHAIN]
        if _agree(all_found) or time.monotonic() > end:
            return all_found
        time.sleep(PAUSE)


def told(all_found: Sequence[Found]) -> Iterator[str]:
    """The table for people."""
    yield "How they found each other, over ADNL and UDP:"
    row = "  {:<9}{:>11}{:>8}{:>10}{:>8}  {}"
    yield row.format("", "invitation", "DHT", "overlay", "listed", "hash of the list")
    for one in all_found:
        counts = (one.bootstrap, one.dht, one.members, one.listed)
        yield row.format(one.name, *counts, one.root[:8])
    yield "  (Who only asks is in no table and no overlay: it fetches the list, and says nothing.)"


def check(all_found: Sequence[Found]) -> Check:
    """Whether everybody holds the same list."""
    roots = {one.root for one in all_found}
    detail = f"{len(all_found)} nodes, {len(roots)} list" + "s" * (len(roots) != 1)
    return Check(name="one list", ok=_agree(all_found), detail=f"{detail} of who is there")


def _agree(all_found: Sequence[Found]) -> bool:
    return len({(one.epoch, one.root) for one in all_found}) == 1


def _found(party: Party) -> Found:
    network = _mapping(party.call("GET", "/status")["network"])
    dht, overlay = _mapping(network["dht"]), _mapping(network["overlay"])
    return Found(
        name=party.name,
        bootstrap=_count(network["bootstrap"]),
        dht=_count(dht["active"]),
        members=_count(overlay["members"]),
        listed=_count(network["directory_count"]),
        epoch=_count(network["directory_epoch"]),
        root=str(network["directory_root"]),
    )


def _mapping(value: object) -> Mapping[str, object]:
    assert isinstance(value, Mapping)
    return value


def _count(value: object) -> int:
    assert isinstance(value, int)
    return value
