"""What is known of the machine at a moment. What has no sensor is None, and no rule hears of it."""

from dataclasses import dataclass
from typing import Final

MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One graphics processor."""

    name: str
    backend: str
    """what computes on it: cuda, metal, vulkan"""
    vram_total: int
    vram_free: int
    """bytes"""
    temperature_c: float | None = None
    others: float | None = None
    """part of its time that other processes use, 0 to 1"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A snapshot."""

    cores: int
    """that the operating system schedules on"""
    cores_physical: int | None = None
    ram_total: int | None = None
    ram_available: int | None = None
    """bytes"""
    gpus: tuple[Gpu, ...] = ()
    """those that the engine of this installation can use"""
    battery: float | None = None
    """percent"""
    on_mains: bool | None = None
    hottest_c: float | None = None
    """of all sensors, GPUs among them"""
    load_others: float | None = None
    """part of all cores' time that other processes used since the last snapshot, 0 to 1"""
    metered: bool | None = None
    """whether the network's traffic is paid for"""
    minute: int | None = None
    """of the day, by this machine's clock on the wall"""

    @property
    def gpu(self) -> Gpu | None:
        """The one with the most free memory."""
        return max(self.gpus, key=lambda gpu: gpu.vram_free, default=None)

    @property
    def gpu_others(self) -> float | None:
        """How busy other processes keep the busiest."""
        return max((gpu.others for gpu in self.gpus if gpu.others is not None), default=None)
