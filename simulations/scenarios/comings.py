"""Who comes and goes in a scenario, by what its experiment says."""

from p2p.entropy import Entropy
from simulations.churn import MEASURED, MINUTE, Churn, Sessions
from simulations.experiment import Experiment, Weibull


def churn_of(exp: Experiment, entropy: Entropy) -> Churn | None:
    """The comings and goings; None if everybody stays."""
    spec = exp.churn
    if isinstance(spec.sessions, Weibull):
        sessions = Sessions(k=spec.sessions.k, scale=spec.sessions.lambda_min * MINUTE)
    elif spec.sessions == "none":
        return None
    else:
        sessions = MEASURED[spec.sessions]
    return Churn(
        entropy, sessions, online=spec.online, diurnal=spec.diurnal, graceful=spec.graceful
    )
