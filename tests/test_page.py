"""The page that runs in browsers: what is in its folder, and that it answers there as the package does."""

from __future__ import annotations

import functools
import http.server
import io
import json
import os
import re
import tarfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import lively_classifier, make_signal

from fins.audio import SAMPLE_RATE, Signal
from ser_heads.inference import export as module
from ser_heads.inference import onnx_web, web_page
from ser_heads.inference.condition import examine
from ser_heads.inference.examples import example_sound
from ser_heads.inference.export import ExportOptions, export
from ser_heads.inference.onnx_web import FILES, checked, read_runtime
from ser_heads.inference.overview import overview_of
from ser_heads.inference.overview_html import as_html
from ser_heads.inference.predict import Prediction
from ser_heads.inference.stream import Stream
from ser_heads.inference.web_page import OWN_FILES, write_page
from ser_heads.model import SerModel
from ser_heads.models import create, save_model

for library in ("onnx", "onnxruntime", "onnxscript"):
    pytest.importorskip(library, reason="needs the extra `export`")
LABELS = ("bored", "stressed", "<relaxed>")
COPY = "FIN_SER_ONNXRUNTIME_WEB"  # environment variable: a .tgz or folder of the package


@pytest.fixture(scope="module")
def model() -> SerModel:
    return lively_classifier(LABELS)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder as npm unpacks it, with files of a few bytes."""
    folder = tmp_path / "onnxruntime-web"
    (folder / "dist").mkdir(parents=True)
    for name in (*FILES, "ort.webgpu.min.js"):
        (folder / "dist" / name).write_bytes(name.encode())
    return folder


CONTENT = {name: name.encode() for name in FILES}


def packed(folder: Path) -> bytes:
    """As npm packs it."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as file:
        file.add(folder, "package")
    return archive.getvalue()


def test_the_runtime_is_three_files_of_a_folder_or_an_archive(package: Path, tmp_path: Path) -> None:
    (tmp_path / "package.tgz").write_bytes(packed(package))
    for source in (package, package / "dist", tmp_path / "package.tgz"):
        assert read_runtime(source) == CONTENT


@pytest.mark.parametrize("kind", ["missing", "an empty folder", "no archive", "cut short", "lacks one"])
def test_what_is_no_runtime_is_one_sentence(package: Path, tmp_path: Path, kind: str) -> None:
    source = tmp_path / "source"
    if kind == "an empty folder":
        source.mkdir()
    elif kind == "no archive":
        source.write_bytes(b"no archive at all")
    elif kind == "cut short":
        source.write_bytes(packed(package)[:-60])
    elif kind == "lacks one":
        (package / "dist" / FILES[2]).unlink()
        source.write_bytes(packed(package))
    with pytest.raises(ValueError, match=r"is missing|npm pack onnxruntime-web@") as problem:
        read_runtime(source)
    assert "\n" not in str(problem.value)


def test_a_download_is_compared_with_its_checksum(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = packed(package)
    monkeypatch.setattr(urllib.request, "urlopen", lambda *arguments, **options: io.BytesIO(archive))
    with pytest.raises(ValueError, match="isn't the package of the pinned version"):
        read_runtime()
    monkeypatch.setattr(onnx_web, "checked", lambda archive: archive)
    assert read_runtime() == CONTENT


def test_without_a_network_the_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(ValueError, match=r"\(no route to host\): get it by npm pack .* --runtime"):
        read_runtime()


def test_a_page_and_a_file_are_written_at_once(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = create("raw_cnn", LABELS).eval()
    monkeypatch.chdir(tmp_path)
    save_model(Path("model.safetensors"), model, card={"uar": 0.5})
    translated: list[SerModel] = []
    translate = module.translate
    monkeypatch.setattr(module, "translate", lambda model: translated.append(model) or translate(model))
    message = export(ExportOptions("model.safetensors", Path("own.onnx"), Path("page"), package))
    assert len(translated) == 1 and Path("own.onnx").read_bytes() == Path("page/model.onnx").read_bytes()
    assert message.startswith("raw_cnn for bored, stressed, <relaxed> written to own.onnx (")
    assert {path.name for path in Path("page").iterdir()} == {
        *OWN_FILES,
        *FILES,
        "model.onnx",
        "model.json",
    }
    facts = json.loads(Path("page/model.json").read_text())
    assert facts["labels"] == list(LABELS) and facts["sample_rate"] == SAMPLE_RATE
    assert facts["card"] == {"uar": 0.5} and (facts["window"], facts["hop"]) == (66_048, 22_016)
    assert "http.server" in message and not Path("model.onnx").exists()
    with pytest.raises(ValueError, match="is not an empty folder"):
        write_page(model, Path("page"), package)


def test_a_page_that_fails_leaves_nothing(
    model: SerModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_page, "export_model", lambda *arguments, **options: 0.0)
    with pytest.raises(ValueError, match="is missing"):
        write_page(model, tmp_path / "page", tmp_path / "nowhere.tgz")
    assert list(tmp_path.iterdir()) == []
    assert ExportOptions("model", page=tmp_path).file() is None
    with pytest.raises(ValueError, match="--runtime is for a page"):
        ExportOptions("model", runtime=tmp_path)


@pytest.fixture(scope="session")
def runtime(browser: Any, pytestconfig: pytest.Config) -> Path:
    """onnxruntime-web as the environment names it, or downloaded once for all later sessions of tests."""
    if named := os.environ.get(COPY):
        return Path(named)
    archive = pytestconfig.cache.mkdir("onnxruntime-web") / f"{onnx_web.VERSION}.tgz"
    if not archive.is_file():
        try:
            content = onnx_web.download()
        except ValueError as error:
            if "couldn't be downloaded" not in str(error):
                raise
            pytest.skip(f"onnxruntime-web can't be downloaded, and {COPY} names no copy")
        partial = archive.with_name(f"{os.getpid()}.partial")
        partial.write_bytes(content)
        os.replace(partial, archive)
    checked(archive.read_bytes())
    return archive


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def address(model: SerModel, runtime: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of the page, as any server of files serves it."""
    folder = tmp_path_factory.mktemp("web") / "page"
    write_page(model, folder, runtime, {"corpus": "made"})
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """A phone that has loaded the page, and that was asked for nothing from elsewhere at the end."""
    opened = browser.new_page(viewport={"width": 375, "height": 700})
    urls: list[str] = []
    errors: list[str] = []
    opened.on("request", lambda request: urls.append(request.url))
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    opened.goto(address)
    opened.wait_for_selector("#file:not([disabled])", state="attached")
    yield opened
    assert [url for url in urls if not url.startswith((address, "blob:", "data:"))] == []
    assert errors == []
    opened.close()


def ask(page: Any, path: Path) -> None:
    """Choose a file, and wait for what comes of it."""
    page.evaluate("at('result').replaceChildren()")
    page.set_input_files("#file", path)
    page.wait_for_selector("#result .answer")
    page.wait_for_selector("#file:not([disabled])", state="attached")


def written(path: Path, signal: Signal, rate: int = SAMPLE_RATE) -> Path:
    soundfile.write(path, signal, rate, subtype="FLOAT")
    return path


def test_a_browser_answers_as_the_package_does(page: Any, model: SerModel, tmp_path: Path) -> None:
    voice = written(tmp_path / "voice.wav", example_sound("calm, then angry"))
    ask(page, voice)
    answer = model.predict(voice)
    assert isinstance(answer, Prediction)
    table = model.timeline(voice)
    assert len(table) > 3 and np.ptp(table[list(LABELS)].to_numpy(), axis=0).max() > 0.01
    rows = {row.get_attribute("data-label"): row for row in page.locator("[data-share]").all()}
    for label in LABELS:
        share = float(rows[label].get_attribute("data-share"))
        assert share == pytest.approx(answer.probabilities[label], abs=1e-3)
        along = [float(text) for text in rows[label].get_attribute("data-along").split()]
        np.testing.assert_allclose(along, table[label], atol=1e-3)
    assert page.inner_text(".verdict strong") == answer.label
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    assert "Nothing leaves your browser" in page.inner_text("main")
    assert "made" in page.text_content("#facts")


def test_a_browser_draws_what_the_app_draws(page: Any, model: SerModel, tmp_path: Path) -> None:
    """Within a unit of 100: of a strip's path the numbers, which are probabilities and times."""
    voice = written(tmp_path / "voice.wav", example_sound("sad, then happy"))
    ask(page, voice)
    page.evaluate("document.querySelector('.cursor').remove()")
    page.evaluate(
        "html => { const app = document.createElement('div'); app.id = 'app'; app.innerHTML = html; "
        "document.body.append(app); }",
        as_html(overview_of(model, voice)).replace(' style="', ' data-style="'),
    )
    assert page.inner_text("#result .answer") == page.inner_text("#app .answer")
    drawn, expected = (
        [numbers_of(path.get_attribute("d")) for path in page.locator(f"{place} .strip path").all()]
        for place in ("#result", "#app")
    )
    assert len(drawn) == len(LABELS)
    for numbers, others in zip(drawn, expected, strict=True):
        np.testing.assert_allclose(numbers, others, atol=1)


def numbers_of(path: str) -> list[float]:
    """Of an SVG's path."""
    return [float(number) for number in re.findall(r"[\d.]+", path)]


@pytest.mark.parametrize("n_samples", [1, 30_000, 66_048, 66_049, 88_064, 88_065, 200_000])
def test_stretches_are_those_of_a_stream(page: Any, model: SerModel, n_samples: int) -> None:
    stream = Stream(model, SAMPLE_RATE)
    rows = [*stream.push(np.zeros(n_samples, np.float32)), *stream.close()]
    expected = [
        [round(row.start * SAMPLE_RATE), round((row.start + row.seconds) * SAMPLE_RATE)] for row in rows
    ]
    assert page.evaluate("n => stretchesOf(n)", n_samples) == expected


def test_notes_are_those_of_the_doctor(page: Any, tmp_path: Path) -> None:
    voice = example_sound("fear")
    cases = {
        "clean": voice,
        "clipped": np.clip(20 * voice, -1, 1),
        "quiet": voice / 500,
        "half silent": np.concatenate([voice, np.zeros_like(voice)]),
        "short": make_signal(0, 5_000),
        "silence": np.zeros(40_000, np.float32),
    }
    measured = ("silence", "length", "level", "clipping")
    n_faults = 0
    for name, signal in cases.items():
        ask(page, written(tmp_path / f"{name}.wav", signal))
        faults = examine(signal).faults()
        expected = [faults[kind] for kind in ("length", "level", "clipping", "silence") if kind in faults]
        assert set(faults).intersection(measured) or name == "clean"
        assert [row.inner_text() for row in page.locator(".notes li").all()] == expected, name
        n_faults += len(expected)
    assert n_faults >= 5


def test_another_rate_and_two_channels_are_taken(page: Any, model: SerModel, tmp_path: Path) -> None:
    """A browser's resampler isn't soxr: answers are near, not equal."""
    buffer = "{ length: 2, numberOfChannels: 2, getChannelData: (one) => Float32Array.of(1 - one, 0.5) }"
    assert page.evaluate(f"Array.from(mixDown({buffer}))") == [0.5, 0.5]
    time = np.arange(3 * 44_100) / 44_100
    tone = (0.3 * np.sin(2 * np.pi * 220 * time) * np.sin(np.pi * time)).astype(np.float32)
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([tone, 0.5 * tone], axis=1), 44_100)
    ask(page, path)
    answer = model.predict(path)
    assert isinstance(answer, Prediction)
    for label, share in answer.probabilities.items():
        shown = (
            page.locator("[data-share]")
            .and_(page.locator(f'[data-label="{label}"]'))
            .get_attribute("data-share")
        )
        assert float(shown) == pytest.approx(share, abs=0.02)


def test_what_cannot_be_answered_is_one_sentence(page: Any, tmp_path: Path) -> None:
    cases = {
        "broken.wav": (b"RIFF and no sound", "is truncated or no audio"),
        "empty.wav": (b"", "is empty"),
        "<b>.mp3": (bytes(2_000), "is truncated or no audio"),
    }
    for name, (content, words) in cases.items():
        (tmp_path / name).write_bytes(content)
        ask(page, tmp_path / name)
        sentence = page.inner_text(".problem")
        assert sentence.startswith(name) and words in sentence and sentence.count(".") <= 3
    page.evaluate("config.limits = { seconds: 0.5, bytes: 100000 }")
    ask(page, written(tmp_path / "long.wav", make_signal(0, 20_000)))
    assert "minutes long: at most" in page.inner_text(".problem")
    ask(page, written(tmp_path / "large.wav", make_signal(0, 60_000)))
    assert "MB: at most" in page.inner_text(".problem")
    page.evaluate("config.limits = { seconds: 600, bytes: 1e8 }")
    ask(page, written(tmp_path / "good.wav", make_signal(0, 20_000)))
    assert page.is_visible(".chart")


def test_the_microphone_is_answered(page: Any) -> None:
    page.click("#microphone")
    page.get_by_text("Recording: 1 s").wait_for()
    page.click("#microphone")
    page.wait_for_selector(".chart")
    assert page.inner_text("#microphone") == "Speak"


def test_opened_as_a_file_the_page_says_what_to_do(browser: Any, tmp_path: Path) -> None:
    folder = Path(web_page.__file__).with_name("page")
    for name in OWN_FILES:
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    opened = browser.new_page()
    opened.goto((tmp_path / "index.html").as_uri())
    opened.wait_for_selector(".problem")
    assert "python -m http.server" in opened.inner_text(".problem")
    opened.close()
