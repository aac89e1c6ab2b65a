"""The machine as its sensors tell: memory, load, battery, heat, GPUs. The one door to `pynvml`.

What a machine, an operating system or an installation cannot tell is None. NVIDIA's GPUs are read
through their driver; of Apple's it is known that they share the main memory. Neither has been tried
by us on such a machine.
"""

import importlib.util
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, TypeVar, final

from inference.machine import Gpu, Machine

try:
    import psutil
except ImportError:  # a platform without a wheel and without a compiler
    psutil = None

try:
    import pynvml
except ImportError:  # comes with what a worker needs
    pynvml = None

NETWORK_EVERY: Final = 60.0
"""seconds between two questions whether the network is metered: that starts a program"""

NETWORK_PATIENCE: Final = 2.0
"""seconds for its answer"""

PLAUSIBLE: Final = (1.0, 150.0)
"""degrees Celsius: broken sensors say 0, -128 or 65,536"""

BACKENDS: Final = ("cuda", "metal", "vulkan", "hip")

T = TypeVar("T")


@final
class Sensors:
    """Takes snapshots; what is measured over time is measured from one to the next.

    A snapshot takes milliseconds and may start a program: take it in a thread, one at a time.
    """

    def __init__(self) -> None:
        self._last: tuple[float, float, float] | None = None
        self._metered: bool | None = None
        self._asked_network = float("-inf")
        self._backends = backends()

    def snapshot(self) -> Machine:
        """The machine now. The first one knows no load."""
        ours = _our_processes()
        gpus = tuple(self._gpus(ours))
        total, available = _memory()
        percent, mains = _try(_battery) or (None, None)
        local = time.localtime()
        return Machine(
            cores=os.cpu_count() or 1,
            cores_physical=None if psutil is None else _try(lambda: psutil.cpu_count(False)),
            ram_total=total,
            ram_available=available,
            gpus=gpus,
            battery=percent,
            on_mains=mains,
            hottest_c=_hottest(gpus),
            load_others=self._load_others(),
            metered=self._is_metered(),
            minute=local.tm_hour * 60 + local.tm_min,
        )

    def _load_others(self) -> float | None:
        """The part of all cores' time since the last snapshot that was not idle and not ours."""
        times = _try(_processor_times)
        if times is None:
            return None
        before, self._last = self._last, times
        if before is None:
            return None
        whole, busy, ours = (now - then for now, then in zip(times, before, strict=True))
        # A child that ended takes its time along: what is ours may seem to shrink.
        return None if whole <= 0 else min(1.0, max(0.0, (busy - max(0.0, ours)) / whole))

    def _is_metered(self) -> bool | None:
        now = time.monotonic()
        if now - self._asked_network >= NETWORK_EVERY:
            self._asked_network = now
            self._metered = _try(_metered)
        return self._metered

    def _gpus(self, ours: frozenset[int]) -> Iterator[Gpu]:
        if "cuda" in self._backends:
            yield from _try(lambda: list(_nvidia(ours))) or []
        if "metal" in self._backends:
            total, available = _memory()
            if total is not None and available is not None:
                yield Gpu(
                    name="the Apple GPU", backend="metal", vram_total=total, vram_free=available
                )


def backends() -> frozenset[str]:
    """What the installed engine computes on beside the processor, by its libraries' names."""
    spec = importlib.util.find_spec("llama_cpp")
    places = [] if spec is None else list(spec.submodule_search_locations or ())
    names = [file.name for place in places for file in Path(place, "lib").glob("*ggml-*")]
    return frozenset(each for each in BACKENDS if any(f"ggml-{each}" in name for name in names))


def _try(read: Callable[[], T]) -> T | None:
    """What a sensor says; None if it is not there, or says it cannot."""
    with suppress(OSError, RuntimeError, ValueError, NotImplementedError, AttributeError):
        return read()
    return None


def _our_processes() -> frozenset[int]:
    """This process and its children."""
    if psutil is None:
        return frozenset({os.getpid()})
    children = _try_process(lambda: psutil.Process().children(recursive=True)) or []
    return frozenset({os.getpid(), *(child.pid for child in children)})


def _try_process(read: Callable[[], T]) -> T | None:
    """As `_try`; a process may end while it is looked at."""
    with suppress(psutil.Error):
        return _try(read)
    return None


def _processor_times() -> tuple[float, float, float] | None:
    """Seconds of all cores since the start: all, those not idle, and those of our processes."""
    if psutil is None:
        return None
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0) + getattr(times, "steal", 0.0)
    whole = time.monotonic() * (os.cpu_count() or 1)
    ours = 0.0
    for pid in _our_processes():
        ours += _try_process(partial(_times_of, pid)) or 0.0
    return whole, whole - idle, ours


def _times_of(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def _memory() -> tuple[int | None, int | None]:
    """Bytes of main memory: all, and what can be had without swapping."""
    if psutil is not None:
        memory = _try(psutil.virtual_memory)
        return (None, None) if memory is None else (int(memory.total), int(memory.available))
    page = _try(lambda: os.sysconf("SC_PAGE_SIZE"))
    total = _try(lambda: os.sysconf("SC_PHYS_PAGES"))
    free = _try(lambda: os.sysconf("SC_AVPHYS_PAGES"))
    if page is None or total is None or free is None:
        return None, None
    return page * total, page * free


def _battery() -> tuple[float | None, bool | None]:
    battery = None if psutil is None else psutil.sensors_battery()
    return (None, None) if battery is None else (float(battery.percent), battery.power_plugged)


def _hottest(gpus: tuple[Gpu, ...]) -> float | None:
    read = {} if psutil is None else _try(lambda: psutil.sensors_temperatures()) or {}
    found = [float(sensor.current) for group in read.values() for sensor in group]
    found += [gpu.temperature_c for gpu in gpus if gpu.temperature_c is not None]
    low, high = PLAUSIBLE
    return max((heat for heat in found if low <= heat <= high), default=None)


def _metered() -> bool | None:
    """What NetworkManager says of the devices in use; None where it does not run."""
    program = shutil.which("nmcli")
    if program is None:
        return None
    command = [program, "-t", "-f", "GENERAL.STATE,GENERAL.METERED", "device", "show"]
    with suppress(subprocess.SubprocessError):
        said = subprocess.run(  # noqa: S603 - a program of the system, fixed words
            command, capture_output=True, text=True, timeout=NETWORK_PATIENCE, check=True
        )
        return read_metered(said.stdout)
    return None


def read_metered(said: str) -> bool | None:
    """`nmcli`'s answer: whether a connected device is metered; None if none is connected."""
    words: list[str] = []
    for device in said.split("\n\n"):
        fields = dict(line.split(":", 1) for line in device.splitlines() if ":" in line)
        if fields.get("GENERAL.STATE", "").startswith("100"):
            words.append(fields.get("GENERAL.METERED", ""))
    known = [word for word in words if not word.startswith("unknown") and word]
    return any(word.startswith("yes") for word in known) if known else None


def _nvidia(ours: frozenset[int]) -> Iterator[Gpu]:
    """NVIDIA's GPUs, as their driver tells; none without it."""
    if pynvml is None:
        return
    with suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        for index in range(pynvml.nvmlDeviceGetCount()):
            yield _nvidia_gpu(pynvml.nvmlDeviceGetHandleByIndex(index), ours)
        pynvml.nvmlShutdown()


def _nvidia_gpu(handle: object, ours: frozenset[int]) -> Gpu:
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    return Gpu(
        name=str(pynvml.nvmlDeviceGetName(handle)),
        backend="cuda",
        vram_total=int(memory.total),
        vram_free=int(memory.free),
        temperature_c=float(
            pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),
        ),
        others=_busy_with_others(handle, ours),
    )


def _busy_with_others(handle: object, ours: frozenset[int]) -> float | None:
    """The part of a GPU's time that processes that are not ours took lately."""
    try:
        samples = pynvml.nvmlDeviceGetProcessUtilization(handle, 0)
    except pynvml.NVMLError_NotFound:
        return 0.0  # nobody uses it
    except pynvml.NVMLError:
        return None
    return min(1.0, sum(int(each.smUtil) for each in samples if each.pid not in ours) / 100)
