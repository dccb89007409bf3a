"""R² of FINs beside the published ones and in degraded recordings, with pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from fins.audio import cut_windows
from fins.data.store import Store
from fins.documents import Markdown, as_text, page, table_of_rows
from fins.features import FEATURES, compute_feature, get_feature
from fins.figures import short_names
from fins.learning.degradations import (
    CONDITIONS,
    SYNTHETIC,
    evaluate,
    score_clips,
    store_clips,
    synthetic_clips,
)
from fins.learning.plots import (
    plot_conditions,
    plot_learned,
    plot_r2_per_output,
    plot_report,
    plot_true_against_imitated,
)
from fins.learning.r2 import held_out_rows, r2_text
from fins.networks import SHIPPED, CompactFin, load_fin
from fins.progress import SILENT, Watch
from fins.runs import RESULT, read_json, write_atomically, write_json

POOLED, ESD = "all corpora, test", "esd, all"  # on what the published R² are
KEYS = {"feature", "topology", "parameters", "multiply_adds_per_window", "seconds", "seed", "r2"}
ROW_KEYS = {"store", "corpus", "part", "n_windows", "uniform", "variance_weighted", "constant_outputs"}
ROW_KEYS |= {"per_output"}

Result = Mapping[str, Any]  # result.json of a run, and "run", its name or folder


@dataclass(frozen=True)
class FinReportConfig:
    """Set the R² of FINs beside the published ones, and see what is left of it in degraded recordings."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = field(default_factory=tuple)
    """Names of shipped FINs, or folders that fins.train has written; by default all that are shipped. What
    holds no result of fins.train is passed over and counted."""
    store: tuple[Path, ...] = ()
    """Stores whose recordings are degraded; by default the synthetic corpus."""
    utterances: int = 100
    """At most so many of each store, evenly spread."""
    out: Path = Path("report")
    """Folder for report.md, index.html, report.json and the pictures."""

    def __post_init__(self) -> None:
        if self.utterances < 1:
            raise ValueError("--utterances is at least 1")


def report_fins(config: FinReportConfig, watch: Watch = SILENT) -> str:
    """Read, degrade, score, write; returns the tables, as Markdown."""
    results = read_results(tuple(dict.fromkeys(config.runs or map(Path, SHIPPED))), watch)
    for result in results:
        get_feature(result["feature"])  # a user's own may be gone
    with ExitStack() as closing:
        stores = [closing.enter_context(Store(path)) for path in dict.fromkeys(config.store)]
        for store in stores:
            if (store.utterances["augmented_from"] != "").all():
                raise ValueError(
                    f"the store {store.path} holds augmented copies alone: give one with originals"
                )
        degraded = score_conditions(results, stores, config.utterances, watch)
        clip = next(iter(store_clips(stores[0]))) if stores else synthetic_clips()[0]
    columns = columns_of(results)
    config.out.mkdir(parents=True, exist_ok=True)
    titles = short_names([result["run"] for result in results])
    compared = [scores_of(result, columns, titles[result["run"]]) for result in results]
    plot_report(config.out / "report.png", compared)
    for number, (store_name, scores) in enumerate(by_store(degraded).items()):
        plot_conditions(
            config.out / f"conditions_{number}.png", scores, f"R² uniform, {Path(store_name).stem}"
        )
    for number, result in enumerate(results):
        draw_fin(config.out, number, result, clip, titles[result["run"]])
    text = f"{describe_report(results, columns)}\n\n{describe_conditions(degraded, config.utterances)}"
    whole = f"# R² of FINs\n\n{text}\n\n{describe_pictures(results, degraded)}\n"
    names = dict.fromkeys(result["feature"] for result in results)
    published = {name: known for name in names if (known := published_scores(name))}
    write_json(config.out / "report.json", {"runs": results, "published": published, "conditions": degraded})
    write_atomically(config.out / "report.md", whole)
    write_atomically(config.out / "index.html", page(whole, "R² of FINs", config.out))
    return text


def read_results(runs: Sequence[Path], watch: Watch = SILENT) -> list[dict[str, Any]]:
    """Results in the order of the features, of those that are FINs'; how many aren't is noted.

    Raises ValueError for a path that isn't there, a result that is broken, and if none is a FIN's.
    """
    results, passed = [], []
    for run in runs:
        shipped = SHIPPED.get(str(run))
        path = run / RESULT if shipped is None else shipped.with_suffix(".json")
        if run.exists() and not path.is_file() and shipped is None:
            passed.append(f"{path} is missing: is the run finished?")
            continue
        result = read_json(path)
        if KEYS - result.keys():
            passed.append(f"{path} is no result of fins.train")
            continue
        if not _has_rows(result["r2"]):
            raise ValueError(f"{path} has no R² of held-out windows")
        results.append({"run": str(run), **result})
    if passed and not results:
        raise ValueError(
            passed[0] if len(passed) == 1 else f"none of these {len(passed)} is a finished run of fins.train"
        )
    if passed:
        watch.note(f"passed over {len(passed)} of {len(runs)}, which hold no result of fins.train")
    order = [*FEATURES, *(result["feature"] for result in results)]
    return sorted(results, key=lambda result: (order.index(result["feature"]), result["run"]))


def _has_rows(rows: Any) -> bool:
    """Whether these are rows of R², some of held-out windows."""
    whole = isinstance(rows, list) and all(isinstance(row, dict) and row.keys() >= ROW_KEYS for row in rows)
    return whole and bool(held_out_rows(rows))


def score_conditions(
    results: Sequence[Result], stores: Sequence[Store], most: int, watch: Watch = SILENT
) -> list[dict[str, Any]]:
    """A row for each FIN, store and condition: R² against the closed form of the same degraded windows."""
    rows = []
    sources: list[tuple[str, Store | None]] = [(str(store.path), store) for store in stores]
    sources = sources or [(SYNTHETIC, None)]
    with watch.bar(len(sources) * len(results), "FINs", "degraded recordings") as bar:
        for name, store in sources:
            for result in results:
                feature, fin = get_feature(result["feature"]), load_fin(result["run"])
                for condition in CONDITIONS:
                    clips = synthetic_clips() if store is None else store_clips(store, most)
                    scores = asdict(score_clips(fin, feature, clips, condition).result())
                    rows.append({"run": result["run"], "store": name, "condition": condition, **scores})
                bar.update()
    return rows


def draw_fin(out: Path, number: int, result: Result, clip: Any, title: str) -> None:
    """What one FIN makes of a clip, its R² by output, and what it has learned, under its title."""
    feature, fin, windows = get_feature(result["feature"]), load_fin(result["run"]), cut_windows(clip)
    truth, imitation = compute_feature(feature, windows), evaluate(fin, windows)
    plot_true_against_imitated(out / f"clip_{number}.png", truth, imitation, feature, title)
    shown = {name: row["per_output"] for name, row in held_out_rows(result["r2"]).items()}
    plot_r2_per_output(out / f"outputs_{number}.png", shown, title)
    if isinstance(fin, CompactFin):
        plot_learned(out / f"learned_{number}.png", fin, title)


def describe_pictures(results: Sequence[Result], degraded: Sequence[Mapping[str, Any]]) -> str:
    """The lines of the page that show them."""
    lines = ["![R² beside the published](report.png)"]
    for number, store in enumerate(by_store(degraded)):
        lines += ["", f"![R² in degraded recordings: {as_text(Path(store).stem)}](conditions_{number}.png)"]
    for number, result in enumerate(results):
        shown = {"clip": "true against imitated, over one clip", "outputs": "R² of each output"}
        if result["topology"] != "paper" and get_feature(result["feature"]).compact is not None:
            shown["learned"] = "what was learned"
        lines += ["", f"## {as_text(result['run'])}"]
        for kind, caption in shown.items():
            lines += ["", f"![{caption}]({kind}_{number}.png)"]
    return "\n".join(lines)


def by_store(degraded: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, float | None]]]:
    """Store → condition → FIN → R² uniform."""
    tables: dict[str, dict[str, dict[str, float | None]]] = {}
    for row in degraded:
        scores = tables.setdefault(row["store"], {})
        scores.setdefault(row["condition"], {})[row["run"]] = row["uniform"]
    return tables


def describe_conditions(degraded: Sequence[Mapping[str, Any]], most: int) -> str:
    """A Markdown table for each store: a row a condition, a column a FIN."""
    runs = list(dict.fromkeys(row["run"] for row in degraded))
    cells = {(row["store"], row["condition"], row["run"]): row for row in degraded}
    texts = []
    for store in by_store(degraded):
        which = f"{Path(store).stem}, at most {most} of its utterances"
        if store == SYNTHETIC:
            which = "the synthetic corpus"
        texts.append(
            f"R² uniform (variance-weighted) on {as_text(which)}, degraded as said, against the closed form "
            "of the same degraded windows:"
        )
        rows = [
            (
                condition,
                f"{cells[store, condition, runs[0]]['n_windows']:,}",
                *(r2_cell(cells.get((store, condition, run))) for run in runs),
            )
            for condition in CONDITIONS
        ]
        texts.append(table_of_rows(("condition", "windows", *runs), rows))
    return "\n\n".join(texts)


def columns_of(results: Sequence[Result]) -> list[str]:
    """Names of the R² rows of any run; all corpora together first."""
    names = list(dict.fromkeys(name for result in results for name in held_out_rows(result["r2"])))
    return sorted(names, key=lambda name: name != POOLED)


def describe_report(results: Sequence[Result], columns: Sequence[str]) -> str:
    """A Markdown table: a row a run, and above those of each feature the published figures."""
    rows, last = [], ""
    for result in results:
        if result["feature"] != last and published_scores(result["feature"]):
            last = result["feature"]
            rows.append(published_row(last, columns))
        known = held_out_rows(result["r2"])
        seen = f", {result['windows_seen'] / 1e6:.2f} M windows" if result.get("windows_seen") else ""
        rows.append(
            (
                f"{result['run']}: {result['topology']}, seed {result['seed']}",
                f"{result['parameters']:,}",
                f"{result['multiply_adds_per_window']:,}",
                f"{result['seconds'] / 60:.1f} min{seen}",
                *(r2_cell(known.get(column)) for column in columns),
            )
        )
    about = "R² uniform (variance-weighted) by corpus and part; `const` counts outputs without variance."
    names = ("FIN", "parameters", "multiply-adds", "training", *columns)
    return f"{about}\n\n{table_of_rows(names, rows)}"


def published_scores(feature: str) -> dict[str, Any]:
    """What was published of a feature's FIN, by the names of the report; empty if none was."""
    published = get_feature(feature).published
    if published is None:
        return {}
    scores: dict[str, Any] = {"parameters": published.parameters}
    scores["uniform"], scores["variance_weighted"] = published.r2
    scores["esd_uniform"], scores["esd_variance_weighted"] = published.r2_esd
    return scores


def published_row(feature: str, columns: Sequence[str]) -> tuple[str, ...]:
    scores = published_scores(feature)
    pairs = {
        POOLED: (scores["uniform"], scores["variance_weighted"]),
        ESD: (scores["esd_uniform"], scores["esd_variance_weighted"]),
    }
    cells = [r2_pair(*pairs[column]) if column in pairs else "" for column in columns]
    return (Markdown(f"*{feature}, published*"), f"{scores['parameters']:,}", "", "", *cells)


def r2_cell(row: Mapping[str, Any] | None) -> str:
    """R² of one row of `r2`, with the number of constant outputs; empty for None."""
    if row is None:
        return ""
    constant = f", {len(row['constant_outputs'])} const" if row["constant_outputs"] else ""
    return r2_pair(row["uniform"], row["variance_weighted"]) + constant


def r2_pair(uniform: float | None, weighted: float | None) -> str:
    """Uniform, with the variance-weighted one in brackets where it is another."""
    first, second = r2_text(uniform), r2_text(weighted)
    return first if first == second or weighted is None else f"{first} ({second})"


def scores_of(result: Result, columns: Sequence[str], title: str) -> dict[str, Any]:
    """What the picture shows of one run: for mel the variance-weighted R², as it was published."""
    key = "variance_weighted" if result["feature"] == "mel" else "uniform"
    scores = published_scores(result["feature"])
    rows = held_out_rows(result["r2"])
    return {
        "title": title + (" (var.-weighted)" if key[0] == "v" else ""),
        "values": {name: rows[name][key] if name in rows else None for name in columns},
        "published": {POOLED: scores.get(key), ESD: scores.get(f"esd_{key}")},
    }
