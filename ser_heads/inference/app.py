"""A page on this computer alone that answers about recordings; Gradio shows it, nothing is kept."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from fins.audio import SAMPLE_RATE, quantise
from fins.command import sentence_of
from fins.leftovers import temporary_folder
from ser_heads.inference.examples import EXAMPLES, example_sound
from ser_heads.inference.overview import MOST_BYTES, MOST_SECONDS, overview_of, overview_of_signal
from ser_heads.inference.overview_html import as_html, problem_html
from ser_heads.model import SerModel
from ser_heads.models import load

NEEDED = ("gradio", "scipy")
LOOPBACK = "127.0.0.1"
STYLE = Path(__file__).with_name("page") / "page.css"
POLICY = "; ".join(  # of what a browser may fetch: nothing from elsewhere
    (
        "default-src 'self' data: blob:",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
    )
)
OWN_STYLE = """
.gradio-container { max-width: 46rem !important; margin: 0 auto !important; }
.gradio-container .html-container { padding: 0 !important; }
.gradio-container .answer * { color: inherit; }
.gradio-container .answer { color-scheme: light; }
.dark .answer { color-scheme: dark; }
.gradio-container .examples-head { margin: 0; opacity: .75; }
.gradio-container h1 { margin: .5rem 0 .25rem; font-size: 1.6rem; font-weight: 650; }
.gradio-container .lead, .gradio-container .foot { margin: 0; opacity: .75; }
.gradio-container .foot { font-size: .875rem; }
"""
CLEAN_UP = (60, 900)  # seconds from one look for files that were left to the next, and their age


@dataclass(frozen=True)
class AppOptions:
    """Open a page in a browser on this computer that answers about recordings, from a file or a microphone.

    No other computer can reach it, and no recording is kept. It needs the extra app (Gradio).
    """

    run: Annotated[str, tyro.conf.Positional]
    """Folder of pipelines.train, its weights file, or the name of a classifier of the package."""
    port: int = 7_860
    """Of the address, 1 to 65,535."""
    browser: bool = True
    """Open the page in a browser."""

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65_535:
            raise ValueError(f"--port is a number from 1 to 65,535, got {self.port}")


@contextmanager
def serving(options: AppOptions) -> Iterator[str]:
    """Serve the page for as long as this is open; yields its address.

    Raises ValueError in one sentence for a classifier that can't be loaded, a port that is taken, and
    without Gradio.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ValueError(
            f"the page needs {' and '.join(missing)}: pip install 'fin-ser[app]' brings what is missing"
        )
    model = load(options.run)
    check_port(options.port)
    with temporary_folder("ser-app-") as folder:
        os.environ |= {
            "GRADIO_TEMP_DIR": str(folder),
            "GRADIO_ANALYTICS_ENABLED": "False",
        }  # before it is imported
        page = build(model)
        try:
            page.launch(
                server_name=LOOPBACK,
                server_port=options.port,
                inbrowser=options.browser,
                prevent_thread_lock=True,
                **appearance(),
            )
            yield f"http://{LOOPBACK}:{options.port}/"
        finally:
            page.close(verbose=False)


def check_port(port: int) -> None:
    """ValueError for one that another program listens at."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise ValueError(f"port {port} is taken or not allowed: choose another --port") from error


def appearance() -> dict[str, Any]:
    """What Gradio has to know besides: fonts of the system, nothing shared, recorded or fetched."""
    import gradio
    from starlette.middleware import Middleware

    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    return {
        "theme": gradio.themes.Default(primary_hue="blue", neutral_hue="slate", **fonts),
        "css": OWN_STYLE + STYLE.read_text(encoding="utf-8"),
        "app_kwargs": {"middleware": [Middleware(NothingFromElsewhere)]},
        "max_file_size": MOST_BYTES,
        "share": False,
        "quiet": True,
        "ssr_mode": False,
        "run_history": False,
        "enable_monitoring": False,
        "footer_links": [],
    }


class NothingFromElsewhere:
    """An ASGI middleware: browsers fetch nothing for this page but from where it came from."""

    def __init__(self, app: Callable[..., Any]) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                message.setdefault("headers", []).append((b"content-security-policy", POLICY.encode()))
            await send(message)

        await self.app(scope, receive, send_with_policy)


def build(model: SerModel) -> Any:
    """The page as gradio.Blocks."""
    import gradio

    with gradio.Blocks(title="Emotion in a voice", analytics_enabled=False, delete_cache=CLEAN_UP) as page:
        gradio.HTML(introduction(model))
        sound = gradio.Audio(
            sources=["upload", "microphone"], type="filepath", label="Recording", editable=False, buttons=[]
        )
        gradio.HTML('<p class="examples-head">Or a made voice, in which nobody speaks:</p>')
        with gradio.Row():
            buttons = {name: gradio.Button(name, size="sm", min_width=130) for name in EXAMPLES}
        result = gradio.HTML()
        gradio.HTML(
            '<p class="foot">An answer is a guess about how a voice sounds, as actors or speakers of its '
            "corpus sounded; it says nothing certain about what someone feels.</p>"
        )
        private = {"api_visibility": "private", "show_progress": "minimal"}
        asked = [sound.upload, sound.stop_recording]
        gradio.on(asked, partial(answer_file, model), inputs=sound, outputs=result, **private)
        sound.clear(lambda: "", outputs=result, **private)
        for name, button in buttons.items():
            button.click(partial(answer_example, model, name), outputs=[sound, result], **private)
    return page


def introduction(model: SerModel) -> str:
    """What the page is, for whom it answers, and what becomes of a recording."""
    return (
        f'<h1>Emotion in a voice</h1><p class="lead">The classifier {escape(model.name)} tells '
        f"{escape(', '.join(model.labels))}. A recording has up to {MOST_SECONDS / 60:.0f} minutes and "
        f"{MOST_BYTES / 1e6:.0f} MB. It stays on this computer and is deleted when it is answered.</p>"
    )


def answer_file(model: SerModel, path: str | None) -> str:
    """An uploaded recording as HTML, or the sentence why not; the file is deleted either way."""
    if path is None:
        return ""
    try:
        return as_html(overview_of(model, path))
    except (ValueError, OSError) as error:
        return problem_html(sentence_of(error).replace(path, Path(path).name))
    finally:
        Path(path).unlink(missing_ok=True)
        if not any(Path(path).parent.iterdir()):
            shutil.rmtree(Path(path).parent, ignore_errors=True)


def answer_example(model: SerModel, name: str) -> tuple[tuple[int, np.ndarray], str]:
    """A made recording, as Gradio plays it, and its answer as HTML."""
    signal = example_sound(name)
    return (SAMPLE_RATE, quantise(signal)[0]), as_html(overview_of_signal(model, signal))
