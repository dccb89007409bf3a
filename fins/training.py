"""Fitting a FIN to windows of a store: epochs, validation, plateau schedule, early stopping, resume.

Everything random depends on the seed and on where training is, never on how it got there, so a run that was
killed goes on to the numbers that it would have had.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fins.checkpoints import moments_of, restore_moments, restore_state, save_tensors
from fins.compact import CompactFin
from fins.networks import Fin, ScaledFin
from fins.scores import R2Accumulator
from fins.store import to_amplitude
from fins.streams import Reference, WindowStream, epoch_order

EVALUATION_BATCH = 256  # windows
CALIBRATION = 16_384  # windows from which scales are taken
RATE_FACTOR, RATE_PATIENCE = 0.4, 2  # the published schedule: epochs without progress, then × 0.4
STOP_PATIENCE = 8  # epochs without progress that end training
VALIDATION_UTTERANCES = 16  # at least, where there are so many
SAVE_EVERY = 60.0  # seconds of training that a kill may cost

Stop = Literal["", "converged", "epochs", "minutes"]


@dataclass(frozen=True)
class FitOptions:
    """How a FIN is fitted.

    loss : "mse" or "mae", of outputs divided by their deviation over the training windows
    n_shares : epochs that one pass through the training windows is divided into
    seconds : that training may use in all, over all tries, or None
    minutes : the budget that these seconds are left of; with another one, or other epochs, training goes on
    """

    loss: str
    batch_size: int
    learning_rate: float
    epochs: int
    n_shares: int
    seed: int
    seconds: float | None = None
    minutes: float | None = None

    @property
    def limits(self) -> str:
        return f"{self.epochs} epochs, {self.minutes} minutes"


@dataclass(frozen=True)
class Epoch:
    """One row of a history."""

    epoch: int
    windows_seen: int
    seconds: float
    learning_rate: float
    train_loss: float
    validation_loss: float
    validation_r2: float  # uniform


@dataclass
class FitState:
    """Where training is, beside the tensors; saved and loaded as JSON."""

    epoch: int = 0  # under way
    buffer: int = 0  # next one of that epoch
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
    history: list[Epoch] = field(default_factory=list)


Progress = Callable[[FitState, int], None]  # the state, and windows since the last call


class Fit:
    """A FIN being fitted; `run` goes on from the checkpoint, if there is one, to the end.

    One that knows the feature already is finetuned: what it knew stands until an epoch does better.
    Raises ValueError if the loss is no finite number, which a lower rate may cure.
    """

    def __init__(
        self,
        fin: Fin,
        stream: WindowStream,
        parts: dict[str, list[Reference]],
        options: FitOptions,
        checkpoint: Path,
        device: torch.device,
    ) -> None:
        self.fin, self.stream, self.parts = fin, stream, parts
        self.options, self.checkpoint, self.device = options, checkpoint, device
        self.state = FitState(learning_rate=options.learning_rate)
        input_rms, mean, deviation = measure(stream, parts["train"])
        self.scale = deviation.to(device)
        if isinstance(fin, ScaledFin) and not checkpoint.exists():
            fin.calibrate(input_rms, mean, deviation)
        fin.to(device)
        self.optimizer = torch.optim.Adam(fin.parameters(), lr=options.learning_rate, fused=True)
        self.best = self._copy_weights()
        if checkpoint.exists():
            restore_state(checkpoint, self._restore)

    def run(self, progress: Progress) -> FitState:
        """Train until it converges or the epochs or the time are spent; the FIN then has its best weights."""
        started, before = time.monotonic(), self.state.seconds
        saved = started

        def tick() -> None:
            self.state.seconds = before + time.monotonic() - started

        def spent() -> bool:
            limit = self.options.seconds
            return limit is not None and before + time.monotonic() - started > limit

        state = self.state
        if state.stopped in ("minutes", "epochs") and state.limits != self.options.limits:
            state.stopped = ""
        state.limits = self.options.limits
        if not state.stopped and state.epoch >= self.options.epochs:
            state.stopped = "epochs"
        if isinstance(self.fin, CompactFin) and state.best_loss == float("inf"):
            state.best_loss, _ = self._validate()
        while not state.stopped:
            order = epoch_order(self.parts["train"], state.epoch, self.options.n_shares, self.options.seed)
            groups = self.stream.group(order)
            self.fin.train()
            for buffer in self.stream.buffers(groups[state.buffer :]):
                rng = np.random.default_rng([self.options.seed, state.epoch, state.buffer, 1])
                for index in _batches(rng.permutation(len(buffer)), self.options.batch_size):
                    self._step(*buffer.batch(index, self.device))
                    progress(state, len(index))
                    if spent():
                        break
                if spent():
                    break
                state.buffer += 1
                tick()
                if time.monotonic() - saved > SAVE_EVERY:
                    self._save()
                    saved = time.monotonic()
            out_of_time = spent()
            self._end_epoch(tick)
            if not state.stopped and out_of_time:
                state.stopped = "minutes"
            elif not state.stopped and state.epoch >= self.options.epochs:
                state.stopped = "epochs"
            self._save()
            progress(state, 0)
            saved = time.monotonic()
        self.fin.load_state_dict(self.best)
        return state

    def _step(self, windows: Tensor, labels: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._loss(self.fin(windows), labels)
        loss.backward()
        self.optimizer.step()
        self.state.windows_seen += len(windows)
        self.state.loss_sum += float(loss.detach()) * len(windows)
        self.state.loss_count += len(windows)

    def _loss(self, imitation: Tensor, truth: Tensor) -> Tensor:
        error = (imitation - truth) / self.scale
        return error.abs().mean() if self.options.loss == "mae" else error.square().mean()

    def _end_epoch(self, tick: Callable[[], None]) -> None:
        state = self.state
        train_loss = state.loss_sum / max(1, state.loss_count)
        if not np.isfinite(train_loss):
            raise ValueError("training diverged: the loss is no finite number; use a lower --learning-rate")
        loss, r2 = self._validate()
        tick()
        state.history.append(
            Epoch(state.epoch, state.windows_seen, state.seconds, state.learning_rate, train_loss, loss, r2)
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
        state.buffer, state.loss_sum, state.loss_count = 0, 0.0, 0

    def _validate(self) -> tuple[float, float]:
        """Loss and uniform R² on the validation windows, or as many of them as an epoch's share."""
        references = validation_share(self.parts["validation"], self.options.n_shares)
        total, count = 0.0, 0
        accumulator = R2Accumulator(self.scale.numel())
        for imitation, truth in imitate(self.fin, self.stream, references, self.device):
            total += float(self._loss(imitation, truth)) * len(truth)
            count += len(truth)
            accumulator.update(truth.cpu().numpy(), imitation.cpu().numpy())
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

    def _restore(self, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
        history = [Epoch(**row) for row in header.pop("history")]
        self.state = FitState(**header, history=history)
        restore_moments(self.optimizer, tensors)
        named: dict[str, dict[str, Tensor]] = {"fin": {}, "best": {}, "adam": {}}
        for name, tensor in tensors.items():
            kind, rest = name.split(".", 1)
            named[kind][rest] = tensor.to(self.device)
        self.fin.load_state_dict(named["fin"])
        self.best = named["best"]
        self._set_rate()


def measure(stream: WindowStream, references: Sequence[Reference]) -> tuple[float, Tensor, Tensor]:
    """Root mean square of the samples, and mean and deviation of each output, of a sample of windows.

    The deviation of an output that doesn't vary is 1.
    """
    references = list(references)
    sample = spread(references, max(1, stream.count_windows(references) // CALIBRATION))
    buffer = stream.load(sample)
    energy = np.square(to_amplitude(buffer.signal)).mean()
    mean = buffer.labels.mean(axis=0, dtype=np.float64)
    deviation = buffer.labels.std(axis=0, dtype=np.float64)
    deviation[(buffer.labels == buffer.labels[0]).all(axis=0)] = 1  # where a rounding would be left
    return float(np.sqrt(energy)), torch.from_numpy(mean).float(), torch.from_numpy(deviation).float()


def validation_share(references: Sequence[Reference], n_shares: int) -> list[Reference]:
    """One of `n_shares` of the validation utterances, always the same, and not so few that chance rules."""
    return spread(references, max(1, min(n_shares, len(references) // VALIDATION_UTTERANCES)))


def spread(references: Sequence[Reference], share: int) -> list[Reference]:
    """Every `share`-th utterance; at least one."""
    return list(references[::share])


def imitate(
    fin: Fin, stream: WindowStream, references: Sequence[Reference], device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields a FIN's imitation and the truth, both (n, n_outputs) on the device, over windows in order."""
    fin.eval()
    for buffer in stream.buffers(stream.group(references)):
        for start in range(0, len(buffer), EVALUATION_BATCH):
            windows, truth = buffer.batch(slice(start, start + EVALUATION_BATCH), device)
            with torch.no_grad():
                imitation = fin(windows)
            yield imitation, truth


def score(
    fin: Fin, stream: WindowStream, references: Sequence[Reference], device: torch.device
) -> R2Accumulator:
    """R² of a FIN over the windows of some utterances, streamed."""
    accumulator = R2Accumulator(stream.feature.n_outputs)
    for imitation, truth in imitate(fin, stream, references, device):
        accumulator.update(truth.cpu().numpy(), imitation.cpu().numpy())
    return accumulator


def _batches(order: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    return [order[start : start + size] for start in range(0, len(order), size)]
