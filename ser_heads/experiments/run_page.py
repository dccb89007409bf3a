"""A run as a page of Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fins.data.audit import verdict
from fins.documents import table_of_rows
from ser_heads.evaluation.predictions import describe_confidence, describe_scores
from ser_heads.training.schedule import RECENT

MOST_NAMED = 12  # speakers


def summarise_run(result: dict[str, Any]) -> str:
    """A few lines for a person: the scores, of several features if there are such."""
    return "\n".join([*describe_features(result), *describe_scores(result)])


def describe_run(result: dict[str, Any], pictures: Sequence[str], command: str) -> str:
    """The page of a run's folder; command : the line that makes it again."""
    how, chosen = describe_learning(result)
    lines = [
        f"# {result['model']}, {result['fold'] or result['protocol']}, seed {result['seed']}",
        "",
        *describe_phases(result),
        f"{result['parameters']:,} parameters; {how} (ended by: {result['stopped']}).",
        "",
        summarise_run(result),
        "",
        describe_part_scores(result),
        "",
        *(line for sentence in describe_recordings(result) for line in (sentence, "")),
        *describe_sample(result),
        f"On one core an answer takes {result['real_time_factor']:.3g} of the time that the recording lasts.",
        "",
        f"{chosen} on {describe_validation(result)}; the test part had no say in it.",
        "",
        *describe_abstention(result),
        f"Audit: {verdict(result['audit'])}",
        "",
        "```sh",
        command,
        "```",
        "",
        *(f"![{name.replace('_', ' ')}]({name}.png)" for name in pictures),
        "",
    ]
    return "\n".join(lines)


def describe_learning(result: dict[str, Any]) -> tuple[str, str]:
    """How long it learned, and how what is kept was chosen."""
    if "by_feature" in result:
        how = f"fitted in {result['seconds']:,.0f} s, {result['epochs']} machines tried"
        return how, f"The machine is number {result['best_epoch']} of them, chosen by UAR"
    how = f"trained for {result['seconds']:,.0f} s, {result['epochs']} epochs"
    if "inner_folds" in result:
        best = ", ".join(str(row["best_epoch"]) for row in result["inner_folds"])
        n = len(result["inner_folds"])
        return how, (
            f"How long was chosen by {n} folds of the training speakers (best after {best} epochs), by the "
            f"UAR of {RECENT} epochs"
        )
    return how, f"The weights are those of epoch {result['best_epoch']}, chosen by the UAR of {RECENT} epochs"


def describe_validation(result: dict[str, Any]) -> str:
    """On what was chosen, with its UAR."""
    uar = f"{100 * result['validation_uar']:.1f} %"
    if "inner_folds" in result:
        return f"the speakers that each left out (mean {uar}), who then trained with the others"
    return f"the validation part (its own {uar})"


def describe_phases(result: dict[str, Any]) -> list[str]:
    """What finetuning brought, where there was any."""
    if len(result["test_by_phase"]) < 2:
        return []
    if result["best_phase"] == "frozen":
        return ["No epoch of finetuning did better on the validation part: the FINs are as they were.", ""]
    frozen, tuned = (100 * result["test_by_phase"][phase]["uar"] for phase in ("frozen", "finetuned"))
    return [f"Test UAR with frozen FINs {frozen:.1f} %, finetuned {tuned:.1f} %.", ""]


def describe_part_scores(result: dict[str, Any]) -> str:
    """A row a part."""
    rows = []
    for part, described in result["parts"].items():
        scores = [f"{100 * result['by_part'][part][key]:.1f}" for key in ("uar", "wa", "macro_f1")]
        speakers = name_speakers(described["speakers"])
        rows.append((part, f"{described['n_utterances']:,}", speakers, *scores))
    return table_of_rows(("part", "utterances", "speakers", "UAR %", "WA %", "macro-F1 %"), rows)


def describe_recordings(result: dict[str, Any]) -> list[str]:
    """What stands in several stores, and emotions that a part lacks, in sentences."""
    return [f"{sentence}." for sentence in (*result.get("repeats", ()), *result.get("gaps", ()))]


def describe_features(result: dict[str, Any]) -> list[str]:
    """What the machines of each spectral feature answer, where there are such, as Markdown."""
    if "by_feature" not in result:
        return []
    rows = []
    for name, own in result["by_feature"].items():
        cells = [f"{100 * own[part][key]:.1f}" for part in ("validation", "test") for key in ("uar", "wa")]
        rows.append((name, own["kernel"], f"{own['c']:g}", *cells))
    names = ("feature", "kernel", "C", "validation UAR %", "WA %", "test UAR %", "WA %")
    best = f"Best on the validation part: {result['best_feature']}."
    return [table_of_rows(names, rows), "", best, ""]


def describe_sample(result: dict[str, Any]) -> list[str]:
    """How many training recordings are scored, where not all are."""
    n_scored = result["by_part"]["train"]["n_utterances"]
    if n_scored == result["parts"]["train"]["n_utterances"]:
        return []
    return [f"Of the training utterances {n_scored:,}, evenly spread, are scored.", ""]


def describe_abstention(result: dict[str, Any]) -> list[str]:
    """Whether probabilities mean what they say, and when not to answer."""
    if "by_feature" in result:
        return ["Its probabilities are shares of votes: they tell no confidence.", ""]
    return [
        f"Probabilities are of logits divided by {result['temperature']:.2f}, fitted on the validation part. "
        f"{describe_confidence(result)}",
        "",
        describe_threshold(result["abstention"]),
        "",
    ]


def describe_threshold(abstention: dict[str, Any]) -> str:
    """What answering only above the threshold brings, in a sentence."""
    if not abstention["threshold"]:
        return "No threshold of confidence halves the wrong answers to the validation part: none is kept."
    test, threshold = abstention["test"], f"a confidence of {abstention['threshold']:.3f}"
    if test["risk"] is None:
        return f"None of the test part reaches {threshold}, which halves the wrong ones of validation."
    return (
        f"Above {threshold}, which halves the wrong answers to the validation part, "
        f"{100 * test['coverage']:.1f} % of the test part are answered, of which {100 * test['risk']:.1f} % "
        "are wrong."
    )


def name_speakers(speakers: Sequence[str]) -> str:
    return ", ".join(speakers) if len(speakers) <= MOST_NAMED else f"{len(speakers)}"
