"""What the synthesiser speaks with: voices, emotions' ways of speaking, sounds by letters, and sentences."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Speaker:
    """A voice: median pitch (Hz), formants relative to a man's, amplitude of breath, rate, level (dB)."""

    pitch: float
    formant_scale: float
    breath: float
    rate: float
    level: float


SPEAKERS = (
    Speaker(110, 1.00, 0.012, 1.00, 0.0),
    Speaker(205, 1.16, 0.020, 1.05, -1.0),
    Speaker(126, 0.97, 0.018, 1.08, 1.5),
    Speaker(184, 1.12, 0.014, 0.95, 0.5),
    Speaker(98, 0.94, 0.015, 0.93, -1.5),
    Speaker(226, 1.19, 0.017, 1.00, 1.0),
    Speaker(142, 1.04, 0.022, 1.03, -0.5),
    Speaker(168, 1.09, 0.010, 0.97, 0.0),
)


@dataclass(frozen=True)
class Style:
    """How an emotion changes a voice.

    Whether pitch and rate rise or fall with anger, disgust, fear, happiness and sadness is as reviewed by
    Murray and Arnott (1993), JASA 93(2), 1097-1108. All amounts, and all else, are made up.

    pitch : semitones above the speaker's own
    span : semitones, standard deviation of accents; the fall over the sentence grows with it
    final : semitones by which pitch moves in the last fifth
    rate, breath : factors on the speaker's own
    loudness : dB relative to neutral
    closing : share of a period in which the glottis closes; shorter is brighter (Rosenberg 1971: 0.16)
    """

    pitch: float
    span: float
    final: float
    rate: float
    breath: float
    loudness: float
    closing: float


STYLES = {
    "angry": Style(3.0, 2.7, -2.0, 1.12, 0.7, 7.0, 0.06),
    "calm": Style(-1.0, 1.2, -1.0, 0.90, 1.6, -3.0, 0.30),
    "disgust": Style(-2.0, 2.2, -3.0, 0.86, 1.0, 1.0, 0.11),
    "fear": Style(5.0, 1.6, 0.5, 1.18, 2.6, 0.5, 0.20),
    "happy": Style(4.0, 3.0, 1.0, 1.08, 1.0, 4.0, 0.11),
    "neutral": Style(0.0, 1.8, -2.0, 1.00, 1.0, 0.0, 0.16),
    "sad": Style(-1.5, 1.0, -2.5, 0.82, 2.2, -6.0, 0.40),
    "surprise": Style(5.5, 2.7, 7.0, 1.00, 1.4, 3.0, 0.13),
}
ACTED = tuple(STYLES)  # the words for emotions of the made corpus, in the order of its draws


@dataclass(frozen=True)
class Segment:
    """One target: formants of a man (Hz), length (ms), amplitudes in [0, 1], centre of friction (Hz)."""

    formants: tuple[float, float, float]
    length: float
    voicing: float = 0.0
    aspiration: float = 0.0
    friction: float = 0.0
    centre: float = 4_000.0


LABIAL, ALVEOLAR, VELAR = (300, 900, 2_250), (300, 1_750, 2_600), (300, 1_950, 2_350)


def _stop(locus: tuple[float, float, float], centre: float, voiced: bool) -> tuple[Segment, ...]:
    """A closure, silent or with the murmur of a voice bar; its burst; the aspiration of an unvoiced one."""
    closure = Segment(locus, 60, voicing=0.12 if voiced else 0.0)
    burst = Segment(locus, 12, friction=0.5 if voiced else 0.8, centre=centre)
    return (closure, burst) if voiced else (closure, burst, Segment(locus, 25, aspiration=0.25))


# Vowels: the men's averages of Peterson and Barney (1952), JASA 24(2), 175-184.
SEGMENTS: dict[str, tuple[Segment, ...]] = {
    " ": (Segment((500, 1_500, 2_500), 70),),
    "a": (Segment((730, 1_090, 2_440), 125, 1.0),),
    "e": (Segment((530, 1_840, 2_480), 110, 0.9),),
    "i": (Segment((270, 2_290, 3_010), 100, 0.7),),
    "o": (Segment((570, 840, 2_410), 120, 0.9),),
    "u": (Segment((300, 870, 2_240), 100, 0.7),),
    "m": (Segment((250, 1_000, 2_200), 70, 0.3),),
    "n": (Segment((250, 1_600, 2_500), 65, 0.3),),
    "l": (Segment((330, 1_200, 2_700), 65, 0.5),),
    "r": (Segment((400, 1_250, 1_650), 70, 0.5),),
    "w": (Segment((300, 650, 2_200), 65, 0.5),),
    "h": (Segment((500, 1_500, 2_500), 65, aspiration=0.3),),
    "f": (Segment(LABIAL, 95, friction=0.10, centre=7_500),),
    "s": (Segment(ALVEOLAR, 110, friction=0.40, centre=6_200),),
    "x": (Segment(ALVEOLAR, 105, friction=0.50, centre=3_000),),  # as in "she"
    "z": (Segment(ALVEOLAR, 80, 0.25, friction=0.22, centre=6_200),),
    "p": _stop(LABIAL, 1_200, voiced=False),
    "t": _stop(ALVEOLAR, 4_500, voiced=False),
    "k": _stop(VELAR, 2_100, voiced=False),
    "b": _stop(LABIAL, 900, voiced=True),
    "d": _stop(ALVEOLAR, 3_800, voiced=True),
    "g": _stop(VELAR, 1_900, voiced=True),
}
SENTENCES = (
    "masi tolane kuri",
    "beda wifo sanule",
    "xalom ripe gutani",
    "nofe zilaka demu",
    "hola tisen bawuri",
    "kaxi muledo safan",
    "pirawe gonu zetal",
    "lufa himodi raske",
)
