"""Recurrent layers in both directions, of several networks at once, over sequences without padding."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

WIDEST = 2048  # units of all networks together that a GPU takes as one recurrent layer


class PackedGru(nn.Module):
    """(network, n, n_inputs) of rows one after the other → (network, n, 2 · n_hidden).

    Every network has its own weights and as many rows, of the same lengths; n is the sum of the lengths. Each
    is equal to nn.GRU(n_inputs, n_hidden, n_layers, bidirectional=True) over each row alone. On a GPU, where
    calls cost more than products, all networks are the blocks of one torch.gru.
    """

    def __init__(self, n_networks: int, n_inputs: int, n_hidden: int, n_layers: int) -> None:
        super().__init__()
        sizes = [n_inputs] + [2 * n_hidden] * (n_layers - 1)
        bound = n_hidden**-0.5

        def drawn(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(2, n_networks, 3 * n_hidden, *shape).uniform_(-bound, bound))

        # (direction, network, reset · update · new, ...)
        self.input_weights = nn.ParameterList(drawn(size) for size in sizes)
        self.input_biases = nn.ParameterList(drawn() for _ in sizes)
        self.hidden_weights = nn.ParameterList(drawn(n_hidden) for _ in sizes)
        self.hidden_biases = nn.ParameterList(drawn() for _ in sizes)

    def forward(self, sequence: Tensor, lengths: Tensor) -> Tensor:
        """lengths : (row,), from the longest to the shortest, at least 1"""
        layers = (self.input_weights, self.input_biases, self.hidden_weights, self.hidden_biases)
        n_networks, n_hidden = self.hidden_weights[0].shape[1], self.hidden_weights[0].shape[3]
        if sequence.is_cuda and n_networks * n_hidden <= WIDEST:
            return self.in_blocks(sequence, lengths)
        steps = _steps(lengths, len(sequence))
        for input_weight, input_bias, hidden_weight, hidden_bias in zip(*layers, strict=True):
            gates = sequence @ input_weight.permute(1, 3, 0, 2).flatten(2)  # (network, n, 2 · 3 · n_hidden)
            sequence = _Recurrence.apply(gates, input_bias, hidden_weight, hidden_bias, steps)
        return sequence

    def in_blocks(self, sequence: Tensor, lengths: Tensor) -> Tensor:
        """The same by one recurrent layer whose matrices have a network's own in each block, 0 elsewhere."""
        n_networks, n, _ = sequence.shape
        n_layers, n_hidden = len(self.hidden_weights), self.hidden_weights[0].shape[3]
        time = torch.arange(int(lengths[0]), device=lengths.device)[:, None]
        active = time < lengths  # (step, row)
        places = (lengths.cumsum(0) - lengths + time)[active]  # of the values, step after step
        weights: list[Tensor] = []
        for layer in range(n_layers):
            inputs = self.input_weights[layer]
            if layer:  # what comes from before is (direction, network, unit), not (network, direction, unit)
                inputs = inputs.unflatten(3, (2, n_hidden))
            for way in range(2):
                weights += [_blocks(inputs[way]), _blocks(self.hidden_weights[layer][way])]
                weights += [
                    biases[way].unflatten(1, (3, n_hidden)).transpose(0, 1).flatten()
                    for biases in (self.input_biases[layer], self.hidden_biases[layer])
                ]
        outputs, _ = torch.gru(
            sequence.index_select(1, places).transpose(0, 1).flatten(1),
            active.sum(dim=1).cpu(),
            sequence.new_zeros(2 * n_layers, len(lengths), n_networks * n_hidden),
            weights,
            True,  # biases
            n_layers,
            0.0,  # dropout
            self.training,
            True,  # in both directions
        )
        ordered = torch.empty_like(outputs).index_copy(0, places, outputs)
        return ordered.view(n, 2, n_networks, n_hidden).permute(2, 0, 1, 3).flatten(2)


def _blocks(weights: Tensor) -> Tensor:
    """(network, 3 · n_hidden, ..., n) → (3 · network · n_hidden, ... · network · n), 0 between networks."""
    by_gate = weights.unflatten(1, (3, -1)).movedim(0, -1)  # (gate, unit, ..., n, network)
    # (gate, network, unit, ..., network, n)
    return torch.diag_embed(by_gate, dim1=1, dim2=by_gate.ndim - 1).flatten(0, 2).flatten(1)


def _steps(lengths: Tensor, n_networks: int) -> list[Tensor]:
    """Of each step: where its values are among those of (network, n, direction), as (direction · network ·
    row,) places, for the rows that are that long. The second direction starts at each row's end."""
    ends = lengths.cumsum(0)
    n, n_rows = int(ends[-1]), len(lengths)
    time = torch.arange(int(lengths[0]), device=lengths.device)[:, None]
    ways = torch.stack([ends - lengths + time, ends - 1 - time], dim=1)  # (step, direction, row)
    networks = n * torch.arange(n_networks, device=lengths.device)[:, None]
    places = 2 * (ways[:, :, None] + networks)  # (step, direction, network, row)
    places[:, 1] += 1
    n_active = (lengths > time).sum(dim=1).tolist()
    return [
        step[..., :n].flatten() if n < n_rows else step.flatten()
        for step, n in zip(places, n_active, strict=True)
    ]


class _Recurrence(torch.autograd.Function):
    """What follows the product with the inputs, step by step and in both directions at once.

    gates : (network, n, 2 · 3 · n_hidden) products of the inputs; steps : as _steps makes them
    returns : (network, n, 2 · n_hidden)

    r = σ(gᵣ + Wᵣ h + bᵣ); z = σ(g_z + W_z h + b_z); c = tanh(g_c + r · (W_c h + b_c)); h' = c + z · (h - c)
    """

    @staticmethod
    def forward(
        ctx: Any, gates: Tensor, input_bias: Tensor, weight: Tensor, bias: Tensor, steps: list[Tensor]
    ) -> Tensor:
        size, n_groups = weight.shape[3], 2 * weight.shape[1]
        weights = weight.flatten(0, 1)
        transposed, biases = weights.transpose(1, 2), bias.flatten(0, 1)[:, None]
        input_biases = input_bias.flatten(0, 1)[:, None]
        rows = gates.reshape(-1, 3 * size)
        outputs = weight.new_empty(*gates.shape[:2], 2 * size)
        hidden = weight.new_zeros(n_groups, len(steps[0]) // n_groups, size)
        kept = []
        for places in steps:
            gate = rows.index_select(0, places).view(n_groups, -1, 3 * size) + input_biases
            hidden = hidden[:, : gate.shape[1]]
            pushed = torch.baddbmm(biases, hidden, transposed)
            share, push = gate[..., : 2 * size].add_(pushed[..., : 2 * size]), pushed[..., 2 * size :]
            share.sigmoid_()
            new = gate[..., 2 * size :].addcmul_(share[..., :size], push).tanh_()
            kept.append((gate, push, hidden))
            hidden = torch.lerp(new, hidden, share[..., size:])
            outputs.view(-1, size).index_copy_(0, places, hidden.view(-1, size))
        ctx.save_for_backward(weights)
        ctx.steps, ctx.kept, ctx.like, ctx.shape = steps, kept, gates, weight.shape
        return outputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, None]:
        (weights,) = ctx.saved_tensors
        size, n_groups = weights.shape[2], len(weights)
        rows = gradient.reshape(-1, size)
        changes = torch.empty_like(ctx.like)
        for_weight, for_bias = torch.zeros_like(weights), weights.new_zeros(n_groups, 3 * size)
        for_input_bias = torch.zeros_like(for_bias)
        carried = weights.new_zeros(n_groups, 0, size)
        for places, (gate, push, before) in zip(reversed(ctx.steps), reversed(ctx.kept), strict=True):
            own = rows.index_select(0, places).view(n_groups, -1, size)
            own[:, : carried.shape[1]] += carried
            reset, update, new = gate.split(size, dim=2)
            kept = own * update
            for_new = torch.ops.aten.tanh_backward(own - kept, new)
            for_reset = torch.ops.aten.sigmoid_backward(for_new * push, reset)
            for_update = torch.ops.aten.sigmoid_backward(own * (before - new), update)
            change = torch.cat([for_reset, for_update, for_new], dim=2)
            changes.view(-1, 3 * size).index_copy_(0, places, change.view(-1, 3 * size).to(changes.dtype))
            for_input_bias += change.sum(dim=1)
            change[..., 2 * size :] *= reset
            for_weight.baddbmm_(change.transpose(1, 2), before)
            for_bias += change.sum(dim=1)
            carried = torch.baddbmm(kept, change, weights)
        shape = ctx.shape
        return changes, for_input_bias.view(shape[:3]), for_weight.view(shape), for_bias.view(shape[:3]), None
