"""The classifiers on one core: seconds of computing per second of speech, and steps of training.

Weights of heads and wavelet branches are random: they don't change how much is computed.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable

import librosa
import numpy as np
import torch
from common import compare, machine
from torch import Tensor, nn

from data_manifests.labels import EMOTIONS
from fins.audio import HOP, SAMPLE_RATE, WINDOW, cut_windows
from fins.features import compute_features
from fins.learning.degradations import synthetic_clips
from ser_heads.frontends import FrameBatch
from ser_heads.layers.masked import mask_until
from ser_heads.layers.temporal_head import TemporalHead
from ser_heads.models import create
from ser_heads.training.datasets import pad
from ser_heads.training.schedule import multiplies_bfloat16
from ser_heads.training.trainer import LARGEST_GRADIENT

BATCH, SECONDS, STEPS, N_FRAMES = 32, 2.5, 5, 120


def main() -> None:
    """Print each model's real-time factor beside librosa's closed forms, then the parts of a step."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    clips = synthetic_clips()
    seconds = sum(map(len, clips)) / SAMPLE_RATE
    print(machine(), f"; 1 thread; {len(clips)} clips of {seconds / len(clips):.1f} s", sep="")
    mel = compute_features(cut_windows(clips[0]), ["mel"])["mel"]
    np.testing.assert_allclose(closed_forms(clips[0])[-mel.shape[1] :], mel.T, rtol=1e-2, atol=1e-4)

    def over_clips(work: Callable[[np.ndarray], object], spent: list[float]) -> Callable[[], int]:
        """Work on clip after clip, and note the real-time factor; units are seconds of speech."""

        def noted() -> int:
            start = time.perf_counter()
            with torch.no_grad():
                for clip in clips:
                    work(clip)
            spent.append((time.perf_counter() - start) / seconds)
            return round(seconds)

        return noted

    for name in ("fin", "fin_wavelet"):
        model = create(name, EMOTIONS).eval()
        ours, peers = [], []
        work = over_clips(lambda clip, model=model: model(*batch_of([clip])), ours)
        librosas = "librosa's 162 closed forms"
        compare(name, "seconds of speech", work, over_clips(closed_forms, peers), librosas, rounds=5)
        factors = [statistics.median(factors[1:]) for factors in (ours, peers)]
        print(f"{name}: real-time factor {factors[0]:.4f}; {librosas}: {factors[1]:.4f}", flush=True)
        if name == "fin":
            large = over_clips(transformer_of_95_million(), [])
            compare(name, "seconds of speech", work, large, "a network of wav2vec2-base's size", rounds=3)
    by_part()
    masks_and_norms()
    mixed_precision()


def transformer_of_95_million() -> Callable[[np.ndarray], Tensor]:
    """A network with the layers and sizes of wav2vec2-base (Baevski and others 2020), of random weights:
    seven convolutions over 16,000 samples a second, twelve Transformer layers over 50 vectors a second."""
    sizes = [(10, 5), *[(3, 2)] * 4, *[(2, 2)] * 2]  # kernel, stride
    channels = [1, *[512] * len(sizes)]
    layers: list[nn.Module] = []
    for place, (kernel, stride) in enumerate(sizes):
        layers += [nn.Conv1d(channels[place], 512, kernel, stride, bias=False), nn.GELU()]
    convolutions, project = nn.Sequential(*layers), nn.Linear(512, 768)
    position = nn.Conv1d(768, 768, 128, padding=64, groups=16)
    layer = nn.TransformerEncoderLayer(768, 12, 3072, activation="gelu", batch_first=True)
    encoder = nn.TransformerEncoder(layer, 12).eval()

    def answer(clip: np.ndarray) -> Tensor:
        frames = project(convolutions(resample(clip)[None, None]).mT)
        return encoder(frames + position(frames.mT)[..., : frames.shape[1]].mT).mean(dim=1)

    def resample(clip: np.ndarray) -> Tensor:
        return torch.from_numpy(np.resize(clip, round(len(clip) * 16_000 / SAMPLE_RATE)))

    parameters = sum(
        part.numel() for module in (convolutions, project, position, encoder) for part in module.parameters()
    )
    assert 93e6 < parameters < 97e6, parameters
    return answer


def closed_forms(clip: np.ndarray) -> np.ndarray:
    """(162, n_windows) by librosa, of a whole clip at once."""
    grid = {"hop_length": HOP, "center": False}
    spectrum = {"y": clip, "sr": SAMPLE_RATE, "n_fft": WINDOW, **grid}
    zcr = librosa.feature.zero_crossing_rate(clip, frame_length=WINDOW, **grid)
    rms = librosa.feature.rms(y=clip, frame_length=WINDOW, **grid)
    chroma = librosa.feature.chroma_stft(tuning=0.0, **spectrum)
    mfcc = librosa.feature.mfcc(n_mfcc=20, **spectrum)
    return np.concatenate([zcr, rms, chroma, mfcc, librosa.feature.melspectrogram(**spectrum)])


def batch_of(signals: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Waveforms side by side, and their lengths."""
    return pad(signals), torch.tensor([len(signal) for signal in signals])


def by_part() -> None:
    """Print what the parts of a finetuning step of fin_wavelet take, medians of some steps."""
    model = create("fin_wavelet", EMOTIONS).train()
    targets = torch.arange(BATCH) % len(EMOTIONS)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-9)
    speech = np.resize(np.concatenate(synthetic_clips()), (BATCH, round(SECONDS * SAMPLE_RATE)))
    batch = batch_of(list(speech))
    spent: dict[str, list[float]] = {}
    fins, wavelets = model.frontend.parts
    watched = {"FINs, forward": fins, "wavelets, forward": wavelets, "forward": model}
    for part, module in watched.items():
        module.register_forward_pre_hook(lambda *_, part=part: begin(part))
        module.register_forward_hook(lambda *_, part=part: end(part))

    def begin(part: str) -> None:
        spent.setdefault(part, []).append(-time.perf_counter())

    def end(part: str) -> None:
        spent[part][-1] += time.perf_counter()

    for _ in range(1 + STEPS):
        optimizer.zero_grad(set_to_none=True)
        logits = model(*batch)
        begin("backward")
        nn.functional.cross_entropy(logits, targets).backward()
        end("backward")
        begin("optimiser")
        nn.utils.clip_grad_norm_(model.parameters(), LARGEST_GRADIENT)
        optimizer.step()
        end("optimiser")
    # the first step warms up
    parts = {part: 1e3 * statistics.median(times[1:]) for part, times in spent.items()}
    parts["head, forward"] = parts.pop("forward") - sum(map(parts.get, list(watched)[:2]))
    print(f"finetuning step of fin_wavelet, {BATCH} utterances of {SECONDS} s: {sum(parts.values()):,.0f} ms")
    for part, milliseconds in parts.items():
        print(f"  {part}: {milliseconds:,.0f} ms, {100 * milliseconds / sum(parts.values()):.0f} %")


def masks_and_norms() -> None:
    """Time steps of fin's head on recordings of mixed lengths, beside its layers without masks."""
    head = create("fin", EMOTIONS).head.eval()
    plain = UnmaskedHead(head).eval()
    lengths = torch.randint(N_FRAMES // 2, N_FRAMES + 1, (BATCH,))
    n_features = head.plain[-1] + 1
    values = torch.randn(BATCH, N_FRAMES, n_features)
    with torch.no_grad():
        answers = head(FrameBatch(values, torch.full_like(lengths, N_FRAMES)))
        torch.testing.assert_close(plain(values), answers, rtol=1e-4, atol=1e-5)
    frames = FrameBatch(values * mask_until(lengths, N_FRAMES)[..., None], lengths)
    targets = torch.arange(BATCH) % len(EMOTIONS)
    head.train()
    plain.train()

    def step(network: nn.Module, inputs: FrameBatch | Tensor) -> int:
        network.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(network(inputs), targets).backward()
        return BATCH

    peer = "PyTorch's norms, no masks"
    work = (lambda: step(head, frames)), (lambda: step(plain, values))
    compare("step of fin's head, mixed lengths", "utterances", *work, peer, 20)


class UnmaskedHead(nn.Module):
    """The layers of a TemporalHead, as PyTorch has them, for recordings of one length.

    (batch, time, column) → (batch, n_classes), with the weights of the head.
    """

    def __init__(self, head: TemporalHead) -> None:
        super().__init__()
        (self.bands,), self.columns = head.spectra, head.plain
        stem = head.stems[0]
        layers: list[nn.Module] = []
        for convolution, norm in zip(stem.convolutions, stem.norms, strict=True):
            layers += [copy.deepcopy(convolution), self.norm(nn.BatchNorm2d, norm), nn.ReLU()]
        self.stem = nn.Sequential(*layers, copy.deepcopy(stem.dropout), nn.Flatten(1, 2))
        self.blocks = nn.ModuleList(
            nn.Sequential(
                copy.deepcopy(block.convolution),
                self.norm(nn.BatchNorm1d, block.norm),
                nn.ReLU(),
                copy.deepcopy(block.dropout),
            )
            for block in head.blocks
        )
        norm = self.norm(nn.BatchNorm1d, head.together_norm)
        self.together = nn.Sequential(copy.deepcopy(head.together), norm, nn.ReLU())
        self.score, self.logits = copy.deepcopy(head.pool.score), copy.deepcopy(head.logits)

    @staticmethod
    def norm(kind: type[nn.Module], masked: nn.Module) -> nn.Module:
        norm = kind(len(masked.weight))
        norm.load_state_dict(masked.state_dict(), strict=False)
        return norm

    def forward(self, values: Tensor) -> Tensor:
        spectrum = values[..., self.bands].mT[:, None]
        hidden = torch.cat([self.stem(spectrum), values[:, ::2, self.columns].mT], dim=1)
        layers: list[Tensor] = []
        for block in self.blocks:
            after = block(hidden)
            hidden = after + hidden if layers else after
            layers.append(hidden)
        together = self.together(torch.cat(layers, dim=1))
        weights = self.score(together).softmax(dim=2)
        mean = (weights * together).sum(dim=2, keepdim=True)
        variance = (weights * (together - mean).square()).sum(dim=2)
        return self.logits(torch.cat([mean[:, :, 0], variance.clamp_min(1e-6).sqrt()], dim=1))


def mixed_precision() -> None:
    """Time steps of fin on frozen FINs' outputs in mixed precision and in float32, in turn."""
    if not multiplies_bfloat16(torch.device("cpu")):
        print("mixed precision: not used, this CPU has no instructions for bfloat16")
        return
    model = create("fin", EMOTIONS)
    speech = np.resize(np.concatenate(synthetic_clips()), (BATCH, round(SECONDS * SAMPLE_RATE)))
    with torch.no_grad():
        frames = model.frontend(*model.trim(*batch_of(list(speech))))
    targets = torch.arange(BATCH) % len(EMOTIONS)
    model.train()

    def step(mixed: bool) -> int:
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            logits = model.head(model.norm(frames))
        nn.functional.cross_entropy(logits.float(), targets).backward()
        return BATCH

    compare(
        "step of fin, mixed precision", "utterances", lambda: step(True), lambda: step(False), "float32", 10
    )


if __name__ == "__main__":
    main()
