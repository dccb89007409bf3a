"""pipelines.explore: counts by h5py, levels by their formula, tones of known pitch, a page on its own."""

from __future__ import annotations

import base64
import csv
import json
import sys
from collections import Counter, defaultdict
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from matplotlib.image import imread

from data_manifests.labels import EMOTIONS
from data_manifests.manifest import Utterance
from fins.command import run_command
from fins.data.exploration import page as explorations
from fins.data.exploration import plots
from fins.data.exploration.findings import choose_examples, facts_of
from fins.data.exploration.measure import measure_utterances, periodicity, track_pitch
from fins.data.exploration.page import ExploreConfig, cells_of, describe_examples, describe_stores, summarise
from fins.data.exploration.plots import plot_speakers
from fins.data.store import Recording, Store, write_store
from fins.data.table import UtteranceTable
from fins.figures import new_figure
from pipelines import explore

RATE = 22_050


def tone(hertz: float, seconds: float = 0.6, amplitude: float = 0.2) -> np.ndarray:
    """Eight harmonics, the higher the weaker."""
    time = np.arange(int(seconds * RATE)) / RATE
    return amplitude * sum(np.sin(2 * np.pi * hertz * n * time) / n for n in range(1, 9))


def recording(signal: np.ndarray, name: str, emotion: str = "sad", **columns: str) -> Recording:
    """An utterance of corpus c, speaker s, without a sentence, unless told otherwise."""
    its = {"corpus": "c", "speaker": "s", "sentence": "", **columns}
    sha = its.pop("sha", f"sha-{name}")
    utterance = Utterance(id=name, path=f"{name}.wav", emotion=emotion, **its)
    return Recording(utterance, np.rint(32_767 * signal).clip(-32_768, 32_767).astype(np.int16), sha)


def explored(out: Path, *stores: Path, **options: int) -> dict:
    explore.main(ExploreConfig(stores, out, **options))

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads((out / "result.json").read_text(), parse_constant=refuse)


def run_of(tmp_path: Path, *recordings: Recording) -> dict:
    """The result of the whole command for a store of these, in tmp_path/out."""
    write_store(tmp_path / "a.h5", recordings)
    return explored(tmp_path / "out", tmp_path / "a.h5")


def summary_of(tmp_path: Path, *recordings: Recording) -> dict:
    """The same without pictures; and with what was measured of each utterance."""
    write_store(tmp_path / "a.h5", recordings)
    table = UtteranceTable((tmp_path / "a.h5",))
    measured = measure_utterances(table, 100, 0)
    examples = {corpus: choose_examples(measured, corpus) for corpus in measured.spectrum}
    return {**summarise(measured, examples), "measured": measured.rows}


def rows_of(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "utterances.csv").open(newline="") as file:
        return {row["utterance"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def two(small_store: Path, other_store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """An exploration of two corpora, and its result."""
    out = tmp_path_factory.mktemp("explored") / "two"
    return out, explored(out, small_store, other_store)


def test_counts_are_those_of_plain_h5py(two: tuple[Path, dict], small_store: Path, other_store: Path) -> None:
    for path, corpus in ((small_store, "made"), (other_store, "other")):
        with h5py.File(path) as file:
            columns = {
                name: list(file[f"utterances/{name}"].asstr()) for name in ("speaker", "emotion", "sentence")
            }
            n_samples = file["utterances/n_samples"][:]
            silent = sum(
                not file["signal"][start : start + 2_048].any() for start in file["windows/start"][:]
            )
            n_windows = len(file["windows/start"])
        facts = two[1]["facts"][corpus]
        assert facts["emotions"] == Counter(columns["emotion"]) and len(facts["emotions"]) == 8
        pairs = Counter(zip(columns["speaker"], columns["emotion"], strict=True))
        assert pairs == {(s, e): n for s, its in facts["speakers"].items() for e, n in its.items()}
        assert facts["n_speakers"] == len(set(columns["speaker"]))
        assert facts["n_sentences"] == len(set(columns["sentence"])) == 3
        assert facts["n_utterances"] == len(n_samples)
        assert (facts["n_windows"], facts["n_silent_windows"]) == (n_windows, silent) and silent > 0
        assert facts["hours"] == pytest.approx(n_samples.sum() / RATE / 3_600)
        edges, counts = two[1]["lengths"]["edges"], two[1]["lengths"]["counts"][corpus]
        expected = [((n_samples / RATE >= a) & (n_samples / RATE < b)).sum() for a, b in pairwise(edges)]
        expected[-1] += (n_samples / RATE == edges[-1]).sum()
        assert counts == expected


def test_levels_are_those_of_the_formula(two: tuple[Path, dict], small_store: Path) -> None:
    rows = rows_of(two[0])
    levels = defaultdict(list)
    with h5py.File(small_store) as file:
        columns = {name: file[f"utterances/{name}"] for name in ("first_sample", "n_samples")}
        names, emotions = (list(file[f"utterances/{name}"].asstr()) for name in ("id", "emotion"))
        for name, emotion, first, n in zip(
            names, emotions, columns["first_sample"], columns["n_samples"], strict=True
        ):
            signal = file["signal"][first : first + n].astype(np.float64) / 32_768
            energy = [np.sum(signal[at : at + 2_048] ** 2) for at in range(0, n - 2_047, 512)]
            heard = [place for place, its in enumerate(energy) if its >= max(energy) / 10**4.5]
            signal = signal[512 * heard[0] : 512 * heard[-1] + 2_048]
            row = rows[f"made/{name}"]
            assert float(row["seconds"]) == pytest.approx(n / RATE, rel=1e-6)
            assert float(row["heard"]) == pytest.approx(len(signal) / RATE, rel=1e-6)
            level = 20 * np.log10(np.sqrt(np.mean((signal - signal.mean()) ** 2)))
            assert float(row["level"]) == pytest.approx(level, abs=1e-4)
            offset = abs(signal.mean()) / np.sqrt(np.mean(signal**2))
            assert float(row["offset"]) == pytest.approx(offset, rel=1e-4)
            levels[emotion].append(level)
    for emotion, its in levels.items():
        box = two[1]["level"]["dB"]["made"][emotion]
        assert box["n"] == len(its) == 8
        points = [box[name] for name in ("low", "lower", "median", "upper", "high")]
        np.testing.assert_allclose(points, np.quantile(its, [0.05, 0.25, 0.5, 0.75, 0.95]), atol=1e-6)


def test_levels_and_pitch_are_compared_with_the_speakers_own(tmp_path: Path) -> None:
    high = [recording(tone(hertz, amplitude=0.2), f"a{hertz}", speaker="a") for hertz in (200, 300, 400)]
    low = [recording(tone(hertz, amplitude=0.02), f"b{hertz}", speaker="b") for hertz in (100, 150, 200)]
    nobody = recording(tone(550, amplitude=0.9 / 2.5), "n", speaker="unknown")
    result = summary_of(tmp_path, *high, *low, nobody)
    box = result["pitch"]["semitones_from_speaker"]["c"]["sad"]
    assert (box["n"], result["pitch"]["Hz"]["c"]["sad"]["n"]) == (6, 7)
    expected = 12 * np.log2([2 / 3, 1, 4 / 3, 2 / 3, 1, 4 / 3])
    np.testing.assert_allclose(box["lower"], np.percentile(expected, 25), atol=0.1)
    np.testing.assert_allclose(box["high"], np.percentile(expected, 95), atol=0.1)
    box = result["level"]["dB_from_speaker"]["c"]["sad"]
    assert box["n"] == 6 and abs(box["low"]) < 0.05 and abs(box["high"]) < 0.05
    levels = result["facts"]["c"]["speaker_levels"]
    assert levels["a"] - levels["b"] == pytest.approx(20, abs=0.05)
    assert any("speakers differ in level" in note and "(b)" in note for note in result["notes"])


@pytest.mark.parametrize("hertz", [70.0, 123.4, 247.0, 417.0, 580.0])
def test_the_pitch_of_a_tone(hertz: float) -> None:
    clean = tone(hertz, 1.0)
    time = np.arange(len(clean)) / RATE
    noise = 0.01 * np.random.default_rng(0).standard_normal(len(clean))
    rumble = 0.3 * np.sin(2 * np.pi * 17 * time) + 0.2
    for signal in (clean, clean + noise, clean + rumble):
        pitch = track_pitch(signal.astype(np.float32))
        assert len(pitch) == 1 + (len(signal) - 1_024) // 512
        assert not np.isnan(pitch).any()
        np.testing.assert_allclose(pitch, hertz, rtol=0.01)


def test_what_has_no_pitch(tmp_path: Path) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(RATE)
    assert np.isnan(track_pitch(noise.astype(np.float32))).all()
    assert np.isnan(track_pitch(np.zeros(4_096, np.float32))).all()
    # a faint tone after a loud one isn't voiced, though it is as periodic
    both = np.concatenate([tone(200, 0.5), 10 ** (-40 / 20) * tone(300, 0.5)]).astype(np.float32)
    pitch = track_pitch(both)
    assert not np.isnan(pitch[:18]).any() and np.isnan(pitch[24:]).all()
    result = summary_of(
        tmp_path, recording(tone(200), "tone"), recording(noise / 2, "noise", emotion="angry")
    )
    assert result["facts"]["c"]["n_unvoiced"] == 1
    assert list(result["pitch"]["Hz"]["c"]) == ["sad"]
    assert np.isnan([result["measured"][name][1] for name in ("f0", "f0_range")]).all()
    np.testing.assert_array_equal(result["measured"]["voiced"], [1, 0])


def test_the_range_of_a_glide(tmp_path: Path) -> None:
    """An octave up in four seconds; its 10th and 90th percentile span 80 % of what frames see of it."""
    time = np.arange(4 * RATE) / RATE
    phase = 2 * np.pi * 150 / np.log(2) * 4 * (2 ** (time / 4) - 1)
    glide = sum(np.sin(n * phase) / n for n in range(1, 9)) / 10
    result = summary_of(tmp_path, recording(glide, "glide"))
    seen = 0.8 * 12 * (1 - 1_024 / len(time))
    assert result["pitch"]["range_semitones"]["c"]["sad"]["median"] == pytest.approx(seen, rel=0.01)
    assert result["pitch"]["Hz"]["c"]["sad"]["median"] == pytest.approx(150 * 2**0.5, rel=0.01)


def test_periodicity_is_a_correlation() -> None:
    rng = np.random.default_rng(0)
    frames = rng.standard_normal((3, 1_024))
    periods = np.array([37, 100, 368])
    expected = [
        np.dot(frame[:-lag], frame[lag:])
        / np.sqrt(np.dot(frame[:-lag], frame[:-lag]) * np.dot(frame[lag:], frame[lag:]))
        for frame, lag in zip(frames, periods, strict=True)
    ]
    np.testing.assert_allclose(periodicity(frames, periods), expected, atol=1e-12)
    assert periodicity(np.zeros((1, 1_024)), np.array([100])) == 0


class Page(HTMLParser):
    """What a browser would fetch or run, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.images: list[str] = []
        self.tags: set[str] = set()
        self.fetched: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if tag == "img" and name == "src":
                self.images.append(value or "")
            elif name in ("src", "href", "srcset", "data", "action"):
                self.fetched.append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += data


def check_page(folder: Path) -> Page:
    """Nothing to fetch, nothing to run, every picture inside and whole."""
    source = (folder / "index.html").read_text(encoding="ascii")
    page = Page(source)
    assert page.fetched == [] and "url(" not in source and "@import" not in source
    assert not page.tags & {"script", "link", "iframe", "object", "embed", "base", "form"}
    pictures = {path.name: path.read_bytes() for path in folder.glob("*.png")}
    assert len(page.images) == len(pictures)
    for image in page.images:
        kind, _, data = image.partition(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data, validate=True) in pictures.values()
    for name in pictures:
        assert imread(folder / name).std() > 0.01
    return page


def test_the_page_stands_alone(two: tuple[Path, dict]) -> None:
    page = check_page(two[0])
    names = {path.name for path in two[0].iterdir()}
    pictures = {"emotions", "speakers", "lengths", "sounds-made", "sounds-other", "level", "pitch"}
    files = {"index.html", "result.json", "digests.json", "utterances.csv"}
    assert names == {f"{name}.png" for name in pictures} | files
    for note in two[1]["notes"]:
        assert note in page.text
    assert "color-scheme: light dark" in (two[0] / "index.html").read_text()


def test_names_are_text_and_no_markup(tmp_path: Path) -> None:
    odd = "<b onload='x'>&é $a^$"
    speech = [
        recording(tone(150), f"{odd}{i}", speaker=odd, corpus=odd, sentence=odd, sha="s") for i in range(2)
    ]
    run_of(tmp_path, *speech)
    page = check_page(tmp_path / "out")
    assert "b" not in page.tags and page.text.count(odd) > 4
    assert f"{odd}/{odd}0 (sad) = {odd}/{odd}1 (sad)" in page.text
    assert (tmp_path / "out" / "sounds-_b_onload__x______a__.png").is_file()


def test_what_may_bite_is_said(tmp_path: Path) -> None:
    """Each fault is there once, and counted."""
    silence, clipped = np.zeros(RATE), (3 * tone(120)).clip(-1, 1)
    speech = [
        recording(tone(200), "1", "angry", speaker="a", sentence="x", sha="same"),
        recording(tone(210), "2", "angry", speaker="a", sentence="x", sha="same"),
        recording(tone(220), "3", "angry", speaker="b", sentence="y"),
        recording(0.4 + tone(230), "4", "sad", speaker="b", sentence="x"),
        recording(silence, "5", "angry", speaker="unknown"),
        recording(clipped, "6", "angry", speaker="b", sentence="z"),
        recording(tone(200, 0.05), "7", "angry", speaker="b"),
        recording(tone(100), "8", "sad", speaker="b", augmented_from="4"),
    ]
    result = summary_of(tmp_path, *speech)
    facts = result["facts"]["c"]
    keys = ("n_utterances", "n_copies", "n_speaker_unknown", "n_silent", "n_one_window", "n_clipped")
    assert [facts[key] for key in keys] == [7, 1, 1, 1, 1, 1]
    assert facts["one_emotion_sentences"] == 2 / 5
    assert facts["n_full_scale_samples"] == (np.abs(np.rint(32_767 * clipped)) >= 32_767).sum()
    assert facts["seconds"][0] == 2_048 / RATE
    assert result["identical"] == [["c/1 (angry)", "c/2 (angry)"]]
    share = 0.4 / np.sqrt(0.4**2 + np.mean(tone(230) ** 2))
    assert result["measured"]["offset"][3] == pytest.approx(share, rel=0.01)
    said = "\n".join(result["notes"])
    for note in (
        "angry is 6.0 times as frequent as sad: always answering angry has a WA of 85.7 % and a UAR of 50 %",
        "c: 1 utterance of unknown speakers",
        "c: 2 of 3 speakers lack an emotion, so who speaks tells what it isn't: a (no sad), unknown (no sad)",
        "c: 40 % of the utterances have a sentence that is said with one emotion only",
        "c: 1 utterance of digital silence from end to end",
        "c: 1 utterance no longer than a window, 93 ms",
        "c: 1 utterance clipped at full scale",
        "c/1 (angry) = c/2 (angry)",
    ):
        assert note in said


def test_corpora_that_can_be_told_apart(tmp_path: Path) -> None:
    faint = [
        recording(0.1 * tone(150), "f", corpus="faint"),
        recording(0.1 * tone(150), "c", "calm", corpus="faint"),
    ]
    dull = np.sin(2 * np.pi * 150 * np.arange(RATE) / RATE) / 2
    result = summary_of(tmp_path, *faint, recording(dull, "d", corpus="dull"))
    levels = {corpus: its["level"] for corpus, its in result["facts"].items()}
    assert levels["dull"] == pytest.approx(20 * np.log10(0.5 / 2**0.5), abs=0.01)
    assert result["facts"]["dull"]["highest_hertz"] < 500 < 1_000 < result["facts"]["faint"]["highest_hertz"]
    said = "\n".join(result["notes"])
    assert "calm is in faint alone" in said and "sad is in" not in said
    assert "differ in level (medians in dB: dull -9, faint" in said and "how high they reach" in said
    assert "dull: but one emotion, sad: there is nothing to tell apart" in said
    assert "dull: one speaker: under the protocol speaker" in said
    assert cells_of(result["facts"]["dull"], ("sad",))["sad"] == "1 (100 %)"


def test_silence_alone_is_explored(tmp_path: Path) -> None:
    result = run_of(tmp_path, recording(np.zeros(3_000), "a"), recording(np.zeros(9_000), "b"))
    facts = result["facts"]["c"]
    assert facts["n_silent"] == 2 and facts["level"] is facts["highest_hertz"] is None
    assert result["pitch"]["Hz"] == {"c": {}}
    check_page(tmp_path / "out")


def test_of_many_speakers_those_with_the_fewest_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    axes = []

    def watched(*arguments: Any) -> Any:
        figure, axis = new_figure(*arguments)
        axes.append(axis)
        return figure, axis

    monkeypatch.setattr(plots, "new_figure", watched)
    counts = {f"{place:03d}": {"sad": 1 + place % 70} for place in range(300)}
    plot_speakers(tmp_path / "many.png", {"c": counts}, "many")
    plot_speakers(tmp_path / "few.png", {"c": dict(list(counts.items())[:60])}, "few")
    assert imread(tmp_path / "many.png").shape == imread(tmp_path / "few.png").shape
    drawn = [label.get_text() for label in axes[0].get_yticklabels()]
    assert (
        len(drawn) == 60 and max(counts[name.removeprefix("c/")]["sad"] for name in drawn) == 12
    )  # 1 to 20: five of each


def test_a_sample_is_drawn_by_its_seed_and_by_nothing_else(small_store: Path, other_store: Path) -> None:
    def looked_at(*stores: Path, seed: int = 0) -> set[str]:
        table = UtteranceTable(stores)
        measured = measure_utterances(table, 3, seed)
        assert not measured.rows["level"].isna().any()
        voiced = measured.rows["voiced"].notna()
        facts = {corpus: facts_of(measured, corpus) for corpus in measured.spectrum}
        assert sum(its["n_closely"] for its in facts.values()) == voiced.sum()
        page = describe_stores({"facts": facts, "notes": [], "sample": 3, "seed": seed}, "title", {})
        said = (
            f"{voiced.sum()} of the {len(table)} utterances, at most 3 of each corpus and emotion, drawn with"
        )
        assert f"{said} seed {seed}" in page
        return set(measured.rows["name"][voiced])

    alone = looked_at(small_store)
    with h5py.File(small_store) as file:
        emotion = dict(zip(file["utterances/id"].asstr(), file["utterances/emotion"].asstr(), strict=True))
    assert Counter(emotion[name.split("/")[1]] for name in alone) == dict.fromkeys(EMOTIONS, 3)
    both = looked_at(other_store, small_store)
    assert {name for name in both if name.startswith("made/")} == alone
    assert len(both) == 8 * 3 + 16
    assert looked_at(small_store, seed=1) != alone


def test_examples_are_of_one_speaker_and_sentence_and_of_median_length(tmp_path: Path) -> None:
    speech = [recording(tone(100, 0.3), "poor", "sad", speaker="a", sentence="x")]
    for emotion in ("angry", "sad"):
        for number, seconds in enumerate((0.5, 0.2, 0.3, 0.9, 0.35)):
            speech.append(
                recording(tone(100, seconds), f"{emotion}{number}", emotion, speaker="b", sentence="y")
            )
        speech.append(recording(tone(100, 0.6), f"{emotion}-other", emotion, speaker="b", sentence=emotion))
    speech.append(recording(tone(100, 0.6), "scream", "fear", speaker="c"))
    result = summary_of(tmp_path, *speech)
    assert result["examples"] == {"c": {"angry": "c/angry4", "fear": "c/scream", "sad": "c/sad4"}}
    with Store(tmp_path / "a.h5") as store:
        places = {name: row for row, name in enumerate(store.utterances["id"])}
    rows = {emotion: places[name[2:]] for emotion, name in result["examples"]["c"].items()}
    said = describe_examples(UtteranceTable((tmp_path / "a.h5",)), "c", rows)
    assert "of median length of speakers b, c." in said
    del rows["fear"]
    said = describe_examples(UtteranceTable((tmp_path / "a.h5",)), "c", rows)
    assert "of median length of speaker b, sentence y." in said


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "there is nothing to explore: give --store"),
        (["--store", "nowhere.h5"], "nowhere.h5 is missing"),
        (["--store", "STORE", "STORE"], "is given twice: once is enough"),
        (["--store", "STORE", "--out", "STORE"], "File exists"),
        (["--store", "STORE", "--sample", "0"], "--sample is at least 1"),
        (["--store", "STORE", "--seed", "-1"], "--seed is at least 0"),
        (["--store", "EMPTY"], "the stores hold no utterances"),
        (["--store", "STORE", "--out", "RUN"], "holds a run: choose another --out"),
        (["--store", "STORE", "--out", "OTHER"], "holds another result: choose another --out"),
    ],
)
def test_an_error_is_one_sentence_and_exit_code_2(
    small_store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    reason: str,
) -> None:
    write_store(tmp_path / "empty.h5", [])
    for name, file in (("run", "config.json"), ("other", "result.json")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("{}")
    places = {"STORE": small_store, "EMPTY": tmp_path / "empty.h5"}
    places |= {"RUN": tmp_path / "run", "OTHER": tmp_path / "other"}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["explore", *(str(places.get(name, name)) for name in arguments)])
    before = sorted(tmp_path.rglob("*.json"))
    with pytest.raises(SystemExit) as ended:
        run_command(explore.main, ExploreConfig)
    assert ended.value.code == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ") and errors.count("\n") == 1 and reason in errors
    assert sorted(tmp_path.rglob("*.json")) == before


def test_a_result_is_there_only_when_all_of_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "result.json").write_text('{"facts": {}}')

    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(explorations, "draw_pictures", fail)
    with pytest.raises(OSError, match="disk is full"):
        run_of(tmp_path, recording(tone(150), "a"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["utterances.csv"]


def test_silence_is_no_example_where_no_speaker_is_known(tmp_path: Path) -> None:
    silent = recording(np.zeros(13_230), "a", speaker="unknown")
    heard = recording(tone(150), "b", speaker="unknown")
    write_store(tmp_path / "a.h5", [silent, heard])
    table = UtteranceTable((tmp_path / "a.h5",))
    assert choose_examples(measure_utterances(table, 100, 0), "c") == {"sad": 1}
