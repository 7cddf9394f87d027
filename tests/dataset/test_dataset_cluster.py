"""What the nodes of a cluster read, without a cluster: the papers are those of one machine."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from classmark.dataset import DatasetConfig, SampleConfig, sample_dump
from classmark.dataset.build.cluster import _Divide, _MakeWork
from classmark.dataset.build.intake import read_sources
from classmark.papers import ChunkSize
from classmark.records import SILENT


def test_batches_of_any_size_give_the_papers_of_one_machine(tmp_path: Path) -> None:
    dump = tmp_path / "dump.jsonl"
    sample_dump(dump, SampleConfig(papers=120))
    lines = dump.read_text("utf-8").splitlines()
    lines[7] = "{broken"
    dump.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    sources, config = (dump, dump), DatasetConfig()
    divide = _Divide(sources, config, ChunkSize(bytes=20_000, records=10))
    work = _MakeWork(sources, config)()

    def read(*_: object) -> object:
        for number in range(len(sources)):
            yield from map(work, divide(number))

    here = read_sources(sources, tmp_path / "here", config, SILENT)
    there = read_sources(sources, tmp_path / "there", config, SILENT, read)  # type: ignore[arg-type]
    assert there.frame.equals(here.frame)
    assert (there.bad_records, there.first_bad) == (here.bad_records, here.first_bad)
    assert (there.sources, there.first_rows) == (here.sources, here.first_rows)
    rows = here.frame["row"].to_numpy().astype("int64")[::-1]
    texts = [pl.concat(intake.texts.in_order(rows)) for intake in (here, there)]
    assert texts[0].equals(texts[1])
