"""python -m fins.report: R² of several runs beside the published ones, as Markdown, JSON and a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from fins.command import run_command
from fins.features import FEATURES
from fins.plots import plot_report
from fins.runs import RESULT, name_rows, read_json, write_json


@dataclass(frozen=True)
class Published:
    """A published FIN: R² on its four corpora and on ESD; None where it wasn't given."""

    parameters: int
    uniform: float | None
    variance_weighted: float | None
    esd_uniform: float | None
    esd_variance_weighted: float | None


# REFERENCE: the FIN publication; one seed, random protocol, RAVDESS + CREMA-D + SAVEE + TESS, a third of ESD.
# An R² of one output is both uniform and variance-weighted.
PUBLISHED = {
    "rms": Published(66_241, 0.985, 0.985, 0.968, 0.968),
    "zcr": Published(263_057, 0.935, 0.935, 0.942, 0.942),
    "chroma": Published(894_412, 0.932, None, 0.917, None),
    "mfcc": Published(822_420, 0.917, None, 0.543, 0.881),
    "mel": Published(983_680, 0.333, 0.969, None, 0.892),
}


POOLED = "all corpora, test"
KEYS = {"feature", "topology", "parameters", "multiply_adds_per_window", "seconds", "seed", "r2"}
ROW_KEYS = {"store", "corpus", "part", "uniform", "variance_weighted", "constant_outputs"}


@dataclass(frozen=True)
class ReportConfig:
    """Set the R² of finished runs beside the published ones."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = field(default_factory=tuple)
    """Folders that fins.train has written."""
    out: Path = Path("report")
    """Folder for report.md, report.json and report.png."""


def main(config: ReportConfig) -> None:
    """Read, arrange, write; the table is printed too."""
    if not config.runs:
        raise ValueError("name at least one run's folder: python -m fins.report runs/*")
    results = read_results(config.runs)
    columns = columns_of(results)
    config.out.mkdir(parents=True, exist_ok=True)
    text = describe(results, columns)
    published = {name: vars(PUBLISHED[name]) for name in {result["feature"] for result in results}}
    write_json(config.out / "report.json", {"runs": results, "published": published})
    plot_report(config.out / "report.png", [bars_of(result, columns) for result in results])
    (config.out / "report.md").write_text(f"# R² of FINs\n\n{text}\n\n![R²](report.png)\n")
    print(text)
    print(f"\nwritten to {config.out}")


def read_results(folders: tuple[Path, ...]) -> list[dict[str, Any]]:
    """Results in the order of the features; ValueError for a folder without one."""
    results = []
    for folder in folders:
        result = read_json(folder / RESULT)
        if KEYS - result.keys() or result["feature"] not in FEATURES:
            raise ValueError(f"{folder / RESULT} is no result of fins.train")
        if any(ROW_KEYS - row.keys() for row in result["r2"]) or not held_out(result):
            raise ValueError(f"{folder / RESULT} has no R² of held-out windows")
        results.append({"run": str(folder), **result})
    order = list(FEATURES)
    return sorted(results, key=lambda result: (order.index(result["feature"]), result["run"]))


def held_out(result: dict[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Name → R² row of windows that training never saw."""
    return {name: row for name, row in name_rows(result["r2"]).items() if row["part"] in ("test", "all")}


def columns_of(results: list[dict[str, Any]]) -> list[str]:
    """Names of the R² rows of any run; all corpora together first."""
    names = list(dict.fromkeys(name for result in results for name in held_out(result)))
    return sorted(names, key=lambda name: name != POOLED)


def describe(results: list[dict[str, Any]], columns: list[str]) -> str:
    """A Markdown table: a row a run, and under each feature the published figures."""
    lines = [
        "R² uniform (variance-weighted) by corpus and part; `const` counts outputs without variance.",
        "",
        "| FIN | parameters | multiply-adds | training | " + " | ".join(columns) + " |",
        "|---|--:|--:|--:|" + "--:|" * len(columns),
    ]
    last = ""
    for result in results:
        if result["feature"] != last:
            last = result["feature"]
            lines.append(published_line(last, columns))
        rows = held_out(result)
        cells = [cell_of(rows.get(column)) for column in columns]
        seen = f", {result['windows_seen'] / 1e6:.2f} M windows" if "windows_seen" in result else ""
        lines.append(
            f"| {result['feature']} {result['topology']}, seed {result['seed']} | {result['parameters']:,} "
            f"| {result['multiply_adds_per_window']:,} | {result['seconds'] / 60:.1f} min{seen} "
            f"| {' | '.join(cells)} |"
        )
    return "\n".join(lines)


def published_line(feature: str, columns: list[str]) -> str:
    published = PUBLISHED[feature]
    pairs = {
        POOLED: (published.uniform, published.variance_weighted),
        "esd, all": (published.esd_uniform, published.esd_variance_weighted),
    }
    cells = [numbers(*pairs[column]) if column in pairs else "" for column in columns]
    return f"| *{feature}, published* | {published.parameters:,} | | | {' | '.join(cells)} |"


def cell_of(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    constant = f", {len(row['constant_outputs'])} const" if row["constant_outputs"] else ""
    return numbers(row["uniform"], row["variance_weighted"]) + constant


def numbers(uniform: float | None, weighted: float | None) -> str:
    """Uniform, with the variance-weighted one in brackets where it is another."""
    first, second = ("–" if value is None else f"{value:.3f}" for value in (uniform, weighted))
    return first if first == second or weighted is None else f"{first} ({second})"


def bars_of(result: dict[str, Any], columns: list[str]) -> dict[str, Any]:
    """What the picture shows of one run: for mel the variance-weighted R², as it was published."""
    key = "variance_weighted" if result["feature"] == "mel" else "uniform"
    published = PUBLISHED[result["feature"]]
    rows = held_out(result)
    return {
        "title": f"{result['feature']} {result['topology']}" + (" (var.-weighted)" if key[0] == "v" else ""),
        "values": {name: rows[name][key] if name in rows else None for name in columns},
        "published": {POOLED: getattr(published, key), "esd, all": getattr(published, f"esd_{key}")},
    }


if __name__ == "__main__":
    run_command(main, ReportConfig, ReportConfig.__doc__ or "")
