"""The models of this node, as its owner handles them."""

from collections.abc import Callable
from typing import Final, final

import structlog

from inference import download
from inference.download import Tell, Unfetched
from scripts import serving
from scripts.api import listing
from scripts.api.common import moment
from scripts.failure import Document, Failed
from scripts.node.roles import Roles
from scripts.node.site import Site

log = structlog.get_logger()

ADVICE: Final = {
    "no_room": "Make room, or remove a model: tussah models rm NAME.",
    "no_source": "See whether the network is there, then try again: what has come is kept.",
    "wrong_bytes": "Tell whoever publishes the catalogue; nothing wrong is kept.",
    "disk": "See to the disk, then try again: what has come is kept.",
}


@final
class Shelf:
    """See the module."""

    def __init__(self, site: Site, roles: Roles, models: Callable[[], Document]) -> None:
        self._site = site
        self._roles = roles
        self._all = models
        self._pulling: set[bytes] = set()

    def prices(self) -> Document:
        """What answers cost."""
        site = self._site
        return listing.prices_of(site.entries(), site.known())

    async def models(self) -> Document:
        """All there are, with a look at the machine."""
        await self._look()
        return self._all()

    async def model(self, name: str) -> Document:
        """All that is known of one, with a look at the machine. Raises `Failed`."""
        await self._look()
        return self._document(name)

    async def _look(self) -> None:
        """A worker looks all the time; who only asks has not yet."""
        if self._roles.manners.machine is None:
            await self._roles.manners.see()

    def _document(self, name: str) -> Document:
        site = self._site
        item = site.library.find(name)
        wish = serving.wish_of(site.settings.worker, item.context)
        shelved = site.library.shelved(item, self._roles.manners.machine, wish)
        offers = [model.identity for entry in site.entries() for model in entry.advert.models]
        return listing.model(shelved, offers.count(item.identity))

    async def pull(self, name: str, told: Tell) -> Document:
        """Fetch one; the `model` document. Raises `Failed`. Cancelled, what has come is kept."""
        library, item = self._site.library, self._site.library.find(name)
        if item.sha256 in self._pulling:
            message = f"{item.base}@{item.quant} is being fetched already."
            raise Failed("already_running", message, "Wait for that.")
        if library.path(item) is None:
            self._pulling.add(item.sha256)
            log.info("model.pull", model=item.name, bytes=item.size)
            try:
                got = await download.fetch(item, self._site.home.models, progress=told)
            finally:
                self._pulling.discard(item.sha256)
            if isinstance(got, Unfetched):
                message = f"{item.base}@{item.quant} is not here: {got.words}."
                raise Failed("failed", message, ADVICE[got.why])
        return self._document(name)

    def remove(self, name: str) -> Document:
        """Delete one that was fetched. Raises `Failed`."""
        item, serves = self._site.library.find(name), self._roles.model
        if serves is not None and serves.identity == item.identity:
            message = f"{item.base}@{item.quant} is being served."
            raise Failed("already_running", message, "Stop the node first: tussah down")
        freed = self._site.library.remove(item)
        return {"schema": "tussah/removed/1", "name": item.name, "freed_bytes": freed}

    def add(self, data: bytes, signature: bytes, key: bytes | None) -> Document:
        """Take a catalogue in. Raises `Failed`."""
        added = self._site.library.add(data, signature, key)
        return {
            "schema": "tussah/catalogue/1",
            "key": added.key.hex(),
            "issued_at": moment(added.issued),
            "models": [item.name for item in added.models],
        }
