"""Learnable wavelet packets, forward and backward, against a recursion over nodes and against ptwt.

ptwt is a peer for this script alone: `pip install --no-deps ptwt`. Without it that row is left out.
"""

from __future__ import annotations

from collections.abc import Callable

import pywt
import torch
from common import compare, machine
from torch import Tensor
from torch.nn import functional

from ser_heads.layers.wavelet_packet import WaveletPacket, conjugate_of

BATCH, N_SAMPLES = 8, 24_000  # 3 s at 8 kHz


def main() -> None:
    """Print the ratios at depths 5 and 8, after checking that all agree."""
    try:
        import ptwt
    except ImportError:
        ptwt = None
    torch.manual_seed(0)
    signal = torch.randn(BATCH, N_SAMPLES)
    print(machine(), f"; {torch.get_num_threads()} threads; db10, {BATCH} signals of {N_SAMPLES}", sep="")

    def learned() -> Tensor:
        """The signal as if out of a layer: it takes gradients, as our kernels do; those of ptwt don't."""
        return signal.clone().requires_grad_()

    for depth in (5, 8):
        packet = WaveletPacket("db10", depth)

        def recursion(packet: WaveletPacket = packet, depth: int = depth) -> Tensor:
            low = packet.kernels[0][None]
            high, taps = conjugate_of(low), low.shape[-1]

            def split(node: Tensor, level: int, mirrored: bool) -> list[Tensor]:
                if level == depth:
                    return [node[:, 0]]
                extended = functional.pad(node, (taps - 2, taps - 1))
                children = [functional.conv1d(extended, kernel, stride=2) for kernel in (low, high)]
                below = [
                    split(child, level + 1, bool(place) != mirrored) for place, child in enumerate(children)
                ]
                return below[1] + below[0] if mirrored else below[0] + below[1]

            return torch.stack(split(learned()[:, None], 0, False), dim=1)

        def by_ptwt(depth: int = depth) -> Tensor:
            tree = ptwt.WaveletPacket(learned(), pywt.Wavelet("db10"), mode="zero", maxlevel=depth)
            return torch.stack([tree[path] for path in tree.get_level(depth, "freq")], dim=1)

        torch.testing.assert_close(recursion(), packet(signal), rtol=1e-4, atol=1e-4)

        def step(transform: Callable[[], Tensor]) -> Callable[[], int]:
            def work() -> int:
                transform().square().sum().backward()
                return BATCH

            return work

        def forward(transform: Callable[[], Tensor]) -> Callable[[], int]:
            def work() -> int:
                with torch.no_grad():
                    transform()
                return BATCH

            return work

        def ours(packet: WaveletPacket = packet) -> Tensor:
            return packet(learned())

        peers = {"recursion over nodes": recursion}
        if ptwt is not None:
            torch.testing.assert_close(by_ptwt(), packet(signal), rtol=1e-4, atol=1e-4)
            peers["ptwt"] = by_ptwt
        for name, peer in peers.items():
            what = f"depth {depth}"
            compare(f"{what}, forward", "signals", forward(ours), forward(peer), name, rounds=9)
            compare(f"{what}, forward and backward", "signals", step(ours), step(peer), name, rounds=9)


if __name__ == "__main__":
    main()
