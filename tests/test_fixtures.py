"""What released versions wrote loads, is what was written, and gives the answers that it gave then."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fins.data.store import Store, digest_of, to_amplitude
from fins.data.verification import verify
from fins.features import FEATURES, STORED
from fins.networks import load_fin
from fins.runs import CHECKPOINT, RESULT, read_config, read_json
from fins.tensors import load_tensors
from ser_heads.evaluation.predictions import read_predictions, scores_of
from ser_heads.models import load

FIXTURES = Path(__file__).parent / "fixtures"
STORE, FIN, CLASSIFIER = Path("store.h5"), Path("fin"), Path("classifier")


def answers_of(folder: Path) -> dict[str, Any]:
    """What a version's store, FIN and classifier give."""
    fin, classifier = load_fin(folder / FIN).eval(), load(folder / CLASSIFIER).eval()
    with Store(folder / STORE) as store, torch.no_grad():
        signals = [store.signal(row) for row in range(store.n_utterances)]
        windows = store.windows(0, store.n_windows)
        logits = [classifier(torch.from_numpy(to_amplitude(signal))[None])[0].tolist() for signal in signals]
        return {
            "speakers": list(store.utterances["speaker"]),
            "emotions": list(store.utterances["emotion"]),
            "signals": [digest_of(signal) for signal in signals],
            "labels": {name: store.labels(name, 0, store.n_windows).sum(0).tolist() for name in STORED},
            "fin": fin(torch.from_numpy(windows)).tolist(),
            "logits": logits,
        }


@pytest.fixture(params=sorted(path.name for path in FIXTURES.iterdir() if (path / "answers.json").exists()))
def version(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of what a version wrote."""
    return Path(shutil.copytree(FIXTURES / request.param, tmp_path / request.param))


def test_answers_are_those_of_then(version: Path) -> None:
    then, now = json.loads((version / "answers.json").read_text()), answers_of(version)
    assert {key: now[key] for key in ("speakers", "emotions", "signals")} == {
        key: then[key] for key in ("speakers", "emotions", "signals")
    }
    for name in STORED:
        np.testing.assert_allclose(now["labels"][name], then["labels"][name], rtol=1e-6)
    np.testing.assert_allclose(now["fin"], then["fin"], atol=1e-6)
    np.testing.assert_allclose(now["logits"], then["logits"], atol=1e-5)
    with Store(version / STORE) as store:  # the store's labels against closed forms of today
        windows = store.windows(0, store.n_windows)
        for name in STORED:
            truth = np.stack([FEATURES[name].oracle(window) for window in windows])
            labels = store.labels(name, 0, store.n_windows)
            np.testing.assert_allclose(labels, truth, atol=1e-4 * max(1, np.abs(truth).max()))


def test_all_of_it_is_what_was_written(version: Path) -> None:
    looked_at = verify((version / STORE, version / FIN, version / CLASSIFIER))
    assert [(verified.path.name, verified.n > 0, verified.faults) for verified in looked_at] == [
        (str(name), True, ()) for name in (STORE, FIN, CLASSIFIER)
    ]


def test_runs_are_read_to_their_scores_and_states(version: Path) -> None:
    for run in (FIN, CLASSIFIER):
        assert read_config(version / run)["seed"] == 0
    tensors, header = load_tensors(version / FIN / CHECKPOINT)
    assert tensors and header
    scores, result = (
        scores_of(read_predictions(version / CLASSIFIER)),
        read_json(version / CLASSIFIER / RESULT),
    )
    assert scores["uar"] == result["uar"] and scores["confusion"] == result["confusion"]


def test_the_fixtures_are_small() -> None:
    for folder in FIXTURES.iterdir():
        assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 200_000


EARLIEST = FIXTURES / "0.1.0"  # its code wrote it, of the sounds of make_fixtures.py


def test_the_first_version_s_store_is_read_and_said_to_carry_no_checksums(tmp_path: Path) -> None:
    store = Path(shutil.copy(EARLIEST / STORE, tmp_path))
    (verified,) = verify((store,))
    assert not verified.faults and verified.n == 0
    with Store(store) as earlier, Store(FIXTURES / "0.2.0" / STORE) as later:
        assert list(earlier.utterances["emotion"]) == list(later.utterances["emotion"])
        assert list(earlier.utterances["speaker"]) == list(later.utterances["speaker"])
        for row in range(later.n_utterances):
            np.testing.assert_array_equal(earlier.signal(row), later.signal(row))
        for name in STORED:
            ours, theirs = (each.labels(name, 0, each.n_windows) for each in (earlier, later))
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5 * np.abs(theirs).max())


def test_the_first_version_s_fin_answers_as_then_and_its_classifier_is_refused(tmp_path: Path) -> None:
    earliest = Path(shutil.copytree(EARLIEST, tmp_path / "0.1.0"))
    then = json.loads((earliest / "then.json").read_text())
    fin = load_fin(earliest / FIN).eval()
    with Store(earliest / STORE) as store, torch.no_grad():
        answers = fin(torch.from_numpy(store.windows(0, store.n_windows)))
    np.testing.assert_allclose(answers, then["fin"], atol=1e-6)
    with pytest.raises(ValueError, match=r"written by version 0\.1, whose classifiers .*: make it again"):
        load(earliest / CLASSIFIER)
