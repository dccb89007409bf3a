"""Weights of an exported classifier in eight bits, and what that costs on recordings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fins.progress import SILENT, Watch
from ser_heads.evaluation.scores import count_confusions, metrics
from ser_heads.inference.predict import probabilities_of
from ser_heads.model import SerModel

HEAD = "model.head."  # whose weights are rounded; those of FINs span 80 dB and more
FEWEST = 512  # of the weights of a tensor that is worth it
MOST = 127
FLOAT32 = 1  # of onnx.TensorProto


def round_weights(proto: Any) -> None:
    """Put the head's weights into eight bits, with a scale for each output, in an onnx.ModelProto.

    What is computed stays in float32: the file gets smaller, not faster.
    """
    from onnx import helper, numpy_helper

    graph, nodes = proto.graph, []
    for tensor in list(graph.initializer):
        shape = list(tensor.dims)
        large = len(shape) > 1 and np.prod(shape) >= FEWEST
        if not (large and tensor.data_type == FLOAT32 and tensor.name.startswith(HEAD)):
            continue
        axis = next(place for place, size in enumerate(shape) if size > 1)
        rounded, scale = round_tensor(numpy_helper.to_array(tensor), axis)
        names = [f"{tensor.name}.int8", f"{tensor.name}.scale"]
        graph.initializer.remove(tensor)
        graph.initializer.append(numpy_helper.from_array(rounded, names[0]))
        graph.initializer.append(numpy_helper.from_array(scale, names[1]))
        nodes.append(helper.make_node("DequantizeLinear", names, [tensor.name], axis=axis))
    for node in reversed(nodes):
        graph.node.insert(0, node)


def round_tensor(weights: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Weights as int8 of the same shape, and the scale of each slice along an axis; their product is near."""
    others = tuple(place for place in range(weights.ndim) if place != axis)
    largest = np.abs(weights).max(axis=others)
    scale = np.where(largest > 0, largest / MOST, 1).astype(np.float32)
    shape = [1] * weights.ndim
    shape[axis] = -1
    return np.rint(weights / scale.reshape(shape)).astype(np.int8), scale


class Session:
    """An ONNX file, opened by onnxruntime on the CPU; what that says of a damaged one is a ValueError."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        self.path = path
        with self.checked():
            self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(self, waveform: NDArray[np.float32], lengths: NDArray[np.int64]) -> NDArray[np.float32]:
        """(batch, n) and (batch,) → probabilities, (batch, n_labels)."""
        with self.checked():
            return self.session.run(None, {"waveform": waveform, "lengths": lengths})[0]

    @contextmanager
    def checked(self) -> Iterator[None]:
        """onnxruntime has exceptions of its own, none of which is a sentence."""
        try:
            yield
        except Exception as error:
            raise ValueError(f"{self.path} is no whole ONNX file of a classifier: export it again") from error


def compare_recalls(
    model: SerModel, path: Path, run: Path, stores: Sequence[Path], watch: Watch = SILENT
) -> dict[str, float]:
    """UAR by PyTorch and by an ONNX file, on recordings of stores that a run didn't learn from.

    path : of the file; run : the run's folder, or what else the model is from, which has no split
    returns : "PyTorch" and "ONNX" → UAR over the emotions that the model knows; "largest" → largest
        difference of a probability; "n" → how many recordings. Raises ValueError if there is none.
    """
    from fins.data.splits import SPLIT, rows_not_trained_on
    from fins.data.table import UtteranceTable
    from fins.runs import RESULT, read_json

    session = Session(path)
    shares: dict[str, list[NDArray[np.float64]]] = {"PyTorch": [], "ONNX": []}
    with UtteranceTable(stores) as table:
        places = np.arange(len(table.rows))
        if (run / SPLIT).is_file():
            described = read_json(run / RESULT)["parts"]
            sizes = {part: row["n_utterances"] for part, row in described.items()}
            places = rows_not_trained_on(run / SPLIT, sizes, table.rows).rows
        emotions = table.rows["emotion"].to_numpy(dtype=object)[places]
        known = np.isin(emotions, model.labels)
        if not known.any():
            raise ValueError("the stores hold no recording of the model's labels that it didn't learn from")
        with watch.bar(int(known.sum()), "recordings", "by both") as bar:
            for place in places[known]:
                signal = table.signal(int(place))
                shares["PyTorch"].append(probabilities_of(model, [signal])[0])
                shares["ONNX"].append(session.run(signal[None], np.array([len(signal)]))[0])
                bar.update()
    truth = np.array([model.labels.index(emotion) for emotion in emotions[known]])
    stacked = {name: np.stack(rows) for name, rows in shares.items()}
    recalls = {name: mean_recall(truth, rows) for name, rows in stacked.items()}
    largest = float(np.abs(stacked["PyTorch"] - stacked["ONNX"]).max())
    return {**recalls, "largest": largest, "n": float(known.sum())}


def mean_recall(truth: NDArray[np.int64], shares: NDArray[np.float64]) -> float:
    """UAR of (n, n_labels) probabilities."""
    _, confusions = count_confusions(truth, shares.argmax(axis=1), [""] * len(truth), shares.shape[1])
    return float(metrics(confusions)["uar"][0])
