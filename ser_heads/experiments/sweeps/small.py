"""Every model once, each with its own settings, on speakers that it never met; two hours in all."""

from ser_heads.experiments import RunConfig, configure
from ser_heads.models import MODELS

MINUTES = 115


def runs() -> dict[str, RunConfig]:
    return {model: configure(model) for model in MODELS}
