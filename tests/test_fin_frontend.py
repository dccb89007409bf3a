"""FINs over whole recordings against the closed forms, and what learns and what is kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import make_signal
from torch.nn.utils.rnn import pad_sequence

import fins
from fins.audio import cut_windows
from fins.features import compute_features
from fins.networks.fourier import LearnedSpectrum
from ser_heads.frontends.fins import ClosedForm, FinFrontEnd, closed_forms, starting_fins
from ser_heads.frontends.waveform import count_frames


def frontend_of(*names: str) -> FinFrontEnd:
    return FinFrontEnd({name: fins.load(name) for name in names})


def test_outputs_are_the_closed_forms_of_every_window() -> None:
    names = ("rms", "mel", "zcr", "chroma", "mfcc")
    frontend = frontend_of(*names)
    signals = [make_signal(seed, 12_000 + 700 * seed) for seed in range(3)]
    lengths = torch.tensor([len(signal) for signal in signals])
    with torch.no_grad():
        values, n_frames = frontend(pad_sequence([*map(torch.from_numpy, signals)], True), lengths)
    assert torch.equal(n_frames, count_frames(lengths))
    for place, signal in enumerate(signals):
        truth = compute_features(cut_windows(signal), names)
        assert (values[place, n_frames[place] :] == 0).all()
        for name, columns in frontend.slices.items():
            outputs = values[place, : n_frames[place], columns].numpy()
            # a soft sign can't tell a sample of 1e-9 from zero: one crossing in 2047 is 5e-4
            np.testing.assert_allclose(outputs, truth[name], atol=1e-3 * np.abs(truth[name]).max())


def test_half_precision_stops_before_the_fins() -> None:
    frontend, waveform = frontend_of("mel", "zcr"), torch.from_numpy(make_signal(0))[None]
    lengths = torch.tensor([waveform.shape[1]])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        mixed = frontend(waveform, lengths).values
    with torch.no_grad():
        torch.testing.assert_close(mixed, frontend(waveform, lengths).values, rtol=0, atol=0)


def test_the_same_spectrum_is_computed_once_and_another_one_for_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frontend = frontend_of("mel", "pitch", "rms", "mfcc")
    windows = torch.from_numpy(np.ascontiguousarray(cut_windows(make_signal(0, 100_000))))
    calls: list[int] = []
    forward = LearnedSpectrum.forward
    monkeypatch.setattr(
        LearnedSpectrum, "forward", lambda self, chunk: (calls.append(len(chunk)), forward(self, chunk))[1]
    )

    def alone() -> torch.Tensor:
        return torch.cat([member(windows) for member in frontend.members.values()], dim=1)

    with torch.no_grad():
        for n_spectra in (1, 2):
            calls.clear()
            outputs = frontend.imitate(windows)
            assert sum(calls) == n_spectra * len(windows)
            torch.testing.assert_close(outputs, alone(), rtol=0, atol=0)
            frontend.members["pitch"].spectrum.window[7] += 0.01  # as finetuning moves it


def test_frozen_fins_get_no_gradient_and_others_do() -> None:
    frontend = frontend_of("rms", "mel")
    waveform, lengths = torch.randn(2, 4_096) / 10, torch.tensor([4_096, 3_000])
    assert {id(parameter) for parameter in frontend.pretrained()} == {*map(id, frontend.parameters())}
    frontend.requires_grad_(False)
    assert not frontend.learns() and not frontend(waveform, lengths).values.requires_grad
    frontend.requires_grad_(True)
    frontend(waveform, lengths).values.sum().backward()
    assert frontend.learns() and all(parameter.grad is not None for parameter in frontend.parameters())


def test_a_front_end_needs_a_fin() -> None:
    with pytest.raises(ValueError, match="at least one"):
        FinFrontEnd({})


def test_closed_forms_in_the_places_of_fins_learn_nothing_and_are_told_apart() -> None:
    """As librosa and the definitions have them; beside FINs they keep their place."""
    members = closed_forms(["mel", "pitch"])
    frontend = FinFrontEnd(members)
    assert frontend.n_columns == 224 and not list(frontend.parameters()) and not frontend.learns()
    digests = [FinFrontEnd(closed_forms([name])).digest() for name in ("mel", "chroma", "pitch")]
    assert len({*digests, frontend.digest(), frontend_of("mel").digest()}) == 5
    signal = make_signal(5)
    computed = compute_features(cut_windows(signal), ["mel", "pitch"])
    given = torch.from_numpy(signal)[None], torch.tensor([len(signal)])
    values = frontend(*given).values[0].numpy()
    np.testing.assert_array_equal(values, np.concatenate([computed["mel"], computed["pitch"]], axis=1))
    mixed = FinFrontEnd({"rms": fins.load("rms"), "mel": members["mel"]})
    np.testing.assert_array_equal(mixed(*given).values[0, :, 1:].detach().numpy(), computed["mel"])
    assert "mel" in mixed.why_not_exported and not frontend_of("rms").why_not_exported
    with pytest.raises(ValueError, match="there is no feature 'loudness'"):
        ClosedForm("loudness")


def test_the_digest_is_of_features_and_weights() -> None:
    frontend = frontend_of("rms")
    before = frontend.digest()
    assert frontend_of("rms").digest() == before
    with torch.no_grad():
        frontend.members["rms"].weights[3] += 0.1  # type: ignore[index, operator]
    assert frontend.digest() != before


def test_compact_fins_of_mel_start_pruned() -> None:
    """Their weights that are zero stay zero; what they give is the same."""
    (pruned,) = starting_fins(["mel"]).values()
    whole = fins.load("mel")
    windows = torch.from_numpy(np.ascontiguousarray(cut_windows(make_signal(0))))
    with torch.no_grad():
        torch.testing.assert_close(pruned(windows), whole(windows))
    assert pruned.bands.weights.numel() < 0.1 * whole.bands.weights.numel()  # type: ignore[union-attr]
