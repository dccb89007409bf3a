"""Fitting a FIN to windows of a store: epochs, validation, plateau schedule, early stopping, resume.

Everything random depends on the seed and on where training is, never on how it got there, so a run that was
killed goes on to the numbers that it would have had.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fins.data.store import to_amplitude
from fins.learning.budget import Budget
from fins.learning.r2 import R2Accumulator, r2_text
from fins.learning.scoring import every_nth, imitate
from fins.learning.windows import UtteranceRef, WindowStream, epoch_order
from fins.networks import Fin, ScaledFin
from fins.networks.compact import CompactFin
from fins.progress import SILENT, Watch
from fins.tensors import moments_of, restore_moments, restore_state, save_tensors

CALIBRATION = 16_384  # windows from which scales are taken
RATE_FACTOR, RATE_PATIENCE = 0.4, 2  # the published schedule: epochs without progress, then × 0.4
STOP_PATIENCE = 8  # epochs without progress that end training
VALIDATION_UTTERANCES = 16  # at least, where there are so many
SAVE_EVERY = 60.0  # seconds of training that a kill may cost

Stop = Literal["", "converged", "epochs", "minutes"]


@dataclass(frozen=True)
class WindowRecipe:
    """How a FIN is fitted to windows.

    loss : "mse" or "mae", of outputs divided by their deviation over the training windows
    epochs : at most; n_shares : epochs that one pass through the training windows is divided into
    """

    loss: str
    batch_size: int
    learning_rate: float
    epochs: int
    n_shares: int
    seed: int


@dataclass(frozen=True)
class FinEpoch:
    """One row of a history."""

    epoch: int
    windows_seen: int
    seconds: float
    learning_rate: float
    train_loss: float
    validation_loss: float
    validation_r2: float  # uniform


@dataclass
class WindowTrainingState:
    """Where training is, beside the tensors; saved and loaded as JSON."""

    epoch: int = 0  # under way
    block: int = 0  # next one of that epoch
    windows_seen: int = 0
    seconds: float = 0.0  # spent, over all tries
    learning_rate: float = 0.0
    loss_sum: float = 0.0  # of this epoch's windows so far
    loss_count: int = 0
    best_loss: float = float("inf")
    best_epoch: int = -1
    since_best: int = 0
    since_drop: int = 0
    stopped: Stop = ""
    limits: str = ""  # under which it stopped
    history: list[FinEpoch] = field(default_factory=list)


class WindowTrainer:
    """A FIN being fitted; `run` goes on from the checkpoint, if there is one, to the end.

    One that knows the feature already is finetuned: what it knew stands until an epoch does better.
    Raises ValueError if the loss is no finite number, which a lower rate may cure.
    """

    def __init__(
        self,
        fin: Fin,
        stream: WindowStream,
        parts: Mapping[str, Sequence[UtteranceRef]],
        recipe: WindowRecipe,
        checkpoint: Path,
        device: torch.device,
        budget: Budget | None = None,
        watch: Watch = SILENT,
    ) -> None:
        self.fin, self.stream, self.parts, self.watch = fin, stream, parts, watch
        self.recipe, self.checkpoint, self.device = recipe, checkpoint, device
        self.budget = Budget(None) if budget is None else budget
        self.state = WindowTrainingState(learning_rate=recipe.learning_rate)
        input_rms, mean, deviation = window_statistics(stream, parts["train"])
        self.scale = deviation.to(device)
        if isinstance(fin, ScaledFin) and not checkpoint.exists():
            fin.calibrate(input_rms, mean, deviation)
        fin.to(device)
        self.constrained = [module for module in fin.modules() if hasattr(module, "constrain")]
        self.optimizer = torch.optim.Adam(fin.parameters(), lr=recipe.learning_rate, fused=True)
        self.best = self._copy_weights()
        if checkpoint.exists():
            restore_state(checkpoint, self._restore)
        self.budget.spent_before = self.state.seconds
        self._saved = self._started = time.monotonic()

    def run(self) -> WindowTrainingState:
        """Train until it converges or the epochs or the time are spent; the FIN then has its best weights."""
        self._saved = self._started = time.monotonic()
        state = self.state
        limits = f"{self.recipe.epochs} epochs, {self.budget.minutes} minutes"
        if state.stopped in ("minutes", "epochs") and state.limits != limits:
            state.stopped = ""
        state.limits = limits
        if not state.stopped and state.epoch >= self.recipe.epochs:
            state.stopped = "epochs"
        if isinstance(self.fin, CompactFin) and state.best_loss == float("inf"):
            state.best_loss, _ = self._validate()
        while not state.stopped:
            self._train_epoch()
            self._end_epoch()
            if not state.stopped and self.budget.left() < 0:
                state.stopped = "minutes"
            elif not state.stopped and state.epoch >= self.recipe.epochs:
                state.stopped = "epochs"
            self._save()
        self.fin.load_state_dict(self.best)
        return state

    def _train_epoch(self) -> None:
        """Go through the blocks of this epoch that are left, until time runs out."""
        state, recipe = self.state, self.recipe
        order = epoch_order(self.parts["train"], state.epoch, recipe.n_shares, recipe.seed)
        what = f"epoch {state.epoch + 1}"
        if state.history:
            what += f", R² {r2_text(state.history[-1].validation_r2)}"
        self.fin.train()
        with self.watch.bar(self.stream.count_windows(order), "windows", what) as bar:
            bar.update(state.loss_count)
            for block in self.stream.blocks(self.stream.group(order)[state.block :]):
                rng = np.random.default_rng([recipe.seed, state.epoch, state.block, 1])
                for index in _batches(rng.permutation(len(block)), recipe.batch_size):
                    self._step(*block.batch(index, self.device))
                    bar.update(len(index))
                    if self.budget.left() < 0:
                        return
                state.block += 1
                self._tick()
                if time.monotonic() - self._saved > SAVE_EVERY:
                    self._save()

    def _tick(self) -> None:
        """Time spent over all tries."""
        self.state.seconds = self.budget.spent_before + time.monotonic() - self._started

    def _step(self, windows: Tensor, labels: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._loss(self.fin(windows), labels)
        loss.backward()
        self.optimizer.step()
        for module in self.constrained:
            module.constrain()  # type: ignore[operator]
        self.state.windows_seen += len(windows)
        self.state.loss_sum += float(loss.detach()) * len(windows)
        self.state.loss_count += len(windows)

    def _loss(self, imitation: Tensor, truth: Tensor) -> Tensor:
        error = (imitation - truth) / self.scale
        return error.abs().mean() if self.recipe.loss == "mae" else error.square().mean()

    def _end_epoch(self) -> None:
        state = self.state
        train_loss = state.loss_sum / max(1, state.loss_count)
        if not np.isfinite(train_loss):
            raise ValueError("training diverged: the loss is no finite number; use a lower --learning-rate")
        loss, r2 = self._validate()
        self._tick()
        state.history.append(
            FinEpoch(
                state.epoch, state.windows_seen, state.seconds, state.learning_rate, train_loss, loss, r2
            )
        )
        if loss < state.best_loss:
            state.best_loss, state.best_epoch, state.since_best, state.since_drop = loss, state.epoch, 0, 0
            self.best = self._copy_weights()
        else:
            state.since_best += 1
            state.since_drop += 1
        if state.since_drop >= RATE_PATIENCE:
            state.learning_rate *= RATE_FACTOR
            state.since_drop = 0
            self._set_rate()
        if state.since_best >= STOP_PATIENCE:
            state.stopped = "converged"
        state.epoch += 1
        state.block, state.loss_sum, state.loss_count = 0, 0.0, 0

    def _validate(self) -> tuple[float, float]:
        """Loss and uniform R² on the validation windows, or as many of them as an epoch's share."""
        references = validation_share(self.parts["validation"], self.recipe.n_shares)
        total, count, started = 0.0, 0, time.monotonic()
        accumulator = R2Accumulator(self.scale.numel())
        for imitation, truth in imitate(self.fin, self.stream, references, self.device):
            total += float(self._loss(imitation, truth)) * len(truth)
            count += len(truth)
            accumulator.update(truth.cpu().numpy(), imitation.cpu().numpy())
        self.budget.scored(count, time.monotonic() - started)
        uniform = accumulator.result().uniform
        return total / count, float("nan") if uniform is None else uniform

    def _copy_weights(self) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self.fin.state_dict().items()}

    def _set_rate(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.state.learning_rate

    def _save(self) -> None:
        tensors = {f"fin.{name}": tensor for name, tensor in self.fin.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        tensors |= moments_of(self.optimizer)
        save_tensors(self.checkpoint, tensors, asdict(self.state))
        self._saved = time.monotonic()

    def _restore(self, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
        history = [FinEpoch(**row) for row in header.pop("history")]
        if "buffer" in header:  # as version 0.1 called it
            header["block"] = header.pop("buffer")
        self.state = WindowTrainingState(**header, history=history)
        restore_moments(self.optimizer, tensors)
        named: dict[str, dict[str, Tensor]] = {"fin": {}, "best": {}, "adam": {}}
        for name, tensor in tensors.items():
            kind, rest = name.split(".", 1)
            named[kind][rest] = tensor.to(self.device)
        self.fin.load_state_dict(named["fin"])
        self.best = named["best"]
        self._set_rate()


def window_statistics(
    stream: WindowStream, references: Sequence[UtteranceRef]
) -> tuple[float, Tensor, Tensor]:
    """Root mean square of the samples, and mean and deviation of each output, of a sample of windows.

    The deviation of an output that doesn't vary is 1.
    """
    sample = every_nth(references, max(1, stream.count_windows(references) // CALIBRATION))
    block = stream.load(sample)
    energy = np.square(to_amplitude(block.signal)).mean()
    mean = block.labels.mean(axis=0, dtype=np.float64)
    deviation = block.labels.std(axis=0, dtype=np.float64)
    deviation[(block.labels == block.labels[0]).all(axis=0)] = 1  # where a rounding would be left
    return float(np.sqrt(energy)), torch.from_numpy(mean).float(), torch.from_numpy(deviation).float()


def validation_share(references: Sequence[UtteranceRef], n_shares: int) -> list[UtteranceRef]:
    """One of `n_shares` of the validation utterances, always the same, and not so few that chance rules."""
    return every_nth(references, max(1, min(n_shares, len(references) // VALIDATION_UTTERANCES)))


def _batches(order: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    return [order[start : start + size] for start in range(0, len(order), size)]
