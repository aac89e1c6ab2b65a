"""The models of a home: what its catalogues name, what of that is here, and what fits.

models/BASE-QUANT-HASH.gguf     files that were pulled
catalogues/KEY.signed           catalogues of keys that its owner trusts, beside the release's:
                                a signature, 64 bytes, and what it signs
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import structlog

from inference import catalogue, fit, market
from inference.catalogue import Catalogue, Item
from inference.download import held
from inference.fit import Fit, Unfit, Wish
from inference.gguf import ModelName
from inference.machine import Machine
from p2p.errors import RemoteError
from p2p.identity import SIGNATURE_SIZE
from scripts.digests import Digests
from scripts.failure import Failed
from scripts.home import Home, write_private

AUTO: Final = "auto"

PIN: Final = 12
"""hex digits of a hash that tell models apart"""

MAX_NAMED: Final = 8
"""models that a message lists"""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelved:
    """A model of a catalogue, as it stands here."""

    item: Item
    held: int
    """bytes of it that are here"""
    path: Path | None
    """Where it is, if all of it is here."""
    fit: Fit | Unfit | None
    """None: nobody has looked at the machine."""


@final
class Library:
    """See the module."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self.digests = Digests(home)
        added = sorted(self._read_all(), key=lambda each: each.key != catalogue.RELEASE_KEY)
        is_newer = bool(added) and added[0].key == catalogue.RELEASE_KEY
        self._catalogues = added if is_newer else [catalogue.shipped(), *added]
        self._shelve()

    # --- what there is ---

    @property
    def items(self) -> Sequence[Item]:
        """Of all catalogues, the best ranked first; a file has the names that the first gives it.

        The release's catalogue stands before those of others.
        """
        return self._items

    def known(self) -> tuple[market.Known, ...]:
        """The same, as those who ask by name want it."""
        return tuple(
            market.Known(
                base=item.base,
                quant=item.quant,
                file=item.sha256,
                identity=item.identity,
                rank=item.rank,
            )
            for item in self._items
        )

    def find(self, name: str) -> Item:
        """The model that a name means. Raises `Failed` for none, and for more than one."""
        try:
            wanted = ModelName.parse(name)
        except ValueError as error:
            raise Failed("invalid_request", f"{error}.", param="model") from error
        found = [item for item in self._items if item.meant_by(wanted)]
        if not found:
            names = ", ".join(f"{item.base}@{item.quant}" for item in self._items[:MAX_NAMED])
            message = f"No catalogue here names a model {name!r}."
            raise Failed("model_not_found", message, f"Known: {names}.")
        if len(found) > 1 and wanted.base is not None:
            names = ", ".join(item.name[: -len(item.sha256.hex()) + PIN] for item in found)
            message = f"{name!r} may be any of several models: {names}."
            raise Failed("invalid_request", message, "Give one of these names.", param="model")
        return found[0]

    def path(self, item: Item) -> Path | None:
        """Where its file is, if it is here."""
        pulled = self._home.models / item.file_name
        if pulled.exists():
            return pulled
        for source in item.sources:
            if source.kind == "wheel":
                installed = catalogue.member_path(source.project, source.member)
                if installed is not None:
                    return installed
        return None

    def shelf(self, machine: Machine | None, wish: Wish) -> list[Shelved]:
        """All of it, and how it stands here."""
        return [self.shelved(item, machine, wish) for item in self._items]

    def shelved(self, item: Item, machine: Machine | None, wish: Wish) -> Shelved:
        """How one model stands here."""
        path = self.path(item)
        have = item.size if path is not None else held(item, self._home.models)
        fitting = None if machine is None else fit.plan(machine, item.need, wish)
        return Shelved(item=item, held=have, path=path, fit=fitting)

    def best(self, machine: Machine, wish: Wish) -> Shelved | None:
        """What `auto` serves: the best ranked of those that are here and fit."""
        shelf = self.shelf(machine, wish)
        here = (each for each in shelf if each.path is not None and isinstance(each.fit, Fit))
        return next(here, None)

    # --- what changes it ---

    def add(self, data: bytes, signature: bytes, key: bytes | None) -> Catalogue:
        """Take a catalogue in, of a key that is trusted here or is from now on; never backwards.

        Raises `Failed`.
        """
        keys = [held.key for held in self._catalogues] if key is None else [key]
        try:
            offered = Catalogue.parse(data, signature, keys)
            old = next((held for held in self._catalogues if held.key == offered.key), None)
            catalogue.newest(old, offered)
        except RemoteError as error:
            message = f"The catalogue is not taken: {error}."
            advice = "Its publisher's key makes it one of yours: --key HEX."
            raise Failed("invalid_request", message, advice) from error
        name = offered.key.hex()
        self._home.catalogues.mkdir(mode=0o700, exist_ok=True)
        write_private(self._home.catalogues / f"{name}.signed", signature + data)
        self._catalogues = [held for held in self._catalogues if held.key != offered.key]
        place = 0 if offered.key == catalogue.RELEASE_KEY else len(self._catalogues)
        self._catalogues.insert(place, offered)
        self._shelve()
        return offered

    def remove(self, item: Item) -> int:
        """Delete the file, or what has come of it; how many bytes that were. Raises `Failed`."""
        folder, freed = self._home.models, held(item, self._home.models)
        if not freed:
            where = self.path(item)
            message = f"{item.base}@{item.quant} was not pulled: there is nothing to remove."
            if where is not None:
                message = f"{item.base}@{item.quant} came with an installed package: {where}."
            raise Failed("model_not_found", message, "`tussah models list` shows what is here.")
        for name in (item.file_name, f"{item.file_name}.part", f"{item.file_name}.part.map"):
            (folder / name).unlink(missing_ok=True)
        return freed

    # --- inside ---

    def _shelve(self) -> None:
        by_file: dict[bytes, Item] = {}
        for each in self._catalogues:
            for item in each.models:
                by_file.setdefault(item.sha256, item)
        self._items = catalogue.ranked(by_file.values())

    def _read_all(self) -> Iterator[Catalogue]:
        """Catalogues that were added; a newer one of the release's key is taken for it."""
        for file in sorted(self._home.catalogues.glob("*.signed")):
            try:
                key, signed = bytes.fromhex(file.stem), file.read_bytes()
                read = Catalogue.parse(signed[SIGNATURE_SIZE:], signed[:SIGNATURE_SIZE], [key])
                if key == catalogue.RELEASE_KEY:
                    catalogue.newest(catalogue.shipped(), read)
            except (OSError, ValueError, RemoteError) as error:
                log.warning("catalogue.unread", file=file.name, why=str(error))
                continue
            yield read
