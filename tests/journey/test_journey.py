"""From ordinary traffic to a model that has taken over: real processes, and load all the while."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

import classmark
from classmark.client import Client, ClientConfig
from classmark.dataset.config import SampleConfig
from classmark.dataset.sample.sample import sample_papers
from classmark.journal.reading import summarise
from classmark.records import Paper
from classmark.registry import Registry
from classmark.service.keys import create_key
from classmark.wire import Answer

pytestmark = pytest.mark.slow  # reason: models are fitted, served and replaced

_PATIENCE_S = 400
_BATCH, _PAUSE_S = 10, 0.1
_RULES = """\
policy: {least_papers: 300}
feedback: {agree: 1, client_share: 1, category_share: 1}
replacement:
  shadow_papers: 50
  percent: 50
  allow_label_change: true
  rules: {requests: 20, minutes: 0, agreement: 0.2, abstention: null, p99_ratio: 50}
"""
_GATE = """\
format_version: 1
measurement: {draws: 100, seed: 7, level: 0.95}
metrics: {most_fall: {top_1: 0.15}}
categories: {papers: 15, most_fall: {f1: 0.45}}
labels: {most_missing: 0, most_unknown: 0.0}
kernels: {papers: 50}
signature: {required: false}
fit: {allow_unknown: false}
"""
_STRICT = "{requests: 100000, minutes: 0, agreement: 0.9, abstention: null, p99_ratio: 50}"


def until(condition: Callable[[], Any], what: str) -> Any:
    """Return the first true value of a condition, however busy the machine is."""
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    pytest.fail(f"did not happen: {what}")


def words(*given: object) -> list[str]:
    return [sys.executable, "-m", "classmark", *map(str, given)]


def command(*given: object) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        words(*given), capture_output=True, text=True, check=False, timeout=_PATIENCE_S
    )


def done(*given: object) -> str:
    """Run a command that must succeed; return what it prints."""
    ran = command(*given)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return ran.stdout


class Load:
    """Clients that never stop asking, and say of most papers what they are."""

    def __init__(self, url: str, keys: Sequence[str], papers: Sequence[Paper]) -> None:
        self._clients = [Client(url, ClientConfig(api_key=key, busy_retries=20)) for key in keys]
        self.papers = papers
        self.asked = self.failed = 0
        self.errors: list[str] = []
        self.right: Counter[tuple[str, str]] = Counter()
        self.answered: Counter[tuple[str, str]] = Counter()
        self.prediction_ids: dict[str, str] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def _send(self) -> None:
        for number, client in enumerate(cycle(self._clients)):
            papers = self.papers
            first = number * _BATCH % (len(papers) - _BATCH)
            batch = papers[first : first + _BATCH]
            self.asked += len(batch)
            try:
                answers = client.classify(batch)
                for paper, answer in zip(batch, answers, strict=True):
                    self._take(client, paper, answer)
            except Exception as error:
                self.failed += len(batch)
                self.errors.append(repr(error))
            if self._stop.wait(_PAUSE_S):
                return

    def _take(self, client: Client, paper: Paper, answer: object) -> None:
        if not isinstance(answer, Answer) or answer.prediction_id is None:
            self.failed += 1
            self.errors.append(repr(answer))
            return
        truth = paper.category_code or ""
        self.answered[answer.model.version, truth] += 1
        self.right[answer.model.version, truth] += answer.ranked[0].code == truth
        self.prediction_ids[answer.model.version] = answer.prediction_id
        client.feedback(answer.prediction_id, truth)

    def accuracy(self, version: str, codes: set[str]) -> float:
        """Return the share of right first categories of papers of some categories."""
        n = sum(self.answered[version, code] for code in codes)
        return sum(self.right[version, code] for code in codes) / n

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(_PATIENCE_S)
        for client in self._clients:
            client.close()


@dataclass(frozen=True)
class Place:
    """Where everything of the journey is."""

    folder: Path

    @property
    def registry(self) -> Path:
        return self.folder / "registry"

    @property
    def journal(self) -> Path:
        return self.folder / "journal.sqlite"

    @property
    def key(self) -> Path:
        return self.folder / "key"

    @property
    def orders(self) -> Path:
        return self.folder / "retrain"

    def history(self) -> list[object]:
        return ["--history", self.folder / "monitor.sqlite"]

    def retrain(self, *more: object) -> list[str]:
        """Return the command that carries an order out."""
        dataset = self.folder / "pipeline" / "dataset"
        files = ["--folder", self.orders, "--registry", self.registry, "--dataset", dataset]
        rules = ["--rules", self.folder / "rules.yaml", f"gate.rules={self.folder / 'gate.yaml'}"]
        rules += [f"gate.key={self.key}"]
        return words(*("retrain", "run", *files, *self.history(), *rules, "tracker=csv"), *more)

    def champion(self) -> str:
        registry = Registry.open(self.registry)
        return registry.pointer().bundles[registry.find("champion")].version

    def order(self) -> dict[str, Any]:
        """Return the state of the newest order; empty before there is one."""
        files = sorted(self.orders.glob("orders/*/order.json"))
        return json.loads(files[-1].read_bytes()) if files else {}

    def steps(self) -> list[str]:
        return [event["step"] for event in self.order().get("events", [])]


@contextlib.contextmanager
def served(place: Place, keys_file: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    options = ["--registry", place.registry, "--journal", place.journal, "--journal-text"]
    options += ["--api-keys", keys_file, "--port", 0, "--workers", 2, "--no-access-log"]
    with (
        (place.folder / "serve.log").open("w") as log,
        subprocess.Popen(
            words("serve", *options), stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            found = re.search(r"http://\S+:\d+", process.stdout.readline())
            assert found is not None, (place.folder / "serve.log").read_text()
            yield found[0], process
        finally:
            process.terminate()


def children_of(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == pid:
                    found.append(int(entry.name))
    return sorted(found)


def sample(folder: Path, name: str, papers: list[Paper]) -> Path:
    """Write papers as CSV."""
    file = folder / name
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("id", "title", "category_code", "published_date", "summary"))
        for p in papers:
            writer.writerow((p.id, p.title, p.category_code, p.published_date, p.abstract))
    return file


def invented(papers: int, seed: int, categories: int, drift: float) -> list[Paper]:
    config = SampleConfig(papers=papers, seed=seed, categories=categories, drift=drift)
    return sorted(sample_papers(config), key=lambda paper: paper.published_date or "")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.timeout(1800)
def test_a_model_is_replaced_when_the_papers_change_and_bad_ones_are_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLASSMARK_HOME", str(tmp_path / "home"))
    place = Place(tmp_path)
    (tmp_path / "rules.yaml").write_text(_RULES)
    (tmp_path / "gate.yaml").write_text(_GATE)
    first = invented(3000, 7, 24, 0.2)
    old_fields = {paper.category_code or "" for paper in first}
    csv_file = sample(tmp_path, "papers.csv", first)
    keys = (f"papers=[{csv_file}]", "export.name=story", "tracker=csv")
    gate = (f"gate.registry={place.registry}", f"gate.rules={tmp_path / 'gate.yaml'}")
    done("registry", "keys", "create", place.key)
    gate = (*gate, f"gate.key={place.key}")
    done("pipeline", "run", "--folder", tmp_path / "pipeline", *keys, *gate)
    public = place.key.with_name("key.pub")
    done("registry", "keys", "trust", public, "--registry", place.registry)
    done("registry", "promote", "story@1.0", "--registry", place.registry)
    keys_file = tmp_path / "keys.json"
    scopes = ["classify", "feedback"]
    clients = [create_key(keys_file, f"c{n}", scopes, rate_per_minute=0)[1] for n in range(8)]

    with served(place, keys_file) as (url, service):
        load = Load(url, clients, invented(2000, 51, 24, 0.2))
        try:
            _ordinary_papers_are_no_alarm(place, load)
            changed = _half_of_new_fields(invented(12_000, 12, 28, 0.2), old_fields)
            new_fields = {paper.category_code or "" for paper in changed} - old_fields
            _papers_of_new_fields_are_an_alarm(place, load, changed)
            _a_new_model_takes_over_although_processes_are_killed(place, load, service.pid)
            _accuracy_recovers(load, new_fields)
            _a_poisoned_model_is_stopped_by_the_gate(place)
            _a_model_that_is_wrong_in_live_traffic_is_rolled_back(place)
        finally:
            load.stop()
        assert load.failed == 0, load.errors[:5]
        assert load.asked > 2000
        _every_answer_can_be_traced(place, load)


def _half_of_new_fields(papers: Sequence[Paper], old_fields: set[str]) -> list[Paper]:
    """Return papers of which every second one is of a field that the model does not know."""
    new = [paper for paper in papers if paper.category_code not in old_fields]
    old = [paper for paper in papers if paper.category_code in old_fields]
    assert len(new) > 1000
    return [paper for pair in zip(new, old, strict=False) for paper in pair]


def _ordinary_papers_are_no_alarm(place: Place, load: Load) -> None:
    until(lambda: summarise(place.journal).predictions >= 500, "500 predictions")
    ran = command(*_look(place, 500))
    assert ran.returncode == 0, ran.stdout
    decided = json.loads(done(*_decide(place), "--json"))
    assert decided["order"] is None or "alarm" not in {r["kind"] for r in decided["reasons"]}
    assert load.failed == 0


def _look(place: Place, newest: int) -> list[object]:
    registry = Registry.open(place.registry)
    model = registry.bundle(registry.find("champion"))
    look = ["monitor", "run", "--model", model, "--journal", place.journal, "--no-stream"]
    look += ["--retrain-size", "0.02"]
    return [*look, "--newest", newest, *place.history()]


def _decide(place: Place) -> list[object]:
    files = ["--folder", place.orders, "--registry", place.registry, *place.history()]
    dataset = ["--dataset", place.folder / "pipeline" / "dataset", "--journal", place.journal]
    return ["retrain", "decide", *files, *dataset, "--rules", place.folder / "rules.yaml"]


def _papers_of_new_fields_are_an_alarm(place: Place, load: Load, changed: Sequence[Paper]) -> None:
    before = summarise(place.journal).predictions
    load.papers = changed
    until(lambda: summarise(place.journal).predictions >= before + 900, "900 new predictions")
    ran = command(*_look(place, 800), "--json")
    assert ran.returncode == 3, ran.stderr
    assert json.loads(ran.stdout)["action"] in ("retrain", "page")


def _a_new_model_takes_over_although_processes_are_killed(
    place: Place, load: Load, service: int
) -> None:
    run = place.retrain("--journal", place.journal)
    with subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as trainer:
        until(lambda: "extended" in place.steps(), "the dataset is extended")
        second = subprocess.run(
            run, capture_output=True, text=True, check=False, timeout=_PATIENCE_S
        )
        state = place.orders / "orders" / place.order()["order"]["id"] / ".pipeline" / "state.json"
        until(state.exists, "the fit has begun")
        trainer.send_signal(signal.SIGKILL)
    assert trainer.returncode == -signal.SIGKILL
    assert second.returncode in (0, 1)
    assert second.returncode == 0 or "another run is at work" in second.stderr
    os.kill(_a_worker(service), signal.SIGKILL)
    ran = subprocess.run(
        [*run, "--wait"], capture_output=True, text=True, check=False, timeout=_PATIENCE_S
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    steps = place.steps()
    assert len(steps) == len(set(steps)), steps
    assert steps[0] == "ordered"
    assert steps[-3:] == ["shadow", "canary", "promoted"]
    assert place.champion() == "1.1"
    until(lambda: "1.1" in load.prediction_ids, "the new model answers")


def _a_worker(service: int) -> int:
    """Return a worker of the service: a child that listens, not a writer of the journal."""
    for pid in children_of(service):
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"journal.process" not in command and b"resource_tracker" not in command:
            return pid
    pytest.fail("the service has no worker")


def _accuracy_recovers(load: Load, new_fields: set[str]) -> None:
    def seen() -> bool:
        return sum(load.answered["1.1", code] for code in new_fields) >= 50

    until(seen, "the new model answers papers of the new fields")
    assert load.accuracy("1.0", new_fields) == 0
    assert load.accuracy("1.1", new_fields) > 0.15
    everything = {code for _, code in load.answered}
    assert load.accuracy("1.1", everything) > load.accuracy("1.0", everything)


def _a_poisoned_model_is_stopped_by_the_gate(place: Place) -> None:
    """The labels of one category are flipped in the new papers."""
    papers = invented(10_000, 99, 24, 0.2)
    victim = Counter(paper.category_code for paper in papers).most_common(1)[0][0]
    other = next(p.category_code for p in papers if p.category_code != victim)
    flipped = [
        replace(paper, category_code=other) if paper.category_code == victim else paper
        for paper in papers
    ]
    file = sample(place.folder, "poisoned.csv", flipped)
    ran = subprocess.run(
        place.retrain("--papers", file, "--why", "more papers", "--wait"),
        capture_output=True,
        text=True,
        check=False,
        timeout=_PATIENCE_S,
    )
    assert ran.returncode == 3, ran.stderr[-3000:]
    assert "does not take over" in ran.stderr
    assert place.steps()[-1] == "refused"
    assert place.order()["events"][-1]["facts"]["by"] == "gate"
    assert place.champion() == "1.1"


def _a_model_that_is_wrong_in_live_traffic_is_rolled_back(place: Place) -> None:
    """The former champion passed the gate; on the papers of now it is wrong."""
    rules = place.folder / "strict.yaml"
    rules.write_text(_STRICT)
    registry = Registry.open(place.registry)
    former = registry.bundle(registry.find("story@1.0"))  # signed again, it is no older one
    done("registry", "add", former, "--sign", place.key, "--registry", place.registry)
    start = ["registry", "canary", "story@1.0", "--percent", 50, "--rules", rules]
    done(*start, "--allow-label-change", "--registry", place.registry)
    until(lambda: registry.pointer().canary is None, "the canary ends")
    ended = [event for event in registry.events() if event.action == "end_canary"][-1]
    assert ended.numbers["outcome"] == "rolled_back"
    assert "agreement" in ended.why
    assert place.champion() == "1.1"


def _every_answer_can_be_traced(place: Place, load: Load) -> None:
    for version in ("1.0", "1.1"):
        prediction_id = load.prediction_ids[version]
        words = (prediction_id, "--journal", place.journal, "--registry", place.registry)
        found = json.loads(done("lineage", *words, "--json"))
        assert found["prediction"]["prediction_id"] == prediction_id
        assert found["service_version"] == classmark.__version__
        assert found["bundle"]["version"] == version
        assert found["signature"]["key"]
        assert found["registry"]["events"]
        assert found["gate_report"]["passed"]
        assert found["lineage"]["dataset_digest"]
        assert found["lineage"]["config"]
        assert "commit" in found["lineage"]
        assert f"story@{version}" in done("lineage", *words)
