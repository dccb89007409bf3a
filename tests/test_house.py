"""The shape of the code: how long files and functions are, how things are called, what imports what."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("data_manifests", "fins", "ser_heads", "pipelines")
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
LONGEST_FILE, LONGEST_FUNCTION, LONGEST_MAIN = 350, 40, 15  # lines
NO_NOUNS = {"its", "said", "heard", "found", "told"}  # a variable is the noun of what it holds


@cache
def trees() -> list[tuple[str, ast.Module, str]]:
    """Name, tree and text of each file."""
    texts = {path: path.read_text(encoding="utf-8") for path in FILES}
    return [(path.relative_to(ROOT).as_posix(), ast.parse(text), text) for path, text in texts.items()]


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_files_and_functions_fit_into_the_head() -> None:
    long = [name for name, _, text in trees() if text.count("\n") > LONGEST_FILE]
    for name, tree, _ in trees():
        for function in functions(tree):
            n_lines = (function.end_lineno or 0) - function.lineno
            if n_lines > LONGEST_FUNCTION:
                long.append(f"{name}: {function.name}, {n_lines} lines")
    assert not long


def test_a_command_is_options_one_call_and_a_print() -> None:
    long = []
    for name, tree, _ in trees():
        for function in functions(tree):
            n_lines = (function.end_lineno or 0) - function.lineno
            if name.startswith("pipelines/") and function.name == "main" and n_lines > LONGEST_MAIN:
                long.append(f"{name}: {n_lines} lines")
    assert not long


def test_no_two_public_classes_have_one_name() -> None:
    places = defaultdict(list)
    for name, tree, _ in trees():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(name)
    assert not {name: files for name, files in places.items() if len(files) > 1}


def test_variables_are_nouns() -> None:
    wrong = [
        f"{name}:{node.lineno} {node.id}"
        for name, tree, _ in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id in NO_NOUNS
    ]
    assert not wrong


def test_the_eight_emotions_are_a_default_and_no_law() -> None:
    """They stand where names become labels, and as the default of options, but nowhere else in the code."""
    wrong = []
    for name, tree, _ in trees():
        defaults = {
            id(value)
            for function in functions(tree)
            for default in [*function.args.defaults, *function.args.kw_defaults]
            if default is not None
            for value in ast.walk(default)
        }
        fields = (node for node in ast.walk(tree) if isinstance(node, ast.AnnAssign) and node.value)
        defaults |= {id(value) for field in fields for value in ast.walk(field.value or field)}
        wrong += [
            f"{name}:{node.lineno}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Name) and node.id == "EMOTIONS" and id(node) not in defaults
            if not name.startswith("data_manifests/")
        ]
    assert not wrong


def test_only_command_lines_print() -> None:
    wrong = [
        f"{name}:{node.lineno}"
        for name, tree, _ in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        if not name.startswith("pipelines/")
        and name not in ("fins/train.py", "fins/report.py", "fins/command.py", "fins/progress.py")
        and name != "ser_heads/experiments/parallel.py"  # a traceback from another machine
    ]
    assert not wrong


@pytest.mark.skipif(importlib.util.find_spec("importlinter") is None, reason="import-linter isn't installed")
def test_imports_point_down_only() -> None:
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


def test_no_module_imports_itself_in_a_circle() -> None:
    """By the imports that run when a module is imported; those inside functions come later."""
    imports: dict[str, set[str]] = {}
    modules = {name_of(path) for path in FILES}
    for path, (_, tree, _) in zip(FILES, trees(), strict=True):
        own = name_of(path)
        imports[own] = set()
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                imports[own] |= {name if name in modules else node.module for name in names} & modules
            elif isinstance(node, ast.Import):
                imports[own] |= {alias.name for alias in node.names} & modules
    circles = [name for name in imports if reaches(imports, name, name)]
    assert not circles


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def reaches(imports: dict[str, set[str]], start: str, goal: str) -> bool:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for name in imports[waiting.pop()] - seen:
            if name == goal:
                return True
            seen.add(name)
            waiting.append(name)
    return False


def test_every_package_says_that_it_is_typed() -> None:
    assert all((ROOT / package / "py.typed").is_file() for package in PACKAGES)
