"""python -m fins.train: train one FIN on windows from stores, score it, write a run folder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from tqdm import tqdm

from fins.checkpoints import save_fin
from fins.command import run_command
from fins.features import FEATURES
from fins.networks import PAPER_LOSS, PaperFin, Topology, build_fin, count_parameters
from fins.plots import plot_learning_curve, plot_r2_per_output, plot_true_against_imitated
from fins.runs import (
    HISTORY,
    RESULT,
    begin_run,
    held,
    look_up_run,
    name_rows,
    write_history,
    write_json,
)
from fins.scores import R2Accumulator
from fins.splits import PARTS, Protocol
from fins.streams import Reference, WindowStream
from fins.training import Epoch, Fit, FitOptions, FitState, imitate, score, spread, validation_share

CHECKPOINT = "checkpoint.safetensors"
DRAWING = 5.0  # seconds that the pictures and files of a run take
SCORED_TRAINING = 5  # every so many training utterances are scored: as much as another part holds


@dataclass(frozen=True)
class TrainConfig:
    """Train a FIN on windows from stores and score it: R² on held-out utterances and on other corpora."""

    feature: Literal["zcr", "rms", "chroma", "mfcc", "mel"] = "mfcc"
    """What the FIN imitates."""
    topology: Topology = "paper"
    """Its shape: the published stack, layer for layer."""
    store: tuple[Path, ...] = ()
    """Stores made by pipelines.prepare, to train, validate and test on."""
    test_store: tuple[Path, ...] = ()
    """Stores of other corpora, only to test on."""
    protocol: Protocol = "random"
    """How utterances are divided 70/15/15: random (by corpus and emotion) or speaker (none shared)."""
    seed: int = 0
    """Of the split, the weights and the order of windows."""
    epochs: int = 100
    """At most; training ends earlier when validation makes no progress."""
    batch_size: int = 64
    """Windows."""
    learning_rate: float = 1e-3
    """Of Adam at the start; times 0.4 after 2 epochs without progress."""
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


def main(config: TrainConfig) -> None:
    """Train, score, write; every number that is printed stands in the folder too."""
    started = time.monotonic()
    check(config)
    out = config.out or Path("runs") / f"{config.feature}-{config.topology}-seed{config.seed}"
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
        "stores_hold": stream.facts() + tests.facts(),
    }
    known = look_up_run(out, asked, free=("minutes", "epochs"))
    if known == "finished":
        print(f"{out} holds the result of this very run already")
        return

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(config.seed)
    fin = build_fin(config.feature, config.topology)
    parts = stream.split(config.protocol, config.seed)
    n_training = stream.count_windows(parts["train"])
    wanted_shares = round(n_training / config.epoch_windows) if config.epoch_windows else 1
    n_shares = min(max(1, wanted_shares), len(parts["train"]))
    scored = {**parts, "train": spread(parts["train"], SCORED_TRAINING)}
    options = FitOptions(
        loss=PAPER_LOSS[config.feature],
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        epochs=config.epochs,
        n_shares=n_shares,
        seed=config.seed,
        seconds=training_seconds(config.minutes, fin, stream, tests, scored, n_shares, device, started),
    )
    begin_run(out, asked)
    print(
        f"{config.feature}, {config.topology}: {count_parameters(fin):,} parameters; "
        f"{n_training:,} training windows of {len(parts['train']):,} utterances, on {device}"
    )
    fit = Fit(fin, stream, parts, options, out / CHECKPOINT, device)
    progress = ProgressBar(n_training // n_shares)
    try:
        state = fit.run(progress, more=known == "more")
    finally:
        progress.close()

    save_fin(out, fin, config.feature, config.topology)
    write_history(out / HISTORY, state.history, Epoch)
    rows = score_parts(fin, stream, scored, device) + score_tests(fin, tests, device)
    result: dict[str, Any] = {
        "feature": config.feature,
        "topology": config.topology,
        "parameters": count_parameters(fin),
        "multiply_adds_per_window": fin.multiply_adds(),
        "seconds": round(state.seconds, 1),
        "seed": config.seed,
        "protocol": config.protocol,
        "stopped": state.stopped,
        "epochs": state.epoch,
        "windows_seen": state.windows_seen,
        "n_utterances": {part: len(references) for part, references in parts.items()},
        "r2": rows,
    }
    draw(out, fin, stream, parts["test"], state, rows, config, device)
    (out / "README.md").write_text(describe(result))
    write_json(out / RESULT, result)  # last: its presence says that the run is whole
    print(describe_scores(rows))
    print(f"written to {out}")


def check(config: TrainConfig) -> None:
    """ValueError for options that can't be meant."""
    if not config.store:
        raise ValueError("the topology paper is trained on speech: give --store, made by pipelines.prepare")
    if config.epochs < 1 or config.batch_size < 1 or config.seed < 0:
        raise ValueError("--epochs and --batch-size are at least 1, --seed at least 0")
    if config.epoch_windows is not None and config.epoch_windows < 1:
        raise ValueError("--epoch-windows is at least 1")
    if not config.learning_rate > 0 or (config.minutes is not None and not config.minutes > 0):
        raise ValueError("--learning-rate and --minutes are above 0")


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
    fin: PaperFin,
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
    afterwards = (
        1.1 * n_windows / scoring_rate(fin.to(device), stream, scored["validation"], device) + DRAWING
    )
    left = minutes * 60 - afterwards - (time.monotonic() - started)
    if left <= 0:
        raise ValueError(
            f"{minutes:g} minutes are too few: scoring and drawing alone take {afterwards / 60:.1f}"
        )
    return left


def scoring_rate(
    fin: PaperFin, stream: WindowStream, references: Sequence[Reference], device: torch.device
) -> float:
    """Windows a second that scoring takes, measured for a second, after a batch that warms up."""
    next(imitate(fin, stream, references[:1], device))
    start, n_windows = time.monotonic(), 0
    while time.monotonic() - start < 1:
        for _, truth in imitate(fin, stream, references[:64], device):
            n_windows += len(truth)
            if time.monotonic() - start > 1:
                break
    return n_windows / (time.monotonic() - start)


def score_parts(
    fin: PaperFin, stream: WindowStream, parts: dict[str, list[Reference]], device: torch.device
) -> list[dict[str, Any]]:
    """R² of each part: of each corpus in each store, and of all windows together."""
    rows = []
    for part in PARTS:
        everything = R2Accumulator(FEATURES[stream.feature].n_outputs)
        for (number, corpus), references in stream.by_corpus(parts[part]).items():
            accumulator = score(fin, stream, references, device)
            everything.merge(accumulator)
            rows.append(row_of(accumulator, str(stream.stores[number].path), corpus, part))
        rows.append(row_of(everything, "all", "all", part))
    return rows


def score_tests(fin: PaperFin, tests: WindowStream, device: torch.device) -> list[dict[str, Any]]:
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
    fin: PaperFin,
    stream: WindowStream,
    test: list[Reference],
    state: FitState,
    rows: list[dict[str, Any]],
    config: TrainConfig,
    device: torch.device,
) -> None:
    """The pictures of a run."""
    title = f"{config.feature}, {config.topology} topology, seed {config.seed}"
    plot_learning_curve(out / "learning_curve.png", state.history, title)
    feature = FEATURES[config.feature]
    some = list(imitate(fin, stream, spread(test, max(1, len(test) // 20)), device))
    imitation, truth = (torch.cat(values).cpu().numpy() for values in zip(*some, strict=True))
    plot_true_against_imitated(
        out / "true_against_imitated.png", truth, imitation, feature, f"{title}: test utterances"
    )
    held_out = {name: row for name, row in name_rows(rows).items() if row["part"] in ("test", "all")}
    shown = {name: row["per_output"] for name, row in held_out.items()}
    plot_r2_per_output(out / "r2_per_output.png", shown, f"{title}: R² per output")


def describe(result: dict[str, Any]) -> str:
    """A run as a page of Markdown."""
    return "\n".join(
        [
            f"# {result['feature']}, {result['topology']} topology, seed {result['seed']}",
            "",
            f"{result['parameters']:,} parameters; {result['multiply_adds_per_window']:,} multiply-adds; "
            f"trained for {result['seconds']:,.0f} s on {result['windows_seen']:,} windows "
            f"({result['epochs']} epochs, ended by: {result['stopped']}); protocol {result['protocol']}. "
            "The weights are those of the lowest validation loss; test windows had no say in it.",
            "",
            describe_scores(result["r2"]),
            "",
            "R² uniform is the mean over outputs that vary; variance-weighted weights each by its variance. "
            "Of the training windows a fifth is scored.",
            "",
            "![learning curve](learning_curve.png)",
            "![true against imitated](true_against_imitated.png)",
            "![R² per output](r2_per_output.png)",
            "",
        ]
    )


def describe_scores(rows: list[dict[str, Any]]) -> str:
    """The R² rows as a Markdown table."""
    lines = [
        "| corpus, part | windows | R² uniform | R² variance-weighted | constant outputs |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, row in name_rows(rows).items():
        numbers = ["–" if row[key] is None else f"{row[key]:.4f}" for key in ("uniform", "variance_weighted")]
        lines.append(
            f"| {name} | {row['n_windows']:,} | {' | '.join(numbers)} | {len(row['constant_outputs'])} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main, TrainConfig, TrainConfig.__doc__ or "")
