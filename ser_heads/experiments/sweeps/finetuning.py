"""When a FIN moves to its profit: `fin` whose FINs stay, or learn in the last third of the epochs.

frozen: they stay. tuned: all their weights learn, at three rates. bands: the weights of powers alone, in
their logarithm. learned: compression of levels learns from decibels on, FINs frozen, and beside bands.
permuted: bands of shuffled bins, frozen. Heads have the same epochs and rates in all these; in one phase of
as many epochs learn closed_form, whose features are computed, and random, whose FINs learn from random
weights. Made for RAVDESS with three seeds, --unseen ESD and --condition 'noise, 10 dB', 'noise, 0 dB' and
'telephone band, 300 to 3400 Hz'.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ser_heads.evaluation.scores import holm
from ser_heads.evaluation.unseen import slug_of
from ser_heads.experiments import RunConfig, configure
from ser_heads.experiments.comparison_plots import plot_arms
from ser_heads.experiments.parallel import UNSEEN
from ser_heads.experiments.sweeps.conclusion import Columns, Conclusion
from ser_heads.experiments.sweeps.fin_vs_random import (
    SIGNIFICANT,
    describe_difference,
    difference_of,
    mean_and_deviation,
)
from ser_heads.training.recipe import Recipe

EPOCHS = {"frozen_epochs": 24, "finetuned_epochs": 12, "patience": 36, "finetuning_rate": 5e-4}
RATES = (1e-5, 1e-4, 1e-3)  # of tuned FINs
BAND_RATE = 3e-3  # of exponents: a step is a factor of at most about so much more or less
BASELINE = "frozen"
TEST = "test"


def runs() -> dict[str, RunConfig]:
    held = EPOCHS | {"fin_rate": 0.0}
    bands = EPOCHS | {"fin_rate": BAND_RATE, "fin_tuning": "bands"}
    learning = {"frozen_epochs": 0, "finetuned_epochs": 36, "patience": 36}
    arms: dict[str, dict[str, Any]] = {
        BASELINE: held,
        **{f"tuned-{rate:.0e}": EPOCHS | {"fin_rate": rate} for rate in RATES},
        "bands": bands,
        "learned": held | {"compression": "learned"},
        "learned-bands": bands | {"compression": "learned"},
        "closed_form": {
            "frozen_epochs": 36,
            "patience": 36,
            "finetuned_epochs": 0,
            "pretraining": "closed_form",
        },
        "permuted": held | {"pretraining": "permuted"},
        "random": learning
        | {"pretraining": "none", "fin_rate": 1e-3, "finetuning_rate": Recipe.learning_rate},
    }
    return {arm: configure("fin", **options) for arm, options in arms.items()}


def conclude(out: Path, rows: Sequence[Mapping[str, Any]]) -> Conclusion:
    """Every arm against the frozen one on what it is judged on, paired by utterance; writes one picture."""
    tests = {TEST: "", **{one: slug_of(one) for one in rows[0].get("conditions", {})}}
    if "unseen" in rows[0]:
        tests["unseen"] = UNSEEN
    arms = list(dict.fromkeys(row["name"] for row in sorted(rows, key=lambda row: row["seed"])))
    arms.sort(key=list(runs()).index)
    uars = {
        test: {arm: [uar_of(row, test) for row in rows if row["name"] == arm] for arm in arms}
        for test in tests
    }
    paired = paired_with_frozen(out, rows, arms, tests)
    plot_arms(out / "arms.png", uars)
    table: Columns = {
        test: {arm: mean_and_deviation(values) for arm, values in by_arm.items()}
        for test, by_arm in uars.items()
    }
    differences: Columns = {test: {} for test in tests}
    for row in paired:
        differences[row["test"]][row["arm"]] = describe_difference(row)
    tables = {"UAR %, mean and deviation over seeds": table, f"Above {BASELINE}, in points": differences}
    pictures = {"arms": "UAR of each arm: a dot a seed, a line at the mean"}
    return Conclusion(sentences(paired), tables, pictures, {"differences": paired})


def uar_of(row: Mapping[str, Any], test: str) -> float:
    """Of a run, on one of the tests."""
    if test == TEST:
        return float(row["by_part"]["test"]["uar"])
    return float((row["unseen"] if test == "unseen" else row["conditions"][test])["uar"])


def paired_with_frozen(
    out: Path, rows: Sequence[Mapping[str, Any]], arms: Sequence[str], tests: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Each arm minus the frozen one, all seeds together, with Holm's correction over all of them.

    tests : what is judged on → the folder in a run's that has its predictions
    """
    by_key = {(row["name"], row["seed"]): row for row in rows}
    paired = []
    for test, folder in tests.items():
        for arm in arms:
            seeds = [seed for name, seed in by_key if name == arm and (BASELINE, seed) in by_key]
            if arm == BASELINE or not seeds:
                continue
            pairs = [
                (within(by_key[arm, seed], folder), within(by_key[BASELINE, seed], folder)) for seed in seeds
            ]
            paired.append({"arm": arm, "test": test, "n_runs": len(pairs), **difference_of(out, pairs)})
    corrected = holm([1.0 if row["p"] is None else row["p"] for row in paired])
    return [{**row, "p_corrected": p} for row, p in zip(paired, corrected, strict=True)]


def within(row: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """A run's row, for the predictions in a folder of its own."""
    return {**row, "folder": f"{row['folder']}/{folder}"}


def sentences(paired: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which arms are settled above or below the frozen one."""
    settled = [row for row in paired if row["p_corrected"] < SIGNIFICANT]
    lines = [
        f"{row['arm']} is {'above' if row['by'] > 0 else 'below'} {BASELINE} on {row['test']}: "
        f"{describe_difference(row)}."
        for row in settled
    ]
    rest = len(paired) - len(settled)
    return [*lines, f"{rest} of {len(paired)} differences from {BASELINE} aren't settled."]
