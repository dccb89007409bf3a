"""Learn a closed form from noise or fit a FIN to windows; score it; write a folder."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fins.audio import cut_windows
from fins.data.protocols import Division
from fins.data.splits import PARTS
from fins.features import compute_feature, fingerprint, get_feature
from fins.learning.budget import Budget
from fins.learning.degradations import SYNTHETIC, evaluate, score_clips, synthetic_clips
from fins.learning.run_page import describe_run, draw_run
from fins.learning.scoring import every_nth, imitate, measure_scoring, r2_row, score_parts, score_tests
from fins.learning.stages import StageHistory, StageResult, StageStep, learn_and_prune
from fins.learning.trainer import (
    FinEpoch,
    WindowRecipe,
    WindowTrainer,
    WindowTrainingState,
    validation_share,
)
from fins.learning.windows import UtteranceRef, WindowStream, check_apart
from fins.networks import CompactFin, Fin, FinConfig, Topology, build_fin, count_parameters, save_fin
from fins.progress import SILENT, Watch
from fins.runs import (
    CHECKPOINT,
    HISTORY,
    RESULT,
    find_run,
    finish_run,
    locked,
    read_json,
    start_run,
    write_atomically,
    write_history,
)
from fins.tensors import WEIGHTS

DRAWING = 5.0  # seconds that the pictures and files of a run take
SCORED_TRAINING = 5  # every so many training utterances are scored: as much as another part holds
LEARNING_RATE, FINETUNING_RATE = 1e-3, 1e-5


@dataclass(frozen=True)
class FinRunConfig:
    """Train a FIN and score it: R² on held-out utterances and on other corpora.

    The compact ones of the features learn the closed form itself, from noise; --store finetunes them on
    windows. The published ones, and a small stack for a feature of your own, learn from the windows of
    --store alone.
    """

    feature: str = "mfcc"
    """What the FIN imitates: zcr, rms, chroma, mfcc, mel, pitch, or your own closed form as
    package.module:function, which takes (n, 2048) float32 windows and gives (n, n_outputs)."""
    topology: Topology = "compact"
    """Its shape: compact, compact less the weights that ended at zero (pruned), or as published (paper)."""
    store: tuple[Path, ...] = ()
    """Stores made by pipelines.prepare, to train, validate and test on."""
    test_store: tuple[Path, ...] = ()
    """Stores of other corpora, only to test on."""
    protocol: str = "random"
    """How utterances are divided 70/15/15: random (by corpus and emotion), speaker (none shared),
    speaker_sentence (no sentence either), or a function of your own as module:function."""
    seed: int = 0
    """Of the weights, the noise and the order of windows."""
    split_seed: int | None = None
    """Of the split; by default the seed."""
    epochs: int = 100
    """On windows, at most; training ends earlier when validation makes no progress."""
    batch_size: int = 64
    """Windows."""
    learning_rate: float | None = None
    """Of Adam on windows at the start, by default 1e-3, and 1e-5 to finetune; times 0.4 after 2 epochs
    without progress."""
    epoch_windows: int | None = None
    """Windows of an epoch, which ends with a validation; by default all training windows."""
    minutes: float | None = None
    """Budget: training ends in time for the result to be there when it is spent."""
    out: Path | None = None
    """Folder of the run; by default runs/<feature>-<topology>-seed<seed>."""

    def __post_init__(self) -> None:
        if not self.store and ":" in self.feature:
            raise ValueError(
                f"{self.feature} is learned from windows: give --store, made by pipelines.prepare"
            )
        if not self.store and self.topology == "paper":
            raise ValueError(
                "the topology paper is trained on speech: give --store, made by pipelines.prepare"
            )
        if self.protocol == "corpus":
            raise ValueError("a FIN is tested on other corpora by --test-store: choose another --protocol")
        _ = self.division
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError("--epochs and --batch-size are at least 1")
        if not 0 <= self.seed < 2**32:
            raise ValueError("--seed is at least 0 and below 2 ** 32")
        if self.epoch_windows is not None and self.epoch_windows < 1:
            raise ValueError("--epoch-windows is at least 1")
        for option in ("learning_rate", "minutes"):
            value = getattr(self, option)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ValueError(f"--{option.replace('_', '-')} is a number above 0")
        Budget(self.minutes).check()

    @property
    def division(self) -> Division:
        """ValueError for a protocol or a seed that can't be meant."""
        return Division(protocol=self.protocol, split_seed=self.split_seed)

    @property
    def folder(self) -> Path:
        name = self.feature.replace(":", ".")
        return self.out or Path("runs") / f"{name}-{self.topology}-seed{self.seed}"


@dataclass(frozen=True)
class FinRunResult:
    """What result.json of a run holds.

    seconds : of training; stages : what was learned from noise, in order; stopped : what ended the epochs
    r2 : a row for each store, corpus and part that was scored
    """

    feature: str
    topology: str
    parameters: int
    multiply_adds_per_window: int
    seconds: float
    seed: int
    split_seed: int
    protocol: str
    stages: list[dict[str, Any]]
    stopped: str
    epochs: int
    windows_seen: int
    n_utterances: dict[str, int]
    r2: list[dict[str, Any]]

    @classmethod
    def read(cls, folder: Path) -> FinRunResult:
        """Of a finished run; ValueError if there is none."""
        content = read_json(folder / RESULT)
        content.setdefault("split_seed", content.get("seed"))  # version 0.1 had one seed for both
        missing = [field.name for field in fields(cls) if field.name not in content]
        if missing:
            raise ValueError(f"{folder / RESULT} is no result of fins.train: it has no {missing[0]}")
        return cls(**{field.name: content[field.name] for field in fields(cls)})


def train_fin(config: FinRunConfig, watch: Watch = SILENT, device: str = "cpu") -> FinRunResult:
    """Train, score, write a folder; a run that is finished is read, one that was killed goes on.

    Raises ValueError or OSError in one sentence for stores that can't be used, another run in the folder, a
    budget that can't be kept, and training that diverges.
    """
    started = time.monotonic()
    with contextlib.ExitStack() as stores:
        stream = WindowStream(config.store, config.feature)
        stores.callback(stream.close)
        tests = WindowStream(config.test_store, config.feature)
        stores.callback(tests.close)
        check_apart(stream, tests)
        stores.enter_context(locked(config.folder))
        identity = {
            **asdict(config),
            "out": None,
            "store": [str(path) for path in config.store],
            "test_store": [str(path) for path in config.test_store],
            "closed_form": fingerprint(get_feature(config.feature)),
            "stores_hold": stream.describe_stores() + tests.describe_stores(),
        }
        if find_run(config.folder, identity, free=("minutes", "epochs")) == "finished":
            watch.note(f"{config.folder} holds the result of this very run already")
            return FinRunResult.read(config.folder)
        return _FinRun(config, stream, tests, torch.device(device), watch, started).make(identity)


def seconds_of_clips(fin: Fin, feature: str) -> float:
    """What scoring the synthetic corpus takes, by an eighth of it."""
    clips = synthetic_clips()
    score_clips(fin, get_feature(feature), clips[:1])  # warms up
    started = time.monotonic()
    score_clips(fin, get_feature(feature), clips[::8])
    return 8 * (time.monotonic() - started)


class _FinRun:
    """One run in its folder, from its start or from where it was killed."""

    def __init__(
        self,
        config: FinRunConfig,
        stream: WindowStream,
        tests: WindowStream,
        device: torch.device,
        watch: Watch,
        started: float,
    ) -> None:
        self.config, self.stream, self.tests, self.device, self.watch = config, stream, tests, device, watch
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.fin: Fin = build_fin(FinConfig(config.feature, config.topology))
        self.parts: Mapping[str, list[UtteranceRef]] = {part: [] for part in PARTS}
        if config.store:
            self.parts = stream.split(config.division, config.seed)
        n_training, n_utterances = stream.count_windows(self.parts["train"]), len(self.parts["train"])
        self.n_training = n_training
        wanted = round(n_training / config.epoch_windows) if config.epoch_windows else 1
        self.n_shares = min(max(1, wanted), max(1, n_utterances))
        self.scored = {**self.parts, "train": every_nth(self.parts["train"], SCORED_TRAINING)}
        self.budget = self.make_budget(started)
        self.stages: list[StageResult] = []
        self.steps: list[StageStep] = []
        self.state = WindowTrainingState()

    def make_budget(self, started: float) -> Budget:
        """A budget that knows what scoring takes; ValueError if it is too short for that."""
        n_windows = sum(map(self.stream.count_windows, self.scored.values()))
        n_windows += self.stream.count_windows(validation_share(self.scored["validation"], self.n_shares))
        everything = [self.tests.all_utterances(number) for number in range(len(self.tests.stores))]
        n_windows += sum(map(self.tests.count_windows, everything))
        budget = Budget(self.config.minutes, started, n_windows, DRAWING)
        if self.config.minutes is not None and n_windows:
            fin = self.fin.to(self.device)
            if self.config.store:
                pace = measure_scoring(fin, self.stream, self.scored["validation"], self.device)
            else:
                pace = measure_scoring(fin, self.tests, everything[0], self.device)
            budget.scored(*pace)
        if self.config.minutes is not None and isinstance(self.fin, CompactFin):
            budget.closing += seconds_of_clips(self.fin.to("cpu"), self.config.feature)
        budget.check()
        return budget

    def make(self, identity: Mapping[str, Any]) -> FinRunResult:
        """Learn, fit, score, draw, write."""
        config, out = self.config, self.config.folder
        start_run(out, identity)
        if isinstance(self.fin, CompactFin):
            self.learn_from_noise(self.fin)
        if config.store:
            self.fit_to_windows()
        save_fin(out / WEIGHTS, self.fin)
        if config.store:
            write_history(out / HISTORY, self.state.history, FinEpoch)
        else:
            write_history(out / HISTORY, self.steps, StageStep)
        result = self.result(self.score())
        draw_run(out, self.fin, self.shown_windows(), result, self.state.history, self.steps)
        write_atomically(out / "README.md", describe_run(result, config))
        finish_run(out, asdict(result))  # last: its presence says that the run is whole
        return result

    def learn_from_noise(self, fin: CompactFin) -> None:
        left = (0.5 if self.config.store else 1.0) * self.budget.left()
        with StageHistory(self.watch) as history:
            seconds = None if math.isinf(left) else left
            self.stages = learn_and_prune(fin, self.config.seed, history, seconds)
        self.steps = history.steps

    def fit_to_windows(self) -> None:
        config, published = self.config, self.stream.feature.published
        n_utterances = len(self.parts["train"])
        self.watch.note(
            f"{self.n_training:,} training windows of {n_utterances:,} utterances, on {self.device}"
        )
        recipe = WindowRecipe(
            loss=published.loss if published is not None and config.topology == "paper" else "mse",
            batch_size=config.batch_size,
            learning_rate=config.learning_rate or (FINETUNING_RATE if self.stages else LEARNING_RATE),
            epochs=config.epochs,
            n_shares=self.n_shares,
            seed=config.seed,
        )
        checkpoint = config.folder / CHECKPOINT
        self.state = WindowTrainer(
            self.fin, self.stream, self.parts, recipe, checkpoint, self.device, self.budget, self.watch
        ).run()

    def score(self) -> list[dict[str, Any]]:
        """The rows of R²: parts, test stores, and for what needs no speech the synthetic corpus."""
        self.fin.to(self.device)
        rows = score_parts(self.fin, self.stream, self.scored, self.device)
        rows += score_tests(self.fin, self.tests, self.device)
        if isinstance(self.fin, CompactFin):
            feature = get_feature(self.config.feature)
            accumulator = score_clips(self.fin.to("cpu"), feature, synthetic_clips())
            rows.append(r2_row(accumulator, SYNTHETIC, SYNTHETIC, "all"))
        return rows

    def shown_windows(self) -> tuple[NDArray, NDArray, str]:
        """Truth and imitation, both (n, n_outputs), of windows that are shown, and of whom they are."""
        feature = get_feature(self.config.feature)
        if not self.config.store:
            windows = np.concatenate([cut_windows(clip) for clip in synthetic_clips()[::16]])
            return compute_feature(feature, windows), evaluate(self.fin, windows), "synthetic speech"
        test = self.parts["test"]
        shown = every_nth(test, max(1, len(test) // 20))
        pairs = list(imitate(self.fin.to(self.device), self.stream, shown, self.device))
        imitation, truth = (torch.cat(values).cpu().numpy() for values in zip(*pairs, strict=True))
        return truth, imitation, "test utterances"

    def result(self, rows: list[dict[str, Any]]) -> FinRunResult:
        config, state = self.config, self.state
        return FinRunResult(
            feature=config.feature,
            topology=config.topology,
            parameters=count_parameters(self.fin),
            multiply_adds_per_window=self.fin.multiply_adds(),
            seconds=round(state.seconds + sum(stage.seconds for stage in self.stages), 1),
            seed=config.seed,
            split_seed=config.seed if config.split_seed is None else config.split_seed,
            protocol=config.protocol,
            stages=[asdict(stage) for stage in self.stages],
            stopped=state.stopped,
            epochs=state.epoch,
            windows_seen=state.windows_seen,
            n_utterances={part: len(references) for part, references in self.parts.items()},
            r2=rows,
        )
