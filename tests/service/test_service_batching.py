"""The queue of a deep model: in turns, within bounds, and a refusal at once where time is short."""

from __future__ import annotations

import json
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
from classmark.errors import DeadlineExceeded, NotReady, Overloaded
from classmark.kernels import RawScores
from classmark.kernels.explanation import MOST_WORDS
from classmark.records import Paper
from classmark.runtime import Classifier
from classmark.service.answering.answerer import AnswerOptions
from classmark.service.answering.batching import Batcher, BatchLimits
from classmark.service.metrics import Metrics
from deep_bundles import DeepFolders

PAPER = Paper(title="graph theory", abstract="graph " * 30)
WAIT_S = 200.0


class GatedScorer:
    """A kernel that notes its batches, and waits at a gate while that is closed."""

    words = ("learning", "string", "graph", "estimator")
    explanation_method = "exact_linear"

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.batches: list[int] = []
        self.explained: list[str] = []
        self.error: Exception | None = None

    def score(self, papers: Sequence[tuple[str, str]]) -> RawScores:
        self.batches.append(len(papers))
        self.entered.release()
        assert self.gate.wait(WAIT_S)
        if self.error is not None:
            raise self.error
        counts = [[f"{t} {a}".count(word) for word in self.words] for t, a in papers]
        return RawScores(np.float32(counts), np.ones(len(papers), np.float32))

    def contributions(self, title: str, *_: Any) -> list[tuple[str, float]]:
        """Return nothing, and note which thread asked; a paper called bad cannot be explained."""
        self.explained.append(threading.current_thread().name)
        if title == "bad":
            raise RuntimeError("no words")
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
    title = more.pop("title", "graph")
    papers = [Paper(id=str(i), title=title, abstract=f"string {i} " * 20) for i in range(n)]
    return batcher.submit(papers, AnswerOptions(deadline=deadline, **{"top": 2, **more}))


def answers_of(future: Any) -> list[Any]:
    return [scored.answer for scored in future.result(WAIT_S)]


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
        [answer] = answers_of(future)
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
    assert [a.id for a in answers_of(large)] == ["0", "1", "2", "3", "4"]
    assert [a.id for a in answers_of(small)] == ["0"]
    assert first.result(WAIT_S)
    assert max(scorer.batches) == 2
    assert order == ["small", "large"]


def test_each_request_keeps_its_own_options(make_queue: Callable[..., Queue]) -> None:
    batcher, scorer = queue = make_queue(batch_tokens=10_000)
    hold(queue)
    strict, lax = submit(batcher, threshold=1.0), submit(batcher, threshold=0.0, top=4)
    scorer.gate.set()
    [refused], [accepted] = answers_of(strict), answers_of(lax)
    assert refused.primary is None
    assert accepted.primary is not None
    assert len(accepted.ranked) == 4


def test_a_full_queue_refuses_at_once_and_says_when_to_try_again(
    make_queue: Callable[..., Queue],
) -> None:
    batcher, scorer = queue = make_queue(queue_papers=2)
    hold(queue)
    waiting = [submit(batcher), submit(batcher)]
    with pytest.raises(Overloaded, match="2 papers wait") as refused:
        batcher.backlog.check(60.0)
    assert refused.value.kind == "overloaded"
    assert refused.value.retry_after_s >= 1
    scorer.gate.set()
    assert all(future.result(WAIT_S) for future in waiting)
    batcher.backlog.check(60.0)


def test_a_queue_longer_than_the_deadline_refuses_at_once(
    make_queue: Callable[..., Queue],
) -> None:
    batcher, scorer = queue = make_queue()
    hold(queue)
    waiting = submit(batcher)
    assert batcher.backlog.expected_wait_s() > 0
    with pytest.raises(Overloaded, match="Try again in"):
        submit(batcher, deadline=time.monotonic())
    scorer.gate.set()
    assert waiting.result(WAIT_S)


def test_papers_whose_deadline_has_passed_are_not_run(make_queue: Callable[..., Queue]) -> None:
    batcher, scorer = queue = make_queue(batch_tokens=50)
    first = hold(queue)
    late = batcher.submit([PAPER], AnswerOptions(top=1, deadline=time.monotonic() + 0.2))
    unexplained = submit(batcher, explain=True, deadline=time.monotonic() + 0.2)
    given_up = submit(batcher)
    assert given_up.cancel()
    after = submit(batcher)
    while time.monotonic() < late_after(late, batcher):
        threading.Event().wait(0.01)
    scorer.gate.set()
    assert first.result(WAIT_S)
    for future in (late, unexplained):
        with pytest.raises(DeadlineExceeded, match="not ready in time"):
            future.result(WAIT_S)
    assert after.result(WAIT_S)
    assert scorer.batches == [1, 1]
    assert scorer.explained == []


def late_after(_: Any, batcher: Batcher) -> float:
    """Return when the deadline of the second waiting job has passed."""
    return max(job.options.deadline or 0.0 for job in batcher._jobs)


def test_an_explanation_counts_with_all_that_it_runs(make_queue: Callable[..., Queue]) -> None:
    batcher, scorer = queue = make_queue()
    short, long = Paper(abstract="graph"), Paper(abstract="graph " * 500)
    for paper, most_words in ((short, batcher.count_tokens(short)), (long, MOST_WORDS)):
        alone = batcher.count_tokens(paper)
        assert batcher.count_tokens(paper, explain=True) == alone * (2 + most_words)
    hold(queue)
    before = batcher.backlog.expected_wait_s()
    plain = submit(batcher)
    added = batcher.backlog.expected_wait_s() - before
    explained = submit(batcher, explain=True)
    assert batcher.backlog.expected_wait_s() - before == pytest.approx(added * (1 + 2 + MOST_WORDS))
    scorer.gate.set()
    assert plain.result(WAIT_S)
    assert explained.result(WAIT_S)


def test_explanations_run_one_at_a_time_in_the_thread_of_the_queue_and_in_turns(
    make_queue: Callable[..., Queue],
) -> None:
    batcher, scorer = queue = make_queue(batch_tokens=100)
    hold(queue)
    order: list[str] = []
    futures = {"explained": submit(batcher, 3, explain=True), "plain": submit(batcher)}
    for name, future in futures.items():
        future.add_done_callback(lambda _, name=name: order.append(name))
    scorer.gate.set()
    assert [answer.id for answer in answers_of(futures["explained"])] == ["0", "1", "2"]
    assert answers_of(futures["plain"])[0].explanation_method is None
    assert order == ["plain", "explained"]
    assert scorer.batches == [1, 1, 1, 1, 1]
    assert scorer.explained == ["classmark-batches"] * 3
    assert answers_of(futures["explained"])[0].explanation_method == "exact_linear"


def test_an_explanation_that_would_come_too_late_is_refused_and_a_paper_is_not(
    make_queue: Callable[..., Queue],
) -> None:
    batcher, scorer = queue = make_queue(batch_tokens=1)
    hold(queue)
    submit(batcher)
    # As a model that takes ten milliseconds a token.
    batcher.backlog.learn_pace(1_000_000, 10_000)
    deadline = time.monotonic() + 20
    plain = submit(batcher, deadline=deadline)
    with pytest.raises(
        Overloaded, match=r"2 papers wait, and this one needs about \d+\.\d s"
    ) as refused:
        submit(batcher, explain=True, deadline=deadline)
    assert (refused.value.kind, refused.value.retry_after_s) == ("overloaded", 2)
    scorer.gate.set()
    assert plain.result(WAIT_S)
    assert scorer.explained == []


def test_what_comes_while_nothing_runs_is_tried_however_slow_the_model_seemed(
    make_queue: Callable[..., Queue],
) -> None:
    batcher, _ = make_queue()
    batcher.backlog.learn_pace(1_000_000, 1e12)
    assert submit(batcher, explain=True, deadline=time.monotonic() + WAIT_S).result(WAIT_S)


def test_an_explanation_that_fails_reaches_the_one_who_asked_for_it_only(
    make_queue: Callable[..., Queue],
) -> None:
    batcher, scorer = queue = make_queue(batch_tokens=100_000)
    hold(queue)
    bad, good = submit(batcher, 2, explain=True, title="bad"), submit(batcher, explain=True)
    plain = submit(batcher)
    scorer.gate.set()
    with pytest.raises(RuntimeError, match="no words"):
        bad.result(WAIT_S)
    assert good.result(WAIT_S)
    assert plain.result(WAIT_S)


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
    with pytest.raises(NotReady, match="the service is stopping"):
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
        text = client.get("/metrics").text
    expected = Classifier(deep.int8).classify(papers)
    assert [a["id"] for a in batch] == [paper["id"] for paper in papers]
    assert [a["probability"] for a in batch] == [a.probability for a in expected]
    assert alone["ranked"] == batch[3]["ranked"]
    for name in ("queue_papers", "queue_tokens", "batch_papers_bucket", "batch_tokens_sum"):
        assert f"classmark_{name}" in text


def check_overload(
    url: str, client: httpx.Client, paper: dict[str, Any], *, clients: int, requests: int
) -> None:
    """Ask for more than can be answered: the rest is refused, counted and given a time."""

    def ask(_: int) -> httpx.Response:
        return httpx.post(f"{url}/v1/classify", json=paper, timeout=WAIT_S)

    with ThreadPoolExecutor(clients) as pool:
        responses = list(pool.map(ask, range(requests)))
    refused = [r for r in responses if r.status_code == 503]
    assert {r.status_code for r in responses} == {200, 503}
    assert {r.json()["kind"] for r in refused} == {"overloaded"}
    assert all(int(r.headers["retry-after"]) >= 1 for r in refused)
    assert client.post("/v1/classify", json=paper).status_code == 200
    counted = client.get("/metrics").text
    assert f"classmark_queue_refused_total {float(len(refused))}" in counted


@pytest.mark.slow  # makes a deep bundle with torch and starts a server
def test_overload_is_refused_with_a_time_to_come_back_and_the_rest_is_answered(
    deep: DeepFolders, start: Any
) -> None:
    paper = {"title": "Graphs", "abstract": "We prove a bound. " * 40}
    options = ("--model", str(deep.fp32), "--journal", "off", "--workers", "1")
    environment = {"CLASSMARK_SERVE_BATCH_QUEUE": "1", "CLASSMARK_SERVE_BATCH_TOKENS": "1"}
    with start(*options, **environment) as server, server.client() as client:
        check_overload(server.url, client, paper, clients=24, requests=240)


@pytest.fixture(scope="module")
def cascade(deep: DeepFolders, fast_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cascade that asks its deep model about some papers."""
    from classmark.pipeline import ExportOptions, compose_config, export_run, train

    words = ["model=cascade", f"model.fast={fast_bundle}", f"model.deep={deep.int8}"]
    words += [f"dataset.path={deep.dataset}", f"runs_dir={tmp_path_factory.mktemp('runs')}"]
    run = train(compose_config(words), command="a test")
    folder = deep.fp32.with_name("queued-1.0")
    export_run(
        run,
        folder,
        ExportOptions(name="queued", version="1.0", threshold=0.2, dataset=deep.dataset),
    )
    return folder


@pytest.mark.slow  # makes deep bundles with torch and starts servers
@pytest.mark.parametrize("kind", ["transformer", "cascade"])
def test_explanations_come_through_the_queue_and_are_those_of_the_classifier(
    request: pytest.FixtureRequest, deep: DeepFolders, start: Any, kind: str
) -> None:
    model = deep.int8 if kind == "transformer" else request.getfixturevalue("cascade")
    papers = [
        {"id": str(i), "title": f"Graphs {i}", "abstract": f"prove a {'bound ' * i} of galaxies"}
        for i in range(5)
    ]
    lines = "".join(json.dumps(paper) + "\n" for paper in papers)
    with start("--model", str(model), "--journal", "off") as server, server.client() as client:
        before = tokens_run(client)
        one = client.post("/v1/classify", json={**papers[0], "explain": True}).json()
        after = tokens_run(client)
        batch = client.post("/v1/classify", json={"papers": papers, "explain": True}).json()
        file = client.post(
            "/v1/files", files={"file": ("p.jsonl", lines)}, data={"explain": "true"}
        ).json()
    expected = [a.to_dict() for a in Classifier(model).classify(papers, explain=True)]
    assert expected[0]["explanation_method"] == "occlusion"
    for answers in ([one], batch["answers"], file["answers"]):
        for answer, wanted in zip(answers, expected, strict=False):
            for key, name, number in (
                ("explanation", "term", "weight"),
                ("ranked", "code", "probability"),
            ):
                assert [e[name] for e in answer[key]] == [e[name] for e in wanted[key]]
                numbers = [e[number] for e in wanted[key]]
                assert [e[number] for e in answer[key]] == pytest.approx(numbers, abs=1e-9)
    assert len(batch["answers"]) == len(file["answers"]) == 5
    assert after - before > 10 * 10  # of ten words and tokens


def tokens_run(client: httpx.Client) -> float:
    (line,) = [
        line
        for line in client.get("/metrics").text.splitlines()
        if line.startswith("classmark_batch_tokens_sum")
    ]
    return float(line.split()[1])


@pytest.mark.slow  # makes a deep bundle with torch and starts a server
def test_too_many_explanations_are_refused_with_a_time_to_come_back(
    deep: DeepFolders, start: Any
) -> None:
    paper = {"title": "Graphs", "abstract": "We prove a bound. " * 40, "explain": True}
    options = ("--model", str(deep.fp32), "--journal", "off", "--workers", "1")
    with start(*options, CLASSMARK_SERVE_BATCH_QUEUE="1") as server, server.client() as client:
        check_overload(server.url, client, paper, clients=12, requests=60)


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
