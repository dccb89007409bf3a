"""Training a classifier in phases: on frozen FINs' kept outputs, then everything on waveforms."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fins.audio import HOP, SAMPLE_RATE, WINDOW, count_windows
from fins.checkpoints import moments_of, restore_moments, restore_state, save_tensors
from fins.store import EMOTIONS
from ser_heads.augmentation import Augmentation
from ser_heads.base import Inputs, UtteranceModel
from ser_heads.data import Batch, UtteranceTable, length_batches, pad, random_batches
from ser_heads.references.spectral_svm import SvmGrid
from ser_heads.scores import count_confusions, metrics

Phase = Literal["frozen", "finetuned"]
Stop = Literal["", "converged", "epochs", "minutes"]
WARM_UP = 0.15  # share of a phase in which the rate rises; then it falls to zero along a cosine
AVERAGING = 0.99  # of the weights that are validated, tested and kept: a moving average over steps
RECENT = 5  # epochs whose UAR together says how good the last one is: of few speakers a single one is chance
LARGEST_GRADIENT = 5.0  # length of all gradients together
EVALUATION_BATCH, EVALUATION_SAMPLES = 64, 64 * 5 * SAMPLE_RATE  # utterances, and samples in all
FROZEN_SHARE = 0.6  # of a budget of time, where a second phase follows


@dataclass(frozen=True)
class Options:
    """How a classifier is trained; every default is that of the command line too."""

    frozen_epochs: int = 60
    """With the FINs as they are; for the other branches just the first phase. With 0 FINs learn at once."""
    finetuned_epochs: int = 3
    """With the FINs learning too; 0 leaves them as they are."""
    batch_size: int = 32
    """Utterances."""
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    """sgd has Nesterov's momentum of 0.9."""
    learning_rate: float = 2e-3
    """The highest of the first phase."""
    finetuning_rate: float = 1e-4
    """The highest of the second phase, for all but the FINs."""
    fin_rate: float = 1e-6
    """The highest of the second phase, for the FINs."""
    weight_decay: float = 0.05
    """Not for the FINs. Of adamw it is a share of each weight, of the others a penalty in the loss."""
    loss: Literal["cross_entropy", "focal"] = "cross_entropy"
    """Of shares of emotions; focal makes less of what is told apart already."""
    focusing: float = 2.0
    """Exponent of the focal loss."""
    class_weights: float = 0.5
    """Exponent of the inverse frequency of an emotion in a corpus: 0 for equal weights, 1 for the inverse."""
    label_smoothing: float = 0.1
    """Share of a target that is spread over all emotions."""
    copies: int = 6
    """Perturbed copies of each training utterance: other voice and pace, level, noise; 0 for none."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """Of frames, anew in each epoch."""
    penalty: float = 0.0
    """Weight of the wavelet kernels' distance from perfect reconstruction."""
    svm: SvmGrid = field(default_factory=SvmGrid)
    """Of spectral_svm; of what is above it takes copies and class weights."""
    patience: int = 30
    """Epochs without a better validation after which a phase ends."""


@dataclass(frozen=True)
class Epoch:
    """One row of a history."""

    epoch: int
    phase: Phase
    seconds: float
    learning_rate: float
    train_loss: float
    validation_loss: float
    validation_uar: float


@dataclass
class State:
    """Where training is, beside the tensors; saved and loaded as JSON."""

    phase: Phase = "frozen"
    epoch: int = 0  # of this phase, under way
    n_steps: int = 0  # of both phases
    seconds: float = 0.0  # spent in all tries
    phase_seconds: float = 0.0  # of them in this phase
    best_uar: float = -1.0  # mean of recent epochs, at the best of them
    best_loss: float = math.inf
    best_epoch: int = 0  # over both phases, as in the history
    since_best: int = 0
    stopped: Stop = ""  # why this phase ended
    done: bool = False
    history: list[Epoch] = field(default_factory=list)


class Feed:
    """Batches of a table's utterances for a model.

    frozen : what its FINs make of (utterance, copy) while they are frozen: (n_windows, n_outputs); None if
        it computes them itself
    weights : (n_utterances,) what each counts in a loss; None for 1
    """

    def __init__(
        self,
        model: UtteranceModel,
        table: UtteranceTable,
        frozen: Inputs | None = None,
        weights: NDArray[np.float32] | None = None,
    ) -> None:
        self.table, self.frozen, self.weights = table, frozen, weights
        self.inputs, self.signal = model.inputs(table), model.hears_signal(frozen is not None)

    def batch(
        self,
        utterances: Sequence[int] | NDArray[np.int64],
        copies: Sequence[int],
        longest: int | None = None,
        rng: np.random.Generator | None = None,
    ) -> Batch:
        """Some utterances, of each the copy of that number.

        longest : frames, of longer ones a stretch of so many, from where the generator says
        """
        outputs, signals, inputs, n_frames = [], [], [], []
        for utterance, number in zip(utterances, copies, strict=True):
            row, signal, heard = None, None, None
            if self.inputs is not None:
                heard = self.inputs(utterance, number)
                n = len(heard)
            if self.frozen is not None:
                row = self.frozen(utterance, number)
                n = len(row)
            if self.signal:
                signal = self.table.copy(utterance, number)
                n = count_windows(len(signal))
            if longest is not None and n > longest:
                assert rng is not None
                start = int(rng.integers(n - longest + 1))
                n = longest
                row = row if row is None else row[start : start + n]
                heard = heard if heard is None else heard[start : start + n]
                signal = signal if signal is None else signal[start * HOP : (start + n - 1) * HOP + WINDOW]
            n_frames.append(n)
            outputs.append(row)
            signals.append(signal)
            inputs.append(heard)
        n_samples = [
            WINDOW + HOP * (n - 1) if signal is None else len(signal)
            for n, signal in zip(n_frames, signals, strict=True)
        ]
        return Batch(
            torch.tensor(n_samples),
            torch.tensor(n_frames),
            torch.from_numpy(self.table.emotion[np.asarray(utterances)]),
            pad([signal for signal in signals if signal is not None]) if self.signal else None,
            pad([row for row in outputs if row is not None]) if self.frozen is not None else None,
            pad([row for row in inputs if row is not None]) if self.inputs is not None else None,
            None if self.weights is None else torch.from_numpy(self.weights[np.asarray(utterances)]),
        )


def predict(
    model: UtteranceModel, feed: Feed, utterances: NDArray, device: torch.device
) -> NDArray[np.float32]:
    """(n, 8) logits of utterances as they were recorded, in their order."""
    model.eval()
    logits = np.empty((len(utterances), len(EMOTIONS)), np.float32)
    for places in length_batches(feed.table.lengths(utterances), EVALUATION_BATCH, EVALUATION_SAMPLES):
        chosen = utterances[places]
        with torch.no_grad():
            out, _ = model(feed.batch(chosen, [0] * len(chosen)).to(device))
        logits[places] = out.cpu().numpy()
    return logits


class Training:
    """A classifier being trained; `run` goes on from the checkpoint, if there is one, to the end.

    parts : part → (n,) utterances of the table; the test part is never touched
    frozen : what frozen FINs make of utterances; None where nothing is frozen
    Steps are in mixed precision where the machine is made for it; what is said of utterances is in float32.
    Validation chooses the epoch: by the mean UAR of the last five, and by its own loss among equals. The
    second phase starts from the best of the first, which stands until an epoch does better. Raises ValueError
    if the loss is no finite number.
    """

    def __init__(
        self,
        model: UtteranceModel,
        table: UtteranceTable,
        parts: Mapping[str, NDArray[np.int64]],
        options: Options,
        frozen: Inputs | None,
        checkpoint: Path,
        device: torch.device,
        seed: int = 0,
        seconds: float | None = None,
    ) -> None:
        self.model, self.table, self.parts, self.options = model.to(device), table, parts, options
        self.frozen, self.checkpoint, self.device, self.seed = frozen, checkpoint, device, seed
        self.mixed = multiplies_bfloat16(device)
        self.seconds = seconds
        self.state = State()
        known = np.unique(table.emotion[parts["train"]])
        self.known = torch.zeros(len(EMOTIONS), dtype=torch.bool, device=device)
        self.known[torch.from_numpy(known)] = True
        self.weights = balance(table, parts["train"], options.class_weights)
        self.average = copy.deepcopy(self.model)
        self.best = _copy(self.average)
        self.frozen_best: dict[str, Tensor] = {}
        self._begin_phase("frozen" if options.frozen_epochs else "finetuned")
        if checkpoint.exists():
            restore_state(checkpoint, self._restore)

    def run(
        self,
        progress: Callable[[State, int, int], None],
        after_epoch: Callable[[State], None] = lambda state: None,
    ) -> State:
        """Train to the end of both phases or of the time; the model then has its best weights.

        progress : called with the state, and the steps done and to do of the epoch
        after_epoch : called with the state once an epoch is in the checkpoint
        """
        state = self.state
        while not state.done:
            if not state.stopped:
                self._epoch(progress)
            if state.stopped:
                self._next_phase()
            self._save()
            after_epoch(state)
        self.model.load_state_dict(self.best)
        return state

    def _epochs(self) -> int:
        options = self.options
        return options.frozen_epochs if self.state.phase == "frozen" else options.finetuned_epochs

    def _budget(self) -> float | None:
        """Seconds that this phase may take: of a budget, the second one gets what its epochs are worth."""
        if self.seconds is None:
            return None
        if self.state.phase == "frozen" and self.finetunes():
            return self.seconds * FROZEN_SHARE
        return self.seconds - (self.state.seconds - self.state.phase_seconds)

    def finetunes(self) -> bool:
        """Whether there is anything frozen to finetune."""
        return (
            self.options.finetuned_epochs > 0 and self.model.has_learning_fins() and self.frozen is not None
        )

    def _begin_phase(self, phase: Phase) -> None:
        options, state = self.options, self.state
        state.phase, state.epoch, state.since_best, state.stopped = phase, 0, 0, ""
        state.phase_seconds = 0.0
        fins = list(self.model.fins.parameters()) if self.model.fins is not None else []
        if self.model.fins is not None:
            if phase == "frozen" and self.frozen is not None:
                self.model.fins.freeze()
            else:
                self.model.fins.unfreeze()
        own = {id(parameter) for parameter in fins}
        others = [parameter for parameter in self.model.parameters() if id(parameter) not in own]
        rate = options.learning_rate if phase == "frozen" else options.finetuning_rate
        groups: list[dict[str, Any]] = [
            {"params": others, "peak": rate, "weight_decay": options.weight_decay}
        ]
        if phase == "finetuned" and fins:
            groups.append({"params": fins, "peak": options.fin_rate, "weight_decay": 0.0})
        self.optimizer = optimizer_of(options.optimizer, groups, rate)
        frozen = self.frozen if phase == "frozen" else None
        self.feed = Feed(self.model, self.table, frozen, self.weights)

    def _next_phase(self) -> None:
        state = self.state
        if state.phase == "frozen":
            self.frozen_best = {name: tensor.clone() for name, tensor in self.best.items()}
            if self.finetunes() and not (state.stopped == "minutes" and self._spent_all()):
                self.model.load_state_dict(self.best)
                self.average.load_state_dict(self.best)
                self._begin_phase("finetuned")
                return
        state.done = True

    def _spent_all(self) -> bool:
        return self.seconds is not None and self.state.seconds >= self.seconds

    def _epoch(self, progress: Callable[[State, int, int], None]) -> None:
        state, options = self.state, self.options
        started = time.monotonic()
        before, before_phase = state.seconds, state.phase_seconds
        budget = self._budget()
        stream = [self.seed, 0 if state.phase == "frozen" else 1, state.epoch]
        rng = np.random.default_rng(stream)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        torch.manual_seed(int(rng.integers(2**62)))  # of dropout
        training = self.parts["train"]
        batches = random_batches(len(training), options.batch_size, rng)
        longest = max(1, round(options.augmentation.seconds * SAMPLE_RATE / HOP))
        cut = None if self.model.whole else longest
        self.model.train()
        losses: list[float] = []
        rate = 0.0
        for number, places in enumerate(batches):
            spent = before_phase + time.monotonic() - started
            share = (state.epoch + number / len(batches)) / self._epochs()
            if budget is not None:
                if spent >= budget and (losses or state.epoch):
                    state.stopped = "minutes"
                    break
                share = max(share, spent / budget)  # the rate falls to zero in the time that there is
            rate = self._set_rate(share)
            utterances = training[places]
            copies = rng.integers(options.copies + 1, size=len(utterances))
            batch = self.feed.batch(utterances, copies.tolist(), cut, rng)
            losses.append(self._step(batch.to(self.device), generator))
            progress(state, number + 1, len(batches))
        if not losses:  # the time was spent before the epoch's first step
            return
        if not np.isfinite(np.mean(losses)):
            raise ValueError("training diverged: the loss is no finite number; use a lower --learning-rate")
        loss, uar = self._validate()
        state.seconds = before + time.monotonic() - started
        state.phase_seconds = before_phase + time.monotonic() - started
        state.history.append(
            Epoch(
                len(state.history) + 1,
                state.phase,
                round(state.seconds, 1),
                rate,
                float(np.mean(losses)),
                loss,
                uar,
            )
        )
        recent = recent_means([row.validation_uar for row in state.history])[-1]
        if (recent, -loss) > (state.best_uar, -state.best_loss):
            state.best_uar, state.best_loss, state.since_best = recent, loss, 0
            state.best_epoch = len(state.history)
            self.best = _copy(self.average)
        elif share >= WARM_UP:  # while the rate rises a lucky first epoch ends nothing
            state.since_best += 1
        state.epoch += 1
        if not state.stopped:
            if state.since_best >= options.patience:
                state.stopped = "converged"
            elif state.epoch >= self._epochs():
                state.stopped = "epochs"

    def _step(self, batch: Batch, generator: torch.Generator) -> float:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
            logits, targets = self.model(batch, self.options.augmentation, generator)
        loss = self._loss(logits.float(), targets)
        penalty = self.model.penalty()
        if penalty is not None and self.options.penalty:
            loss = loss + self.options.penalty * penalty
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), LARGEST_GRADIENT)
        self.optimizer.step()
        if self.model.fins is not None:
            self.model.fins.hold()
        self.state.n_steps += 1
        share = averaging(self.state.n_steps)
        with torch.no_grad():
            for average, new in zip(
                self.average.state_dict().values(), self.model.state_dict().values(), strict=True
            ):
                if average.dtype.is_floating_point:
                    average.lerp_(new, 1 - share)
                else:
                    average.copy_(new)
        return float(loss.detach())

    def _loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy or focal loss of weighted shares of emotions, mean over the batch; emotions that
        training utterances don't have are left out."""
        logits = logits.masked_fill(~self.known, -1e4)
        smoothing = self.options.label_smoothing
        weight = targets.sum(dim=1, keepdim=True)
        targets = (1 - smoothing) * targets + smoothing * weight * self.known / self.known.sum()
        log = logits.log_softmax(dim=1)
        each = targets * log
        if self.options.loss == "focal":
            each = each * (1 - log.exp()) ** self.options.focusing
        return -each.sum(dim=1).mean()

    def _validate(self) -> tuple[float, float]:
        """Loss without weights and smoothing, and UAR, of the averaged weights on the validation part."""
        utterances = self.parts["validation"]
        logits = predict(self.average, self.feed, utterances, self.device)
        logits[:, ~self.known.cpu().numpy()] = -1e4
        truth = self.table.emotion[utterances]
        log = torch.from_numpy(logits).log_softmax(dim=1)
        loss = -log[torch.arange(len(truth)), torch.from_numpy(truth)].mean()
        _, confusions = count_confusions(truth, logits.argmax(axis=1), ["all"] * len(truth), len(EMOTIONS))
        return float(loss), float(metrics(confusions)["uar"][0])

    def _set_rate(self, share: float) -> float:
        factor = rate_factor(share)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        return float(self.optimizer.param_groups[0]["lr"])

    def _save(self) -> None:
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"average.{name}": tensor for name, tensor in self.average.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        tensors |= {f"frozen_best.{name}": tensor for name, tensor in self.frozen_best.items()}
        tensors |= moments_of(self.optimizer)
        save_tensors(self.checkpoint, tensors, asdict(self.state))

    def _restore(self, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
        history = [Epoch(**row) for row in header.pop("history")]
        state = State(**header, history=history)
        self._begin_phase(state.phase)
        self.state = state
        named: dict[str, dict[str, Tensor]] = {
            "model": {},
            "average": {},
            "best": {},
            "frozen_best": {},
            "adam": {},
        }
        for name, tensor in tensors.items():
            kind, rest = name.split(".", 1)
            named[kind][rest] = tensor.to(self.device)
        self.model.load_state_dict(named["model"])
        self.average.load_state_dict(named["average"])
        self.best, self.frozen_best = named["best"], named["frozen_best"]
        restore_moments(self.optimizer, tensors)


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the machine has instructions for products of bfloat16, which make steps faster."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    can: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # older releases have none
    return bool(can.get("avx512_bf16") or can.get("amx_bf16"))


def recent_means(uars: Sequence[float]) -> list[float]:
    """Of each epoch: the mean of its UAR and those of the four before it, by which an epoch is chosen."""
    return [float(np.mean(uars[max(0, end - RECENT) : end])) for end in range(1, len(uars) + 1)]


def averaging(n_steps: int) -> float:
    """What the average keeps of itself at a step: less in the first ones, whose weights are still random."""
    return min(AVERAGING, n_steps / (n_steps + 9))


def optimizer_of(name: str, groups: list[dict[str, Any]], rate: float) -> torch.optim.Optimizer:
    if name == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True)
    return (torch.optim.AdamW if name == "adamw" else torch.optim.Adam)(groups, lr=rate)


def balance(table: UtteranceTable, training: NDArray[np.int64], exponent: float) -> NDArray[np.float32]:
    """(n_utterances,): what each counts in the loss, by how often its emotion occurs in its corpus.

    The weights are (mean count of an emotion in a corpus / count of this one) ** exponent, so that no corpus
    says how likely an emotion is, and a small one is heard too; utterances that don't train count 1.
    """
    weights = np.ones(len(table), np.float32)
    cells = np.char.add(table.columns["corpus"][training].astype(str), "/")
    cells = np.char.add(cells, table.emotion[training].astype(str))
    _, places, counts = np.unique(cells, return_inverse=True, return_counts=True)
    weights[training] = ((counts.mean() / counts) ** exponent)[places]
    return weights


def rate_factor(share: float) -> float:
    """Of the highest rate, after a share (0 to 1) of a phase: up along a cosine, then down to 0."""
    if share < WARM_UP:
        return 0.04 + 0.96 * (1 - math.cos(math.pi * share / WARM_UP)) / 2
    return (1 + math.cos(math.pi * min(1.0, (share - WARM_UP) / (1 - WARM_UP)))) / 2


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
