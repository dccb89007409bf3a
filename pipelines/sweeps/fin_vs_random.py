"""What a FIN's pretraining is worth: one head on the same mel feature, that comes about in five ways.

closed_form: computed. frozen: imitated by the FIN as it is. tuned: the same FIN, frozen for three
quarters of the epochs and then learning too. random: the same layers from random weights, learning from the
start. permuted: a FIN whose bands are of shuffled bins, treated as the tuned one. Each with 5, 10, 25, 50 and
100 % of the training speakers, in more epochs where they are few. Made for RAVDESS and SAVEE, three seeds,
with ESD as what none of them knows.
"""

from pipelines.pretraining import conclude
from pipelines.train import TrainConfig, with_settings

__all__ = ["conclude", "runs"]

PERCENT = (5, 10, 25, 50, 100)
EPOCHS = 12  # with all speakers: an hour and a half for three seeds on two cores
RANDOM_RATE = 1e-3  # of random weights: validation UAR 29.5, with 1e-4 27.8 (seed 0, 20 epochs, head at 1e-3)


def runs() -> dict[str, TrainConfig]:
    made = {}
    for percent in PERCENT:
        share = percent / 100
        n = round(EPOCHS / share**0.5)
        late = round(n / 4)
        for arm, its in {
            "closed_form": {"pretraining": "closed_form", "frozen_epochs": n, "finetuned_epochs": 0},
            "frozen": {"frozen_epochs": n, "finetuned_epochs": 0},
            "tuned": {"frozen_epochs": n - late, "finetuned_epochs": late},
            "random": {
                "pretraining": "none",
                "frozen_epochs": 0,
                "finetuned_epochs": n,
                "finetuning_rate": TrainConfig.learning_rate,
                "fin_rate": RANDOM_RATE,
            },
            "permuted": {"pretraining": "permuted", "frozen_epochs": n - late, "finetuned_epochs": late},
        }.items():
            options = {"fins": ("mel",), "training_speakers": share, "patience": n, **its}
            made[f"{arm}-{percent}"] = with_settings("fin", **options)
    return made
