"""The commands on Windows and macOS, as far as Linux can imitate them (``tests/systems``)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="imitates other systems on Linux"),
]

SYSTEMS = Path(__file__).parents[1] / "systems"
PAPERS = [
    {
        "id": "a",
        "title": "Graphs → colours",
        "abstract": "The chromatic number of sparse random graphs is concentrated on two values α.",
    },
    {
        "id": "b",
        "title": "Strings",
        "abstract": "We study string theory and its dual gauge theory.",
    },
]


def environment(system: str, home: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CLASSMARK_")}
    return {
        **kept,
        "PYTHONPATH": str(SYSTEMS),
        "CLASSMARK_TEST_SYSTEM": system,
        "CLASSMARK_HOME": str(home),
        "CLASSMARK_TRACKER": "csv",
        "PYTHONUTF8": "0",
        "PYTHONIOENCODING": "cp1252",  # what a console and a redirected stream have on Windows
    }


def run(
    *arguments: str | Path, system: str = "win32", folder: Path
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "classmark", *map(str, arguments)],
        capture_output=True, check=False, timeout=280, cwd=folder, encoding="cp1252",
        env=environment(system, folder / "home"),
    )  # fmt: skip


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    file = tmp_path / "papers.jsonl"
    file.write_text("".join(json.dumps(paper) + "\n" for paper in PAPERS), encoding="utf-8")
    return file


def test_the_imitation_refuses_what_windows_refuses(tmp_path: Path) -> None:
    script = (
        "import os; exec(compile('''import os, importlib\n"
        "for name in ('fcntl', 'resource'):\n"
        "    try: importlib.import_module(name); __import__(name, globals())\n"
        "    except ModuleNotFoundError as e: print(e)\n"
        "print(os.name, hasattr(os, 'fork'))''', 'x', 'exec'), {'__name__': 'classmark.x'})\n"
        "file = open('held', 'w')\n"
        "import fcntl; fcntl.flock(file, fcntl.LOCK_EX)\n"
        "attempts = [lambda: os.unlink('held'), lambda: os.mkdir('con'), lambda: open('held')]\n"
        "for attempt in attempts:\n"
        "    try: attempt()\n"
        "    except OSError as error: print(type(error).__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True, check=True, text=True, cwd=tmp_path,
        env=environment("win32", tmp_path),
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        "No module named 'fcntl' on win32",
        "No module named 'resource' on win32",
        "nt False",
        "PermissionError",
        "OSError",
        "PermissionError",
    ]


def test_every_room_can_be_imported_on_windows(tmp_path: Path) -> None:
    script = (
        "import importlib, pkgutil, classmark\n"
        "rooms = 'bundle cli kernels papers records runtime storage taxonomy client wire journal "
        "bulk service'.split()\n"
        "for room in rooms:\n"
        "    package = importlib.import_module(f'classmark.{room}')\n"
        "    for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        if not module.name.endswith('.bento'):\n"  # BentoML imports it where it is
        "            importlib.import_module(module.name)\n"
        "        print(module.name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True, check=False, text=True, env=environment("win32", tmp_path),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "classmark.service.workers.supervisor" in done.stdout


def test_papers_are_classified_on_windows_also_in_a_terminal_of_few_characters(
    papers: Path, tmp_path: Path
) -> None:
    shown = run("classify", papers, folder=tmp_path)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert [line.split()[:2] for line in shown.stdout.splitlines()] == [
        ["a", "math.CO"],
        ["b", "hep-th"],
    ]


def test_files_are_classified_by_several_processes_on_windows(papers: Path, tmp_path: Path) -> None:
    for name in ("answers.csv", "answers.parquet", "answers.jsonl"):
        done = run("classify", papers, "--output", name, "--workers", "2", folder=tmp_path)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / name).stat().st_size
        assert not (tmp_path / f"{name}.parts").exists()


@pytest.mark.parametrize("name", ["con.csv", "a:b.csv", "answers.csv/x.csv"])
def test_a_name_that_windows_refuses_is_an_error_of_one_line(
    papers: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "answers.csv").write_text("")
    done = run("classify", papers, "--output", name, folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot write")
    assert len(done.stderr.splitlines()) == 1


def test_serve_says_on_windows_that_it_needs_another_system(tmp_path: Path) -> None:
    done = run("serve", folder=tmp_path)
    assert (done.returncode, done.stderr) == (
        1,
        "error: classmark serve needs Linux or macOS. On Windows run it in WSL.\n",
    )


def test_keys_are_made_one_after_the_other_on_windows(tmp_path: Path) -> None:
    """Each reads the file, adds its key and replaces it; two at once would lose one."""
    file = tmp_path / "keys.json"
    command = [sys.executable, "-m", "classmark", "keys", "create", "--file", str(file)]
    made = [
        subprocess.Popen(
            [*command, f"k{i}"], stdout=subprocess.DEVNULL, env=environment("win32", tmp_path)
        )
        for i in range(4)
    ]
    assert [process.wait() for process in made] == [0] * 4
    listed = run("keys", "list", "--file", file, folder=tmp_path)
    assert len(listed.stdout.splitlines()) == 4


def test_the_whole_path_runs_on_windows_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    for _ in range(2):  # the second run replaces what the first one made
        done = run("demo", "--output", "demo", folder=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "cannot remove" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_doctor_looks_for_the_cloud_login_where_windows_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APPDATA", str(tmp_path))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.delenv("CLOUDSDK_CONFIG", raising=False)
    login = tmp_path / "gcloud" / "application_default_credentials.json"
    login.parent.mkdir()
    login.write_text("{}")
    done = run("doctor", "--no-network", "--json", folder=tmp_path)
    (check,) = [c for c in json.loads(done.stdout) if c["name"] == "cloud login"]
    assert (check["state"], check["detail"]) == ("ok", str(login))


@pytest.fixture
def on_mac(tmp_path: Path) -> Iterator[str]:
    """Start a service that must spawn its workers; yield where it is, and stop it in order."""
    service = subprocess.Popen(
        [sys.executable, "-m", "classmark", "serve", "--port", "0", "--workers", "2"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env=environment("darwin", tmp_path),
    )  # fmt: skip
    try:
        assert service.stdout is not None
        line = service.stdout.readline()
        assert "(2 workers)" in line, line
        yield line.split(" at ")[1].split()[0]
        service.send_signal(signal.SIGTERM)
        assert service.wait(60) == 0
    finally:
        service.kill()
        service.communicate()


def test_on_macos_spawned_workers_answer_and_stop_in_order(on_mac: str) -> None:
    answer = httpx.post(f"{on_mac}/v1/classify", json={"text": PAPERS[0]["abstract"]}, timeout=30)
    assert answer.json()["ranked"][0]["code"] == "math.CO"
