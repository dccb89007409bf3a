"""The classifier on FINs: how it steps, what weighs on it, and how its training utterances are perturbed."""

from ser_heads.experiments import RunConfig, configure
from ser_heads.experiments.search.space import Choice, Distribution, LogUniform, Uniform


def default() -> RunConfig:
    return configure("fin")


def space() -> dict[str, Distribution]:
    return {
        "learning_rate": LogUniform(3e-4, 1e-2),
        "weight_decay": LogUniform(1e-3, 0.5),
        "batch_size": Choice(16, 32, 64),
        "label_smoothing": Uniform(0.0, 0.3),
        "class_weights": Choice(0.0, 0.5, 1.0),
        "augmentation.mixup": Choice(0.0, 0.1, 0.3, 1.0),
        "augmentation.contrast": Uniform(1.0, 2.0),
        "augmentation.masked_time": Uniform(0.0, 0.3),
    }
