"""How utterances are divided, by set arithmetic on rows; splits as files, read as they were written."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import data_manifests.rows
from fins.data.audit import audit, certificate, describe_audit, rows_of, verdict
from fins.data.folds import folds
from fins.data.protocols import (
    PROTOCOLS,
    Division,
    SplitProtocol,
    divide,
    get_protocol,
    protocol_of,
)
from fins.data.splits import Parts, _split_table, evenly, read_split, rows_not_trained_on, write_split
from fins.data.store import Store
from fins.data.table import UtteranceTable
from fins.tables import TableError, read_table, write_table

WORDS = ("bored", "stressed", "relaxed")


def make_rows(
    speakers: list[tuple[str, str]], emotions: tuple[str, ...] = WORDS, n_sentences: int = 3
) -> pd.DataFrame:
    """Each (corpus, speaker) says each sentence with each emotion."""
    rows = pd.DataFrame(
        [
            {
                "id": f"{speaker}-{emotion}-{sentence}",
                "corpus": corpus,
                "speaker": speaker,
                "emotion": emotion,
                "sentence": f"s{sentence}",
                "sha256": f"{corpus} {speaker} {emotion} {sentence}",
                "augmented_from": "",
            }
            for corpus, speaker in speakers
            for emotion in emotions
            for sentence in range(n_sentences)
        ]
    )
    return rows.assign(name=rows["corpus"] + "/" + rows["id"], person=rows["corpus"] + "/" + rows["speaker"])


def of_one_corpus(n: int, spelling: str = "{:02d}") -> pd.DataFrame:
    return make_rows([("made", spelling.format(number)) for number in range(n)])


def texts(rows: pd.DataFrame, parts: Parts, column: str) -> dict[str, set[str]]:
    return {part: set(rows[column].iloc[places]) for part, places in parts.items()}


@pytest.mark.parametrize("protocol", ["random", "speaker", "speaker_sentence"])
def test_any_words_are_divided(protocol: str) -> None:
    rows = of_one_corpus(9)
    parts = divide(rows, Division(protocol), seed=1)
    assert all(words == set(WORDS) for words in texts(rows, parts, "emotion").values())
    together = np.concatenate(list(parts.values()))
    assert len(together) == len(set(together))
    if protocol != "speaker_sentence":
        assert len(together) == len(rows)


@pytest.mark.parametrize("division", [Division(), Division(training_speakers=0.5), Division("random")])
def test_slashes_in_names_of_speakers_change_nothing(division: Division) -> None:
    plain, odd = of_one_corpus(20), of_one_corpus(20, "{:02d}/x")
    for seed in range(3):
        one, other = divide(plain, division, seed), divide(odd, division, seed)
        for part in one:
            np.testing.assert_array_equal(one[part], other[part])
    kinds = [folds(rows, "speaker", 5, Division(), 0) for rows in (plain, odd)]
    for one_fold, other_fold in zip(*kinds, strict=True):
        for part in one_fold.parts:
            np.testing.assert_array_equal(one_fold.parts[part], other_fold.parts[part])


def test_corpora_whose_names_run_together_with_their_speakers_are_two() -> None:
    """Speaker b/c of a, and speaker c of a/b, are both shown as a/b/c."""
    rows = make_rows([("a", "b/c"), ("a/b", "c"), ("a", "d"), ("a", "e"), ("a/b", "f"), ("a/b", "g")])
    assert rows["person"].nunique() == 5
    n_torn = 0
    for seed in range(10):
        parts = divide(rows, Division(), seed)
        assert audit(rows_of(rows, parts), never_shares=("speakers",)) == audit(rows_of(rows, parts))
        assert not [finding for finding in audit(rows_of(rows, parts)) if finding.kind == "speakers"]
        assert protocol_of(rows, parts) == "speaker"
        shown = texts(rows, parts, "person")
        n_torn += any(
            "a/b/c" in shown["train"] and "a/b/c" in shown[part] for part in shown if part != "train"
        )
    assert n_torn > 0


def test_the_seed_of_the_split_is_the_runs_unless_it_has_its_own() -> None:
    rows = of_one_corpus(12)

    def training(division: Division, seed: int) -> list[int]:
        return divide(rows, division, seed)["train"].tolist()

    assert training(Division(split_seed=5), 0) == training(Division(), 5) != training(Division(), 0)
    assert training(Division(split_seed=0), 7) == training(Division(), 0)
    one, other = (folds(rows, "random", 3, Division(split_seed=5), seed)[0].parts["test"] for seed in (0, 1))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"protocol": "sentence"}, "no protocol 'sentence': the known ones are random, speaker"),
        ({"split": Path("a.csv"), "fold": "savee:1"}, "says all: it goes without --fold"),
        ({"fold": "savee:1", "protocol": "random"}, "shares no speaker: it goes with --protocol speaker"),
        ({"test_corpus": ("a",)}, "go with the protocol corpus alone"),
        ({"training_speakers": 0.0}, "--training-speakers is a share"),
        ({"training_speakers": 1.01}, "--training-speakers is a share"),
        ({"training_speakers": float("nan")}, "--training-speakers is a share"),
        ({"split_seed": -1}, "--split-seed is at least 0"),
    ],
)
def test_divisions_that_cannot_be_meant_are_refused(options: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Division(**options)


def test_what_cannot_be_divided_is_said() -> None:
    rows = of_one_corpus(9)
    with pytest.raises(ValueError, match="no utterance is hapy: the stores have bored, relaxed, stressed"):
        divide(rows, Division(emotions=("hapy", "bored")))
    with pytest.raises(ValueError, match="but one emotion: there is nothing to tell apart"):
        divide(rows, Division(emotions=("bored",)))
    parts = divide(rows, Division(emotions=("bored", "relaxed")))
    assert texts(rows, parts, "emotion")["train"] == {"bored", "relaxed"}


@pytest.mark.parametrize(("kind", "n_folds"), [("random", 2), ("random", 1)])
def test_random_folds_are_three_or_more(kind: str, n_folds: int) -> None:
    with pytest.raises(ValueError, match="random folds are at least 3: one tests, one validates"):
        folds(of_one_corpus(9), kind, n_folds, Division())  # type: ignore[arg-type]


def test_folds_of_what_few_speakers_say_are_refused_before_there_is_work() -> None:
    rows = make_rows([("made", "a"), ("made", "b"), ("made", "c")])
    rows.loc[rows["speaker"] == "c", "emotion"] = "calm"
    with pytest.raises(ValueError, match="none is left for test"):
        folds(rows, "speaker", 3, Division(emotions=("bored", "relaxed")))


def test_a_split_is_called_by_what_its_test_part_shares(tmp_path: Path) -> None:
    rows = pd.concat([of_one_corpus(9), make_rows([("other", "x")])], ignore_index=True)
    divisions = [Division(protocol) for protocol in ("random", "speaker", "speaker_sentence")]
    for division in (*divisions, Division("corpus", test_corpus=("other",))):
        parts = divide(rows, division)
        write_split(tmp_path / "split.csv", rows, parts)
        again = divide(rows, Division(split=tmp_path / "split.csv"))
        assert protocol_of(rows, again) == division.protocol
    parts = divide(rows, Division("speaker"))
    for places in (parts["test"], np.arange(len(rows))):  # their sentences aren't known
        unknown = rows.copy()
        unknown.loc[places, "sentence"] = ""
        assert protocol_of(unknown, parts) == "speaker"


def test_shared_sentences_leak_where_a_protocol_promises_that_there_are_none() -> None:
    rows = of_one_corpus(9)
    parts = divide(rows, Division("speaker_sentence"))
    promise = PROTOCOLS["speaker_sentence"].never_shares
    looked_at = rows_of(rows, parts)
    assert audit(looked_at, never_shares=promise) == []  # train and validation may share theirs
    assert {finding.kind for finding in audit(looked_at)} == {"sentences"}
    tested = looked_at["sentence"][looked_at["part"] == "test"].iloc[0]
    training = looked_at["speaker"][looked_at["part"] == "train"].iloc[0]
    moved = (looked_at["sentence"] == tested) & (looked_at["speaker"] == training)
    assert set(looked_at["part"][moved]) == {"unused"}
    looked_at.loc[moved, "part"] = "train"
    for protocol, leaks in (("speaker", []), ("random", []), ("speaker_sentence", ["sentences"])):
        promise = PROTOCOLS[protocol].never_shares
        result = certificate(looked_at, audit(looked_at, never_shares=promise), False, promise)
        assert [kind for kind in result["leaks"] if kind == "sentences"] == leaks == result["broken"]
        page = describe_audit(result, "x")
        assert ("sentences of the test part in other parts" in page) == (protocol == "speaker_sentence")
    assert verdict(result) == "It leaks: sentences of the test part in other parts."


def test_shared_corpora_leak_where_a_protocol_promises_that_there_are_none() -> None:
    rows = make_rows([("a", "1"), ("a", "2"), ("a", "3"), ("b", "1")])
    promise = PROTOCOLS["corpus"].never_shares
    parts = divide(rows, Division("corpus", test_corpus=("b",)))
    assert "corpora" not in {finding.kind for finding in audit(rows_of(rows, parts), never_shares=promise)}
    parts = divide(rows, Division("speaker"))
    (finding,) = (row for row in audit(rows_of(rows, parts), never_shares=promise) if row.kind == "corpora")
    assert finding.examples == ["a in train and validation and test"]
    assert "corpora" not in {row.kind for row in audit(rows_of(rows, parts))}


def by_first_letter(originals: pd.DataFrame, rng: np.random.Generator, division: Division) -> list[str]:
    """A protocol of one's own: who is called by an a tests, by a b validates."""
    named = {"a": "test", "b": "validation"}
    return [named.get(speaker[0], "train") for speaker in originals["speaker"]]


def too_short(originals: pd.DataFrame, rng: np.random.Generator, division: Division) -> list[str]:
    return ["train"]


def with_another_word(originals: pd.DataFrame, rng: np.random.Generator, division: Division) -> list[str]:
    return ["exam"] * len(originals)


PROMISING = SplitProtocol(by_first_letter, never_shares=("speakers",))


def test_a_protocol_of_ones_own() -> None:
    rows = make_rows([("made", name) for name in ("ann", "bob", "cleo", "dan")])
    copies = rows.assign(id=rows["id"] + "+noise", name=rows["name"] + "+noise", augmented_from=rows["id"])
    rows = pd.concat([copies, rows], ignore_index=True)
    for name, promise in (("by_first_letter", ()), ("PROMISING", ("speakers",))):
        division = Division(f"{__name__}:{name}")
        parts = divide(rows, division)
        assert texts(rows, parts, "speaker") == {
            "train": {"cleo", "dan"},
            "validation": {"bob"},
            "test": {"ann"},
        }
        counts = Counter(rows["augmented_from"].iloc[parts["train"]] != "")
        assert counts[True] == counts[False] == 18 and len(parts["test"]) == 9
        assert division.never_shares() == promise
    for name, reason in (
        (f"{__name__}:too_short", "has 1 for 36 rows: it gives each row one of train"),
        (f"{__name__}:with_another_word", "has exam: it gives each row one of train"),
        (f"{__name__}:WORDS", "is no function"),
        (f"{__name__}:nobody", "can't be imported"),
        ("no_such_module:f", "can't be imported"),
    ):
        with pytest.raises(ValueError, match=reason):
            divide(rows, Division(name))
    with pytest.raises(ValueError, match="can't promise 'voices': it can speakers, sentences, corpora"):
        SplitProtocol(by_first_letter, never_shares=("voices",))
    assert get_protocol("random") is PROTOCOLS["random"]


# ---- files -------------------------------------------------------------------------------------------------

cells = st.one_of(
    st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=6),
    st.sampled_from(["NA", "nan", "0011", "1e3", "", "None", '"', 'a"b', "a,b", "x\ny", "\r", "\u2028", "é"]),
).filter(lambda cell: "," not in cell or len(cell.splitlines()) < 2)  # such a cell may look like rows


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(cells, cells, cells), max_size=8))
def test_a_table_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, rows: list) -> None:
    path = tmp_path_factory.mktemp("tables") / "table.csv"
    table = pd.DataFrame(rows, columns=["one", "two", "three"], dtype=object)
    write_table(path, table)
    again = read_table(path)
    assert list(again.columns) == ["one", "two", "three"]
    assert list(again.itertuples(index=False, name=None)) == rows


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"a,b\n1,2\n3\n", "line 3 has 1 cells, the header 2"),
        (b"a,b\n1,2,3\n", "line 2 has 3 cells, the header 2"),
        (b"a,b\n\n1,2\n", "line 2 has 0 cells, the header 2"),
        (b'a,b\n"1,2\n3,4\n', "is damaged"),
        (b'a,b\n"1"x,2\n', "is damaged"),
        (b'a,b\n1x"y,2\n', "a quote in line 2 isn't doubled"),
        (b"a,a\n1,2\n", "two columns of one name"),
        (b"a,b\n\xff,2\n", "line 2: it is no CSV in UTF-8"),
        (b"a,b\n1,2\n3,\0\n", "line 3 has a NUL"),
        (b'a,b,c\n1,"2,3\n4,5,6\n7,8",9\n', "a quote in line 2 takes other rows into its cell"),
        (b'a,b,c\n"1\n2",3,4\n5,6\n', "line 4 has 2 cells, the header 3"),
    ],
)
def test_a_damaged_table_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(TableError, match=reason):
        read_table(path)


def test_copies_train_beside_originals_that_a_split_by_hand_names_alone(tmp_path: Path) -> None:
    originals = of_one_corpus(6)
    copies = originals.assign(
        id=originals["id"] + "+noise", name=originals["name"] + "+noise", augmented_from=originals["id"]
    )
    rows = pd.concat([originals, copies], ignore_index=True)
    parts = divide(originals, Division("speaker"), 0)
    write_split(tmp_path / "split.csv", originals, parts)
    found = divide(rows, Division(split=tmp_path / "split.csv"))
    n = len(originals)
    np.testing.assert_array_equal(
        found["train"], np.sort(np.concatenate([parts["train"], parts["train"] + n]))
    )
    for part in ("validation", "test"):
        np.testing.assert_array_equal(np.sort(found[part]), np.sort(parts[part]))


def test_a_damaged_split_is_to_be_made_again(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    path.write_text('utterance,part\n"made/1,train\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"split\.csv.*: make the split again"):
        _split_table(path)


@pytest.mark.parametrize("quote", ["minimal", "all"])
def test_no_stray_quote_makes_a_row_vanish(tmp_path: Path, quote: Literal["minimal", "all"]) -> None:
    """One quote, or two, put anywhere: the table is refused, or has as many rows as lines."""
    rows = [(f"s/{n}", 'a "b"' if n % 3 == 0 else "x, y", f"{n:064x}") for n in range(6)]
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL if quote == "all" else csv.QUOTE_MINIMAL)
    writer.writerows([("utterance", "speaker", "sha256"), *rows])
    rng = np.random.default_rng(0)
    path = tmp_path / "table.csv"
    n_refused = 0
    for trial in range(3_000):
        damaged = text.getvalue()
        for place in sorted(rng.integers(0, len(damaged), 1 + trial % 2), reverse=True):
            damaged = f'{damaged[:place]}"{damaged[place:]}'
        path.write_text(damaged, encoding="utf-8", newline="")
        try:
            assert len(read_table(path)) == len(rows)
        except TableError:
            n_refused += 1
    assert n_refused > 2_000


def test_only_plain_files_of_a_limited_size_are_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    for path in (tmp_path / "pipe.csv", tmp_path, Path("/dev/zero")):
        with pytest.raises(TableError, match="is no plain file"):
            read_table(path)
    (tmp_path / "link.csv").symlink_to(tmp_path / "table.csv")
    (tmp_path / "table.csv").write_text("a\n1\n")
    assert len(read_table(tmp_path / "link.csv")) == 1
    monkeypatch.setattr(data_manifests.rows, "MOST_BYTES", 3)
    with pytest.raises(TableError, match="larger than 0 MB"):
        read_table(tmp_path / "table.csv")


def test_a_table_of_a_spreadsheet_is_read(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes('\ufeff"a","b"\r\n"0011","NA"\r\n'.encode())
    assert read_table(tmp_path / "table.csv").to_dict("list") == {"a": ["0011"], "b": ["NA"]}


def test_odd_names_come_back_from_a_split(tmp_path: Path) -> None:
    rows = make_rows([("NA", name) for name in ("0011", "nan", 'a "b", c', "é/ü\u2028", "x\ny")])
    parts = divide(rows, Division())
    write_split(tmp_path / "split.csv", rows, parts)
    for part, places in read_split(tmp_path / "split.csv", rows).items():
        np.testing.assert_array_equal(places, parts[part])


def test_recordings_of_one_name_in_two_stores_are_told_apart_in_a_split(tmp_path: Path) -> None:
    one = of_one_corpus(6)
    other = one.assign(sha256=one["sha256"] + " of another store")
    rows = pd.concat([one, other], ignore_index=True)
    parts = divide(rows, Division("random"))
    write_split(tmp_path / "split.csv", rows, parts)
    for part, places in read_split(tmp_path / "split.csv", rows).items():
        np.testing.assert_array_equal(places, parts[part])


def test_what_a_run_never_saw(tmp_path: Path) -> None:
    rows = of_one_corpus(9)
    parts = divide(rows, Division())
    path = tmp_path / "split.csv"
    write_split(path, rows, parts)
    n_of_parts = {part: len(places) for part, places in parts.items()}
    unseen = rows_not_trained_on(path, n_of_parts, rows)
    np.testing.assert_array_equal(unseen.rows, parts["test"])
    assert (unseen.n_seen, unseen.protocol) == (len(rows) - len(parts["test"]), "speaker")
    other = make_rows([("made/0", "x"), ("made/0", "y")])
    assert rows_not_trained_on(path, n_of_parts, other).protocol == "corpus"
    again = other.assign(sha256=rows["sha256"].iloc[parts["train"][0]])
    with pytest.raises(ValueError, match="learned from every utterance"):
        rows_not_trained_on(path, n_of_parts, again)
    with pytest.raises(ValueError, match="isn't whole"):
        rows_not_trained_on(path, {**n_of_parts, "test": 1}, rows)


def test_evenly_takes_the_first_and_the_last() -> None:
    places = np.arange(100, 200)
    assert evenly(places, 4).tolist() == [100, 133, 166, 199]
    assert evenly(places, 500) is places


# ---- the table ---------------------------------------------------------------------------------------------


def test_the_table_has_what_its_stores_have(small_store: Path, other_store: Path) -> None:
    with UtteranceTable([small_store, other_store]) as table, Store(other_store) as store:
        assert len(table) == len(table.rows) == 80 and list(table.rows.index) == list(range(80))
        row = table.rows.iloc[70]
        assert (row["store"], row["row"], row["corpus"]) == (1, 6, "other")
        assert row["name"] == f"other/{row['id']}" and row["person"] == f"other/{row['speaker']}"
        assert row["n_samples"] == store.utterances["n_samples"][6] == len(table.signal(70))
        np.testing.assert_array_equal(table.signal(70), store.signal(6) / np.float32(32_768))
        assert table.stored_features(70, ["rms", "mfcc"]).shape == (row["n_windows"], 21)
    with pytest.raises(ValueError, match="given twice"):
        UtteranceTable([small_store, small_store])


def test_workers_that_prepare_stores_need_no_pandas() -> None:
    code = "import fins.data.preparation, sys; print('pandas' in sys.modules, 'torch' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.split() == ["False", "False"]
