"""A bundle that is changed under a running service, and the memory its workers share."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_service_faults import PAPER, Load, serve, until

from classmark.bundle import find_bundle
from deep_bundles import copy_of, write_cascade


def overwrite(path: Path, content: bytes) -> None:
    """Write into the same file, as ``cp`` does: whoever has mapped it sees the new content."""
    with path.open("r+b") as file:
        file.write(content)
        file.truncate()


def other_content(path: Path) -> bytes:
    """Return another array that the kernel would take as well: the same numbers, turned round."""
    array = np.load(path)
    content = io.BytesIO()
    np.save(content, np.ascontiguousarray(array[::-1]))
    return content.getvalue()


@pytest.mark.slow
def test_a_bundle_overwritten_or_cut_off_in_place_changes_no_answer_of_its_service(
    start: Any, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(find_bundle("fast"), tmp_path / "fast-1.0"))
    arrays = sorted((folder / "arrays").iterdir())
    with start("--workers", "2", "--model", str(folder)) as server, server.client() as client:

        def answer() -> tuple[Any, str]:
            response = client.post("/v1/classify", json=PAPER)
            response.raise_for_status()
            stated = response.json()
            stated.pop("prediction_id", None)
            return stated, response.headers["x-classmark-model"]

        before, workers = answer(), server.workers()
        load = Load(server.url)
        for path in arrays:
            content = path.read_bytes()
            for changed in (other_content(path), b"", content):
                overwrite(path, changed)
                seen = len(load.statuses)
                until(lambda seen=seen: len(load.statuses) > seen + 10)
                assert answer() == before
        overwrite(arrays[0], b"")
        os.kill(workers[0], signal.SIGKILL)  # nor does the worker that takes its place read it
        until(lambda: workers[0] not in server.workers() and len(server.workers()) == 2)
        until(lambda: "classmark_workers 2.0" in client.get("/metrics").text)
        load.end()
        assert answer() == before
        assert workers[1] in server.workers()
        assert set(load.statuses) == {200}
        assert len([line for line in server.logs() if line["event"] == "worker died"]) == 1
    result = serve("--port", "0", "--model", str(folder))
    assert (result.returncode, result.stdout) == (1, "")
    assert f"{arrays[0].name} has changed since the bundle was written" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.fixture
def deep_folders(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, list[Path]]:
    """Return a bundle with an encoder, and the folders of all bundles that it answers with."""
    deep = request.getfixturevalue("deep")
    alone = copy_of(deep.int8, tmp_path)
    if request.param == "transformer":
        return alone, [alone]
    parts = {"fast": copy_of(request.getfixturevalue("fast_bundle"), tmp_path), "deep": alone}
    cascade = write_cascade(tmp_path / "both-1.0", parts)
    return cascade, [cascade, *parts.values()]


@pytest.mark.slow
@pytest.mark.parametrize("deep_folders", ["transformer", "cascade"], indirect=True)
def test_a_deep_bundle_overwritten_or_cut_off_in_place_changes_no_answer_either(
    start: Any, deep_folders: tuple[Path, list[Path]]
) -> None:
    served, folders = deep_folders
    paths = [p for folder in folders for p in sorted(folder.rglob("*")) if p.is_file()]
    kept = {path: path.read_bytes() for path in paths}
    with start("--workers", "1", "--model", str(served)) as server, server.client() as client:

        def answer() -> tuple[Any, str]:
            response = client.post("/v1/classify", json=PAPER)
            response.raise_for_status()
            stated = response.json()
            stated.pop("prediction_id", None)
            return stated, response.headers["x-classmark-digest"]

        before, (worker,) = answer(), server.workers()
        for path, content in kept.items():
            for changed in (content[::-1], b"", content):
                overwrite(path, changed)
                assert answer() == before
            overwrite(path, b"")
        assert server.workers() == [worker]
        os.kill(worker, signal.SIGKILL)  # nor does the worker that takes its place read them
        until(lambda: server.workers() not in ([worker], []))
        until(lambda: "classmark_workers 1.0" in client.get("/metrics").text)
        assert answer() == before
    for path, content in kept.items():
        overwrite(path, content)
    overwrite(folders[-1] / "model.onnx", b"")
    result = serve("--port", "0", "--model", str(served))
    assert (result.returncode, len(result.stderr.splitlines())) == (1, 1)
    assert "model.onnx has changed since the bundle was written" in result.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_share_the_memory_of_their_model(start: Any) -> None:
    with start("--workers", "2") as server, server.client() as client:
        for _ in range(50):
            client.post("/v1/classify", json=PAPER).raise_for_status()
        for worker in server.workers():
            rollup = Path(f"/proc/{worker}/smaps").read_text()
            sizes = [
                {key: int(kb) for key, kb in re.findall(r"^(\w+): +(\d+) kB", mapping, re.M)}
                for mapping in re.split(r"^[0-9a-f]+-[0-9a-f]+ ", rollup, flags=re.M)[1:]
                if "[heap]" not in mapping  # of each worker's own objects
            ]
            model = max(sizes, key=lambda size: size["Rss"] if size["Anonymous"] else 0)
            # The rows alone have 15.8 MB. The system joins them with memory of the worker's own.
            assert model["Rss"] - model["Private_Dirty"] - model["Private_Clean"] > 14_000
