"""A made corpus: speech-like utterances from a small source-filter synthesiser, for demonstrations and tests.

It is synthetic from end to end: no recording went into it, its speakers and sentences do not exist, and a
score on it says nothing about people. What it shares with recordings is what code can trip over: harmonics,
moving formants, bursts, pauses, room noise, digital silence, and emotions whose distributions overlap.

Data flows downwards: a sentence becomes segments, segments become tracks of one value a block, and tracks
become sound as in Klatt (1980), "Software for a cascade/parallel formant synthesizer", JASA 67(3), 971-995.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import soundfile
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.signal import lfilter

from data_manifests.reading import UNFINISHED
from fins.audio import SAMPLE_RATE
from fins.data.synthetic.voices import ACTED, SEGMENTS, SENTENCES, SPEAKERS, STYLES, Speaker, Style
from fins.disk import replacing
from fins.progress import SILENT, Watch
from fins.runs import locked, read_json, write_atomically, write_json

BLOCK = 110  # samples, 5 ms: Klatt's interval between two settings of the filters
BLOCKS_PER_SECOND = SAMPLE_RATE / BLOCK
RING = 10 * BLOCK  # samples, 50 ms: the time that a block's sound has to die away, by 76 dB or more
BANDWIDTHS = np.array([70.0, 90.0, 150.0])  # Hz, of the three formants that make the sound
UPPER_FORMANTS = np.arange(3_500.0, 10_500.0, 1_000.0)  # Hz, in every sound: quarter waves of a 17 cm tube
UPPER_BANDWIDTHS = UPPER_FORMANTS / 13  # Hz
FRICTION_BANDWIDTH = np.array([1_500.0])  # Hz
OPENING = 0.40  # share of a period in which the glottis opens (Rosenberg 1971)
LEVEL = -28.0  # dB re full scale, rms of a neutral utterance
PEAK = 0.98  # amplitude that no utterance passes
N_SPEAKERS, N_SENTENCES, N_TAKES = 6, 4, 2  # of a corpus unless asked otherwise: 384 utterances, 12 minutes

Floats = NDArray[np.float64]
Key = tuple[int, str, int, int]  # speaker, emotion, sentence, take


@dataclass(frozen=True)
class Tracks:
    """What the synthesiser is asked for; row i holds at sample i * BLOCK and leads smoothly to the next.

    pitch : (n_blocks,), Hz
    formants : (n_blocks, 3), Hz
    upper : (n_upper,), Hz below 11,025, at most 7 formants that stay
    voicing, aspiration, friction : (n_blocks,), amplitude in [0, 1]
    centre : (n_blocks,), Hz, of the friction noise
    breath : amplitude of the noise that a voiced sound carries
    closing : share of a period in which the glottis closes, above 0 and at most 0.6
    """

    pitch: Floats
    formants: Floats
    upper: Floats
    voicing: Floats
    aspiration: Floats
    friction: Floats
    centre: Floats
    breath: float = 0.015
    closing: float = 0.16


def _vary(rng: Generator, deviation: float) -> float:
    """A normal draw cut at two deviations, so that no utterance leaves the documented ranges."""
    return float(np.clip(rng.standard_normal(), -2, 2)) * deviation


def _smooth(track: Floats, n_blocks: int) -> Floats:
    """Weighted mean over n_blocks rows, (n, ...) to the same shape; both ends count as going on for ever."""
    weights = np.hanning(n_blocks + 2)[1:-1, None] / np.hanning(n_blocks + 2).sum()
    columns = np.pad(
        track.reshape(len(track), -1), ((n_blocks // 2, (n_blocks - 1) // 2), (0, 0)), mode="edge"
    )
    windows = np.lib.stride_tricks.sliding_window_view(columns, n_blocks, axis=0)
    return (windows @ weights).reshape(track.shape)


def _contour(style: Style, n_blocks: int, rng: Generator) -> Floats:
    """Pitch in semitones around its median: random accents, a fall over the sentence, a final movement."""
    time = np.linspace(0, 1, n_blocks)
    span = style.span * np.exp(_vary(rng, 0.25))
    accents = np.interp(time, np.linspace(0, 1, 7), rng.standard_normal(7).clip(-2, 2))
    final = (style.final + _vary(rng, 1.5)) * np.clip((time - 0.8) / 0.2, 0, 1)
    contour = _smooth(span * accents - span * (time - 0.5) + final, 15)
    return contour - np.median(contour)


def plan(speaker: Speaker, style: Style, sentence: str, rng: Generator) -> Tracks:
    """Turn a sentence in letters of `SEGMENTS` into tracks, with the draws of this one utterance."""
    segments = [segment for letter in sentence for segment in SEGMENTS[letter]]
    rate = speaker.rate * style.rate * np.exp(_vary(rng, 0.09))
    lengths = np.array([s.length for s in segments]) / 1_000 / rate
    lengths *= np.exp(rng.normal(0, 0.12, len(segments)).clip(-0.3, 0.3))
    n_blocks = np.maximum(2, np.rint(lengths * BLOCKS_PER_SECOND)).astype(int)

    def at_blocks(values: Iterable[float] | Floats) -> Floats:
        return np.repeat(np.asarray(values, dtype=np.float64), n_blocks, axis=0)

    lower = np.array([s.formants for s in segments]) * rng.normal(1, 0.03, (len(segments), 3))
    lower = _smooth(at_blocks(lower), 13) * speaker.formant_scale  # 65 ms from one target to the next
    upper = UPPER_FORMANTS * speaker.formant_scale
    median = speaker.pitch * 2 ** ((style.pitch + _vary(rng, 1.4)) / 12)
    stress = np.array([s.voicing for s in segments]) * np.exp(rng.normal(0, 0.15, len(segments)))
    dying = np.interp(np.arange(sum(n_blocks)) - sum(n_blocks), [-40, 0], [1, 0])  # over the last 200 ms
    return Tracks(
        pitch=median * 2 ** (_contour(style, len(lower), rng) / 12),
        formants=lower,
        upper=upper[upper < 0.48 * SAMPLE_RATE],
        voicing=_smooth(at_blocks(stress.clip(0, 1)), 5) * dying,
        aspiration=_smooth(at_blocks([s.aspiration for s in segments]), 5),
        friction=_smooth(at_blocks([s.friction for s in segments]), 3),
        centre=at_blocks([s.centre for s in segments]),
        breath=speaker.breath * style.breath * float(np.exp(_vary(rng, 0.25))),
        closing=style.closing * float(np.exp(_vary(rng, 0.15))),
    )


def _response(frequencies: Floats, bandwidths: Floats) -> NDArray[np.complex128]:
    """What a cascade of resonators does to each bin, gain 1 at 0 Hz (Klatt 1980, equations 1 and 2).

    frequencies : (n_blocks, n_resonators), Hz; bandwidths : (n_resonators,), Hz
    returns : (n_blocks, RING // 2 + 1)
    """
    delay = np.exp(-2j * np.pi * np.fft.rfftfreq(RING))
    radii = np.exp(-np.pi * bandwidths / SAMPLE_RATE)
    b = 2 * radii * np.cos(2 * np.pi * frequencies / SAMPLE_RATE)
    poles = np.ones((len(frequencies), len(delay)), dtype=np.complex128)
    for column, radius in zip(b.T, radii, strict=True):
        poles *= 1 + radius**2 * delay**2 - column[:, None] * delay
    return np.prod(1 - b + radii**2, axis=1, keepdims=True) / poles


def _spectra(source: Floats) -> NDArray[np.complex128]:
    """Bins of Hann-weighted pieces around each block's start: (n_blocks * BLOCK,) to (n_blocks, n_bins).

    Neighbours overlap by half and sum to `source`, but for its last block, which fades out.
    """
    padded = np.pad(source, (BLOCK, 0))
    pieces = np.lib.stride_tricks.sliding_window_view(padded, 2 * BLOCK)[::BLOCK]
    return np.fft.rfft(pieces * np.hanning(2 * BLOCK + 1)[:-1], RING)


def _overlap_add(spectra: NDArray[np.complex128]) -> Floats:
    """The sum of the pieces, (n_blocks * BLOCK,), each with what rings on after it; the last is cut."""
    pieces = np.fft.irfft(spectra, RING)
    total = np.zeros((len(pieces) + RING // BLOCK, BLOCK))
    for i in range(RING // BLOCK):
        total[i : i + len(pieces)] += pieces[:, i * BLOCK : (i + 1) * BLOCK]
    return total.ravel()[BLOCK : (len(pieces) + 1) * BLOCK]


def _glottal_flow(pitch: Floats, closing: float, rng: Generator) -> Floats:
    """Polynomial pulses of Rosenberg (1971), JASA 49(2B), 583-590: (n_samples,) Hz to flow, peaks near 1."""
    cycle, phase = np.divmod(np.cumsum(pitch / SAMPLE_RATE), 1)
    rise, fall = phase / OPENING, (phase - OPENING) / closing
    pulse = np.where(phase < OPENING, 3 * rise**2 - 2 * rise**3, np.clip(1 - fall**2, 0, None))
    shimmer = rng.normal(1, 0.04, int(cycle[-1]) + 1)
    return pulse * shimmer[cycle.astype(int)]


def render(tracks: Tracks, rng: Generator) -> Floats:
    """Tracks to sound, (n_blocks * BLOCK,), of arbitrary level; silent where all amplitudes are 0."""
    n_blocks = len(tracks.pitch)
    time = np.arange(n_blocks * BLOCK) / BLOCK

    def at_samples(track: Floats) -> Floats:
        return np.interp(time, np.arange(n_blocks), track)

    pitch = tracks.pitch * (1 + rng.normal(0, 0.006, n_blocks))  # jitter
    flow = _glottal_flow(at_samples(pitch), tracks.closing, rng)
    voice = np.diff(flow, prepend=0.0)  # lips radiate the derivative of flow
    voice /= voice.std()
    # A voiced sound's noise comes in puffs, while the glottis is open (Klatt 1980, on aspiration).
    breath = tracks.breath * (0.5 + flow) * rng.standard_normal(len(time))
    source = at_samples(tracks.voicing) * (voice + breath)
    source += at_samples(tracks.aspiration) * 0.3 * rng.standard_normal(len(time))
    mouth = _spectra(source) * _response(tracks.formants, BANDWIDTHS)
    mouth *= _response(tracks.upper[None], UPPER_BANDWIDTHS[: len(tracks.upper)])
    hiss = at_samples(tracks.friction) * np.diff(rng.standard_normal(len(time)), prepend=0.0)
    hissing = np.convolve(tracks.friction, [1, 1, 1], mode="same") > 0  # a fifth of the blocks: saves time
    mouth[hissing] += _spectra(hiss)[hissing] * _response(tracks.centre[hissing, None], FRICTION_BANDWIDTH)
    return _overlap_add(mouth)


def _in_a_room(speech: Floats, rng: Generator) -> Floats:
    """Put dull room noise under and around speech and, at some edges, the digital silence of an editor."""
    before, after = rng.integers(int(0.04 * SAMPLE_RATE), int(0.16 * SAMPLE_RATE), 2)
    padded = np.pad(speech, (before, after))
    room = lfilter([0.31], [1, -0.95], rng.standard_normal(len(padded)))
    padded += 10 ** (rng.uniform(-68, -58) / 20) * room
    silences = rng.integers(int(0.12 * SAMPLE_RATE), int(0.26 * SAMPLE_RATE), 2) * (rng.random(2) < 0.25)
    return np.pad(padded, tuple(silences))


def _check(name: str, value: int, least: int, most: int | None = None) -> None:
    if value < least or (most is not None and value > most):
        bounds = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be {bounds}, got {value}")


def synthesise(speaker: int, emotion: str, sentence: int, take: int, seed: int = 0) -> NDArray[np.float32]:
    """One synthetic utterance, the same for the same arguments whatever was made before it.

    speaker : 1 to 8, in `SPEAKERS`; emotion : one of `ACTED`; sentence : 1 to 8, in `SENTENCES`
    take : 1 or more; seed : 0 or more
    returns : (n_samples,), mono at 22,050 Hz, about 1 to 3 s, amplitude in [-0.98, 0.98]

    Raises ValueError where an argument is out of its range.
    """
    _check("speaker", speaker, 1, len(SPEAKERS))
    _check("sentence", sentence, 1, len(SENTENCES))
    _check("take", take, 1)
    _check("seed", seed, 0)
    if emotion not in ACTED:
        raise ValueError(f"emotion must be one of {', '.join(ACTED)}, got {emotion!r}")
    rng = np.random.default_rng([seed, speaker, ACTED.index(emotion), sentence, take])
    voice, style = SPEAKERS[speaker - 1], STYLES[emotion]
    speech = render(plan(voice, style, SENTENCES[sentence - 1], rng), rng)
    level = LEVEL + voice.level + style.loudness + _vary(rng, 2.2)
    speech *= min(10 ** (level / 20) / np.sqrt(np.mean(speech**2)), (PEAK - 0.01) / np.abs(speech).max())
    return _in_a_room(speech, rng).astype(np.float32)


README = """\
This is a synthetic corpus: no person speaks in it. {n_utterances} utterances of {n_speakers} made-up voices
in 8 coded emotions, {n_sentences} nonsense sentences and {n_takes} takes were computed by fin-ser with
seed {seed}: glottal pulses and noise through time-varying formant resonators (a source-filter synthesiser
after Klatt 1980), with pitch, pitch movement, rate, loudness, breath and brightness set by the emotion and
varied at random from utterance to utterance. A file is named speaker_emotion_sentence_take.wav: 16 bit, mono,
22,050 Hz. It is for demonstrations and tests; a score on it says nothing about real speech.
"""


def write_corpus(
    root: Path,
    n_speakers: int = N_SPEAKERS,
    n_sentences: int = N_SENTENCES,
    n_takes: int = N_TAKES,
    seed: int = 0,
    watch: Watch = SILENT,
) -> list[Path]:
    """Write every utterance of the asked size as `s01/s01_angry_03_1.wav` under `root`, and a README.txt.

    root : a folder, new or empty
    n_speakers, n_sentences : 1 to 8; n_takes : 1 or more; seed : 0 or more
    watch : is told of each utterance that is written
    returns : n_speakers * 8 * n_sentences * n_takes paths, by speaker, emotion, sentence and take

    A sample is 16 bit, round(amplitude * 32768). What was stopped goes on by the same call: until the corpus
    is whole, a file says that it isn't, and no command takes it for one. Raises ValueError where a number is
    out of its range or the folder holds an unfinished corpus of other options, and FileExistsError where it
    holds anything else, before anything is written.
    """
    _check("n_speakers", n_speakers, 1, len(SPEAKERS))
    _check("n_sentences", n_sentences, 1, len(SENTENCES))
    _check("n_takes", n_takes, 1)
    _check("seed", seed, 0)
    speakers, sentences, takes = (range(1, n + 1) for n in (n_speakers, n_sentences, n_takes))
    keys = list(product(speakers, ACTED, sentences, takes))
    sizes = {"n_speakers": n_speakers, "n_sentences": n_sentences, "n_takes": n_takes, "seed": seed}
    if root.exists() and not root.is_dir():
        raise FileExistsError(f"{root} is not an empty folder: give a new one")
    with locked(root):
        _begin(root, sizes)
        # First, so that even an interrupted corpus says what it is.
        write_atomically(root / "README.txt", README.format(n_utterances=len(keys), **sizes))
        paths = []
        with watch.bar(len(keys), "utterances") as bar:
            for key in keys:
                paths.append(_write(root, key, seed))
                bar.update()
        (root / UNFINISHED).unlink()  # last: the corpus is whole
    return paths


def _begin(root: Path, sizes: dict[str, int]) -> None:
    """Mark a folder as a corpus that is being written, if it is new, empty or such a corpus already."""
    marker = root / UNFINISHED
    if marker.exists():
        before = read_json(marker)
        if before != sizes:
            options = ", ".join(f"{name} {value}" for name, value in before.items())
            raise ValueError(f"{root} holds an unfinished corpus of {options}: give these, or a new folder")
    elif any(path.suffix != ".partial" for path in root.iterdir()):
        raise FileExistsError(f"{root} is not an empty folder: give a new one")
    write_json(marker, sizes)


def _write(root: Path, key: Key, seed: int) -> Path:
    speaker, emotion, sentence, take = key
    path = root / f"s{speaker:02}" / f"s{speaker:02}_{emotion}_{sentence:02}_{take}.wav"
    if path.exists():  # by a call that was stopped later
        return path
    path.parent.mkdir(exist_ok=True)
    samples = np.rint(synthesise(*key, seed=seed) * 32_768).astype(np.int16)
    content = io.BytesIO()  # libsndfile doesn't say why a disk refuses
    soundfile.write(content, samples, SAMPLE_RATE, subtype="PCM_16", format="WAV")
    with replacing(path) as partial:
        partial.write_bytes(content.getbuffer())
    return path
