"""Training in phases: what learns when, what chooses, going on after a kill; losses and rates by oracles."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from fins.store import EMOTIONS, Recording, Utterance, write_store
from ser_heads.attention import MaskedBatchNorm
from ser_heads.augmentation import Augmentation
from ser_heads.classifier import Classifier
from ser_heads.data import UtteranceTable
from ser_heads.fin_branch import FrozenOutputs
from ser_heads.models import ModelConfig, ModelName, build_model
from ser_heads.training import Epoch, Feed, Options, State, Training, averaging, balance, predict, rate_factor

QUICK = Options(
    frozen_epochs=4,
    finetuned_epochs=2,
    batch_size=16,
    learning_rate=5e-3,
    copies=1,
    augmentation=Augmentation(masked_time=0.0, n_masks=0, mixup=0.2),
)


def tone_recordings(emotions: tuple[str, ...] = EMOTIONS) -> list[Recording]:
    """From one pitch to another that says the emotion, in one octave or another: a chroma FIN hears it."""
    rng = np.random.default_rng(0)
    recordings = []
    for number in range(12 * len(emotions)):
        emotion = emotions[number % len(emotions)]
        n = int(rng.integers(8_000, 14_000))
        second = 220 * 2 ** (EMOTIONS.index(emotion) * 1.5 / 12 + rng.integers(3))
        hertz = np.where(np.arange(n) < n / 2, 233.0, second)
        signal = 0.3 * np.sin(2 * np.pi * np.cumsum(hertz) / 22_050)
        speaker = f"s{number // len(emotions) % 4}"
        utterance = Utterance(f"t{number:03d}", f"{number}.wav", "tones", speaker, emotion, "1")
        recordings.append(Recording(utterance, (signal * 32_767).astype(np.int16), f"sha{number}"))
    return recordings


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> UtteranceTable:
    path = tmp_path_factory.mktemp("tones") / "tones.h5"
    write_store(path, tone_recordings())
    return UtteranceTable([path])


def parts_of(table: UtteranceTable) -> dict[str, np.ndarray]:
    speaker = table.columns["speaker"]
    return {
        "train": np.flatnonzero((speaker == "s0") | (speaker == "s1")),
        "validation": np.flatnonzero(speaker == "s2"),
        "test": np.flatnonzero(speaker == "s3"),
    }


def training_of(
    table: UtteranceTable,
    checkpoint: Path,
    options: Options = QUICK,
    config: ModelConfig = ModelConfig("fin", fins=("chroma",)),  # noqa: B008
) -> Training:
    torch.manual_seed(0)
    model, _ = build_model(config)
    frozen = FrozenOutputs(model.fins, table, options.copies) if model.fins is not None else None
    parts = parts_of(table)
    model.calibrate(Feed(model, table, frozen), parts["train"])
    return Training(model, table, parts, options, frozen, checkpoint, torch.device("cpu"), seed=0)


def silent(state: State, done: int, n_steps: int) -> None:
    pass


def copy_of(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def test_it_learns_what_there_is_to_learn(table: UtteranceTable, tmp_path: Path) -> None:
    training = training_of(table, tmp_path / "c", Options(**{**vars(QUICK), "frozen_epochs": 12}))
    training.run(silent)
    test = parts_of(table)["test"]
    logits = predict(training.model, training.feed, test, torch.device("cpu"))
    assert (logits.argmax(axis=1) == table.emotion[test]).mean() > 0.9


def test_frozen_fins_stand_still_and_then_move(table: UtteranceTable, tmp_path: Path) -> None:
    training = training_of(table, tmp_path / "c")
    assert training.model.fins is not None
    before, phases = copy_of(training.model.fins), []

    def watch(state: State, done: int, n_steps: int) -> None:
        moved = any((before[its] != tensor).any() for its, tensor in training.model.fins.state_dict().items())
        phases.append((state.phase, moved))

    state = training.run(watch)
    assert {moved for phase, moved in phases if phase == "frozen"} == {False}
    assert {moved for phase, moved in phases if phase == "finetuned"} == {True}
    assert [row.phase for row in state.history] == ["frozen"] * 4 + ["finetuned"] * 2
    assert all((before[its] == training.frozen_best[f"fins.{its}"]).all() for its in before)


def test_without_a_frozen_phase_fins_learn_at_once(table: UtteranceTable, tmp_path: Path) -> None:
    options = replace(QUICK, frozen_epochs=0, finetuned_epochs=3, copies=0)
    model, _ = build_model(ModelConfig("fin", fins=("chroma",), pretraining="none"))
    parts = parts_of(table)
    model.calibrate(Feed(model, table), parts["train"])
    training = Training(model, table, parts, options, None, tmp_path / "c", torch.device("cpu"))
    assert training.model.fins is not None
    before = copy_of(training.model.fins)
    state = training.run(silent)
    assert [row.phase for row in state.history] == ["finetuned"] * 3
    learned = [name for name, _ in training.model.fins.named_parameters()]
    assert all((before[name] != training.model.fins.state_dict()[name]).any() for name in learned)


def test_the_test_part_is_never_read(
    table: UtteranceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: set[int] = set()
    batch = Feed.batch

    def spy(self: Feed, utterances: np.ndarray, *rest: object) -> object:
        read.update(map(int, utterances))
        return batch(self, utterances, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Feed, "batch", spy)
    training_of(table, tmp_path / "c").run(silent)
    parts = parts_of(table)
    assert not read & set(parts["test"].tolist())
    assert set(parts["train"].tolist()) <= read


def test_copies_train_and_originals_validate(
    table: UtteranceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: dict[bool, set[int]] = {True: set(), False: set()}
    batch = Feed.batch

    def spy(self: Feed, utterances: np.ndarray, copies: list[int], *rest: object) -> object:
        validating = set(map(int, utterances)) <= set(parts_of(table)["validation"].tolist())
        heard[validating].update(copies)
        return batch(self, utterances, copies, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Feed, "batch", spy)
    training_of(table, tmp_path / "c", Options(**{**vars(QUICK), "copies": 3})).run(silent)
    assert heard == {True: {0}, False: {0, 1, 2, 3}}


@pytest.mark.parametrize("kill_after", [2, 5])
def test_a_killed_run_goes_on_to_the_same_numbers(
    table: UtteranceTable, tmp_path: Path, kill_after: int
) -> None:
    whole = training_of(table, tmp_path / "whole")
    state = whole.run(silent)

    def kill(state: State, done: int, n_steps: int) -> None:
        if len(state.history) == kill_after and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training_of(table, tmp_path / "killed").run(kill)
    again = training_of(table, tmp_path / "killed")
    resumed = again.run(silent)

    def numbers(rows: list[Epoch]) -> list[tuple[float, ...]]:
        return [(row.train_loss, row.validation_loss, row.validation_uar, row.learning_rate) for row in rows]

    assert numbers(resumed.history) == numbers(state.history)
    for name, tensor in whole.best.items():
        assert torch.equal(tensor, again.best[name]), name
    assert all(torch.equal(its, again.frozen_best[name]) for name, its in whole.frozen_best.items())


def test_a_checkpoint_that_isnt_whole_is_said(table: UtteranceTable, tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(b"half")
    with pytest.raises(ValueError, match="delete it to start over"):
        training_of(table, tmp_path / "c")


def test_the_best_epoch_is_kept_and_no_progress_ends_a_phase(
    table: UtteranceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uars = [0.125, 0.5, 0.375, 0.375, 0.75, 0.25, 0.625, 0.375, 0.25, 0.25, 0.125]
    found = iter([(1 - place / 16, uar) for place, uar in enumerate(uars)])
    kept = []

    def validate(self: Training) -> tuple[float, float]:
        kept.append(copy_of(self.average))
        return next(found)

    monkeypatch.setattr(Training, "_validate", validate)
    options = Options(**{**vars(QUICK), "frozen_epochs": 20, "finetuned_epochs": 0, "patience": 3})
    training = training_of(table, tmp_path / "c", options)
    state = training.run(silent)
    assert len(state.history) == 11 and state.stopped == "converged"
    # by the mean of the last five, not by a single lucky one; of equals, the one of the lower loss
    assert (state.best_uar, state.best_loss, state.best_epoch) == (np.mean(uars[3:8]), 0.5625, 8)
    assert all(torch.equal(kept[7][name], tensor) for name, tensor in training.model.state_dict().items())


def test_a_lucky_first_epoch_ends_nothing_while_the_rate_rises(
    table: UtteranceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uars = iter([0.9] + 19 * [0.1])
    monkeypatch.setattr(Training, "_validate", lambda its: (1.0, next(uars)))
    options = Options(**{**vars(QUICK), "frozen_epochs": 20, "finetuned_epochs": 0, "patience": 2})
    state = training_of(table, tmp_path / "c", options).run(silent)
    # the rate rises for three epochs, of which the last one ends at .15; then there is patience for two
    assert len(state.history) == 5 and state.stopped == "converged" and state.best_epoch == 1


def test_a_budget_ends_both_phases_in_time(
    table: UtteranceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []  # each takes a sixteenth of a second by this clock, however fast the machine
    clock = SimpleNamespace(monotonic=lambda: len(steps) / 16)
    monkeypatch.setattr("ser_heads.training.time", clock)
    options = Options(**{**vars(QUICK), "frozen_epochs": 500, "finetuned_epochs": 500, "patience": 500})
    training = training_of(table, tmp_path / "c", options)
    training.seconds = 4.0
    state = training.run(lambda state, done, n_steps: steps.append(state.phase))
    assert state.stopped == "minutes" and state.seconds == len(steps) / 16 == 4
    assert steps.count("frozen") == math.ceil(16 * 0.6 * 4)  # no step begins once the phase's time is over
    assert {row.phase for row in state.history} == {"frozen", "finetuned"}
    # the rate came down to next to nothing all the same
    last = [row.learning_rate for row in state.history if row.phase == "frozen"][-1]
    assert last < 0.2 * QUICK.learning_rate


def test_losses(table: UtteranceTable, tmp_path: Path) -> None:
    logits = torch.randn(5, 8, dtype=torch.float64)
    emotion = torch.tensor([0, 3, 3, 7, 1])
    targets = nn.functional.one_hot(emotion, 8).double()

    def loss(**changes: object) -> torch.Tensor:
        options = Options(**{**vars(QUICK), "class_weights": 0.0, "label_smoothing": 0.0, **changes})
        return training_of(table, tmp_path / "none", options)._loss(logits, targets)

    entropy = nn.functional.cross_entropy
    torch.testing.assert_close(loss(), entropy(logits, emotion))
    torch.testing.assert_close(loss(label_smoothing=0.2), entropy(logits, emotion, label_smoothing=0.2))
    right = logits.softmax(dim=1)[range(5), emotion]
    focal = (-((1 - right) ** 2) * right.log()).mean()  # Lin and others 2017, equation 4
    torch.testing.assert_close(loss(loss="focal"), focal)
    torch.testing.assert_close(loss(loss="focal", focusing=0.0), entropy(logits, emotion))


def test_class_weights_are_powers_of_inverse_frequencies_in_each_corpus(tmp_path: Path) -> None:
    recordings = [row for row in tone_recordings() if row.utterance.emotion != "calm"]
    few = [row for i, row in enumerate(recordings) if row.utterance.emotion != "sad" or i % 2]
    other = [row for i, row in enumerate(recordings) if row.utterance.emotion in ("sad", "angry") or i % 3]
    other = [
        Recording(replace(row.utterance, corpus="others"), row.signal, f"other{row.sha256}") for row in other
    ]
    for name, rows in {"few": few, "other": other}.items():
        write_store(tmp_path / f"{name}.h5", rows)
    both = UtteranceTable([tmp_path / "few.h5", tmp_path / "other.h5"])
    training = training_of(both, tmp_path / "c", Options(**{**vars(QUICK), "class_weights": 1.0}))
    trained = parts_of(both)["train"]
    sums = []
    for corpus in ("tones", "others"):
        rows = trained[both.columns["corpus"][trained] == corpus]
        sums += [training.weights[rows[both.emotion[rows] == emotion]].sum() for emotion in range(8)]
    present = np.array(sums) > 0
    assert present.sum() == 14  # neither has calm
    np.testing.assert_allclose(sums, len(trained) / 14 * present, rtol=1e-6)
    square_root = balance(both, trained, 0.5)
    np.testing.assert_allclose(square_root[trained] ** 2, training.weights[trained], rtol=1e-6)
    assert (np.delete(training.weights, trained) == 1).all()
    batch = training.feed.batch([int(trained[0])], [0])
    assert (
        batch.targets()[0, both.emotion[trained[0]]] == training.weights[trained[0]] == batch.targets().sum()
    )
    # what no training utterance has is never answered, and costs nothing
    logits = torch.randn(4, 8)
    targets = nn.functional.one_hot(torch.tensor([0, 2, 3, 4]), 8).float()
    raised = logits.clone()
    raised[:, 1] += 5
    torch.testing.assert_close(training._loss(logits, targets), training._loss(raised, targets))


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_other_optimizers_train_and_go_on_where_they_were(
    table: UtteranceTable, tmp_path: Path, name: str
) -> None:
    options = Options(**{**vars(QUICK), "optimizer": name, "frozen_epochs": 2, "finetuned_epochs": 0})
    whole = training_of(table, tmp_path / "whole", options)
    whole.run(silent)
    killed = training_of(table, tmp_path / "killed", options)
    killed._epoch(silent)
    killed._save()
    again = training_of(table, tmp_path / "killed", options)
    again.run(silent)
    assert {type(its.optimizer) for its in (whole, again)} == {
        {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[name]
    }
    for key, tensor in whole.model.state_dict().items():
        torch.testing.assert_close(again.model.state_dict()[key], tensor, atol=0, rtol=0)


def test_an_average_forgets_random_weights_soon_and_is_a_moving_one_later() -> None:
    kept = [1.0]  # of the weights before the first step
    for step in range(1, 2_001):
        kept.append(kept[-1] * averaging(step))
    assert kept[30] < 1e-6 and averaging(10_000) == 0.99
    assert kept[2_000] / kept[1_000] == pytest.approx(0.99**1_000)


def test_rates_are_those_of_one_cycle() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1.0, total_steps=1_001, pct_start=0.15, div_factor=25, final_div_factor=1e9
    )
    for step in range(1_000):
        assert rate_factor(step / 1_000) == pytest.approx(schedule.get_last_lr()[0], abs=8e-3)
        optimizer.step()
        schedule.step()
    assert rate_factor(1.0) == rate_factor(1.5) == 0


def test_scales_are_deviations_of_training_frames(table: UtteranceTable) -> None:
    model, _ = build_model(ModelConfig("fin", fins=("rms", "chroma")))
    assert model.fins is not None
    outputs = FrozenOutputs(model.fins, table, 0)
    rows = parts_of(table)["train"]
    model.calibrate(Feed(model, table, outputs), rows)
    frames = []
    for row in rows:
        values = outputs(int(row), 0).astype(np.float64)
        values[:, 0] = 20 * np.log10(np.maximum(values[:, 0], 1e-5))
        values -= values.mean(axis=0)  # the channel
        frames.append(values)
    together = np.concatenate(frames)
    assert isinstance(model, Classifier) and model.scaling is not None
    np.testing.assert_allclose(model.scaling.mean.numpy(), together.mean(axis=0), atol=1e-3)
    np.testing.assert_allclose(model.scaling.deviation.numpy(), together.std(axis=0), rtol=1e-3)


@pytest.mark.parametrize("name", [name for name in get_args(ModelName)[1:] if name != "spectral_svm"])
def test_other_models_train_too(table: UtteranceTable, tmp_path: Path, name: str) -> None:
    options = Options(**{**vars(QUICK), "frozen_epochs": 1, "finetuned_epochs": 1, "penalty": 0.1})
    has_fins = name in ("fin_wavelet", "feature_cnn")
    config = ModelConfig(name, fins=("chroma",) if has_fins else None)  # type: ignore[arg-type]
    training = training_of(table, tmp_path / "c", options, config)
    weights = copy_of(training.model)
    state = training.run(silent)
    assert all(np.isfinite([row.train_loss, row.validation_loss]).all() for row in state.history)
    assert any((weights[its] != tensor).any() for its, tensor in training.best.items())
    assert len(state.history) == (2 if has_fins else 1)


def test_a_stretch_of_a_long_utterance_is_the_same_for_outputs_and_signal(table: UtteranceTable) -> None:
    model, _ = build_model(ModelConfig("fin", fins=("rms",)))
    assert model.fins is not None
    outputs = FrozenOutputs(model.fins, table, 1)
    rows = [0, 1, 2]
    feed = Feed(model, table, outputs)
    feed.signal = True
    cut = feed.batch(rows, [0, 1, 1], 5, np.random.default_rng(0))
    assert cut.signal is not None and cut.outputs is not None
    assert cut.n_frames.tolist() == [5, 5, 5] and cut.outputs.shape == (3, 5, 1)
    with torch.no_grad():
        torch.testing.assert_close(model.fins(cut.signal, cut.n_samples), cut.outputs, atol=1e-6, rtol=0)
    whole = Feed(model, table, outputs).batch(rows, [0, 1, 1])
    assert whole.n_frames.tolist() == [len(outputs(0, 0)), len(outputs(1, 1)), len(outputs(2, 1))]
    values, starts = outputs(0, 0), set()
    for seed in range(20):
        cut = Feed(model, table, outputs).batch([0], [0], 5, np.random.default_rng(seed))
        assert cut.outputs is not None
        places = range(len(values) - 4)
        starts |= {place for place in places if (values[place : place + 5] == cut.outputs[0].numpy()).all()}
    assert len(starts) > 3


class Rounded(torch.autograd.Function):
    """Values and gradients, kept in the 8 bits that bfloat16 has for their digits."""

    @staticmethod
    def forward(ctx: object, values: torch.Tensor) -> torch.Tensor:
        return values.bfloat16().float()

    @staticmethod
    def backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.bfloat16().float()


def products_of(module: nn.Module) -> list[nn.Module]:
    """The layers that multiply matrices, which is what mixed precision shortens."""
    return [its for its in module.modules() if isinstance(its, nn.Conv1d | nn.Conv2d | nn.Linear)]


def round_products(module: nn.Module) -> None:
    """Have them take and give rounded numbers, but multiply in float32: the oracle of bfloat16."""
    for product in products_of(module):
        for parameter in product.parameters():
            parameter.data = parameter.data.bfloat16().float()
        product.register_forward_pre_hook(lambda _, inputs: tuple(Rounded.apply(its) for its in inputs))
        product.register_forward_hook(lambda _, inputs, output: Rounded.apply(output))
    for norm in module.modules():
        if isinstance(norm, MaskedBatchNorm):  # of what is short it makes what is short
            norm.register_forward_hook(lambda _, inputs, output: Rounded.apply(output))


def dtypes_of(modules: Iterable[nn.Module]) -> list[torch.dtype]:
    """Fills with the types of what they give from now on."""
    dtypes: list[torch.dtype] = []
    for module in modules:
        module.register_forward_hook(lambda _, inputs, output: dtypes.append(output.dtype))
    return dtypes


def first_step(
    table: UtteranceTable, folder: Path, mixed: bool, rounded: bool = False
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The gradients of a model's first step, and the frames that went into its head."""
    training = training_of(table, folder, config=ModelConfig("fin", fins=("mel", "pitch")))
    assert isinstance(training.model, Classifier) and training.model.scaling is not None
    training.mixed = mixed
    if rounded:
        round_products(training.model.head)
    for module in training.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # of shorter numbers it draws others
    frames: list[torch.Tensor] = []
    training.model.scaling.register_forward_hook(lambda _, inputs, output: frames.append(output))
    dtypes = dtypes_of(products_of(training.model.head))
    batch = training.feed.batch(parts_of(table)["train"][:16], [0] * 16, 100, np.random.default_rng(0))
    training._step(batch, torch.Generator().manual_seed(0))
    assert set(dtypes) == {torch.bfloat16 if mixed else torch.float32}
    assert {its.dtype for its in training.model.state_dict().values()} == {torch.float32, torch.int64}
    parameters = training.model.head.named_parameters()
    gradients = {name: its.grad for name, its in parameters if its.grad is not None}
    assert {its.dtype for its in gradients.values()} == {torch.float32} and len(gradients) > 20
    return gradients, frames[0]


def test_a_mixed_step_is_off_by_what_eight_bits_leave_out(
    table: UtteranceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ser_heads.training.LARGEST_GRADIENT", np.inf)  # cut to a length they'd hide a factor
    whole, frames = first_step(table, tmp_path / "whole", mixed=False)
    rounded, _ = first_step(table, tmp_path / "rounded", mixed=False, rounded=True)
    mixed, mixed_frames = first_step(table, tmp_path / "mixed", mixed=True)
    assert torch.equal(mixed_frames, frames)  # what FINs say loses no digit

    def apart(ones: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> float:
        return math.hypot(*(float((ones[name] - others[name]).norm()) for name in ones))

    # a seventh of their length, as a sum near 0 may round to the other side of a ReLU; from one instruction
    # set to another it changes by a fiftieth of that
    assert apart(mixed, whole) == pytest.approx(apart(rounded, whole), rel=0.2)
    assert apart(mixed, rounded) < apart(rounded, whole)  # they round the same numbers
    for name, gradient in whole.items():
        off = float((rounded[name] - gradient).norm())
        assert 3 * off < float(gradient.norm()), name  # one that was left out would be seen
        assert off / 3 < float((mixed[name] - gradient).norm()) < 3 * off, name


def test_answers_are_in_float32_whatever_steps_are_in(table: UtteranceTable, tmp_path: Path) -> None:
    training = training_of(table, tmp_path / "c")
    assert isinstance(training.average, Classifier)
    dtypes = dtypes_of(products_of(training.average.head))
    validations, logits = [], []
    for mixed in (False, True):
        training.mixed = mixed
        validations.append(training._validate())
        logits.append(predict(training.average, training.feed, parts_of(table)["test"], torch.device("cpu")))
    assert set(dtypes) == {torch.float32} == {torch.from_numpy(its).dtype for its in logits}
    assert validations[0] == validations[1]
    np.testing.assert_array_equal(logits[0], logits[1])
