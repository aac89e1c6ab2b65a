"""The backup of a wallet's vouchers in a file of its own, kept fresh while the node runs.

The words bring back the rest. It is written whole under another name and renamed, so the file is
always one backup or the one before it; a disk that takes nothing leaves the old one, and an alert.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, final

import structlog
import trio

from ledger import backup
from ledger.backup import Backup
from ledger.keys import Master
from ledger.money import ZERO, Nano
from ledger.store import Store
from p2p.entropy import Entropy
from p2p.errors import LocalError
from scripts.api.status import Alert
from scripts.home import write_private

LOOK_EVERY: Final = 60.0
"""seconds"""

WRITE_EVERY: Final = 3_600.0
"""seconds after which what has changed is written, however little"""

GAINED: Final = Nano(50_000_000)
"""promised since the last backup: more is not left to one disk"""

log = structlog.get_logger()


@final
class Keeping:
    """See the module."""

    def __init__(self, store: Store, master: Master, path: Path, entropy: Entropy) -> None:
        self._store = store
        self._master = master
        self._path = path
        self._entropy = entropy
        self._last: Backup | None = None
        self._at = -WRITE_EVERY
        self._why = ""

    async def run(self) -> None:
        """Keep the file fresh, until cancelled."""
        while True:
            await self.look()
            await trio.sleep(LOOK_EVERY)

    def alerts(self) -> Iterator[Alert]:
        """That the file cannot be written."""
        if self._why:
            yield Alert(
                code="backup",
                message=f"The backup {self._path} cannot be written: {self._why}.",
                advice="See to the disk, or set wallet.backup_file to another place.",
            )

    async def look(self) -> None:
        """Write the file if it is time. What goes wrong is an alert."""
        try:
            now = await self._store.read(backup.read)
            if self._is_due(now):
                await trio.to_thread.run_sync(self._write, now, limiter=trio.CapacityLimiter(1))
                self._last, self._at, self._why = now, trio.current_time(), ""
                log.info("backup.written", lanes=len(now.promises))
        except (OSError, LocalError) as error:
            self._why = (error.strerror if isinstance(error, OSError) else None) or str(error)
            log.warning("backup.failed", reason=self._why)

    def _is_due(self, now: Backup) -> bool:
        if now == self._last:
            return False
        before = ZERO if self._last is None else self._last.promised
        gained = now.promised > before and now.promised - before >= GAINED
        return gained or trio.current_time() - self._at >= WRITE_EVERY

    def _write(self, now: Backup) -> None:
        write_private(self._path, backup.seal(now, self._master, self._entropy))
