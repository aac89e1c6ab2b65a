"""A node's directory on disk: where each file is, who may read it, and that one daemon uses it.

Standard library and platformdirs only: the command line finds the daemon by it.
"""

import fcntl
import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import final

import platformdirs

from scripts.failure import Failed

SEED_BYTES = 32

MAX_SOCKET_PATH = 100
"""bytes: macOS allows 104 and Linux 108, with the closing zero."""

NODE, CHAIN = "node", "chain"
"""Who may live in a home."""

LOCK_PAUSE = 0.05
"""seconds between looks at a lock: the system tells nobody when one becomes free."""


@final
class Home:
    """The paths of one node."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.toml"
        self.networks = path / "networks"
        self.identity = path / "identity.key"
        self.wallet = path / "wallet.key"
        self.restoring = path / "restoring"
        """There while what a restored wallet had is looked for."""
        self.api_key = path / "api.key"
        self.ledger = path / "ledger.db"
        self.network_store = path / "network.db"
        self.digests = path / "digests.json"
        self.bans = path / "bans.json"
        self.models = path / "models"
        self.catalogues = path / "catalogues"
        self.worker = path / "worker.json"
        self.lock = path / "lock"
        self.log = path / "node.log"
        self.socket = _socket(path)

    def prepare(self) -> None:
        """Make the directory if need be; refuse one that others can read or write.

        Raises `Failed` (`unsafe_home`).
        """
        for directory in (self.path, self.networks):
            _make_private(directory)
        for file in (self.identity, self.wallet, self.api_key, self.ledger, self.config):
            if file.exists():
                _check_private(file)

    def prepare_socket(self) -> None:
        """Make the directory of the control socket and remove what a dead daemon left there.

        Only for who holds the lock: the socket of a living daemon must stay.
        """
        _make_private(self.socket.parent)
        self.socket.unlink(missing_ok=True)

    def seed(self) -> bytes | None:
        """The persistent identity's secret, None if there is none. Raises `Failed`."""
        try:
            seed = bytes.fromhex(self.identity.read_text("ascii").strip())
        except FileNotFoundError:
            return None
        except ValueError:
            seed = b""
        if len(seed) != SEED_BYTES:
            raise Failed(
                "unsafe_home",
                f"{self.identity} holds no key: 64 hex digits are expected.",
                "Restore it from a backup, or move it away to get a new identity.",
            )
        return seed

    def keep_seed(self, seed: bytes) -> None:
        """Write the persistent identity's secret; a key that is there is never replaced."""
        write_private(self.identity, seed.hex() + "\n", replace=False)

    def api_secret(self) -> str:
        """What programs show to the local API; made when it is first asked for."""
        if not self.api_key.exists():
            import secrets  # made once; every command waits for what stands at the top

            with suppress(FileExistsError):  # a command and a node may both be first
                write_private(self.api_key, f"tussah-{secrets.token_urlsafe()}\n", replace=False)
        return self.api_key.read_text("ascii").strip()


def locate(flag: str | None, environ: Mapping[str, str]) -> Home:
    """The home that `--home`, `TUSSAH_HOME` or this platform's custom names, in this order."""
    chosen = flag or environ.get("TUSSAH_HOME") or platformdirs.user_data_dir("tussah", False)
    return Home(Path(chosen).expanduser().absolute())


@contextmanager
def locked(home: Home, tenant: str = NODE) -> Iterator[None]:
    """Hold the home for this process, a `tenant`.

    Raises `Failed` (`already_running`) if another process does.
    """
    descriptor = os.open(home.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(descriptor, home, tenant)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n{home.socket}\n".encode(), 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, home: Home, tenant: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        pid = os.pread(descriptor, 4096, 0).decode("ascii", "replace").split("\n")[0] or "unknown"
        stop = "`tussah down`" if tenant == NODE else f"`kill {pid}`"
        raise Failed(
            "already_running",
            f"A {tenant} already runs in {home.path}: process {pid}.",
            f"Stop it with {stop}, or choose another directory with --home.",
        ) from error


def pid(home: Home) -> int | None:
    """The process that holds the home, None if none does."""
    with _looking(home) as descriptor:
        if descriptor is None or _try_lock(descriptor):
            return None
        return int(os.pread(descriptor, 4096, 0).decode("ascii", "replace").split("\n")[0] or 0)


def wait_unlocked(home: Home, seconds: float) -> bool:
    """Wait until no process holds the home; False if one still does after `seconds`."""
    until = time.monotonic() + seconds
    with _looking(home) as descriptor:
        while descriptor is not None and not _try_lock(descriptor):
            if time.monotonic() > until:
                return False
            time.sleep(LOCK_PAUSE)
    return True


@contextmanager
def _looking(home: Home) -> Iterator[int | None]:
    try:
        descriptor = os.open(home.lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    """Whether nobody holds the lock; it is only ours until the descriptor is closed."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return True


def write_private(path: Path, content: str | bytes, *, replace: bool = True) -> None:
    """Write a file only its owner can read, whole or not at all.

    Raises `FileExistsError` for one that is there, unless it may be replaced.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    _put(fresh, path, replace=replace)


def _put(fresh: Path, path: Path, *, replace: bool) -> None:
    """Give a file its name, for good: a key that money hangs on must outlive a power loss."""
    try:
        if replace:
            fresh.rename(path)
        else:
            path.hardlink_to(fresh)
    finally:
        fresh.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _socket(path: Path) -> Path:
    """Inside the home, unless that path is too long for a socket address."""
    inside = path / "control.sock"
    if len(os.fsencode(inside)) <= MAX_SOCKET_PATH:
        return inside
    import tempfile  # few homes have such a path

    name = sha256(os.fsencode(path)).hexdigest()[:16]
    runtime = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    return Path(runtime) / f"tussah-{os.getuid()}" / f"{name}.sock"


def _make_private(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        message = f"The directory {directory} cannot be made: {error.strerror}."
        raise Failed("unsafe_home", message, "Choose another one with --home.") from error
    _check_private(directory)


def _check_private(path: Path) -> None:
    status = path.stat()
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid != os.getuid():
        message = f"{path} belongs to another user (uid {status.st_uid})."
        raise Failed("unsafe_home", message, "Choose another directory with --home.")
    if mode & 0o077:
        message = f"{path} is open to other users of this machine (mode {mode:04o})."
        raise Failed("unsafe_home", message, f"Close it: chmod go= {path}")
