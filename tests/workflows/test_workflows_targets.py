"""The targets that workflows call: gates refuse, comparisons compare, deployments say no."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from github_server import PULL_REQUEST, REPOSITORY, TOKEN, serving

import load
from load_gate import faults_of, headers_of
from make_targets import ROOT, clone, git, make, needs_make
from spoilt_bundles import rewrite

pytestmark = needs_make


@pytest.mark.parametrize("target", ["deploy", "rollback"])
def test_a_deployment_without_an_environment_says_what_is_missing(
    target: str, tmp_path: Path
) -> None:
    pytest.importorskip("google.cloud.run_v2")
    missing = tmp_path / "cloud.yaml"
    image = f"$(shell touch {tmp_path / 'made'})"
    done = make(target, IMAGE=image, CLASSMARK_CLOUD=str(missing))
    assert done.returncode == 2
    assert not (tmp_path / "made").exists()
    assert f"error: the environment {missing} cannot be read (No such file" in done.stderr


def test_a_comment_and_a_release_reach_github(tmp_path: Path) -> None:
    event = {"pull_request": {"number": PULL_REQUEST}}
    (tmp_path / "event.json").write_text(json.dumps(event))
    (tmp_path / "data.md").write_text("Ten papers more.\n")
    with serving() as server:
        environment = {
            "GITHUB_TOKEN": TOKEN,
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_API_URL": server.address,
            "GITHUB_EVENT_PATH": str(tmp_path / "event.json"),
        }
        done = make("comment", "ABOUT=data", f"FILE={tmp_path / 'data.md'}", **environment)
        assert done.returncode == 0, done.stderr
        assert server.comments[0]["body"].endswith("\nTen papers more.\n")
        done = make("release", "TAG=v0.1.0", **environment)
        assert done.returncode == 0, done.stderr
        (release,) = server.releases
    assert release["tag_name"] == "v0.1.0"
    assert release["body"].startswith("### Added")
    assert release["draft"] is False


@pytest.mark.slow  # builds two datasets
def test_the_report_of_data_shows_what_a_commit_changed(tmp_path: Path) -> None:
    root = clone(tmp_path / "classmark")
    vocabulary = root / "src/classmark/dataset/sample/vocabulary.json"
    text = vocabulary.read_text("utf-8")
    vocabulary.write_text(text.replace("learning", "wayfinding"))
    held_out = root / "benchmarks/holdout/valid-ids.txt"
    held_out.write_text("invented/0000001\n" + held_out.read_text("utf-8"))
    git(root, "commit", "--quiet", "--all", "--message", "Change the data")
    done = make("data-report", "BASE=HEAD^", root=root)
    assert done.returncode == 0, done.stderr
    report = (root / "build/data.md").read_text("utf-8")
    assert "wayfinding" in report
    assert re.search(r"\| valid-ids.txt \| [\d,]+ \| 1 \| 0 \|", report)


def test_an_unknown_commit_is_named_by_the_report_of_data() -> None:
    done = make("data-report", "BASE=no-such-commit")
    assert done.returncode == 2
    assert "Name a commit that this checkout has." in done.stderr


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clone(tmp_path_factory.mktemp("model") / "classmark")


def packaged(root: Path) -> Path:
    return next((root / "src/classmark/bundles").glob("*/bundle.json")).parent


def other(root: Path, folder: Path, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    """Return a copy of the packaged model whose head is another one."""
    model = folder / packaged(root).name
    shutil.copytree(packaged(root), model)
    buffer = io.BytesIO()
    np.save(buffer, change(np.load(model / "arrays/head.npy")), allow_pickle=False)
    return rewrite(model, files={"arrays/head.npy": buffer.getvalue()})


def retouch(head: np.ndarray) -> np.ndarray:
    """Change one weight by the least that it can change."""
    head.flat[0] += 1
    return head


@pytest.mark.slow  # scores thousands of papers
def test_a_model_that_is_the_same_is_accepted(checkout: Path) -> None:
    done = make("model-gate", "BASE=HEAD", root=checkout)
    assert done.returncode == 0, done.stderr
    decision = (checkout / "build/model.md").read_text("utf-8")
    assert decision == done.stdout.rstrip("\n") + "\n"
    assert "**Accepted**" in decision
    assert "top_1 0." in decision
    assert "| gate of a registry | yes | it is the champion already: the digest is the same |" in (
        decision
    )


@pytest.mark.slow
def test_a_new_model_passes_the_gate_of_a_registry_and_is_promoted(
    checkout: Path, tmp_path: Path
) -> None:
    model = other(checkout, tmp_path, retouch)
    code, decision = gate("--model", str(model), root=checkout, output=tmp_path / "model.md")
    assert code == 0, decision
    gated = r"\| gate of a registry \| yes \| (\d+) of \1 lines hold; the registry trusts no key \|"
    assert re.search(gated, decision)
    assert "| promoted | yes |" in decision


def test_a_line_that_fails_in_the_gate_is_named() -> None:
    from model_gate import judged

    lines = [
        {"group": "kernels", "name": "papers scored differently", "outcome": "failed", "note": ""},
        {"group": "signature", "name": "signed", "outcome": "passed", "note": ""},
    ]
    report = json.dumps({"passed": False, "checked": 2, "failed": 1, "checks": lines})
    check = judged(subprocess.CompletedProcess([], 3, report, "error: refused\n"))
    assert not check.passed
    assert check.detail == "1 of 2 lines hold; kernels: papers scored differently; signed"


@pytest.mark.slow
def test_where_the_base_trusts_a_key_a_new_model_must_be_signed_with_it(tmp_path: Path) -> None:
    pytest.importorskip("model_signing")
    root = clone(tmp_path / "classmark")
    model = other(root, tmp_path, retouch)
    place, key = tmp_path / "registry", tmp_path / "release.key"
    for words in (
        ("registry", "keys", "create", key),
        ("registry", "init", "--registry", place),
        ("registry", "add", model, "--sign", key, "--registry", place),
    ):
        command = [sys.executable, "-m", "classmark", *words]
        subprocess.run(command, check=True, capture_output=True)
    (signature,) = (place / "signatures").iterdir()
    signatures = root / ".ci/signatures"
    signatures.mkdir()
    shutil.copy(f"{key}.pub", signatures)
    words = ("--model", str(model))
    code, decision = gate(*words, root=root, output=tmp_path / "model.md")
    assert "the registry trusts no key" in decision  # HEAD, the base, does not have it yet
    assert code == 0
    git(root, "add", ".ci/signatures")
    git(root, "commit", "--quiet", "--message", "Trust the key of releases")
    code, decision = gate(*words, root=root, output=tmp_path / "model.md")
    assert code == 3
    assert "**Refused**: taken by a registry." in decision
    assert "is not signed, and the registry trusts signed bundles only" in decision
    shutil.copy(signature, signatures)
    code, decision = gate(*words, root=root, output=tmp_path / "model.md")
    assert code == 0, decision
    assert "; signed by a trusted key |" in decision


def gate(*words: str, root: Path, output: Path) -> tuple[int, str]:
    """Return the exit code and the decision of the script that the target runs."""
    command = [sys.executable, ".ci/model_gate.py", "--base", "HEAD", "--output", str(output)]
    done = subprocess.run([*command, *words], cwd=root, capture_output=True, text=True, check=False)
    assert output.exists(), done.stderr
    return done.returncode, output.read_text("utf-8")


@pytest.mark.slow
def test_a_model_with_a_changed_byte_is_refused_before_it_answers(tmp_path: Path) -> None:
    root = clone(tmp_path / "classmark")
    rows = packaged(root) / "arrays" / "rows.npy"
    content = bytearray(rows.read_bytes())
    content[-1] ^= 1
    rows.write_bytes(content)
    done = make("model-gate", "BASE=HEAD", root=root)
    assert "Error 3" in done.stderr
    assert "**Refused**: verified." in done.stdout
    assert "rows.npy" in done.stdout
    assert "predictions" not in done.stdout


@pytest.mark.slow
def test_a_model_that_is_too_slow_is_refused(checkout: Path, tmp_path: Path) -> None:
    code, decision = gate("--seconds", "0.000001", root=checkout, output=tmp_path / "model.md")
    assert code == 3
    assert "**Refused**: 100 predictions." in decision


@pytest.mark.slow
def test_a_model_that_answers_worse_is_refused(checkout: Path, tmp_path: Path) -> None:
    worse = other(checkout, tmp_path, lambda head: head[::-1].copy())
    code, decision = gate("--model", str(worse), root=checkout, output=tmp_path / "model.md")
    assert code == 3, decision
    assert "**Refused**: no worse than before." in decision


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of a running service."""
    command = (sys.executable, "-m", "classmark", "serve", "--port", "0", "--workers", "1")
    with serving_at(command) as address:
        yield address


@contextmanager
def serving_at(command: Sequence[str]) -> Iterator[str]:
    """Yield the address that a command serves at."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            yield re.search(r"http://\S+:\d+", line)[0]  # type: ignore[index]
        finally:
            process.terminate()


@pytest.mark.slow  # loads a service
def test_a_service_that_stands_the_load_may_stay(url: str) -> None:
    done = make("load-test", f"URL={url}", "LOAD=--seconds 1 --concurrency 2 --p95-ms 20000")
    assert done.returncode == 0, done.stderr
    point = json.loads(done.stdout)
    assert point["requests_per_s"] > 1
    assert (point["refused"], point["broken"]) == (0, 0)


@pytest.mark.slow
def test_a_service_that_is_slow_or_away_may_not_stay(url: str) -> None:
    done = make("load-test", f"URL={url}", "LOAD=--seconds 1 --concurrency 2 --p95-ms 0.001")
    assert "Error 3" in done.stderr
    assert "refused: 95 % of the answers took up to" in done.stderr
    done = make("load-test", "URL=http://127.0.0.1:9")
    assert "Error 3" in done.stderr
    assert "http://127.0.0.1:9 is not ready" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["wrk", "httpx"])
def test_a_service_with_keys_is_loaded_with_the_key_of_the_environment(
    tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if tool == "wrk" and shutil.which("wrk") is None:
        pytest.skip("wrk is not installed: make system-deps")
    file = str(tmp_path / "keys.json")
    classmark = [sys.executable, "-m", "classmark"]
    create = [*classmark, "keys", "create", "load", "--file", file]
    key = subprocess.run(create, capture_output=True, text=True, check=True).stdout.strip()
    words = (*classmark, "serve", "--port", "0", "--workers", "1", "--api-keys", file)
    with serving_at(words) as url:
        address = f"{url}/v1/classify"
        monkeypatch.setattr("load.generator", lambda: tool)
        point = load.measure(address, load.single_bodies(1), 1, 1, headers_of({}))
        assert point.refused > 0
        headers = headers_of({"CLASSMARK_API_KEY": key})
        point = load.measure(address, load.single_bodies(1), 1, 1, headers)
        assert (point.refused, point.broken) == (0, 0)
        load_words = "LOAD=--seconds 1 --concurrency 2 --p95-ms 20000"
        done = make("load-test", f"URL={url}", load_words, CLASSMARK_API_KEY=key)
    assert done.returncode == 0, done.stderr
    assert key not in done.stdout + done.stderr


def test_a_key_and_a_token_of_an_identity_are_sent_beside_each_other() -> None:
    assert headers_of({"CLASSMARK_API_KEY": "", "HOME": "/"}) == {}
    assert headers_of({"CLASSMARK_API_KEY": "cmk_1", "CLOUD_IDENTITY_TOKEN": "ey"}) == {
        "X-API-Key": "cmk_1",
        "X-Serverless-Authorization": "Bearer ey",
    }


def test_errors_and_broken_connections_under_load_are_each_named() -> None:
    point = load.Point(8, 100.0, 5.0, 9.0, 12.0, 30.0, refused=2, broken=1)
    assert faults_of(point, 10.0) == [
        "2 answers with an error status",
        "1 broken connections or timeouts",
    ]


@pytest.mark.slow  # measures three times
def test_a_slower_kernel_is_found_and_the_same_one_is_not(tmp_path: Path) -> None:
    root = clone(tmp_path / "classmark")
    report = root / "build/speed.json"
    first = make("speed", "SPEED=--tiny", root=root)
    assert first.returncode == 0, first.stderr
    assert "not compared: no last report" in first.stderr
    last = json.loads(report.read_text("utf-8"))
    last["ratios"] = {name: [v * 100 for v in values] for name, values in last["ratios"].items()}
    report.write_text(json.dumps(last))
    assert make("speed", "SPEED=--tiny", root=root).returncode == 0
    last["ratios"]["numpy"] = [v / 10_000 for v in last["ratios"]["numpy"]]
    report.write_text(json.dumps(last))
    done = make("speed", "SPEED=--tiny", root=root)
    assert done.returncode == 2
    assert re.search(r"numpy: [\d.]+ times the time \(.+\), SLOWER", done.stderr)
    assert json.loads(report.read_text("utf-8"))["slower"] == ["numpy"]
    last["provenance"]["cpu"] = "Some other processor"
    report.write_text(json.dumps(last))
    done = make("speed", "SPEED=--tiny", root=root)
    assert done.returncode == 0
    assert "not compared: the last report is of another processor" in done.stderr


def test_noise_raises_no_alarm_and_a_third_more_time_does() -> None:
    from regression import TOLERANCE, slower

    rng = np.random.default_rng(3)

    def measured(factor: float) -> dict[str, list[float]]:
        return {"kernel": list(factor * rng.lognormal(0.0, 0.08, 9))}

    alarms = sum(bool(slower(measured(1), measured(1), TOLERANCE)) for _ in range(100))
    found = sum(bool(slower(measured(1.33), measured(1), TOLERANCE)) for _ in range(100))
    assert alarms <= 1
    assert found >= 85


@pytest.mark.slow  # builds the documentation
def test_each_version_of_the_documentation_stays_beside_the_next(tmp_path: Path) -> None:
    pytest.importorskip("mike", reason="needs the group docs: make check")
    origin, root = tmp_path / "origin.git", clone(tmp_path / "classmark")
    git(ROOT, "clone", "--quiet", "--bare", str(root), str(origin))
    git(root, "remote", "set-url", "origin", str(origin))
    for words in (("VERSION=main", "ALIAS="), ("VERSION=v9.1.0", "ALIAS=latest")):
        done = make(
            "publish-docs", *words, "PUSH=--push", root=root, GITHUB_REPOSITORY="someone/classmark"
        )
        assert done.returncode == 0, done.stderr
    versions = json.loads(git(origin, "show", "gh-pages:versions.json"))
    assert {one["version"]: one["aliases"] for one in versions} == {
        "main": [],
        "v9.1.0": ["latest"],
    }
    for page in ("main/index.html", "v9.1.0/index.html"):
        assert "classmark" in git(origin, "show", f"gh-pages:{page}")
    contact = git(origin, "show", "gh-pages:v9.1.0/.well-known/security.txt").splitlines()
    assert contact[0] == "Contact: https://github.com/someone/classmark/security/advisories/new"
    expires = datetime.fromisoformat(contact[1].removeprefix("Expires: "))
    assert timedelta(days=300) < expires - datetime.now(UTC) < timedelta(days=366)
    assert "../v9.1.0/tutorial/" in git(origin, "show", "gh-pages:latest/tutorial/index.html")
    assert "latest/" in git(origin, "show", "gh-pages:index.html")


@pytest.mark.slow  # makes an environment
def test_the_oldest_allowed_versions_are_installed_and_tested(tmp_path: Path) -> None:
    words = (f"LOWEST_VENV={tmp_path / 'venv'}", "LOWEST_TESTS=tests/taxonomy", "PARALLEL=")
    done = make("lowest", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ passed", done.stdout)
    python = next((tmp_path / "venv").glob("*/python"))
    code = "import httpx, numpy; print(httpx.__version__, numpy.__version__)"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"0\.28\.0 2\.[01]\.0\n", done.stdout)


@pytest.mark.slow
def test_the_core_is_tested_alone() -> None:
    done = make("core", "CORE_TESTS=tests/taxonomy", "PARALLEL=")
    assert done.returncode == 0, done.stdout
    assert re.search(r"\d+ passed", done.stdout)


@pytest.mark.slow
def test_the_deep_tier_is_tested_alone() -> None:
    done = make("deep", "DEEP_TESTS=tests/export/test_export_policy.py", "PARALLEL=")
    assert done.returncode == 0, done.stdout
    assert re.search(r"\d+ passed", done.stdout)


@pytest.mark.slow
def test_the_coverage_goes_to_the_summary_of_the_run(tmp_path: Path) -> None:
    data, summary = tmp_path / "coverage", tmp_path / "summary.md"
    command = [sys.executable, "-m", "coverage", "run", "--data-file", str(data)]
    command += ["-m", "classmark", "--version"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    parts = [str(path) for path in tmp_path.glob("coverage.*")]
    combine = [sys.executable, "-m", "coverage", "combine", "--data-file", str(data), *parts]
    subprocess.run(combine, cwd=ROOT, check=True, capture_output=True)
    make("coverage-report", COVERAGE_FILE=str(data), GITHUB_STEP_SUMMARY=str(summary))
    assert summary.read_text("utf-8").startswith("## Branch coverage\n")
    assert re.search(r"^\|.*TOTAL.*\|", summary.read_text("utf-8"), re.MULTILINE)
