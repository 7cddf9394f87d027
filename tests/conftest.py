"""Shared fixtures: a user's home without models, and tiny bundles."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from authored_models import authored_model
from classmark.bundle import Bundle, write_bundle
from classmark.kernels import RawScores
from classmark.records import BundleManifest, CategoryReport
from deep_bundles import deep, fast_bundle
from own_labels import own_model
from postgres_server import postgres, postgres_server
from tiny_bundles import tiny_manifest

__all__ = ["authored_model", "deep", "fast_bundle", "own_model", "postgres", "postgres_server"]
# A time that a busy machine takes says nothing; a hang ends at the limit of a test.
settings.register_profile("unhurried", settings.default, deadline=None)
settings.load_profile("unhurried")
_LONGEST = (
    "test_service_calls.py",
    "test_repository_tutorial.py",
    "test_workflows_package.py",
    "test_pipeline_processes.py",
    "test_journal_properties.py",
    "test_cli_faults.py",
    "test_service_replacement.py",
    "test_benchmarks_tiny.py",
    "test_pipeline_sweep.py",
    "test_service_faults.py",
    "test_service_shortage.py",
    "test_registry_signatures.py",
    "test_workflows_targets.py",
    "test_cloud_journey.py",
    "test_service_alerts.py",
    "test_cloud_training.py",
    "test_service_storm.py",
    "test_reports_form.py",
    "test_journal_postgres.py",
    "test_service_canary.py",
    "test_cli_train_transformer.py",
    "test_registry_bucket.py",
    "test_journey.py",
    "test_service_benchmarks.py",
    "test_service_page_access.py",
    "test_service_page_errors.py",
    "test_cli_demo.py",
    "test_pipeline_stages.py",
    "test_service_bundle.py",
    "test_repository_imports.py",
    "test_cli_sweep.py",
    "test_service_page_authors.py",
    "test_service_workers.py",
    "test_bulk_run.py",
    "test_pipeline_retraining.py",
    "test_pipeline_compression.py",
    "test_benchmarks_deep.py",
    "test_benchmarks_peers.py",
)
"""They begin first: begun last, one of them would keep a worker busy minutes after the others."""
_LONG = frozenset(Path(__file__).with_name("long.txt").read_text("utf-8").split())
"""Tests that `make quick` leaves out too; `.ci/long_tests.py` measures which."""
_UNMEASURED = {
    # folders
    *("benchmarks", "gpu", "journey", "page", "repository", "templates", "workflows"),
    "test_bulk_run.py",
    "test_cli_anywhere.py",
    "test_cli_demo.py",
    "test_cli_disks.py",
    "test_cli_faults.py",
    "test_cli_interrupts.py",
    "test_cli_sweep.py",
    "test_cli_systems.py",
    "test_cli_train_transformer.py",
    "test_cloud_journey.py",
    "test_journal_faults.py",
    "test_pipeline_processes.py",
    "test_pipeline_sweep.py",
    "test_registry_bucket.py",
    "test_registry_kills.py",
    "test_registry_races.py",
    "test_registry_signatures.py",
    "test_service_alerts.py",
    "test_service_benchmarks.py",
    "test_service_calls.py",
    "test_service_drift.py",
    "test_service_faults.py",
    "test_service_hostile_files.py",
    "test_service_mlflow.py",
    "test_service_shortage.py",
    "test_service_storm.py",
    "test_service_traces.py",
    "test_service_unit.py",
    "test_service_wire.py",
}
"""Processes that these start are not measured: they would take twice as long, some several times,
and other tests run the same lines."""
_COVERAGE_VARIABLE = "COVERAGE_PROCESS_CONFIG"
_kept: dict[str, str] = {}
_ALL_SLOW = re.compile(r"^pytestmark = \[?\s*pytest\.mark\.slow", re.MULTILINE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave images to ``make test-images``, and files of slow tests only out of ``make quick``."""
    if collection_path.name == "images" and not any("images" in word for word in config.args):
        return True
    if not config.option.markexpr.startswith("not slow") or collection_path.suffix != ".py":
        return None
    return True if _ALL_SLOW.search(collection_path.read_text("utf-8")) else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, leave the others in their order, and mark what takes long."""
    rank = {name: place for place, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))
    for item in items:
        if item.nodeid.partition("[")[0] in _LONG:
            item.add_marker(pytest.mark.long)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Choose, before any fixture starts a process, whether the coverage of processes counts."""
    if _COVERAGE_VARIABLE in os.environ:
        _kept[_COVERAGE_VARIABLE] = os.environ[_COVERAGE_VARIABLE]
    if _UNMEASURED.intersection(item.path.relative_to(Path(__file__).parent).parts):
        os.environ.pop(_COVERAGE_VARIABLE, None)
    else:
        os.environ.update(_kept)


@pytest.fixture(autouse=True)
def heed_sigint() -> Iterator[None]:
    """Let every test and its processes heed Ctrl-C, whatever ignored it.

    A shell's ``&`` makes us ignore it from the start, and so does a worker that a test runs in this
    process; a process that ignores it hands that on to those it starts.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def keep_runs_in_files() -> Iterator[None]:
    """Let fits of the tests start no MLflow, which takes seconds; its own tests ask for it."""
    before = os.environ.get("CLASSMARK_TRACKER")
    os.environ["CLASSMARK_TRACKER"] = "csv"
    yield
    if before is None:
        del os.environ["CLASSMARK_TRACKER"]
    else:
        os.environ["CLASSMARK_TRACKER"] = before


@pytest.fixture
def models_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty ``$CLASSMARK_HOME/models``."""
    monkeypatch.setenv("CLASSMARK_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "models"


@pytest.fixture
def make_bundle(models_home: Path) -> Callable[..., Path]:
    """Return a function that writes a tiny bundle where it is found by name."""

    def make(name: str = "tiny", version: str = "1.0", **changes: Any) -> Path:
        folder = models_home / f"{name}-{version}"
        arrays = {"weights": np.arange(12, dtype=np.int8).reshape(3, 4)}
        options = {key: changes.pop(key) for key in ("measured", "overwrite") if key in changes}
        manifest = tiny_manifest(name, version, **changes)
        write_bundle(folder, manifest, arrays, {"CARD.md": "# Tiny\n"}, **options)
        return folder

    return make


@pytest.fixture
def category_report() -> Callable[..., CategoryReport]:
    """Return a function that reports a category of ten papers, first on some, right on some."""

    def make(code: str, first: int, right: int) -> CategoryReport:
        return CategoryReport(
            code=code,
            n=10,
            predicted=first,
            precision=right / first if first else None,
            recall=right / 10,
            f1=2 * right / (10 + first),
            confused_with=None,
            confused=0,
        )

    return make


@pytest.fixture
def manifest() -> Callable[..., BundleManifest]:
    """Return a function that makes the manifest of a tiny bundle."""
    return tiny_manifest


class WordScorer:
    """A kernel for tests: a label's score is its bias and 3 logits for each of its words."""

    words = ("learning", "string", "graph", "estimator")
    bias = (0.5, 0.25, 0.0, -0.25)
    explanation_method = "exact_linear"

    def score(self, papers: Sequence[tuple[str, str]]) -> RawScores:
        counts = np.array(
            [[self._count(text, word) for word in self.words] for text in papers], np.float32
        ).reshape(-1, len(self.words))
        scores = np.float32(self.bias) + 3 * counts
        n_words = np.array([max(1, len(" ".join(text).split())) for text in papers])
        return RawScores(scores, (counts.sum(axis=1) / n_words).astype(np.float32))

    def contributions(
        self, title: str, abstract: str, top: int, other: int
    ) -> list[tuple[str, float]]:
        text = (title, abstract)
        signs = {top: 3.0, other: -3.0}
        terms = [
            (self.words[i], sign * self._count(text, self.words[i])) for i, sign in signs.items()
        ]
        bias = [("(bias)", self.bias[top] - self.bias[other])]
        return [(term, weight) for term, weight in terms if weight] + bias

    @staticmethod
    def _count(text: tuple[str, str], word: str) -> int:
        return " ".join(text).lower().split().count(word)


@pytest.fixture
def word_scorer(monkeypatch: pytest.MonkeyPatch) -> WordScorer:
    """Let every bundle answer with the ``WordScorer``, so that answers can be foretold."""
    from classmark.runtime import classifier

    scorer = WordScorer()

    def load(bundle: Bundle) -> WordScorer:
        classifier.check_text_recipe(bundle)
        return scorer

    monkeypatch.setattr(classifier, "make_scorer", load)
    return scorer
