"""Norms and attentions that count what a mask shows alone: padding never changes a result.

Sequences are (batch, channel, time); a mask is (batch, time) bool, True where there is signal. Every
utterance has at least one such step. Where a softmax follows there is no bias, which it would cancel.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

LEAST_VARIANCE = 1e-6  # under the root of a deviation, so that its gradient stays finite


def mask_until(lengths: Tensor, n_steps: int) -> Tensor:
    """(batch,) lengths → (batch, n_steps) bool, True before each one's end."""
    return torch.arange(n_steps, device=lengths.device) < lengths[:, None]


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """(batch, ..., time) scores → weights that are 0 where the mask is False and sum to 1 over time."""
    shape = (mask.shape[0], *[1] * (scores.ndim - 2), mask.shape[1])
    return scores.masked_fill(~mask.view(shape), -torch.inf).softmax(dim=-1)


def masked_mean(sequence: Tensor, mask: Tensor) -> Tensor:
    """(batch, channel, time) → (batch, channel), over the steps that the mask shows."""
    shown = mask[:, None].to(sequence.dtype)
    return (sequence * shown).sum(dim=2) / shown.sum(dim=2)


class MaskedBatchNorm(nn.Module):
    """Batch normalisation whose statistics count only what the mask shows.

    (batch, channel, time) or (batch, channel, band, time), and the mask → the same shape. Where the mask is
    False the output is finite and means nothing (in evaluation not even the bias): multiply by the mask.

    Weights, buffers, momentum 0.1 and epsilon are those of nn.BatchNorm1d. Raises ValueError in training if
    the mask shows fewer than two values of a channel.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, n_channels: int, epsilon: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.epsilon, self.momentum = epsilon, momentum
        self.weight = nn.Parameter(torch.ones(n_channels))
        self.bias = nn.Parameter(torch.zeros(n_channels))
        self.register_buffer("running_mean", torch.zeros(n_channels))
        self.register_buffer("running_var", torch.ones(n_channels))

    def forward(self, sequence: Tensor, mask: Tensor) -> Tensor:
        n_shown = int(mask.sum()) if self.training else 0
        if self.training and n_shown < mask.numel():
            return self.normalise(sequence, mask, n_shown)
        return functional.batch_norm(
            sequence,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training,
            self.momentum,
            self.epsilon,
        )

    def normalise(self, sequence: Tensor, mask: Tensor, n_shown: int) -> Tensor:
        """What is masked becomes its channel's mean. Torch's fused kernel then finds the right mean, and a
        variance that is too small by the share of what is shown; epsilon and weight make up for that."""
        n_bands = sequence.shape[2] if sequence.ndim == 4 else 1
        n_values, n_all = n_shown * n_bands, mask.numel() * n_bands
        share = n_shown / mask.numel()
        if n_values < 2:
            raise ValueError(
                "batch normalisation learns from at least two values a channel, the mask shows one"
            )
        rows = (
            sequence.unflatten(1, (-1, 1)) if sequence.ndim == 3 else sequence
        )  # (batch, channel, band, time)
        shown = mask[:, None, None].to(rows.dtype)
        zeroed = rows * shown
        mean = zeroed.sum(dim=3).sum(dim=(0, 2)) / n_values
        batch_mean, batch_var = torch.zeros_like(self.running_mean), torch.zeros_like(self.running_var)
        normal = functional.batch_norm(
            torch.addcmul(zeroed, 1 - shown, mean[:, None, None]),
            batch_mean,
            batch_var,
            self.weight * share**0.5,
            self.bias,
            training=True,
            momentum=1.0,
            eps=self.epsilon * share,
        )
        with torch.no_grad():
            self.running_mean.lerp_(batch_mean, self.momentum)
            self.running_var.lerp_(batch_var * ((n_all - 1) / (n_values - 1)), self.momentum)
        return normal.view_as(sequence)


class MaskedInstanceNorm(nn.Module):
    """Each channel of each utterance to mean 0 and variance 1 over its steps, without weights.

    (batch, channel, time) and the mask → the same shape, 0 where the mask is False. Equal to
    nn.InstanceNorm1d of the utterance alone, except that a single step is no error and becomes 0.
    """

    def __init__(self, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, sequence: Tensor, mask: Tensor) -> Tensor:
        shown = mask[:, None].to(sequence.dtype)
        centred = (sequence - masked_mean(sequence, mask)[:, :, None]) * shown
        variance = centred.square().sum(dim=2) / shown.sum(dim=2)
        return centred * torch.rsqrt(variance + self.epsilon)[:, :, None]


class AttentiveStatistics(nn.Module):
    """Weighted mean and deviation of each channel: (batch, channel, time), the mask → (batch, 2 · channel).

    α = softmax over time of (V tanh(W hₜ + b)), one weight for each channel and step; then Σ αₜ hₜ and
    √Σ αₜ (hₜ - mean)². After Okabe, Koshinaka and Shinoda 2018, who have one weight for each step. A
    deviation is never less than 0.001, and there it has no gradient.
    """

    def __init__(self, n_channels: int, n_hidden: int) -> None:
        super().__init__()
        self.score = nn.Sequential(
            nn.Conv1d(n_channels, n_hidden, 1), nn.Tanh(), nn.Conv1d(n_hidden, n_channels, 1, bias=False)
        )

    def forward(self, sequence: Tensor, mask: Tensor) -> Tensor:
        weights = masked_softmax(self.score(sequence), mask)
        mean = (weights * sequence).sum(dim=2, keepdim=True)
        variance = (weights * (sequence - mean).square()).sum(dim=2)
        return torch.cat([mean[:, :, 0], variance.clamp_min(LEAST_VARIANCE).sqrt()], dim=1)


class SpatialAttention(nn.Module):
    """Adds one glance over all time to every step: (batch, channel, time), the mask → the same shape.

    scoreₜ = v · tanh(Lₜ + G); Lₜ = (W * x)(t), a convolution over kernel_size steps with as many channels
    as x; G = U · (mean of x over time) + b; α = softmax over time of the score; yₜ = xₜ + Σ αₛ xₛ.

    It is what "conv 256 × 7 → 1 × 1 on local + global, softmax over time, weighted sum added back" of the
    published wavelet system is taken to mean. The hyperbolic tangent is ours: without it G would be the same
    in every score of an utterance and the softmax would cancel it. 0 where the mask is False. Raises
    ValueError for a kernel of even size.
    """

    def __init__(self, n_channels: int, kernel_size: int = 7) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f"a kernel that is centred has an odd size, got {kernel_size}")
        self.local = nn.Conv1d(n_channels, n_channels, kernel_size, padding=kernel_size // 2, bias=False)
        self.overall = nn.Linear(n_channels, n_channels)
        self.score = nn.Conv1d(n_channels, 1, 1, bias=False)

    def forward(self, sequence: Tensor, mask: Tensor) -> Tensor:
        shown = mask[:, None].to(sequence.dtype)
        sequence = sequence * shown
        overall = self.overall(sequence.sum(dim=2) / shown.sum(dim=2))
        scores = self.score(torch.tanh(self.local(sequence) + overall[:, :, None]))  # (batch, 1, time)
        glance = torch.bmm(sequence, masked_softmax(scores, mask).transpose(1, 2))  # (batch, channel, 1)
        return torch.addcmul(sequence, glance, shown)


class MaskedGru(nn.Module):
    """Both directions: (batch, n_inputs, time), (batch,) lengths → (batch, 2 · n_hidden, time).

    Equal to nn.GRU with packed sequences, 0 beyond an utterance's end, but without packing: on a CPU every
    step of a packed sequence fills a gradient as large as the whole, time in the square of the length.
    """

    def __init__(self, n_inputs: int, n_hidden: int, n_layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        sizes = [n_inputs] + [2 * n_hidden] * (n_layers - 1)
        self.forwards = nn.ModuleList(nn.GRU(size, n_hidden) for size in sizes)
        self.backwards = nn.ModuleList(nn.GRU(size, n_hidden) for size in sizes)
        self.dropout = nn.Dropout(dropout)  # between layers

    def forward(self, sequence: Tensor, lengths: Tensor) -> Tensor:
        steps = torch.arange(sequence.shape[2], device=sequence.device)[:, None]
        shown = steps < lengths  # (time, batch)
        mirrored = torch.where(shown, lengths - 1 - steps, steps)
        everyone = torch.arange(lengths.shape[0], device=sequence.device)
        outputs = sequence.permute(2, 0, 1)  # (time, batch, channel)
        for layer, (forwards, backwards) in enumerate(zip(self.forwards, self.backwards, strict=True)):
            if layer:
                outputs = self.dropout(outputs)
            ahead, _ = forwards(outputs)
            back, _ = backwards(outputs[mirrored, everyone])
            outputs = torch.cat([ahead, back[mirrored, everyone]], dim=2)
        return (outputs * shown[:, :, None]).permute(1, 2, 0)


class TemporalAttention(nn.Module):
    """A recurrent network's steps seen from its last: (batch, n_inputs, time), the mask → (batch, n_outputs).

    scoreₜ = (W₁ hₜ) · h_last, α = softmax over time, and tanh(W₂ [Σ αₜ hₜ ; h_last] + b); h_last is the last
    step that the mask shows.
    """

    def __init__(self, n_inputs: int, n_outputs: int) -> None:
        super().__init__()
        self.score = nn.Linear(n_inputs, n_inputs, bias=False)
        self.combine = nn.Linear(2 * n_inputs, n_outputs)

    def forward(self, sequence: Tensor, mask: Tensor) -> Tensor:
        steps = torch.arange(mask.shape[1], device=mask.device)
        place = (mask * steps).argmax(dim=1)
        last = sequence[torch.arange(sequence.shape[0], device=mask.device), :, place]  # (batch, n_inputs)
        query = last @ self.score.weight  # W₁ᵀ h_last, once an utterance instead of once a step
        scores = torch.bmm(query[:, None], sequence)  # (batch, 1, time)
        context = torch.bmm(sequence, masked_softmax(scores, mask).transpose(1, 2))[:, :, 0]
        return torch.tanh(self.combine(torch.cat([context, last], dim=1)))
