"""A kept index: what it finds, how it changes, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from classmark.errors import IndexCorrupt, IndexIncompatible, NotFound, OutputBusy, UsageError
from classmark.neighbours import (
    Entry,
    Index,
    add_papers,
    build_index,
    remove_papers,
)
from classmark.neighbours.index import MANIFEST_FILE
from classmark.neighbours.rows import MOST_EXACT_ROWS, Bits, Floats, decode, quantise
from classmark.wire import ModelRef

MODEL = ModelRef("fast", "9.9", "a" * 64)
OTHER = ModelRef("fast", "9.8", "b" * 64)


def vectors_of(n: int, seed: int = 0) -> Floats:
    """Vectors around few middles, as those of papers are."""
    random = np.random.default_rng(seed)
    middles = random.normal(size=(60, 128))
    owner = random.integers(0, 60, n)
    return np.rint(100 * (middles[owner] + random.normal(size=(n, 128)))).astype(np.float32)


def entries_of(n: int) -> list[Entry]:
    return [
        Entry(f"p{i}", 2000 + i % 20, ("cs.LG", "stat.ML")[: i % 3], f"Title {i}") for i in range(n)
    ]


def built(path: Path, n: int = 50) -> Index:
    build_index(path, [(entries_of(n), vectors_of(n))], MODEL)
    return Index.open(path)


def content_of(index: Index) -> dict[str, object]:
    rows = np.array(index.arrays.rows)
    return {
        index.id_of(i): (
            rows[i].tobytes(),
            int(index.years[i]),
            index.categories_of(i),
            index.title_of(i),
        )
        for i in range(len(index))
    }


def brute_force(vectors: Floats, queries: Floats, k: int) -> NDArray[np.intp]:
    def unit(v: Floats) -> Floats:
        return v / np.linalg.norm(v, axis=1, keepdims=True)

    return np.argsort(-(unit(queries) @ unit(vectors).T), axis=1)[:, :k]


def test_a_paper_of_the_index_is_most_similar_to_itself_with_all_that_is_known_of_it(
    tmp_path: Path,
) -> None:
    index = built(tmp_path / "index")
    [first, *_] = index.similar(vectors_of(50)[7:8], 3)[0]
    assert (first.id, first.year, first.title) == ("p7", 2007, "Title 7")
    assert first.categories == ("cs.LG",)
    assert first.similarity == pytest.approx(1, abs=0.001)


def test_an_index_without_titles_publishes_none(tmp_path: Path) -> None:
    entries = [replace(entry, title="", year=0) for entry in entries_of(3)]
    build_index(tmp_path / "index", [(entries, vectors_of(3))], MODEL)
    index = Index.open(tmp_path / "index")
    found = index.similar(vectors_of(3)[:1], 1)[0][0].to_dict()
    assert "title" not in found
    assert found["year"] is None
    assert not index.manifest.has_titles


def test_a_text_without_known_words_is_similar_to_nothing(tmp_path: Path) -> None:
    index = built(tmp_path / "index")
    assert index.similar(np.zeros((1, 128), dtype=np.float32), 3) == [()]


def test_more_neighbours_than_papers_leave_places_empty(tmp_path: Path) -> None:
    found = built(tmp_path / "index", 3).search(vectors_of(3), 5)
    assert found.rows.shape == (3, 5)
    assert (found.rows[:, 3:] == -1).all()
    assert (found.similarity[:, 3:] == 0).all()


@pytest.mark.parametrize(("bits", "least"), [(8, 0.97), (4, 0.8), (2, 0.5)])
def test_an_index_with_lists_finds_most_of_what_brute_force_finds(
    tmp_path: Path, bits: Bits, least: float
) -> None:
    n = MOST_EXACT_ROWS + 1000
    vectors, queries = vectors_of(n), vectors_of(40, seed=0)[:40] + 10
    build_index(tmp_path / "index", [(entries_of(n), vectors)], MODEL, bits=bits)
    index = Index.open(tmp_path / "index")
    assert index.manifest.lists > 100
    found = [[index.id_of(row) for row in rows] for rows in index.search(queries, 10).rows]
    truth = [[f"p{row}" for row in rows] for rows in brute_force(vectors, queries, 10)]
    shared = [len(set(a) & set(b)) / 10 for a, b in zip(found, truth, strict=True)]
    assert np.mean(shared) >= least


def test_a_search_for_more_than_its_lists_hold_reads_further_lists(tmp_path: Path) -> None:
    n = MOST_EXACT_ROWS + 100
    index = built(tmp_path / "index", n)
    found = index.search(vectors_of(n)[:1], 2000, probes=1)
    assert (found.rows >= 0).all()
    assert len(set(found.rows[0].tolist())) == 2000


@settings(max_examples=25, deadline=None)
@given(
    first=st.lists(st.integers(0, 12), max_size=10),
    second=st.lists(st.integers(0, 12), max_size=10),
    gone=st.sets(st.integers(0, 12)),
    bits=st.sampled_from([8, 4, 2]),
)
def test_adding_and_removing_give_what_building_anew_gives(
    tmp_path_factory: pytest.TempPathFactory,
    first: list[int],
    second: list[int],
    gone: set[int],
    bits: Bits,
) -> None:
    folder = tmp_path_factory.mktemp("index")
    vectors, entries = vectors_of(40), entries_of(13)

    def batch(ids: list[int], shift: int) -> tuple[list[Entry], Floats]:
        some = [replace(entries[i], year=1990 + shift) for i in ids]
        return some, vectors[[i + 13 * shift for i in ids]]

    start = batch([0, *first], 0)
    build_index(folder / "changed", [start], MODEL, bits=bits)
    add_papers(folder / "changed", [batch(second, 1)], MODEL)
    there = {0, *first, *second}
    done = remove_papers(folder / "changed", [f"p{i}" for i in gone & there])
    assert done.removed == len(gone & there)
    assert done.papers == len(there - gone)
    if there - gone:
        kept = [[i for i in ids if i not in gone] for ids in ([0, *first], second)]
        kept[0] = [i for i in kept[0] if i not in second]
        batches = [batch(kept[0], 0), batch(kept[1], 1)]
        build_index(folder / "built", batches, MODEL, bits=bits)
        changed, new = Index.open(folder / "changed"), Index.open(folder / "built")
        assert content_of(changed) == content_of(new)
        assert len(content_of(changed)) == len(changed)  # ids are unique
    else:
        assert Index.open(folder / "changed").search(vectors[:1], 3).rows.tolist() == [[-1] * 3]


@pytest.mark.parametrize(
    ("bits", "least", "mean"), [(8, 0.9999, 0.9999), (4, 0.97, 0.99), (2, 0.88, 0.93)]
)
def test_rows_keep_the_direction_of_a_vector(bits: Bits, least: float, mean: float) -> None:
    vectors = np.random.default_rng(0).normal(size=(4_000, 128)).astype(np.float32)
    back = decode(quantise(vectors, bits), bits)
    cosine = (
        (back * vectors).sum(1) / np.linalg.norm(back, axis=1) / np.linalg.norm(vectors, axis=1)
    )
    assert cosine.min() > least
    assert cosine.mean() > mean


def test_lists_are_found_anew_after_twice_the_papers_and_kept_before(tmp_path: Path) -> None:
    n = MOST_EXACT_ROWS + 100
    before = built(tmp_path / "index", n).manifest.lists
    entries, vectors = entries_of(2 * n + 1000), vectors_of(2 * n + 1000)
    add_papers(tmp_path / "index", [(entries[: n + 50], vectors[: n + 50])], MODEL)
    assert Index.open(tmp_path / "index").manifest.lists == before
    add_papers(tmp_path / "index", [(entries, vectors)], MODEL)
    index = Index.open(tmp_path / "index")
    assert index.manifest.lists > 1.3 * before
    assert len(index) == 2 * n + 1000


def test_an_index_of_another_model_is_refused_with_what_to_do(tmp_path: Path) -> None:
    built(tmp_path / "index")
    with pytest.raises(IndexIncompatible, match=r"fast 9\.9 .*not with fast 9\.8.*build the index"):
        Index.open(tmp_path / "index", model=OTHER)
    with pytest.raises(IndexIncompatible, match=r"fast 9\.9"):
        add_papers(tmp_path / "index", [(entries_of(1), vectors_of(1))], OTHER)


@pytest.mark.parametrize(
    ("key", "value", "error", "text"),
    [
        ("format_version", 2, IndexIncompatible, r"format 2, this classmark reads 1"),
        ("text_recipe", "0", IndexIncompatible, r"text recipe '0'"),
        ("papers", 49, IndexCorrupt, r"contradicts the index"),
        ("papers", -1, IndexCorrupt, r"papers -1"),
        ("papers", "x", IndexCorrupt, r"papers 'x'"),
        ("bits", 3, IndexCorrupt, r"bits 3"),
        ("codes", ["cs.LG"], IndexCorrupt, r"categories\.npy contradicts"),
        ("files", {}, IndexCorrupt, r"not valid"),
        ("files", {"rows": [1e400, ""]}, IndexCorrupt, r"not valid"),
        ("model", {}, IndexCorrupt, r"not valid"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(
    tmp_path: Path, key: str, value: object, error: type[Exception], text: str
) -> None:
    built(tmp_path / "index")
    path = tmp_path / "index" / MANIFEST_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(error, match=text):
        Index.open(tmp_path / "index")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": 1}', "7"])
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    built(tmp_path / "index")
    (tmp_path / "index" / MANIFEST_FILE).write_text(content)
    with pytest.raises(IndexCorrupt, match=r"cannot be read.*index build"):
        Index.open(tmp_path / "index")


def test_every_file_that_is_cut_off_changed_or_missing_is_named(tmp_path: Path) -> None:
    for name in sorted(path.name for path in (built(tmp_path / "i", 50).path).glob("*.npy")):
        path = tmp_path / "i" / name
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(IndexCorrupt, match=rf"{name} has .* bytes, it was"):
            Index.open(tmp_path / "i")
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(IndexCorrupt, match=rf"{name} has changed"):
            Index.open(tmp_path / "i")
        path.unlink()
        with pytest.raises(IndexCorrupt, match=rf"{name} is missing"):
            Index.open(tmp_path / "i")
        path.write_bytes(whole)
    assert len(Index.open(tmp_path / "i")) == 50


def test_a_folder_that_is_no_index_says_so(tmp_path: Path) -> None:
    with pytest.raises(IndexCorrupt, match=r"is not an index: no index\.json"):
        Index.open(tmp_path)


def test_removing_an_unknown_id_changes_nothing(tmp_path: Path) -> None:
    before = content_of(built(tmp_path / "index"))
    with pytest.raises(NotFound, match=r"no paper 'nobody' and 1 more\. Nothing was removed"):
        remove_papers(tmp_path / "index", ["p1", "nobody", "nowhere"])
    assert content_of(Index.open(tmp_path / "index")) == before


def test_an_open_index_answers_on_while_it_is_replaced(tmp_path: Path) -> None:
    index = built(tmp_path / "index")
    remove_papers(tmp_path / "index", ["p7"])
    assert index.similar(vectors_of(50)[7:8], 1)[0][0].id == "p7"
    assert Index.open(tmp_path / "index").similar(vectors_of(50)[7:8], 1)[0][0].id != "p7"


def test_two_changes_at_once_are_refused(tmp_path: Path) -> None:
    built(tmp_path / "index")
    seen = []

    def batches() -> Iterator[tuple[list[Entry], Floats]]:
        def other() -> None:
            with pytest.raises(OutputBusy, match=r"Wait for it, or choose another index\.$"):
                remove_papers(tmp_path / "index", ["p1"])
            seen.append(True)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        yield entries_of(1), vectors_of(1)

    add_papers(tmp_path / "index", batches(), MODEL)
    assert seen
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index"]


@pytest.mark.parametrize(("k", "probes"), [(0, 1), (1, 0)])
def test_a_search_for_nothing_is_refused(tmp_path: Path, k: int, probes: int) -> None:
    with pytest.raises(UsageError, match=r"at least 1"):
        built(tmp_path / "index", 3).search(vectors_of(1), k, probes=probes)


def test_vectors_of_another_length_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"vectors must be \[n, 128\], got \[1, 64\]"):
        built(tmp_path / "index", 3).search(np.zeros((1, 64), dtype=np.float32), 1)


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_neighbours_index import MODEL, entries_of, vectors_of
from classmark.neighbours import add_papers
import classmark.neighbours.change as change
saved = change._save
def save_then_die(folder, name, array):
    if name == "ids":
        os.kill(os.getpid(), signal.SIGKILL)
    return saved(folder, name, array)
change._save = save_then_die
add_papers(Path(sys.argv[1]), [(entries_of(60), vectors_of(60))], MODEL)
"""


@pytest.mark.skipif(os.name == "nt", reason="kills with a signal")
def test_a_change_that_is_killed_leaves_the_index_and_the_next_one_works(tmp_path: Path) -> None:
    before = content_of(built(tmp_path / "index"))
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", KILLED, str(tmp_path / "index"), here]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert content_of(Index.open(tmp_path / "index")) == before
    done = add_papers(tmp_path / "index", [(entries_of(60), vectors_of(60))], MODEL)
    assert (done.added, done.replaced, done.papers) == (10, 50, 60)
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
