"""Training a classifier in phases: with what it knows already as it is, then everything at small rates."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fins.progress import SILENT, Bar, Watch
from fins.tensors import moments_of, restore_moments, restore_state, save_tensors
from ser_heads.evaluation.scores import count_confusions, metrics
from ser_heads.model import SerModel
from ser_heads.training.augmentation import augment_frames, augment_outputs
from ser_heads.training.cache import FrameCache
from ser_heads.training.datasets import SpeechDataset, look_through
from ser_heads.training.objective import class_weights, loss_of, penalty_of
from ser_heads.training.recipe import Recipe
from ser_heads.training.schedule import (
    WARM_UP,
    LogarithmicSteps,
    TimeBudget,
    averaging,
    constrain,
    learning_late,
    multiplies_bfloat16,
    optimizer_of,
    rate_factor,
    recent_means,
)
from ser_heads.training.sources import FrameSource, kept_parts, logits_from, logits_of, random_batches
from ser_heads.training.state import Phase, SerEpoch, TrainingState

LARGEST_GRADIENT = 5.0  # length of all gradients together
KERNEL_RATE = 1e-4  # of wavelet packets, at most
FROZEN_SHARE = 0.6  # of a budget of time, where a second phase follows


class Trainer:
    """A classifier being trained; `run` goes on from the checkpoint, if there is one, to the end.

    train, validation : datasets; a test part has no place here. Without validation the last epoch is kept
    cache : where frames of what doesn't learn come from; None computes all of them each time
    Steps are in mixed precision where the machine is made for it; answers are in float32. Validation chooses
    the epoch: by the mean UAR of the last five, and by its own loss among equals. The second phase starts
    from the best of the first, which stands until an epoch does better. A budget never undoes work: one epoch
    at least is trained. Raises ValueError if the loss is no finite number.
    """

    def __init__(
        self,
        model: SerModel,
        train: SpeechDataset,
        validation: SpeechDataset | None,
        recipe: Recipe,
        *,
        cache: FrameCache | None = None,
        checkpoint: Path | None = None,
        device: torch.device | None = None,
        seed: int = 0,
        budget: TimeBudget | None = None,
        watch: Watch = SILENT,
    ) -> None:
        self.device = device or torch.device("cpu")
        self.model, self.recipe, self.seed = model.to(self.device), recipe, seed
        self.train, self.validation, self.cache = train, validation, cache
        self.checkpoint, self.budget, self.watch = checkpoint, budget, watch
        self.mixed = multiplies_bfloat16(self.device)
        self.state = TrainingState()
        self.validating = 0.0  # seconds that the last validation took
        self.facts = look_through(train, model.labels)
        self.validation_facts = None if validation is None else look_through(validation, model.labels)
        self.weights = class_weights(self.facts.targets, self.facts.groups, recipe.class_weights)
        self.average = copy.deepcopy(self.model)
        self.best = _copy(self.average)
        self.frozen_best: dict[str, Tensor] = {}
        self._freeze(True)
        self.frozen_kept = kept_parts(self.model)
        began = time.monotonic()
        self._begin_phase("frozen" if recipe.frozen_epochs else "finetuned")
        if checkpoint is not None and checkpoint.exists():
            restore_state(checkpoint, self._restore)
        self._count_making(time.monotonic() - began)

    def run(self, after_epoch: Callable[[TrainingState], None] = lambda state: None) -> TrainingState:
        """Train to the end of both phases or of the time; the model then has its best weights.

        after_epoch : called with the state once an epoch is in the checkpoint
        """
        state = self.state
        while not state.done:
            if not state.stopped:
                self._epoch()
            if state.stopped:
                self._next_phase()
            self._save()
            after_epoch(state)
        self.model.load_state_dict(self.best)
        return state

    def finetunes(self) -> bool:
        """Whether a second phase has anything to finetune."""
        pretrained = any(True for _ in self.model.frontend.pretrained())
        return pretrained and self.recipe.finetuned_epochs > 0 and self.recipe.frozen_epochs > 0

    def logits(self, dataset: SpeechDataset, frozen: bool = False) -> NDArray[np.float32]:
        """(n, n_classes) of a dataset by the best weights, or by the best ones of the first phase."""
        if not frozen:
            return logits_of(self.model, dataset, self.cache, device=self.device, kept=self.kept)
        self.model.load_state_dict(self.frozen_best)
        kept = self.frozen_kept
        logits = logits_of(self.model, dataset, self.cache, device=self.device, kept=kept)
        self.model.load_state_dict(self.best)
        return logits

    def _count_making(self, seconds: float) -> None:
        """Of a budget: what making the kept frames took, and will take of what is scored afterwards."""
        if self.budget is None:
            return
        n_made = len(self.train) * (self.recipe.copies + 1) + len(self.validation or ())
        left, ending = self.budget.seconds - seconds, self.budget.n_scored * seconds / n_made
        self.budget = replace(self.budget, seconds=left, ending=self.budget.ending + ending)

    def _n_epochs(self) -> int:
        recipe = self.recipe
        return recipe.frozen_epochs if self.state.phase == "frozen" else recipe.finetuned_epochs

    def _seconds_left(self) -> float | None:
        """What this phase may take in all; of a budget, the second one gets a fixed share."""
        if self.budget is None:
            return None
        each = self.validating / max(1, len(self.validation or ()))
        left = self.budget.seconds - self.budget.ending - each * self.budget.n_scored - self.validating
        if self.state.phase == "frozen" and self.finetunes():
            return left * FROZEN_SHARE
        return left - (self.state.seconds - self.state.phase_seconds)

    def _begin_phase(self, phase: Phase) -> None:
        recipe, state = self.recipe, self.state
        state.phase, state.epoch, state.since_best, state.stopped = phase, 0, 0, ""
        state.phase_seconds = 0.0
        self._freeze(phase == "frozen")
        frontend = self.model.frontend
        pretrained, kernels = (dict.fromkeys(those) for those in (frontend.pretrained(), frontend.kernels()))
        by_factors = phase == "finetuned" and recipe.fin_tuning == "bands"
        self.steps = LogarithmicSteps([one for one in frontend.band_weights() if by_factors])
        fins = [one for one in pretrained if one.requires_grad and one not in kernels]
        fins = self.steps.exponents or fins
        others = [parameter for parameter in self.model.parameters() if parameter not in pretrained]
        rate = recipe.learning_rate if phase == "frozen" else recipe.finetuning_rate
        groups: list[dict[str, Any]] = [{"params": others, "peak": rate, "weight_decay": recipe.weight_decay}]
        own_rates = ((fins, recipe.fin_rate), (list(kernels), min(recipe.finetuning_rate, KERNEL_RATE)))
        for parameters, peak in own_rates if phase == "finetuned" else ():
            if parameters:
                groups.append({"params": parameters, "peak": peak, "weight_decay": 0.0})
        self.optimizer = optimizer_of(recipe.optimizer, groups, rate)
        self.kept = kept_parts(self.model)
        shared: Any = {"cache": self.cache, "kept": self.kept, "device": self.device}
        self.source = FrameSource(
            self.model, self.train, copies=recipe.copies, weights=self.weights, facts=self.facts, **shared
        )
        if self.validation is not None:
            self.validation_source = FrameSource(
                self.average, self.validation, facts=self.validation_facts, **shared
            )

    def _freeze(self, frozen: bool) -> None:
        frontend = self.model.frontend
        learning = [] if frozen else learning_late(frontend, self.recipe)
        for parameter in frontend.pretrained():
            parameter.requires_grad_(any(parameter is one for one in learning))

    def _next_phase(self) -> None:
        state = self.state
        if state.phase == "frozen":
            self.frozen_best = {name: tensor.clone() for name, tensor in self.best.items()}
            if self.finetunes() and not (state.stopped == "minutes" and self._has_spent_all()):
                self.model.load_state_dict(self.best)
                self.average.load_state_dict(self.best)
                self._begin_phase("finetuned")
                return
        state.done = True

    def _has_spent_all(self) -> bool:
        return self.budget is not None and self.state.seconds >= self.budget.seconds - self.budget.ending

    def _epoch(self) -> None:
        state, recipe = self.state, self.recipe
        started = time.monotonic()
        before, before_phase = state.seconds, state.phase_seconds
        rng = np.random.default_rng([self.seed, 0 if state.phase == "frozen" else 1, state.epoch])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        torch.manual_seed(int(rng.integers(2**62)))  # of dropout
        batches = random_batches(len(self.train), recipe.batch_size, rng)
        self.model.train()
        losses: list[float] = []
        rate, share = 0.0, 0.0
        with self.watch.bar(len(batches), "batches", self._title()) as bar:
            for number, places in enumerate(batches):
                spent = before_phase + time.monotonic() - started
                share = (state.epoch + number / len(batches)) / self._n_epochs()
                left = self._seconds_left()
                if left is not None:
                    if spent >= left and (losses or state.epoch):
                        state.stopped = "minutes"
                        break
                    share = min(1.0, max(share, spent / left)) if left > 0 else 1.0
                rate = self._set_rate(share)
                losses.append(self._step(places, rng, generator, bar))
        if not losses:  # the time was spent before the epoch's first step
            return
        if not np.isfinite(np.mean(losses)):
            raise ValueError("training diverged: the loss is no finite number; use a lower --learning-rate")
        loss, uar = self._validate()
        state.seconds = before + time.monotonic() - started
        state.phase_seconds = before_phase + time.monotonic() - started
        row = (round(state.seconds, 1), rate, float(np.mean(losses)), loss, uar)
        state.history.append(SerEpoch(len(state.history) + 1, state.phase, *row))
        self._choose(loss, share)

    def _choose(self, loss: float, share: float) -> None:
        """Whether the epoch that just ended is the best, and whether it was the last of its phase."""
        state = self.state
        if self.validation is None:
            self._keep()
        else:
            self._keep_if_best(loss, share)
        state.epoch += 1
        if not state.stopped:
            if state.since_best >= self.recipe.patience:
                state.stopped = "converged"
            elif state.epoch >= self._n_epochs():
                state.stopped = "epochs"

    def _keep_if_best(self, loss: float, share: float) -> None:
        state = self.state
        recent = recent_means([row.validation_uar for row in state.history])[-1]
        if (recent, -loss) > (state.best_uar, -state.best_loss):
            state.best_uar, state.best_loss, state.since_best = recent, loss, 0
            self._keep()
        elif share >= WARM_UP:  # while the rate rises a lucky first epoch ends nothing
            state.since_best += 1

    def _keep(self) -> None:
        self.state.best_epoch = len(self.state.history)
        self.best = _copy(self.average)

    def _title(self) -> str:
        state = self.state
        if not state.history or self.validation is None:
            return f"{state.phase}, epoch {state.epoch + 1}"
        last = state.history[-1].validation_uar
        return f"{state.phase}, epoch {state.epoch + 1}, UAR {last:.3f}, best {state.best_uar:.3f}"

    def _step(
        self, places: NDArray[np.int64], rng: np.random.Generator, generator: torch.Generator, bar: Bar
    ) -> float:
        recipe, layout = self.recipe, self.model.layout
        copies = rng.integers(recipe.copies + 1, size=len(places))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
            frames, targets = self.source.batch(places, copies, recipe.augmentation.seconds, rng)
            frames = self.model.norm(augment_outputs(frames, layout, recipe.augmentation, generator))
            frames, targets = augment_frames(frames, targets, layout, recipe.augmentation, generator)
            logits = self.model.head(frames)
        loss = loss_of(logits.float(), targets, recipe)
        penalty = penalty_of(self.model) if recipe.penalty else None
        if penalty is not None:
            loss = loss + recipe.penalty * penalty
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), LARGEST_GRADIENT)
        self.steps.before()
        self.optimizer.step()
        self.steps.after()
        constrain(self.model)
        self._take_into_average()
        bar.update()
        return float(loss.detach())

    def _take_into_average(self) -> None:
        self.state.n_steps += 1
        share = averaging(self.state.n_steps)
        both = zip(self.average.state_dict().values(), self.model.state_dict().values(), strict=True)
        with torch.no_grad():
            for average, new in both:
                if average.dtype.is_floating_point:
                    average.lerp_(new, 1 - share)
                else:
                    average.copy_(new)

    def _validate(self) -> tuple[float, float]:
        """Loss without weights and smoothing, and UAR, of the averaged weights on the validation part; NaN
        if there is none."""
        if self.validation is None:
            return math.nan, math.nan
        start = time.monotonic()
        logits = logits_from(self.average, self.validation_source)
        self.validating = time.monotonic() - start
        truth = self.validation_source.facts.targets
        log = torch.from_numpy(logits).log_softmax(dim=1)
        loss = -log[torch.arange(len(truth)), torch.from_numpy(truth)].mean()
        n_classes = len(self.model.labels)
        _, confusions = count_confusions(truth, logits.argmax(axis=1), ["all"] * len(truth), n_classes)
        return float(loss), float(metrics(confusions)["uar"][0])

    def _set_rate(self, share: float) -> float:
        factor = rate_factor(share)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        return float(self.optimizer.param_groups[0]["lr"])

    def _save(self) -> None:
        if self.checkpoint is None:
            return
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"average.{name}": tensor for name, tensor in self.average.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        tensors |= {f"frozen_best.{name}": tensor for name, tensor in self.frozen_best.items()}
        tensors |= moments_of(self.optimizer)
        save_tensors(self.checkpoint, tensors, asdict(self.state))

    def _restore(self, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
        history = [SerEpoch(**row) for row in header.pop("history")]
        state = TrainingState(**header, history=history)
        self._begin_phase(state.phase)
        self.state = state
        kinds = ("model", "average", "best", "frozen_best", "adam")
        named: dict[str, dict[str, Tensor]] = {kind: {} for kind in kinds}
        for name, tensor in tensors.items():
            kind, rest = name.split(".", 1)
            named[kind][rest] = tensor.to(self.device)
        self.model.load_state_dict(named["model"])
        self.average.load_state_dict(named["average"])
        self.best, self.frozen_best = named["best"], named["frozen_best"]
        restore_moments(self.optimizer, tensors)


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
