"""What pretraining is worth: the sweep's arms, and areas, times and differences of made-up runs."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import recall_score

from fins.runs import read_json, write_json
from ser_heads.evaluation.predictions import Predictions
from ser_heads.experiments.comparison import CompareOptions, compare
from ser_heads.experiments.sweeps import read_sweep
from ser_heads.experiments.sweeps.fin_vs_random import conclude, pretraining_seconds
from ser_heads.models import build, get_entry
from ser_heads.training.schedule import RECENT

LABELS = ("angry", "happy", "sad")
SHARES = {"closed_form": 0.5, "frozen": 0.5, "tuned": 0.75, "random": 0.6, "permuted": 0.4}  # right answers
PERCENTS, SEEDS = (10, 100), (0, 1)


def made_up(folder: Path) -> list[dict[str, Any]]:
    """Runs whose answers are right as often as their arm and share say; their histories rise with them."""
    rows = []
    for arm, right in SHARES.items():
        for percent in PERCENTS:
            for seed in SEEDS:
                rng = np.random.default_rng([seed, percent, len(arm)])
                truth = np.repeat(LABELS, 120)
                speakers = [f"made/s{(place + seed) % 12}" for place in range(360)]
                correct = rng.random(360) < right * (0.7 if percent == 10 else 1)
                answers = np.where(correct, truth, rng.choice(LABELS, 360))
                name = f"{arm}-{percent}"
                run = folder / f"{name}-seed{seed}"
                run.mkdir()
                names = [f"made/{seed}-{place}" for place in range(360)]
                columns = {"utterance": names, "corpus": "made", "speaker": speakers}
                table = pd.DataFrame({**columns, "emotion": truth, "answer": answers})
                Predictions(table, np.full((360, 3), 1 / 3), LABELS).write(run / "predictions.csv")
                known = {"model": "fin", "parameters": 1, "protocol": "speaker", "parts": {}, "uar": right}
                write_json(run / "result.json", {**known, "labels": list(LABELS), "n_utterances": 360})
                with (run / "history.csv").open("w", newline="") as file:
                    writer = csv.writer(file)
                    writer.writerow(["epoch", "seconds", "validation_uar"])
                    writer.writerows([n, 10 * n, right * min(1, n / 8)] for n in range(1, 21))
                uar = float(recall_score(truth, answers, average="macro"))
                row = {"name": name, "label": f"{name}, seed {seed}", "folder": run.name, "seed": seed}
                rows.append({**row, "by_part": {"test": {"uar": uar}}, "unseen": {"uar": uar / 2}})
    return rows


def test_areas_times_and_differences(tmp_path: Path) -> None:
    rows = made_up(tmp_path)
    found = conclude(tmp_path, rows)
    uar = {(row["name"], row["seed"]): row["by_part"]["test"]["uar"] for row in rows}
    for arm in SHARES:
        # of two points a trapezoid's mean height is their mean
        means = [(uar[f"{arm}-10", seed] + uar[f"{arm}-100", seed]) / 2 for seed in SEEDS]
        assert found.facts["areas"]["test"][arm] == pytest.approx(means)
        assert found.facts["areas"]["unseen"][arm] == pytest.approx([its / 2 for its in means])

    times = found.facts["times"]
    assert times["threshold"] == pytest.approx(0.9 * 0.75) and times["percent"] == 100
    rising = [0.75 * min(1, n / 8) for n in range(1, 21)]
    first = next(n for n in range(1, 21) if np.mean(rising[max(0, n - RECENT) : n]) >= 0.9 * 0.75)
    assert times["by_arm"]["tuned"]["epochs"] == [first] * 2
    assert times["by_arm"]["tuned"]["seconds"] == pytest.approx([10 * first + pretraining_seconds()] * 2)
    assert times["by_arm"]["random"] == {"epochs": [None] * 2, "seconds": [None] * 2}
    assert pretraining_seconds() > 1

    for its in found.facts["differences"]:
        percents = PERCENTS if its["share"] == "over all shares" else (100,)
        recalls = {}
        for arm in (its["better"], its["worse"]):
            said: list[list[str]] = []
            for percent in percents:
                for seed in SEEDS:
                    with (tmp_path / f"{arm}-{percent}-seed{seed}" / "predictions.csv").open() as file:
                        said += [[row["emotion"], row["answer"]] for row in csv.DictReader(file)]
            truth, answered = zip(*said, strict=True)
            recalls[arm] = recall_score(truth, answered, average="macro")
        assert its["by"] == pytest.approx(recalls[its["better"]] - recalls[its["worse"]])
        assert its["interval_95"][0] < its["by"] < its["interval_95"][1] and its["n_speakers"] == 12
        assert its["p_corrected"] >= its["p"]
    assert len(found.facts["differences"]) == 10
    verdicts = dict(line.split(". ", 1) if ". " in line else line.split("? ", 1) for line in found.answers)
    assert verdicts["Published: tuned above random"].count("confirmed") == 2
    assert "not settled" in verdicts["Is frozen above closed_form"]
    assert verdicts["Is tuned above permuted"].count("yes") == 2
    assert (tmp_path / "shares.png").stat().st_size > 10_000 < (tmp_path / "seconds.png").stat().st_size


def test_what_is_missing_is_left_out(tmp_path: Path) -> None:
    rows = [row for row in made_up(tmp_path) if not row["name"].startswith("random")]
    for row in rows:
        del row["unseen"]
    found = conclude(tmp_path, rows)
    assert {(its["better"], its["worse"]) for its in found.facts["differences"]} == {
        ("tuned", "closed_form"),
        ("frozen", "closed_form"),
        ("tuned", "permuted"),
    }
    assert set(found.facts["areas"]) == {"test"} and "random" not in found.facts["times"]["by_arm"]
    few = conclude(tmp_path, [row for row in rows if row["name"].endswith("-10")])
    assert "with 10 % of the training speakers" in " ".join(
        [*few.tables, *few.answers, *few.pictures.values()]
    )
    assert "with all" in " ".join(found.answers).lower() and "with all" not in " ".join(few.answers).lower()


def test_each_arm_is_what_it_is_called() -> None:
    sweep = read_sweep("fin_vs_random")
    assert len(sweep.runs) == 25 and sweep.conclude is conclude
    for name, config in sweep.runs.items():
        arm, percent = name.split("-")
        options, recipe = config.options, config.recipe
        assert config.division.training_speakers == int(percent) / 100 and options.fins == ("mel",)
        assert options.pretraining == {
            "closed_form": "closed_form",
            "random": "none",
            "permuted": "permuted",
        }.get(arm, "imitation")
        assert (recipe.finetuned_epochs > 0) == (arm in ("tuned", "random", "permuted"))
        epochs = recipe.frozen_epochs + recipe.finetuned_epochs
        assert epochs == recipe.patience == sweep.runs[f"frozen-{percent}"].recipe.frozen_epochs
        build(get_entry(config.model), options, LABELS)


@pytest.mark.usefixtures("runs_here", "no_pictures")
def test_the_page_begins_with_the_answers(small_store: Path, tmp_path: Path) -> None:
    path = tmp_path / "short.py"
    path.write_text(
        "from dataclasses import replace\n"
        "from ser_heads.experiments.sweeps.fin_vs_random import conclude\n"
        "from ser_heads.experiments.sweeps import read_sweep\n\n\n"
        "def short(recipe):\n"
        "    return replace(recipe, copies=0, frozen_epochs=min(1, recipe.frozen_epochs),\n"
        "                   finetuned_epochs=min(1, recipe.finetuned_epochs))\n\n\n"
        "def runs():\n"
        "    made = read_sweep('fin_vs_random').runs\n"
        "    return {name: replace(made[name], recipe=short(made[name].recipe))\n"
        "            for name in ('closed_form-100', 'tuned-100', 'random-50', 'random-100')}\n"
    )
    compare(CompareOptions(str(path), (small_store,), (0, 1), out=tmp_path / "out"))
    result = read_json(tmp_path / "out" / "result.json")
    assert result["n_failed"] == 0
    assert [its["n_runs"] for its in result["conclusion"]["differences"]] == [2, 2, 2, 2]
    page = (tmp_path / "out" / "README.md").read_text()
    assert page.index("## Answers") < page.index("![UAR by share") < page.index("## Runs")
    assert result["conclusion"]["answers"][0] in page
