"""Training in phases: what learns when, what chooses, going on after a kill; losses and rates by oracles."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ser_heads
from data_manifests.labels import EMOTIONS
from ser_heads.frontends import FrameBatch
from ser_heads.layers.masked import MaskedBatchNorm
from ser_heads.model import SerModel
from ser_heads.models import MODELS, create
from ser_heads.training.cache import MemoryCache
from ser_heads.training.fitting import calibrate_norm
from ser_heads.training.objective import class_weights, loss_of, penalty_of, weighted_targets
from ser_heads.training.recipe import NO_AUGMENTATION, Augmentation, Recipe
from ser_heads.training.schedule import TimeBudget, averaging, rate_factor
from ser_heads.training.sources import FrameSource, logits_of
from ser_heads.training.state import SerEpoch, TrainingState
from ser_heads.training.trainer import Trainer

QUICK = Recipe(
    frozen_epochs=4,
    finetuned_epochs=2,
    batch_size=16,
    learning_rate=5e-3,
    copies=1,
    augmentation=Augmentation(masked_time=0.0, n_masks=0, mixup=0.2),
)


class Tones:
    """From one pitch to another that says the label, in one octave or another: a chroma FIN tells it."""

    def __init__(self, speaker: int, labels: Sequence[str] = EMOTIONS, n: int = 6) -> None:
        rng = np.random.default_rng(speaker)
        self.items: list[tuple[Tensor, str]] = []
        for number in range(n * len(labels)):
            label = labels[number % len(labels)]
            length = int(rng.integers(8_000, 14_000))
            second = 220 * 2 ** (list(labels).index(label) * 1.5 / 12 + rng.integers(3))
            hertz = np.where(np.arange(length) < length / 2, 233.0, second)
            signal = 0.3 * np.sin(2 * np.pi * np.cumsum(hertz) / 22_050)
            self.items.append((torch.from_numpy(signal.astype(np.float32)), label))
        self.names = [f"tones/s{speaker}-{place}" for place in range(len(self.items))]
        self.asked: list[int] = []

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, place: int) -> tuple[Tensor, str]:
        self.asked.append(place)
        return self.items[place]


TRAIN, VALIDATION, TEST = Tones(0, n=3), Tones(1, n=2), Tones(2, n=2)


def truth_of(dataset: Tones) -> np.ndarray:
    return np.array([EMOTIONS.index(label) for _, label in dataset.items])


def trainer_of(
    checkpoint: Path | None = None,
    recipe: Recipe = QUICK,
    model: str = "fin",
    budget: TimeBudget | None = None,
    **options: object,
) -> Trainer:
    torch.manual_seed(0)
    if model in ("fin", "fin_wavelet", "feature_cnn"):
        options = {"fins": ("chroma",), **options}
    if model == "wavelet_packet_net":
        options = {"depth": 2, **options}
    built, cache = create(model, EMOTIONS, **options), MemoryCache()
    calibrate_norm(built, FrameSource(built, TRAIN))
    return Trainer(
        built, TRAIN, VALIDATION, recipe, cache=cache, checkpoint=checkpoint, seed=0, budget=budget
    )


def copy_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def test_it_learns_what_there_is_to_learn() -> None:
    trainer = trainer_of(recipe=replace(QUICK, frozen_epochs=12))
    trainer.run()
    assert (trainer.logits(TEST).argmax(axis=1) == truth_of(TEST)).mean() > 0.9
    # the same from waveforms alone, without any cache
    torch.testing.assert_close(
        torch.from_numpy(logits_of(trainer.model, TEST)),
        torch.from_numpy(trainer.logits(TEST)),
        atol=1e-3,
        rtol=1e-3,
    )


def test_frozen_fins_stand_still_and_then_move(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = trainer_of()
    before, phases = copy_of(trainer.model.frontend), []
    step = Trainer._step

    def watched(self: Trainer, *rest: object) -> float:
        loss = step(self, *rest)  # type: ignore[arg-type]
        now = self.model.frontend.state_dict()
        phases.append((self.state.phase, any((before[name] != now[name]).any() for name in before)))
        return loss

    monkeypatch.setattr(Trainer, "_step", watched)
    state = trainer.run()
    assert {moved for phase, moved in phases if phase == "frozen"} == {False}
    assert {moved for phase, moved in phases if phase == "finetuned"} == {True}
    assert [row.phase for row in state.history] == ["frozen"] * 4 + ["finetuned"] * 2
    assert all((before[name] == trainer.frozen_best[f"frontend.{name}"]).all() for name in before)
    assert trainer.logits(TEST, frozen=True).shape == (16, 8)


@pytest.mark.parametrize("name", ["weight_decay", "penalty", "class_weights"])
@pytest.mark.parametrize("value", [-0.2, math.inf, math.nan])
def test_weights_of_a_recipe_are_not_negative(name: str, value: float) -> None:
    with pytest.raises(ValueError, match="--class-weights, --penalty and --weight-decay are at least 0"):
        replace(QUICK, **{name: value})


@pytest.mark.parametrize("finetuning_rate", [1e-5, 1e-2])
def test_wavelets_learn_late_slowly_and_without_decay(finetuning_rate: float) -> None:
    recipe = replace(QUICK, finetuning_rate=finetuning_rate, fin_rate=1e-7, penalty=1.0, weight_decay=0.5)
    trainer = trainer_of(recipe=recipe, model="fin_wavelet")
    packet = trainer.model.frontend.parts[1].packet  # type: ignore[union-attr]
    before = packet.kernels.detach().clone()
    assert trainer.kept == [True, True] and len(trainer.optimizer.param_groups) == 1
    trainer.run()
    rest, fins, kernels = trainer.optimizer.param_groups
    assert (fins["peak"], fins["weight_decay"]) == (1e-7, 0.0)
    assert (kernels["peak"], kernels["weight_decay"]) == (min(finetuning_rate, 1e-4), 0.0)
    assert (rest["peak"], rest["weight_decay"]) == (finetuning_rate, 0.5)
    front = trainer.model.frontend
    assert {*map(id, kernels["params"])} == {*map(id, front.parts[1].parameters())}
    assert {*map(id, fins["params"])} == {*map(id, front.parts[0].parameters())}
    n_params = sum(len(group["params"]) for group in (rest, fins, kernels))
    assert n_params == len(list(trainer.model.parameters())) and trainer.kept == [False, False]
    frozen = trainer.frozen_best["frontend.members.1.packet.kernels"]
    assert torch.equal(frozen, before)
    last = trainer.average.frontend.parts[1].packet.kernels  # type: ignore[union-attr]
    n_steps = 2 * 2  # of two epochs of 24 recordings
    assert 0 < (last - before).abs().max() < 1.1 * n_steps * kernels["peak"]


def test_without_a_frozen_phase_fins_learn_at_once() -> None:
    recipe = replace(QUICK, frozen_epochs=0, finetuned_epochs=3, copies=0)
    trainer = trainer_of(recipe=recipe, pretraining="none")
    before = copy_of(trainer.model.frontend)
    state = trainer.run()
    assert [row.phase for row in state.history] == ["finetuned"] * 3
    learned = [name for name, _ in trainer.model.frontend.named_parameters()]
    assert learned
    assert all((before[name] != trainer.model.frontend.state_dict()[name]).any() for name in learned)


def test_copies_train_and_originals_validate(monkeypatch: pytest.MonkeyPatch) -> None:
    used: dict[bool, set[int]] = {True: set(), False: set()}
    batch = FrameSource.batch

    def spy(self: FrameSource, places: object, copies: object = None, *rest: object) -> object:
        numbers = [0] if copies is None else [int(copy) for copy in copies]  # type: ignore[attr-defined]
        used[self.dataset is VALIDATION].update(numbers)
        return batch(self, places, copies, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(FrameSource, "batch", spy)
    trainer_of(recipe=replace(QUICK, copies=3)).run()
    assert used == {True: {0}, False: {0, 1, 2, 3}}


@pytest.mark.parametrize("kill_after", [2, 5])
def test_a_killed_run_goes_on_to_the_same_numbers(
    tmp_path: Path, kill_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trainer_of(tmp_path / "whole")
    state = whole.run()
    step, count = Trainer._step, {"steps": 0}

    def kill(self: Trainer, *rest: object) -> float:
        count["steps"] += len(self.state.history) == kill_after
        if count["steps"] == 2:
            raise KeyboardInterrupt
        return step(self, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Trainer, "_step", kill)
        trainer_of(tmp_path / "killed").run()
    again = trainer_of(tmp_path / "killed")
    resumed = again.run()

    def numbers(rows: list[SerEpoch]) -> list[tuple[float, ...]]:
        return [(row.train_loss, row.validation_loss, row.validation_uar, row.learning_rate) for row in rows]

    assert numbers(resumed.history) == numbers(state.history)
    for name, tensor in whole.best.items():
        assert torch.equal(tensor, again.best[name]), name
    for name, tensor in whole.frozen_best.items():
        assert torch.equal(tensor, again.frozen_best[name])


def test_a_checkpoint_that_isnt_whole_is_named(tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(b"half")
    with pytest.raises(ValueError, match="delete it to start over"):
        trainer_of(tmp_path / "c")


def test_the_best_epoch_is_kept_and_no_progress_ends_a_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    uars = [0.125, 0.5, 0.375, 0.375, 0.75, 0.25, 0.625, 0.375, 0.25, 0.25, 0.125]
    results = iter([(1 - place / 16, uar) for place, uar in enumerate(uars)])
    averages = []

    def validate(self: Trainer) -> tuple[float, float]:
        averages.append(copy_of(self.average))
        return next(results)

    monkeypatch.setattr(Trainer, "_validate", validate)
    trainer = trainer_of(recipe=replace(QUICK, frozen_epochs=20, finetuned_epochs=0, patience=3))
    state = trainer.run()
    assert len(state.history) == 11 and state.stopped == "converged"
    # by the mean of the last five, not by a single lucky one; of equals, the one of the lower loss
    assert (state.best_uar, state.best_loss, state.best_epoch) == (np.mean(uars[3:8]), 0.5625, 8)
    now = trainer.model.state_dict()
    assert all(torch.equal(averages[7][name], tensor) for name, tensor in now.items())


def test_a_lucky_first_epoch_ends_nothing_while_the_rate_rises(monkeypatch: pytest.MonkeyPatch) -> None:
    uars = iter([0.9] + 19 * [0.1])
    monkeypatch.setattr(Trainer, "_validate", lambda self: (1.0, next(uars)))
    state = trainer_of(recipe=replace(QUICK, frozen_epochs=20, finetuned_epochs=0, patience=2)).run()
    # the rate rises for three epochs, of which the last one ends at .15; then there is patience for two
    assert len(state.history) == 5 and state.stopped == "converged" and state.best_epoch == 1


def test_a_budget_ends_both_phases_in_time() -> None:
    recipe = replace(QUICK, frozen_epochs=500, finetuned_epochs=500, patience=500)
    trainer = trainer_of(recipe=recipe, budget=TimeBudget(5.0, ending=1.0))
    left = trainer.budget.seconds - trainer.budget.ending  # without what the trainer's own making took
    state = trainer.run()
    assert state.stopped == "minutes" and 0.5 * left < state.seconds < left + 2.5
    assert {row.phase for row in state.history} == {"frozen", "finetuned"}
    # the rate came down to next to nothing all the same
    last = [row.learning_rate for row in state.history if row.phase == "frozen"][-1]
    assert last < 0.2 * QUICK.learning_rate


class SlowCache(MemoryCache):
    """As one that has to make all of its frames first."""

    def make(self, *arguments: Any) -> None:
        time.sleep(0.2)
        super().make(*arguments)


def test_what_making_frames_takes_is_taken_from_the_budget() -> None:
    model = create("fin", EMOTIONS, fins=("chroma",))
    for parameter in model.frontend.pretrained():
        parameter.requires_grad_(False)
    recipe, budget = replace(QUICK, copies=1), TimeBudget(5.0, ending=1.0, n_scored=2 * len(TRAIN))
    trainer = Trainer(model, TRAIN, VALIDATION, recipe, cache=SlowCache(), budget=budget)
    made = 5.0 - trainer.budget.seconds  # of the train and the validation part, .2 seconds each
    assert 0.4 <= made < 2.0
    n_made = 2 * len(TRAIN) + len(VALIDATION)
    assert trainer.budget.ending == pytest.approx(1.0 + made * 2 * len(TRAIN) / n_made)


def test_a_budget_too_short_for_anything_still_trains_an_epoch() -> None:
    state = trainer_of(budget=TimeBudget(0.01, ending=10.0, n_scored=1_000)).run()
    assert len(state.history) == 1 and state.stopped == "minutes" and state.n_steps >= 1


def test_losses() -> None:
    logits = torch.randn(5, 8, dtype=torch.float64)
    places = torch.tensor([0, 3, 3, 7, 1])
    targets = nn.functional.one_hot(places, 8).double()

    def loss(**changes: object) -> Tensor:
        return loss_of(logits, targets, replace(QUICK, **{"label_smoothing": 0.0, **changes}))  # type: ignore[arg-type]

    entropy = nn.functional.cross_entropy
    torch.testing.assert_close(loss(), entropy(logits, places))
    torch.testing.assert_close(loss(label_smoothing=0.2), entropy(logits, places, label_smoothing=0.2))
    right = logits.softmax(dim=1)[range(5), places]
    focal = (-((1 - right) ** 2) * right.log()).mean()  # Lin and others 2017, equation 4
    torch.testing.assert_close(loss(loss="focal"), focal)
    torch.testing.assert_close(loss(loss="focal", focusing=0.0), entropy(logits, places))
    with pytest.raises(ValueError, match=r"shape \(5, 1\), needed is \(5, 8\)"):
        loss_of(logits[:, :1], targets, QUICK)


def test_class_weights_are_powers_of_inverse_frequencies_in_each_corpus() -> None:
    targets = np.array([0, 0, 0, 1, 1, 2, 0, 1, 1, 1])
    groups = ["a"] * 6 + ["b"] * 4
    weights = class_weights(targets, groups, 1.0)
    counts = np.array([3, 3, 3, 2, 2, 1, 1, 3, 3, 3])
    np.testing.assert_allclose(weights, 2.0 / counts, rtol=1e-6)  # 10 recordings in 5 cells
    np.testing.assert_allclose(class_weights(targets, groups, 0.5) ** 2, weights, rtol=1e-6)
    assert (class_weights(targets, groups, 0.0) == 1).all()
    shares = weighted_targets(torch.tensor([2, 0]), torch.tensor([0.5, 3.0]), 4)
    assert shares.tolist() == [[0, 0, 0.5, 0], [3, 0, 0, 0]]


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_other_optimizers_train_and_go_on_where_they_were(tmp_path: Path, name: str) -> None:
    recipe = replace(QUICK, optimizer=name, frozen_epochs=2, finetuned_epochs=0)  # type: ignore[arg-type]
    whole = trainer_of(tmp_path / "whole", recipe)
    whole.run()
    killed = trainer_of(tmp_path / "killed", recipe)
    killed._epoch()
    killed._save()
    again = trainer_of(tmp_path / "killed", recipe)
    again.run()
    kind = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[name]
    assert {type(trainer.optimizer) for trainer in (whole, again)} == {kind}
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


@pytest.mark.parametrize(
    "name", [name for name, entry in MODELS.items() if entry.fit is None and name != "fin"]
)
def test_other_models_train_too(name: str) -> None:
    recipe = replace(QUICK, frozen_epochs=1, finetuned_epochs=1, penalty=0.1, copies=0)
    trainer = trainer_of(recipe=recipe, model=name)
    weights = copy_of(trainer.model)
    state = trainer.run()
    assert all(np.isfinite([row.train_loss, row.validation_loss]).all() for row in state.history)
    assert any((weights[key] != tensor).any() for key, tensor in trainer.best.items())
    assert len(state.history) == (2 if name in ("wavelet", "fin_wavelet", "feature_cnn") else 1)
    assert (penalty_of(trainer.model) is None) == ("wavelet" not in name)


def test_a_stretch_of_a_long_recording_is_the_same_for_kept_and_computed_frames() -> None:
    model = create("fin", EMOTIONS, fins=("rms",))
    for parameter in model.frontend.pretrained():
        parameter.requires_grad_(False)
    kept = FrameSource(model, TRAIN, MemoryCache(), copies=1)
    computed = FrameSource(model, TRAIN)
    assert kept.kept == [True] and computed.kept == [False]
    crop = 5 * 512 / 22_050  # seconds, five frames
    cut, targets = kept.batch([0, 1, 2], [0, 1, 1], crop, np.random.default_rng(0))
    same, _ = computed.batch([0, 1, 2], [0, 1, 1], crop, np.random.default_rng(0))
    assert cut.lengths.tolist() == [5, 5, 5] and cut.values.shape == (3, 5, 1)
    torch.testing.assert_close(cut.values, same.values, atol=1e-6, rtol=0)
    assert targets.argmax(dim=1).tolist() == [0, 1, 2]
    values, starts = kept.batch([0])[0].values[0], set()
    for seed in range(20):
        part = kept.batch([0], [0], crop, np.random.default_rng(seed))[0].values[0]
        starts |= {place for place in range(len(values) - 4) if torch.equal(values[place : place + 5], part)}
    assert len(starts) > 3


class Rounded(torch.autograd.Function):
    """Values and gradients, kept in the 8 bits that bfloat16 has for their digits."""

    @staticmethod
    def forward(ctx: object, values: Tensor) -> Tensor:
        return values.bfloat16().float()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient.bfloat16().float()


def products_of(module: nn.Module) -> list[nn.Module]:
    """The layers that multiply matrices, which is what mixed precision shortens."""
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear)]


def round_products(module: nn.Module) -> None:
    """Have them take and give rounded numbers, but multiply in float32: the oracle of bfloat16."""
    for product in products_of(module):
        for parameter in product.parameters():
            parameter.data = parameter.data.bfloat16().float()
        product.register_forward_pre_hook(lambda _, inputs: tuple(Rounded.apply(x) for x in inputs))
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


def first_step(mixed: bool, rounded: bool = False) -> tuple[dict[str, Tensor], Tensor]:
    """The gradients of a model's first step, and the frames that went into its head."""
    recipe = replace(QUICK, augmentation=replace(NO_AUGMENTATION, seconds=2.3), copies=0)
    trainer = trainer_of(recipe=recipe, fins=("mel", "pitch"))
    trainer.mixed = mixed
    if rounded:
        round_products(trainer.model.head)
    for module in trainer.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # of shorter numbers it draws others
    frames: list[FrameBatch] = []
    trainer.model.norm.register_forward_hook(lambda _, inputs, output: frames.append(output))
    dtypes = dtypes_of(products_of(trainer.model.head))
    trainer.model.train()
    with trainer.watch.bar(1, "steps") as bar:
        trainer._step(np.arange(16), np.random.default_rng(0), torch.Generator().manual_seed(0), bar)
    assert set(dtypes) == {torch.bfloat16 if mixed else torch.float32}
    assert {tensor.dtype for tensor in trainer.model.state_dict().values()} == {torch.float32, torch.int64}
    parameters = trainer.model.head.named_parameters()
    gradients = {name: parameter.grad for name, parameter in parameters if parameter.grad is not None}
    assert {grad.dtype for grad in gradients.values()} == {torch.float32} and len(gradients) > 20
    return gradients, frames[0].values


def test_a_mixed_step_is_off_by_what_eight_bits_leave_out(monkeypatch: pytest.MonkeyPatch) -> None:
    # cut to a length they'd hide a factor
    monkeypatch.setattr("ser_heads.training.trainer.LARGEST_GRADIENT", np.inf)
    whole, frames = first_step(mixed=False)
    rounded, _ = first_step(mixed=False, rounded=True)
    mixed, mixed_frames = first_step(mixed=True)
    assert torch.equal(mixed_frames, frames)  # what FINs say loses no digit

    def apart(ones: dict[str, Tensor], others: dict[str, Tensor]) -> float:
        return math.hypot(*(float((ones[name] - others[name]).norm()) for name in ones))

    # a seventh of their length, as a sum near 0 may round to the other side of a ReLU; from one instruction
    # set to another it changes by a fiftieth of that
    assert apart(mixed, whole) == pytest.approx(apart(rounded, whole), rel=0.2)
    assert apart(mixed, rounded) < apart(rounded, whole)  # they round the same numbers
    for name, gradient in whole.items():
        off = float((rounded[name] - gradient).norm())
        assert 2 * off < float(gradient.norm()), name  # one that was left out would be seen
        assert off / 2 < float((mixed[name] - gradient).norm()) < 2 * off, name


def test_answers_are_in_float32_whatever_steps_are_in() -> None:
    trainer = trainer_of()
    dtypes = dtypes_of(products_of(trainer.average.head))
    validations = []
    for mixed in (False, True):
        trainer.mixed = mixed
        validations.append(trainer._validate())
    assert set(dtypes) == {torch.float32} and trainer.logits(TEST).dtype == np.float32
    assert validations[0] == validations[1]


def test_any_torch_dataset_is_fitted_and_its_faults_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = ("bored", "stressed", "relaxed")
    chosen_by: list[tuple[np.ndarray, np.ndarray]] = []

    def choose(confidence: np.ndarray, right: np.ndarray) -> float:
        chosen_by.append((confidence, right))
        return 0.37

    monkeypatch.setattr("ser_heads.training.fitting.fit_abstention", choose)
    torch.manual_seed(0)
    model = ser_heads.create("fin", labels=labels, fins=("chroma",))
    state = ser_heads.fit(model, Tones(0, labels), Tones(1, labels), QUICK)
    assert isinstance(state, TrainingState) and state.done and not model.training
    test = Tones(2, labels)
    logits = model(test[0][0][None])
    assert logits.shape == (1, 3)
    answers = logits_of(model, test).argmax(axis=1)
    assert (
        np.mean([labels[answer] == label for answer, (_, label) in zip(answers, test.items, strict=True)])
        > 0.8
    )
    assert model.temperature != 1
    scaled = torch.from_numpy(logits_of(model, Tones(1, labels))) / model.temperature
    shares = scaled.softmax(dim=1).numpy()
    right = shares.argmax(axis=1) == [labels.index(label) for _, label in Tones(1, labels).items]
    ((confidence, was_right),) = chosen_by
    np.testing.assert_allclose(confidence, shares.max(axis=1), rtol=1e-4)
    np.testing.assert_array_equal(was_right, right)
    assert float(model.abstention) == pytest.approx(0.37)

    with pytest.raises(ValueError, match="makes copies by 'apart': give the dataset that word"):
        ser_heads.fit(model, Tones(0, labels), None, replace(QUICK, copies=1, copying="apart"))
    for fault, words in (
        (lambda waveform, label: (waveform, "angry"), "item 4 of the dataset has the label 'angry'"),
        (lambda waveform, label: (waveform[None], label), r"item 4 .* \(1, "),
        (lambda waveform, label: (waveform * float("nan"), label), "item 4 .* NaN"),
        (lambda waveform, label: (waveform, 3), "item 4 of the dataset has the label 3"),
    ):
        broken = Tones(0, labels)
        broken.items[4] = fault(*broken.items[4])
        with pytest.raises(ValueError, match=words):
            ser_heads.fit(model, broken, Tones(1, labels), QUICK)


def test_a_svm_has_no_gradient_to_fit_by() -> None:
    model: SerModel = create("spectral_svm", EMOTIONS)
    with pytest.raises(ValueError, match="isn't trained by gradient"):
        ser_heads.fit(model, TRAIN, VALIDATION)
