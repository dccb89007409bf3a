"""Angry, calm, happy and sad by an SVM on spectral features and by two CNNs, without and with copies.

Under both protocols: speakers are shared between parts (random), or none is (speaker).
"""

from itertools import product

from pipelines.train import TrainConfig, with_settings

EMOTIONS = ("angry", "calm", "happy", "sad")
CELLS = product(("random", "speaker"), ("spectral_svm", "raw_cnn", "spectrogram_cnn"), (0, 4))


def runs() -> dict[str, TrainConfig]:
    return {
        f"{model}-{copies}_copies-{protocol}": with_settings(
            model, copies=copies, protocol=protocol, emotions=EMOTIONS
        )
        for protocol, model, copies in CELLS
    }
