"""Eight cells of CNN-LSTM: in time or frequency, by SGD or Adam, without or with copies.

Published are those in time, and two in frequency without their optimizer's name. Copies are of white noise,
pitch, pace, a circular shift, and all of them.
"""

from itertools import product

from ser_heads.experiments import RunConfig, configure


def runs() -> dict[str, RunConfig]:
    cells = product(("cnn_lstm_1d", "cnn_lstm_2d"), ("sgd", "adam"), (0, 5))
    return {
        f"{model}-{optimizer}-{copies}_copies": configure(
            model, optimizer=optimizer, copies=copies, copying="apart" if copies else "voices"
        )
        for model, optimizer, copies in cells
    }
