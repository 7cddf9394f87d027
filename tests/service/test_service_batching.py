"""The queue of a deep model: in turns, within bounds, and a refusal at once where time is short."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from classmark.bundle import load_bundle
from classmark.records import Paper
from classmark.runtime import Classifier, RawScores
from classmark.service.batching import Batcher, BatchLimits
from classmark.service.metrics import Metrics
from classmark.service.problems import Problem
from deep_bundles import DeepFolders

PAPER = Paper(title="graph theory", abstract="graph " * 30)
WAIT_S = 30.0


class GatedScorer:
    """A kernel that notes its batches, and waits at a gate while that is closed."""

    words = ("learning", "string", "graph", "estimator")
    explanation_method = "exact_linear"

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.batches: list[int] = []
        self.error: Exception | None = None

    def score(self, papers: Sequence[tuple[str, str]]) -> RawScores:
        self.batches.append(len(papers))
        self.entered.release()
        assert self.gate.wait(WAIT_S)
        if self.error is not None:
            raise self.error
        counts = [[f"{t} {a}".count(word) for word in self.words] for t, a in papers]
        return RawScores(np.float32(counts), np.ones(len(papers), np.float32))

    def contributions(self, *_: Any) -> list[tuple[str, float]]:
        """Return nothing; nobody asks here."""
        return []

    def begun(self) -> None:
        """Wait until one more batch has begun."""
        assert self.entered.acquire(timeout=WAIT_S)


Queue = tuple[Batcher, GatedScorer]


@pytest.fixture
def make_queue(make_bundle: Callable[..., Path]) -> Iterator[Callable[..., Queue]]:
    """Return a function that starts a queue over a kernel with a gate."""
    made: list[Queue] = []

    def make(**changes: Any) -> Queue:
        scorer = GatedScorer()
        classifier = Classifier.from_bundle(load_bundle(make_bundle()), scorer=scorer)
        limits = {"batch_tokens": 100, "queue_papers": 8, "wait_s": 0.0, **changes}
        batcher = Batcher(classifier, BatchLimits(**limits), Metrics())
        batcher.start([PAPER])
        scorer.begun()
        scorer.batches.clear()
        made.append((batcher, scorer))
        return batcher, scorer

    yield make
    for batcher, scorer in made:
        scorer.gate.set()
        batcher.close()


def submit(batcher: Batcher, n: int = 1, deadline: float | None = None, **more: Any) -> Any:
    papers = [Paper(id=str(i), title="graph", abstract=f"string {i} " * 20) for i in range(n)]
    options: dict[str, Any] = {"top": 2, "threshold": None, **more}
    return batcher.submit(papers, deadline=deadline, **options)


def hold(queue: Queue) -> Any:
    """Begin a batch that stays at the gate, and return its future."""
    batcher, scorer = queue
    scorer.gate.clear()
    future = submit(batcher)
    scorer.begun()
    return future


def test_what_comes_while_a_batch_runs_makes_the_next_one(
    make_queue: Callable[..., Queue],
) -> None:
    batcher, scorer = queue = make_queue(batch_tokens=10_000)
    first = hold(queue)
    later = [submit(batcher) for _ in range(4)]
    scorer.gate.set()
    for future in (first, *later):
        [answer] = future.result(WAIT_S)
        assert answer.ranked[0].code in ("hep-th", "math.CO")
        assert len(answer.ranked) == 2
    assert scorer.batches == [1, 4]


def test_a_batch_is_bounded_by_tokens_and_a_large_request_takes_turns(
    make_queue: Callable[..., Queue],
) -> None:
    batcher, scorer = queue = make_queue(batch_tokens=100)  # a paper has some 49
    first = hold(queue)
    large, small = submit(batcher, 5), submit(batcher)
    order: list[str] = []
    large.add_done_callback(lambda _: order.append("large"))
    small.add_done_callback(lambda _: order.append("small"))
    scorer.gate.set()
    assert [a.id for a in large.result(WAIT_S)] == ["0", "1", "2", "3", "4"]
    assert [a.id for a in small.result(WAIT_S)] == ["0"]
    assert first.result(WAIT_S)
    assert max(scorer.batches) == 2
    assert order == ["small", "large"]


def test_each_request_keeps_its_own_options(make_queue: Callable[..., Queue]) -> None:
    batcher, scorer = queue = make_queue(batch_tokens=10_000)
    hold(queue)
    strict, lax = submit(batcher, threshold=1.0), submit(batcher, threshold=0.0, top=4)
    scorer.gate.set()
    [refused], [accepted] = strict.result(WAIT_S), lax.result(WAIT_S)
    assert refused.primary is None
    assert accepted.primary is not None
    assert len(accepted.ranked) == 4


def test_a_full_queue_refuses_at_once_and_says_when_to_try_again(
    make_queue: Callable[..., Queue],
) -> None:
    batcher, scorer = queue = make_queue(queue_papers=2)
    hold(queue)
    waiting = [submit(batcher), submit(batcher)]
    with pytest.raises(Problem, match="2 papers wait") as refused:
        batcher.check(60.0)
    assert (refused.value.status, refused.value.kind) == (503, "overloaded")
    assert refused.value.retry_after_s is not None
    scorer.gate.set()
    assert all(future.result(WAIT_S) for future in waiting)
    batcher.check(60.0)


def test_a_queue_longer_than_the_deadline_refuses_at_once(
    make_queue: Callable[..., Queue],
) -> None:
    batcher, scorer = queue = make_queue()
    hold(queue)
    waiting = submit(batcher)
    assert batcher.expected_wait_s() > 0
    with pytest.raises(Problem, match="Try again in"):
        submit(batcher, deadline=time.monotonic())
    scorer.gate.set()
    assert waiting.result(WAIT_S)


def test_papers_whose_deadline_has_passed_are_not_run(make_queue: Callable[..., Queue]) -> None:
    batcher, scorer = queue = make_queue(batch_tokens=50)
    first = hold(queue)
    late = batcher.submit([PAPER], top=1, threshold=None, deadline=time.monotonic() + 0.2)
    given_up = submit(batcher)
    assert given_up.cancel()
    after = submit(batcher)
    while time.monotonic() < late_after(late, batcher):
        threading.Event().wait(0.01)
    scorer.gate.set()
    assert first.result(WAIT_S)
    with pytest.raises(Problem, match="not ready in time"):
        late.result(WAIT_S)
    assert after.result(WAIT_S)
    assert scorer.batches == [1, 1]


def late_after(_: Any, batcher: Batcher) -> float:
    """Return when the deadline of the second waiting job has passed."""
    return max(job.deadline or 0.0 for job in batcher._jobs)


def test_an_error_of_the_model_reaches_those_who_asked_and_the_queue_goes_on(
    make_queue: Callable[..., Queue],
) -> None:
    batcher, scorer = make_queue()
    scorer.error = RuntimeError("no memory")
    with pytest.raises(RuntimeError, match="no memory"):
        submit(batcher).result(WAIT_S)
    scorer.error = None
    assert submit(batcher).result(WAIT_S)


def test_a_lone_paper_may_wait_for_company(make_queue: Callable[..., Queue]) -> None:
    batcher, scorer = make_queue(batch_tokens=100, wait_s=WAIT_S)
    futures = [submit(batcher), submit(batcher)]
    assert all(future.result(WAIT_S) for future in futures)
    assert sum(scorer.batches) == 2


def test_what_waits_is_refused_when_the_queue_closes(make_queue: Callable[..., Queue]) -> None:
    batcher, scorer = queue = make_queue(batch_tokens=1)
    running = hold(queue)
    waiting = submit(batcher)
    batcher.close()
    with pytest.raises(Problem, match="the service is stopping"):
        waiting.result(WAIT_S)
    scorer.gate.set()
    assert running.result(WAIT_S)


@pytest.mark.slow  # makes a deep bundle with torch and starts a server
def test_a_deep_model_answers_over_http_as_it_does_here(deep: DeepFolders, start: Any) -> None:
    papers = [{"id": str(i), "title": "Graphs", "abstract": f"prove {'x ' * i}"} for i in range(70)]
    with start("--model", str(deep.int8), "--journal", "off") as server, server.client() as client:
        assert len(server.workers()) >= 1
        alone = client.post("/v1/classify", json=papers[3]).json()
        batch = client.post("/v1/classify", json={"papers": papers}).json()["answers"]
        explained = client.post("/v1/classify", json={**papers[3], "explain": True}).json()
        text = client.get("/metrics").text
    expected = Classifier(deep.int8).classify(papers)
    assert [a["id"] for a in batch] == [paper["id"] for paper in papers]
    assert [a["probability"] for a in batch] == [a.probability for a in expected]
    assert alone["ranked"] == batch[3]["ranked"]
    assert explained["explanation_method"] == "occlusion"
    for name in ("queue_papers", "queue_tokens", "batch_papers_bucket", "batch_tokens_sum"):
        assert f"classmark_{name}" in text


@pytest.mark.slow  # makes a deep bundle with torch and starts a server
def test_overload_is_refused_with_a_time_to_come_back_and_the_rest_is_answered(
    deep: DeepFolders, start: Any
) -> None:
    paper = {"title": "Graphs", "abstract": "We prove a bound. " * 40}
    options = ("--model", str(deep.fp32), "--journal", "off", "--workers", "1")
    environment = {"CLASSMARK_SERVE_BATCH_QUEUE": "1", "CLASSMARK_SERVE_BATCH_TOKENS": "1"}
    with start(*options, **environment) as server, server.client() as client:

        def ask(_: int) -> httpx.Response:
            return httpx.post(f"{server.url}/v1/classify", json=paper, timeout=60)

        with ThreadPoolExecutor(24) as pool:
            responses = list(pool.map(ask, range(240)))
        refused = [r for r in responses if r.status_code == 503]
        assert {r.status_code for r in responses} == {200, 503}
        assert {r.json()["kind"] for r in refused} == {"overloaded"}
        assert all(int(r.headers["retry-after"]) >= 1 for r in refused)
        assert client.post("/v1/classify", json=paper).status_code == 200
        counted = client.get("/metrics").text
    assert f"classmark_queue_refused_total {float(len(refused))}" in counted


@pytest.mark.slow  # starts a server
def test_without_the_packages_of_a_deep_model_serve_says_what_to_install(
    deep: DeepFolders, tmp_path: Path
) -> None:
    import subprocess
    import sys

    code = (
        "import importlib.util as u, sys\n"
        "real = u.find_spec\n"
        "u.find_spec = lambda n, *a: None if n == 'onnxruntime' else real(n, *a)\n"
        "from classmark.__main__ import main\n"
        f"sys.argv = ['classmark', 'serve', '--port', '0', '--model', {str(deep.int8)!r}]\n"
        "sys.exit(main())\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=120,
    )
    assert result.returncode == 1
    assert "pip install 'classmark[onnx]'" in result.stderr
