"""What models, divisions and training gave before the package was rebuilt, held against what they give now.

The numbers are those of golden/golden.json, which golden/make_golden.py wrote. What is measured stands in the
second section, how today's code is asked for it in the first: when code moves, only the first one changes,
and NAMES tells what a parameter was called.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_recordings, make_signal
from numpy.typing import NDArray

from data_manifests.labels import EMOTIONS
from fins.data.folds import folds
from fins.data.protocols import Division, divide
from fins.data.splits import write_split
from fins.data.store import write_store
from fins.data.table import UtteranceTable
from fins.learning.stages import learn
from fins.learning.trainer import WindowRecipe, WindowTrainer
from fins.learning.windows import WindowStream
from fins.networks import FinConfig, build_fin
from ser_heads.experiments.assembly import assemble
from ser_heads.experiments.config import RunConfig, configure
from ser_heads.experiments.learning import calibrate, examples_of
from ser_heads.model import SerModel
from ser_heads.models import create
from ser_heads.training.datasets import pad
from ser_heads.training.trainer import Trainer

GOLDEN = Path(__file__).parent / "golden" / "golden.json"
Columns = dict[str, NDArray]

# ---- 1. How the code of now is asked -----------------------------------------------------------------------

SCALES = {"norm.mean": "mean", "norm.deviation": "deviation"}
HEADS = (
    "blocks",
    "recurrent",
    "logits",
    "cnns",
    "project",
    "encoder",
    "layers",
    "dense",
    "packet",
    "networks",
)
HEADS += ("band_weights", "last", "norm")
PUBLISHED_MODELS = ("feature_cnn", "wavelet_packet_net", "cnn_lstm_1d", "cnn_lstm_2d", "cnn_transformer")
PUBLISHED_MODELS += ("raw_cnn", "spectrogram_cnn")
PUBLISHED = {**SCALES, **{f"head.{name}": name for name in HEADS}}
NAMES: dict[str, dict[str, str]] = {
    "fin": {"frontend.members": "fins.fins", "norm": "scaling"},
    "wavelet": {"frontend": "wavelets", "norm": "scaling"},
    "fin_wavelet": {
        "frontend.members.0.members": "fins.fins",
        "frontend.members.1": "wavelets",
        "norm": "scaling",
    },
    **dict.fromkeys(PUBLISHED_MODELS, PUBLISHED),
}
"""Model → new name of a parameter or buffer, or of a module → the one that it had when the file was made."""


def build_model_with_weights(name: str) -> SerModel:
    """A model of default options in evaluation mode, whose weights depend on their old names alone; FINs keep
    theirs. Of spectral_svm the name says which of its features it is made for, as spectral_svm:sc."""
    name, _, feature = name.partition(":")
    model = create(name, EMOTIONS)
    if feature:
        model.head.load_state_dict(
            {new: tensor for new, tensor in machine(feature).items() if new != "emotions"}
        )
        return model.eval()
    for new, tensor in model.state_dict().items():
        old = old_name(name, new)
        constant = new in ("temperature", "abstention") or (
            new.startswith("frontend.") and name in PUBLISHED_MODELS
        )
        if tensor.is_floating_point() and not old.startswith("fins.") and not constant:
            tensor.copy_(torch.from_numpy(fill(old, tuple(tensor.shape), name)))
    return model.eval()


def logits_of(model: SerModel, signals: Sequence[NDArray[np.int16]]) -> NDArray[np.float32]:
    """(n, 8) of int16 signals, together in one batch."""
    waveforms = [signal.astype(np.float32) / 32_768 for signal in signals]
    with torch.no_grad():
        return model(pad(waveforms), torch.tensor([len(signal) for signal in signals])).numpy()


def divided(columns: Columns, seed: int = 0, **options: Any) -> NDArray[np.object_]:
    """Part of each utterance, "unused" for what no part has, as a run divides them."""
    return by_row(divide(rows_of(columns), Division(**options), seed), len(columns["id"]))


def divided_by_file(columns: Columns, seed: int = 0, **options: Any) -> NDArray[np.object_]:
    """The same, by the way of a split.csv."""
    rows = rows_of(columns)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "split.csv"
        write_split(path, rows, divide(rows, Division(**options), seed))
        return by_row(divide(rows, Division(split=path)), len(rows))


def divided_by_protocol(columns: Columns, protocol: str, seed: int, *corpora: str) -> NDArray[np.object_]:
    """Part of each utterance, copies among them, by a protocol alone."""
    return divided(columns, seed, protocol=protocol, test_corpus=corpora)


def folds_of(columns: Columns, **options: Any) -> dict[str, NDArray[np.object_]]:
    """Fold → part of each utterance, as a cross-validation makes them."""
    division = Division(emotions=options.get("emotions"))
    made = folds(
        rows_of(columns), options["folds"], options.get("n_folds", 5), division, seed=options["seed"]
    )
    return {fold.name: by_row(fold.parts, len(columns["id"])) for fold in made}


def fit_classifier(store: Path, folder: Path, config: RunConfig) -> list[dict[str, Any]]:
    """Rows of the history of a run, of all columns but the times; in float32 on every machine."""
    with UtteranceTable([store]) as table:
        assembly = assemble(replace(config, store=(store,)), table)
        if assembly.entry.fit is not None:
            train, validation = (examples_of(assembly, part) for part in ("train", "validation"))
            rows = assembly.entry.fit(assembly.model, train, validation).rows
        else:
            train, validation = (assembly.dataset(assembly.parts[part]) for part in ("train", "validation"))
            calibrate(assembly, train)
            options = {"cache": assembly.cache, "checkpoint": folder / "c", "seed": config.seed}
            trainer = Trainer(assembly.model, train, validation, config.recipe, **options)
            trainer.mixed = False
            rows = trainer.run().history
    return [{name: value for name, value in asdict(row).items() if name != "seconds"} for row in rows]


def classifier_config(model: str, **changes: Any) -> RunConfig:
    if model not in (
        "fin",
        "wavelet",
        "fin_wavelet",
    ):  # the others have nothing to finetune, and the option no effect
        changes.pop("finetuned_epochs", None)
    return configure(model, **changes)


def fit_fin(store: Path, folder: Path, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of the history of a published FIN on the windows of a store, of all columns but the times."""
    torch.manual_seed(options["seed"])
    fin = build_fin(FinConfig(options["feature"], options["topology"]))
    recipe = WindowRecipe(
        "mse", options["batch_size"], options["learning_rate"], options["epochs"], 1, options["seed"]
    )
    with contextlib.closing(WindowStream([store], options["feature"])) as stream:
        parts = stream.split(Division("random"), options["seed"])
        trainer = WindowTrainer(fin, stream, parts, recipe, folder / "c", torch.device("cpu"))
        rows = trainer.run().history
    return [{name: value for name, value in asdict(row).items() if name != "seconds"} for row in rows]


def learn_fin(options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of each stage of a compact FIN, cut to a few steps: losses of these, and the error in the end."""
    torch.manual_seed(options["seed"])
    stages = [
        replace(stage, n_steps=options["n_steps"], batch_size=options["batch_size"])
        for stage in build_fin(FinConfig(options["feature"])).stages()  # type: ignore[attr-defined]
    ]
    losses: dict[str, list[float]] = {}
    results = learn(
        stages, options["seed"], lambda stage, step, loss: losses.setdefault(stage.name, []).append(loss)
    )
    return [{"stage": row.name, "losses": losses[row.name], "error": row.error} for row in results]


def rows_of(columns: Columns) -> pd.DataFrame:
    """What a division asks of a table of utterances, without stores."""
    rows = pd.DataFrame(columns)
    rows["name"] = rows["corpus"] + "/" + rows["id"]
    rows["person"] = rows["corpus"] + "/" + rows["speaker"]
    return rows


def by_row(parts: Mapping[str, NDArray[np.int64]], n: int) -> NDArray[np.object_]:
    assigned = np.full(n, "unused", dtype=object)
    for part, rows in parts.items():
        assigned[rows] = part
    return assigned


# ---- 2. What is measured -----------------------------------------------------------------------------------

MODELS = ("fin", "wavelet", "fin_wavelet", "feature_cnn", "wavelet_packet_net", "cnn_lstm_1d", "cnn_lstm_2d")
MODELS += ("cnn_transformer", "raw_cnn", "spectrogram_cnn")
MODELS += ("spectral_svm:sc", "spectral_svm:sbw", "spectral_svm:sbe")
Range = tuple[float, float]
STATISTICS: dict[str, dict[str, Range]] = {
    "fin": {"scaling.mean": (-0.5, 0.5), "scaling.deviation": (4, 40)},
    "wavelet": {"scaling.mean": (-0.5, 0.5), "scaling.deviation": (4, 40)},
    "fin_wavelet": {"scaling.mean": (-0.5, 0.5), "scaling.deviation": (4, 40)},
    "feature_cnn": {"norm.running_mean": (-1, 1), "norm.running_var": (1e-2, 1e3)},
    "wavelet_packet_net": {"mean": (-1e-3, 1e-3), "deviation": (0.02, 0.06)},
    "cnn_lstm_1d": {
        "mean": (0, 0),
        "deviation": (1, 1),
        "blocks.0.1.running_mean": (-0.05, 0.05),
        "blocks.0.1.running_var": (2e-3, 2e-2),
    },
    "cnn_lstm_2d": {"mean": (-40, -30), "deviation": (15, 25)},  # dB
    "cnn_transformer": {"mean": (-60, -40), "deviation": (10, 25)},  # dB
    "raw_cnn": {"mean": (-1e-3, 1e-3), "deviation": (0.02, 0.06)},
}
"""Model → buffer → the least and the most that it is filled with, where what it scales isn't about one."""
SVM_SCALES: dict[str, tuple[int, Range, Range]] = {
    "sc": (0, (300, 1_500), (200, 900)),
    "sbw": (5, (5e3, 6e4), (5e3, 5e4)),
    "sbe": (10, (0.1, 0.3), (0.1, 0.3)),
}
"""Feature → the first of its five columns, and the ranges of their means and scales."""


def old_name(model: str, name: str) -> str:
    """By NAMES, whose longest match at the start of a name, up to a dot or its end, is replaced."""
    for new, old in sorted(NAMES.get(model, {}).items(), key=lambda pair: -len(pair[0])):
        if name == new or name.startswith(f"{new}."):
            return old + name[len(new) :]
    return name


def fill(name: str, shape: tuple[int, ...], model: str = "") -> NDArray[np.float32]:
    """Numbers that depend on the old name and the shape, of a size that suits the kind of the tensor."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    kind = next(part for part in reversed(name.split(".")) if not part.isdigit())
    known = STATISTICS.get(model, {}).get(name)
    if known is not None and known[0] > 0:  # over orders of magnitude
        values = np.exp(rng.uniform(*np.log(known), shape))
    elif known is not None:
        values = rng.uniform(*known, shape)
    elif kind in ("above", "below"):
        values = rng.uniform(0.5, 1.0, shape)
    elif kind == "steepness":
        values = rng.uniform(10.0, 15.0, shape)
    elif kind in ("running_var", "band_weights") or (kind == "weight" and len(shape) == 1):
        values = rng.uniform(0.5, 1.5, shape)
    elif kind == "running_mean" or "bias" in kind:
        values = 0.1 * rng.standard_normal(shape)
    elif kind == "kernels" or kind.endswith("_weights"):
        values = rng.standard_normal(shape) / np.sqrt(shape[-1])
    elif "weight" in kind:
        values = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    else:
        raise ValueError(f"{name} of {model} is of no known kind: which name did it have? See NAMES")
    return np.asarray(values, np.float32)


def machine(feature: str, n: int = 24) -> dict[str, torch.Tensor]:
    """The tensors of a support vector machine for five columns of 200 frames, with all emotions."""
    first, mean, scale = SVM_SCALES[feature]

    def drawn(what: str, *shape: int) -> NDArray[np.float64]:
        return np.random.default_rng(zlib.crc32(f"{feature} {what}".encode())).standard_normal(shape)

    def between(what: str, limits: Range) -> NDArray[np.float64]:
        rng = np.random.default_rng(zlib.crc32(f"{feature} {what}".encode()))
        return np.tile(rng.uniform(*limits, 5), 200)

    n_pairs = len(EMOTIONS) * (len(EMOTIONS) - 1) // 2
    vectors = np.tile(drawn("levels", n, 5), 200) + 0.3 * drawn("vectors", n, 1_000)
    return {
        "columns": first + torch.arange(5),
        "kernel": torch.tensor(0),
        "gamma": torch.tensor(1e-3, dtype=torch.float64),
        "mean": torch.from_numpy(between("mean", mean)),
        "scale": torch.from_numpy(between("scale", scale)),
        "support_vectors": torch.from_numpy(vectors),
        "dual_coefficients": torch.from_numpy(drawn("dual", n_pairs, n)),
        "intercepts": torch.from_numpy(0.1 * drawn("intercepts", n_pairs)),
        "emotions": torch.arange(len(EMOTIONS)),
    }


def clips() -> list[NDArray[np.int16]]:
    """0.1 to 4 s; the fourth has quiet ends and an offset, the fifth is silent."""
    signals = [make_signal(100 + place, n) for place, n in enumerate((2_205, 9_001, 23_000))]
    quiet = 1e-4 * np.random.default_rng(7).standard_normal(14_000)
    signals.append(np.concatenate([quiet[:6_000], 4 * make_signal(103, 30_000), quiet[6_000:]]) + 0.02)
    signals += [np.zeros(11_000), make_signal(105, 88_200)]
    return [(signal * 32_767).astype(np.int16) for signal in signals]


def measure_logits(model: str) -> list[list[float]]:
    """Rows of eight significant digits, so that a rounding of them is far below the tolerance."""
    logits = logits_of(build_model_with_weights(model), clips())
    return [[float(f"{value:.8g}") for value in row] for row in logits]


def published_rows() -> Columns:
    """RAVDESS, SAVEE and an ESD of few sentences by their manifests, with augmented copies of some."""
    names = ("id", "corpus", "speaker", "emotion", "sentence", "sha256", "augmented_from")
    rows = []
    for corpus, every in (("ravdess", 1), ("savee", 1), ("esd", 29)):
        with (files("data_manifests") / f"{corpus}.csv").open() as file:
            for number, row in enumerate(list(csv.DictReader(file))[::every]):
                rows.append({**row, "corpus": corpus, "augmented_from": ""})
                if number % 41 == 0:
                    rows.append({**rows[-1], "id": f"{row['id']}+noise", "augmented_from": row["id"]})
    return {name: np.array([row[name] for row in rows], dtype=object) for name in names}


def only(columns: Columns, *corpora: str) -> Columns:
    chosen = np.isin(columns["corpus"], corpora)
    return {name: column[chosen] for name, column in columns.items()}


def names_of(columns: Columns) -> list[str]:
    return [f"{corpus}/{name}" for corpus, name in zip(columns["corpus"], columns["id"], strict=True)]


def digest_of(columns: Columns, parts: NDArray[np.object_]) -> dict[str, Any]:
    """How many rows each part has, the parts of a few, and a checksum of all "name part" lines in order."""
    names = names_of(columns)
    lines = [f"{name} {part}" for name, part in zip(names, parts, strict=True)]
    return {
        "n": dict(sorted(Counter(map(str, parts)).items())),
        "some": lines[:: len(lines) // 2][:2],
        "sha256": hashlib.sha256("\n".join(lines).encode()).hexdigest(),
    }


def divisions() -> dict[str, Callable[[], dict[str, Any]]]:
    """Name → how utterances are divided, and into what."""
    columns = cache(published_rows)
    four = ("angry", "happy", "neutral", "sad")
    cases: dict[str, Callable[[], dict[str, Any]]] = {}

    def case(name: str, how: Callable[..., NDArray], *corpora: str, **options: Any) -> None:
        def made() -> dict[str, Any]:
            chosen = only(columns(), *corpora) if corpora else columns()
            return digest_of(chosen, how(chosen, **options))

        cases[name] = made

    for seed in (0, 3):
        for protocol in ("random", "speaker", "speaker_sentence"):
            case(f"{protocol}, seed {seed}", divided_by_protocol, protocol=protocol, seed=seed)
    for corpus in ("savee", "ravdess"):
        case(
            f"corpus, {corpus} tests",
            lambda its, test: divided_by_protocol(its, "corpus", 0, test),
            test=corpus,
        )
    case("run, corpus", divided, protocol="corpus", test_corpus=("esd",), seed=2)
    case("run, random", divided, protocol="random", seed=1)
    case("run, half of the speakers", divided, training_speakers=0.5, seed=0)
    case("run, four emotions", divided, protocol="speaker_sentence", emotions=four, seed=0)
    case("run, all at once, by a file", divided_by_file, training_speakers=0.5, emotions=four, seed=4)
    for corpus, n in (("ravdess", 6), ("savee", 4)):
        for number in range(1, n + 1):
            case(f"run, {corpus}:{number}", divided, fold=f"{corpus}:{number}", seed=0)
    case("run, ravdess:2 alone, half", divided, "ravdess", fold="ravdess:2", training_speakers=0.5, seed=5)
    return cases


def foldings() -> dict[str, Callable[[], dict[str, Any]]]:
    """Name → the folds of a cross-validation."""
    cases: dict[str, Callable[[], dict[str, Any]]] = {}

    def case(name: str, *corpora: str, **options: Any) -> None:
        def made() -> dict[str, Any]:
            columns = only(published_rows(), *corpora)
            folds = folds_of(columns, **options)
            return {fold: digest_of(columns, parts) for fold, parts in folds.items()}

        cases[name] = made

    case("speaker", "ravdess", "savee", folds="speaker", n_folds=5, seed=0)
    case("random, four emotions", "savee", folds="random", n_folds=4, seed=1, emotions=("angry", "sad"))
    case("published, savee", "savee", folds="published", seed=0)
    case("published, ravdess", "ravdess", "esd", folds="published", seed=0)
    case("ninety_ten", "savee", folds="ninety_ten", n_folds=3, seed=0)
    return cases


SHORT = {"frozen_epochs": 1, "finetuned_epochs": 1, "batch_size": 8, "seed": 0}
"""FINs learn in the second epoch; what has none has one more epoch in place of it."""
CLASSIFIERS: dict[str, dict[str, Any]] = {
    "fin": SHORT,
    "wavelet": SHORT,
    "fin_wavelet": SHORT,
    "feature_cnn": {**SHORT, "frozen_epochs": 2},
    "spectrogram_cnn": {**SHORT, "frozen_epochs": 2},
    "spectral_svm": {"seed": 0},
}
FIN = {"feature": "rms", "topology": "paper", "epochs": 2, "batch_size": 64, "learning_rate": 1e-3, "seed": 0}
LEARNED = {
    name: {"feature": name, "n_steps": 4, "batch_size": 64, "seed": 0}
    for name in ("zcr", "rms", "chroma", "mfcc", "mel", "pitch")
}


def histories() -> dict[str, tuple[dict[str, Any], Callable[[Path, Path], list[dict[str, Any]]]]]:
    """Name → the options that aren't the defaults, and what makes the rows from a store and a free folder."""

    def classifier(model: str, options: dict[str, Any]) -> Callable[[Path, Path], list[dict[str, Any]]]:
        return lambda store, folder: fit_classifier(store, folder, classifier_config(model, **options))

    def learner(options: dict[str, Any]) -> Callable[[Path, Path], list[dict[str, Any]]]:
        return lambda store, folder: learn_fin(options)

    cases: dict[str, tuple[dict[str, Any], Callable[[Path, Path], list[dict[str, Any]]]]] = {}
    for model, options in CLASSIFIERS.items():
        cases[model] = options, classifier(model, options)
    cases["FIN on windows"] = FIN, lambda store, folder: fit_fin(store, folder, FIN)
    for name, options in LEARNED.items():
        cases[f"FIN from noise, {name}"] = options, learner(options)
    return cases


def make_store(path: Path) -> Path:
    """64 utterances of 4 speakers and all emotions."""
    write_store(path, make_recordings(64))
    return path


# ---- 3. Now as then ----------------------------------------------------------------------------------------

TOLERANCE = 1e-5  # of the largest logit of a clip
ROUNDINGS = 2e-4  # of a loss: steps make more of the roundings in which processors differ, 2e-5 as measured
LARGE_ROUNDINGS = {  # as measured: 9e-4, since Adam makes whole steps of next to no gradient; and 2.1e-4
    "spectrogram_cnn": 2e-3,
    "wavelet": 1e-3,
}
N_VALIDATION = 16  # utterances; where two emotions are all but equally likely, one may fall the other way


@cache
def golden() -> dict[str, Any]:
    return json.loads(GOLDEN.read_text())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("golden") / "made.h5")


@pytest.mark.parametrize("model", MODELS)
def test_the_same_weights_give_the_same_logits(model: str) -> None:
    expected = np.array(golden()["logits"][model])
    logits = logits_of(build_model_with_weights(model), clips())
    largest = np.abs(expected).max(axis=1, keepdims=True)
    np.testing.assert_allclose(logits / largest, expected / largest, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("case", divisions())
def test_utterances_are_divided_alike(case: str) -> None:
    assert divisions()[case]() == golden()["divisions"][case]


@pytest.mark.parametrize("case", foldings())
def test_folds_are_alike(case: str) -> None:
    folds = foldings()[case]()
    assert list(folds) == list(golden()["folds"][case])
    assert folds == golden()["folds"][case]


@pytest.mark.parametrize("case", histories())
def test_training_goes_the_same_way(case: str, store: Path, tmp_path: Path) -> None:
    options, make = histories()[case]
    tolerance = LARGE_ROUNDINGS.get(case, ROUNDINGS)
    expected = golden()["histories"][case]
    assert options == expected["options"]
    rows = make(store, tmp_path)
    assert [list(row) for row in rows] == [list(row) for row in expected["rows"]]
    for row, then in zip(rows, expected["rows"], strict=True):
        for name, value in then.items():
            if name.endswith(("_uar", "_wa")):
                assert row[name] == pytest.approx(value, abs=1 / N_VALIDATION + 1e-9), name
            elif name == "learning_rate":
                assert row[name] == pytest.approx(value, rel=1e-6)
            elif isinstance(value, float | list):
                assert row[name] == pytest.approx(value, rel=tolerance), name
            else:
                assert row[name] == value, name
