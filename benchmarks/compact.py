"""Windows a second of compact, pruned and published mfcc FINs, forward and in training, against peers."""

from __future__ import annotations

from collections.abc import Callable

import librosa
import numpy as np
import torch
from common import compare, machine

import fins
from fins.audio import HOP, SAMPLE_RATE, WINDOW, cut_windows
from fins.features import compute_features
from fins.features.mfcc import N_MFCC
from fins.learning.degradations import synthetic_clips
from fins.networks import Fin, FinConfig, build_fin, count_parameters

N_WINDOWS, N_SLOW, BATCH = 8_192, 256, 64


def main() -> None:
    """Print the sizes, then each ratio in turn, after checking what is computed."""
    clips = list(synthetic_clips())
    windows = np.concatenate([cut_windows(clip) for clip in clips])
    signal = torch.from_numpy(np.resize(windows, (N_WINDOWS, WINDOW)).astype(np.float32))
    compact, pruned, paper = (
        fins.load("mfcc"),
        fins.load("mfcc_pruned"),
        build_fin(FinConfig("mfcc", "paper")),
    )
    print(machine(), f"; {torch.get_num_threads()} threads", sep="")
    for name, fin in (("compact", compact), ("pruned", pruned), ("paper", paper)):
        print(f"{name}: {count_parameters(fin):,} parameters, {fin.multiply_adds():,} multiply-adds a window")

    def forward(fin: Fin, n: int) -> Callable[[], int]:
        def work() -> int:
            with torch.no_grad():
                fin(signal[:n])
            return n

        return work

    def plain_paper() -> int:
        """The published stack in PyTorch's own layers."""
        with torch.no_grad():
            hidden = torch.conv1d(signal[:N_SLOW, None], paper.front.kernels[:, None], paper.front.bias)
            paper.dense(torch.max_pool1d(torch.relu(hidden), 512, 110).flatten(1))
        return N_SLOW

    def train(fin: Fin, n: int) -> Callable[[], int]:
        optimizer = torch.optim.Adam(fin.parameters(), lr=1e-9)

        def work() -> int:
            for start in range(0, n, BATCH):
                optimizer.zero_grad()
                fin(signal[start : start + BATCH]).square().mean().backward()
                optimizer.step()
            return n

        return work

    def on_clips() -> int:
        n = 0
        for clip in 4 * clips:
            with torch.no_grad():
                n += len(compact(torch.from_numpy(clip).unfold(0, WINDOW, HOP)))
        return n

    def librosa_on_clips() -> int:
        options = {"n_mfcc": N_MFCC, "n_fft": WINDOW, "hop_length": HOP, "center": False}
        return sum(librosa.feature.mfcc(y=clip, sr=SAMPLE_RATE, **options).shape[1] for clip in 4 * clips)

    def torch_rfft() -> int:
        torch.fft.rfft(signal)
        return N_WINDOWS

    def numpy_rfft() -> int:
        np.fft.rfft(signal.numpy())
        return N_WINDOWS

    truth = compute_features(signal[:N_SLOW].numpy(), ["mfcc"])["mfcc"]
    np.testing.assert_allclose(compact(signal[:N_SLOW]).detach(), truth, atol=0.05)
    ours = forward(compact, N_WINDOWS)
    compare("forward", "windows", ours, plain_paper, "paper, PyTorch's layers")
    compare("forward", "windows", ours, forward(paper, N_SLOW), "paper, by FFT")
    compare("forward", "windows", ours, forward(pruned, N_WINDOWS), "pruned")
    compare("forward", "windows", ours, torch_rfft, "torch.fft.rfft alone", rounds=7)
    compare("forward", "windows", ours, numpy_rfft, "numpy.fft.rfft alone", rounds=7)
    compare("whole clips", "windows", on_clips, librosa_on_clips, "librosa.feature.mfcc", rounds=5)
    training = train(compact, N_WINDOWS // 2)
    compare("training step", "windows", training, train(paper, N_SLOW), "paper, by FFT")


if __name__ == "__main__":
    main()
