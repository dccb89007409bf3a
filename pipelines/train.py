"""python -m pipelines.train: train an emotion classifier, judge it on held-out utterances, write a folder."""

from __future__ import annotations

import csv
import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from fins.checkpoints import WEIGHTS
from fins.command import run_command
from fins.runs import HISTORY, RESULT, begin_run, held, look_up_run, write_history, write_json
from fins.splits import PARTS, Protocol, keep_speakers, split_at_speakers, split_utterances
from fins.store import EMOTIONS
from pipelines.audit import audit, certificate, rows_of, verdict
from pipelines.results import (
    PREDICTIONS,
    SPLIT,
    answer,
    check_stores,
    describe_scores,
    draw_scores,
    evenly_spread,
    part_facts,
    prepare_inputs,
    read_split,
    scores_of,
    write_split,
)
from ser_heads.base import UtteranceModel
from ser_heads.data import UtteranceTable
from ser_heads.fin_branch import FrozenOutputs
from ser_heads.models import SETTINGS, ModelConfig, build_model, save_model
from ser_heads.plots import plot_confusion, plot_learning_curves
from ser_heads.scores import METRICS
from ser_heads.speed import TIMED, real_time_factor
from ser_heads.training import (
    EVALUATION_BATCH,
    RECENT,
    Feed,
    Options,
    State,
    Training,
    balance,
    predict,
)

Emotion = Literal["angry", "calm", "disgust", "fear", "happy", "neutral", "sad", "surprise"]
CHECKPOINT = "checkpoint.safetensors"
FROZEN_WEIGHTS = "frozen.safetensors"
ENDING = 10.0  # seconds that scores, pictures and files take
LEARNED = 500  # training utterances that are scored at the end, at most


@dataclass(frozen=True)
class TrainConfig(ModelConfig, Options):
    """Train an emotion classifier in two phases, with FINs frozen and then finetuned.

    It is judged on speakers or utterances that it never met; which epoch is kept is chosen on validation
    utterances alone.
    """

    store: tuple[Path, ...] = ()
    """Stores made by pipelines.prepare, to train, validate and test on."""
    emotions: tuple[Emotion, ...] | None = None
    """Of the utterances that are used; by default all."""
    protocol: Protocol = "speaker"
    """How utterances are divided: speaker (none shared), speaker_sentence (no sentence with the test part
    either), corpus (tests on --test-corpus), or random (by corpus and emotion; leaks speakers)."""
    test_corpus: tuple[str, ...] = ()
    """Corpora that test and do nothing else, under the protocol corpus."""
    fold: str | None = None
    """A published fold to test on, as corpus:number: ravdess:1 to 6, savee:1 to 4. Other speakers, of all
    stores, train, and a tenth of them validates."""
    split: Path | None = None
    """A split.csv that another run has written, or one like it, in place of a protocol's own."""
    training_speakers: float = 1.0
    """Share of each corpus's training speakers that train; the others are left out."""
    seed: int = 0
    """Of the split, the weights, and all that is drawn in training."""
    minutes: float | None = None
    """Budget: training ends in time for the result to be there when it is spent."""
    out: Path | None = None
    """Folder of the run; by default runs/<model>-<protocol or fold>-seed<seed>."""


class ProgressBar:
    """One bar an epoch, with the last validation's UAR."""

    def __init__(self) -> None:
        self.bar: tqdm | None = None

    def __call__(self, state: State, done: int, n_steps: int) -> None:
        if done == 1:
            last = f", UAR {state.history[-1].validation_uar:.3f}" if state.history else ""
            best = f", best {state.best_uar:.3f}" if state.history else ""
            self.bar = tqdm(total=n_steps, unit=" batches", mininterval=0.5, leave=False)
            self.bar.set_description(f"{state.phase}, epoch {state.epoch + 1}{last}{best}")
        if self.bar is not None:
            self.bar.update(1)
            if done == n_steps:
                self.bar.close()


def main(config: TrainConfig) -> None:
    """Train, score, write; every number that is printed stands in the folder too."""
    started = time.monotonic()
    check(config)
    kind = config.fold.replace(":", "") if config.fold else config.protocol
    out = config.out or Path("runs") / f"{config.model}-{kind}-seed{config.seed}"
    torch.manual_seed(config.seed)
    model, headers = build_model(part_of(config, ModelConfig))
    table = UtteranceTable(config.store, trimmed=not model.whole)
    parts = divide(table, config)
    with held(out):
        run(config, out, model, headers, table, parts, started)


def run(
    config: TrainConfig,
    out: Path,
    model: UtteranceModel,
    headers: list[dict[str, Any]],
    table: UtteranceTable,
    parts: dict[str, NDArray[np.int64]],
    started: float,
) -> None:
    """One run in its folder, from its start or from where it was killed."""
    asked = {**asdict(config), "out": None, **what_is_there(config, model, table)}
    if look_up_run(out, asked, free=()) == "finished":
        print(f"{out} holds the result of this very run already")
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if model.by_gradient:
        print(f"{config.model}: {model.n_learned():,} parameters; on {device}")
    for part, facts in part_facts(table, parts).items():
        print(f"{part}: {facts['n_utterances']:,} utterances of {len(facts['speakers'])} speakers")
    if config.frozen_epochs == 0 and model.by_gradient and not model.has_learning_fins():
        raise ValueError(f"{config.model} has no FINs to finetune: --frozen-epochs is at least 1")
    frozen = frozen_outputs(model, table, config.copies) if config.frozen_epochs else None
    prepare_inputs(model, table)
    known = [emotion for emotion in EMOTIONS if emotion in table.columns["emotion"][parts["train"]]]
    task = Task(config, out, model, headers, table, parts, known, device, started)
    learned = train_in_epochs(task, frozen, asked) if model.by_gradient else fit(task, asked)

    save_model(out / WEIGHTS, model.state_dict(), part_of(config, ModelConfig), headers, known)
    scored = {**parts, "train": evenly_spread(parts["train"], LEARNED)}
    said = {
        part: answer(table, rows, predict(model, learned.feed, rows, device), known)
        for part, rows in scored.items()
    }
    by_part = {part: scores_of(its, config.seed) for part, (its, _) in said.items()}
    predictions, used = said["test"]
    scores = by_part["test"]
    predictions.write(out / PREDICTIONS)
    write_split(out / SPLIT, table, parts)
    write_history(out / HISTORY, learned.history, type(learned.history[0]))
    phases = {**learned.earlier, learned.phase: scores}
    rows = rows_of(table, parts)
    result: dict[str, Any] = {
        "model": config.model,
        "parameters": model.n_learned(),
        "protocol": config.protocol if config.split is None else protocol_of(table, parts),
        "fold": config.fold,
        "seed": config.seed,
        "parts": part_facts(table, parts),
        "n_unknown_emotion": int((~used).sum()),
        **scores,
        "by_part": {
            part: {key: its[key] for key in (*METRICS, "interval_95", "n_utterances")}
            for part, its in by_part.items()
        },
        "real_time_factor": real_time_factor(model, table, parts["test"]),
        **learned.facts,
        "audit": certificate(rows, audit(rows), listened=False),
        "test_by_phase": {phase: {key: its[key] for key in METRICS} for phase, its in phases.items()},
    }
    pictures = [*draw_scores(out, scores, task.title), *learned.pictures]
    (out / "README.md").write_text(describe(result, pictures))
    write_json(out / RESULT, result)  # last: its presence says that the run is whole
    (out / CHECKPOINT).unlink(missing_ok=True)
    print("\n".join([*describe_features(result), *describe_scores(result)]))
    print(f"written to {out}")


def what_is_there(config: TrainConfig, model: UtteranceModel, table: UtteranceTable) -> dict[str, Any]:
    """What a run's paths lead to, by what is in the files: a run of before may have found others there."""
    found: dict[str, Any] = {
        "store": [str(path) for path in config.store],
        "split": config.split and str(config.split),
        "fin_weights": model.fins.digest() if model.fins is not None else "",
        "stores_hold": table.facts(),
    }
    if config.split is not None:
        found["split_holds"] = hashlib.sha256(config.split.read_bytes()).hexdigest()
    return found


@dataclass(frozen=True)
class Task:
    """What is to be learned, and where it goes."""

    config: TrainConfig
    out: Path
    model: UtteranceModel
    headers: list[dict[str, Any]]
    table: UtteranceTable
    parts: dict[str, NDArray[np.int64]]
    known: list[str]
    device: torch.device
    started: float

    @property
    def title(self) -> str:
        config = self.config
        return f"{config.model}, {config.fold or config.protocol}, seed {config.seed}"


@dataclass(frozen=True)
class Learned:
    """What learning left, beside the model's weights.

    history : its rows, dataclasses of one kind; phase : whose weights the model has
    earlier : phase before it → scores on the test part; facts : what the result says of it
    """

    feed: Feed
    history: Sequence[Any]
    phase: str
    earlier: dict[str, Any]
    facts: dict[str, Any]
    pictures: list[str]


def train_in_epochs(task: Task, frozen: FrozenOutputs | None, asked: dict[str, Any]) -> Learned:
    """Both phases, from the start or from the checkpoint."""
    config, out, model, table, parts = task.config, task.out, task.model, task.table, task.parts
    if not (out / CHECKPOINT).exists():
        model.calibrate(Feed(model, table, frozen), parts["train"])
    options = part_of(config, Options)
    training = Training(model, table, parts, options, frozen, out / CHECKPOINT, task.device, config.seed)
    if config.minutes is not None:
        training.seconds = training_seconds(config.minutes, training, task.started)
    begin_run(out, asked)
    state = training.run(ProgressBar())

    finetuned = any(row.phase == "finetuned" for row in state.history)
    earlier = {}
    if finetuned and training.frozen_best:
        model.load_state_dict(training.frozen_best)
        save_model(
            out / FROZEN_WEIGHTS, model.state_dict(), part_of(config, ModelConfig), task.headers, task.known
        )
        logits = predict(model, Feed(model, table, frozen), parts["test"], task.device)
        earlier["frozen"] = scores_of(answer(table, parts["test"], logits, task.known)[0], config.seed)
        model.load_state_dict(training.best)
    history = [asdict(row) for row in state.history]
    plot_learning_curves(out / "learning_curves.png", history, state.best_epoch, task.title)
    facts = {
        "seconds": round(state.seconds, 1),
        "mixed_precision": training.mixed,
        "stopped": state.stopped,
        "epochs": len(state.history),
        "best_epoch": state.best_epoch,
        "validation_uar": state.history[state.best_epoch - 1].validation_uar,
        "best_phase": state.history[state.best_epoch - 1].phase,
    }
    phase = "finetuned" if finetuned else "frozen"
    return Learned(training.feed, state.history, phase, earlier, facts, ["learning_curves"])


def fit(task: Task, asked: dict[str, Any]) -> Learned:
    """All that a model tries which isn't trained by gradient, and what the best of each kind says."""
    config, model, table, parts = task.config, task.model, task.table, task.parts
    begin_run(task.out, asked)
    feed = Feed(model, table, weights=balance(table, parts["train"], config.class_weights))
    start = time.monotonic()
    left = None if config.minutes is None else config.minutes * 60 - ENDING - (start - task.started)
    with tqdm(unit=" machines", leave=False) as bar:

        def progress(done: int, n: int) -> None:
            bar.total = n
            bar.update(done - bar.n)

        found = model.fit(feed, parts, part_of(config, Options), left, progress)
    seconds = time.monotonic() - start
    features: dict[str, Any] = {}
    for name, tensors in found.tensors.items():
        model.load_state_dict(tensors)
        features[name] = {key: getattr(found.best[name], key) for key in ("kernel", "c", "n_support_vectors")}
        for part in ("validation", "test"):
            logits = predict(model.to(task.device), feed, parts[part], task.device)
            its = scores_of(answer(table, parts[part], logits, task.known)[0], config.seed)
            features[name][part] = {key: its[key] for key in (*METRICS, "interval_95", "labels", "confusion")}
        picture = task.out / f"confusion-{name}.png"
        plot_confusion(picture, its["confusion"], its["labels"], f"{task.title}: {name}")
    model.load_state_dict(found.tensors[found.kept])
    facts = {
        "seconds": round(seconds, 1),
        "stopped": found.stopped,
        "epochs": len(found.rows),
        "best_epoch": 1 + list(found.rows).index(found.best[found.kept]),
        "validation_uar": found.best[found.kept].validation_uar,
        "best_phase": "fitted",
        "best_feature": found.kept,
        "by_feature": features,
    }
    return Learned(feed, found.rows, "fitted", {}, facts, [f"confusion-{name}" for name in features])


def settings_of(arguments: Sequence[str]) -> TrainConfig:
    """The options where none are given: those of the model that the arguments name."""
    pairs = zip(["", *arguments], [*arguments, ""], strict=True)
    named = [its for before, its in pairs if before == "--model"]
    named += [its.removeprefix("--model=") for its in arguments if its.startswith("--model=")]
    return with_settings(named[-1]) if named and named[-1] in SETTINGS else TrainConfig()


def with_settings(model: str, **changes: Any) -> TrainConfig:
    """A model's own options, but for those that are changed."""
    return TrainConfig(**{"model": model, **SETTINGS.get(model, {}), **changes})


def check(config: TrainConfig) -> None:
    """ValueError for options that can't be meant."""
    if not config.store:
        raise ValueError("there is nothing to train on: give --store, made by pipelines.prepare")
    check_stores(config.store)
    if not 0 <= config.seed < 2**32:
        raise ValueError("--seed is at least 0 and below 2 ** 32")
    if not 0 < config.training_speakers <= 1:
        raise ValueError("--training-speakers is a share, above 0 and at most 1")
    if config.batch_size < 2 or config.patience < 1:
        raise ValueError("--patience is at least 1, --batch-size at least 2")
    if min(config.frozen_epochs, config.finetuned_epochs, config.copies) < 0:
        raise ValueError("--frozen-epochs, --finetuned-epochs and --copies are at least 0")
    if config.frozen_epochs == 0 and config.finetuned_epochs == 0:
        raise ValueError("with --frozen-epochs 0 there have to be --finetuned-epochs")
    if not 0 <= config.label_smoothing < 1:
        raise ValueError("--label-smoothing is at least 0 and below 1")
    its = config.augmentation
    if not (0 < its.seconds < math.inf and 1 <= its.stretch < math.inf and 1 <= its.contrast < math.inf):
        raise ValueError("--augmentation: seconds above 0 and finite, stretch and contrast at least 1")
    if not all(math.isfinite(its) for its in (config.class_weights, config.penalty, config.weight_decay)):
        raise ValueError("--class-weights, --penalty and --weight-decay are finite numbers")
    if its.n_masks < 0 or its.masked_bands < 0:
        raise ValueError("--augmentation: masks and masked bands at least 0")
    if not (0 <= its.noisy <= 1 and -math.inf < its.noise[0] <= its.noise[1] < math.inf):
        raise ValueError("--augmentation.noisy is 0 to 1, its noise two levels in dB, the lower one first")
    if not (0 <= its.masked_time <= 1 and 0 <= its.mixup < math.inf and config.focusing >= 0):
        raise ValueError("--augmentation.masked-time is 0 to 1, its mixup and --focusing are at least 0")
    costs, kernels = config.svm.c, config.svm.kernel
    if not (costs and kernels and all(c > 0 and math.isfinite(c) for c in costs)):
        raise ValueError("--svm.c and --svm.kernel have one value or several, every cost a number above 0")
    for option in ("learning_rate", "finetuning_rate", "fin_rate", "minutes"):
        value = getattr(config, option)
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise ValueError(f"--{option.replace('_', '-')} is a number above 0")


def part_of(config: TrainConfig, kind: type) -> Any:
    """The options of one of the dataclasses that the command line is made of."""
    return kind(**{its.name: getattr(config, its.name) for its in fields(kind)})


def divide(table: UtteranceTable, config: TrainConfig) -> dict[str, NDArray[np.int64]]:
    """Part → its utterances."""
    if config.split is not None:
        if config.fold is not None or config.test_corpus:
            raise ValueError("a --split says all: it goes without --fold and --test-corpus")
        parts = read_split(config.split, table)
        assigned = np.full(len(table), "unused", dtype=object)
        for part, rows in parts.items():
            assigned[rows] = part
    elif config.fold is not None:
        if config.protocol != "speaker" or config.test_corpus:
            raise ValueError("a published fold shares no speaker: it goes with --protocol speaker")
        assigned = split_at_speakers(table.columns, speakers_of(config.fold), config.seed)
    else:
        assigned = split_utterances(table.columns, config.protocol, config.seed, config.test_corpus)
    assigned = keep_speakers(table.columns, assigned, config.training_speakers, config.seed)
    if config.emotions is not None:
        assigned[~np.isin(table.columns["emotion"], config.emotions)] = "unused"
    parts = {part: np.flatnonzero(assigned == part) for part in PARTS}
    known = np.unique(table.emotion[parts["train"]])
    if len(known) < 2:
        raise ValueError("the training utterances have but one emotion: there is nothing to tell apart")
    # what training never heard can't choose the epoch; of the test part it is left out when scores are made
    parts["validation"] = parts["validation"][np.isin(table.emotion[parts["validation"]], known)]
    if not np.isin(table.emotion[parts["test"]], known).any():
        parts["test"] = parts["test"][:0]
    empty = [part for part, rows in parts.items() if len(rows) == 0]
    if empty:
        raise ValueError(f"too few utterances in the stores: none is left for {' and '.join(empty)}")
    return parts


def protocol_of(table: UtteranceTable, parts: Mapping[str, NDArray[np.int64]]) -> str:
    """Of a split that came as a file: what the test part shares with the others."""
    others = np.concatenate([parts["train"], parts["validation"]])
    if set(table.speakers[parts["test"]]) & set(table.speakers[others]):
        return "random"
    corpora = table.columns["corpus"]
    return "speaker" if set(corpora[parts["test"]]) & set(corpora[others]) else "corpus"


def speakers_of(fold: str) -> list[str]:
    """The test speakers of a published fold, as corpus/speaker."""
    folds = published_folds()
    if fold not in folds:
        raise ValueError(f"there is no fold {fold!r}: the known ones are {', '.join(folds)}")
    return folds[fold]


def published_folds() -> dict[str, list[str]]:
    """Published folds as corpus:number → their test speakers as corpus/speaker."""
    folds: dict[str, list[str]] = {}
    with (files("data_manifests") / "folds.csv").open() as file:
        for row in csv.DictReader(file):
            fold = folds.setdefault(f"{row['corpus']}:{row['fold']}", [])
            fold.append(f"{row['corpus']}/{row['speaker']}")
    return folds


def frozen_outputs(model: UtteranceModel, table: UtteranceTable, n_copies: int) -> FrozenOutputs | None:
    """What a model's frozen FINs make of utterances, kept beside the stores; None if it has none."""
    if model.fins is None:
        return None
    with tqdm(total=len(table), unit=" utterances", desc="frozen FINs", leave=False) as bar:
        return FrozenOutputs(model.fins, table, n_copies, bar.update)


def training_seconds(minutes: float, training: Training, started: float) -> float:
    """What a budget leaves for training: less the scores of all parts, and pictures, as measured now."""
    parts, before = training.parts, time.monotonic() - started
    feed = Feed(training.model, training.table) if training.finetunes() else training.feed
    sample = parts["validation"][:EVALUATION_BATCH]
    training.table.lengths(np.arange(len(training.table)))  # reads each signal, once
    start = time.monotonic()
    predict(training.model, feed, sample, training.device)
    each = (time.monotonic() - start) / len(sample)
    n_scored = 2 * len(parts["test"]) + len(parts["validation"]) + min(len(parts["train"]), LEARNED)
    # one at a time on one core an utterance takes longer than in batches
    afterwards = ENDING + each * (n_scored + 4 * TIMED)
    left = minutes * 60 - afterwards - (time.monotonic() - started)
    if left <= 0:
        raise ValueError(
            f"{minutes:g} minutes are too few: {before:.0f} s went by before training, with what frozen FINs "
            f"make of the stores, and what follows it takes {afterwards:.0f} s"
        )
    return left


def describe(result: dict[str, Any], pictures: list[str]) -> str:
    """A run as a page of Markdown."""
    parts = result["parts"]
    if "by_feature" in result:
        how = f"fitted in {result['seconds']:,.0f} s, {result['epochs']} machines tried"
        chosen = f"The machine is number {result['best_epoch']} of them, chosen by UAR"
    else:
        how = f"trained for {result['seconds']:,.0f} s, {result['epochs']} epochs"
        chosen = (
            f"The weights are those of epoch {result['best_epoch']}, chosen by the UAR of {RECENT} epochs"
        )
    lines = [
        f"# {result['model']}, {result['fold'] or result['protocol']}, seed {result['seed']}",
        "",
        f"{result['parameters']:,} parameters; {how} (ended by: {result['stopped']}).",
        "",
        *describe_features(result),
        *describe_scores(result),
        "",
        "| part | utterances | speakers | UAR % | WA % | macro-F1 % |",
        "|---|--:|---|--:|--:|--:|",
        *(
            f"| {part} | {facts['n_utterances']:,} | {name_speakers(facts['speakers'])} | "
            + " | ".join(f"{100 * result['by_part'][part][key]:.1f}" for key in ("uar", "wa", "macro_f1"))
            + " |"
            for part, facts in parts.items()
        ),
        "",
        *describe_sample(result),
        f"On one core an answer takes {result['real_time_factor']:.3g} of the time that the utterance lasts.",
        "",
        f"{chosen} on the validation part (its own {100 * result['validation_uar']:.1f} %); the test part "
        "had no say in it.",
        "",
        f"Audit: {verdict(result['audit'])}",
        "",
        *(f"![{name.replace('_', ' ')}]({name}.png)" for name in pictures),
        "",
    ]
    if len(result["test_by_phase"]) > 1:
        frozen, tuned = (100 * result["test_by_phase"][phase]["uar"] for phase in ("frozen", "finetuned"))
        said = f"Test UAR with frozen FINs {frozen:.1f} %, finetuned {tuned:.1f} %."
        if result["best_phase"] == "frozen":
            said = "No epoch of finetuning did better on the validation part: the FINs are as they were."
        lines[4:4] = [said, ""]
    return "\n".join(lines)


def describe_features(result: dict[str, Any]) -> list[str]:
    """What the machines of each spectral feature say, where there are such, as Markdown."""
    if "by_feature" not in result:
        return []
    lines = [
        "| feature | kernel | C | validation UAR % | WA % | test UAR % | WA % |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for name, its in result["by_feature"].items():
        cells = [f"{100 * its[part][key]:.1f}" for part in ("validation", "test") for key in ("uar", "wa")]
        lines.append(f"| {name} | {its['kernel']} | {its['c']:g} | {' | '.join(cells)} |")
    return [*lines, "", f"Best on the validation part: {result['best_feature']}.", ""]


def describe_sample(result: dict[str, Any]) -> list[str]:
    """How many training utterances are scored, where not all are."""
    n_scored = result["by_part"]["train"]["n_utterances"]
    if n_scored == result["parts"]["train"]["n_utterances"]:
        return []
    return [f"Of the training utterances {n_scored:,}, evenly spread, are scored.", ""]


def name_speakers(speakers: list[str]) -> str:
    return ", ".join(speakers) if len(speakers) <= 12 else f"{len(speakers)}"


if __name__ == "__main__":
    run_command(main, TrainConfig, TrainConfig.__doc__ or "", settings_of)
