"""A training step of the published wavelet packet system, against going through its tree node by node and
through its bands one by one, as the public code does, at the same outputs.

What is gained is the cost of many small calls; the multiplications are the same, and in larger batches they
are most of it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from common import compare, machine
from torch import Tensor, nn
from torch.nn import functional

from data_manifests.labels import EMOTIONS
from ser_heads.frontends import FrameBatch
from ser_heads.layers.masked import MaskedGru
from ser_heads.layers.wavelet_packet import conjugate_of
from ser_heads.models.wavelet_packet_net import RATE, WaveletPacketNet

DEPTH, SECONDS, BATCHES = 5, 2, (2, 8)


class NodeByNode(nn.Module):
    """(batch, n) → (batch, n_classes), by PyTorch's own layers with another one's weights, node by node and
    band by band. All signals are of one length."""

    def __init__(self, net: WaveletPacketNet) -> None:
        super().__init__()
        self.net = net
        self.recurrent = nn.ModuleList(gru_of(network.recurrent) for network in net.networks)

    def forward(self, signal: Tensor) -> Tensor:
        bands = self.split(signal[:, None], 0, 0, False)
        vectors = torch.stack([self.band(band, place) for place, band in enumerate(bands)], dim=1)
        scores = self.net.last(vectors * self.net.band_weights[:, None])
        return functional.leaky_relu(functional.instance_norm(scores)).mean(dim=2)

    def split(self, node: Tensor, level: int, place: int, mirrored: bool) -> list[Tensor]:
        packet = self.net.packet
        if level == packet.depth:
            return [node]
        number = 2**level - 1 + place
        low = packet.kernels[{"tree": 0, "level": level, "node": number}[packet.sharing]][None]
        children = [functional.conv1d(node, kernel, stride=2) for kernel in (low, conjugate_of(low))]
        children[1] = packet.threshold(children[1], number)
        below = [
            self.split(child, level + 1, 2 * place + side, bool(side) != mirrored)
            for side, child in enumerate(children)
        ]
        return below[1] + below[0] if mirrored else below[0] + below[1]

    def band(self, sequence: Tensor, place: int) -> Tensor:
        place %= len(self.recurrent)
        network = self.net.networks[place]
        for convolution in (network.first, network.second):
            normal = functional.instance_norm(convolution(sequence))
            sequence = network.dropout(functional.leaky_relu(normal))
        spatial = network.spatial
        overall = spatial.overall(sequence.mean(dim=2))[:, :, None]
        weights = spatial.score(torch.tanh(spatial.local(sequence) + overall)).softmax(dim=2)
        sequence = sequence + (sequence * weights).sum(dim=2, keepdim=True)
        outputs = self.recurrent[place](sequence.transpose(1, 2))[0]  # (batch, time, 2 · n_hidden)
        last = outputs[:, -1:]
        scores = (network.temporal.score(outputs) * last).sum(dim=2, keepdim=True)
        context = (scores.softmax(dim=1) * outputs).sum(dim=1)
        return torch.tanh(network.temporal.combine(torch.cat([context, last[:, 0]], dim=1)))


def gru_of(ours: MaskedGru) -> nn.GRU:
    n_layers, first = len(ours.forwards), ours.forwards[0]
    theirs = nn.GRU(
        first.input_size,
        first.hidden_size,
        n_layers,
        batch_first=True,
        bidirectional=True,
        dropout=ours.dropout.p,
    )
    for layer, pair in enumerate(zip(ours.forwards, ours.backwards, strict=True)):
        for suffix, its in zip(("", "_reverse"), pair, strict=True):
            for name, parameter in its.named_parameters():
                getattr(theirs, name.replace("l0", f"l{layer}") + suffix).data.copy_(parameter.data)
    return theirs


def main() -> None:
    """Print the ratios of small and larger batches, after checking that both agree."""
    print(machine(), f"; {torch.get_num_threads()} threads; depth {DEPTH}, {SECONDS} s at 16 kHz", sep="")
    for size in BATCHES:
        torch.manual_seed(0)
        net = WaveletPacketNet(len(EMOTIONS), depth=DEPTH)
        peer = NodeByNode(net)
        signal = torch.randn(size, SECONDS * RATE)
        batch = batch_of(signal)
        with torch.no_grad():
            torch.testing.assert_close(peer.eval()(signal), net.eval()(batch), rtol=1e-4, atol=1e-4)
        net.train(), peer.train()
        ours = step(lambda net=net, batch=batch: net(batch), net)
        theirs = step(lambda peer=peer, signal=signal: peer(signal), peer)
        compare(f"training step, batch {size}", "samples", ours, theirs, "node by node", rounds=5)


def batch_of(signal: Tensor) -> FrameBatch:
    return FrameBatch(signal[..., None], torch.full((len(signal),), signal.shape[1]))


def step(forward: Callable[[], Tensor], module: nn.Module) -> Callable[[], int]:
    """A step of Adam on the mean loss of random emotions."""
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-9)

    def work() -> int:
        logits = forward()
        emotion = torch.arange(len(logits)) % len(EMOTIONS)
        optimizer.zero_grad()
        functional.cross_entropy(logits, emotion).backward()
        optimizer.step()
        return len(logits) * SECONDS * RATE

    return work


if __name__ == "__main__":
    main()
