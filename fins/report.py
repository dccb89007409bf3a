"""python -m fins.report: R² of FINs beside the published ones and in degraded recordings, with pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro
from tqdm import tqdm

from fins import load
from fins.audio import cut_windows
from fins.checkpoints import SHIPPED
from fins.command import run_command
from fins.compact import CompactFin
from fins.conditions import (
    CONDITIONS,
    SYNTHETIC,
    evaluate,
    score_clips,
    store_clips,
    synthetic_clips,
)
from fins.features import FEATURES, compute_feature, get_feature
from fins.plots import (
    plot_conditions,
    plot_learned,
    plot_r2_per_output,
    plot_report,
    plot_true_against_imitated,
)
from fins.runs import RESULT, held_out, read_json, write_json
from fins.scores import r2_text
from fins.store import Store


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
ROW_KEYS = {"store", "corpus", "part", "n_windows", "uniform", "variance_weighted", "constant_outputs"}
ROW_KEYS |= {"per_output"}


@dataclass(frozen=True)
class ReportConfig:
    """Set the R² of FINs beside the published ones, and see what is left of it in degraded recordings."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = field(default_factory=tuple)
    """Names of shipped FINs, or folders that fins.train has written; by default all that are shipped."""
    store: tuple[Path, ...] = ()
    """Stores whose recordings are degraded; by default the synthetic corpus."""
    utterances: int = 100
    """At most so many of each store, evenly spread."""
    out: Path = Path("report")
    """Folder for report.md, report.json and the pictures."""


def main(config: ReportConfig) -> None:
    """Read, degrade, score, write; the tables are printed too."""
    if config.utterances < 1:
        raise ValueError("--utterances is at least 1")
    results = read_results(tuple(dict.fromkeys(config.runs or map(Path, SHIPPED))))
    for result in results:
        get_feature(result["feature"])  # a user's own may be gone
    stores = [Store(path) for path in dict.fromkeys(config.store)]
    for store in stores:
        if (store.utterances["augmented_from"] != "").all():
            raise ValueError(f"the store {store.path} holds augmented copies alone: give one with originals")
    columns = columns_of(results)
    config.out.mkdir(parents=True, exist_ok=True)
    degraded = score_conditions(results, stores, config.utterances)
    draw(config.out, results, columns, degraded, stores)
    text = f"{describe(results, columns)}\n\n{describe_conditions(degraded, config)}"
    names = {result["feature"] for result in results}
    published = {name: vars(PUBLISHED[name]) for name in names if name in PUBLISHED}
    write_json(config.out / "report.json", {"runs": results, "published": published, "conditions": degraded})
    (config.out / "report.md").write_text(f"# R² of FINs\n\n{text}\n\n{pictures(results, degraded)}\n")
    print(text)
    print(f"\nwritten to {config.out}")


def read_results(runs: tuple[Path, ...]) -> list[dict[str, Any]]:
    """Results in the order of the features; ValueError for a folder without one."""
    results = []
    for run in runs:
        path = SHIPPED[str(run)].with_suffix(".json") if str(run) in SHIPPED else run / RESULT
        result = read_json(path)
        if KEYS - result.keys():
            raise ValueError(f"{path} is no result of fins.train")
        if any(ROW_KEYS - row.keys() for row in result["r2"]) or not held_out(result["r2"]):
            raise ValueError(f"{path} has no R² of held-out windows")
        results.append({"run": str(run), **result})
    order = [*FEATURES, *(result["feature"] for result in results)]
    return sorted(results, key=lambda result: (order.index(result["feature"]), result["run"]))


def score_conditions(results: list[dict[str, Any]], stores: list[Store], most: int) -> list[dict[str, Any]]:
    """A row for each FIN, store and condition: R² against the closed form of the same degraded windows."""
    rows = []
    fins = [load(result["run"]) for result in results]
    sources: list[tuple[str, Any]] = [(str(store.path), store) for store in stores] or [(SYNTHETIC, None)]
    steps = [(source, number) for source in sources for number in range(len(fins))]
    for (name, store), number in tqdm(steps, unit=" FIN", leave=False):
        feature = get_feature(results[number]["feature"])
        for condition in CONDITIONS:
            clips = synthetic_clips() if store is None else store_clips(store, most)
            r2 = score_clips(fins[number], feature, clips, condition).result()
            rows.append({"run": results[number]["run"], "store": name, "condition": condition, **asdict(r2)})
    return rows


def draw(
    out: Path,
    results: list[dict[str, Any]],
    columns: list[str],
    degraded: list[dict[str, Any]],
    stores: list[Store],
) -> None:
    """The pictures: R² beside the published, conditions, and for each FIN its outputs over a clip."""
    plot_report(out / "report.png", [bars_of(result, columns) for result in results])
    for number, (store, table) in enumerate(by_store(degraded).items()):
        plot_conditions(out / f"conditions_{number}.png", table, f"R² uniform, {Path(store).stem}")
    clip = next(iter(store_clips(stores[0]))) if stores else synthetic_clips()[0]
    windows = cut_windows(clip)
    for number, result in enumerate(results):
        feature, fin = get_feature(result["feature"]), load(result["run"])
        imitation = evaluate(fin, windows)
        plot_true_against_imitated(
            out / f"clip_{number}.png",
            compute_feature(feature, windows),
            imitation,
            feature,
            result["run"],
        )
        shown = {name: row["per_output"] for name, row in held_out(result["r2"]).items()}
        plot_r2_per_output(out / f"outputs_{number}.png", shown, f"{result['run']}: R² per output")
        if isinstance(fin, CompactFin):
            plot_learned(out / f"learned_{number}.png", fin, result["run"])


def pictures(results: list[dict[str, Any]], degraded: list[dict[str, Any]]) -> str:
    """The lines of the page that show them."""
    lines = ["![R² beside the published](report.png)"]
    lines += [f"![{store}](conditions_{number}.png)" for number, store in enumerate(by_store(degraded))]
    for number, result in enumerate(results):
        lines += ["", f"## {result['run']}", ""]
        lines += [f"![{kind}]({kind}_{number}.png)" for kind in ("clip", "outputs")]
        if result["topology"] in ("compact", "pruned") and ":" not in result["feature"]:
            lines.append(f"![learned](learned_{number}.png)")
    return "\n".join(lines)


def by_store(degraded: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, float | None]]]:
    """Store → condition → FIN → R² uniform."""
    tables: dict[str, dict[str, dict[str, float | None]]] = {}
    for row in degraded:
        table = tables.setdefault(row["store"], {})
        table.setdefault(row["condition"], {})[row["run"]] = row["uniform"]
    return tables


def describe_conditions(degraded: list[dict[str, Any]], config: ReportConfig) -> str:
    """A Markdown table for each store: a row a condition, a column a FIN."""
    lines = []
    labels = list(dict.fromkeys(row["run"] for row in degraded))
    for store in dict.fromkeys(row["store"] for row in degraded):
        rows = [row for row in degraded if row["store"] == store]
        what = "the synthetic corpus" if store == SYNTHETIC else f"{Path(store).stem}"
        most = "" if store == SYNTHETIC else f", at most {config.utterances} of its utterances"
        lines += [
            f"R² uniform (variance-weighted) on {what}{most}, degraded as said, against the closed form of "
            "the same degraded windows:",
            "",
            f"| condition | windows | {' | '.join(labels)} |",
            "|---|--:|" + "--:|" * len(labels),
        ]
        for condition in CONDITIONS:
            cells = {row["run"]: row for row in rows if row["condition"] == condition}
            count = next(iter(cells.values()))["n_windows"]
            lines.append(
                f"| {condition} | {count:,} | {' | '.join(cell_of(cells.get(label)) for label in labels)} |"
            )
        lines.append("")
    return "\n".join(lines).rstrip()


def columns_of(results: list[dict[str, Any]]) -> list[str]:
    """Names of the R² rows of any run; all corpora together first."""
    names = list(dict.fromkeys(name for result in results for name in held_out(result["r2"])))
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
        if result["feature"] != last and result["feature"] in PUBLISHED:
            last = result["feature"]
            lines.append(published_line(last, columns))
        rows = held_out(result["r2"])
        cells = [cell_of(rows.get(column)) for column in columns]
        seen = f", {result['windows_seen'] / 1e6:.2f} M windows" if result.get("windows_seen") else ""
        lines.append(
            f"| {result['run']}: {result['topology']}, seed {result['seed']} | {result['parameters']:,} "
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
    first, second = r2_text(uniform), r2_text(weighted)
    return first if first == second or weighted is None else f"{first} ({second})"


def bars_of(result: dict[str, Any], columns: list[str]) -> dict[str, Any]:
    """What the picture shows of one run: for mel the variance-weighted R², as it was published."""
    key = "variance_weighted" if result["feature"] == "mel" else "uniform"
    published = PUBLISHED.get(result["feature"], Published(0, None, None, None, None))
    rows = held_out(result["r2"])
    return {
        "title": Path(result["run"]).name + (" (var.-weighted)" if key[0] == "v" else ""),
        "values": {name: rows[name][key] if name in rows else None for name in columns},
        "published": {POOLED: getattr(published, key), "esd, all": getattr(published, f"esd_{key}")},
    }


if __name__ == "__main__":
    run_command(main, ReportConfig, ReportConfig.__doc__ or "")
