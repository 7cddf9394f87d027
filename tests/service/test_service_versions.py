"""The versions of one worker, in this process: who answers, what is kept, what is let go."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from registries import WHO, Versions
from waiting import until

from classmark.bundle import find_bundle, load_bundle
from classmark.errors import InvalidScores
from classmark.journal import read_predictions
from classmark.records import Paper
from classmark.service import Service, make_settings
from classmark.service.answering import comparing
from classmark.service.answering.answerer import AnswerOptions, Question
from classmark.service.answering.comparing import Comparer, Pairing
from classmark.service.answering.model import Model
from classmark.service.answering.versions import Version, in_share

TEXTS = ("Graph colouring\nWe colour sparse graphs.", "Branes\nWe study string dualities.")


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    made = Versions(tmp_path)
    made.promote(made.add("7.0"))
    return made


@pytest.fixture
def make(versions: Versions, tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Return a function that makes a started service which follows the registry."""
    made: list[Service] = []

    def begin(**changes: Any) -> Service:
        given = {"journal": "off", "access_log": False, "registry": versions.path, **changes}
        service = Service(make_settings(**given))
        service.start()
        made.append(service)
        return service

    yield begin
    for service in made:
        service.close()


def look(service: Service) -> None:
    """Follow the registry once, without the thread that does so."""
    assert service.follower is not None
    service.follower.look()


@given(st.text(min_size=1), st.text(min_size=1), st.floats(0, 100), st.floats(0, 100))
def test_a_client_of_a_share_is_in_every_larger_one(
    holder: str, salt: str, one: float, other: float
) -> None:
    small, large = sorted((one, other))
    assert in_share(holder, salt, large) or not in_share(holder, salt, small)
    assert in_share(holder, salt, 100)
    assert not in_share(holder, salt, 0)


def test_a_share_takes_that_share_of_the_clients_and_others_for_each_candidate() -> None:
    clients = [f"10.0.{i // 256}.{i % 256}" for i in range(20_000)]
    chosen = {salt: {c for c in clients if in_share(c, salt, 5)} for salt in ("one", "two")}
    assert all(0.045 < len(found) / len(clients) < 0.055 for found in chosen.values())
    assert len(chosen["one"] & chosen["two"]) < 0.2 * len(chosen["one"])


def test_a_version_that_is_let_go_is_freed_at_once(
    make: Callable[..., Service], versions: Versions
) -> None:
    service = make()
    first = weakref.ref(service.versions.champion)
    model = weakref.ref(service.versions.champion.model.classifier)
    gc.disable()  # nothing in it may wait for a collection, which the event loop would pay for
    try:
        for version in ("7.1", "7.2"):
            versions.promote(versions.add(version))
            look(service)
        assert service.model.spec == "fast@7.2"
        assert first() is None
        assert model() is None
    finally:
        gc.enable()


def test_the_champion_before_comes_back_without_being_loaded(
    make: Callable[..., Service], versions: Versions
) -> None:
    service = make()
    first = service.versions.champion
    versions.promote(versions.add("7.1"))
    look(service)
    versions.registry.rollback(who=WHO)
    versions.folder(first.ref.digest).rename(versions.path / "elsewhere")
    look(service)
    assert service.versions.champion is first
    assert first.role == "champion"


def test_a_canary_and_its_champion_do_not_keep_each_other(
    make: Callable[..., Service], versions: Versions
) -> None:
    service = make()
    candidate = versions.add("7.1")
    versions.registry.set_shadow(candidate, percent=100, who=WHO)
    versions.canary(candidate, 50)
    look(service)
    challenger = service.versions.roster.challenger
    assert challenger is not None
    assert service.versions.roster.shadow is challenger  # one copy for both
    gone = weakref.ref(challenger)
    gc.disable()
    try:
        del challenger
        versions.registry.rollback(who=WHO)
        versions.registry.set_shadow(None, who=WHO)
        look(service)
        assert gone() is None
    finally:
        gc.enable()


def test_a_queue_of_a_deep_model_ends_with_the_last_request_that_holds_it() -> None:
    class Queue:
        is_closed = False

        def close(self) -> None:
            self.is_closed = True

    class Answerer:
        batcher = Queue()

    version = Version(None, Answerer())  # type: ignore[arg-type]
    one, other = version.enter(), version.enter()
    version.release()
    one.leave()
    assert not Answerer.batcher.is_closed
    other.leave()
    assert Answerer.batcher.is_closed


def test_a_pointer_that_changes_while_its_bundle_is_loaded_is_followed_to_the_last(
    make: Callable[..., Service], versions: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = make()
    second, third = versions.add("7.1"), versions.add("7.2")
    versions.promote(second)
    loading = service.versions.make

    def slowly(model: Any) -> Version:
        monkeypatch.undo()
        versions.promote(third)
        return loading(model)

    monkeypatch.setattr(service.versions, "make", slowly)
    look(service)
    assert service.model.spec == "fast@7.0"  # the second was never answered with
    look(service)
    assert service.model.spec == "fast@7.2"
    assert service.versions.roster.previous is not None
    assert service.versions.roster.previous.model.spec == "fast@7.0"


def test_an_error_that_nobody_expects_leaves_what_answers(
    make: Callable[..., Service], versions: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = make()

    def fail(_: Any) -> Version:
        raise ZeroDivisionError("a text of somebody")

    monkeypatch.setattr(service.versions, "make", fail)
    second = versions.add("7.1")
    versions.promote(second)
    look(service)
    assert service.follower is not None
    fault = service.follower.faults["champion"]
    assert (fault.digest, fault.kind) == (second, "internal_error")
    assert "somebody" not in fault.detail
    assert service.model.spec == "fast@7.0"


def test_a_bundle_that_cannot_answer_the_warm_up_leaves_what_answers(
    make: Callable[..., Service], versions: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = make()
    asked: list[str] = []

    def fail(model: Model) -> None:
        asked.append(model.spec)
        raise InvalidScores("the scores are not finite")

    monkeypatch.setattr(Model, "warm_up", fail)
    second = versions.add("7.1")
    versions.promote(second)
    look(service)
    assert asked == ["fast@7.1"]
    assert service.follower is not None
    fault = service.follower.faults["champion"]
    assert (fault.digest, fault.kind) == (second, "invalid_scores")
    assert service.model.spec == "fast@7.0"


def compare(service: Service, comparer: Comparer, n: int) -> list[str]:
    """Answer n papers that are compared by the same version; return their prediction ids."""
    version = service.versions.champion
    version.answerer.pairing = Pairing("shadow", version, 100.0, comparer)
    found = []
    for i in range(n):
        question = Question(Paper.from_text(TEXTS[i % 2]))
        found.append(version.answerer.answer(question, AnswerOptions()).prediction_id)
    return found


def counted(service: Service, name: str) -> float:
    return sum(v for key, v in service.metrics.values().items() if key[0] == f"{name}_total")


def test_a_full_queue_compares_no_more_and_the_journal_has_every_line(
    make: Callable[..., Service], tmp_path: Path
) -> None:
    path = tmp_path / "journal.sqlite"
    service = make(journal=str(path))
    comparer = Comparer(service.metrics, service.journal)  # not started: its queue fills
    n = comparing.QUEUE_PAPERS + 10
    ids = compare(service, comparer, n)
    assert counted(service, "classmark_compared_dropped") == 10
    comparer.start()
    until(lambda: comparer._queue.empty())
    comparer.close(timeout_s=20)
    service.close()
    events = {p.event.prediction_id: p.event for p in read_predictions(path)}
    assert set(events) == set(ids)
    n_compared = sum(event.compared is not None for event in events.values())
    assert n_compared == counted(service, "classmark_compared")
    assert n_compared + counted(service, "classmark_compared_dropped") == n


def test_what_waits_when_the_service_ends_is_written_without_a_comparison(
    make: Callable[..., Service], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.sqlite"
    service = make(journal=str(path))
    comparer = service.versions.comparer
    held, go_on = threading.Event(), threading.Event()
    scoring = comparing.answer_papers

    def wait(*arguments: Any) -> Any:
        held.set()
        go_on.wait()
        return scoring(*arguments)

    monkeypatch.setattr(comparing, "answer_papers", wait)
    comparer.start()
    ids = compare(service, comparer, 5)
    assert held.wait(20)
    closing = threading.Thread(target=service.close)
    closing.start()
    until(lambda: comparer._is_closed)
    go_on.set()
    closing.join()
    events = {p.event.prediction_id: p.event for p in read_predictions(path)}
    assert set(events) == set(ids)
    assert [events[i].compared is not None for i in ids] == [True, False, False, False, False]


def test_a_comparison_that_fails_costs_no_line_of_the_journal(
    make: Callable[..., Service], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.sqlite"
    service = make(journal=str(path))

    def fail(*_: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(comparing, "answer_papers", fail)
    service.versions.comparer.start()
    ids = compare(service, service.versions.comparer, 3)
    service.close()
    events = {p.event.prediction_id: p.event.compared for p in read_predictions(path)}
    assert events == dict.fromkeys(ids)


def test_the_champion_is_as_old_as_the_change_that_made_it_one(
    make: Callable[..., Service], versions: Versions
) -> None:
    [made] = [e for e in versions.registry.events() if e.action == "promote"]
    versions.canary(versions.add("7.1"), 10)
    versions.registry.end_canary("rolled_back", {}, who=WHO, why="a test")
    values = make().metrics.values()
    since = datetime.fromisoformat(made.at_utc).timestamp()
    assert values["classmark_champion_since_timestamp_seconds", ""] == since
    fitted = load_bundle(find_bundle("fast")).manifest.provenance["date"]
    assert values["classmark_model_made_timestamp_seconds", ""] == (
        datetime.fromisoformat(fitted).timestamp()
    )


def test_without_a_registry_nothing_says_since_when_a_model_is_champion(
    make: Callable[..., Service],
) -> None:
    text = make(registry=None).metrics.text().decode()
    assert "\nclassmark_model_made_timestamp_seconds " in text
    assert "\nclassmark_champion_since_timestamp_seconds " not in text
