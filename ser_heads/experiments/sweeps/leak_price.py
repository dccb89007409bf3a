"""The price of a leak: one model on test parts that share its speakers, none, no sentence, not even a corpus.

Made for RAVDESS and SAVEE; under the protocol corpus it learns from RAVDESS and is tested on SAVEE.
"""

from ser_heads.experiments import RunConfig, configure

EPOCHS = {"frozen_epochs": 20, "finetuned_epochs": 0}


def runs() -> dict[str, RunConfig]:
    inside = {
        protocol: configure("fin", protocol=protocol, **EPOCHS)
        for protocol in ("random", "speaker", "speaker_sentence")
    }
    return inside | {"corpus": configure("fin", protocol="corpus", test_corpus=("savee",), **EPOCHS)}
