"""A training step of the published wavelet packet system, against going through its tree node by node and
through its bands one by one, as the public code does, at the same outputs.

What is gained is the cost of many small calls, of outputs that the next stride passes over, and of padding;
in larger batches multiplications are most of it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from common import compare, machine
from torch import Tensor, nn
from torch.nn import functional

from data_manifests.labels import EMOTIONS
from ser_heads.frontends import FrameBatch
from ser_heads.layers.wavelet_packet import conjugate_of
from ser_heads.models.wavelet_packet_net import DROPOUT, RATE, WaveletPacketNet, WaveletPacketNetOptions

DEPTH, SECONDS, BATCHES = 5, 2, (2, 8)


class NodeByNode(nn.Module):
    """(batch, n) → (batch, n_classes), by PyTorch's own layers with another one's weights, node by node and
    band by band. All signals are of one length."""

    def __init__(self, net: WaveletPacketNet) -> None:
        super().__init__()
        self.net = net
        n_networks = len(net.networks.first_weights)
        self.recurrent = nn.ModuleList(gru_of(net, network) for network in range(n_networks))

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
        kernels = packet.kernels[{"tree": 0, "level": level, "node": number}[packet.sharing]]
        low, high = (kernels[0], conjugate_of(kernels[0])) if len(kernels) == 1 else kernels
        children = [functional.conv1d(node, kernel[None, None], stride=2) for kernel in (low, high)]
        children[1] = self.threshold(children[1], number)
        below = [
            self.split(child, level + 1, 2 * place + side, bool(side) != mirrored)
            for side, child in enumerate(children)
        ]
        return below[1] + below[0] if mirrored else below[0] + below[1]

    def threshold(self, values: Tensor, number: int) -> Tensor:
        learned = self.net.packet.threshold
        above, below, steepness = learned.above[number], learned.below[number], learned.steepness[number]
        return values * (
            torch.sigmoid(steepness * (values - above)) + torch.sigmoid(-steepness * (values + below))
        )

    def band(self, sequence: Tensor, place: int) -> Tensor:
        place %= len(self.recurrent)
        networks = self.net.networks
        weights = [
            getattr(networks, f"{name}_weights")[place]
            for name in ("first", "second", "third", "score", "query", "combine")
        ]
        first, second, third, score, query, combine = weights
        for weight, dilation in ((first[:, None], 3), (second, 2)):
            normal = functional.instance_norm(
                functional.conv1d(sequence, weight, stride=4, dilation=dilation)
            )
            sequence = functional.dropout(functional.leaky_relu(normal), DROPOUT, self.training)
        overall = functional.leaky_relu(
            functional.instance_norm(functional.conv1d(sequence, third, padding=3))
        )
        scores = functional.conv1d(sequence + overall, score[:, :, None])
        glance = (sequence * scores.softmax(dim=2)).sum(dim=2, keepdim=True)
        sequence = functional.leaky_relu(sequence + glance)
        outputs = self.recurrent[place](sequence.transpose(1, 2))[0]  # (batch, time, 2 · n_hidden)
        last = outputs[:, -1]
        scores = ((outputs @ query.T) * last[:, None]).sum(dim=2, keepdim=True)
        context = (scores.softmax(dim=1) * outputs).sum(dim=1)
        return torch.tanh(torch.cat([context, last], dim=1) @ combine.T)


def gru_of(net: WaveletPacketNet, network: int) -> nn.GRU:
    """PyTorch's own with the weights of one network."""
    ours = net.networks.recurrent
    n_hidden = ours.hidden_weights[0].shape[3]
    theirs = nn.GRU(
        ours.input_weights[0].shape[3],
        n_hidden,
        len(ours.input_weights),
        batch_first=True,
        bidirectional=True,
    )
    names = {
        "weight_ih": ours.input_weights,
        "weight_hh": ours.hidden_weights,
        "bias_ih": ours.input_biases,
        "bias_hh": ours.hidden_biases,
    }
    for name, layers in names.items():
        for layer, values in enumerate(layers):
            for suffix, way in (("", 0), ("_reverse", 1)):
                getattr(theirs, f"{name}_l{layer}{suffix}").data.copy_(values.data[way, network])
    return theirs


def main() -> None:
    """Print the ratios of small and larger batches, after checking that both agree."""
    print(machine(), f"; {torch.get_num_threads()} threads; depth {DEPTH}, {SECONDS} s at 16 kHz", sep="")
    for share_bands in (True, False):
        for size in BATCHES:
            torch.manual_seed(0)
            options = WaveletPacketNetOptions(depth=DEPTH, share_bands=share_bands)
            net = WaveletPacketNet(len(EMOTIONS), options)
            peer = NodeByNode(net)
            signal = torch.randn(size, SECONDS * RATE)
            batch = batch_of(signal)
            with torch.no_grad():
                torch.testing.assert_close(peer.eval()(signal), net.eval()(batch), rtol=1e-5, atol=1e-5)
            net.train(), peer.train()
            ours = step(lambda net=net, batch=batch: net(batch), net)
            theirs = step(lambda peer=peer, signal=signal: peer(signal), peer)
            bands = "one network" if share_bands else "a network for each band"
            compare(
                f"training step, {bands}, batch {size}", "samples", ours, theirs, "node by node", rounds=5
            )


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
