"""Questions to a DHT of another network, by its global configuration: TON's, or `dht config`'s.

The visit is this command's own: a socket and a key that end with it. No node of this home takes
part, and no network of it hears of it.
"""

from collections.abc import Callable, Coroutine

import trio

from p2p.dht import config
from p2p.dht import node as nodes
from p2p.dht import settings as dht_settings
from p2p.errors import DhtError, LocalError
from p2p.ton import DhtNode
from p2p.visit import VisitConfig, visit
from p2p.wire import Endpoint
from scripts import joining, lookups
from scripts.api import dht as documents
from scripts.failure import Document, Failed, unwrap
from scripts.lookups import Table, Wanted


def get(file: bytes, key: str, name: str | None, idx: int) -> Document:
    """The `dht-value` document. Raises `Failed`."""
    named = None if name is None else documents.check_name(name).encode()
    wanted = Wanted(id=lookups.parse_id(key), name=named, idx=documents.check_index(idx))
    return _visited(file, lambda table: lookups.get(table, wanted))


def find_node(file: bytes, target: str) -> Document:
    """The `dht-nodes` document. Raises `Failed`."""
    wanted = lookups.parse_id(target)
    return _visited(file, lambda table: lookups.find_node(table, wanted))


def _visited(file: bytes, ask: Callable[[Table], Coroutine[object, None, Document]]) -> Document:
    place = _place(_seeds(file))

    async def main() -> Document:
        async with visit(place) as table:
            return await ask(table)

    try:
        return trio.run(main)
    except BaseExceptionGroup as group:
        raise unwrap(group) from None
    except LocalError as error:
        raise Failed("failed", f"The DHT cannot be asked: {error}.") from error


def _seeds(file: bytes) -> list[DhtNode]:
    """The nodes that a configuration lists. Raises `Failed` (`usage`) if it lists none."""
    try:
        seeds = config.read(file[: config.MAX_CONFIG + 1].decode())
    except (DhtError, UnicodeDecodeError) as error:
        raise _no_config(str(error)) from error
    if not seeds:
        raise _no_config("it lists no node that can be read")
    return seeds


def _no_config(why: str) -> Failed:
    return Failed(
        "usage",
        f"This is no global configuration of TON: {why}.",
        "TON's own is at https://ton.org/global-config.json; download it first.",
        param="ton_config",
    )


def _place(seeds: list[DhtNode]) -> VisitConfig:
    """The network that the first record names, TON's none; a dev one if all are on this machine."""
    hosts = [host for seed in seeds for host in map(nodes.host, seed.addr_list.addrs) if host]
    here = all(host.is_loopback for host in hosts)
    return VisitConfig(
        seeds=seeds,
        network=nodes.network_of(seeds[0]),
        bind=Endpoint(joining.LOOPBACK if here else joining.EVERYWHERE, 0),
        settings=dht_settings.DEV if here else dht_settings.DEFAULT,
    )
