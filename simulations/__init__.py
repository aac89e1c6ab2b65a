"""Experiments on the protocol's own cores in virtual time; the API of researchers.

    import simulations as sim

    exp = sim.load("churn-1000").with_(nodes=200, **{"protocol.dht.k": 8})
    run = exp.run(seed=7, until=60.0, progress=print)
    res = exp.sweep(seeds=range(30), grid={"network.loss": [0.0, 0.05]}, workers=2, out="runs")
    trial = exp.world(seed=7)
    trial.run(until=5.0)

Nothing is imported until it is asked for: every module of the tree that needs one of this package
would wait for all of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulations.api import Study, load, ready

__all__ = ["Study", "load", "ready"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("simulations.api"), name)
