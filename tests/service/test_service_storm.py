"""A storm: many requests through replacements, canaries, kills and a corrupt candidate."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from registries import WHO, Versions, followed, metric
from test_service_replacement import resident_mb
from waiting import until

from classmark.client import Answer, Client, ClientConfig
from classmark.runtime import Classifier
from classmark.service.keys import create_key

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "storm.py"
pytestmark = pytest.mark.slow  # 20,000 requests
REQUESTS, CLIENTS, SAMPLED = 20_000, 8, 0.02
WORDS = (
    *("graph", "brane", "neural", "galaxy", "estimator", "lattice", "proof", "quantum", "market"),
    *("protein", "operator", "learning", "random", "spectral", "matrix", "string", "convex"),
)
# Versions of other temperatures rank alike, but do not abstain alike.
RULES = {"requests": 300, "minutes": 0.02, "agreement": 0.6, "p99_ratio": None, "abstention": None}


class Storm:
    """Clients that classify texts without a pause, as fast as they are answered.

    Attributes:
        failed: what their client raised.
        digests: who answered, and how often.
        sample: texts with the answers that they got.
    """

    def __init__(self, url: str, keys: list[str]) -> None:
        self.failed: list[str] = []
        self.digests: Counter[str] = Counter()
        self.sample: list[tuple[str, Answer]] = []
        self._url, self._left = url, REQUESTS
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(len(keys))
        self._running = [self._pool.submit(self._run, n, key) for n, key in enumerate(keys)]

    @property
    def done(self) -> int:
        """Return how many requests were answered."""
        return sum(self.digests.values())

    def pass_by(self, n: int) -> None:
        """Wait until so many more requests were answered, or none are left."""
        goal = self.done + n
        until(lambda: self.done >= goal or self._left <= 0)

    def end(self) -> None:
        """Wait for the last request."""
        for one in self._running:
            one.result()
        self._pool.shutdown()

    def _run(self, number: int, key: str) -> None:
        chance = random.Random(number)
        with Client(self._url, ClientConfig(api_key=key, timeout_s=200)) as client:
            while self._take():
                text = " ".join(chance.choices(WORDS, k=12))
                try:
                    answer = client.classify(text)
                except Exception as error:
                    self.failed.append(repr(error))
                    continue
                with self._lock:
                    self.digests[answer.model.digest] += 1
                    if chance.random() < SAMPLED:
                        self.sample.append((text, answer))

    def _take(self) -> bool:
        with self._lock:
            self._left -= 1
            return self._left >= 0


def published(answer: Answer) -> dict[str, Any]:
    own = ("prediction_id", "author_category", "similar", "id")
    return {name: value for name, value in answer.to_dict().items() if name not in own}


def test_no_request_of_a_storm_fails_and_each_is_answered_as_its_version_does_offline(
    start: Any, tmp_path: Path
) -> None:
    versions = Versions(tmp_path)
    swaps = [versions.add(f"7.{i}") for i in range(4)]
    promoted, corrupt = versions.add("8.0"), versions.add("9.1")
    turned = versions.add_turned("9.0")
    versions.promote(swaps[0])
    keys = tmp_path / "keys.json"
    scopes = ("classify", "admin")
    texts = [create_key(keys, f"client {n}", scopes)[1] for n in range(CLIENTS)]
    options = ("--workers", "2", "--registry", str(versions.path), "--api-keys", str(keys))
    options += ("--no-access-log", "--journal", "off")
    with (
        start(*options) as server,
        server.client(headers={"authorization": f"Bearer {texts[0]}"}) as admin,
    ):
        storm = Storm(server.url, texts)
        storm.pass_by(1000)
        for digest in swaps[1:]:
            followed(admin, versions.promote(digest))
            storm.pass_by(1000)
        before_mb = sum(map(resident_mb, server.workers()))

        os.kill(server.workers()[0], signal.SIGKILL)
        followed(admin, versions.promote(promoted))
        followed(admin, versions.registry.rollback(who=WHO).sequence)
        storm.pass_by(1000)

        spoiled = next((versions.folder(corrupt) / "arrays").iterdir())
        content = spoiled.read_bytes()
        versions.canary(corrupt, 50)
        spoiled.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        storm.pass_by(500)
        followed(admin, versions.registry.rollback(who=WHO).sequence)

        versions.canary(turned, 60, rules=RULES)
        until(lambda: versions.registry.pointer().canary is None)
        assert versions.registry.pointer().last_event.why == "agreement is out of bounds"

        versions.canary(promoted, 60, rules=RULES)
        until(lambda: versions.registry.pointer().canary is None)
        assert versions.registry.pointer().last_event.why == "all rules hold"
        followed(admin, versions.registry.pointer().sequence)
        until(lambda: metric(admin, "classmark_workers") == 2)
        after_mb = sum(map(resident_mb, server.workers()))
        storm.end()

    assert storm.failed == []
    assert storm.done == REQUESTS
    assert {*swaps, promoted} <= set(storm.digests)
    offline = {d: Classifier(versions.folders[d]) for d in storm.digests}
    assert len(storm.sample) > 100
    for text, answer in storm.sample:
        expected = offline[answer.model.digest].classify(text)
        assert published(answer) == published(expected)
    assert after_mb - before_mb < 60


def test_the_benchmark_of_a_storm_reports_every_event_and_no_failure_of_the_client(
    tmp_path: Path,
) -> None:
    output, plot = tmp_path / "storm.json", tmp_path / "storm.svg"
    options = ["--requests", REQUESTS, "--minutes", 0.3, "--output", output, "--plot", plot]
    command = [sys.executable, BENCHMARK, *options]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(output.read_text())
    assert found["client"]["failed"] == {}
    assert found["wrong"] == []
    assert found["sampled"] > 3
    assert found["headline"]["requests"] >= REQUESTS
    assert found["client"]["answered"] > 300
    # The champion before, four that take turns, the two of the canaries.
    assert found["versions_seen"] == 7
    assert Counter(event["name"] for event in found["events"]) == {
        **{"swap": 10, "kill": 6, "no room": 1, "corrupt": 1},
        **{"canary rolled back": 1, "canary promoted": 1},
    }
    assert len(found["findings_in_the_registry"]) == 1  # the candidate that was spoilt
    assert found["headline"]["growth_mb"] < 150  # ten models that stay would take more
    assert set(found["aims"]) <= set(found["headline"])
    assert plot.read_text().startswith("<?xml")
