"""Eight cells of CNN-LSTM: in time or frequency, by SGD or Adam, without or with copies.

Published are those in time, and two in frequency without their optimizer's name. Copies are this package's
own.
"""

from itertools import product

from pipelines.train import TrainConfig, with_settings

CELLS = product(("cnn_lstm_1d", "cnn_lstm_2d"), ("sgd", "adam"), (0, 4))


def runs() -> dict[str, TrainConfig]:
    return {
        f"{model}-{optimizer}-{copies}_copies": with_settings(model, optimizer=optimizer, copies=copies)
        for model, optimizer, copies in CELLS
    }
