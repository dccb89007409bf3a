"""A classifier as one ONNX file: waveform and lengths in, probabilities out, for onnxruntime and browsers."""

from __future__ import annotations

import copy
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from torch import Tensor, nn
from torch.nn import functional

from fins.audio import SAMPLE_RATE, WINDOW
from fins.disk import naming
from fins.progress import SILENT, Watch
from fins.tensors import WEIGHTS, load_tensors
from ser_heads.inference.int8 import Session, compare_recalls, round_weights
from ser_heads.inference.predict import batch_of
from ser_heads.layers.masked import mask_until
from ser_heads.model import SerModel
from ser_heads.models import SHIPPED, load

OPSET = 18  # the first whose ReduceSum and Split PyTorch's exporter writes
NEEDED = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-4  # in probability, between PyTorch and onnxruntime
ROUNDED_TOLERANCE = 0.2  # with weights of eight bits: more than that is a fault
FLOAT32, FLOAT64 = 1, 11  # of onnx.TensorProto
SHAPES = ((0.05,), (1.3, 0.1), (4.0, 2.5, 0.4))  # seconds of recordings together, by which a file is checked


@dataclass(frozen=True)
class ExportOptions:
    """Write a classifier as one ONNX file of standard operators, or as a page for browsers around it.

    In: waveform, (batch, n) float32 at 22,050 Hz, and lengths, (batch,) int64 samples. Out: probabilities,
    (batch, n_labels).
    """

    run: Annotated[str, tyro.conf.Positional]
    """Folder of pipelines.train, its weights file, or the name of a classifier of the package."""
    out: Path | None = None
    """The file, with its labels, sample rate and card inside; by default model.onnx, with --page none."""
    page: Path | None = None
    """Folder, new or empty, for a page that answers in a browser, offline, from any web server."""
    runtime: Path | None = None
    """For --page, the package of onnxruntime-web, a .tgz by npm pack or its folder; by default downloaded."""
    int8: bool = False
    """The head's weights in eight bits: a smaller file, as fast as before. --store tells what that costs."""
    store: tuple[Path, ...] = ()
    """Stores on whose recordings UAR is told, by PyTorch and by the file; not on those that trained it."""

    def __post_init__(self) -> None:
        out = self.file()
        if out is not None and (out.is_dir() or not out.absolute().parent.is_dir()):
            raise ValueError(f"--out {out} is no file in a folder that is there")
        if self.runtime is not None and self.page is None:
            raise ValueError("--runtime is for a page: give its folder by --page, too")

    def file(self) -> Path | None:
        """That is to be written beside a page, if any."""
        return Path("model.onnx") if self.out is None and self.page is None else self.out


class WithProbabilities(nn.Module):
    """A model as it is exported: lengths that can't be are taken to the nearest that can, what is behind an
    end is ignored, and a recording may be shorter than a window."""

    def __init__(self, model: SerModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        lengths = torch.minimum(lengths.clamp_min(1), torch.full_like(lengths, waveform.shape[1]))
        masked = waveform * mask_until(lengths, waveform.shape[1])
        logits = self.model(functional.pad(masked, (0, WINDOW)), lengths)
        return (logits / self.model.temperature).softmax(dim=1)


class ExportedGru(nn.Module):
    """A one-layer GRU in one direction as ONNX has it, in the place of a loop over its steps.

    (time, batch, n_inputs) → (time, batch, n_hidden) and nothing. ONNX wants its gates in the order update,
    reset, new; PyTorch has reset first.
    """

    inputs: Tensor
    hidden: Tensor
    biases: Tensor

    def __init__(self, gru: nn.GRU) -> None:
        super().__init__()
        parts: tuple[Any, ...] = (gru.weight_ih_l0, gru.weight_hh_l0, gru.bias_ih_l0, gru.bias_hh_l0)
        inputs, hidden, *biases = (swap_gates(part.detach()) for part in parts)
        self.register_buffer("inputs", inputs[None])
        self.register_buffer("hidden", hidden[None])
        self.register_buffer("biases", torch.cat(biases)[None])

    def forward(self, sequence: Tensor) -> tuple[Tensor, None]:
        return torch.ops.fin_ser.gru(sequence, self.inputs, self.hidden, self.biases), None


def swap_gates(weights: Tensor) -> Tensor:
    """(3 · n_hidden, ...) with the first two of three gates in each other's place."""
    reset, update, new = weights.chunk(3)
    return torch.cat([update, reset, new])


@torch.library.custom_op("fin_ser::gru", mutates_args=())
def gru_of_gates(sequence: Tensor, inputs: Tensor, hidden: Tensor, biases: Tensor) -> Tensor:
    """What ONNX's GRU computes, by PyTorch's."""
    weights = [swap_gates(part) for part in (inputs[0], hidden[0], *biases[0].chunk(2))]
    start = sequence.new_zeros(1, sequence.shape[1], hidden.shape[2])
    return torch.gru(sequence, start, weights, True, 1, 0.0, False, False, False)[0]


@gru_of_gates.register_fake
def _(sequence: Tensor, inputs: Tensor, hidden: Tensor, biases: Tensor) -> Tensor:
    return sequence.new_empty(sequence.shape[0], sequence.shape[1], hidden.shape[2])


def gru_as_onnx() -> Callable[..., Any]:
    """The node that stands for `gru_of_gates` in a file."""
    from onnxscript import FLOAT
    from onnxscript import opset18 as op

    def gru(sequence: Any, inputs: Any, hidden: Any, biases: Any) -> Any:
        steps, _ = op.GRU(
            sequence, inputs, hidden, biases, hidden_size=int(hidden.shape[2]), linear_before_reset=1
        )
        one: Any = op.Constant(value_ints=[1])
        return op.Squeeze(steps, one)  # of directions there is one

    gru.__annotations__ = dict.fromkeys(("sequence", "inputs", "hidden", "biases", "return"), FLOAT)
    return gru


def sum_as_onnx() -> Callable[..., Any]:
    """Sums in float64: onnxruntime's of float32 are off by 1e-5 over half a minute of samples."""
    from onnxscript import FLOAT
    from onnxscript import opset18 as op

    def add_up(values: Any, dim: Any, keepdim: Any = False, dtype: Any = -1) -> Any:
        axes: Any = op.Constant(value_ints=list(dim))
        exact: Any = op.Cast(values, to=FLOAT64)
        total: Any = op.ReduceSum(exact, axes, keepdims=int(keepdim))
        return op.Cast(total, to=FLOAT32 if dtype == -1 else dtype)

    types = {"dim": Sequence[int], "keepdim": bool, "dtype": int}
    add_up.__annotations__ = {"values": FLOAT, **types, "return": FLOAT}
    return add_up


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """PyTorch's operator → what stands for it in a file, where the exporter's own choice doesn't serve."""
    return {
        torch.ops.fin_ser.gru.default: gru_as_onnx(),
        torch.ops.aten.sum.dim_IntList: sum_as_onnx(),
    }


def export(options: ExportOptions, watch: Watch = SILENT) -> str:
    """Write what is asked for; returns what it is, in lines. Raises ValueError in one sentence."""
    from ser_heads.inference.web_page import MODEL, check_folder, write_page

    if options.page is not None:
        check_folder(options.page)
    model = load(options.run)
    path = SHIPPED.get(options.run, Path(options.run))
    _, header = load_tensors(path / WEIGHTS if path.is_dir() else path)
    card = header.get("card", {})
    files, lines = [], []
    if (out := options.file()) is not None:
        files.append(out)
        lines.append(line_on(model, out, out, export_model(model, out, card, int8=options.int8)))
    if options.page is not None:
        files.append(options.page / MODEL)
        difference = write_page(model, options.page, options.runtime, card, int8=options.int8, made=out)
        lines.append(line_on(model, options.page, files[-1], difference))
        lines.append(f"look at it: python -m http.server --bind 127.0.0.1 --directory {options.page}")
    if options.store:
        scores = compare_recalls(model, files[0], Path(options.run), options.store, watch)
        lines.append(
            f"on {scores['n']:,.0f} recordings: UAR {100 * scores['PyTorch']:.1f} % by PyTorch, "
            f"{100 * scores['ONNX']:.1f} % by the file; "
            f"probabilities differ by {scores['largest']:.0e} at most"
        )
    return "\n".join(lines)


def line_on(model: SerModel, place: Path, file: Path, difference: float) -> str:
    """What was written to a place, the ONNX of it being `file`."""
    megabytes = file.stat().st_size / 1e6
    return (
        f"{model.name} for {', '.join(model.labels)} written to {place} "
        f"({megabytes:.1f} MB, within {difference:.0e} of PyTorch)"
    )


def export_model(
    model: SerModel, path: Path, card: Mapping[str, Any] | None = None, *, int8: bool = False
) -> float:
    """Write a model as ONNX, atomically, after it has been held against PyTorch on made sound.

    int8 : the head's weights in eight bits, which may differ from PyTorch by more
    returns : the largest difference of a probability. The file's metadata has labels, options and card as
        JSON, sample_rate in Hz, and the model's name.
    Raises ValueError in one sentence for a model that can't be exported, for libraries that aren't installed,
    and if the two differ.
    """
    if model.frontend.why_not_exported:
        raise ValueError(f"{model.name} can't be exported: {model.frontend.why_not_exported}")
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ValueError(
            f"exporting needs {' and '.join(missing)}: pip install 'fin-ser[export]' brings what is missing"
        )
    import onnx

    proto = translate(model)
    if int8:
        round_weights(proto)
    onnx.helper.set_model_props(proto, metadata_of(model, card or {}))
    onnx.checker.check_model(proto)
    partial = path.with_name(f"{path.name}.partial")
    try:
        with naming(path):
            partial.write_bytes(proto.SerializeToString())
        difference = compare(model, partial)
        if difference > (ROUNDED_TOLERANCE if int8 else TOLERANCE):
            raise ValueError(
                f"{model.name} as ONNX differs from PyTorch by {difference:.1e} in probability: not written"
            )
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return difference


def translate(model: SerModel) -> Any:
    """A model → onnx.ModelProto with dynamic batch and length."""
    exported = WithProbabilities(copy.deepcopy(model).cpu().eval())
    replace_grus(exported)
    batch, n = torch.export.Dim("batch", max=4096), torch.export.Dim("n", min=2, max=1 << 26)
    example = (0.1 * torch.randn(3, 30_001), torch.tensor([30_001, 12_345, 2_205]))
    with quiet(), torch.no_grad():
        program = torch.onnx.export(
            exported,
            example,
            dynamo=True,
            opset_version=OPSET,
            input_names=["waveform", "lengths"],
            output_names=["probabilities"],
            dynamic_shapes={"waveform": {0: batch, 1: n}, "lengths": {0: batch}},
            custom_translation_table=translations(),
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def replace_grus(module: nn.Module) -> None:
    """Put an `ExportedGru` in the place of each of PyTorch's."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.GRU):
                setattr(parent, name, ExportedGru(child))


def metadata_of(model: SerModel, card: Mapping[str, Any]) -> dict[str, str]:
    """All that has to be known beside the weights."""
    return {
        "model": model.name,
        "labels": json.dumps(list(model.labels)),
        "sample_rate": str(SAMPLE_RATE),
        "abstention": str(float(model.abstention)),
        "options": json.dumps(asdict(model.options)),
        "card": json.dumps(dict(card)),
    }


def compare(model: SerModel, path: Path) -> float:
    """The largest difference in probability between PyTorch and onnxruntime, on recordings of noise."""
    session = Session(path)
    reference = WithProbabilities(copy.deepcopy(model).cpu().eval())
    rng = np.random.default_rng(0)
    largest = 0.0
    for seconds in SHAPES:
        noises = [0.1 * rng.standard_normal(round(second * SAMPLE_RATE)) for second in seconds]
        waveform, lengths = batch_of([noise.astype(np.float32) for noise in noises], torch.device("cpu"))
        with torch.no_grad():
            expected = reference(waveform, lengths).numpy()
        answers = session.run(waveform.numpy(), lengths.numpy())
        if answers.shape != expected.shape:
            raise ValueError(f"{path} has answers of another shape than PyTorch's: export it again")
        largest = max(largest, float(np.abs(answers - expected).max()))
    return largest


@contextmanager
def quiet() -> Iterator[None]:
    """Without what the exporter tells its own developers."""
    names = ("torch.onnx", "onnxscript", "onnx_ir", "torch.onnx._internal.exporter._registration")
    levels = {name: logging.getLogger(name).level for name in names}
    try:
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
