"""The synthetic corpus against asked values measured back, librosa, scipy and scikit-learn."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from scipy.signal import lfilter
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from data_manifests.labels import EMOTIONS
from fins.audio import SAMPLE_RATE
from fins.data.synthetic import synthesiser as synthetic
from fins.data.synthetic.synthesiser import (
    BLOCK,
    SEGMENTS,
    SENTENCES,
    SPEAKERS,
    STYLES,
    synthesise,
    write_corpus,
)
from pipelines.synthesise import SynthesiseConfig, main

Corpus = dict[tuple[int, str, int, int], NDArray[np.float32]]
MEASURED = ("loudness", "pitch", "pitch_range", "final_pitch", "seconds", "bright")


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    keys = product(range(1, 7), EMOTIONS, (1, 2), (1,))
    return {key: synthesise(*key) for key in keys}


@pytest.fixture(scope="module")
def measured(corpus: Corpus) -> NDArray[np.float64]:
    """(n_utterances, 6), columns as in MEASURED."""
    return np.array([measure(signal) for signal in corpus.values()])


def measure(signal: NDArray[np.float32]) -> list[float]:
    """Closed forms of one utterance over its loud frames; pitch in semitones by autocorrelation."""
    frames = librosa.util.frame(signal, frame_length=1024, hop_length=512).T
    rms = np.sqrt(np.mean(frames**2, axis=1))
    frames = frames[rms > 0.15 * rms.max()]
    power = np.abs(np.fft.rfft(frames * np.hanning(1024))) ** 2
    correlation = np.fft.irfft(power)[:, :300]
    voiced = correlation[:, 45:].max(axis=1) > 0.4 * correlation[:, 0]
    pitch = 12 * np.log2(SAMPLE_RATE / (45 + correlation[voiced, 45:].argmax(axis=1)))
    low, median, high = np.percentile(pitch, [25, 50, 75])
    bright = 10 * np.log10(power[voiced, 93:186].sum() / power[voiced].sum())  # 2 to 4 kHz
    loudness = 20 * np.log10(np.sqrt(np.mean(frames**2)))
    return [loudness, median, high - low, pitch[-6:].mean() - median, len(signal) / SAMPLE_RATE, bright]


def steady(pitch: float, formants: tuple[float, ...], voiced: bool = True) -> synthetic.Tracks:
    """One second of an unchanging sound: a spoken vowel without breath, or a whispered one."""
    held, none = np.ones(200), np.zeros(200)
    return synthetic.Tracks(
        pitch=pitch * held,
        formants=np.tile(formants, (200, 1)),
        upper=synthetic.UPPER_FORMANTS,
        voicing=held if voiced else none,
        aspiration=none if voiced else held,
        friction=none,
        centre=4_000 * held,
        breath=0.0,
    )


@pytest.mark.parametrize("pitch", [80.0, 123.0, 220.0, 410.0])
def test_a_steady_vowel_has_the_asked_fundamental(pitch: float) -> None:
    sound = synthetic.render(steady(pitch, (730, 1_090, 2_440)), np.random.default_rng(0))
    found = np.median(librosa.yin(sound, fmin=60, fmax=500, sr=SAMPLE_RATE, frame_length=1024))
    assert found == pytest.approx(pitch, rel=0.01)


@pytest.mark.parametrize("voiced", [True, False])
@pytest.mark.parametrize("vowel", "aeiou")
def test_a_steady_vowel_has_the_asked_formants(vowel: str, voiced: bool) -> None:
    asked = SEGMENTS[vowel][0].formants
    sound = synthetic.render(steady(100, asked, voiced), np.random.default_rng(0))
    if voiced:
        sound = lfilter([1, -0.97], [1], sound)  # what is left of the source's tilt
    poles = np.roots(librosa.lpc(sound[2_000:-2_000] * np.hanning(len(sound) - 4_000), order=22))
    found = np.abs(np.angle(poles)) * SAMPLE_RATE / (2 * np.pi)
    found = found[np.abs(poles) > 0.93]  # narrower than 510 Hz
    # A harmonic is at most half a fundamental from a formant; noise has no such grid.
    tolerance = 50 if voiced else 30
    for formant in asked:
        assert np.abs(found - formant).min() < tolerance


def test_filtering_by_blocks_is_klatts_recursion_where_formants_stand_still() -> None:
    source = np.random.default_rng(0).standard_normal(60 * BLOCK)
    formants, bandwidths = np.array([500.0, 1_500.0, 2_500.0]), synthetic.BANDWIDTHS
    response = synthetic._response(np.tile(formants, (60, 1)), bandwidths)
    found = synthetic._overlap_add(synthetic._spectra(source) * response)
    expected = source
    for formant, bandwidth in zip(formants, bandwidths, strict=True):
        c = -np.exp(-2 * np.pi * bandwidth / SAMPLE_RATE)
        b = 2 * np.exp(-np.pi * bandwidth / SAMPLE_RATE) * np.cos(2 * np.pi * formant / SAMPLE_RATE)
        expected = lfilter([1 - b - c], [1, -b, -c], expected)
    inside = slice(BLOCK, -BLOCK)  # the first pieces hold what wraps around, the last block fades
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("emotion", ["sad", "happy", "surprise"])
@pytest.mark.parametrize("speaker", [1, 2])
def test_an_utterance_follows_the_asked_pitch(speaker: int, emotion: str) -> None:
    rng = np.random.default_rng(3)
    tracks = synthetic.plan(SPEAKERS[speaker - 1], STYLES[emotion], SENTENCES[0], rng)
    sound = synthetic.render(tracks, rng)
    found = librosa.yin(sound, fmin=50, fmax=700, sr=SAMPLE_RATE, frame_length=1024, hop_length=BLOCK)
    n_blocks = min(len(found), len(tracks.pitch))
    voiced = tracks.voicing[:n_blocks] > 0.6
    error = 12 * np.abs(np.log2(found[:n_blocks] / tracks.pitch[:n_blocks]))[voiced]
    assert voiced.sum() > 50
    assert np.median(error) < 0.3  # semitones
    assert np.mean(error < 1) > 0.85


def test_the_same_arguments_give_the_same_samples_in_any_order() -> None:
    keys = [(1, "angry", 1, 1), (2, "sad", 3, 2), (6, "fear", 4, 1)]
    forwards = {key: synthesise(*key) for key in keys}
    for key in reversed(keys):
        assert synthesise(*key).tobytes() == forwards[key].tobytes()


@pytest.mark.parametrize(
    "other",
    [
        (2, "calm", 1, 1, 0),
        (1, "sad", 1, 1, 0),
        (1, "calm", 2, 1, 0),
        (1, "calm", 1, 2, 0),
        (1, "calm", 1, 1, 1),
    ],
)
def test_every_argument_matters(other: tuple[int, str, int, int, int]) -> None:
    one, two = synthesise(1, "calm", 1, 1, 0), synthesise(*other)
    assert len(one) != len(two) or np.abs(one - two).max() > 0.01


def test_an_utterance_is_sound_in_the_documented_range(corpus: Corpus) -> None:
    for key, signal in corpus.items():
        assert signal.dtype == np.float32 and signal.ndim == 1, key
        assert np.isfinite(signal).all(), key
        assert 0.02 < np.abs(signal).max() <= 0.98, key
        assert 0.9 < len(signal) / SAMPLE_RATE < 3.2, key


def test_every_setting_at_its_extreme_stays_in_range() -> None:
    shouts = [synthesise(speaker, "angry", 1, take) for speaker, take in product((3, 6), range(1, 16))]
    peaks = [np.abs(shout).max() for shout in shouts]
    assert max(peaks) <= 0.98
    assert np.std(peaks) > 0.05


def test_windows_have_the_numbers_of_recorded_speech(corpus: Corpus) -> None:
    """Bounds are near those of 20 clips each of RAVDESS, TESS and ESD.

    Their windows cross zero at 0.06 to 0.07 in the median, 0.5 to 0.8 at the 98th percentile; the median rms
    is 0.001 to 0.03, the largest 0.1 to 0.35; 5 % of RAVDESS is digital silence.
    """
    signals = corpus.values()
    windows = np.hstack([librosa.util.frame(s, frame_length=2048, hop_length=512) for s in signals]).T
    silent = (windows == 0).all(axis=1)
    assert 0.01 < silent.mean() < 0.05
    crossings = np.mean(np.diff(windows < 0, axis=1), axis=1)[~silent]
    assert 0.05 < np.median(crossings) < 0.10
    assert 0.4 < np.percentile(crossings, 98) < 0.8
    rms = np.sqrt(np.mean(windows**2, axis=1))[~silent]
    assert 0.005 < np.median(rms) < 0.03
    assert 0.1 < rms.max() < 0.4


def test_emotions_are_coded_by_loudness_pitch_range_and_rate(
    corpus: Corpus, measured: NDArray[np.float64]
) -> None:
    emotions = np.array([key[1] for key in corpus])
    mean = {e: dict(zip(MEASURED, measured[emotions == e].mean(axis=0), strict=True)) for e in EMOTIONS}
    assert mean["angry"]["loudness"] > mean["neutral"]["loudness"] + 3 > mean["sad"]["loudness"] + 6
    assert mean["happy"]["pitch"] > mean["neutral"]["pitch"] + 1 > mean["disgust"]["pitch"] + 1
    assert mean["happy"]["pitch_range"] > mean["sad"]["pitch_range"] * 1.5
    assert mean["surprise"]["final_pitch"] > max(mean[e]["final_pitch"] for e in EMOTIONS[:-1]) + 1
    assert mean["sad"]["seconds"] > mean["angry"]["seconds"] * 1.2
    assert mean["angry"]["bright"] > mean["sad"]["bright"]


def test_emotions_of_an_unheard_speaker_can_be_learnt_but_not_perfectly(
    corpus: Corpus, measured: NDArray[np.float64]
) -> None:
    speakers, emotions = [key[0] for key in corpus], [key[1] for key in corpus]
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    found = cross_val_predict(model, measured, emotions, groups=speakers, cv=LeaveOneGroupOut())
    assert 0.3 < recall_score(emotions, found, average="macro") < 0.9  # chance is 0.125


def test_tables_are_complete() -> None:
    assert tuple(STYLES) == EMOTIONS
    assert {letter for sentence in SENTENCES for letter in sentence} <= set(SEGMENTS)
    assert len(set(SENTENCES)) == len(SENTENCES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, "calm", 1, 1), "speaker must be from 1 to 8, got 0"),
        ((9, "calm", 1, 1), "speaker must be from 1 to 8, got 9"),
        ((1, "bored", 1, 1), "emotion must be one of angry, calm, .* got 'bored'"),
        ((1, "calm", 9, 1), "sentence must be from 1 to 8, got 9"),
        ((1, "calm", 1, 0), "take must be at least 1, got 0"),
        ((1, "calm", 1, 1, -1), "seed must be at least 0, got -1"),
    ],
)
def test_a_bad_argument_is_named(arguments: tuple[int, str, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        synthesise(*arguments)


def test_a_written_corpus_reads_back_as_it_was_made(tmp_path: Path) -> None:
    paths = write_corpus(tmp_path / "made", n_speakers=2, n_sentences=1, n_takes=1, seed=5)
    names = [f"s{s:02}/s{s:02}_{e}_01_1.wav" for s in (1, 2) for e in EMOTIONS]
    assert [path.relative_to(tmp_path / "made").as_posix() for path in paths] == names
    assert sorted(paths) == sorted((tmp_path / "made").rglob("*.wav"))
    for path, (speaker, emotion) in zip(paths, product((1, 2), EMOTIONS), strict=True):
        info, (samples, sample_rate) = soundfile.info(path), soundfile.read(path, dtype="float32")
        assert (info.subtype, info.channels, sample_rate) == ("PCM_16", 1, 22_050)
        np.testing.assert_allclose(samples, synthesise(speaker, emotion, 1, 1, seed=5), atol=0.5 / 32_768)


def test_a_larger_corpus_holds_the_smaller(tmp_path: Path) -> None:
    small = write_corpus(tmp_path / "small", n_speakers=1, n_sentences=1, n_takes=1)
    write_corpus(tmp_path / "large", n_speakers=1, n_sentences=1, n_takes=2)
    for path in small:
        twin = tmp_path / "large" / path.relative_to(tmp_path / "small")
        assert path.read_bytes() == twin.read_bytes()


def test_the_corpus_says_that_it_is_synthetic(tmp_path: Path) -> None:
    write_corpus(tmp_path, n_speakers=1, n_sentences=1, n_takes=1, seed=7)
    text = (tmp_path / "README.txt").read_text()
    assert text.startswith("This is a synthetic corpus: no person speaks in it. 8 utterances of 1 ")
    assert "seed 7:" in text


def test_nothing_is_written_where_something_is(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(FileExistsError, match="is not an empty folder: give a new one"):
        write_corpus(tmp_path)
    with pytest.raises(ValueError, match="n_takes must be at least 1, got 0"):
        write_corpus(tmp_path / "new", n_takes=0)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_the_command_writes_the_corpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = SynthesiseConfig(tmp_path, n_speakers=1, n_sentences=1, n_takes=1)
    main(config)
    assert len(list(tmp_path.rglob("*.wav"))) == 8
    assert "8 synthetic utterances" in capsys.readouterr().out
    with pytest.raises(OSError, match="is not an empty folder: give a new one"):
        main(config)
    with pytest.raises(ValueError, match="n_speakers must be from 1 to 8, got 9"):
        main(SynthesiseConfig(tmp_path / "new", n_speakers=9))
    assert not (tmp_path / "new").exists()
