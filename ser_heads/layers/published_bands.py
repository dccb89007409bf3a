"""The networks over bands of the published wavelet system, all at once and without padding."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ser_heads.layers.masked import mask_until
from ser_heads.layers.packed_gru import PackedGru

Length = TypeVar("Length", int, Tensor)
FIRST, SECOND, THIRD = 7, 5, 7  # taps of the three convolutions
FIRST_DILATION, SECOND_DILATION, STRIDE = 3, 2, 4
FIRST_SPAN = (FIRST - 1) * FIRST_DILATION + 1  # coefficients that one output takes in
SECOND_SPAN = (SECOND - 1) * SECOND_DILATION + 1
LEAST_COEFFICIENTS = (SECOND_SPAN - 1) * STRIDE + FIRST_SPAN  # of a band, for one step
EPSILON = 1e-5  # of the norms
SLOPE = 0.01  # of the leaky ReLUs
TOGETHER = 4  # recordings of about one length that a band's own network takes in at once on a CPU


class Filters(NamedTuple):
    """Of some networks, as their convolutions take them.

    first : (network, channel, tap); second, third : (network, channel, channel, tap);
    score : (network, 1, channel)
    """

    first: Tensor
    second: Tensor
    third: Tensor
    score: Tensor


class PublishedBands(nn.Module):
    """(batch, band, n) coefficients, (batch,) how many → (batch, band, 2 · n_hidden).

    Over each band, with x and h the outputs of what stands before:

    - convolution, 7 taps, stride 4, dilation 3; instance norm; leaky ReLU; dropout
    - convolution, 5 taps, stride 4, dilation 2; instance norm; leaky ReLU; dropout
    - spatial attention: g = leaky ReLU(norm(convolution of 7 taps, padded)), α = softmax over time of
      v · (x + g), and leaky ReLU(x + Σ αₜ xₜ)
    - recurrent layers in both directions, without dropout
    - temporal attention: α = softmax over time of (W₁ hₜ) · h_last, and tanh(W₂ [Σ αₜ hₜ ; h_last])

    n_networks : one for all bands, or as many as there are bands
    Convolutions have no biases: the norms would subtract them. A band has at least LEAST_COEFFICIENTS.
    A CPU takes network after network and few recordings at a time, which stay in its cache; other devices
    take all at once.
    """

    def __init__(
        self, n_networks: int, channels: tuple[int, int], n_hidden: int, n_layers: int, dropout: float
    ) -> None:
        super().__init__()
        first, second = channels
        self.dropout = dropout

        def drawn(*shape: int) -> nn.Parameter:  # as PyTorch's own layers start
            bound = torch.Size(shape[1:]).numel() ** -0.5
            return nn.Parameter(torch.empty(n_networks, *shape).uniform_(-bound, bound))

        self.first_weights = drawn(first, FIRST)
        self.second_weights = drawn(second, first, SECOND)
        self.third_weights = drawn(second, second, THIRD)
        self.score_weights = drawn(1, second)
        self.recurrent = PackedGru(n_networks, second, n_hidden, n_layers)
        self.query_weights = drawn(2 * n_hidden, 2 * n_hidden)
        self.combine_weights = drawn(2 * n_hidden, 4 * n_hidden)

    def forward(self, coefficients: Tensor, n_coefficients: Tensor) -> Tensor:
        n_bands, n_networks = coefficients.shape[1], len(self.first_weights)
        n_sorted, order = n_coefficients.sort(descending=True, stable=True)
        coefficients = coefficients[order]
        if n_networks == 1:
            rows, lengths = coefficients.flatten(0, 1)[None], n_sorted.repeat_interleave(n_bands)
        else:
            rows, lengths = coefficients.transpose(0, 1), n_sorted
        at_once = coefficients.device.type != "cpu"
        together = rows.shape[1] if at_once else n_bands if n_networks == 1 else TOGETHER
        filters, size = self.filters(), n_networks if at_once else 1
        sequence = torch.cat(
            [
                self.over_rows(
                    rows[first : first + size],
                    lengths.tolist(),
                    Filters(*(weights[first : first + size] for weights in filters)),
                    together,
                )
                for first in range(0, n_networks, size)
            ]
        )
        n_steps = count_steps(n_sorted)
        outputs = self.recurrent(sequence, count_steps(lengths))
        sizes = (n_steps * (n_bands // n_networks)).tolist()
        vectors = [self.attend(part.reshape(n_bands, -1, part.shape[2])) for part in outputs.split(sizes, 1)]
        return torch.stack(vectors)[order.argsort()]

    def filters(self) -> Filters:
        """Of all networks."""
        return Filters(self.first_weights, self.second_weights, self.third_weights, self.score_weights)

    def over_rows(self, rows: Tensor, lengths: list[int], filters: Filters, together: int) -> Tensor:
        """(network, row, n) → (network, n_steps of all rows, channel), some rows at a time, the longest
        first."""
        if len(rows) == 1:
            filters = filters._replace(
                second=_side_by_side(filters.second[0]), third=_side_by_side(filters.third[0])
            )
        parts = []
        for place in range(0, len(lengths), together):
            counts = lengths[place : place + together]
            steps = self.convolve(rows[:, place : place + together, : counts[0]], filters, counts)
            if counts[-1] == counts[0]:
                parts.append(steps.flatten(1, 2))
            else:
                parts += [steps[:, row, : count_steps(n)] for row, n in enumerate(counts)]
        return torch.cat(parts, dim=1)

    def convolve(self, rows: Tensor, filters: Filters, lengths: list[int]) -> Tensor:
        """(network, row, n) coefficients → (network, row, step, channel) after spatial attention.

        lengths : of the rows, the longest first. What is beyond them is 0.
        """
        n_first = [count_first(n) for n in lengths]
        n_second = [count_second(n) for n in n_first]
        ragged = n_first[-1] < n_first[0]
        n_shown = torch.tensor([n_first, n_second], device=rows.device)[:, :, None]  # (2, row, 1)
        first_mask = _mask(n_shown[0, :, 0], n_first[0]) if ragged else None
        mask = _mask(n_shown[1, :, 0], n_second[0]) if ragged else None
        steps = self.first(rows, filters.first, n_shown[0], first_mask, 2 * n_second[0] + 3)
        steps = _convolve(steps, filters.second, SECOND, stride=2)
        steps = _NormLeaky.apply(steps, n_shown[1], mask)
        if self.training:
            steps = _dropped(steps, self.dropout)
        return look_around(steps, filters, n_shown[1], mask)

    def first(
        self, rows: Tensor, weight: Tensor, n_shown: Tensor, mask: Tensor | None, n_needed: int
    ) -> Tensor:
        """(network, row, n) → (network, row, n_needed, channel): the even ones of the first convolution's
        normalised outputs.

        The second convolution, of dilation 2 and stride 4, takes in no others. The norm's mean and variance
        are those of all outputs, by those of the coefficients in a window.
        """
        windows = rows.unfold(2, FIRST_SPAN, STRIDE)[..., ::FIRST_DILATION]  # (network, row, output, tap)
        mean = (windows if mask is None else windows * mask).sum(dim=2, keepdim=True) / n_shown[..., None]
        with torch.autocast(rows.device.type, enabled=False):
            centred = windows - mean if mask is None else (windows - mean) * mask
            precise, taps = centred.double(), weight.double()[:, None]
            covariance = precise.mT @ precise / n_shown[..., None]  # (network, row, tap, tap)
            variance = ((taps @ covariance) * taps).sum(dim=3, keepdim=True)  # (network, row, channel, 1)
            scaled = (taps * torch.rsqrt(variance + EPSILON)).to(rows.dtype)
        steps = centred[:, :, ::2][:, :, :n_needed] @ scaled.mT
        steps = functional.leaky_relu(steps, SLOPE)
        return _dropped(steps, self.dropout) if self.training else steps

    def attend(self, outputs: Tensor) -> Tensor:
        """Temporal attention: (band, step, n) of one recording → (band, n)."""
        last = outputs[:, -1:]
        scores = outputs @ (last @ self.query_weights).mT  # W₁ᵀ h_last once, not W₁ hₜ each
        context = scores.softmax(dim=1).mT.to(outputs.dtype) @ outputs
        return torch.tanh(torch.cat([context, last], dim=2) @ self.combine_weights.mT)[:, 0]


def look_around(steps: Tensor, filters: Filters, n_shown: Tensor, mask: Tensor | None) -> Tensor:
    """Spatial attention: (network, row, step, channel) → the same shape."""
    around = _NormLeaky.apply(_convolve(steps, filters.third, THIRD, padding=THIRD // 2), n_shown, mask)
    scores = (steps + around) @ filters.score[:, None].mT  # (network, row, step, 1)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    glance = scores.softmax(dim=2).to(steps.dtype).mT @ steps  # (network, row, 1, channel)
    return functional.leaky_relu(steps + glance, SLOPE)


def count_first(n_coefficients: Length) -> Length:
    """Outputs of the first convolution."""
    return (n_coefficients - FIRST_SPAN) // STRIDE + 1


def count_second(n_first: Length) -> Length:
    """Outputs of the second convolution, of those of the first."""
    return (n_first - SECOND_SPAN) // STRIDE + 1


def count_steps(n_coefficients: Length) -> Length:
    """That the recurrent layers take."""
    return count_second(count_first(n_coefficients))


def _mask(counts: Tensor, n: int) -> Tensor:
    return mask_until(counts, n)[..., None]  # (row, step, 1)


def _side_by_side(weights: Tensor) -> Tensor:
    """(channel, channel, tap) → (channel, channel, 1, tap), those of a tap side by side, as is fastest."""
    return weights[:, :, None].contiguous(memory_format=torch.channels_last)


def _convolve(steps: Tensor, filters: Tensor, taps: int, stride: int = 1, padding: int = 0) -> Tensor:
    """(network, row, step, channel) with (network, channel, channel, tap), or with those of one network as
    _side_by_side makes them."""
    if len(steps) == 1:
        picture = steps[0].transpose(1, 2)[:, :, None]  # (row, channel, 1, step), channels last
        convolved = functional.conv2d(picture, filters, stride=(1, stride), padding=(0, padding))
        return convolved[:, :, 0].transpose(1, 2)[None]
    padded = functional.pad(steps, (0, 0, padding, padding)) if padding else steps
    windows = padded.unfold(2, taps, stride)  # (network, row, step, channel, tap)
    products = windows.reshape(len(steps), -1, filters[0, 0].numel()) @ filters.flatten(2).mT
    return products.view(*windows.shape[:3], -1)


def _dropped(values: Tensor, share: float) -> Tensor:
    """Dropout; on a CPU by 16 random bits a value, which are drawn five times as fast."""
    if values.device.type != "cpu":
        return functional.dropout(values, share)
    n = values.numel()
    bits = torch.empty(-(-n // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)[:n]
    kept = bits >= round(share * 2**16) - 2**15
    return values * (kept.to(values.dtype) / (1 - share)).view(values.shape)


class _NormLeaky(torch.autograd.Function):
    """Instance norm over the steps of each row, and a leaky ReLU: (network, row, step, channel) → the same.

    n_shown : (row, 1) steps of each row; mask : (row, step, 1), or None for all; 0 beyond it.
    Sums are in float32 whatever the values are.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, n_shown: Tensor, mask: Tensor | None) -> Tensor:
        kind, counts = values.dtype, n_shown[..., None]
        wide = torch.promote_types(kind, torch.float32)
        shown = None if mask is None else mask.to(kind)
        if shown is not None:
            values = values * shown
        mean = values.sum(dim=2, keepdim=True, dtype=wide) / counts
        rounded = mean.to(kind)
        centred = values - rounded if shown is None else (values - rounded) * shown
        rest = mean - rounded.to(wide)
        variance = centred.square().sum(dim=2, keepdim=True, dtype=wide) / counts - rest.square()
        scale = torch.rsqrt(variance + EPSILON)
        normal = torch.addcmul((-rest * scale).to(kind), centred, scale.to(kind))
        if shown is not None:
            normal = normal * shown
        ctx.save_for_backward(normal, scale, counts, mask)
        return functional.leaky_relu(normal, SLOPE)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        normal, scale, counts, mask = ctx.saved_tensors
        kind, wide = normal.dtype, scale.dtype
        gradient = torch.ops.aten.leaky_relu_backward(gradient, normal, SLOPE, False)
        if mask is not None:
            gradient = gradient * mask
        mean = gradient.sum(dim=2, keepdim=True, dtype=wide) / counts
        slope = (gradient * normal).sum(dim=2, keepdim=True, dtype=wide) / counts
        change = torch.addcmul((-mean * scale).to(kind), gradient, scale.to(kind))
        change = change.addcmul_(normal, (-slope * scale).to(kind))
        return change if mask is None else change * mask, None, None
