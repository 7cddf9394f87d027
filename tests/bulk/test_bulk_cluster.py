"""What the nodes of a cluster do, without a cluster: the parts are those of the local pool."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from bulk_jobs import TINY, job_of, write_dump

from classmark.bulk.cluster import _Divide, _Divided, _MakeWork, _model_files
from classmark.bulk.parts import Parts, part_number
from classmark.bulk.worker import Division, WorkPlan, write_part
from classmark.bundle import find_bundle
from classmark.errors import BundleCorrupt
from classmark.runtime import Classifier


def test_a_node_makes_the_parts_of_this_machine_from_what_it_is_sent(
    tmp_path: Path, classifier: Classifier
) -> None:
    dump = write_dump(tmp_path / "dump.jsonl", bad=(3,))
    folder = find_bundle(None)
    job = job_of(dump, tmp_path / "out.jsonl", inputs=(dump, dump), model=folder)
    parts = Parts(tmp_path, "0" * 16)
    plan = WorkPlan(job, parts, classifier.model.digest)
    done = frozenset({part_number(0, 0), part_number(1, 2)})
    divide = _Divide(Division(job, TINY, done))
    work = _MakeWork(plan, _model_files(folder))()
    for source in (0, 1):
        *tasks, end = divide(source)
        assert isinstance(end, _Divided)
        assert work(end) == _Divided(source, len(tasks) + 1)
        assert not done & {task.index for task in tasks}
        for task in tasks:
            made = work(task)
            assert made.done.records == write_part(task, classifier, plan).records
            assert made.content == parts.path(task.index).read_bytes()
    assert (
        parts.numbers() == {part_number(s, c) for s in (0, 1) for c in range(end.n_chunks)} - done
    )


def test_a_node_refuses_another_model(tmp_path: Path, classifier: Classifier) -> None:
    folder = find_bundle(None)
    job = job_of(write_dump(tmp_path / "dump.jsonl", 1), tmp_path / "out.jsonl", model=folder)
    plan = WorkPlan(job, Parts(tmp_path, "0" * 16), classifier.model.digest)
    with pytest.raises(BundleCorrupt, match="was replaced during the run"):
        _MakeWork(replace(plan, model_digest="another"), _model_files(folder))()
