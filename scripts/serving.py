"""What a worker serves: the engine that the settings name, and the model it speaks for."""

import mmap
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import trio

from inference import gguf
from inference.catalogue import Item
from inference.engine import upstream
from inference.engine.base import Engine
from inference.engine.host import HostedEngine
from inference.engine.http import Server
from inference.engine.upstream import UpstreamEngine
from inference.fit import Need, Wish
from inference.hardware import Sensors
from inference.market import Known
from p2p.errors import BadModel
from scripts.api.listing import LocalModel
from scripts.failure import Failed
from scripts.library import Library
from scripts.settings import Worker

INSTANT: Final = 1e6
"""tokens/s of a fake engine that is to be as fast as its reader."""

FAKE: Final = "fake"

EXTRA: Final = (
    "Install tussah with its extra `worker`, which is compiled (5 to 10 minutes): "
    'uv tool install ".[worker]" where you have its source.'
)

MAX_LABEL: Final = 32
"""bytes: an advert takes no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What stands in the advert, and in lists for people."""

    identity: bytes
    quant: int
    """GGUF file type."""
    label: str
    local: LocalModel | None
    """The file behind it, if there is one."""
    need: Need | None = None
    """What it takes of a machine, if its file tells."""
    context: int = 0
    """tokens it was trained for; 0: not known"""


def known(settings: Worker, library: Library) -> tuple[Known, ...]:
    """The models that people have names for; where the fake engine is set, its model too."""
    if settings.upstream and settings.upstream_model:
        own = upstream.identity(settings.upstream_model)
        name = settings.upstream_model.lower()
        return *library.known(), Known(base=name, quant="none", file=own, identity=own)
    if settings.engine != FAKE:
        return library.known()
    fake = _fake_identity(settings.seed)
    return *library.known(), Known(base=FAKE, quant="none", file=fake, identity=fake)


def wish_of(settings: Worker, trained: int = 0) -> Wish:
    """What the settings ask for; a model has no more context than it was trained for."""
    return Wish(
        context=min(settings.context, trained) if trained else settings.context,
        slots=None if settings.slots == "auto" else int(settings.slots),
        vram_share=settings.max_vram,
        ram_share=settings.max_ram,
        threads=settings.threads,
    )


def _fake_identity(seed: int) -> bytes:
    return sha256(b"tussah/fake-model/%d" % seed).digest()


def check(settings: Worker, library: Library) -> None:
    """Raise `Failed` for a model that is not there or is none, before a node starts to serve it."""
    if settings.upstream:
        _server(settings)
    elif settings.engine != FAKE:
        if find_spec("llama_cpp") is None:
            message = "No model can run here: llama.cpp is not installed."
            raise Failed("failed", message, EXTRA)
        with _file(_path(settings, library)) as view:
            _header(view)


@asynccontextmanager
async def opened(settings: Worker, library: Library) -> AsyncIterator[tuple[Engine, Model]]:
    """An engine, not loaded yet, and its model. Raises `Failed` if there is no such model."""
    if settings.upstream:
        async with _upstream(settings) as opened_upstream:
            yield opened_upstream
    elif settings.engine == FAKE:
        async with _fake(settings) as opened_fake:
            yield opened_fake
    else:
        async with _llama(settings, library) as opened_llama:
            yield opened_llama


@asynccontextmanager
async def _fake(settings: Worker) -> AsyncIterator[tuple[Engine, Model]]:
    from inference.engine.fake import FakeEngine  # needs numpy, of the extra `worker`

    rate = settings.fake_rate or INSTANT
    engine = FakeEngine(settings.seed, prompt_rate=INSTANT, answer_rate=rate, load_seconds=0.0)
    identity = _fake_identity(settings.seed)
    async with trio.open_nursery() as nursery:
        await nursery.start(engine.run)
        yield engine, Model(identity=identity, quant=0, label=FAKE, local=None)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _upstream(settings: Worker) -> AsyncIterator[tuple[Engine, Model]]:
    server = _server(settings)
    engine = UpstreamEngine(server, model=settings.upstream_model)
    names = await engine.models()
    if not names:
        raise _unserved(settings, "it does not answer GET /v1/models")
    name = settings.upstream_model or names[0]
    if name not in names:
        raise _unserved(settings, f"it has no model {name}, only {', '.join(names[:8])}")
    label = name.encode()[-MAX_LABEL:].decode("utf-8", "ignore")
    async with trio.open_nursery() as nursery:
        await nursery.start(engine.run)
        yield engine, Model(identity=upstream.identity(name), quant=0, label=label, local=None)
        nursery.cancel_scope.cancel()


def _server(settings: Worker) -> Server:
    """Where the server is. Raises `Failed` for what is none, or too far away."""
    try:
        server = Server.of(settings.upstream)
    except ValueError as error:
        raise _unserved(settings, str(error)) from error
    if not server.is_near and not settings.upstream_remote:
        raise _unserved(
            settings,
            "it is not on this machine or in the network at home, so that strangers' prompts would "
            "go to others; worker.upstream_remote = true allows it",
        )
    return server


def _unserved(settings: Worker, why: str) -> Failed:
    return Failed(
        "failed",
        f"The server {settings.upstream} cannot be served: {why}.",
        "Set worker.upstream to http://HOST:PORT of one that speaks OpenAI's protocol.",
    )


@asynccontextmanager
async def _llama(settings: Worker, library: Library) -> AsyncIterator[tuple[Engine, Model]]:
    path = _path(settings, library)
    limiter = trio.CapacityLimiter(1)
    model = await trio.to_thread.run_sync(_describe, path, library, limiter=limiter)
    engine = HostedEngine(path)
    async with trio.open_nursery() as nursery:
        await nursery.start(engine.run)
        yield engine, model
        nursery.cancel_scope.cancel()


def _path(settings: Worker, library: Library) -> Path:
    """The file that is to be served: a path, a name, or the best that is here and fits."""
    chosen = settings.model
    if "/" in chosen or chosen.endswith(".gguf"):
        return Path(chosen).expanduser()
    if chosen != "auto":
        item = library.find(chosen)
        path = library.path(item)
        if path is None:
            message = f"The model {item.base}@{item.quant} is not on this machine."
            raise Failed("failed", message, f"Fetch it first: tussah models pull {item.base}")
        return path
    best = library.best(Sensors().snapshot(), wish_of(settings))
    if best is None or best.path is None:
        raise Failed(
            "failed",
            "No model that fits this machine is on it.",
            "`tussah models list` shows what fits, `tussah models pull NAME` fetches it; or name a "
            "GGUF file with --model.",
        )
    return best.path


def _describe(path: Path, library: Library) -> Model:
    """What a model file says of itself. Raises `Failed` if it is none."""
    with _file(path) as view:
        return _model(_header(view), library.digests.of(path), len(view), library.items)


@contextmanager
def _file(path: Path) -> Iterator[mmap.mmap]:
    """The bytes of a model file. Raises `Failed` if it cannot be read, or what reads it so."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
            yield view
    except (OSError, ValueError, BadModel) as error:
        why = error.strerror if isinstance(error, OSError) else error
        message = f"{path} cannot be served: {why}."
        raise Failed("failed", message, "Name another GGUF file with --model.") from error


def _header(view: mmap.mmap) -> gguf.Header:
    with memoryview(view) as buffer:
        return gguf.parse(buffer)


def _model(header: gguf.Header, digest: bytes, size: int, items: Sequence[Item]) -> Model:
    capability = gguf.describe(header)
    identity = gguf.identity(digest, capability.template_hash)
    file_type = header.keys.get("general.file_type", 0)
    item = next((item for item in items if item.identity == identity), None)
    base = item.base if item is not None else capability.base
    quant = item.quant if item is not None else capability.quant
    local = LocalModel(
        name=f"{base}@{quant}:{digest.hex()}",
        identity=identity,
        size_bytes=size,
        quantisation=quant,
        parameters=capability.parameters,
        context=capability.context_train,
        licence=capability.licence,
        tools=capability.tools,
        embedding=capability.embedding,
    )
    return Model(
        identity=identity,
        quant=file_type if isinstance(file_type, int) else 0,
        label=f"{base}-{quant}".encode()[:MAX_LABEL].decode("utf-8", "ignore"),
        local=local,
        need=Need.of(capability),
        context=capability.context_train,
    )
