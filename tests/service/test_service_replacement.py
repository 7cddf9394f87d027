"""A service that follows a registry: the model changes under load, and no request notices."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from registries import WHO, Versions, command, followed, metric
from test_service_faults import PAPER, Load, serve
from waiting import until

from classmark.registry import Registry
from classmark.runtime import Classifier

pytestmark = pytest.mark.slow  # each starts a server of its own
OWN_OF_SERVICE = ("prediction_id", "author_category", "similar")


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    made = Versions(tmp_path)
    made.promote(made.add("7.0"))
    return made


def offline(folder: Path) -> Any:
    stated = Classifier(folder).classify(PAPER).to_dict()
    return {name: value for name, value in stated.items() if name not in OWN_OF_SERVICE}


def answer(client: httpx.Client) -> tuple[Any, str]:
    response = client.post("/v1/classify", json=PAPER)
    response.raise_for_status()
    stated = response.json()
    digest = response.headers["x-classmark-digest"]
    return {name: stated[name] for name in stated if name not in OWN_OF_SERVICE}, digest


def resident_mb(process: int) -> float:
    pages = Path(f"/proc/{process}/statm").read_text("ascii").split()
    return int(pages[1]) * os.sysconf("SC_PAGESIZE") / 1e6


def test_a_promoted_bundle_answers_in_every_worker_and_no_request_fails(
    start: Any, versions: Versions
) -> None:
    first, second = versions.champion, versions.add("7.1")
    options = ("--workers", "2", "--registry", str(versions.path))
    with start(*options) as server, server.client() as client:
        workers, load = server.workers(), Load(server.url)
        until(lambda: len(load.statuses) > 50)
        assert answer(client)[1] == first
        sequence, began = versions.promote(second), time.monotonic()
        followed(client, sequence)
        took_s = time.monotonic() - began
        seen = len(load.statuses)
        until(lambda: len(load.statuses) > seen + 50)
        load.end()
        stated, digest = answer(client)
        assert digest == second == stated["model"]["digest"]
        assert stated == offline(versions.folders[second])
        assert set(load.statuses) == {200}
        assert load.refused == load.broken == []
        assert server.workers() == workers
        assert took_s < 2
        assert client.get("/readyz").json()["serving"] == {"champion": second, "previous": first}


def test_memory_stays_flat_over_many_replacements(start: Any, versions: Versions) -> None:
    digests = [versions.add(f"8.{i}") for i in range(4)]
    options = ("--workers", "1", "--registry", str(versions.path))
    with start(*options) as server, server.client() as client:
        (worker,) = server.workers()

        def replace(times: int) -> float:
            for i in range(times):
                digest = digests[i % len(digests)]
                followed(client, versions.promote(digest))
                assert answer(client)[1] == digest
            return resident_mb(worker)

        before = replace(8)
        after = replace(24)
        assert after - before < 5  # one model takes 10
        until(lambda: resident_mb(server.process.pid) < before + 20)


def test_a_killed_worker_comes_back_with_the_champion_of_now(
    start: Any, versions: Versions
) -> None:
    first, second = versions.champion, versions.add("7.1")
    options = ("--workers", "2", "--registry", str(versions.path))
    with start(*options) as server, server.client() as client:
        for digest in (second, first, second):
            killed = server.workers()[0]
            sequence = versions.promote(digest)
            os.kill(killed, signal.SIGKILL)
            until(lambda killed=killed: killed not in server.workers())
            until(lambda: metric(client, "classmark_workers") == 2)
            followed(client, sequence)
            for _ in range(8):
                with server.client() as another:
                    assert answer(another)[1] == digest


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_bundle_that_cannot_be_used_leaves_the_old_one_and_is_said(
    start: Any, versions: Versions, damage: str
) -> None:
    first, bad = versions.champion, versions.add("7.1")
    options = ("--workers", "1", "--registry", str(versions.path))
    with start(*options) as server, server.client() as client:
        sequence = spoil_and_promote(versions, bad, damage)
        followed(client, sequence)
        until(lambda: metric(client, "classmark_registry_refused") == 1)
        assert answer(client)[1] == first
        ready = client.get("/readyz")
        assert ready.status_code == 200
        kind = {"gone": "bundle_not_found", "changed": "bundle_corrupt"}[damage]
        assert ready.json()["refused"] == {"champion": {"digest": bad, "kind": kind}}
        assert str(versions.path) not in ready.text
        lines = [line for line in server.logs() if line["event"] == "not replaced"]
        assert [line["bundle"] for line in lines] == [bad]

        os.kill(server.workers()[0], signal.SIGKILL)  # its successor has no old one of its own
        until(lambda: answer(client)[1] == first)

        good = versions.add("7.2")
        followed(client, versions.promote(good))
        assert answer(client)[1] == good
        until(lambda: metric(client, "classmark_registry_refused") == 0)
        assert "refused" not in client.get("/readyz").json()


def spoil_and_promote(versions: Versions, digest: str, damage: str) -> int:
    """Promote a bundle that is damaged before a service can load it: in a copy of the registry."""
    elsewhere = Path(shutil.copytree(versions.path, versions.path.with_name("copy")))
    after = Registry.open(elsewhere).promote(digest, who=WHO, why="a test", force=True)
    folder = versions.folder(digest)
    if damage == "gone":
        folder.rename(folder.with_name("elsewhere"))
    else:
        path = next((folder / "arrays").iterdir())
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    for name in ("events.jsonl", "pointer.json"):
        (elsewhere / name).replace(versions.path / name)
    return after.sequence


def test_a_service_without_a_champion_or_a_registry_says_what_to_do(tmp_path: Path) -> None:
    missing = serve("--registry", str(tmp_path / "none"))
    assert missing.returncode == 1
    assert "none" in missing.stderr
    made = Versions(tmp_path)
    empty = serve("--registry", str(made.path))
    assert empty.returncode == 1
    assert "classmark registry promote" in empty.stderr
    unknown = serve("--registry", str(made.path), "--channel", "winner")
    assert unknown.returncode == 2
    assert "'winner' is not a channel" in unknown.stderr
    both = serve("--registry", str(made.path), "--model", "fast")
    assert both.returncode == 2
    assert "--model cannot be combined with --registry" in both.stderr


def test_a_rollback_reaches_the_last_worker_at_once(start: Any, versions: Versions) -> None:
    first, second = versions.champion, versions.add("7.1")
    options = ("--workers", "2", "--registry", str(versions.path))
    with start(*options) as server, server.client() as client:
        followed(client, versions.promote(second))
        load = Load(server.url, n_threads=1)
        until(lambda: len(load.statuses) > 20)
        done = command("rollback", "--registry", str(versions.path), "--why", "a test")
        assert done.returncode == 0, done.stderr
        ended = time.monotonic()
        followed(client, versions.registry.pointer().sequence)
        reached = time.monotonic()
        load.end()
        assert answer(client)[1] == first
        assert set(load.statuses) == {200}
        assert reached - ended < 0.5  # the old one is still loaded: a tenth of a second


def test_a_damaged_pointer_leaves_what_answers_until_it_is_whole_again(
    start: Any, versions: Versions
) -> None:
    first, pointer = versions.champion, versions.path / "pointer.json"
    options = ("--workers", "1", "--registry", str(versions.path))
    with start(*options) as server, server.client() as client:
        whole = pointer.read_bytes()
        pointer.write_bytes(whole[:-20])
        until(lambda: "pointer" in client.get("/readyz").json().get("refused", {}))
        assert client.get("/readyz").json()["refused"]["pointer"]["kind"] == "registry_corrupt"
        assert answer(client)[1] == first
        status = client.get("/v1/status").json()
        assert status["registry"] is None
        pointer.unlink()
        os.kill(server.workers()[0], signal.SIGKILL)  # its successor has only what it was given
        until(lambda: answer(client)[1] == first)
        pointer.write_bytes(whole)
        second = versions.add("7.1")
        followed(client, versions.promote(second))
        assert answer(client)[1] == second
        until(lambda: "refused" not in client.get("/readyz").json())
        lines = [line for line in server.logs() if line["event"] == "not replaced"]
        assert len(lines) <= 3  # the first worker, and its successor


def test_a_service_writes_nothing_into_the_registry_that_it_follows(
    start: Any, versions: Versions
) -> None:
    second = versions.add("7.1")
    options = ("--workers", "1", "--registry", str(versions.path))
    with start(*options) as server, server.client() as client:
        before = sorted(p for p in versions.path.rglob("*"))
        assert answer(client)[1] == versions.champion
        assert sorted(p for p in versions.path.rglob("*")) == before
        followed(client, versions.promote(second))
        after = {p: p.stat().st_mtime_ns for p in versions.path.rglob("*")}
        assert answer(client)[1] == second
        assert {p: p.stat().st_mtime_ns for p in versions.path.rglob("*")} == after


def test_a_deep_model_takes_over_from_a_fast_one_and_gives_back(
    start: Any, tmp_path: Path, deep: Any, fast_bundle: Path
) -> None:
    made = Versions(tmp_path)
    fast, slow = (made.registry.add(folder, who=WHO) for folder in (fast_bundle, deep.fp32))
    made.promote(fast)
    options = ("--workers", "1", "--registry", str(made.path))
    with start(*options) as server, server.client() as client:
        load = Load(server.url, n_threads=3)
        for digest in (slow, fast, slow, fast):
            followed(client, made.promote(digest))
            seen = len(load.statuses)
            until(lambda seen=seen: len(load.statuses) > seen + 20)
            assert answer(client)[1] == digest
        (worker,) = server.workers()
        tasks = [p.joinpath("comm").read_text() for p in Path(f"/proc/{worker}/task").iterdir()]
        load.end()
        assert set(load.statuses) == {200}
        assert load.refused == load.broken == []
        assert len(tasks) < 40  # the queues of deep models that are gone have ended


@pytest.mark.parametrize(
    ("channel", "verb"), [("champion", "promote"), ("challenger", "canary"), ("shadow", "shadow")]
)
def test_an_empty_channel_is_one_line_that_names_what_fills_it(
    tmp_path: Path, channel: str, verb: str
) -> None:
    registry = Registry.create(tmp_path / "registry", who=WHO)
    result = serve("--registry", str(registry.path), "--channel", channel, "--port", "0")
    assert result.returncode == 1
    assert f"is empty. Run `classmark registry {verb}` first, or choose" in result.stderr
    assert len(result.stderr.splitlines()) == 1
