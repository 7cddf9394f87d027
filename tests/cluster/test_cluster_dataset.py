"""Datasets built on a cluster of two nodes: the digest and the bytes of one machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from classmark.dataset import (
    DatasetConfig,
    Origin,
    ReadOnCluster,
    SampleConfig,
    build_dataset,
    sample_csv,
    sample_dump,
)
from classmark.errors import ContractViolation, UnreadableSource
from classmark.papers import ChunkSize
from recording import Recording

pytestmark = [
    pytest.mark.slow,  # reason: a cluster takes seconds to start
    pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray: make test-ray"),
]

CONFIG = DatasetConfig(periods=("2017-12-31",), min_papers=5)
SMALL = ChunkSize(bytes=40_000, records=70)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return a dump of lines that holds bad ones, and a table."""
    folder = tmp_path_factory.mktemp("papers")
    dump, table = folder / "dump.jsonl", folder / "papers.csv"
    sample_dump(dump, SampleConfig(papers=900))
    lines = dump.read_text("utf-8").splitlines()
    lines[100] = "{broken"
    lines[500] = '{"id": 3, "title": 1, "abstract": []}'
    dump.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    sample_csv(table, SampleConfig(papers=400, seed=8))
    return [dump, table]


def build(sources: list[Path], output: Path, *, on: Any = None, **changes: Any) -> list[str]:
    """Build a dataset and return the steps that were reported."""
    recording = changes.pop("recording", None) or Recording()
    read = None if on is None else ReadOnCluster(on.address, SMALL)
    config = DatasetConfig(**{**vars(CONFIG), **changes})
    origin = Origin(command="a test", read=read)
    build_dataset(sources, output, config, origin=origin, progress=recording)
    return recording.steps


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_cluster_builds_the_bytes_of_this_machine(
    nodes: Any, sources: list[Path], tmp_path: Path
) -> None:
    here = build(sources, tmp_path / "here")
    assert build(sources, tmp_path / "there", on=nodes) == here
    assert content(tmp_path / "there") == content(tmp_path / "here")
    manifest = json.loads((tmp_path / "there" / "manifest.json").read_bytes())
    assert len(manifest["digest"]) == 64
    assert manifest["read"] == 1300
    assert sum(manifest["dropped"].values()) > 0


def test_a_node_that_is_killed_in_the_middle_loses_no_paper(
    make_nodes: Callable[[], Any], sources: list[Path], tmp_path: Path
) -> None:
    build(sources, tmp_path / "here")
    nodes = make_nodes()

    def kill(n_batches: int) -> None:
        if n_batches == 3:
            nodes.add()
            nodes.kill_oldest()

    recording = Recording(on_advance=kill)
    build(sources, tmp_path / "there", on=nodes, recording=recording)
    assert len(recording.counts) > 10
    assert content(tmp_path / "there") == content(tmp_path / "here")


def test_what_cannot_be_built_is_said_as_on_this_machine(
    nodes: Any, sources: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(ContractViolation, match=r"^dump.jsonl, line 101: not JSON"):
        build(sources, tmp_path / "out", on=nodes, strict=True)
    (tmp_path / "empty.csv").touch()
    with pytest.raises(UnreadableSource, match=r"empty.csv is empty"):
        build([tmp_path / "empty.csv"], tmp_path / "out", on=nodes)
    assert not (tmp_path / "out").exists()
