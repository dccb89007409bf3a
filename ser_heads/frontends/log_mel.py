"""A log-mel spectrogram of 3.7 s, as the CNN-Transformer takes it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from fins.audio import HOP, SAMPLE_RATE, WINDOW
from ser_heads.frontends import FrameBatch, FrontEnd
from ser_heads.layers.placed import Placed

PRE_EMPHASIS = 0.97
N_MELS = 128
N_FRAMES = 160
N_SAMPLES = (N_FRAMES - 1) * HOP  # 3.7 s: frames are centred on every 512th sample
FAINTEST = 1e-10  # power; what is fainter isn't told apart
RANGE = 80.0  # dB under a recording's loudest band and frame


class LogMel(FrontEnd):
    """Each recording in 3.7 s, at random in training and else in their middle → (batch, 160, 128) dB under
    its loudest band and frame, from -80 to 0; silence is 0 dB. All 160 frames count as its own.

    Equal to librosa's `power_to_db(melspectrogram(y=y, sr=22050, window="hamming"), ref=np.max)` of each
    signal after pre-emphasis, whose first sample is kept.
    """

    n_columns = N_MELS
    mel_window: Tensor
    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        import librosa

        filters = torch.from_numpy(librosa.filters.mel(sr=SAMPLE_RATE, n_fft=WINDOW, n_mels=N_MELS))
        self.placed = Placed(N_SAMPLES)
        self.register_buffer("mel_window", torch.hamming_window(WINDOW), persistent=False)
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, waveform: Tensor, lengths: Tensor) -> FrameBatch:
        signal = self.placed(waveform, lengths)
        with torch.autocast(signal.device.type, enabled=False):  # half of the digits would drown quiet bands
            sharp = signal - PRE_EMPHASIS * functional.pad(signal, (1, -1))
            spectrum = torch.stft(
                sharp, WINDOW, HOP, window=self.mel_window, pad_mode="constant", return_complex=True
            )
            power = spectrum.real.square() + spectrum.imag.square()
            decibels = 10 * torch.log10((self.filters @ power).clamp_min(FAINTEST))
            loudest = decibels.amax(dim=(1, 2), keepdim=True)
            frames = (decibels - loudest).clamp_min(-RANGE).transpose(1, 2)
        return FrameBatch(frames, torch.full_like(lengths, N_FRAMES))
