"""Every model once, each with its own settings, on speakers that it never met; two hours in all."""

from typing import get_args

from pipelines.train import TrainConfig, with_settings
from ser_heads.models import ModelName

MINUTES = 115


def runs() -> dict[str, TrainConfig]:
    return {model: with_settings(model) for model in get_args(ModelName)}
