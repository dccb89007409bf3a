"""The masked norm and attention against torch's own and loops over single utterances."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ser_heads.layers.masked import (
    AttentiveStatistics,
    MaskedBatchNorm,
    mask_until,
    masked_softmax,
)

LENGTHS = torch.tensor([9, 1, 14, 5])
MASK = mask_until(LENGTHS, 14)


def sequences(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Rubbish where the mask is False."""
    generator = torch.Generator().manual_seed(seed)
    return 3 + 2 * torch.randn(len(LENGTHS), *shape, 14, generator=generator, dtype=dtype)


def frames(sequence: Tensor) -> Tensor:
    """(batch, channel, [band,] time) → (value, channel, 1), of what the mask shows."""
    shown = sequence.movedim(-1, 1)[MASK]  # (frame, channel, [band])
    return shown.movedim(1, -1).reshape(-1, shown.shape[1], 1)


def test_the_softmax_is_over_what_the_mask_shows() -> None:
    scores = sequences(2, 3)
    weights = masked_softmax(scores, MASK)
    for utterance, length in enumerate(LENGTHS):
        expected = scores[utterance, ..., :length].softmax(dim=-1)
        torch.testing.assert_close(weights[utterance, ..., :length], expected)
        assert weights[utterance, ..., length:].count_nonzero() == 0


@pytest.mark.parametrize("bands", [(), (3,)])
@pytest.mark.parametrize("masked", [True, False])
def test_batch_norm_is_torchs_of_the_frames_that_are_shown(bands: tuple[int, ...], masked: bool) -> None:
    torch.manual_seed(0)
    ours, torchs = MaskedBatchNorm(5).double(), nn.BatchNorm1d(5).double()
    with torch.no_grad():
        torchs.weight.copy_(ours.weight.normal_())
        torchs.bias.copy_(ours.bias.normal_())
    mask = MASK if masked else torch.ones_like(MASK)
    pick: Callable[[Tensor], Tensor] = (
        frames if masked else lambda x: x.movedim(1, -1).reshape(-1, 5, 1)  # every frame
    )
    gradient = sequences(5, *bands, seed=9)
    shown = mask.view(len(mask), *[1] * (1 + len(bands)), -1)
    for seed in range(3):
        sequence = sequences(5, *bands, seed=seed).requires_grad_()
        again = sequence.detach().clone().requires_grad_()
        result, expected = ours(sequence, mask), torchs(pick(again))
        torch.testing.assert_close(pick(result), expected)
        (result * shown * gradient).sum().backward()
        (expected * pick(gradient)).sum().backward()
        torch.testing.assert_close(sequence.grad, again.grad)
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(ours, name), getattr(torchs, name))
    torch.testing.assert_close(ours.weight.grad, torchs.weight.grad)
    torch.testing.assert_close(ours.bias.grad, torchs.bias.grad)
    ours.eval(), torchs.eval()
    torch.testing.assert_close(pick(ours(sequence, mask)), torchs(pick(again)))


def test_batch_norm_learns_from_two_values_or_more() -> None:
    one = mask_until(torch.tensor([1]), 14)
    with pytest.raises(ValueError, match="two values"):
        MaskedBatchNorm(5)(torch.randn(1, 5, 14), one)
    assert MaskedBatchNorm(5)(torch.randn(1, 5, 2, 14), one).isfinite().all()


def test_attentive_statistics_by_a_loop() -> None:
    torch.manual_seed(0)
    pooling, sequence = AttentiveStatistics(3, 4).double(), sequences(3)
    result = pooling(sequence, MASK).detach()
    first, _, second = pooling.score
    w, b, v = first.weight[:, :, 0].detach(), first.bias.detach(), second.weight[:, :, 0].detach()
    for utterance, length in enumerate(LENGTHS):
        steps = [sequence[utterance, :, t] for t in range(length)]
        scores = torch.stack([v @ torch.tanh(w @ step + b) for step in steps])
        for channel in range(3):
            parts = scores[:, channel].exp() / scores[:, channel].exp().sum()
            mean = sum(float(part * step[channel]) for part, step in zip(parts, steps, strict=True))
            variance = sum(
                float(part * (step[channel] - mean) ** 2) for part, step in zip(parts, steps, strict=True)
            )
            assert float(result[utterance, channel]) == pytest.approx(mean)
            assert float(result[utterance, 3 + channel]) == pytest.approx(max(1e-3, math.sqrt(variance)))


BLOCKS: dict[str, Callable[[], nn.Module]] = {
    "batch norm": lambda: MaskedBatchNorm(6).eval(),
    "statistics": lambda: AttentiveStatistics(6, 4),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_padding_changes_nothing(name: str) -> None:
    torch.manual_seed(0)
    layer, sequence = BLOCKS[name](), sequences(6, dtype=torch.float32)
    together = layer(sequence, MASK)
    for utterance, length in enumerate(LENGTHS):
        alone = layer(sequence[[utterance], :, :length], MASK[[utterance]][..., :length])
        result = together[[utterance]]
        result = result[:, :, :length] if result.ndim == 3 else result
        torch.testing.assert_close(result, alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("constant", [0.0, 2.0, None])
def test_gradients_are_finite_and_no_parameter_is_idle(name: str, constant: float | None) -> None:
    torch.manual_seed(0)
    layer = BLOCKS[name]()
    sequence = sequences(6, dtype=torch.float32)
    if constant is not None:
        sequence = torch.full_like(sequence, constant)
    sequence.requires_grad_()
    result = layer(sequence, MASK)
    (result * torch.randn_like(result)).sum().backward()
    for parameter in [sequence, *layer.parameters()]:
        assert parameter.grad is not None and parameter.grad.isfinite().all()
        assert constant is not None or parameter.grad.count_nonzero() > 0
