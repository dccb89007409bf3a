"""Every model by its name: built from one configuration, saved with it, and built again from the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from torch import Tensor

from fins.checkpoints import SHIPPED, load_named_fin, load_tensors, rebuild_fin, save_tensors
from fins.compact import MelFin, permute_bins, prune
from fins.networks import Fin, build_fin
from ser_heads.base import UtteranceModel
from ser_heads.classifier import Classifier, Removed
from ser_heads.fin_branch import ClosedForm, FinBranch
from ser_heads.references import (
    cnn_lstm,
    cnn_transformer,
    feature_cnn,
    raw_cnn,
    spectral_svm,
    spectrogram_cnn,
    wavelet_packet_net,
)
from ser_heads.references.cnn_transformer import Size
from ser_heads.wavelet_branch import WaveletBranch, WaveletConfig
from ser_heads.wavelet_packet import Sharing

ModelName = Literal[
    "fin",
    "wavelet",
    "fin_wavelet",
    "feature_cnn",
    "wavelet_packet_net",
    "cnn_lstm_1d",
    "cnn_lstm_2d",
    "cnn_transformer",
    "spectral_svm",
    "raw_cnn",
    "spectrogram_cnn",
]
OWN = ("mel", "rms", "zcr", "pitch")
FINS_OF = {"fin": OWN, "fin_wavelet": OWN}
"""Model → the FINs that it has where none are named; the others have none."""
SETTINGS: dict[str, dict[str, Any]] = {
    "feature_cnn": feature_cnn.SETTINGS,
    "wavelet_packet_net": wavelet_packet_net.SETTINGS,
    "cnn_lstm_1d": cnn_lstm.SETTINGS,
    "cnn_lstm_2d": cnn_lstm.SETTINGS,
    "cnn_transformer": cnn_transformer.SETTINGS,
    "spectral_svm": spectral_svm.SETTINGS,
}
"""Model → its own values of options, where they aren't the defaults: as a rule those published with it."""


PERMUTATION = 0  # seed of the shuffled bins
Pretraining = Literal["imitation", "permuted", "none", "closed_form"]


@dataclass(frozen=True)
class ModelConfig:
    """What a classifier is built from; saved beside its weights."""

    model: ModelName = "fin_wavelet"
    """fin, wavelet or both; or a published system."""
    fins: tuple[str, ...] | None = None
    """FINs by name or folder of a run; by default mel, rms, zcr and pitch. Those of feature_cnn stand in for
    closed forms; by default none does."""
    pretraining: Pretraining = "imitation"
    """What its FINs know at the start: imitation of their features, the same with bands of shuffled bins
    (permuted), or none, but random weights. Or closed forms stand in their place."""
    removed: Removed = "channel"
    """What of an utterance's FIN outputs is taken away: level, channel (the mean of each output), nothing."""
    wavelet: str = "sym10"
    """Where the wavelet packets start, as PyWavelets names it."""
    depth: int = 5
    """Levels of the wavelet packets, 1 to 10."""
    sharing: Sharing = "tree"
    """Kernels of the wavelet packets: one pair for the tree, for each level, or for each node."""
    share_bands: bool = True
    """One network over all bands; else each band has its own."""
    size: Size = "8M"
    """Parameters of cnn_transformer. The other options are those of 8M; published are a --weight-decay of
    0.1 for 16M, and a --learning-rate of 3e-6 for 32M."""


def build_model(config: ModelConfig) -> tuple[UtteranceModel, list[dict[str, Any]]]:
    """A model with random weights but for its FINs, and the headers of these.

    Compact FINs of mel and mfcc are pruned: their weights that are zero stay zero.
    Raises ValueError for a FIN that can't be loaded, a feature that two FINs imitate, or a model without its
    FINs.
    """
    if config.model not in get_args(ModelName):
        raise ValueError(
            f"there is no model {config.model!r}: the known ones are {', '.join(get_args(ModelName))}"
        )
    headers, fins = [], []
    for name in fins_of(config) if config.pretraining != "closed_form" else ():
        header, fin = load_named_fin(SHIPPED.get(name, Path(name)))
        if config.pretraining == "none":
            fin = build_fin(header["feature"], header["topology"], header["n_outputs"])
        elif config.pretraining == "permuted":
            permute_bins(fin, PERMUTATION)
        if config.pretraining != "none" and isinstance(fin, MelFin) and header["topology"] == "compact":
            # else finetuning would make strong bins leak into bands that are 80 dB below
            prune(fin)
            header = {**header, "topology": "pruned"}
        headers.append(header)
        fins.append(fin)
    return assemble(config, headers, fins), headers


def fins_of(config: ModelConfig) -> tuple[str, ...]:
    """By name or folder of a run."""
    return FINS_OF.get(config.model, ()) if config.fins is None else config.fins


def assemble(
    config: ModelConfig, headers: Sequence[Mapping[str, Any]], fins: Sequence[Fin]
) -> UtteranceModel:
    """A model around its FINs, or around the closed forms in their place."""
    features = [header["feature"] for header in headers]
    members: Sequence[Fin | ClosedForm] = fins
    if config.pretraining == "closed_form":
        if config.model not in FINS_OF:
            raise ValueError(f"{config.model} has no FINs to be replaced: change --pretraining or --model")
        features = list(fins_of(config))
        members = [ClosedForm(name) for name in features]
    keys = [feature.replace(".", "_") for feature in features]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise ValueError(f"two FINs imitate {twice[0]}: give each feature once")
    branch = FinBranch(dict(zip(keys, members, strict=True))) if members else None
    if config.model == "feature_cnn":
        return feature_cnn.FeatureCnn(branch)
    needs_fins = config.model in FINS_OF
    if (branch is None) == needs_fins:
        takes = "needs at least one FIN" if needs_fins else "takes no FINs"
        raise ValueError(f"the model {config.model} {takes}: change --fins")
    if config.model == "wavelet_packet_net":
        return wavelet_packet_net.WaveletPacketNet(
            config.wavelet, config.depth, config.sharing, config.share_bands
        )
    if config.model in ("cnn_lstm_1d", "cnn_lstm_2d"):
        return cnn_lstm.CnnLstm("time" if config.model == "cnn_lstm_1d" else "frequency")
    if config.model == "cnn_transformer":
        return cnn_transformer.CnnTransformer(config.size)
    if config.model == "spectral_svm":
        return spectral_svm.SpectralSvm()
    if config.model == "raw_cnn":
        return raw_cnn.RawCnn()
    if config.model == "spectrogram_cnn":
        return spectrogram_cnn.SpectrogramCnn()
    return Classifier(branch, wavelets_of(config), config.removed)


def wavelets_of(config: ModelConfig) -> WaveletBranch | None:
    """The wavelet branch of a classifier of this package, if it has one."""
    if config.model == "fin":
        return None
    return WaveletBranch(
        WaveletConfig(config.wavelet, config.depth, config.sharing, share_bands=config.share_bands)
    )


def save_model(
    path: Path,
    tensors: Mapping[str, Tensor],
    config: ModelConfig,
    headers: Sequence[Mapping[str, Any]],
    emotions: Sequence[str],
) -> None:
    """Write a model's weights with what is needed to build it again.

    emotions : that it was trained on; it never answers with another one
    """
    header = {"config": asdict(config), "fins": list(headers), "emotions": list(emotions)}
    save_tensors(path, tensors, header)


def load_model(path: Path) -> tuple[UtteranceModel, ModelConfig, tuple[str, ...]]:
    """A model in evaluation mode on the CPU, its configuration, and the emotions that it knows.

    Raises ValueError if the file is missing, broken, or holds no model of this version.
    """
    tensors, header = load_tensors(path)
    try:
        config = ModelConfig(
            **{**header["config"], "fins": header["config"]["fins"] and tuple(header["config"]["fins"])}
        )
        fins = []
        for fin in header["fins"]:
            prefix = f"fins.fins.{fin['feature'].replace('.', '_')}."
            own = {
                name.removeprefix(prefix): tensor
                for name, tensor in tensors.items()
                if name.startswith(prefix)
            }
            fins.append(rebuild_fin(fin, own))
        model = assemble(config, header["fins"], fins)
        model.load_state_dict(tensors)
        return model.eval(), config, tuple(header["emotions"])
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} holds no classifier of this version: train it again") from error
