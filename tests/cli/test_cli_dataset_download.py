"""``classmark dataset download`` as a user sees it: its lines, and what a killed one leaves."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from classmark.cli.app import app
from file_server import FileServer, serving, zip_of

CSV = b"id,title,category_code,summary\n1,A title,cs.LG,An abstract\n"
NOISE = b"".join(hashlib.sha256(bytes([i, j])).digest() for i in range(64) for j in range(64))
ARCHIVE = zip_of({"papers.csv": CSV + b"2,Noise,cs.LG," + NOISE.hex().encode() + b"\n"})
HALF = len(ARCHIVE) // 2


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "kaggle"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.chdir(tmp_path)
    with serving() as server:
        yield server


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["dataset", "download", *map(str, arguments)])


def test_stdout_is_what_build_takes(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLASSMARK_KAGGLE_API", server.address)
    server.put("/datasets/download/ada/papers", ARCHIVE)
    result = run("ada/papers")
    assert result.exit_code == 0
    assert result.stdout == "papers.zip\n"
    assert result.stderr.startswith(f"{len(ARCHIVE):,} bytes, SHA-256 ")


def test_json_names_file_digest_size_and_members(server: FileServer) -> None:
    facts = json.loads(run(server.put("/papers.zip", ARCHIVE), "--json").stdout)
    assert facts == {
        "file": "papers.zip",
        "sha256": hashlib.sha256(ARCHIVE).hexdigest(),
        "bytes": len(ARCHIVE),
        "members": ["papers.csv"],
        "papers": ["papers.zip"],
    }


def test_a_zip_of_several_files_says_how_to_unpack_it_and_is_unpacked(server: FileServer) -> None:
    url = server.put("/two.zip", zip_of({"a.csv": CSV, "b/c.csv": CSV}))
    assert "it holds 2 files (a.csv, b/c.csv): --unpack DIR" in run(url).stderr
    result = run("two.zip", "--unpack", "out")
    paths = [Path("out", "a.csv"), Path("out", "b", "c.csv")]
    assert [Path(line) for line in result.stdout.splitlines()] == paths
    assert all(path.read_bytes() == CSV for path in paths)


def test_a_refusal_is_one_line_and_exit_code_1(server: FileServer) -> None:
    result = run(server.put("/papers.zip", statuses=[403]))
    assert result.exit_code == 1
    assert result.stderr.startswith("error: http://127.0.0.1:")
    assert result.stderr.count("\n") == 1


def test_wrong_usage_is_exit_code_2(server: FileServer) -> None:
    assert run("nothing.zip").exit_code == 2
    assert run("--sha256", "abc").exit_code == 2


@pytest.mark.slow
def test_a_download_needs_no_extra(server: FileServer) -> None:
    url = server.put("/papers.zip", ARCHIVE)
    code = (
        "import sys\n"
        "for name in ('polars', 'pyarrow', 'httpx'): sys.modules[name] = None\n"
        f"sys.argv = ['classmark', 'dataset', 'download', {url!r}]\n"
        "from classmark.__main__ import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "papers.zip\n"), done.stderr


@pytest.mark.slow  # reason: processes of their own that import everything
@pytest.mark.skipif(os.name == "nt", reason="there is no terminal to open, no SIGINT to send")
@pytest.mark.parametrize("sent", ["SIGINT", "SIGKILL"])
def test_a_killed_download_leaves_no_file_and_the_next_goes_on(
    server: FileServer, tmp_path: Path, sent: str
) -> None:
    from processes import start

    url = server.put("/papers.zip", ARCHIVE, cuts=[HALF], stalls=True)
    with start("dataset", "download", url, cwd=tmp_path) as (child, terminal):
        terminal.read_until("50%")
        child.send_signal(getattr(signal, sent))
        terminal.read_rest()
        code = child.wait(timeout=200)
    kept = ["papers.zip.part", "papers.zip.part.json"]
    lock = ["papers.zip.part.lock"] if sent == "SIGKILL" else []  # held by nobody
    assert sorted(path.name for path in tmp_path.iterdir()) == kept + lock
    assert (tmp_path / "papers.zip.part").stat().st_size == HALF
    if sent == "SIGINT":
        assert code == 130
        assert terminal.lines[-2:] == [
            "The bytes received so far are kept: run the same command to resume.",
            "interrupted: nothing is left half-written.",
        ]
    assert run(url).exit_code == 0
    assert (tmp_path / "papers.zip").read_bytes() == ARCHIVE
    assert server.ranges == [None, f"bytes={HALF}-"]
    assert [path.name for path in tmp_path.iterdir()] == ["papers.zip"]
