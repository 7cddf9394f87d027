"""``classmark`` where there is no home folder, no user, nothing to write to, and only ASCII.

Each command is a real process. A user without an entry in the list of users is made by
``setpriv``, a read-only disk by ``unshare``; both need root.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.slow

TEXT = "We prove that the chromatic number of sparse random graphs is concentrated on two values."
STRANGER_UID = 54321
# It may read everything (the interpreter of a test may lie in a closed folder), but write nothing.
_ONLY_READ = "-all,+dac_read_search"
_STRANGER = [
    *("setpriv", f"--reuid={STRANGER_UID}", f"--regid={STRANGER_UID}", "--clear-groups"),
    *(f"--inh-caps={_ONLY_READ}", f"--ambient-caps={_ONLY_READ}", f"--bounding-set={_ONLY_READ}"),
]
_READ_ONLY_SCRIPT = (
    "awk '{print $2}' /proc/self/mounts | while read -r place; do "
    'mount -o remount,bind,ro "$place" 2>/dev/null; done; exec "$@"'
)
_READ_ONLY = ["unshare", "--mount", "sh", "-c", _READ_ONLY_SCRIPT, "sh"]


@cache
def _works(*command: str) -> bool:
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0


@pytest.fixture
def stranger() -> list[str]:
    """Return what makes a command run as a user that the system has no entry for."""
    if not _works(*_STRANGER):
        pytest.skip("only root can run a process as a user that has no entry")
    return _STRANGER


@pytest.fixture
def read_only() -> list[str]:
    """Return what makes a command see every disk as read-only."""
    test = [*_READ_ONLY, "sh", "-c", "! touch /tmp/classmark-test-of-read-only"]
    if not _works(*_READ_ONLY) or subprocess.run(test, capture_output=True, check=False).returncode:
        pytest.skip("only root with the right to mount can make disks read-only")
    return _READ_ONLY


def run(
    *arguments: str | Path, before: list[str] | None = None, cwd: Path | None = None, **env: str
) -> subprocess.CompletedProcess[bytes]:
    """Run ``classmark`` with no environment but what is given."""
    return run_python("-m", "classmark", *map(str, arguments), before=before, cwd=cwd, **env)


def run_python(
    *arguments: str, before: list[str] | None = None, cwd: Path | None = None, **env: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*(before or []), sys.executable, *arguments],
        capture_output=True, check=False, timeout=300, cwd=cwd or "/",
        env={"PATH": os.environ["PATH"], **env},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("classify", TEXT), b"math.CO"),
        (("--version",), b"model fast"),
        (("models", "list"), b"* fast@"),
        (("models", "show"), b"unchanged"),
    ],
)
def test_a_user_without_home_and_entry_gets_answers(
    stranger: list[str], arguments: tuple[str, ...], shown: bytes
) -> None:
    done = run(*arguments, before=stranger)
    assert (done.returncode, done.stderr) == (0, b"")
    assert shown in done.stdout


def test_python_answers_without_home_and_entry(stranger: list[str]) -> None:
    code = f"import classmark; print(classmark.Classifier().classify({TEXT!r}).primary)"
    done = run_python("-c", code, before=stranger)
    assert (done.stdout, done.stderr) == (b"math.CO\n", b"")


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        (("journal", "path"), ("--journal", "CLASSMARK_HOME")),
        (("keys", "create", "reader"), ("--file", "CLASSMARK_HOME")),
        (("keys", "list"), ("--file", "CLASSMARK_HOME")),
        (("classify", "--model", "mine", TEXT), ("CLASSMARK_HOME",)),
    ],
)
def test_what_needs_a_place_names_the_settings_that_give_one(
    stranger: list[str], arguments: tuple[str, ...], settings: tuple[str, ...]
) -> None:
    done = run(*arguments, before=stranger)
    assert (done.returncode, done.stdout) == (1, b"")
    line = done.stderr.decode()
    assert line.startswith("error: ")
    assert len(line.splitlines()) == 1
    assert all(setting in line for setting in settings)


@pytest.mark.parametrize("setting", ["CLASSMARK_HOME", "XDG_DATA_HOME"])
def test_the_setting_gives_the_place(stranger: list[str], tmp_path: Path, setting: str) -> None:
    done = run("journal", "path", before=stranger, **{setting: str(tmp_path)})
    assert done.returncode == 0
    assert done.stdout.decode().startswith(str(tmp_path))


def test_a_home_folder_that_does_not_exist_is_not_needed(stranger: list[str]) -> None:
    done = run("classify", TEXT, before=stranger, HOME="/nonexistent")
    assert (done.returncode, done.stderr) == (0, b"")


def test_every_disk_may_be_read_only(read_only: list[str], tmp_path: Path) -> None:
    papers = tmp_path / "papers.csv"
    papers.write_text(f'title,abstract\nGraphs,"{TEXT}"\n', encoding="utf-8")
    done = run("classify", papers, "--jsonl", before=read_only, HOME=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["ranked"][0]["code"] == "math.CO"
    written = run("classify", papers, "--output", tmp_path / "out.csv", before=read_only)
    assert written.returncode == 1
    assert b"the file system is read-only. Choose another output." in written.stderr


def test_where_no_temporary_file_can_be_made_the_variable_is_named(
    read_only: list[str], tmp_path: Path
) -> None:
    code = (
        "import tempfile; from classmark.cli.app import errors_as_lines\n"
        "with errors_as_lines(debug=False): tempfile.TemporaryDirectory()"
    )
    done = run_python("-c", code, before=read_only, TMPDIR=str(tmp_path / "missing"))
    assert b"Set TMPDIR to a folder that you can write to." in done.stderr


@pytest.mark.parametrize("setting", [{"LANG": "C"}, {"LC_ALL": "C"}, {"LC_ALL": "POSIX"}])
def test_a_plain_locale_changes_no_answer(setting: dict[str, str], tmp_path: Path) -> None:
    _check_ascii(tmp_path, **setting)


def test_a_process_that_knows_only_ascii_gives_the_same_answers(tmp_path: Path) -> None:
    _check_ascii(tmp_path, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")


def _check_ascii(folder: Path, **env: str) -> None:
    text = f"Schrödinger operators — naïve bounds — on Erdős graphs ☃. {TEXT}"
    usual = run("classify", text, "--jsonl", HOME="/nonexistent", LC_ALL="C.UTF-8")
    plain = run("classify", text, "--jsonl", HOME="/nonexistent", **env)
    assert (plain.returncode, plain.stderr) == (0, b"")
    assert plain.stdout == usual.stdout
    shown = run("classify", text, HOME="/nonexistent", **env)
    assert (shown.returncode, shown.stderr) == (0, b"")
    papers = folder / "päper.csv"
    papers.write_text(f"id,title,abstract\nĀ1,Ümlaut,{text}\n", encoding="utf-8")
    for output in ("oüt.jsonl", "oüt.csv"):
        for more in ((), ("--workers", "1")):
            done = run(
                "classify", papers, "--output", folder / output, *more, HOME="/nonexistent", **env
            )
            assert done.returncode == 0, done.stderr
            assert "Ā1" in (folder / output).read_text("utf-8")
    missing = run("classify", folder / "nöpe.csv", HOME="/nonexistent", **env)
    assert missing.returncode == 1
    assert b"error: no file" in missing.stderr


def test_a_file_whose_name_is_not_text_is_read(tmp_path: Path) -> None:
    papers = tmp_path / os.fsdecode(b"p\xe4per.csv")
    papers.write_text(f"id,title,abstract\n7,Graphs,{TEXT}\n8,,\n", encoding="utf-8")
    for more in ((), ("--workers", "1")):
        out = tmp_path / "out.csv"
        done = run("classify", papers, "--output", out, *more, LC_ALL="C.UTF-8")
        assert done.returncode == 1
        assert b"internal error" not in done.stderr
        assert b"1 of 2 records could not be read" in done.stderr
        assert "math.CO" in out.read_text("utf-8")


@pytest.mark.parametrize("path", ["~/papers", "~nobody-of-this-name/papers"])
def test_a_tilde_without_a_home_folder_is_one_line(
    stranger: list[str], tmp_path: Path, path: str
) -> None:
    done = run(
        "train", f"dataset.path={tmp_path}", f"runs_dir={path}", before=stranger, cwd=tmp_path
    )
    assert done.returncode == 1
    assert b"Write the path without '~'." in done.stderr


def test_training_where_nothing_can_be_written_names_the_setting(
    stranger: list[str], tmp_path: Path
) -> None:
    done = run("train", f"dataset.path={tmp_path}", before=stranger, cwd=tmp_path)
    assert done.returncode == 1
    assert b"cannot write runs/run (runs_dir=runs): permission denied. Choose" in done.stderr


def test_the_service_answers_a_user_without_home_and_keeps_no_journal(stranger: list[str]) -> None:
    done, logs = _serve_once(stranger)
    assert done["primary"] == "math.CO"
    [warning] = [line for line in logs if line["event"] == "no journal is kept"]
    assert warning["level"] == "warning"
    assert all(name in warning["problem"] for name in ("--journal", "CLASSMARK_HOME"))


def test_the_service_answers_where_every_disk_is_read_only(
    read_only: list[str], tmp_path: Path
) -> None:
    done, logs = _serve_once(read_only, HOME=str(tmp_path), CLASSMARK_SERVE_GRACE_S="5")
    assert done["primary"] == "math.CO"
    [error] = [line for line in logs if line["event"] == "journal cannot be written"]
    assert "--journal" in error["problem"]


def _serve_once(before: list[str], **env: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the answer of a service to one paper, and its log."""
    command = [sys.executable, "-m", "classmark", "serve", "--port", "0", "--workers", "1"]
    with subprocess.Popen(
        [*before, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/",
        env={"PATH": os.environ["PATH"], **env},
    ) as process:  # fmt: skip
        try:
            assert process.stdout
            words = process.stdout.readline().decode().split()
            [url] = [word for word in words if word.startswith("http://")]
            answer = httpx.post(f"{url}/v1/classify", json={"abstract": TEXT}, timeout=60).json()
            process.terminate()
            errors = process.communicate(timeout=60)[1].decode()
        finally:
            process.kill()
    return answer, [json.loads(line) for line in errors.splitlines()]
