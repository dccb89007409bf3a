"""The wavelet publication's own search: hidden size, layers, levels, thresholds, kernels and their sharing,
rate, weight decay, batch.

It was made by ASHA with a grace period of 1 and a reduction factor of 2 (--grace 1 --reduction 2). Kernels of
PerFilter are --sharing node --no-conjugate; a trial of two kernels for the whole tree or for each level
is ours. Levels above 6 with a network for each band ask for a machine with much memory: a trial that has too
little fails, and the others go on.
"""

from ser_heads.experiments import RunConfig, configure
from ser_heads.experiments.search.space import Choice, Distribution, LogUniform, Uniform


def default() -> RunConfig:
    return configure("wavelet_packet_net")


def space() -> dict[str, Distribution]:
    return {
        "n_hidden": Choice(32, 64, 128),
        "n_layers": Choice(3, 6, 9),
        "depth": Choice(4, 5, 6, 7, 8, 9, 10),
        "threshold": Uniform(0.5, 1.0),
        "steepness": Uniform(10.0, 15.0),
        "learn_thresholds": Choice(True, False),
        "sharing": Choice("tree", "level", "node"),
        "conjugate": Choice(True, False),
        "learn_kernels": Choice(True, False),
        "learning_rate": LogUniform(1e-4, 1e-1),
        "weight_decay": LogUniform(1e-6, 1e-2),
        "batch_size": Choice(2, 4, 8, 16, 32),
    }
