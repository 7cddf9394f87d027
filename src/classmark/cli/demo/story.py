"""The whole story of a model: it serves, papers of new fields come, and another takes over."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from classmark.cli.demo.running import Runner, predictions_in, serving, traffic, wait_for
from classmark.storage import write_text

_FIELDS, _MORE_FIELDS = 24, 28
_ORDINARY, _DRIFTING, _AFTER = 600, 1_000, 800
_RATE = 100
_KEYS = 8
_RULES = """\
# Small numbers, because a demo is short. The defaults are those of `classmark retrain run --help`.
policy: {least_papers: 500}
feedback: {agree: 1, client_share: 1, category_share: 1}
replacement:
  shadow_papers: 200
  percent: 50
  allow_label_change: true
  rules: {requests: 30, minutes: 0, agreement: 0.5, abstention: null, p99_ratio: 10}
"""
"""One person labels a paper here, and a new model may have new categories."""


def tell(output: Path, papers: int) -> None:
    """Run the story in a folder; a page shows it in the end."""
    for name in ("pipeline", "registry", "watch", "retrain"):  # of an earlier demo
        shutil.rmtree(output / name, ignore_errors=True)
    folder = output / "watch"
    folder.mkdir()
    story = _Story(output, folder)
    story.fit(papers)
    options = ["--registry", str(story.registry), "--journal", str(story.journal)]
    options += ["--journal-text", "--api-keys", str(story.keys_file)]
    with serving(folder, *options) as url:
        story.ask(url)
        story.show(url)


class _Story:
    """The steps, and the files that they share."""

    def __init__(self, output: Path, folder: Path) -> None:
        self.output, self.folder = output, folder
        self.registry, self.journal = output / "registry", folder / "journal.sqlite"
        self.keys_file = folder / "keys.json"
        self._history, self._rules = str(folder / "monitor.sqlite"), folder / "rules.yaml"
        self._keys: list[str] = []
        self._run, self._begun = Runner(), time.monotonic()

    def fit(self, papers: int) -> None:
        """Make the first champion."""
        csv, pipeline = self.output / "papers.csv", self.output / "pipeline"
        self._chapter("A model of 24 fields: dataset, fit, bundle, evaluation, gate, registry")
        sample = ("dataset", "sample", "--categories", str(_FIELDS))
        self._run(*sample, "--papers", str(papers), "--csv", str(csv))
        keys = (f"papers=[{csv.resolve()}]", "export.name=demo", "tracker=csv")
        place = f"gate.registry={self.registry.resolve()}"
        self._run("pipeline", "run", "--folder", str(pipeline), *keys, place)
        self._run("registry", "promote", "demo@1.0", "--registry", str(self.registry))
        self._keys = list(self._make_keys())

    def _make_keys(self) -> Iterator[str]:
        from classmark.service.keys import create_key

        typer.echo(f"\n$ classmark keys create CLIENT --file {self.keys_file}  # {_KEYS} clients")
        for number in range(_KEYS):
            scopes = ["classify", "feedback"]
            yield create_key(self.keys_file, f"client {number}", scopes, rate_per_minute=0)[1]

    def ask(self, url: str) -> None:
        """Send papers like those of the dataset, then those of new fields, and retrain."""
        self._chapter("Ordinary papers: nothing to see")
        with self._papers(url, _FIELDS, 51):
            wait_for(self.journal, _ORDINARY)
        self._look(_ORDINARY)
        self._chapter("Papers of four more fields, with other words: an alarm")
        seen = predictions_in(self.journal)
        with self._papers(url, _MORE_FIELDS, 12, "--drift", "1", "--newest", "10000"):
            wait_for(self.journal, seen + _DRIFTING)
            self._look(_DRIFTING, "--html", str(self.output / "drift.html"))
            self._retrain()
            seen = predictions_in(self.journal)
            wait_for(self.journal, seen + _AFTER)

    @contextmanager
    def _papers(self, url: str, categories: int, seed: int, *options: str) -> Iterator[None]:
        """Send papers beside the block, as many as it takes."""
        words = ["dataset", "sample", "--send", url, "--rate", str(_RATE), "--papers", "20000"]
        words += ["--feedback", "0.9", "--categories", str(categories), *options]
        with traffic(self.folder, words, seed, self._keys):
            yield

    def _look(self, newest: int, *page: str) -> None:
        look = ["monitor", "run", "--model", self._champion(), "--journal", str(self.journal)]
        look += ["--history", self._history, "--newest", str(newest), "--no-stream"]
        look += ["--retrain-size", "0.01"]
        self._run(*look, "--fail-on", "never", *page)

    def _champion(self) -> str:
        from classmark.registry import Registry

        registry = Registry.open(self.registry)
        return str(registry.bundle(registry.find("champion")))

    def _retrain(self) -> None:
        self._chapter("The order: extend the dataset, fit, gate, shadow, canary, take over")
        write_text(self._rules, _RULES)
        typer.echo(f"\n$ cat {self._rules}\n{_RULES}".rstrip())
        words = ["retrain", "run", "--folder", str(self.output / "retrain")]
        words += ["--dataset", str(self.output / "pipeline" / "dataset")]
        words += ["--registry", str(self.registry), "--journal", str(self.journal)]
        words += ["--history", self._history, "--rules", str(self._rules), "--wait", "tracker=csv"]
        self._run(*words)

    def show(self, url: str) -> None:
        """Write the page, and serve on while somebody looks."""
        self._chapter("What became of it")
        words = ["retrain", "status", "--folder", str(self.output / "retrain")]
        words += ["--registry", str(self.registry), "--journal", str(self.journal)]
        words += ["--history", self._history, "--html", str(self.output / "story.html")]
        self._run(*words)
        typer.echo(f"\nThe story as a page: {(self.output / 'story.html').resolve()}")
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            again = f"classmark serve --registry {self.registry}"
            typer.echo(f"The service at {url} stops now. Start it again with: {again}")
            return
        typer.echo(f"The new model serves at {url} until you press Enter.")
        typer.echo(f"API key for its page: {self._keys[0]}")
        sys.stdin.readline()

    def _chapter(self, title: str) -> None:
        typer.echo(f"\n== {time.monotonic() - self._begun:3.0f} s  {title}")
