"""Angry, calm, happy and sad by an SVM on spectral features and by two CNNs, plain and augmented.

Augmented is: copies of training utterances in other voices, paces, levels and noise, and for the CNNs
stretches, masks and mixtures too, those of their own recipes. Under both protocols: speakers are shared
between parts (random), or none is (speaker).
"""

from dataclasses import replace
from itertools import product
from typing import Any

from ser_heads.experiments import RunConfig, configure
from ser_heads.models import MODELS

FOUR = ("angry", "calm", "happy", "sad")
SYSTEMS = ("spectral_svm", "raw_cnn", "spectrogram_cnn")
N_COPIES = {"plain": 0, "augmented": 4}


def runs() -> dict[str, RunConfig]:
    cells = product(("random", "speaker"), SYSTEMS, N_COPIES)
    return {
        f"{model}-{style}-{protocol}": configure(
            model, protocol=protocol, emotions=FOUR, copies=N_COPIES[style], **augmentation_of(model, style)
        )
        for protocol, model, style in cells
    }


def augmentation_of(model: str, style: str) -> dict[str, Any]:
    """Of a CNN's frames; the SVM's aren't perturbed in any case."""
    if style == "augmented" or model == "spectral_svm":
        return {}
    own = MODELS[model].recipe.augmentation
    return {"augmentation": replace(own, stretch=1.0, n_masks=0, mixup=0.0)}
