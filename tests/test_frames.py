"""FINs over waveforms and as a transformer of scikit-learn, against the closed forms window by window."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import make_signal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks

import fins
from fins.audio import HOP, WINDOW, cut_windows, resample
from fins.features import compute_features

LENGTHS = (12_000, 700, WINDOW, WINDOW + HOP - 1, 9_999)


def padded(signals: list[np.ndarray], filling: float = 0.0) -> torch.Tensor:
    rows = torch.full((len(signals), max(map(len, signals))), filling)
    for row, signal in zip(rows, signals, strict=True):
        row[: len(signal)] = torch.from_numpy(signal)
    return rows


@pytest.mark.parametrize("name", ["rms", "mfcc", "mfcc_pruned"])
def test_frames_are_the_fin_on_each_window(name: str) -> None:
    fin = fins.load(name)
    signals = [make_signal(n, length) for n, length in enumerate(LENGTHS)]
    with torch.no_grad():
        batch = fins.Frames(fin)(padded(signals), torch.tensor(LENGTHS))
        for signal, frames in zip(signals, batch, strict=True):
            expected = fin(torch.from_numpy(np.array(cut_windows(signal)))).T
            n_frames = expected.shape[1]
            torch.testing.assert_close(frames[:, :n_frames], expected, rtol=1e-4, atol=1e-3)
            assert not frames[:, n_frames:].any()
            alone = fins.Frames(name)(torch.from_numpy(signal)[None])[0]
            torch.testing.assert_close(alone, expected, rtol=1e-4, atol=1e-3)


def test_what_is_behind_an_end_is_not_looked_at() -> None:
    frames = fins.Frames("mel").requires_grad_(False)
    signals = [make_signal(n, length) for n, length in enumerate(LENGTHS)]
    lengths = torch.tensor(LENGTHS)
    assert torch.equal(frames(padded(signals, float("nan")), lengths), frames(padded(signals), lengths))


def test_gradients_reach_the_fin_and_the_waveform() -> None:
    frames = fins.Frames("mfcc")
    waveform = padded([make_signal(3, 6_000), make_signal(4, 3_000)]).requires_grad_()
    frames(waveform, torch.tensor([6_000, 3_000])).square().mean().backward()
    assert all(
        parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any()
        for parameter in frames.parameters()
    )
    assert waveform.grad is not None and waveform.grad[0].any() and not waveform.grad[1, 3_000:].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_fin_of_another_type_is_refused_in_one_sentence(dtype: torch.dtype) -> None:
    frames = fins.Frames("zcr").to(dtype)
    with pytest.raises(ValueError, match=f"compute in float32, and here is {dtype}"):
        frames(torch.zeros(1, 4_096, dtype=dtype))


def test_frames_stay_in_float32_under_autocast() -> None:
    frames, waveform = fins.Frames("mfcc").requires_grad_(False), padded([make_signal(5)])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(frames(waveform), fins.Frames("mfcc")(waveform).detach())
        assert frames(waveform).dtype == torch.float32


def test_exported_frames_take_any_batch_and_length() -> None:
    frames = fins.Frames("rms").requires_grad_(False)
    shapes = {
        "waveform": {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO},
        "lengths": {0: torch.export.Dim.AUTO},
    }
    example = (torch.randn(3, 6_000), torch.tensor([6_000, 5_000, 4_000]))
    exported = torch.export.export(frames, example, dynamic_shapes=shapes).module()
    for lengths in ([9_000, 2_100], [2_048, 4_000, 5_001, 5_001]):
        waveform = 0.1 * torch.randn(len(lengths), max(lengths))
        torch.testing.assert_close(
            exported(waveform, torch.tensor(lengths)), frames(waveform, torch.tensor(lengths))
        )


def test_bad_waveforms_are_refused() -> None:
    frames = fins.Frames("rms")
    for waveform in (torch.zeros(3_000), torch.zeros(2, 0), torch.zeros(1, 1, 3_000)):
        with pytest.raises(ValueError, match=r"\(batch, n_samples\)"):
            frames(waveform)
    for lengths in ([0, 3_000], [3_000, 3_001]):
        with pytest.raises(ValueError, match="lengths are 1 to 3000"):
            frames(torch.zeros(2, 3_000), torch.tensor(lengths))
    with pytest.raises(ValueError, match="one length a waveform"):
        frames(torch.zeros(2, 3_000), torch.tensor([3_000]))
    with pytest.raises(AttributeError, match="has no attribute 'Frame'"):
        fins.Frame  # noqa: B018


def test_features_are_statistics_of_the_closed_form() -> None:
    signals = [make_signal(n, length) for n, length in enumerate((9_000, 5_000, 1_000, 30_000))]
    statistics = ("mean", "std", "min", "max", "median")
    transformer = fins.FinFeatures(("rms", "mfcc"), statistics)
    rows = transformer.fit_transform(signals)
    names = transformer.get_feature_names_out()
    assert rows.shape == (4, len(names)) == (4, 21 * 5) and rows.dtype == np.float64
    for row, signal in zip(rows, signals, strict=True):
        values = compute_features(cut_windows(signal), ["rms", "mfcc"])
        for name, value in zip(names, row, strict=True):
            feature, output, statistic = name.split("_")
            expected = getattr(np, statistic)(values[feature][:, int(output)].astype(float))
            assert value == pytest.approx(expected, rel=1e-3, abs=0.02 if feature == "mfcc" else 1e-5), name


def test_recordings_at_another_rate_are_resampled() -> None:
    signal = make_signal(7, 20_000)
    slow = fins.FinFeatures(("rms",), sampling_rate=16_000).fit_transform([signal])
    np.testing.assert_array_equal(slow, fins.FinFeatures(("rms",)).fit_transform([resample(signal, 16_000)]))
    assert not np.array_equal(slow, fins.FinFeatures(("rms",)).fit_transform([signal]))


def test_the_transformer_is_one_of_scikit_learns() -> None:
    """Those of its checks that don't need a table as input, which recordings are not."""
    transformer = fins.FinFeatures(("rms",))
    for check in (
        "check_estimator_cloneable",
        "check_estimator_repr",
        "check_no_attributes_set_in_init",
        "check_parameters_default_constructible",
        "check_get_params_invariance",
        "check_set_params",
        "check_do_not_raise_errors_in_init_or_set_param",
        "check_mixin_order",
    ):
        if hasattr(estimator_checks, check):  # of the versions that have it
            getattr(estimator_checks, check)("FinFeatures", transformer)
    with pytest.raises(NotFittedError):
        transformer.transform([make_signal(0)])
    with pytest.raises(NotFittedError):
        transformer.get_feature_names_out()
    assert clone(transformer).set_params(statistics=["max"]).get_params() == {
        "features": ("rms",),
        "statistics": ["max"],
        "sampling_rate": 22_050,
    }
    loud = [gain * make_signal(n) for n in range(8) for gain in (0.01, 1)]
    model = make_pipeline(transformer, LogisticRegression(C=1e6, max_iter=1_000)).fit(loud, [0, 1] * 8)
    assert model.score(loud, [0, 1] * 8) == 1


@pytest.mark.parametrize(
    ("options", "recording", "reason"),
    [
        ({"features": ("loudness",)}, make_signal(0), "there is no FIN loudness: the names are chroma, "),
        ({"features": "rms"}, make_signal(0), "features is a list"),
        ({"statistics": ()}, make_signal(0), "statistics is a list"),
        ({"statistics": ("kurtosis",)}, make_signal(0), "no statistic 'kurtosis': give mean, std"),
        ({}, np.zeros(3_000, np.int16), "recording 1 is no array of floats.*divide int16 by 32768"),
        ({}, np.zeros((2, 3_000)), "recording 1 is no array of floats"),
        ({}, "a.wav", "recording 1 is no array.*read_audio"),
        ({}, np.full(3_000, np.nan), "recording 1 holds samples that are NaN"),
        ({"sampling_rate": 192_000}, np.zeros(2), "recording 1 is shorter than one sample"),
    ],
)
def test_what_is_no_recording_is_refused(options: dict[str, object], recording: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        fins.FinFeatures(**{"features": ("rms",), **options}).fit_transform([make_signal(0), recording])
