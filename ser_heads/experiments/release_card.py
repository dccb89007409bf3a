"""What a user should know of the classifier that comes with the package, as the Hub has cards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fins.documents import table_of_rows

LICENCE = "CC BY-NC-SA 4.0"
FEW_SPEAKERS = 2  # of whom an interval says nothing
USES = (
    "Research on speech emotion, as a baseline, and as a start for one's own recordings and words.",
    "**Not for decisions about people**: hiring, policing, schools, health, workplaces. In the European "
    "Union the AI Act forbids reading emotions at work and in schools, with few exceptions.",
    "**Not a measure of what someone feels.** It learned what 24 actors were told to play, in two sentences "
    "of English spoken in one studio.",
)


def release_card(result: Mapping[str, Any]) -> str:
    """The card, in Markdown, with the Hub's header.

    result : as `release` writes it
    """
    name = result["model"]
    return "\n\n".join(
        [
            header_of(result),
            f"# {name}",
            f'`ser_heads.load("{name}")`: a recording → {", ".join(result["labels"])}. '
            f"{result['parameters']:,} parameters; runs on a laptop's CPU.",
            described_data(result),
            "## What it is worth",
            table_of_rows(
                ("tested on", "utterances", "speakers", "UAR %", "95 % interval", "ECE"), rows_of(result)
            ),
            "Intervals resample speakers, of whom two are too few. ECE is how far confidence is off, in "
            "points. RAVDESS: six folds, each by a model that never met its four speakers; these weights are "
            "trained as they were, on all 24. Other corpora: these very weights, answers among the corpus's "
            "own emotions; calm counts as neutral where a corpus has no calm. Where ECE is large, don't "
            "trust its confidence.",
            "Recall by emotion, in %:",
            recalls_of(result),
            "RAVDESS, unseen speakers, true emotions in rows and answers in columns:",
            confusion_of(result["folds"]),
            "## What it is for, and what not",
            "\n".join(f"- {use}" for use in USES),
            "## Make it again",
            "    python -m pipelines.release --store ravdess.h5 --unseen savee.h5 tess.h5 esd.h5",
            f"Seed {result['seed']}. Made with "
            f"{', '.join(f'{library} {version}' for library, version in result['versions'].items())}.\n",
        ]
    )


def header_of(result: Mapping[str, Any]) -> str:
    """YAML, as the Hub reads it."""
    return "\n".join(
        [
            "---",
            "license: cc-by-nc-sa-4.0",
            "language: en",
            "library_name: fin-ser",
            "pipeline_tag: audio-classification",
            "tags: [speech-emotion-recognition]",
            "metrics: [recall]",
            "model-index:",
            f"  - name: {result['model']}",
            "    results:",
            "      - task: {type: audio-classification}",
            "        dataset: {name: RAVDESS (unseen speakers), type: ravdess}",
            f"        metrics: [{{type: recall, name: UAR, value: {result['folds']['uar']:.3f}}}]",
            "---",
        ]
    )


def described_data(result: Mapping[str, Any]) -> str:
    """Data, protocol and licence."""
    data, recipe = result["trained_on"], result["recipe"]
    finetuned = recipe["finetuned_epochs"]
    phases = f"{recipe['frozen_epochs']} epochs with frozen FINs, " + (
        f"then {finetuned} with the FINs learning too"
        if finetuned
        else "none with the FINs learning: that helped validation speakers in no more than half of the folds"
    )
    corpora = ", ".join(f"{corpus} ({n:,} utterances)" for corpus, n in data["corpora"].items())
    return (
        f"Trained on {corpora} of {data['speakers']} speakers: {phases}. How long was chosen on validation "
        "speakers inside the folds; no test speaker and no other corpus had a say. The folds' divisions are "
        "audited: no speaker and no recording is on both sides; the two sentences are.\n\n"
        f"**Licence of these weights: {result['licence']}**, which are RAVDESS's terms (Livingstone and "
        "Russo 2018): name the source, no commercial use, share alike. The package's code is MIT. The FINs "
        "inside were learned from noise and carry no corpus's terms."
    )


def rows_of(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """One for the folds and one for each unseen corpus."""
    tested = {"RAVDESS, six folds": result["folds"], **result["unseen"]}
    return [
        (
            name,
            f"{row['n_utterances']:,}",
            str(row["n_speakers"]),
            f"{100 * row['uar']:.1f}",
            between(row["interval_95"]["uar"]) if row["n_speakers"] > FEW_SPEAKERS else "–",
            f"{100 * row['calibration_error']:.1f}",
        )
        for name, row in tested.items()
    ]


def between(interval: tuple[float, float]) -> str:
    """Of an interval, in %."""
    return f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}"


def recalls_of(result: Mapping[str, Any]) -> str:
    """Emotion by emotion, of each corpus."""
    tested = {"RAVDESS": result["folds"], **result["unseen"]}
    labels = result["labels"]
    rows = []
    for name, row in tested.items():
        recalls = dict.fromkeys(labels, "–")
        for place, label in enumerate(row["labels"]):
            n = sum(row["confusion"][place])
            recalls[label] = f"{100 * row['confusion'][place][place] / n:.0f}" if n else "–"
        rows.append((name, *recalls.values()))
    return table_of_rows(("corpus", *labels), rows)


def confusion_of(scores: Mapping[str, Any]) -> str:
    """Counts as a table."""
    rows = [
        (label, *map(str, counts))
        for label, counts in zip(scores["labels"], scores["confusion"], strict=True)
    ]
    return table_of_rows(("", *scores["labels"]), rows)
