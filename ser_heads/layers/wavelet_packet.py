"""Learnable wavelet packets: a tree of convolutions that starts as any wavelet and may become another one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from ser_heads.layers.packet_tree import equal_tree, in_order

Sharing = Literal["tree", "level", "node"]
Mode = Literal["zero", "constant", "symmetric", "reflect", "periodic", "valid"]
Length = TypeVar("Length", int, Tensor)
DEEPEST = 10
THRESHOLDS = (0.5, 1.0)  # from which a threshold is drawn at the start
STEEPNESS = (10.0, 15.0)  # and how steep it is


class WaveletPacket(nn.Module):
    """(batch, n_samples) → (batch, 2 ** depth, n_coefficients), bands in the order of their frequency.

    wavelet : a discrete one by the name that PyWavelets gives it; its filters are where the kernels start
    depth : levels of the tree, 1 to 10
    sharing : one pair of kernels for the whole tree, for each level, or for each node
    mode : what is beyond the ends of a signal, as PyWavelets names it; or valid: nothing, so that kernels
        stay within the signal
    conjugate : the high-pass is the low-pass reversed with alternating signs, as in every orthogonal wavelet;
        else both are learned
    threshold : learnable asymmetric hard thresholds after every high-pass
    leaves : paths of another tree's leaves, in any order, in place of an equal tree of a depth

    Without thresholds and before it has learned it equals `pywt.WaveletPacket(...).get_level(depth, "freq")`,
    and of another tree, which `decompose` takes, the data of its leaves.

    Kernels are correlated with the signal as PyWavelets does: every second product, so that n samples become
    (n + taps - 1) // 2 coefficients, or (n - taps) // 2 + 1 if they stay within. Raises ValueError for
    another wavelet, depth, sharing, mode or tree, and for a signal that is too short.
    """

    def __init__(
        self,
        wavelet: str = "db10",
        depth: int = 5,
        sharing: Sharing = "tree",
        mode: Mode = "zero",
        conjugate: bool = True,
        threshold: bool = False,
        leaves: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        depth = depth if leaves is None else max(map(len, leaves))
        check_packet(wavelet, depth, sharing, mode, conjugate)
        import pywt

        known = pywt.Wavelet(wavelet)
        self.depth, self.sharing, self.mode = depth, sharing, mode
        self.leaves = equal_tree(depth) if leaves is None else in_order(leaves)
        self.split, self.kept = self._grow()
        n_split = sum(map(len, self.split))
        n_kernels = {"tree": 1, "level": depth, "node": n_split}[sharing]
        kernels = torch.tensor([known.dec_lo] if conjugate else [known.dec_lo, known.dec_hi])
        # (n, 1 or 2, taps), as they are correlated
        self.kernels = nn.Parameter(kernels.flip(1).repeat(n_kernels, 1, 1))
        self.threshold: AsymmetricThreshold | None = AsymmetricThreshold(n_split) if threshold else None

    def _grow(self) -> tuple[list[list[int]], dict[int, list[int]]]:
        """Of each level, places of the nodes that are split among those that came from the level before; and
        level → places of leaves, in the order of frequency."""
        split, kept, nodes = [], {}, [""]
        for level in range(self.depth):
            split.append([place for place, node in enumerate(nodes) if node not in self.leaves])
            nodes = [nodes[place] + side for place in split[-1] for side in "ad"]
            leaves = [nodes.index(leaf) for leaf in self.leaves if len(leaf) == level + 1]
            if leaves:
                kept[level + 1] = leaves
        return split, kept

    def pairs(self) -> Tensor:
        """(n, 2, taps): low-pass and high-pass of the tree, of each level, or of each node, as correlated."""
        if self.kernels.shape[1] == 2:
            return self.kernels
        return torch.cat([self.kernels, conjugate_of(self.kernels)], dim=1)

    def forward(self, signal: Tensor) -> Tensor:
        """Of an equal tree; ValueError for another one, whose bands have several lengths."""
        if len(self.kept) > 1:
            raise ValueError("bands of a tree of several levels have several lengths: use decompose")
        return self.decompose(signal)[self.depth]

    def decompose(self, signal: Tensor) -> dict[int, Tensor]:
        """(batch, n_samples) → level → (batch, leaves of that level, n_coefficients), in the order of their
        frequency."""
        if signal.ndim != 2 or signal.shape[1] == 0:
            raise ValueError(f"signals have the shape (batch, n_samples), got {tuple(signal.shape)}")
        if signal.shape[1] < self.least_samples():
            raise ValueError(
                f"without padding a signal has at least {self.least_samples()} samples here, "
                f"got {signal.shape[1]}"
            )
        with torch.autocast(signal.device.type, enabled=False):  # half of the digits would drown quiet bands
            return self._descend(signal.to(self.kernels.dtype))

    def _descend(self, signal: Tensor) -> dict[int, Tensor]:
        pairs, bands, first = self.pairs(), {}, 0
        taps = pairs.shape[2]
        nodes = signal[:, None]  # (batch, node, n)
        for level, split in enumerate(self.split):
            nodes = nodes if len(split) == nodes.shape[1] else nodes[:, split]
            kernels = {
                "tree": pairs[:1],
                "level": pairs[level : level + 1],
                "node": pairs[first:][: len(split)],
            }
            extended = nodes if self.mode == "valid" else extend(nodes, taps - 2, taps - 1, self.mode)
            halves = halve(extended, kernels[self.sharing])
            if self.threshold is not None:
                low, high = halves.unbind(2)
                halves = torch.stack([low, self.threshold(high, first)], dim=2)
            nodes, first = halves.flatten(1, 2), first + len(split)
            if level + 1 in self.kept:
                bands[level + 1] = nodes[:, self.kept[level + 1]]
        return bands

    def penalty(self) -> Tensor:
        """How far the kernels are from an orthogonal pair, and so from perfect reconstruction: 0 or more.

        The mean over pairs of the squared differences between their products at even shifts and those of an
        orthogonal pair: 1 with itself unshifted, else 0.
        """
        pairs = self.pairs()
        taps = pairs.shape[2]
        padded = functional.pad(pairs, (taps - taps % 2, taps - taps % 2))
        shifted = padded.unfold(2, taps, 2)  # (n, 2, shift, taps)
        products = torch.einsum("nat,nbst->nabs", pairs, shifted)
        wanted = torch.zeros_like(products)
        wanted[:, [0, 1], [0, 1], products.shape[3] // 2] = 1
        return (products - wanted).square().sum(dim=(1, 2, 3)).mean()

    def count_coefficients(self, n_samples: Length, level: int | None = None) -> Length:
        """Of each band of a level, by default the last, for signals of so many samples."""
        taps = self.kernels.shape[2]
        for _ in range(self.depth if level is None else level):
            n_samples = (n_samples - taps) // 2 + 1 if self.mode == "valid" else (n_samples + taps - 1) // 2
        return n_samples

    def least_samples(self) -> int:
        """Of a signal, for one coefficient in each band."""
        return (
            (2**self.depth - 1) * (self.kernels.shape[2] - 2) + 2**self.depth if self.mode == "valid" else 1
        )


def check_packet(
    wavelet: str, depth: int, sharing: Sharing, mode: Mode = "zero", conjugate: bool = True
) -> None:
    """ValueError for options that no wavelet packet can have."""
    if not 1 <= depth <= DEEPEST:
        raise ValueError(f"the depth of a wavelet packet is 1 to {DEEPEST}, got {depth}")
    if sharing not in get_args(Sharing) or mode not in get_args(Mode):
        raise ValueError(
            f"sharing is one of {', '.join(get_args(Sharing))} "
            f"and mode one of {', '.join(get_args(Mode))}, got {sharing!r} and {mode!r}"
        )
    import pywt

    if wavelet not in pywt.wavelist(kind="discrete"):
        raise ValueError(f"PyWavelets knows no discrete wavelet {wavelet!r}: see pywt.wavelist()")
    if conjugate and not pywt.Wavelet(wavelet).orthogonal:
        raise ValueError(
            f"the wavelet {wavelet} isn't orthogonal: choose one that is, such as sym10, or --no-conjugate, "
            "where the model has it"
        )


def halve(nodes: Tensor, pairs: Tensor) -> Tensor:
    """Every second product of each node with its pair of kernels.

    nodes : (batch, node, n); pairs : (node, 2, taps), or (1, 2, taps) for all nodes alike
    returns : (batch, node, 2, (n - taps) // 2 + 1), low-pass and high-pass
    """
    n_nodes, taps = nodes.shape[1], pairs.shape[2]
    groups = n_nodes if len(pairs) == n_nodes else 1
    if torch.compiler.is_compiling():  # a graph for any length
        rows = nodes if groups == n_nodes else nodes.flatten(0, 1)[:, None]
        split = functional.conv1d(rows, pairs.flatten(0, 1)[:, None], stride=2, groups=groups)
        return split.unflatten(1, (groups, 2)).reshape(-1, n_nodes, 2, split.shape[2])
    # even and odd samples as two channels: a convolution of stride 1, whose backward is twice as fast
    phases = (
        pairs.unflatten(2, (taps // 2, 2)).transpose(2, 3).flatten(0, 1)
    )  # (node · 2, 2 phases, taps / 2)
    paired = nodes[..., : nodes.shape[2] // 2 * 2].unflatten(2, (-1, 2)).transpose(2, 3)
    rows = paired.flatten(1, 2) if groups == n_nodes else paired.flatten(0, 1)
    split = functional.conv1d(rows, phases, groups=groups)
    return split.view(-1, n_nodes, 2, split.shape[2])


class AsymmetricThreshold(nn.Module):
    """Lets what is beyond one of two thresholds pass, softly enough to learn where these are.

    x · (σ(α · (x - t₊)) + σ(-α · (x + t₋))), with α, t₊ and t₋ for each node, as the published wavelet-packet
    system has it.
    """

    def __init__(self, n_nodes: int) -> None:
        super().__init__()
        self.above = nn.Parameter(torch.empty(n_nodes).uniform_(*THRESHOLDS))
        self.below = nn.Parameter(torch.empty(n_nodes).uniform_(*THRESHOLDS))
        self.steepness = nn.Parameter(torch.empty(n_nodes).uniform_(*STEEPNESS))

    def forward(self, values: Tensor, first: int) -> Tensor:
        """(batch, nodes, n), of consecutive nodes from `first` on → the same shape."""
        chosen = slice(first, first + values.shape[1])
        above, below, steepness = (
            parameter[chosen, None] for parameter in (self.above, self.below, self.steepness)
        )
        passed = torch.sigmoid(steepness * (values - above)) + torch.sigmoid(-steepness * (values + below))
        return values * passed


def conjugate_of(low: Tensor) -> Tensor:
    """(..., taps) low-pass kernels → the high-pass ones, both as they are correlated with a signal."""
    signs = torch.ones(low.shape[-1], dtype=low.dtype, device=low.device)
    signs[1::2] = -1
    return low.flip(-1) * signs


def extend(signal: Tensor, left: int, right: int, mode: Mode) -> Tensor:
    """(..., n) → (..., left + n + right), continued as PyWavelets does in that mode, however short it is."""
    if mode == "zero":
        return functional.pad(signal, (left, right))
    n = signal.shape[-1]
    place = torch.arange(-left, n + right, device=signal.device)
    if mode == "constant":
        place = place.clamp(0, n - 1)
    elif mode == "periodic":
        place = place % n
    elif mode == "symmetric":
        place = place % (2 * n)
        place = torch.minimum(place, 2 * n - 1 - place)
    else:
        place = place % max(1, 2 * n - 2)
        place = torch.minimum(place, (2 * n - 2 - place).abs())
    return signal[..., place]
