"""How the documentation is built: Markdown pages, and the Python interface from its docstrings."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.util import logging

sys.path.insert(0, str(Path(__file__).parent.parent))

import fins

project = "fin-ser"
author = "the authors of fin-ser"
version = release = fins.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["build", "_static"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"fin-ser {version}"
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["pages.css"]
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_type_aliases = {name: name for name in ("Floats", "Logits", "NDArray", "Signal", "Targets")}
python_use_unqualified_type_names = True
# types in signatures, of which many are other libraries' own; links in the text are all checked
nitpick_ignore_regex = [(r"py:.*", r".*")]

PUBLIC = (
    "fins",
    "fins.features",
    "fins.networks",
    "ser_heads",
    "ser_heads.frontends",
    "ser_heads.models",
    "ser_heads.experiments",
    "ser_heads.experiments.search",
    "data_manifests",
)
"""Modules all of whose public names the pages describe."""

PARAMETER = re.compile(r"([A-Za-z_][\w.]*(?:, [A-Za-z_]\w*)*) : (\S.*)")
logger = logging.getLogger(__name__)


def public_names(module_name: str) -> list[str]:
    """What a module promises: its `__all__`, or all classes and functions that it defines."""
    module = importlib.import_module(module_name)
    if hasattr(module, "__all__"):
        return list(module.__all__)
    names = []
    for name, value in vars(module).items():
        own = getattr(value, "__module__", module_name) == module_name
        if own and is_code(value) and not name.startswith("_"):
            names.append(name)
    return names


def is_code(value: object) -> bool:
    return inspect.isclass(value) or inspect.isfunction(value)


def undocumented(documented: set[str]) -> list[str]:
    """Public names that no page describes, or that have no docstring.

    documented : full names that the pages describe, as module.name
    """
    missing = []
    for module_name in PUBLIC:
        module = importlib.import_module(module_name)
        for name in public_names(module_name):
            value = getattr(module, name)
            homes = {f"{place}.{name}" for place in PUBLIC}
            if is_code(value):
                homes.add(f"{value.__module__}.{name}")
                if not inspect.getdoc(value):
                    missing.append(f"{module_name}.{name} has no docstring")
            else:
                homes = {f"{module_name}.{name}"}
            if not homes & documented:
                missing.append(f"{module_name}.{name} is on no page")
    return missing


def check_public_names(app: Sphinx, env: BuildEnvironment) -> None:
    """A warning, which `make docs` takes for an error, for each public name that isn't documented."""
    documented = {name for name, *_ in env.get_domain("py").get_objects()}
    for sentence in undocumented(documented):
        logger.warning("%s: describe it in api.md", sentence, location="api")


def as_restructured_text(lines: list[str]) -> list[str]:
    """A docstring of this project as reStructuredText: `name : meaning` lines become a list.

    Words in single backticks become code; what would be markup elsewhere is escaped.
    """
    blocks: list[tuple[str, list[str]]] = []  # term or empty, lines
    fresh = True
    for line in lines:
        text = line.strip()
        parameter = PARAMETER.fullmatch(text) if line == line.lstrip() else None
        if not text:
            fresh = True
        elif parameter:
            blocks.append((parameter[1], [parameter[2]]))
            fresh = False
        elif fresh or (line == line.lstrip() and (blocks[-1][0] or text.startswith("Raises "))):
            blocks.append(("", [text]))
            fresh = False
        else:
            blocks[-1][1].append(text)
    written: list[str] = []
    for term, texts in blocks:
        content = as_text(" ".join(texts))
        written += [f"* **{term}**: {content}" if term else content, ""]
    return written


def as_text(text: str) -> str:
    """One paragraph, in which nothing is markup but code."""
    pieces = re.split(r"(``[^`]+``|`[^`]+`)", text)
    return "".join(
        f"``{piece.strip('`')}``" if piece.startswith("`") else re.sub(r"([\\*|_])", r"\\\1", piece)
        for piece in pieces
    )


def rewrite_docstring(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    if what == "data" and "\n".join(lines).strip() == (inspect.getdoc(type(obj)) or "").strip():
        logger.warning("%s has no text below it that says what it is", name, location="api")
    lines[:] = as_restructured_text(lines)


def rewrite_signature(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Aliases of types by their names alone."""
    plain = [text and re.sub(r"TypeAliasForwardRef\('(\w+)'\)", r"\1", text) for text in (signature, returns)]
    return plain[0], plain[1]


def setup(app: Sphinx) -> None:
    if "build" in str(app.srcdir):
        raise ExtensionError("the documentation is built from docs, not from what was built")
    app.connect("autodoc-process-docstring", rewrite_docstring)
    app.connect("autodoc-process-signature", rewrite_signature)
    app.connect("env-check-consistency", check_public_names)
