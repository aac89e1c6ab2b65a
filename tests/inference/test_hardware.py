"""Sensors: what they say is passed on, what they lack is None, and nothing they do raises."""

from types import SimpleNamespace

import pytest

from inference import hardware
from inference.hardware import Sensors


def test_this_machine_is_read():
    machine = Sensors().snapshot()
    assert machine.cores >= 1
    assert machine.ram_total >= machine.ram_available > 0
    assert 0 <= machine.minute < 24 * 60
    assert machine.load_others is None  # nothing to compare with yet


def test_without_psutil_the_standard_library_tells_what_it_can(monkeypatch):
    monkeypatch.setattr(hardware, "psutil", None)
    machine = Sensors().snapshot()
    assert machine.cores >= 1
    assert machine.ram_total >= machine.ram_available > 0
    assert (machine.battery, machine.on_mains, machine.hottest_c) == (None, None, None)
    assert machine.load_others is None


class Psutil:
    """A laptop whose sensors a test sets."""

    class Error(Exception): ...

    def __init__(self, sensors=None):
        self.battery = SimpleNamespace(percent=41, power_plugged=False)
        self.heat = sensors or {}
        self.idle, self.mine = 0.0, 0.0

    def cpu_count(self, logical=True):
        return 4

    def virtual_memory(self):
        return SimpleNamespace(total=8_000, available=5_000)

    def sensors_battery(self):
        return self.battery

    def sensors_temperatures(self):
        return {"chip": [SimpleNamespace(current=value) for value in self.heat]}

    def cpu_times(self):
        return SimpleNamespace(idle=self.idle, iowait=0.0)

    def Process(self, pid=None):  # noqa: N802 - psutil's name
        mine = SimpleNamespace(user=self.mine, system=0.0)
        return SimpleNamespace(children=lambda recursive: [], cpu_times=lambda: mine)


@pytest.fixture
def laptop(monkeypatch):
    psutil = Psutil()
    monkeypatch.setattr(hardware, "psutil", psutil)
    monkeypatch.setattr(hardware.os, "cpu_count", lambda: 4)
    return psutil


def test_a_laptop_says_what_it_runs_on(laptop):
    machine = Sensors().snapshot()
    assert (machine.battery, machine.on_mains) == (41.0, False)
    assert (machine.ram_total, machine.ram_available, machine.cores) == (8_000, 5_000, 4)


@pytest.mark.parametrize(
    ("said", "hottest"), [((), None), ((41.5, 72.0), 72.0), ((-128.0, 0.0, 65_536.0, 50.0), 50.0)]
)
def test_broken_sensors_are_not_believed(laptop, said, hottest):
    laptop.heat = said
    assert Sensors().snapshot().hottest_c == hottest


def test_load_is_of_others_only(laptop, monkeypatch):
    now = 100.0
    monkeypatch.setattr(hardware.time, "monotonic", lambda: now)
    sensors = Sensors()
    assert sensors.snapshot().load_others is None
    # ten seconds of four cores: half idle, one core busy for us
    now, laptop.idle, laptop.mine = 110.0, 20.0, 10.0
    assert sensors.snapshot().load_others == pytest.approx(0.25)
    # a child of ours ended and took its seconds along: nothing of it turns up as others'
    now, laptop.idle, laptop.mine = 120.0, 60.0, 3.0
    assert sensors.snapshot().load_others == 0.0


@pytest.mark.parametrize("error", [OSError, RuntimeError, NotImplementedError, AttributeError])
def test_a_sensor_that_fails_is_one_that_is_not_there(laptop, error):
    def broken():
        raise error

    laptop.sensors_battery = laptop.sensors_temperatures = laptop.virtual_memory = broken
    machine = Sensors().snapshot()
    assert (machine.battery, machine.hottest_c, machine.ram_total) == (None, None, None)


NO_NETWORK = "GENERAL.STATE:30 (disconnected)\nGENERAL.METERED:unknown\n"
PHONE = "GENERAL.STATE:100 (connected)\nGENERAL.METERED:yes (guessed)\n"
CABLE = "GENERAL.STATE:100 (connected)\nGENERAL.METERED:no (guessed)\n"


@pytest.mark.parametrize(
    ("said", "metered"),
    [
        ("", None),
        (NO_NETWORK, None),
        (f"{NO_NETWORK}\n{CABLE}", False),
        (f"{CABLE}\n{PHONE}\n{NO_NETWORK}", True),
        ("GENERAL.STATE:100 (connected)\nGENERAL.METERED:unknown\n", None),
    ],
)
def test_metered_as_networkmanager_says(said, metered):
    assert hardware.read_metered(said) is metered


def test_backends_are_told_by_the_libraries_that_came_with_the_engine(tmp_path, monkeypatch):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libggml-cuda.so").touch()
    (tmp_path / "lib" / "libggml-cpu.so").touch()
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(hardware.importlib.util, "find_spec", lambda name: spec)
    assert hardware.backends() == {"cuda"}
    monkeypatch.setattr(hardware.importlib.util, "find_spec", lambda name: None)
    assert hardware.backends() == frozenset()


def test_an_nvidia_gpu_is_read_if_the_engine_can_use_it(monkeypatch):
    class NVMLError(Exception): ...

    class NotFoundError(NVMLError): ...

    def busy(handle, since):
        return [
            SimpleNamespace(pid=1, smUtil=30),
            SimpleNamespace(pid=hardware.os.getpid(), smUtil=60),
        ]

    driver = SimpleNamespace(
        NVMLError=NVMLError,
        NVMLError_NotFound=NotFoundError,
        NVML_TEMPERATURE_GPU=0,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: 1,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName=lambda handle: "GeForce",
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(total=8_000, free=6_000),
        nvmlDeviceGetTemperature=lambda handle, kind: 61,
        nvmlDeviceGetProcessUtilization=busy,
    )
    monkeypatch.setattr(hardware, "pynvml", driver)
    assert Sensors().snapshot().gpus == ()
    monkeypatch.setattr(hardware, "backends", lambda: frozenset({"cuda"}))
    (gpu,) = Sensors().snapshot().gpus
    assert (gpu.name, gpu.vram_free, gpu.temperature_c, gpu.others) == ("GeForce", 6_000, 61.0, 0.3)

    def broken():
        raise NVMLError

    driver.nvmlInit = broken
    assert Sensors().snapshot().gpus == ()
