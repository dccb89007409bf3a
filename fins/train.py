"""python -m fins.train: learn a closed form from noise or fit a FIN to windows; score it; write a folder."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from tqdm import tqdm

from fins.audio import cut_windows
from fins.checkpoints import WEIGHTS, save_fin
from fins.command import run_command
from fins.compact import CompactFin, MelFin, prune
from fins.conditions import SYNTHETIC, evaluate, score_clips, synthetic_clips
from fins.features import compute_feature, fingerprint, get_feature
from fins.networks import Fin, Topology, build_fin, count_parameters
from fins.plots import (
    plot_learned,
    plot_learning_curve,
    plot_r2_per_output,
    plot_stages,
    plot_true_against_imitated,
)
from fins.runs import (
    HISTORY,
    RESULT,
    begin_run,
    held,
    held_out,
    look_up_run,
    name_rows,
    write_history,
    write_json,
)
from fins.scores import R2Accumulator, r2_text
from fins.splits import PARTS
from fins.stages import SHARE, Learned, Stage, StageStep, learn
from fins.streams import Reference, WindowStream
from fins.training import Epoch, Fit, FitOptions, FitState, imitate, score, spread, validation_share

CHECKPOINT = "checkpoint.safetensors"
DRAWING = 5.0  # seconds that the pictures and files of a run take
SCORED_TRAINING = 5  # every so many training utterances are scored: as much as another part holds
LEARNING_RATE, FINETUNING_RATE = 1e-3, 1e-5


@dataclass(frozen=True)
class TrainConfig:
    """Train a FIN and score it: R² on held-out utterances and on other corpora.

    The compact ones of the five features learn the closed form itself, from noise; --store finetunes them
    on windows. The published ones, and a small stack for a feature of your own, learn from the windows of
    --store alone.
    """

    feature: str = "mfcc"
    """What the FIN imitates: zcr, rms, chroma, mfcc, mel, or your own closed form as package.module:function,
    which takes (n, 2048) float32 windows and gives (n, n_outputs)."""
    topology: Topology = "compact"
    """Its shape: compact, compact less the weights that ended at zero (pruned), or as published (paper)."""
    store: tuple[Path, ...] = ()
    """Stores made by pipelines.prepare, to train, validate and test on."""
    test_store: tuple[Path, ...] = ()
    """Stores of other corpora, only to test on."""
    protocol: Literal["random", "speaker", "speaker_sentence"] = "random"
    """How utterances are divided 70/15/15: random (by corpus and emotion) or speaker (none shared)."""
    seed: int = 0
    """Of the split, the weights, the noise and the order of windows."""
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


class ProgressBar:
    """One bar an epoch, with windows a second and the last validation's R²."""

    def __init__(self, n_windows: int) -> None:
        self.n_windows = n_windows
        self.bar: tqdm | None = None

    def __call__(self, state: FitState, n_windows: int) -> None:
        if n_windows == 0:
            self.close()
            return
        if self.bar is None:
            self.bar = tqdm(
                total=self.n_windows,
                initial=state.loss_count - n_windows,
                unit=" windows",
                unit_scale=True,
                mininterval=0.5,  # seconds
                leave=False,
            )
            last = f", R² {state.history[-1].validation_r2:.4f}" if state.history else ""
            self.bar.set_description(f"epoch {state.epoch + 1}{last}")
        self.bar.update(n_windows)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


class StageBar:
    """One bar a stage, with its error; keeps what a curve needs."""

    def __init__(self) -> None:
        self.bar: tqdm | None = None
        self.stage = ""
        self.history: list[StageStep] = []

    def __call__(self, stage: Stage, step: int, loss: float) -> None:
        if stage.name != self.stage or step == 1:
            self.close()
            self.stage = stage.name
            self.bar = tqdm(total=stage.n_steps, unit=" steps", mininterval=0.5, leave=False)
        assert self.bar is not None
        if step % 10 == 0 or step in (1, stage.n_steps):
            self.history.append(StageStep(stage.name, step, loss))
            self.bar.set_description(f"{stage.name}, error {loss:.1e}", refresh=False)
            self.bar.update(step - self.bar.n)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def main(config: TrainConfig) -> None:
    """Train, score, write; every number that is printed stands in the folder too."""
    started = time.monotonic()
    check(config)
    name = config.feature.replace(":", ".")
    out = config.out or Path("runs") / f"{name}-{config.topology}-seed{config.seed}"
    stream = WindowStream(config.store, config.feature)
    tests = WindowStream(config.test_store, config.feature)
    check_apart(stream, tests)
    with held(out):
        run(config, out, stream, tests, started)


def run(config: TrainConfig, out: Path, stream: WindowStream, tests: WindowStream, started: float) -> None:
    """One run in its folder, from its start or from where it was killed."""
    asked = {
        **asdict(config),
        "out": None,
        "store": [str(path) for path in config.store],
        "test_store": [str(path) for path in config.test_store],
        "closed_form": fingerprint(get_feature(config.feature)),
        "stores_hold": stream.facts() + tests.facts(),
    }
    known = look_up_run(out, asked, free=("minutes", "epochs"))
    if known == "finished":
        print(f"{out} holds the result of this very run already")
        return

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(config.seed)
    fin = build_fin(config.feature, config.topology)
    parts = stream.split(config.protocol, config.seed) if config.store else {part: [] for part in PARTS}
    n_training = stream.count_windows(parts["train"])
    wanted_shares = round(n_training / config.epoch_windows) if config.epoch_windows else 1
    n_shares = min(max(1, wanted_shares), max(1, len(parts["train"])))
    scored = {**parts, "train": spread(parts["train"], SCORED_TRAINING)}
    seconds = training_seconds(config.minutes, fin, stream, tests, scored, n_shares, device, started)
    begin_run(out, asked)

    stages: list[Learned] = []
    steps: list[StageStep] = []
    if isinstance(fin, CompactFin):
        share = 0.5 if config.store else 1.0
        stages, steps = learn_from_noise(fin, config, None if seconds is None else share * seconds)
        print(describe_stages(stages))
    print(f"{config.feature}, {config.topology}: {count_parameters(fin):,} parameters")
    state = FitState()
    if config.store:
        print(f"{n_training:,} training windows of {len(parts['train']):,} utterances, on {device}")
        rate = FINETUNING_RATE if stages else LEARNING_RATE
        options = FitOptions(
            loss="mae" if (config.feature, config.topology) == ("chroma", "paper") else "mse",
            batch_size=config.batch_size,
            learning_rate=config.learning_rate or rate,
            epochs=config.epochs,
            n_shares=n_shares,
            seed=config.seed,
            seconds=None if seconds is None else seconds - sum(stage.seconds for stage in stages),
            minutes=config.minutes,
        )
        fit = Fit(fin, stream, parts, options, out / CHECKPOINT, device)
        progress = ProgressBar(n_training // n_shares)
        try:
            state = fit.run(progress)
        finally:
            progress.close()

    n_outputs = get_feature(config.feature).n_outputs
    save_fin(out / WEIGHTS, fin, config.feature, config.topology, n_outputs)
    if config.store:
        write_history(out / HISTORY, state.history, Epoch)
    else:
        write_history(out / HISTORY, steps, StageStep)
    fin.to(device)
    rows = score_parts(fin, stream, scored, device) + score_tests(fin, tests, device)
    if isinstance(fin, CompactFin):
        accumulator = score_clips(fin.to("cpu"), get_feature(config.feature), synthetic_clips())
        rows.append(row_of(accumulator, SYNTHETIC, SYNTHETIC, "all"))
    result: dict[str, Any] = {
        "feature": config.feature,
        "topology": config.topology,
        "parameters": count_parameters(fin),
        "multiply_adds_per_window": fin.multiply_adds(),
        "seconds": round(state.seconds + sum(stage.seconds for stage in stages), 1),
        "seed": config.seed,
        "protocol": config.protocol,
        "stages": [asdict(stage) for stage in stages],
        "stopped": state.stopped,
        "epochs": state.epoch,
        "windows_seen": state.windows_seen,
        "n_utterances": {part: len(references) for part, references in parts.items()},
        "r2": rows,
    }
    draw(out, fin, stream, parts["test"], state, steps, rows, config, device)
    (out / "README.md").write_text(describe(result))
    write_json(out / RESULT, result)  # last: its presence says that the run is whole
    print(describe_scores(rows))
    print(f"written to {out}")


def learn_from_noise(
    fin: CompactFin, config: TrainConfig, seconds: float | None
) -> tuple[list[Learned], list[StageStep]]:
    """Go through a FIN's stages; one that shall be pruned is pruned after them and fitted once more."""
    bar = StageBar()
    started = time.monotonic()
    fin.to("cpu")  # noise is cheap there, and the same on every machine
    first = seconds
    if seconds is not None and config.topology == "pruned":
        first = SHARE * seconds
    try:
        stages = learn(fin.stages(), config.seed, bar, first)
        if config.topology == "pruned":
            assert isinstance(fin, MelFin)
            prune(fin)
            left = None if seconds is None else seconds - (time.monotonic() - started)
            stages += learn([fin.bands_stage()], config.seed + 1, bar, left)
    finally:
        bar.close()
    return stages, bar.history


def check(config: TrainConfig) -> None:
    """ValueError for options that can't be meant."""
    if not config.store and ":" in config.feature:
        raise ValueError(f"{config.feature} is learned from windows: give --store, made by pipelines.prepare")
    if not config.store and config.topology == "paper":
        raise ValueError("the topology paper is trained on speech: give --store, made by pipelines.prepare")
    if config.epochs < 1 or config.batch_size < 1:
        raise ValueError("--epochs and --batch-size are at least 1")
    if not 0 <= config.seed < 2**32:
        raise ValueError("--seed is at least 0 and below 2 ** 32")
    if config.epoch_windows is not None and config.epoch_windows < 1:
        raise ValueError("--epoch-windows is at least 1")
    for option in ("learning_rate", "minutes"):
        value = getattr(config, option)
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise ValueError(f"--{option.replace('_', '-')} is a number above 0")


def check_apart(stream: WindowStream, tests: WindowStream) -> None:
    """ValueError if a store is given twice, or if training would see what the other stores test on."""
    paths = [store.path.resolve() for store in (*stream.stores, *tests.stores)]
    for path in paths:
        if paths.count(path) > 1:
            raise ValueError(f"the store {path} is given twice: once is enough, and only to train or to test")
    seen = {str(sha) for store in stream.stores for sha in store.utterances["sha256"]} - {""}
    for store in tests.stores:
        shared = seen & set(store.utterances["sha256"])
        if shared:
            raise ValueError(
                f"{len(shared)} recordings of the test store {store.path} are in the training stores too: "
                "prepare it without them"
            )


def training_seconds(
    minutes: float | None,
    fin: Fin,
    stream: WindowStream,
    tests: WindowStream,
    scored: dict[str, list[Reference]],
    n_shares: int,
    device: torch.device,
    started: float,
) -> float | None:
    """What a budget leaves for training: less the last validation, scoring and drawing, as measured now."""
    if minutes is None:
        return None
    n_windows = sum(map(stream.count_windows, scored.values()))
    n_windows += stream.count_windows(validation_share(scored["validation"], n_shares))
    n_windows += sum(tests.count_windows(tests.all_utterances(number)) for number in range(len(tests.stores)))
    afterwards = DRAWING
    if n_windows:
        # a FIN that is finetuned is validated before its first epoch too
        n_windows += stream.count_windows(validation_share(scored["validation"], n_shares))
        source = (stream, scored["validation"]) if stream.stores else (tests, tests.all_utterances(0))
        afterwards += 1.1 * n_windows / scoring_rate(fin.to(device), *source, device)
    left = minutes * 60 - afterwards - (time.monotonic() - started)
    if left <= 0:
        raise ValueError(
            f"{minutes:g} minutes are too few: scoring and drawing alone take {afterwards / 60:.1f}"
        )
    return left


def scoring_rate(
    fin: Fin, stream: WindowStream, references: Sequence[Reference], device: torch.device
) -> float:
    """Windows a second that scoring takes, measured for a second or so, after a batch that warms up."""
    next(imitate(fin, stream, references[:1], device))
    start, n_windows = time.monotonic(), 0
    while time.monotonic() - start < 1:
        for _, truth in imitate(fin, stream, references[:8], device):
            n_windows += len(truth)
    return n_windows / (time.monotonic() - start)


def score_parts(
    fin: Fin, stream: WindowStream, parts: dict[str, list[Reference]], device: torch.device
) -> list[dict[str, Any]]:
    """R² of each part: of each corpus in each store, and of all windows together."""
    rows: list[dict[str, Any]] = []
    for part in PARTS if stream.stores else ():
        everything = R2Accumulator(stream.feature.n_outputs)
        for (number, corpus), references in stream.by_corpus(parts[part]).items():
            accumulator = score(fin, stream, references, device)
            everything.merge(accumulator)
            rows.append(row_of(accumulator, str(stream.stores[number].path), corpus, part))
        rows.append(row_of(everything, "all", "all", part))
    return rows


def score_tests(fin: Fin, tests: WindowStream, device: torch.device) -> list[dict[str, Any]]:
    """R² of each corpus in the stores that training never saw."""
    return [
        row_of(score(fin, tests, references, device), str(tests.stores[number].path), corpus, "all")
        for store in range(len(tests.stores))
        for (number, corpus), references in tests.by_corpus(tests.all_utterances(store)).items()
    ]


def row_of(accumulator: R2Accumulator, store: str, corpus: str, part: str) -> dict[str, Any]:
    return {"store": store, "corpus": corpus, "part": part, **asdict(accumulator.result())}


def draw(
    out: Path,
    fin: Fin,
    stream: WindowStream,
    test: list[Reference],
    state: FitState,
    steps: list[StageStep],
    rows: list[dict[str, Any]],
    config: TrainConfig,
    device: torch.device,
) -> None:
    """The pictures of a run."""
    title = f"{config.feature}, {config.topology} topology, seed {config.seed}"
    feature = get_feature(config.feature)
    if steps:
        plot_stages(out / "stages.png", steps, title)
    if isinstance(fin, CompactFin):
        plot_learned(out / "learned.png", fin, title)
    if config.store:
        plot_learning_curve(out / "learning_curve.png", state.history, title)
        shown = list(imitate(fin.to(device), stream, spread(test, max(1, len(test) // 20)), device))
        imitation, truth = (torch.cat(values).cpu().numpy() for values in zip(*shown, strict=True))
        of = "test utterances"
    else:
        windows = np.concatenate([cut_windows(clip) for clip in synthetic_clips()[::16]])
        truth, imitation, of = compute_feature(feature, windows), evaluate(fin, windows), "synthetic speech"
    plot_true_against_imitated(out / "true_against_imitated.png", truth, imitation, feature, f"{title}: {of}")
    scores = {name: row["per_output"] for name, row in held_out(rows).items()}
    plot_r2_per_output(out / "r2_per_output.png", scores, f"{title}: R² per output")


def describe(result: dict[str, Any]) -> str:
    """A run as a page of Markdown."""
    lines = [
        f"# {result['feature']}, {result['topology']} topology, seed {result['seed']}",
        "",
        f"{result['parameters']:,} parameters; {result['multiply_adds_per_window']:,} multiply-adds a "
        f"window; trained for {result['seconds']:,.0f} s.",
        "",
    ]
    pictures = ["true_against_imitated", "r2_per_output"]
    if result["stages"]:
        pictures += ["stages", "learned"]
        stages = [Learned(**stage) for stage in result["stages"]]
        lines += ["Learned from noise, without speech, stage by stage:", "", describe_stages(stages), ""]
    if result["windows_seen"]:
        pictures.append("learning_curve")
        lines += [
            f"Fitted to {result['windows_seen']:,} windows ({result['epochs']} epochs, ended by: "
            f"{result['stopped']}); protocol {result['protocol']}. The weights are those of the lowest "
            "validation loss; test windows had no say in it. Of the training windows a fifth is scored.",
            "",
        ]
    lines += [
        describe_scores(result["r2"]),
        "",
        "R² uniform is the mean over outputs that vary; variance-weighted weights each by its variance.",
        "",
        *(f"![{name.replace('_', ' ')}]({name}.png)" for name in pictures),
        "",
    ]
    return "\n".join(lines)


def describe_stages(stages: Sequence[Learned]) -> str:
    """The stages as a Markdown table."""
    lines = [
        "| stage | steps | seconds | squared error, as a share of the squared target |",
        "|---|--:|--:|--:|",
    ]
    lines += [f"| {row.name} | {row.n_steps:,} | {row.seconds:.1f} | {row.error:.1e} |" for row in stages]
    return "\n".join(lines)


def describe_scores(rows: list[dict[str, Any]]) -> str:
    """The R² rows as a Markdown table."""
    lines = [
        "| corpus, part | windows | R² uniform | R² variance-weighted | constant outputs |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, row in name_rows(rows).items():
        numbers = [r2_text(row[key]) for key in ("uniform", "variance_weighted")]
        lines.append(
            f"| {name} | {row['n_windows']:,} | {' | '.join(numbers)} | {len(row['constant_outputs'])} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main, TrainConfig, TrainConfig.__doc__ or "")
