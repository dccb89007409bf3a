"""What learns when FINs are finetuned: bands alone, nothing, or compression; and conditions of a test."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_signal
from sklearn.metrics import recall_score
from torch import Tensor

from data_manifests.labels import EMOTIONS
from fins.audio import quantise
from fins.data.table import UtteranceTable
from fins.learning.degradations import CONDITIONS
from fins.runs import read_json, write_json
from ser_heads.evaluation.predictions import Predictions, read_predictions
from ser_heads.evaluation.unseen import EvaluateOptions, evaluate, slug_of
from ser_heads.experiments.comparison import CompareOptions, compare
from ser_heads.experiments.config import configure
from ser_heads.experiments.run import train_classifier
from ser_heads.experiments.sweeps.finetuning import conclude, runs
from ser_heads.layers.compression import LARGEST, PowerLaw
from ser_heads.models import create, load
from ser_heads.training.cache import MemoryCache
from ser_heads.training.fitting import calibrate_norm
from ser_heads.training.recipe import NO_AUGMENTATION, Recipe
from ser_heads.training.schedule import LogarithmicSteps
from ser_heads.training.sources import FrameSource
from ser_heads.training.trainer import Trainer

NOISE = "noise, 10 dB"
QUICK = Recipe(
    frozen_epochs=1, finetuned_epochs=2, batch_size=8, copies=0, fin_rate=3e-3, augmentation=NO_AUGMENTATION
)


class Sounds:
    """Made recordings, a word for each."""

    def __init__(self, seed: int, n: int = 16) -> None:
        self.items = [(torch.from_numpy(make_signal(seed + i)), EMOTIONS[i % 8]) for i in range(n)]
        self.names = [f"made/{seed}-{i}" for i in range(n)]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, place: int) -> tuple[Tensor, str]:
        return self.items[place]


def trainer_of(recipe: Recipe, checkpoint: Path | None = None, **options: Any) -> Trainer:
    torch.manual_seed(0)
    model, train = create("fin", EMOTIONS, **{"fins": ("mel", "rms"), **options}), Sounds(0)
    calibrate_norm(model, FrameSource(model, train))
    return Trainer(model, train, Sounds(100), recipe, cache=MemoryCache(), checkpoint=checkpoint, seed=0)


def copied(trainer: Trainer) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


def power_law(decibels: np.ndarray, exponents: np.ndarray) -> np.ndarray:
    """Of one recording, (time, band), by its definition: the Box-Cox transform of power by its mean level."""
    mean = decibels.mean()
    level = (decibels - mean) * np.log(10) / 10
    with np.errstate(invalid="ignore", divide="ignore"):
        compressed = np.where(exponents == 0, level, (np.exp(exponents * level) - 1) / exponents)
    return mean + compressed * 10 / np.log(10)


def test_a_power_law_starts_at_decibels_and_is_one() -> None:
    rng = np.random.default_rng(0)
    decibels, lengths = rng.uniform(-80, 0, (3, 9, 5)), (9, 4, 6)
    mask = torch.arange(9)[None] < torch.tensor(lengths)[:, None]
    law = PowerLaw(5).double()
    given = torch.from_numpy(decibels)
    assert torch.equal(law(given, mask.double()), given)
    exponents = np.array([-0.3, -1e-3, 0.0, 2e-3, 0.25])
    with torch.no_grad():
        law.exponents.copy_(torch.from_numpy(exponents))
    found = law(given, mask.double()).detach().numpy()
    for row, n in enumerate(lengths):
        np.testing.assert_allclose(found[row, :n], power_law(decibels[row, :n], exponents), rtol=1e-6)
    louder = law(given + 20, mask.double()).detach().numpy()
    for row, n in enumerate(lengths):  # how loud a recording is makes no difference
        np.testing.assert_allclose(louder[row, :n], found[row, :n] + 20, atol=1e-9)
    assert torch.autograd.gradcheck(lambda x: law(x, mask.double()), (given.requires_grad_(),))
    law(given, mask.double()).sum().backward()
    assert torch.isfinite(law.exponents.grad).all() and (law.exponents.grad != 0).all()
    with torch.no_grad():
        law.exponents.mul_(10)
    law.constrain()
    assert law.exponents.abs().max() == LARGEST


def test_learned_compression_starts_as_decibels_and_learns() -> None:
    recipe = replace(QUICK, fin_rate=0.0)
    plain, learned = trainer_of(recipe), trainer_of(recipe, compression="learned")
    laws = learned.model.norm.compressions
    assert {name: law.exponents.shape for name, law in laws.items()} == {"mel": (128,), "rms": (1,)}
    plain.model.eval(), learned.model.eval()
    sound = torch.from_numpy(make_signal(7))[None]
    assert torch.equal(learned.model(sound), plain.model(sound))
    learned.run()
    assert all((law.exponents != 0).any() for law in laws.values())


def test_bands_move_in_their_logarithm_and_nothing_else_of_a_fin() -> None:
    trainer = trainer_of(replace(QUICK, fin_tuning="bands"), fins=("mel", "pitch", "rms"))
    before = copied(trainer)
    trainer.run()
    after = trainer.average.state_dict()  # of the last epoch, which needn't be the best
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name for name in moved if name.startswith("frontend")} == {"frontend.members.mel.bands.weights"}
    was, now = (state["frontend.members.mel.bands.weights"] for state in (before, after))
    assert ((was == 0) == (now == 0)).all() and now.min() >= 0
    factors = now[was > 0] / was[was > 0]
    n_steps = 2 * 2  # of two epochs of 16 recordings
    assert 0 < factors.log().abs().max() < 1.1 * n_steps * QUICK.fin_rate


def test_a_logarithmic_step_is_that_of_an_exponent() -> None:
    """By autograd: weights as exponentials of what is stepped."""
    start = torch.tensor([0.0, 0.5, 2.0], dtype=torch.float64)
    weights = torch.nn.Parameter(start.clone())
    steps = LogarithmicSteps([weights])
    optimizer = torch.optim.SGD(steps.exponents, lr=0.1)
    exponents = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    for _ in range(3):
        (weights.square().sum() + weights.sum()).backward()
        steps.before()
        optimizer.step()
        steps.after()
        expected = start * exponents.exp()
        (gradient,) = torch.autograd.grad(expected.square().sum() + expected.sum(), exponents)
        exponents = (exponents - 0.1 * gradient).detach().requires_grad_()
        torch.testing.assert_close(weights.detach(), start * exponents.exp().detach())
        assert weights.grad is None


@pytest.mark.parametrize("fin_tuning", ["bands", "all"])
def test_fins_without_a_rate_stay_and_their_frames_are_kept(fin_tuning: Any) -> None:
    trainer = trainer_of(replace(QUICK, fin_rate=0.0, fin_tuning=fin_tuning))
    before = copied(trainer)
    state = trainer.run()
    after = trainer.average.state_dict()
    assert [row.phase for row in state.history] == ["frozen", "finetuned", "finetuned"]
    assert trainer.kept == [True]
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("frontend"))
    assert any(not torch.equal(before[name], after[name]) for name in before if name.startswith("head"))


def test_finetuned_bands_go_on_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(QUICK, fin_tuning="bands")
    whole = trainer_of(recipe, tmp_path / "whole")
    state = whole.run()
    step, n_steps = Trainer._step, iter(range(99))

    def kill(self: Trainer, *rest: Any) -> float:
        if next(n_steps) == 5:  # in the second finetuned epoch
            raise KeyboardInterrupt
        return step(self, *rest)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Trainer, "_step", kill)
        trainer_of(recipe, tmp_path / "killed").run()
    again = trainer_of(recipe, tmp_path / "killed")
    assert [row.train_loss for row in again.run().history] == [row.train_loss for row in state.history]
    for name, tensor in whole.best.items():
        assert torch.equal(again.best[name], tensor)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"fin_tuning": "kernels"}, "--fin-tuning is one of all, bands"),
        ({"fin_rate": -1e-3}, "--fin-rate is a number, at least 0"),
        ({"fin_rate": float("nan")}, "--fin-rate is a number, at least 0"),
        ({"compression": "cubic"}, "--compression is one of decibels, learned"),
    ],
)
def test_what_cant_be_meant_is_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as raised:
        configure("fin", **options)
    assert "\n" not in str(raised.value)


@pytest.fixture(scope="module")
def run(small_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("conditions") / "run"
    options = {"frozen_epochs": 1, "finetuned_epochs": 0, "copies": 0, "fins": ("rms", "mel")}
    train_classifier(configure("fin", store=(small_store,), out=out, **options))
    return out


def test_a_condition_is_what_recordings_go_through_first(
    run: Path, small_store: Path, tmp_path: Path
) -> None:
    out, result = evaluate(EvaluateOptions((run,), (small_store,), condition=NOISE, out=tmp_path / "noisy"))
    evaluate(EvaluateOptions((run,), (small_store,), out=tmp_path / "clean"))
    noisy, clean = read_predictions(out), read_predictions(tmp_path / "clean")
    assert noisy.table["utterance"].tolist() == clean.table["utterance"].tolist()
    assert result["condition"] == NOISE and f"recordings were degraded first: {NOISE}" in result["notes"]
    model = load(run)
    expected = []
    with UtteranceTable([small_store]) as table:
        places = dict(zip(table.rows["name"], range(len(table.rows)), strict=True))
        for name in noisy.table["utterance"]:
            signal = table.signal(places[name])
            rng = np.random.default_rng(zlib.crc32(name.encode()))
            degraded = quantise(CONDITIONS[NOISE](signal, rng))[0].astype(np.float32) / 32_768
            with torch.no_grad():
                logits = model.eval()(torch.from_numpy(degraded)[None])[0]
            expected.append((logits / model.temperature).softmax(0)[: len(noisy.labels)].numpy())
    found = noisy.probabilities[:, [noisy.labels.index(label) for label in model.labels]]
    np.testing.assert_allclose(found, np.array(expected), atol=3e-6)
    assert np.abs(noisy.probabilities - clean.probabilities).max() > 2e-5  # its temperature makes all alike


def test_conditions_that_arent_there_are_named(run: Path, small_store: Path) -> None:
    with pytest.raises(ValueError, match="no condition 'rain': the known ones are as recorded; noise, 20 dB"):
        EvaluateOptions((run,), (small_store,), condition="rain")
    with pytest.raises(ValueError, match="--condition is of the recordings of a --store: give one"):
        EvaluateOptions((run,), condition=NOISE)
    with pytest.raises(ValueError, match="no condition 'rain'"):
        compare(CompareOptions("small", (small_store,), condition=("rain",)))


@pytest.mark.usefixtures("runs_here")
def test_a_comparison_judges_each_run_under_conditions(small_store: Path, tmp_path: Path) -> None:
    sweep = tmp_path / "one.py"
    sweep.write_text(
        "from ser_heads.experiments import configure\n\n\ndef runs():\n    return {'one': configure('fin', "
        "fins=('rms',), frozen_epochs=1, finetuned_epochs=0, copies=0)}\n"
    )
    out = tmp_path / "out"
    compare(CompareOptions(str(sweep), (small_store,), condition=(NOISE,), out=out))
    result = read_json(out / "result.json")
    (row,) = result["runs"]
    said = read_predictions(out / row["folder"] / slug_of(NOISE)).table
    uar = recall_score(said["emotion"], said["answer"], average="macro")
    assert result["conditions"] == [NOISE] and row["conditions"][NOISE]["uar"] == pytest.approx(uar)
    assert f"{NOISE}, UAR %" in (out / "README.md").read_text()


def made_up(folder: Path, rights: dict[str, float], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Runs that are right as often as said; on noise a tenth less."""
    rows, labels = [], ("angry", "happy", "sad")
    for arm, right in rights.items():
        for seed in seeds:
            rng = np.random.default_rng([seed, len(arm)])
            truth = np.repeat(labels, 200)
            run = folder / f"{arm}-seed{seed}"
            scores = {}
            for test, share in (("test", right), (NOISE, right - 0.1)):
                answers = np.where(rng.random(600) < share, truth, rng.choice(labels, 600))
                columns = {
                    "utterance": [f"made/{place}" for place in range(600)],
                    "corpus": "made",
                    "speaker": [f"made/s{place % 12}" for place in range(600)],
                }
                table = pd.DataFrame({**columns, "emotion": truth, "answer": answers})
                where = run if test == "test" else run / slug_of(NOISE)
                where.mkdir(parents=True)
                Predictions(table, np.full((600, 3), 1 / 3), labels).write(where / "predictions.csv")
                known = {"model": "fin", "parameters": 1, "protocol": "speaker", "parts": {}, "uar": share}
                write_json(where / "result.json", {**known, "labels": list(labels), "n_utterances": 600})
                scores[test] = {"uar": float(recall_score(truth, answers, average="macro"))}
            row = {"name": arm, "label": run.name, "folder": run.name, "seed": seed}
            rows.append({**row, "by_part": {"test": scores["test"]}, "conditions": {NOISE: scores[NOISE]}})
    return rows


def test_the_sweep_sets_each_arm_against_the_frozen_one(tmp_path: Path) -> None:
    arms = runs()
    assert {its.recipe.frozen_epochs + its.recipe.finetuned_epochs for its in arms.values()} == {36}
    assert {its.options.pretraining for its in arms.values()} == {
        "imitation",
        "permuted",
        "none",
        "closed_form",
    }
    rows = made_up(tmp_path, {"bands": 0.8, "frozen": 0.5, "learned": 0.5}, (0, 1, 2))
    found = conclude(tmp_path, rows)
    uar = {(row["name"], row["seed"]): row for row in rows}
    by = {(its["arm"], its["test"]): its for its in found.facts["differences"]}
    assert set(by) == {(arm, test) for arm in ("bands", "learned") for test in ("test", NOISE)}
    for (arm, test), its in by.items():
        scores = [
            [(row["by_part"]["test"] if test == "test" else row["conditions"][test])["uar"] for row in pair]
            for pair in ((uar[arm, seed], uar["frozen", seed]) for seed in (0, 1, 2))
        ]
        assert its["by"] == pytest.approx(np.mean([better - worse for better, worse in scores]), abs=1e-3)
        assert its["n_runs"] == 3 and its["p_corrected"] >= its["p"]
    said = " ".join(found.answers)
    assert "bands is above frozen on test" in said and f"bands is above frozen on {NOISE}" in said
    assert "learned is" not in said and "2 of 4 differences from frozen aren't settled" in said
    assert (tmp_path / "arms.png").stat().st_size > 5_000
