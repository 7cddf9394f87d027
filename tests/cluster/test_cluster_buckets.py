"""Files and datasets in a bucket, on a cluster of this machine that the command starts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from bulk_jobs import write_dump

from classmark.dataset import SampleConfig, sample_dump
from emulated_bucket import NAME, emulated_bucket

pytestmark = [
    pytest.mark.slow,  # reason: a cluster takes seconds to start
    pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray: make test-ray"),
]

Variables = dict[str, str]


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Variables]:
    with emulated_bucket(tmp_path_factory.mktemp("bucket") / "log") as variables:
        yield {**variables, "FSSPEC_GS_TOKEN": "anon"}


def classmark(bucket: Variables, *words: object, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "classmark", *map(str, words)],
        env={**os.environ, **bucket}, cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip


def put(bucket: Variables, name: str, file: Path) -> None:
    address = f"{bucket['STORAGE_EMULATOR_HOST']}/upload/storage/v1/b/{NAME}/o"
    request = Request(
        f"{address}?uploadType=media&name={name}", data=file.read_bytes(), method="POST"
    )
    urlopen(request).close()


def get(bucket: Variables, name: str) -> bytes:
    quoted = name.replace("/", "%2F")
    address = f"{bucket['STORAGE_EMULATOR_HOST']}/storage/v1/b/{NAME}/o/{quoted}?alt=media"
    with urlopen(address) as answer:
        return bytes(answer.read())


def test_a_folder_of_a_bucket_is_classified_into_the_bucket(
    bucket: Variables, tmp_path: Path
) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        put(bucket, f"in/{name}", write_dump(tmp_path / name, 30, bad=(7,)))
    here = classmark(
        bucket, "classify", "a.jsonl", "b.jsonl", "--workers", 1, "--output", "here.jsonl",
        folder=tmp_path,
    )  # fmt: skip
    there = classmark(
        bucket, "classify", f"gs://{NAME}/in/", "--engine", "ray", "--workers", 2,
        "--output", f"gs://{NAME}/out/there.jsonl", folder=tmp_path,
    )  # fmt: skip
    assert (here.returncode, there.returncode) == (1, 1)  # two bad records
    assert there.stderr.splitlines()[-1] == "2 of 60 records could not be read.", there.stderr
    assert "Traceback" not in there.stderr
    assert get(bucket, "out/there.jsonl") == (tmp_path / "here.jsonl").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "b.jsonl", "here.jsonl"]


def test_a_dataset_is_built_from_a_bucket_into_the_bucket(
    bucket: Variables, tmp_path: Path
) -> None:
    dump = tmp_path / "dump.jsonl"
    sample_dump(dump, SampleConfig(papers=800))
    put(bucket, "raw/dump.jsonl", dump)
    here = classmark(
        bucket, "dataset", "build", dump, "--output", "here", "--min-papers", 5, folder=tmp_path
    )
    words = ("dataset", "build", f"gs://{NAME}/raw/dump.jsonl", "--engine", "ray")
    words = (*words, "--output", f"gs://{NAME}/there", "--min-papers", "5")
    there = classmark(bucket, *words, folder=tmp_path)
    assert (here.returncode, there.returncode) == (0, 0), there.stderr
    assert there.stdout.splitlines()[-1] == f"gs://{NAME}/there"
    for split in ("train", "valid", "test"):
        file = f"{split}.parquet"
        assert get(bucket, f"there/{file}") == (tmp_path / "here" / file).read_bytes()
    again = classmark(bucket, *words, folder=tmp_path)
    assert again.returncode == 1
    assert again.stderr.startswith(f"error: gs://{NAME}/there already exists.")


def test_a_folder_of_a_bucket_that_is_empty_is_refused(bucket: Variables, tmp_path: Path) -> None:
    done = classmark(
        bucket, "classify", f"gs://{NAME}/none/x.jsonl", "--engine", "ray", "--output", "o.csv",
        folder=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: gs://{NAME}/none/x.jsonl ")
    assert "Traceback" not in done.stderr
