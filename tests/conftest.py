"""What tests share: real speech where it is, a small made corpus and its store."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from data_manifests.labels import EMOTIONS
from data_manifests.manifest import Utterance
from fins.audio import WINDOW, Signal, quantise, read_audio
from fins.data.store import Recording, write_store
from ser_heads.model import SerModel
from ser_heads.models import create


def pytest_configure(config: pytest.Config) -> None:
    """One thread, here and in the commands that tests start: sums differ by roundings with their number, and
    these grow as a network learns. Have librosa compile what it keeps: by several processes at once, kept
    code may crash ever after."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    if not hasattr(config, "workerinput"):
        import librosa

        noise = np.random.default_rng(0).standard_normal(8_192)
        librosa.yin(noise, fmin=65, fmax=400)
        librosa.zero_crossings(noise)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """A test draws the same numbers whichever tests its process ran before."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The folder of real corpora; skips where FIN_SER_CORPORA names none."""
    folder = os.environ.get("FIN_SER_CORPORA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("set FIN_SER_CORPORA to the folder of the real corpora to run this")
    return Path(folder)


def write_tree(root: Path, *paths: str) -> Path:
    """Files that differ in size, so that none is another's duplicate; none of them is audio inside."""
    for index, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x" * (index + 1))
    return root


def write_table(root: Path, *lines: str) -> Path:
    """A CSV of these lines, as spreadsheets save it."""
    (root / "table.csv").write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    return root / "table.csv"


def make_signal(seed: int, n_samples: int = 12_000) -> Signal:
    """Noise whose loudness and colour wander, between stretches of digital silence."""
    rng = np.random.default_rng(seed)
    time = np.arange(n_samples)
    envelope = np.sin(2 * np.pi * time / rng.uniform(3_000, 9_000)).clip(0) * rng.uniform(0.05, 0.4)
    tone = np.sin(2 * np.pi * time * rng.uniform(80, 2_000) / 22_050)
    noise = rng.standard_normal(n_samples)
    mixed = envelope * (tone + rng.uniform(0.05, 1) * noise) / 3
    return mixed.clip(-1, 1).astype(np.float32)


def make_recordings(n: int, corpus: str = "made", n_speakers: int = 4) -> list[Recording]:
    """Recordings of different lengths; every speaker says every emotion. No two corpora share a sound."""
    first_seed = 0 if corpus == "made" else 1000 + sum(corpus.encode())
    recordings = []
    for i in range(n):
        signal = make_signal(first_seed + i, 6 * WINDOW + 700 * (i % 5))
        utterance = Utterance(
            id=f"{corpus}-{i:03d}",
            path=f"{corpus}/{i:03d}.wav",
            corpus=corpus,
            speaker=f"s{i // len(EMOTIONS) % n_speakers}",
            emotion=EMOTIONS[i % len(EMOTIONS)],
            sentence=str(i % 3),
        )
        recordings.append(Recording(utterance, (signal * 32_767).astype(np.int16), f"sha-{corpus}-{i}"))
    return recordings


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 utterances of 4 speakers."""
    path = tmp_path_factory.mktemp("stores") / "made.h5"
    write_store(path, make_recordings(64))
    return path


@pytest.fixture(scope="session")
def other_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 utterances of another corpus."""
    path = tmp_path_factory.mktemp("stores") / "other.h5"
    write_store(path, make_recordings(16, corpus="other"))
    return path


@pytest.fixture(scope="session")
def real_store(corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 recordings of ESD and 12 of SAVEE."""
    recordings = []
    for corpus in ("ESD", "SAVEE"):
        paths = sorted(path for path in (corpora / corpus).rglob("*") if path.suffix in (".flac", ".wav"))
        for number, path in enumerate(paths[:: max(1, len(paths) // 12)][:12]):
            utterance = Utterance(f"{corpus}-{number}", path.name, corpus.lower(), "s", "neutral", "1")
            recordings.append(Recording(utterance, quantise(read_audio(path))[0], f"{corpus}-{number}"))
    out = tmp_path_factory.mktemp("real") / "real.h5"
    write_store(out, recordings)
    return out


@pytest.fixture(scope="module")
def runs_here() -> Iterator[None]:
    """The runs of a comparison or of folds in this process, which needn't start first."""
    from ser_heads.experiments import parallel as several

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(several, "make_apart", lambda job, *rest: job.make())
        yield


class HereAndNow:
    """What stands in for a pool of processes: work is done when it is asked for."""

    def __init__(self, *arguments: object, **named: object) -> None:
        self.jobs: list[object] = []

    def __enter__(self) -> HereAndNow:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing."""

    def submit(self, work, *arguments):  # type: ignore[no-untyped-def]
        job: Future = Future()
        job.set_result(work(*arguments))
        return job

    def shutdown(self, **named: object) -> None:
        """Nothing."""


@pytest.fixture
def prepares_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores are prepared in this process: others take seconds to start."""
    monkeypatch.setattr("fins.data.preparation.ProcessPoolExecutor", HereAndNow)


skip_without_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray isn't installed: it comes with the extra cluster"
)


@contextlib.contextmanager
def only_ray(factory: pytest.TempPathFactory) -> Iterator[None]:
    """Wait until no other process of this session of tests has a Ray of its own: `auto` would find it."""
    fcntl = pytest.importorskip("fcntl")
    with (factory.getbasetemp().parent / "ray.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture
def ray_alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with only_ray(tmp_path_factory):
        yield


def needs_ray(test: Callable[..., None]) -> Callable[..., None]:
    return skip_without_ray(pytest.mark.usefixtures("ray_alone")(test))


def draw_nothing(patched: pytest.MonkeyPatch) -> None:
    """Runs have no pictures of their own then, which take longer than such training."""
    patched.setattr("ser_heads.experiments.run.draw_scores", lambda out, scores, title: [])
    patched.setattr("ser_heads.experiments.learning.plot_learning_curves", lambda *arguments: None)


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    draw_nothing(monkeypatch)


@pytest.fixture(scope="module")
def no_pictures_at_all() -> Iterator[None]:
    """In a whole module, its shared runs among them."""
    with pytest.MonkeyPatch.context() as patched:
        draw_nothing(patched)
        yield


def lively_classifier(labels: Sequence[str]) -> SerModel:
    """A small one with random weights, whose answers differ by recording."""
    torch.manual_seed(0)
    model = create("fin", labels, fins=("rms", "zcr")).eval()
    last = [layer for layer in model.head.modules() if isinstance(layer, nn.Linear)][-1]
    with torch.no_grad():
        logits = model(torch.from_numpy(np.stack([make_signal(seed) for seed in range(16)])))
        spread = logits.std(dim=0).mean()
        last.weight.div_(spread)
        last.bias.sub_(logits.mean(dim=0)).div_(spread)
    return model


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium without a screen, as Playwright drives it; skips where either isn't installed."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright isn't installed")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("Chromium isn't installed")
    flags = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=program, args=flags)
        yield chromium
        chromium.close()
