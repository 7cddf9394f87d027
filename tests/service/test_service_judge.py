"""The supervisor's judge of a canary, on counts of workers: when it begins, and how it ends it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from registries import WHO, Versions

from classmark.errors import StorageFailed
from classmark.records import Pointer
from classmark.registry import Registry
from classmark.service import make_settings
from classmark.service.logs import set_up_logs
from classmark.service.metrics import Metrics
from classmark.service.workers import watching
from classmark.service.workers.watching import Judge, RegistryWatch, counts_of

RULES = {"requests": 100, "minutes": 0, "false_rollback": 0.01}


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    made = Versions(tmp_path)
    made.promote(made.add("7.0"))
    return made


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def judge(versions: Versions, metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> Judge:
    monkeypatch.setattr(watching, "JUDGE_EVERY_S", 0.0)  # a test does not wait for a second
    return Judge(versions.registry, metrics)


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    set_up_logs(stream)
    yield stream
    for name in ("classmark.service", "uvicorn.error", "asyncio"):
        logging.getLogger(name).handlers.clear()


def work(metrics: Metrics, n: int, *, failing: int = 0, same: bool = True) -> None:
    """Count what both versions did with n requests each."""
    for i in range(n):
        metrics.version_done("champion", 200, 0.002)
        metrics.version_done("challenger", 500 if i < failing else 200, 0.002)
        metrics.count("classmark_compared", "canary", "same" if same else "other", "neither")


def begin(versions: Versions, metrics: Metrics, candidate: str) -> None:
    """Begin a canary that every worker has followed."""
    sequence = versions.canary(candidate, 10, rules=RULES)
    metrics.set("classmark_registry_sequence", sequence)


def looked(judge: Judge, versions: Versions) -> Pointer:
    judge.look(versions.registry.pointer())
    return versions.registry.pointer()


def test_nothing_is_counted_before_every_worker_has_followed(
    judge: Judge, versions: Versions, metrics: Metrics
) -> None:
    candidate = versions.add("7.1")
    sequence = versions.canary(candidate, 10, rules=RULES)
    work(metrics, 200, same=False)  # of an earlier canary
    metrics.set("classmark_registry_sequence", sequence - 1)
    assert looked(judge, versions).canary is not None
    metrics.set("classmark_registry_sequence", sequence)
    looked(judge, versions)  # now it begins
    assert looked(judge, versions).canary is not None
    work(metrics, 120)
    after = looked(judge, versions)
    assert after.channels.champion == candidate
    assert after.last_event.numbers["requests"] == {"champion": 120, "candidate": 120}
    assert after.last_event.numbers["agreement"] == 1


def test_a_candidate_that_fails_is_rolled_back_with_the_rule_it_broke(
    judge: Judge, versions: Versions, metrics: Metrics, logged: io.StringIO
) -> None:
    champion = versions.champion
    metrics.set(
        "classmark_registry_sequence", versions.canary(versions.add("7.1"), 10, rules=RULES)
    )
    looked(judge, versions)
    for _ in range(4):
        work(metrics, 60, failing=20)
        after = looked(judge, versions)
    assert after.canary is None
    assert after.channels.champion == champion
    assert after.last_event.why == "error_share is out of bounds"
    assert [json.loads(line)["event"] for line in logged.getvalue().splitlines()] == [
        "canary ended"
    ]


def test_a_candidate_that_cannot_be_loaded_is_rolled_back_at_once(
    judge: Judge, versions: Versions, metrics: Metrics
) -> None:
    candidate = versions.add("7.1")
    begin(versions, metrics, candidate)
    path = next((versions.folder(candidate) / "arrays").iterdir())
    path.write_bytes(b"")
    after = looked(judge, versions)
    assert after.canary is None
    assert after.last_event.why == "the candidate cannot be used (bundle_corrupt)"
    assert after.last_event.numbers["fault"] == "bundle_corrupt"


def test_a_canary_without_rules_runs_on(judge: Judge, versions: Versions, metrics: Metrics) -> None:
    metrics.set("classmark_registry_sequence", versions.canary(versions.add("7.1"), 10))
    for _ in range(3):
        work(metrics, 500, failing=300, same=False)
        assert looked(judge, versions).canary is not None


def test_a_canary_that_somebody_else_ends_is_forgotten(
    judge: Judge, versions: Versions, metrics: Metrics
) -> None:
    metrics.set(
        "classmark_registry_sequence", versions.canary(versions.add("7.1"), 10, rules=RULES)
    )
    looked(judge, versions)
    stale = versions.registry.pointer()
    Registry.open(versions.path).end_canary("stopped", {}, who=WHO)
    work(metrics, 200)
    judge.look(stale)
    assert versions.registry.pointer().last_event.numbers["outcome"] == "stopped"


def test_a_registry_that_cannot_be_written_keeps_the_canary_until_it_can(
    judge: Judge,
    versions: Versions,
    metrics: Metrics,
    monkeypatch: pytest.MonkeyPatch,
    logged: io.StringIO,
) -> None:
    candidate = versions.add("7.1")
    begin(versions, metrics, candidate)
    looked(judge, versions)
    work(metrics, 200)

    def full(*_: object, **__: object) -> Pointer:
        raise StorageFailed("no space left on device. Free some.")

    with monkeypatch.context() as patched:
        patched.setattr(Registry, "end_canary", full)
        assert looked(judge, versions).canary is not None
        assert "no space left" in logged.getvalue()
        assert looked(judge, versions).canary is not None  # it waits before it tries again
        assert logged.getvalue().count("canary not ended") == 1
    judge._next_s = 0.0
    assert looked(judge, versions).channels.champion == candidate


def test_an_error_of_the_judge_leaves_the_service_alone(
    versions: Versions, metrics: Metrics, monkeypatch: pytest.MonkeyPatch, logged: io.StringIO
) -> None:
    watch = RegistryWatch(make_settings(registry=versions.path, workers=1), metrics)

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Judge, "look", fail)
    model = watching.open_model(make_settings(registry=versions.path, workers=1))
    assert watch.look(model) is model
    assert "registry not watched" in logged.getvalue()


def test_later_workers_are_forked_with_the_champion_of_now(
    versions: Versions, metrics: Metrics
) -> None:
    settings = make_settings(registry=versions.path, workers=1)
    watch, model = RegistryWatch(settings, metrics), watching.open_model(settings)
    assert watch.look(model) is model
    second = versions.add("7.1")
    versions.promote(second)
    assert watch.look(model).digest == second
    third = versions.add("7.2")
    versions.promote(third)
    next((versions.folder(third) / "arrays").iterdir()).write_bytes(b"")
    assert watch.look(model) is model


def test_counts_are_those_since_the_canary_began(metrics: Metrics) -> None:
    work(metrics, 5, failing=1)
    base = metrics.values()
    work(metrics, 7, failing=2)
    metrics.count("classmark_compared", "canary", "same", "answered")
    metrics.count("classmark_compared", "canary", "other", "compared", n=2)
    metrics.count("classmark_compared", "shadow", "same", "neither", n=50)
    found = counts_of(metrics.values(), base)
    assert (found.requests, found.failed) == ((7, 7), (0, 2))
    assert [sum(of) for of in found.latencies] == [7, 5]  # what failed has no latency
    assert (found.compared, found.same) == (10, 8)
    assert (found.abstained_more, found.abstained_less) == (1, 2)
