"""A norm and an attention that count what a mask shows alone: padding never changes a result.

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
