"""All five features of speech-like windows: our batches against librosa called window by window."""

from __future__ import annotations

import numpy as np
from common import compare, machine

from fins.audio import cut_windows
from fins.data.synthetic.synthesiser import synthesise
from fins.features import FEATURES, STORED, compute_features

N_OURS, N_PEER = 16_384, 200


def main() -> None:
    """Print the ratio."""
    clips = [synthesise(speaker, "happy", sentence, 1) for speaker in (1, 2, 3, 4) for sentence in (1, 2, 3)]
    windows = np.concatenate([cut_windows(clip) for clip in clips])
    many = np.resize(windows, (N_OURS, windows.shape[1]))
    few = windows[:: max(1, len(windows) // N_PEER)][:N_PEER]

    def ours() -> int:
        compute_features(many)
        return len(many)

    def peer() -> int:
        for window in few:
            for name in STORED:
                FEATURES[name].oracle(window)
        return len(few)

    print(machine())
    compare("labels, in batches on one core", "windows", ours, peer, "librosa, window by window")


if __name__ == "__main__":
    main()
