"""The page of a comparison: one text, as README.md and as one HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fins.data.audit import verdict
from fins.data.splits import PARTS
from fins.documents import as_text, page, table
from fins.runs import write_atomically
from ser_heads.experiments.sweeps.conclusion import Columns, Conclusion

PAGE = "index.html"
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
    "own": "the parts are those that the corpora give",
    "corpus": "the test part is of corpora that nothing else is of",
}
Rows = Sequence[Mapping[str, Any]]


def write_pages(
    out: Path, result: Mapping[str, Any], pictures: Sequence[str], conclusion: Conclusion | None, why_not: str
) -> None:
    """README.md and index.html, of the same text.

    result : of the comparison; pictures : names of the PNGs in the folder, of CAPTIONS
    conclusion, why_not : what the sweep says in the end, or why it can't
    """
    title = f"{result['sweep']}: {result['n_runs']} runs compared"
    text = describe_comparison(result, title, pictures, conclusion, why_not)
    write_atomically(out / PAGE, page(text, title, out))
    write_atomically(out / "README.md", text)


def describe_comparison(
    result: Mapping[str, Any],
    title: str,
    pictures: Sequence[str],
    conclusion: Conclusion | None,
    why_not: str,
) -> str:
    """A comparison as Markdown: what the sweep says, the table, and how it came about."""
    rows, failed = result["runs"], result["failed"]
    blocks = [f"# {as_text(title)}", as_text(result["about"])]
    if conclusion is not None:
        blocks += [*describe_conclusion(conclusion), "## Runs"]
    blocks += [image(pictures[0], CAPTIONS[pictures[0]]), describe_runs(rows, failed)]
    if failed:
        blocks += ["## Failed", bullets([f"{run['label']}: {run['why']}" for run in failed])]
    if result["over_seeds"]:
        blocks += ["## Over seeds", table(seed_columns(result["over_seeds"]))]
    facts = [*describe_facts(result), *filter(None, [why_not])]
    blocks += ["## How these numbers came about", bullets(facts), table(part_columns(rows))]
    for name in pictures[1:]:
        blocks += [f"## {CAPTIONS[name].capitalize()}", image(name, CAPTIONS[name])]
    return "\n\n".join(blocks) + "\n"


def describe_conclusion(conclusion: Conclusion) -> list[str]:
    """Answers, pictures and tables of a sweep."""
    blocks = ["## Answers", bullets(conclusion.answers)]
    blocks += [image(name, caption) for name, caption in conclusion.pictures.items()]
    for title, columns in conclusion.tables.items():
        blocks += [f"## {as_text(title)}", table(columns)]
    return blocks


def bullets(lines: Sequence[str]) -> str:
    """A list of texts that stay text."""
    return "\n".join(f"- {as_text(line)}" for line in lines)


def image(name: str, caption: str) -> str:
    """A picture of the folder."""
    return f"![{as_text(caption)}]({name}.png)"


def kind_of(row: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """What runs share that can be held against each other: the division into parts, and emotions."""
    return row["division"], tuple(row["labels"])


def by_kind(rows: Rows) -> dict[str, list[Mapping[str, Any]]]:
    """Title of a kind → its rows; emotions are named where they tell kinds apart."""
    kinds: dict[tuple[str, tuple[str, ...]], list[Mapping[str, Any]]] = {}
    for row in rows:
        kinds.setdefault(kind_of(row), []).append(row)
    alike = len({labels for _, labels in kinds}) == 1
    return {
        division if alike else f"{division}: {', '.join(labels)}": own
        for (division, labels), own in kinds.items()
    }


def describe_facts(result: Mapping[str, Any]) -> list[str]:
    """What has to be known beside the numbers, in sentences."""
    rows, minutes = result["runs"], result["minutes_each"]
    protocols = {row["division"]: row["protocol"] for row in rows}
    label_sets = dict.fromkeys(tuple(row["labels"]) for row in rows)
    n_scored = max(row["by_part"]["train"]["n_utterances"] for row in rows)
    facts = [
        f"Protocol {division}: {about_protocol(protocol)}. {describe_verdicts(rows, division)}"
        for division, protocol in protocols.items()
    ]
    facts += [
        f"Emotions: {', '.join(labels)}; chance is {100 / len(labels):.1f} % UAR." for labels in label_sets
    ]
    fresh = "the utterances that a run neither learned from nor was chosen by"
    if result["unseen"]:
        facts.append(f"Unseen: {', '.join(result['unseen'])}; of these {fresh}.")
    if result["conditions"]:
        facts.append(f"Degraded: {'; '.join(result['conditions'])}; {fresh}, degraded before an answer.")
    facts.append(f"Stores: {', '.join(result['stores'])}. Seeds: {', '.join(map(str, result['seeds']))}.")
    if minutes is None:
        facts.append(
            "Each run had at most as many epochs as its own options say, and all the time they took."
        )
    else:
        facts.append(
            f"Each run had a budget of {minutes:.3g} minutes, with all that it needed beside training; where "
            "that ended it, the time of training says so."
        )
    facts += [
        "Which epoch of a run is kept was chosen by UAR on the validation part alone; the test part had no "
        "say in it. Who chooses among the runs should do so by validation too: the best of many test scores "
        "is too good.",
        "Intervals are of 95 %, from resampling the speakers of the part.",
        f"The scores of the train part are of at most {n_scored} utterances, evenly spread.",
        "The real-time factor is seconds to answer by seconds of recording, one utterance at a time on one "
        "core.",
    ]
    if result["n_failed"]:
        facts.append(f"{result['n_failed']} of {result['n_runs']} runs failed.")
    return facts


def about_protocol(protocol: str) -> str:
    """What a protocol sees to; one of the user's own is known by its name alone."""
    return ABOUT_PROTOCOLS.get(protocol, "utterances are divided by a function of its own")


def describe_verdicts(rows: Rows, division: str) -> str:
    """What the audits of a division say: one sentence, or if parts differ one for each of their runs."""
    verdicts: dict[str, list[str]] = {}
    for row in rows:
        if row["division"] == division:
            verdicts.setdefault(verdict(row["audit"]), []).append(row["label"])
    if len(verdicts) == 1:
        return next(iter(verdicts))
    return " ".join(f"Of {', '.join(labels)}: {sentence}" for sentence, labels in verdicts.items())


def describe_runs(rows: Rows, failed: Rows) -> str:
    """The table of all runs, as Markdown."""
    return table(run_columns(rows, failed))


def run_columns(rows: Rows, failed: Rows) -> Columns:
    """Column → run → cell. Those without a result come last."""
    kinds = by_kind(rows)
    columns: Columns = {}
    if len(kinds) > 1:
        columns["protocol"] = {row["label"]: kind for kind, own in kinds.items() for row in own}
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
            columns[f"{part} {TITLES[key]} %"] = {
                row["label"]: score_cell(row["by_part"][part], key) for row in rows
            }
    columns[f"test {TITLES['uar']} %"] |= {run["label"]: "failed" for run in failed}
    if any("unseen" in row for row in rows):
        columns["unseen UAR %"] = {row["label"]: score_cell(row["unseen"], "uar") for row in rows}
    for condition in dict.fromkeys(one for row in rows for one in row.get("conditions", {})):
        columns[f"{condition}, UAR %"] = {
            row["label"]: score_cell(row["conditions"][condition], "uar") for row in rows
        }
    return columns


def duration(seconds: float) -> str:
    """In seconds, or in minutes where it is long."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def score_cell(scores: Mapping[str, Any], key: str) -> str:
    """A score in %, UAR with its interval."""
    text = f"{100 * scores[key]:.1f}"
    interval = scores["interval_95"][key]
    if key != "uar" or interval is None:
        return text
    return f"{text} ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})"


def seed_columns(summaries: Rows) -> Columns:
    """Column → run → cell: mean ± deviation of the test scores."""
    columns: Columns = {"seeds": {row["name"]: str(row["n_seeds"]) for row in summaries}}
    for key in SHOWN:
        cells = columns[f"test {TITLES[key]} %"] = {}
        for row in summaries:
            mean, deviation = row[key]["mean"], row[key]["deviation"]
            after = "" if deviation is None else f" ± {100 * deviation:.1f}"
            cells[row["name"]] = f"{100 * mean:.1f}{after}"
    return columns


def part_columns(rows: Rows) -> Columns:
    """Column → division into parts → utterances and speakers of a part."""
    columns: Columns = {part: {} for part in PARTS}
    for kind, own in by_kind(rows).items():
        alike: dict[int, dict[tuple[str, ...], list[str]]] = {}
        for row in own:
            sizes = tuple(describe_size(row["parts"][part]) for part in PARTS)
            alike.setdefault(row["seed"], {}).setdefault(sizes, []).append(row["name"])
        for seed, divided in alike.items():
            for sizes, names in divided.items():
                which = f": {', '.join(names)}" if len(divided) > 1 else ""
                for part, size in zip(PARTS, sizes, strict=True):
                    columns[part][f"{kind}, seed {seed}{which}"] = size
    return columns


def describe_size(part: Mapping[str, Any]) -> str:
    """How many utterances and speakers."""
    n_speakers = len(part["speakers"])
    return f"{part['n_utterances']:,} utterances, {n_speakers} speaker{'' if n_speakers == 1 else 's'}"
