"""python -m pipelines.compare: run several models under one protocol and set their scores side by side."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from fins.command import run_command, sentence_of
from fins.runs import HISTORY, RESULT, begin_run, held, look_up_run, write_atomically, write_json
from fins.splits import PARTS
from pipelines import train
from pipelines.audit import verdict
from pipelines.pages import bullets, heading, paragraph, picture, tabulate, write_page
from pipelines.results import check_stores, read_result, read_table
from pipelines.several import UNSEEN, Job, check_workers, make_runs, share_minutes
from pipelines.sweeps import Columns, Conclusion, Sweep, read_sweep
from pipelines.train import LEARNED, TrainConfig
from ser_heads.comparison_plots import plot_confusions, plot_histories, plot_uars
from ser_heads.data import UtteranceTable
from ser_heads.scores import METRICS

PAGE = "index.html"
TAKEN = (  # of a run's result
    *("model", "parameters", "protocol", "fold", "labels", "parts", "seconds", "epochs", "best_epoch"),
    *("stopped", "real_time_factor", "by_part", "confusion", "audit"),
)
SHOWN = ("uar", "wa", "macro_f1")
TITLES = {"uar": "UAR", "wa": "WA", "macro_f1": "macro-F1"}
CAPTIONS = {
    "scores": "UAR on the test part, with 95 % intervals",
    "confusions": "confusions on the test part, % of the true emotion",
    "learning_curves": "UAR on the validation part over the epochs",
    "losses": "losses over the epochs",
}
ABOUT_PROTOCOLS = {
    "random": "utterances are divided by corpus and emotion, so that speakers are in several parts",
    "speaker": "no speaker is in two parts",
    "speaker_sentence": "no speaker is in two parts, and no sentence of the test part in another one",
    "corpus": "the test part is of corpora that nothing else is of",
}


@dataclass(frozen=True)
class CompareConfig:
    """Run several models under one protocol, one after another, and set their scores side by side.

    Each run is one of pipelines.train in a folder of its own. Finished ones aren't made again, a killed one
    goes on, one that can't be made is counted and doesn't stop the others. Out comes one table, with
    pictures: README.md, result.json, and index.html for a browser.
    """

    sweep: Annotated[str, tyro.conf.Positional]
    """Which runs: small, imitated, cnn_lstm, four_emotions, leak_price or fin_vs_random, or the path of a .py
    file like those."""
    store: tuple[Path, ...] = ()
    """Stores made by pipelines.prepare, to train, validate and test on."""
    seed: tuple[int, ...] = (0,)
    """Of each run; of several seeds each makes all runs, and means and deviations are told too."""
    unseen: tuple[Path, ...] = ()
    """Stores of other corpora, on which each run's model is judged too."""
    minutes: float | None = None
    """Budget of the whole sweep, in equal shares for its runs; by default its own, if it has one. What
    --unseen takes comes on top. A comparison goes on under the same shares only, so with as many seeds, runs
    and --workers; on a cluster they are those of runs one after another."""
    workers: int = 1
    """Runs at a time, which share the cores: as many as there are cores take the least time in all."""
    address: str | None = None
    """Of a cluster of Ray, each of whose CPUs takes a run at a time: host:port of its head, or auto. Its
    machines find stores and --out by the same paths. Needs the extra cluster."""
    out: Path | None = None
    """Folder of the comparison and of the runs in it; by default runs/<sweep>-<stores>."""


@dataclass(frozen=True)
class Planned:
    """One run to be made: its name in the sweep, its name here, its options."""

    name: str
    label: str
    config: TrainConfig


def main(config: CompareConfig) -> None:
    """Plan, run, collect, draw, write; the table is printed too."""
    sweep = read_sweep(config.sweep)
    out = config.out or Path("runs") / "-".join([sweep.name, *(path.stem for path in config.store)])
    planned = plan(sweep, config, out)
    for stores in filter(None, (config.store, config.unseen)):  # if they can't be read it is no run's fault
        check_stores(stores)
        UtteranceTable(stores).close()
    asked = {
        "sweep": sweep.name,
        "store": [str(path) for path in config.store],
        "minutes_each": planned[0].config.minutes,
        "unseen": [str(path) for path in config.unseen],
        "seed": config.seed,
        "runs": json.loads(json.dumps({name: asdict(its) for name, its in sweep.runs.items()}, default=str)),
    }
    look_up_run(out, asked, free=("seed", "runs", "unseen"))
    with held(out):
        begin_run(out, asked)
        rows, failed = make_rows(planned, config.unseen, config.workers, config.address)
        if not rows:
            raise ValueError(
                f"none of {len(planned)} runs has a result, the first because: {failed[0]['why']}"
            )
        rows = sort_rows(rows)
        result = {
            "sweep": sweep.name,
            "about": sweep.about,
            "stores": asked["store"],
            "unseen": asked["unseen"],
            "seeds": list(config.seed),
            "minutes_each": asked["minutes_each"],
            "n_runs": len(planned),
            "n_failed": len(failed),
            "runs": rows,
            "failed": failed,
            "over_seeds": over_seeds(rows) if len(config.seed) > 1 else [],
        }
        conclusion, why_not = conclude(sweep, out, rows)
        if conclusion is not None:
            result["conclusion"] = {"answers": conclusion.answers, **conclusion.facts}
        write(out, result, draw(out, rows), conclusion, why_not)
        write_json(out / RESULT, result)  # last: its presence says that the comparison is whole
    print(as_markdown(columns_of(rows, failed)))
    if why_not:
        print(why_not)
    print(f"written to {out}")


def conclude(sweep: Sweep, out: Path, rows: Sequence[Mapping[str, Any]]) -> tuple[Conclusion | None, str]:
    """What the sweep has to say in the end, if anything, or in a sentence why it can't: the table stands."""
    if sweep.conclude is None:
        return None, ""
    try:
        found = sweep.conclude(out, rows)
        if not isinstance(found, Conclusion):
            raise TypeError("it returned no pipelines.sweeps.Conclusion")
        return found, ""
    except Exception as error:  # a user's own code
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        return None, f"The sweep {sweep.name} comes to no conclusion ({kind}{sentence_of(error)})."


def plan(sweep: Sweep, config: CompareConfig, out: Path) -> list[Planned]:
    """Every run with every seed; ValueError for options that can't be meant."""
    if not config.seed or len(set(config.seed)) < len(config.seed):
        raise ValueError("--seed takes one or more seeds, each once")
    minutes = sweep.minutes if config.minutes is None else config.minutes
    check_workers(config.workers, config.address)
    each = share_minutes(minutes, len(sweep.runs) * len(config.seed), config.workers)
    planned = []
    for seed in config.seed:
        for name, its in sweep.runs.items():
            folder = f"{name}-seed{seed}"
            its = replace(its, store=config.store, seed=seed, minutes=each, out=out / folder)
            try:
                train.check(its)
            except (AttributeError, TypeError, ValueError) as error:
                raise ValueError(f"the run {name} can't be made: {sentence_of(error)}") from error
            planned.append(Planned(name, name if len(config.seed) == 1 else f"{name}, seed {seed}", its))
    return planned


def make_rows(
    planned: Sequence[Planned], unseen: tuple[Path, ...] = (), workers: int = 1, address: str | None = None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of what has a result, and why the others have none; in the order of the plan."""
    whys = make_runs([Job(its.label, its.config, unseen) for its in planned], workers, address)
    rows, failed = [], []
    for its, why in zip(planned, whys, strict=True):
        assert its.config.out is not None
        known = {"name": its.name, "label": its.label, "folder": its.config.out.name, "seed": its.config.seed}
        known["division"] = division_of(its.config)
        try:
            if why:
                raise ValueError(why)
            rows.append({**known, **row_of(its.config.out, unseen)})
        except ValueError as error:
            failed.append({**known, "why": sentence_of(error)})
    return rows, failed


def division_of(config: TrainConfig) -> str:
    """What says which utterances are in the test part, beside the seed."""
    return str(config.split or config.fold or " ".join([config.protocol, *config.test_corpus]))


def row_of(run: Path, unseen: Sequence[Path] = ()) -> dict[str, Any]:
    """What the comparison takes from a run's result, and from that on unseen stores."""
    result = read_result(run)
    missing = [key for key in TAKEN if key not in result]
    if missing:
        raise ValueError(f"{run / RESULT} knows no {missing[0]}: it is of an earlier version, make it again")
    row = {key: result[key] for key in TAKEN}
    if unseen:
        its = read_result(run / UNSEEN)
        row["unseen"] = {key: its[key] for key in (*METRICS, "interval_95", "n_utterances", "labels")}
    return row


def read_history(run: Path) -> list[dict[str, float]]:
    """Epoch by epoch: train_loss, validation_loss, validation_uar; nothing of a model without epochs."""
    header, rows = read_table(run / HISTORY)
    shown = ("train_loss", "validation_loss", "validation_uar")
    if "epoch" not in header:
        return []
    return [{key: float(row[header.index(key)]) for key in shown} for row in rows]


def kind_of(row: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """What runs share that can be held against each other: the division into parts, and emotions."""
    return row["division"], tuple(row["labels"])


def sort_rows(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """By UAR on the test part, best first, within each protocol."""
    kinds = list(dict.fromkeys(map(kind_of, rows)))
    return sorted(rows, key=lambda row: (kinds.index(kind_of(row)), -row["by_part"]["test"]["uar"]))


def by_kind(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Title of a kind → its rows; emotions are named where they tell kinds apart."""
    kinds: dict[tuple[str, tuple[str, ...]], list[dict[str, Any]]] = {}
    for row in rows:
        kinds.setdefault(kind_of(row), []).append(row)
    alike = len({labels for _, labels in kinds}) == 1
    return {of if alike else f"{of}: {', '.join(labels)}": its for (of, labels), its in kinds.items()}


def over_seeds(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and deviation of the test scores of each run's seeds, best mean first within each protocol."""
    named: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        named.setdefault(row["name"], []).append(row)
    found = []
    for name, its in named.items():
        scores: dict[str, Any] = {}
        for key in SHOWN:
            values = [row["by_part"]["test"][key] for row in its]
            deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
            scores[key] = {"mean": float(np.mean(values)), "deviation": deviation}
        known = {key: its[0][key] for key in ("model", "protocol", "fold", "division", "labels")}
        found.append({"name": name, **known, "n_seeds": len(its), **scores})
    kinds = list(dict.fromkeys(map(kind_of, rows)))
    return sorted(found, key=lambda row: (kinds.index(kind_of(row)), -row["uar"]["mean"]))


def draw(out: Path, rows: Sequence[dict[str, Any]]) -> list[str]:
    """Pictures of CAPTIONS; returns their names. Those over epochs are of the runs that have any."""
    histories = {row["label"]: its for row in rows if (its := read_history(out / row["folder"]))}
    kinds = by_kind(rows)
    plot_uars(out / "scores.png", kinds)
    plot_confusions(out / "confusions.png", rows)
    if not histories:
        return ["scores", "confusions"]
    chances = {row["label"]: 1 / len(row["labels"]) for row in rows}
    plot_histories(out / "learning_curves.png", histories, chances)
    plot_histories(out / "losses.png", histories)
    return list(CAPTIONS)


def write(
    out: Path,
    result: Mapping[str, Any],
    pictures: Sequence[str],
    conclusion: Conclusion | None,
    why_not: str,
) -> None:
    """README.md and the page for a browser, of the same words and numbers."""
    rows, failed = result["runs"], result["failed"]
    title = f"{result['sweep']}: {result['n_runs']} runs compared"
    facts, scores, parts = facts_of(result), columns_of(rows, failed), part_columns(rows)
    seeds = seed_columns(result["over_seeds"])
    failures = [f"{its['label']}: {its['why']}" for its in failed]
    page, text = [paragraph(result["about"])], [f"# {as_text(title)}", "", as_text(result["about"]), ""]
    if why_not:
        facts.append(why_not)
    if conclusion is not None:
        page += [heading("Answers"), bullets(conclusion.answers)]
        text += ["## Answers", "", *(f"- {as_text(line)}" for line in conclusion.answers), ""]
        for name, caption in conclusion.pictures.items():
            page.append(picture(out / f"{name}.png", caption))
            text += [f"![{as_text(caption)}]({name}.png)", ""]
        for what, table in conclusion.tables.items():
            page += [heading(what), tabulate(table)]
            text += [f"## {as_text(what)}", "", as_markdown(table), ""]
        page.append(heading("Runs"))
        text += ["## Runs", ""]
    page += [picture(out / "scores.png", CAPTIONS["scores"]), tabulate(scores)]
    text += [image("scores"), "", as_markdown(scores), ""]
    if failures:
        page += [heading("Failed"), bullets(failures)]
        text += ["## Failed", "", *(f"- {as_text(line)}" for line in failures), ""]
    if seeds:
        page += [heading("Over seeds"), tabulate(seeds)]
        text += ["## Over seeds", "", as_markdown(seeds), ""]
    page += [heading("How these numbers came about"), bullets(facts), tabulate(parts)]
    text += ["## How these numbers came about", "", *(f"- {as_text(line)}" for line in facts), ""]
    text += [as_markdown(parts), ""]
    for name in pictures[1:]:
        page += [heading(CAPTIONS[name].capitalize()), picture(out / f"{name}.png", CAPTIONS[name])]
        text += [image(name), ""]
    write_page(out / PAGE, title, page)
    write_atomically(out / "README.md", "\n".join(text))


def facts_of(result: Mapping[str, Any]) -> list[str]:
    """What has to be known beside the numbers."""
    rows, each = result["runs"], result["minutes_each"]
    of = {row["division"]: row["protocol"] for row in rows}
    facts = [
        *(f"Protocol {name}: {ABOUT_PROTOCOLS[its]}. {verdicts(rows, name)}" for name, its in of.items()),
        *(f"Emotions: {', '.join(its)}; chance is {100 / len(its):.1f} % UAR." for its in label_sets(rows)),
        *(
            [
                f"Unseen: {', '.join(result['unseen'])}; of these the utterances that a run neither learned "
                "from nor was chosen by."
            ]
            if result["unseen"]
            else []
        ),
        f"Stores: {', '.join(result['stores'])}. Seeds: {', '.join(map(str, result['seeds']))}.",
        "Each run had at most as many epochs as its own options say, and all the time that they took."
        if each is None
        else f"Each run had a budget of {each:.3g} minutes, with all that it needed beside training; where "
        "that ended it, the time of training says so.",
        "Which epoch of a run is kept was chosen by UAR on the validation part alone; the test part had no "
        "say in it. Who chooses among the runs should do so by validation too: the best of many test scores "
        "is too good.",
        "Intervals are of 95 %, from resampling the speakers of the part.",
        f"The scores of the train part are of at most {LEARNED} utterances, evenly spread.",
        "The real-time factor is seconds to answer by seconds of recording, one utterance at a time on one "
        "core.",
    ]
    if result["n_failed"]:
        facts.append(f"{result['n_failed']} of {result['n_runs']} runs failed.")
    return facts


def verdicts(rows: Sequence[Mapping[str, Any]], division: str) -> str:
    """What the audits of a division say: one sentence, or if parts differ one for each of their runs."""
    said: dict[str, list[str]] = {}
    for row in rows:
        if row["division"] == division:
            said.setdefault(verdict(row["audit"]), []).append(row["label"])
    if len(said) == 1:
        return next(iter(said))
    return " ".join(f"Of {', '.join(labels)}: {its}" for its, labels in said.items())


def label_sets(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    return list(dict.fromkeys(tuple(row["labels"]) for row in rows))


def columns_of(rows: Sequence[dict[str, Any]], failed: Sequence[Mapping[str, Any]]) -> Columns:
    """The table: column → run → cell. Those without a result come last."""
    kinds = by_kind(rows)
    columns: Columns = {}
    if len(kinds) > 1:
        columns["protocol"] = {row["label"]: kind for kind, its in kinds.items() for row in its}
    if any(row["model"] != row["name"] for row in rows):
        columns["model"] = {row["label"]: row["model"] for row in rows}
    columns["parameters"] = {row["label"]: f"{row['parameters']:,}" for row in rows}
    columns["training"] = {
        row["label"]: duration(row["seconds"]) + (", its budget" if row["stopped"] == "minutes" else "")
        for row in rows
    }
    columns["real-time factor"] = {row["label"]: f"{row['real_time_factor']:.2g}" for row in rows}
    for part in reversed(PARTS):
        for key in SHOWN:
            cells = columns[f"{part} {TITLES[key]} %"] = {}
            for row in rows:
                cells[row["label"]] = cell_of(row["by_part"][part], key)
    columns[f"test {TITLES['uar']} %"] |= {its["label"]: "failed" for its in failed}
    if any("unseen" in row for row in rows):
        columns["unseen UAR %"] = {row["label"]: cell_of(row["unseen"], "uar") for row in rows}
    return columns


def duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def cell_of(scores: Mapping[str, Any], key: str) -> str:
    """A score in %, UAR with its interval."""
    text = f"{100 * scores[key]:.1f}"
    interval = scores["interval_95"][key]
    if key != "uar" or interval is None:
        return text
    return f"{text} ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})"


def seed_columns(found: Sequence[Mapping[str, Any]]) -> Columns:
    """Column → run → cell: mean ± deviation of the test scores."""
    columns: Columns = {"seeds": {row["name"]: str(row["n_seeds"]) for row in found}} if found else {}
    for key in SHOWN if found else ():
        cells = columns[f"test {TITLES[key]} %"] = {}
        for row in found:
            mean, deviation = row[key]["mean"], row[key]["deviation"]
            spread = "" if deviation is None else f" ± {100 * deviation:.1f}"
            cells[row["name"]] = f"{100 * mean:.1f}{spread}"
    return columns


def part_columns(rows: Sequence[dict[str, Any]]) -> Columns:
    """Column → division into parts → utterances and speakers of a part."""
    columns: Columns = {part: {} for part in PARTS}
    for kind, its in by_kind(rows).items():
        alike: dict[int, dict[tuple[str, ...], list[str]]] = {}
        for row in its:
            sizes = tuple(size_of(row["parts"][part]) for part in PARTS)
            alike.setdefault(row["seed"], {}).setdefault(sizes, []).append(row["name"])
        for seed, divided in alike.items():
            for sizes, names in divided.items():
                which = f": {', '.join(names)}" if len(divided) > 1 else ""
                for part, size in zip(PARTS, sizes, strict=True):
                    columns[part][f"{kind}, seed {seed}{which}"] = size
    return columns


def size_of(part: Mapping[str, Any]) -> str:
    n_speakers = len(part["speakers"])
    return f"{part['n_utterances']:,} utterances, {n_speakers} speaker{'' if n_speakers == 1 else 's'}"


def as_markdown(columns: Columns) -> str:
    """Columns as a table of Markdown, with a row for each that any column has."""
    rows = dict.fromkeys(row for cells in columns.values() for row in cells)
    lines = [f"| | {' | '.join(map(as_text, columns))} |", "|---|" + "--:|" * len(columns)]
    for row in rows:
        cells = " | ".join(as_text(its.get(row, "")) for its in columns.values())
        lines.append(f"| {as_text(row)} | {cells} |")
    return "\n".join(lines)


def as_text(text: str) -> str:
    """Text that Markdown shows as it is, also in a table."""
    text = re.sub(r"([\\|*`\[])", r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;"))
    return " ".join(text.split())


def image(name: str) -> str:
    return f"![{CAPTIONS[name]}]({name}.png)"


if __name__ == "__main__":
    run_command(main, CompareConfig, CompareConfig.__doc__ or "")
