"""Decides whether a staged model may ship: verified, fast enough, no worse than the one before.

python .ci/model_gate.py --base COMMIT --output FILE.md [--model MODEL]

The model is the one in the package, or MODEL. The one before is in the package of COMMIT. Both are
compared on invented papers, on which every fault of an export shows but no real progress does: the
numbers of real papers are in the reports that a release commits. Exit code 3 means refused.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dist import export

from classmark import Classifier, ClassmarkError
from classmark.dataset import SampleConfig, sample_dataset, sample_papers

ROOT = Path(__file__).parents[1]
BUNDLES = "src/classmark/bundles"
REFUSED = 3
PREDICTIONS = 100
MOST_SECONDS = 2.0
PAPERS = 3_000
WATCHED = ("top_1", "top_5", "macro_f1")


@dataclass(frozen=True)
class Check:
    """One question to the model.

    Attributes:
        name: what was asked.
        passed: whether the answer lets it ship.
        detail: the answer, with its numbers.
    """

    name: str
    passed: bool
    detail: str


def verify(model: str) -> Check:
    """Return whether every byte of the bundle is the one that its digest and seal name."""
    done = run("models", "show", model, "--json")
    if not done.stdout:
        return Check("verified", False, done.stderr.strip().splitlines()[-1])
    found = json.loads(done.stdout)
    if not found["verified"]:
        return Check("verified", False, found["problem"])
    return Check("verified", True, f"digest {found['digest'][:12]}")


def time_predictions(model: str, most_s: float) -> Check:
    """Return whether a hundred papers, one after the other, are answered in time."""
    papers = list(sample_papers(SampleConfig(papers=PREDICTIONS)))
    name = f"{PREDICTIONS} predictions"
    try:
        classifier = Classifier(model)
        start = time.perf_counter()
        answers = [classifier.classify(paper) for paper in papers]
        seconds = time.perf_counter() - start
    except ClassmarkError as error:
        return Check(name, False, str(error))
    wrong = [answer for answer in answers if not 0 <= answer.probability <= 1]
    detail = f"{seconds:.2f} s, at most {most_s:g} s"
    return Check(name, seconds <= most_s and not wrong, detail)


def compare(before: str, model: str, dataset: Path) -> Check:
    """Return whether the model is as good as the one before, as far as the papers can tell.

    It is worse if the whole 95 % interval of a paired difference is below 0.
    """
    name = "no worse than before"
    words = ("evaluate", "compare", before, model, "--dataset", str(dataset), "--common", "--json")
    done = run(*words)
    if done.returncode:
        return Check(name, False, done.stderr.strip().splitlines()[-1])
    found = json.loads(done.stdout)
    metrics = {key: found["metrics"][key] for key in WATCHED}
    worse = [key for key, value in metrics.items() if value["high"] < 0]
    shown = (
        f"{key} {value['a']:.3f} → {value['b']:.3f} ({value['low']:+.3f} to {value['high']:+.3f})"
        for key, value in metrics.items()
    )
    return Check(name, not worse, f"{'; '.join(shown)}; {found['n']} invented papers")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of classmark."""
    command = [sys.executable, "-m", "classmark", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def packaged(folder: Path) -> Path:
    """Return the model in the package of a checkout: the newest, if there are several."""
    bundles = folder / BUNDLES
    found = [path.parent for path in bundles.glob("*/bundle.json")]
    if not found:
        sys.exit(f"error: {bundles} holds no model. Name a commit with one: --base.")
    return max(found, key=lambda path: [int(part) for part in path.name.split("-")[-1].split(".")])


def decide(model: Path, before: Path, most_s: float, folder: Path) -> list[Check]:
    """Return the checks of a model, up to the first that ends them.

    Args:
        model: bundle that is staged.
        before: bundle that ships now.
        most_s: seconds that a hundred predictions may take.
        folder: for a dataset of invented papers.
    """
    verified = verify(str(model))
    if not verified.passed:
        return [verified]
    sample_dataset(folder, SampleConfig(papers=PAPERS))
    speed = time_predictions(str(model), most_s)
    return [verified, speed, compare(str(before), str(model), folder)]


def markdown(model: Path, before: Path, checks: Sequence[Check]) -> str:
    """Return the decision as Markdown."""
    refused = [check for check in checks if not check.passed]
    verdict = (
        f"**Refused**: {refused[0].name}." if refused else "**Accepted**: a merge ships this model."
    )
    rows = [
        f"| {one.name} | {'yes' if one.passed else '**no**'} | {one.detail} |" for one in checks
    ]
    head = ["| check | passed | found |", "| --- | --- | --- |"]
    title = f"## Model {model.name}, after {before.name}"
    return "\n\n".join([title, verdict, "\n".join([*head, *rows])]) + "\n"


def main(words: Sequence[str] | None = None) -> int:
    """Decide, write why, and return 3 if the model is refused."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--base", required=True, help="commit whose packaged model ships now")
    parser.add_argument("--model", type=Path, help="bundle; the packaged one without it")
    parser.add_argument("--seconds", type=float, default=MOST_SECONDS, help=f"{MOST_SECONDS:g}")
    parser.add_argument("--output", type=Path, required=True, help="Markdown file")
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="model-") as name:
        folder = Path(name)
        export(ROOT, options.base, folder / "base", BUNDLES)
        before, model = packaged(folder / "base"), options.model or packaged(ROOT)
        checks = decide(model, before, options.seconds, folder / "dataset")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    text = markdown(model, before, checks)
    options.output.write_text(text, encoding="utf-8")
    print(text)
    return 0 if all(check.passed for check in checks) else REFUSED


if __name__ == "__main__":
    sys.exit(main())
