"""Angry, calm, happy and sad by an SVM on spectral features and by two CNNs, plain and augmented.

Augmented is: copies of training utterances in other voices, paces, levels and noise, and for the CNNs
stretches, masks and mixtures too. Under both protocols: speakers are shared between parts (random), or none
is (speaker).
"""

from itertools import product
from typing import Any

from pipelines.train import TrainConfig, with_settings
from ser_heads.augmentation import Augmentation

EMOTIONS = ("angry", "calm", "happy", "sad")
HEARD: dict[str, dict[str, Any]] = {
    "plain": {"copies": 0, "augmentation": Augmentation(stretch=1.0, n_masks=0, mixup=0.0)},
    "augmented": {"copies": 4},
}


def runs() -> dict[str, TrainConfig]:
    cells = product(("random", "speaker"), ("spectral_svm", "raw_cnn", "spectrogram_cnn"), HEARD)
    return {
        f"{model}-{heard}-{protocol}": with_settings(
            model, protocol=protocol, emotions=EMOTIONS, **HEARD[heard]
        )
        for protocol, model, heard in cells
    }
