"""The app: what it shows of a recording, that it keeps nothing, and how it looks to a browser."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import lively_classifier

from fins.audio import SAMPLE_RATE
from ser_heads.inference import app, overview
from ser_heads.inference.app import AppOptions, answer_example, answer_file, serving
from ser_heads.inference.examples import EXAMPLES, example_sound
from ser_heads.inference.overview import Overview, overview_of
from ser_heads.inference.overview_html import as_html, marks, strip_path, time_text
from ser_heads.inference.predict import Prediction
from ser_heads.model import SerModel
from ser_heads.models import save_model

LABELS = ("bored", "stressed", "relaxed")


@pytest.fixture(scope="module")
def model() -> SerModel:
    return lively_classifier(LABELS)


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of some 8 s."""
    path = tmp_path_factory.mktemp("voice") / "voice.wav"
    soundfile.write(path, example_sound("calm, then angry"), SAMPLE_RATE)
    return path


def test_an_overview_has_the_answers_of_predict_and_timeline(model: SerModel, voice: Path) -> None:
    shown = overview_of(model, voice)
    answer = model.predict(voice)
    assert isinstance(answer, Prediction)
    assert shown.shares == pytest.approx(answer.probabilities, abs=1e-6) and not shown.is_mean
    table = model.timeline(voice)
    along = [[row.probabilities[label] for label in LABELS] for row in shown.along]
    np.testing.assert_allclose(along, table[list(LABELS)], atol=1e-6)
    assert len(along) > 3
    signal, _ = soundfile.read(voice, dtype="float32")
    assert shown.seconds == len(signal) / SAMPLE_RATE
    assert (shown.columns.min(), shown.columns.max()) == (signal.min(), signal.max())


def test_above_half_a_minute_the_mean_is_shown(
    model: SerModel, voice: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "WHOLE", 5.0)
    shown = overview_of(model, voice)
    mean = model.timeline(voice)[list(LABELS)].mean()
    assert shown.is_mean and shown.shares == pytest.approx(mean.to_dict(), abs=1e-6)
    assert f"mean over {len(shown.along)} stretches" in as_html(shown)


@pytest.mark.parametrize(
    ("limit", "value", "words"), [("MOST_SECONDS", 6.0, "minutes long"), ("MOST_BYTES", 10_000, "MB")]
)
def test_what_is_above_a_limit_is_one_sentence(
    model: SerModel,
    voice: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    value: float,
    words: str,
) -> None:
    monkeypatch.setattr(overview, limit, value)
    copy = tmp_path / "upload" / voice.name
    copy.parent.mkdir()
    copy.write_bytes(voice.read_bytes())
    html = answer_file(model, str(copy))
    assert 'class="problem"' in html and words in html and str(tmp_path) not in html
    assert not copy.parent.exists()


def test_a_recording_is_deleted_when_it_is_answered(model: SerModel, voice: Path, tmp_path: Path) -> None:
    copy = tmp_path / "upload" / "voice.wav"
    copy.parent.mkdir()
    copy.write_bytes(voice.read_bytes())
    assert 'class="chart"' in answer_file(model, str(copy))
    assert list(tmp_path.iterdir()) == []


def test_a_broken_recording_is_one_sentence(model: SerModel, tmp_path: Path) -> None:
    (tmp_path / "upload").mkdir()
    broken = tmp_path / "upload" / "<b>.wav"
    broken.write_bytes(b"RIFF and no sound")
    html = answer_file(model, str(broken))
    assert "&lt;b&gt;.wav is truncated or no audio" in html and "<b>" not in html and "/" not in html[:100]
    assert list(tmp_path.iterdir()) == []


def test_examples_are_made_and_one_is_clipped(model: SerModel) -> None:
    for name in EXAMPLES:
        (rate, samples), html = answer_example(model, name)
        assert rate == SAMPLE_RATE and 1 < len(samples) / rate < 30
        assert ("clipped" in html) == ("too loud" in name)


def shown_of(starts: list[float], seconds: float, shares: list[float]) -> Overview:
    rows = [
        Prediction("a", share, {"a": share, "<i>": 1 - share}, "", 3.0, start)
        for start, share in zip(starts, shares, strict=True)
    ]
    columns = np.array([[-0.5, 0.5]], np.float32)
    return Overview(seconds, columns, rows, {"a": 0.25, "<i>": 0.75}, False, [])


def test_a_strip_steps_halfway_between_the_middles_of_stretches() -> None:
    """Stretches of 3 s from 0, 1 and 2 s have their middles at 1.5, 2.5 and 3.5 s, of 5 s."""
    shown = shown_of([0.0, 1.0, 2.0], 5.0, [0.0, 1.0, 0.5])
    assert strip_path(shown, [0.0, 1.0, 0.5]) == "M0 100V100.00H400.0V0.00H600.0V50.00H1000.0V100Z"


def test_labels_are_text_and_stand_by_their_probability() -> None:
    html = as_html(shown_of([0.0], 3.0, [0.25]))
    assert "<i>" not in html.replace('<i style="', "")
    assert re.findall(r'data-label="([^"]*)" data-share="([^"]*)"', html) == [
        ("&lt;i&gt;", "0.750000"),
        ("a", "0.250000"),
    ]


def test_times_are_read_at_a_glance() -> None:
    assert [time_text(seconds) for seconds in (0, 2.5, 7.04, 59.9, 65, 600)] == [
        *("0 s", "2.5 s", "7 s", "59.9 s", "1:05", "10:00")
    ]
    assert re.findall(r">([^<]+)</i>", marks(8.0)) == ["0 s", "2 s", "4 s", "6 s"]
    assert re.findall(r"left:([^%]+)%", marks(8.0)) == ["0.00", "25.00", "50.00", "75.00"]


@pytest.fixture
def saved(model: SerModel, tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_model(path, model)
    return path


def test_without_gradio_the_sentence_says_how_to_get_it(saved: Path) -> None:
    code = (
        "import importlib.util as u, runpy, sys\n"
        "sys.modules['scipy'] = None\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name in ('gradio', 'scipy') else find(name, *rest)\n"
        "runpy.run_module('pipelines.app', run_name='__main__', alter_sys=True)"
    )
    run = subprocess.run([sys.executable, "-c", code, str(saved)], capture_output=True, text=True)
    assert run.returncode == 2 and run.stdout == ""
    assert (
        run.stderr
        == "error: the page needs gradio and scipy: pip install 'fin-ser[app]' brings what is missing\n"
    )


def test_a_port_that_is_taken_is_one_sentence(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "find_spec", lambda name: name)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        options = AppOptions(str(saved), other.getsockname()[1])
        with pytest.raises(ValueError, match="is taken"), serving(options):
            pass
    with pytest.raises(ValueError, match="1 to 65,535"):
        AppOptions("model", 70_000)


@pytest.fixture(scope="module")
def address(model: SerModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of the app in this process, for as long as the tests of this file run."""
    pytest.importorskip("gradio", reason="needs the extra `app`")
    path = tmp_path_factory.mktemp("app") / "model.safetensors"
    save_model(path, model)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with serving(AppOptions(str(path), port, browser=False)) as url:
        yield url


def test_a_browser_gets_a_timeline_and_nothing_from_elsewhere(
    browser: Any, address: str, voice: Path, model: SerModel
) -> None:
    page = browser.new_page(viewport={"width": 375, "height": 800})
    elsewhere = []
    page.on("request", lambda request: elsewhere.append(request.url))
    page.goto(address)
    page.set_input_files("input[type=file]", voice)
    page.wait_for_selector(".chart")
    answer = model.predict(voice)
    assert isinstance(answer, Prediction)
    for label, share in answer.probabilities.items():
        shown = page.get_attribute(f'[data-label="{label}"]', "data-share")
        assert float(shown) == pytest.approx(share, abs=1e-5)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    assert [url for url in elsewhere if not url.startswith((address, "data:", "blob:"))] == []
    page.close()


def test_a_browser_gets_one_sentence_on_a_broken_file(browser: Any, address: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF and no sound")
    page = browser.new_page()
    page.goto(address)
    page.set_input_files("input[type=file]", broken)
    page.wait_for_selector(".problem")
    assert page.inner_text(".problem").startswith("broken.wav is truncated or no audio")
    page.get_by_role("button", name="fear").click()
    page.wait_for_selector(".chart")
    page.close()
