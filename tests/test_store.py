"""The store against plain h5py and plain NumPy; and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import make_recordings

from data_manifests.manifest import Utterance
from fins.audio import HOP, WINDOW
from fins.data.store import Recording, Store, StoreError, join_stores, write_store
from fins.data.verification import verify
from fins.features import FEATURES, STORED


def test_plain_h5py_reads_it_as_documented(small_store: Path) -> None:
    recordings = make_recordings(64)
    with h5py.File(small_store) as file:
        assert {"schema", "sample_rate", "window", "hop", "complete"} <= set(file.attrs)
        ids = file["utterances/id"].asstr()[:]
        assert list(ids) == [recording.utterance.id for recording in recordings]
        row = 0
        for number, recording in enumerate(recordings):
            n = 1 + (len(recording.signal) - WINDOW) // HOP
            for k in range(n):
                start = file["windows/start"][row + k]
                window = file["signal"][start : start + WINDOW]
                np.testing.assert_array_equal(window, recording.signal[k * HOP : k * HOP + WINDOW])
                assert file["windows/utterance"][row + k] == number
            row += n
        assert row == len(file["windows/start"])
        assert file["signal"].dtype == np.int16 and file["labels/mfcc"].dtype == np.float32


def test_labels_are_features_of_the_stored_samples(small_store: Path) -> None:
    with Store(small_store) as store:
        for window in (0, 17, store.n_windows - 1):
            samples = store.windows(window, window + 1)[0]
            for name in STORED:
                truth = FEATURES[name].oracle(samples)
                label = store.labels(name, window, window + 1)[0]
                np.testing.assert_allclose(label, truth, atol=1e-4 * max(1, np.abs(truth).max()))


def test_the_reader_gives_what_was_written(small_store: Path) -> None:
    recordings = make_recordings(64)
    with Store(small_store) as store:
        assert store.n_utterances == 64
        windows = np.concatenate([store.windows(block.start, block.stop) for block in store.blocks(37)])
        assert windows.shape == (store.n_windows, WINDOW) and windows.dtype == np.float32
        for row, recording in enumerate(recordings):
            np.testing.assert_array_equal(store.signal(row), recording.signal)
            mine = windows[store.window_slice(row)]
            np.testing.assert_array_equal(mine[1], recording.signal[HOP : HOP + WINDOW] / np.float32(32_768))
            assert store.utterances["speaker"][row] == recording.utterance.speaker


def test_joining_parts_gives_the_store_that_one_go_gives(tmp_path: Path, small_store: Path) -> None:
    recordings = make_recordings(64)
    parts = []
    for number, (start, stop) in enumerate([(0, 1), (1, 30), (30, 64)]):
        parts.append(tmp_path / f"{number}.h5")
        write_store(parts[-1], recordings[start:stop])
    join_stores(tmp_path / "joined.h5", parts)
    with h5py.File(small_store) as one, h5py.File(tmp_path / "joined.h5") as joined:
        names: list[str] = []
        one.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        assert len(names) == 1 + 11 + 1 + 4 - 1 + 2 + 5
        for name in names:
            np.testing.assert_array_equal(one[name][:], joined[name][:])


def test_a_short_signal_is_padded_to_one_window(tmp_path: Path) -> None:
    utterance = Utterance("a", "a.wav", "made", "s", "calm", "")
    write_store(tmp_path / "short.h5", [Recording(utterance, np.full(100, 7, np.int16), "")])
    with Store(tmp_path / "short.h5") as store:
        assert store.n_windows == 1
        window = store.windows(0, 1)[0] * 32_768
        assert (window[:100] == 7).all() and not window[100:].any()


def spoil(path: Path, how: str) -> None:
    """Make a whole store unusable in one way."""
    if how == "missing":
        path.unlink()
    elif how == "text":
        path.write_text("a,b\n1,2\n")
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "truncated":
        content = path.read_bytes()
        path.write_bytes(content[: len(content) * 2 // 3])
    elif how == "not a store":
        path.unlink()
        with h5py.File(path, "w") as file:
            file["data"] = np.zeros(3)
    else:
        with h5py.File(path, "r+") as file:
            if how == "unfinished":
                file.attrs["complete"] = False
            elif how == "schema":
                file.attrs["schema"] = 99
            elif how == "grid":
                file.attrs["hop"] = 256
            elif how == "table":
                del file["labels/mel"]
            elif how == "lengths":
                rows = file["labels/rms"][:-1]
                del file["labels/rms"]
                file["labels/rms"] = rows


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("missing", "is missing"),
        ("text", "no HDF5 file"),
        ("empty", "no HDF5 file"),
        ("truncated", "is truncated"),
        ("not a store", "no store"),
        ("unfinished", "is unfinished"),
        ("schema", "has the schema 99"),
        ("grid", "another grid"),
        ("table", "lacks labels/mel"),
        ("lengths", "unequal lengths"),
    ],
)
def test_what_is_no_whole_store_is_refused_in_one_sentence(tmp_path: Path, how: str, reason: str) -> None:
    path = tmp_path / "store.h5"
    write_store(path, make_recordings(4))
    Store(path).close()
    spoil(path, how)
    with pytest.raises(StoreError, match=reason) as caught:
        Store(path)
    assert "pipelines.prepare" in str(caught.value) and "\n" not in str(caught.value)


def test_damaged_bytes_are_refused_in_one_sentence_or_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "store.h5"
    write_store(path, make_recordings(4))
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for place in rng.integers(0, 30_000, 20):  # where HDF5 keeps most of its structure
            damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        try:
            Store(path).close()
        except StoreError:
            refused += 1
    assert refused > 50


def test_every_changed_bit_is_noticed(tmp_path: Path) -> None:
    """Bits anywhere, and pages of zeros: reading all says so, unless nothing that is read changed."""
    path = tmp_path / "store.h5"
    write_store(path, make_recordings(4))
    whole = path.read_bytes()
    with Store(path) as store:
        assert store.has_checksums and store.damaged() == []
        names = [*store.file["labels"], "signal"]
        before = {name: store.file[name if name == "signal" else f"labels/{name}"][:] for name in names}
    rng = np.random.default_rng(0)
    n_noticed = 0
    for trial in range(120):
        damaged = bytearray(whole)
        place = int(rng.integers(0, len(whole) - 4_096))
        if trial % 2:
            damaged[place] ^= 1 << trial % 8
        else:
            damaged[place : place + 4_096] = bytes(4_096)
        path.write_bytes(damaged)
        try:
            with Store(path) as store:
                noticed = bool(store.damaged())
                if not noticed:
                    for name, values in before.items():
                        dataset = store.file[name if name == "signal" else f"labels/{name}"]
                        np.testing.assert_array_equal(dataset[:], values)
        except StoreError:
            noticed = True
        n_noticed += noticed
    assert n_noticed > 80


def test_a_damaged_store_names_the_dataset(tmp_path: Path) -> None:
    path = tmp_path / "store.h5"
    write_store(path, make_recordings(4))
    with Store(path) as store:
        chunk = store.file["signal"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + 1_000] ^= 4
    path.write_bytes(content)
    with Store(path) as store:
        assert store.damaged() == ["signal"]
        with pytest.raises(
            StoreError, match=r"store.h5 is damaged: signal isn't what was written; make it"
        ) as raised:
            store.signal(0)
        assert "\n" not in str(raised.value)
        with pytest.raises(StoreError, match="signal isn't what was written"):
            store.windows(0, 3)


def write_as_before(new: Path, old: Path) -> None:
    """A store as the first versions wrote it: texts of any length, nothing in chunks."""
    with h5py.File(new) as source, h5py.File(old, "w") as file:
        for name, value in source.attrs.items():
            file.attrs[name] = value.decode() if isinstance(value, bytes) else value
        for name in ("signal", "windows/start", "windows/utterance", *(f"labels/{name}" for name in STORED)):
            file[name] = source[name][:]
        for name, column in source["utterances"].items():
            if column.dtype.kind == "S":
                texts = list(column.asstr()[:])
                file.create_dataset(f"utterances/{name}", data=texts, dtype=h5py.string_dtype())
            else:
                file[f"utterances/{name}"] = column[:]


def test_a_damaged_heap_of_an_earlier_store_hangs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fins.hdf5.PATIENCE", 3.0)
    new, old = tmp_path / "new.h5", tmp_path / "old.h5"
    write_store(new, make_recordings(64))
    write_as_before(new, old)
    whole = old.read_bytes()
    heap = whole.find(b"GCOL", 4_096)
    with h5py.File(old) as file:
        column = file["utterances/id"].id.get_offset()
    for place, filling in ((heap + 694, bytes(4_096)), (column, b"\xff" * 64), (heap + 8, b"\xff" * 8)):
        damaged = bytearray(whole)
        damaged[place : place + len(filling)] = filling
        old.write_bytes(damaged[: len(whole)])
        with pytest.raises(
            StoreError, match=r"is damaged: HDF5 can't read its names and texts: make it again"
        ):
            Store(old)
    old.write_bytes(whole)
    Store(old).close()


def test_no_store_has_a_heap_that_can_hang(tmp_path: Path, small_store: Path) -> None:
    content = small_store.read_bytes()
    assert b"GCOL" not in content
    with h5py.File(small_store) as file:
        assert all(
            h5py.check_string_dtype(file[f"utterances/{name}"].dtype).length for name in ("id", "speaker")
        )


def test_a_store_of_an_earlier_version_is_read_and_said_to_carry_no_checksums(tmp_path: Path) -> None:
    new, old = tmp_path / "new.h5", tmp_path / "old.h5"
    write_store(new, make_recordings(4))
    write_as_before(new, old)
    with Store(old) as before, Store(new) as now:
        assert not before.has_checksums and before.damaged() == [] and now.has_checksums
        for name, column in now.utterances.items():
            assert list(before.utterances[name]) == list(column)
    assert [verified.describe() for verified in verify((old,))] == [
        f"{old}: carries no checksums, since an earlier version wrote it"
    ]


def test_texts_of_every_kind_come_back(tmp_path: Path) -> None:
    texts = ["", "é/ü", "日本語 " * 40, "x"]
    recordings = [
        Recording(
            replace(recording.utterance, sentence=text, speaker=text), recording.signal, recording.sha256
        )
        for recording, text in zip(make_recordings(4), texts, strict=True)
    ]
    parts = [tmp_path / f"{number}.h5" for number in range(4)]
    for part, recording in zip(parts, recordings, strict=True):
        write_store(part, [recording])
    join_stores(tmp_path / "joined.h5", parts)
    with Store(tmp_path / "joined.h5") as store:
        assert list(store.utterances["sentence"]) == list(store.utterances["speaker"]) == texts


def test_a_failure_while_writing_leaves_nothing_behind(tmp_path: Path) -> None:
    good = make_recordings(2)
    bad = Recording(good[1].utterance, np.zeros(0, np.int16), "")
    with pytest.raises(ValueError, match="non-empty int16"):
        write_store(tmp_path / "store.h5", [good[0], bad])
    assert list(tmp_path.iterdir()) == []
    write_store(tmp_path / "store.h5", good)
    with pytest.raises(StoreError):
        join_stores(tmp_path / "joined.h5", [tmp_path / "store.h5", tmp_path / "lost.h5"])
    assert [path.name for path in tmp_path.iterdir()] == ["store.h5"]
