"""The price of a leak: one model on test parts that share its speakers, none, no sentence, not even a corpus.

Made for RAVDESS and SAVEE; under the protocol corpus it learns from RAVDESS and is tested on SAVEE.
"""

from pipelines.train import TrainConfig, with_settings

EPOCHS = {"frozen_epochs": 20, "finetuned_epochs": 0}


def runs() -> dict[str, TrainConfig]:
    inside = {
        protocol: with_settings("fin", protocol=protocol, **EPOCHS)
        for protocol in ("random", "speaker", "speaker_sentence")
    }
    return inside | {"corpus": with_settings("fin", protocol="corpus", test_corpus=("savee",), **EPOCHS)}
