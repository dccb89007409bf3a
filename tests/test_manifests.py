"""What each known corpus should hold; oracles: the corpora's published counts, and real corpora."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

from data_manifests import read_corpus
from data_manifests.labels import EMOTIONS
from data_manifests.manifest import COLUMNS, MANIFESTS, published_folds, read_manifest, write_manifest
from data_manifests.originals import build_manifest
from pipelines.manifests import ManifestsConfig, main


@pytest.mark.parametrize(
    ("name", "n_rows", "n_speakers", "n_sentences"),
    [
        *[("ravdess", 24 * 60, 24, 2), ("crema_d", 7442, 91, 12), ("savee", 4 * 120, 4, 87)],
        *[("tess", 2 * 200 * 7, 2, 200), ("esd", 20 * 5 * 350, 20, 700)],
    ],
)
def test_manifests_have_the_published_counts(name, n_rows, n_speakers, n_sentences):
    rows = read_manifest(name)
    assert tuple(rows[0]) == COLUMNS
    assert [row["id"] for row in rows] == sorted({row["id"] for row in rows})
    assert len(rows) == n_rows == len({row["path"] for row in rows})
    assert len({row["speaker"] for row in rows}) == n_speakers
    assert len({row["sentence"] for row in rows}) == n_sentences
    assert {row["emotion"] for row in rows} <= set(EMOTIONS)


def test_manifests_have_the_published_counts_of_emotions():
    counts = {name: Counter(row["emotion"] for row in read_manifest(name)) for name in MANIFESTS}
    assert counts["ravdess"] == {emotion: 96 if emotion == "neutral" else 192 for emotion in EMOTIONS}
    six = ("angry", "disgust", "fear", "happy", "sad")
    assert counts["crema_d"] == {**dict.fromkeys(six, 1271), "neutral": 1087}
    assert counts["savee"] == {**dict.fromkeys((*six, "surprise"), 60), "neutral": 120}
    assert counts["tess"] == dict.fromkeys((*six, "surprise", "neutral"), 400)
    assert counts["esd"] == dict.fromkeys(("angry", "happy", "neutral", "sad", "surprise"), 7000)
    assert Counter(row["part"] for row in read_manifest("esd")) == {
        **{"train": 30_000, "validation": 2_000, "test": 3_000},
    }


def test_the_known_byte_identical_pairs_and_no_others():
    pairs = set()
    for name in ("ravdess", "crema_d", "savee", "tess"):
        groups: dict[str, list[str]] = {}
        for row in read_manifest(name):
            groups.setdefault(row["sha256"], []).append(row["id"])
        pairs |= {tuple(group) for group in groups.values() if len(group) > 1}
    assert pairs == {
        ("03-01-03-01-02-01-07", "03-01-03-01-02-02-07"),
        ("1006_TIE_HAP_XX", "1006_TIE_NEU_XX"),
        ("1013_WSI_DIS_XX", "1013_WSI_SAD_XX"),
        ("1017_IWW_ANG_XX", "1017_IWW_FEA_XX"),
    }


def test_an_unknown_manifest_lists_the_known_ones():
    with pytest.raises(ValueError, match="'emodb' has no manifest: choose one of crema_d, esd"):
        read_manifest("emodb")


def test_the_esd_manifest_follows_from_the_names(tmp_path):
    write_manifest(build_manifest("esd", tmp_path), tmp_path / "esd.csv")
    committed = Path(__file__).parent.parent / "data_manifests" / "esd.csv"
    assert (tmp_path / "esd.csv").read_bytes() == committed.read_bytes()


def test_rebuilding_says_what_it_lacks(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"ravdess\.csv does not exist: give the folder"):
        main(ManifestsConfig(originals=tmp_path, out=tmp_path))
    with pytest.raises(FileNotFoundError, match="is no folder: create it"):
        main(ManifestsConfig(originals=tmp_path, out=tmp_path / "nowhere"))
    (tmp_path / "tess.csv").write_text("path,n_bytes\nOAF_angry/strange.wav,1\n")
    with pytest.raises(ValueError, match=r"OAF_angry/strange\.wav is no tess recording"):
        build_manifest("tess", tmp_path)


def test_published_folds_give_every_speaker_one_fold():
    folds = published_folds()
    assert list(folds) == [*(f"ravdess:{i}" for i in range(1, 7)), *(f"savee:{i}" for i in range(1, 5))]
    for corpus in ("ravdess", "savee"):
        speakers = [speaker for name in folds if name.startswith(corpus) for speaker in folds[name]]
        assert sorted(speakers) == sorted({(corpus, row["speaker"]) for row in read_manifest(corpus)})


# real corpora


@pytest.mark.corpora
def test_rebuilding_gives_the_committed_manifests(corpora, tmp_path):
    main(ManifestsConfig(originals=corpora / "originals", out=tmp_path))
    assert {path.stem for path in tmp_path.iterdir()} == set(MANIFESTS)
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (Path(__file__).parent.parent / "data_manifests" / path.name).read_bytes()


@pytest.mark.corpora
@pytest.mark.parametrize(
    ("name", "n_utterances", "n_missing"),
    [("ravdess", 1440, 0), ("tess", 1400, 1400), ("savee", 480, 0), ("esd", 118, 34_882)],
)
def test_real_corpora_are_read_whole(corpora, name, n_utterances, n_missing):
    listing = read_corpus(name, corpora / name.upper())
    on_disk = {
        path.relative_to(listing.root).as_posix() for path in listing.root.rglob("*") if path.is_file()
    }
    assert {utterance.path for utterance in listing.utterances} == on_disk
    assert (len(listing.utterances), len(listing.missing)) == (n_utterances, n_missing)
    manifest = {row["id"]: row for row in read_manifest(name)}
    for utterance in listing.utterances:
        row = manifest[utterance.id]
        assert {column: getattr(utterance, column) for column in COLUMNS[2:7]} == {
            c: row[c] for c in COLUMNS[2:7]
        }
    pair = ("Actor_07/03-01-03-01-02-01-07.flac", "Actor_07/03-01-03-01-02-02-07.flac")
    assert listing.duplicates == ((pair,) if name == "ravdess" else ())


@pytest.mark.corpora
def test_what_is_missing_of_the_real_tess_is_every_other_word(corpora):
    listing = read_corpus("tess", corpora / "TESS")
    with (corpora / "originals" / "tess.csv").open(newline="") as file:
        originals = {row["path"] for row in csv.DictReader(file)}
    here = {
        path.relative_to(corpora / "TESS").with_suffix(".wav").as_posix() for path in corpora.glob("TESS/*/*")
    }
    assert set(listing.missing) == originals - here
    words = {path.split("_")[-2] for path in originals - here}
    assert listing.summary()[1] == f"  missing: 100 whole sentences (1400 files): {', '.join(sorted(words))}"
