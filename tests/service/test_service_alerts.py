"""Faults of a real service reach a webhook, through the real Prometheus and Alertmanager."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from alerting import (
    DEPLOY,
    TOKEN,
    Mailbox,
    Watch,
    Webhook,
    free_port,
    mailbox,
    needs_programs,
    watching,
    webhook,
)
from registries import Versions
from waiting import until

from classmark import Paper
from classmark.records import utc_text
from classmark.records.drift import (
    Action,
    Alarm,
    Counts,
    DriftReport,
    LiveScore,
    Size,
    StreamState,
    WindowTest,
)
from classmark.records.evaluation import AccuracyEstimate, MetricValue
from classmark.wire import ModelRef
from watched_journals import Watched, watched_model

__all__ = ["watched_model"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # Alertmanager needs seconds an alert
PAPER = {"title": "Graph colouring", "abstract": "We colour sparse graphs with few colours."}


class Stack:
    """A service with what watches it; the service can be stopped and started again."""

    def __init__(self, folder: Path, hook: Webhook, begin: Callable[..., Any]) -> None:
        self.hook, self.folder, self._begin = hook, folder, begin
        self.report = folder / "drift.json"
        self.versions = Versions(folder)
        self.versions.promote(self.versions.add("7.0"))
        self.versions.canary(self.versions.add("7.1"), 100)
        self.port = free_port()
        self.server: Any
        self._own = ExitStack()
        self.write_report("none")
        self.start()

    def start(self) -> None:
        options = ("--workers", "2", "--port", str(self.port), "--drift-report", str(self.report))
        options += ("--registry", str(self.versions.path))
        self.server = self._own.enter_context(self._begin(*options))

    def stop(self) -> None:
        self._own.close()

    def write_report(self, action: Action) -> None:
        alarm = Alarm(kind="window", action=action, p_value=0.001, text="seen in a test")
        report = DriftReport(
            model=ModelRef("fast", "2.0", "0" * 64),
            reference="none",
            created_at_utc=utc_text(),
            since_utc=utc_text(),
            until_utc=utc_text(),
            counts=Counts(read=100, compared=100, repeated=0, without_features=0, left_out=0),
            alpha=0.01,
            window=WindowTest(n_window=100, n_reference=100, p_value=0.5, statistics={}, shifts=()),
            size=Size(share=0.01, low=0.0, high=0.02),
            accuracy=AccuracyEstimate(
                papers=100, labels=0, value=0.6, low=0.5, high=0.7, level=0.95, reference=0.61
            ),
            live=LiveScore(
                **{"name": "30 days", "n": 100, "n_accepted": 0, "n_sets": 0, "abstained": 1.0},
                **dict.fromkeys(("top1", "top5"), MetricValue(value=0.6, low=0.5, high=0.69)),
                accepted=None,
                covered=None,
            ),
            stream=StreamState(n=100, begun_at_utc=utc_text(), martingale=2.0, p_value=0.5),
            alarms=() if action == "none" else (alarm,),
        )
        part = self.report.with_suffix(".part")
        part.write_text(json.dumps(report.to_dict()))
        part.replace(self.report)

    def ask(self) -> int:
        with self.server.client() as client:
            return int(client.post("/v1/classify", json=PAPER).status_code)

    def arrives_and_resolves(self, name: str, cause: Any, end: Any) -> dict[str, Any]:
        """Do something until an alert arrives, then undo it until that resolves."""
        until(lambda: (cause(), self.hook.is_firing(name))[1])
        alert = self.hook.alerts[name]
        until(lambda: (end(), self.hook.is_resolved(name))[1])
        return alert


@pytest.fixture(scope="module")
def hook() -> Iterator[Webhook]:
    needs_programs()
    with webhook() as taken:
        yield taken


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory, hook: Webhook, start_shared: Callable[..., Any]
) -> Iterator[Stack]:
    made = Stack(tmp_path_factory.mktemp("alerts"), hook, start_shared)
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def mail() -> Iterator[Mailbox]:
    with mailbox() as taken:
        yield taken


@pytest.fixture(scope="module")
def watch(stack: Stack, hook: Webhook, mail: Mailbox) -> Iterator[Watch]:
    with watching(stack.folder / "watch", stack.server.url, hook.url, mail.address) as started:
        until(lambda: started.values('up{job="classmark"} == 1'))
        yield started


def nothing() -> None: ...


def test_a_service_that_is_well_raises_nothing(stack: Stack, watch: Watch) -> None:
    until(lambda: stack.ask() == 200 and watch.values("classmark:errors:ratio_rate5m == 0"))
    assert watch.values('classmark_drift_action{action="none"} == 1')
    until(lambda: not watch.firing())  # before the first scrape there is no target
    assert set(stack.hook.states) <= {"ClassmarkTargetDown"}


@pytest.mark.parametrize("board", ["service", "watch"])
def test_every_panel_of_a_dashboard_has_data(stack: Stack, watch: Watch, board: str) -> None:
    text = (DEPLOY / "grafana" / "dashboards" / f"{board}.json").read_text()
    waiting = {panel["title"]: panel for panel in json.loads(text)["panels"]}
    waiting.pop("Refusals", None)  # nothing was refused yet, so that nothing counted it

    def all_filled() -> bool:
        assert stack.ask() == 200
        for title, panel in list(waiting.items()):
            queries = [t["expr"].replace("$__rate_interval", "15s") for t in panel["targets"]]
            if all(map(watch.values, queries)):
                del waiting[title]
        return not waiting

    until(all_filled)


def test_a_drift_report_that_asks_for_it_pages_until_the_next_one_does_not(
    stack: Stack, watch: Watch
) -> None:
    stack.write_report("page")
    alert = stack.arrives_and_resolves(
        "ClassmarkDriftPage", nothing, lambda: stack.write_report("none")
    )
    assert alert["labels"]["severity"] == "page"
    url = alert["annotations"]["runbook_url"]
    assert url == "http://127.0.0.1:8001/how-to/runbooks/#classmarkdriftpage"
    assert stack.hook.tokens == {f"Bearer {TOKEN}"}


def test_traffic_of_another_field_pages_until_usual_papers_come_again(
    stack: Stack,
    watch: Watch,
    watched_model: Watched,
    start_shared: Callable[..., Any],
    tmp_path: Path,
) -> None:
    journal = tmp_path / "journal.sqlite"
    look = [sys.executable, "-m", "classmark", "monitor", "run", "--journal", str(journal)]
    look += ["--model", str(watched_model.folder), "--newest", "150", "--no-stream"]
    look += ["--history", str(tmp_path / "monitor.sqlite"), "--output", str(stack.report)]
    papers = iter(watched_model.usual)

    def send(some: Sequence[Paper]) -> None:
        body = [{"title": paper.title, "abstract": paper.abstract} for paper in some]
        with server.client() as client:
            assert client.post("/v1/classify", json={"papers": body}).status_code == 200

    def looked(kind: str) -> bool:
        """Look until all is written; the exit code says what the policy asks for."""
        subprocess.run(look, check=False, capture_output=True, timeout=200)
        report = DriftReport.from_dict(json.loads(stack.report.read_bytes()))
        return report.counts.compared == 150 and report.action == kind

    options = ("--model", str(watched_model.folder), "--journal", str(journal))
    with start_shared(*options) as server:
        send(list(islice(papers, 150)))
        until(lambda: looked("none"))
        send(watched_model.other[:150])
        until(lambda: looked("page"))
        until(lambda: stack.hook.is_firing("ClassmarkDriftPage"))
        send(list(islice(papers, 150)))
        until(lambda: looked("none"))
    until(lambda: stack.hook.is_resolved("ClassmarkDriftPage"))


def test_a_drift_report_that_asks_for_a_new_model_arrives_by_mail(
    stack: Stack, watch: Watch, mail: Mailbox
) -> None:
    name, page = "ClassmarkDriftRetrain", "http://127.0.0.1:8001/how-to/runbooks/"
    stack.write_report("retrain")
    until(lambda: mail.has("To: operators@example.org", "FIRING", name, page))
    stack.write_report("none")
    until(lambda: mail.has("RESOLVED", name))
    assert mail.logins == {("classmark@example.org", TOKEN)}
    assert name not in stack.hook.states


def test_workers_that_are_killed_again_and_again_page(stack: Stack, watch: Watch) -> None:
    def kill() -> None:
        pids = stack.server.workers()
        if len(pids) == 2:  # the other one goes on answering Prometheus
            with suppress(ProcessLookupError):
                os.kill(max(pids), signal.SIGKILL)

    stack.arrives_and_resolves("ClassmarkWorkersDying", kill, nothing)
    assert until(stack.ask) == 200


def test_a_journal_on_a_full_disk_pages_and_requests_are_answered(
    stack: Stack, watch: Watch
) -> None:
    most = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(to: tuple[int, int]) -> None:
        for pid in stack.server.workers():
            for child in Path(f"/proc/{pid}/task").glob("*/children"):
                for writer in child.read_text().split():
                    resource.prlimit(int(writer), resource.RLIMIT_FSIZE, to)

    def fill() -> None:
        limit((1, most[1]))
        assert stack.ask() == 200

    stack.arrives_and_resolves("ClassmarkJournalFailing", fill, lambda: limit(most))


def test_a_service_that_is_gone_pages_and_holds_back_its_other_news(
    stack: Stack, watch: Watch
) -> None:
    stack.stop()
    until(lambda: stack.hook.is_firing("ClassmarkTargetDown"))
    until(lambda: watch.is_held_back("ClassmarkAccuracyDrop", "page"))
    assert "ClassmarkAccuracyDrop" not in stack.hook.states
    stack.start()
    until(lambda: stack.hook.is_resolved("ClassmarkTargetDown"))
