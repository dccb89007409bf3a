"""The wavelet publication's own search: levels, kernel sharing, rate, weight decay, batch.

It was made by ASHA with a grace period of 1 and a reduction factor of 2 (--grace 1 --reduction 2). Three
published dimensions are fixed here, where the model has no options of them: 32 hidden units and 3 layers (of
32, 64 or 128, and 3, 6 or 9), the least, because two cores have to train it; and the threshold, which starts
where the publication lets it start and is learned. Levels above 8 ask for a machine with much memory: a trial
that has too little fails, and the others go on.
"""

from ser_heads.experiments import RunConfig, configure
from ser_heads.experiments.search.space import Choice, Distribution, LogUniform


def default() -> RunConfig:
    return configure("wavelet_packet_net")


def space() -> dict[str, Distribution]:
    return {
        "depth": Choice(4, 5, 6, 7, 8, 9, 10),
        "sharing": Choice("tree", "level", "node"),
        "learning_rate": LogUniform(1e-4, 1e-1),
        "weight_decay": LogUniform(1e-6, 1e-2),
        "batch_size": Choice(2, 4, 8, 16, 32),
    }
