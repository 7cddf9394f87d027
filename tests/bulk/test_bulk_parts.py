"""Parts without processes: any dump, cut anywhere, gives the bytes of the whole."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from bulk_jobs import TINY, dump_line, job_of, json_lines_in_one_process
from hypothesis import given, settings
from hypothesis import strategies as st

from classmark.bulk.parts import (
    Parts,
    PartSummary,
    end_part,
    folder_of,
    open_results,
    prepare,
    read_summary,
    remove_parts,
)
from classmark.bulk.run import join_parts
from classmark.bulk.worker import Done, Task, WorkPlan, work, write_part
from classmark.errors import MissingExtra, StorageFailed
from classmark.papers import ChunkSize, read_chunks
from classmark.runtime import Classifier
from classmark.storage import locked_folder
from recording import Recording

SUMMARY = PartSummary(3, 1, ("line 2: bad",), 99)
LINES = st.sampled_from(
    [dump_line(1), dump_line(2), '{"title": "naïve ∀ graphs"}', "", "{", '{"title": 1}', "  "]
)


def through_parts(
    classifier: Classifier, dump: bytes, n_bytes: int, layout: str, folder: Path
) -> Path:
    """Write a dump, cut it, make a part of each piece, and join them; return the output."""
    source, output = folder / "dump.jsonl", folder / f"out.{layout}"
    source.write_bytes(dump)
    job = job_of(source, output)
    parts = Parts(folder_of(output), "0" * 16)
    parts.folder.mkdir()
    plan = WorkPlan(job, parts, classifier.model.digest)
    index = -1
    for index, chunk in enumerate(read_chunks(source, ChunkSize(n_bytes, 5))):
        write_part(Task(index, str(source), chunk, 0), classifier, plan)
    paths = [parts.path(i) for i in range(index + 1)]
    join_parts(paths, job, classifier, row_group=TINY.row_group)
    return output


@pytest.mark.slow
@settings(max_examples=60)
@given(
    st.lists(LINES, max_size=8), st.sampled_from(["\n", "\r\n"]), st.booleans(),
    st.integers(1, 900),
)  # fmt: skip
def test_any_dump_cut_anywhere_gives_the_bytes_of_one_process(
    classifier: Classifier, lines: list[str], end: str, ends_with_newline: bool, n_bytes: int
) -> None:
    text = end.join([dump_line(0), *lines]) + (end if ends_with_newline else "")
    with tempfile.TemporaryDirectory() as folder:
        output = through_parts(classifier, text.encode(), n_bytes, "jsonl", Path(folder))
        whole = json_lines_in_one_process(classifier, Path(folder, "dump.jsonl"))
        assert output.read_bytes() == whole


@pytest.mark.parametrize("layout", ["csv", "parquet"])
def test_parts_of_bad_records_alone_are_joined_too(
    classifier: Classifier, tmp_path: Path, layout: str
) -> None:
    dump = "\n".join([dump_line(0), "{", "[]", dump_line(1)]).encode()
    output = through_parts(classifier, dump, 1, layout, tmp_path)
    if layout == "parquet":
        ids = pq.read_table(output).column("id").to_pylist()
        assert ids == ["2401.00000", "2", "3", "2401.00001"]
    else:
        ids = [line.partition(",")[0] for line in output.read_text("utf-8-sig").splitlines()]
        assert ids == ["id", "2401.00000", "2401.00001"]


def test_more_categories_than_there_are_give_all_of_them(
    classifier: Classifier, tmp_path: Path
) -> None:
    source, output = tmp_path / "dump.jsonl", tmp_path / "out.parquet"
    source.write_text(dump_line(0))
    job = job_of(source, output, top=10_000)
    parts = Parts(tmp_path, "0" * 16)
    (chunk,) = read_chunks(source, ChunkSize(1000, 5))
    write_part(Task(0, "dump", chunk, 0), classifier, WorkPlan(job, parts, ""))
    folder_of(output).mkdir()
    join_parts([parts.path(0)], job, classifier, row_group=10)
    (row,) = pq.read_table(output).to_pylist()
    assert len(row["ranked"]) == len(row["ranked_probabilities"]) == len(classifier.labels)


def test_a_part_is_read_as_it_was_written(tmp_path: Path) -> None:
    parts = Parts(tmp_path, "0" * 16)
    with parts.writing(4) as part:
        part.write(b"results")
        end_part(part, SUMMARY)
    assert parts.has(4)
    assert not parts.has(3)
    assert read_summary(parts.path(4)) == SUMMARY
    with open_results(parts.path(4)) as (file, n_bytes):
        assert file.read(n_bytes) == b"results"


def test_a_part_that_fails_is_not_there(tmp_path: Path) -> None:
    parts = Parts(tmp_path, "0" * 16)
    with pytest.raises(ZeroDivisionError), parts.writing(0) as part:
        part.write(b"results" * (1 // 0))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"short", b"long enough but of something else"])
def test_what_is_no_part_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.part").write_bytes(content)
    with pytest.raises(StorageFailed, match=r"a.part is damaged. Remove it"):
        read_summary(tmp_path / "a.part")


def test_parts_of_another_run_are_not_taken(tmp_path: Path) -> None:
    recording = Recording()
    with locked_folder(tmp_path / "w"):
        before = prepare(tmp_path / "w", {"the model": "a", "the options": [1]}, recording)
        with before.writing(0) as part:
            end_part(part, SUMMARY)
        assert list(before.summaries()) == [SUMMARY]
        same = prepare(tmp_path / "w", {"the model": "a", "the options": [1]}, recording)
        assert same.has(0)
        assert recording.warnings == []
        other = prepare(tmp_path / "w", {"the model": "b", "the options": [2]}, recording)
        assert recording.warnings == [
            "the model and the options changed since the run before: starting over."
        ]
        assert not other.has(0)
        # A worker of the run before that writes late is not believed either.
        with before.writing(0) as part:
            end_part(part, SUMMARY)
        assert not other.has(0)
        remove_parts(tmp_path / "w")
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_says_what_it_is_in_json(tmp_path: Path) -> None:
    prepare(tmp_path, {"the model": "a"}, print)
    assert json.loads((tmp_path / "manifest.json").read_bytes()) == {"the model": "a"}


def test_a_worker_answers_every_task_until_its_pipe_closes(
    classifier: Classifier, tmp_path: Path
) -> None:
    source = tmp_path / "dump.jsonl"
    source.write_text(dump_line(0))
    job = job_of(source, tmp_path / "o.csv", model=_bundle())
    plan = WorkPlan(job, Parts(tmp_path, "0" * 16), classifier.model.digest)
    (chunk,) = read_chunks(source, ChunkSize(10_000, 5))
    ours, theirs = Pipe()
    ours.send(Task(0, "dump", chunk, 7))
    ours.send(None)
    work(theirs, plan)
    assert ours.recv() == Done(0, 1, 7)
    failed = ours.recv()
    assert isinstance(failed, str)
    assert failed.startswith("AttributeError: ")
    ours.close()
    work(theirs, plan)  # nobody is there: it ends
    work(theirs, replace(plan, model_digest="another"))  # nor to hear what is wrong


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from classmark.bulk.encode import arrow

    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"writing Parquet needs .* 'classmark\[data\]'"):
        arrow()


def _bundle() -> Path:
    import classmark

    return next((Path(classmark.__file__).parent / "bundles").glob("fast-*"))
