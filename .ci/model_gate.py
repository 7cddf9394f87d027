"""Decides whether a staged model may ship: verified, fast enough, no worse than the one before.

python .ci/model_gate.py --base COMMIT --output FILE.md [--model MODEL]

The model is the one in the package, or MODEL. The one before is in the package of COMMIT. Both are
compared on invented papers, on which every fault of an export shows but no real progress does: the
numbers of real papers are in the reports that a release commits. Then a temporary registry, whose
champion is the one before, measures the model with its gate and promotes it. Exit code 3 means
refused.

Where COMMIT has public keys (.ci/signatures/NAME.pub), one of them must have signed a new model:
.ci/signatures/DIGEST, as a registry keeps it. Keys that the change itself brings do not count.
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
from classmark.bundle import load_bundle
from classmark.dataset import SampleConfig, sample_dataset, sample_papers

ROOT = Path(__file__).parents[1]
BUNDLES = "src/classmark/bundles"
SIGNATURES = ".ci/signatures"
RULES = Path(__file__).with_name("model_gate.yaml")
REFUSED = 3
PREDICTIONS = 100
MOST_SECONDS = 2.0
PAPERS = 3_000
GATE = "gate of a registry"
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


@dataclass(frozen=True)
class Staged:
    """A model that is to replace another one.

    Attributes:
        model: its bundle.
        before: bundle that ships now.
        keys: public keys, one of which must have signed a new model.
        signatures: folder with its signature, under its digest, if it has one.
    """

    model: Path
    before: Path
    keys: tuple[Path, ...]
    signatures: Path


def verify(model: str) -> Check:
    """Return whether every byte of the bundle is the one that its digest and seal name."""
    done = run("models", "show", model, "--json")
    if not done.stdout:
        return Check("verified", False, last_line(done))
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
        return Check(name, False, last_line(done))
    found = json.loads(done.stdout)
    metrics = {key: found["metrics"][key] for key in WATCHED}
    worse = [key for key, value in metrics.items() if value["high"] < 0]
    shown = (
        f"{key} {value['a']:.3f} → {value['b']:.3f} ({value['low']:+.3f} to {value['high']:+.3f})"
        for key, value in metrics.items()
    )
    return Check(name, not worse, f"{'; '.join(shown)}; {found['n']} invented papers")


def register(staged: Staged, dataset: Path, folder: Path) -> list[Check]:
    """Return whether a registry takes the model, its gate lets it pass and it is promoted.

    Args:
        staged: the model, and the one before, which is made the champion.
        dataset: folder of invented papers.
        folder: of the registry to make.
    """
    before, digest = ship(staged.before, folder), load_bundle(staged.model).digest
    if digest == before:
        return [Check(GATE, True, "it is the champion already: the digest is the same")]
    at = ["--registry", str(folder), *(f"--trusted-key={key}" for key in staged.keys)]
    signature = staged.signatures / digest
    proof = [f"--signature={signature}"] if staged.keys and signature.exists() else []
    added = run("registry", "add", str(staged.model), *proof, *at)
    checks = [Check("taken by a registry", not added.returncode, last_line(added))]
    if checks[-1].passed:
        words = ("--dataset", str(dataset), "--rules", str(RULES), "--json")
        checks.append(judged(run("registry", "gate", digest, *words, *at)))
    if checks[-1].passed:
        promoted = run("registry", "promote", digest, *at)
        checks.append(Check("promoted", not promoted.returncode, last_line(promoted)))
    return checks


def ship(model: Path, folder: Path) -> str:
    """Make a registry whose champion is a model that ships already; returns its digest."""
    digest = load_bundle(model).digest
    reason = ("--force", "--why", "it ships already")
    for words in (("init",), ("add", str(model)), ("promote", digest, *reason)):
        done = run("registry", *words, "--registry", str(folder))
        if done.returncode:
            sys.exit(f"error: no registry of {model} can be made: {last_line(done)}")
    return digest


def judged(done: subprocess.CompletedProcess[str]) -> Check:
    """Return what the gate of a registry said, with the name of each line that fails."""
    if not done.stdout:
        return Check(GATE, False, last_line(done))
    report = json.loads(done.stdout)
    lines = report["checks"]
    failed = [f"{one['group']}: {one['name']}" for one in lines if one["outcome"] == "failed"]
    counts = f"{report['checked'] - report['failed']} of {report['checked']} lines hold"
    (line,) = (one for one in lines if one["group"] == "signature")
    signature = line["name"] if line["outcome"] == "passed" else line["note"]
    return Check(GATE, report["passed"], "; ".join([counts, *failed, signature]))


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    """Return the last line of a command, which is its error if it failed."""
    return (done.stderr if done.returncode else done.stdout).strip().splitlines()[-1]


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


def decide(staged: Staged, most_s: float, folder: Path) -> list[Check]:
    """Return the checks of a model, up to the first that ends them.

    Args:
        staged: the model, and the one before.
        most_s: seconds that a hundred predictions may take.
        folder: for a dataset of invented papers and a registry.
    """
    model, dataset = str(staged.model), folder / "dataset"
    checks = [verify(model)]
    if checks[0].passed:
        sample_dataset(dataset, SampleConfig(papers=PAPERS))
        checks += [time_predictions(model, most_s), compare(str(staged.before), model, dataset)]
    if all(check.passed for check in checks):
        checks += register(staged, dataset, folder / "registry")
    return checks


def markdown(staged: Staged, checks: Sequence[Check]) -> str:
    """Return the decision as Markdown."""
    refused = [check for check in checks if not check.passed]
    verdict = (
        f"**Refused**: {refused[0].name}." if refused else "**Accepted**: a merge ships this model."
    )
    rows = [
        f"| {one.name} | {'yes' if one.passed else '**no**'} | {one.detail} |" for one in checks
    ]
    head = ["| check | passed | found |", "| --- | --- | --- |"]
    title = f"## Model {staged.model.name}, after {staged.before.name}"
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
        export(ROOT, options.base, folder / "base", BUNDLES, ".ci")
        staged = Staged(
            model=options.model or packaged(ROOT),
            before=packaged(folder / "base"),
            keys=tuple(sorted((folder / "base" / SIGNATURES).glob("*.pub"))),
            signatures=ROOT / SIGNATURES,
        )
        checks = decide(staged, options.seconds, folder)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    text = markdown(staged, checks)
    options.output.write_text(text, encoding="utf-8")
    print(text)
    return 0 if all(check.passed for check in checks) else REFUSED


if __name__ == "__main__":
    sys.exit(main())
