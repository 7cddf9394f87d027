"""Makes a release of the shipped model from a clean commit, and all that depends on its dataset.

python benchmarks/release.py --dataset DIR --work DIR [--only STEP,...] [--dry-run]

DIR is what `classmark dataset build` wrote (MODELS.md, Reproduce). Every step is a command in a
process of its own; what it writes is copied into the checkout when it is done. A step that is done
is not repeated, so the same command resumes a release that was interrupted. It refuses a checkout
with changes other than those that its own steps made.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import classmark
from report import ROOT, SHIPPED, commit_of, finished, provenance, write_report

NON_PAPERS = "src/classmark/evaluation/robustness/non_papers.jsonl"
BUNDLE = f"src/classmark/bundles/{SHIPPED}"
REPORTS, GATES = "benchmarks/reports", "benchmarks/gates"
# What the steps write: changes anywhere else make a checkout dirty.
OUTPUTS = (BUNDLE, REPORTS, GATES, "docs", "README.md", "MODELS.md")
PYTHON = sys.executable
CLASSMARK = [PYTHON, "-m", "classmark"]


@dataclass(frozen=True)
class Step:
    """A step of a release.

    Attributes:
        name: in ``--only`` and in what is printed.
        command: to run in the work folder, of the facts that earlier steps printed.
        writes: file or folder in the work folder -> where it goes in the checkout.
    """

    name: str
    command: Callable[[dict[str, str]], Sequence[str]]
    writes: tuple[tuple[str, str], ...] = ()


def steps_of(train: Sequence[str], *, has_next: bool) -> list[Step]:
    """Return all steps in their order.

    Args:
        train: further overrides of the fits.
        has_next: there is a dataset of the next period: its own fit is measured too.
    """
    fit = [*CLASSMARK, "train", "experiment=wheel", *train]
    evaluate = [*CLASSMARK, "evaluate"]

    def report(name: str) -> tuple[str, str]:
        return f"{name}.json", f"{REPORTS}/{name}.json"

    def script(name: str, report_name: str, *options: str) -> Step:
        command = [PYTHON, str(ROOT / "benchmarks" / name), "--dataset", "dataset", *options]
        written = report(report_name)
        return Step(report_name, lambda _: [*command, "--output", written[0]], (written,))

    next_period = [
        Step(
            "next-train",
            lambda _: [*CLASSMARK, "train", *train, "dataset.path=next", "runs_dir=runs-next"],
        ),
        Step(
            "next-period",
            lambda found: [
                *(*CLASSMARK, "export", found["next-train"], "--output", "next-2.0"),
                *("--overwrite", "--report", "next-period.json"),
            ],
            (report("next-period"),),
        ),
        Step(
            "next-authors",
            lambda found: [
                *(PYTHON, str(ROOT / "benchmarks/authors.py"), "--dataset", "next"),
                *("--run", found["next-train"], "--model", "next-2.0", "--entries"),
                *("--output", "authors-next.json"),
            ],
            (report("authors-next"),),
        ),
    ]
    robustness = f"robustness-{SHIPPED}"
    return [
        Step("train", lambda _: [*fit, "dataset.path=dataset", "runs_dir=runs"]),
        Step(
            "export",
            lambda found: [
                *(*CLASSMARK, "export", found["train"], "--output", SHIPPED, "--overwrite"),
                *("--about", str(ROOT / "benchmarks" / "card-fast.md")),
                *("--non-papers", str(ROOT / NON_PAPERS), "--report", f"{SHIPPED}-test.json"),
            ],
            ((SHIPPED, BUNDLE), report(f"{SHIPPED}-test")),
        ),
        Step(
            "parent",
            lambda found: [
                *(*evaluate, "--scores", f"{found['train']}/scores/parent-test.npz"),
                *("--output", f"{SHIPPED}-parent-test.json"),
            ],
            (report(f"{SHIPPED}-parent-test"),),
        ),
        Step(
            "authors",
            lambda found: [
                *(PYTHON, str(ROOT / "benchmarks/authors.py"), "--dataset", "dataset"),
                *("--run", found["train"], "--model", SHIPPED, "--output", "authors.json"),
                *("--plot", "authors.svg"),
            ],
            (report("authors"), ("authors.svg", "docs/images/authors.svg")),
        ),
        script("data_card.py", "data-card"),
        script("reliability.py", "reliability"),
        Step(
            "robustness",
            lambda _: [
                *(*evaluate, "robustness", "--model", "fast", "--dataset", "dataset"),
                *("--output", f"{robustness}.json", "--write-gates", "gates.json"),
            ],
            (report(robustness), ("gates.json", f"{GATES}/{SHIPPED}.json")),
        ),
        *(next_period if has_next else []),
        script("peers.py", "peers", "--work", "peers"),
        script("decay.py", "decay", "--work", "decay"),
        *(
            Step(name, lambda _, path=path: [PYTHON, str(ROOT / path)])  # type: ignore[misc]
            for name, path in (
                ("numbers", "benchmarks/quote.py"),
                ("figures", "benchmarks/figures"),
                ("pages", "docs/generated.py"),
            )
        ),
    ]


class Release:
    """The work folder of a release, and the record of the steps that are done."""

    def __init__(self, work: Path, dataset: Path) -> None:
        self.work = work
        self._record = work / "release.json"
        digest = json.loads((dataset / "manifest.json").read_text(encoding="utf-8"))["digest"]
        commit, _ = commit_of(ROOT)
        self.asked = {"commit": commit, "dataset": digest, "model": SHIPPED}
        stored = json.loads(self._record.read_text()) if self._record.exists() else {}
        self.begun: dict[str, Any] = stored.get("asked", self.asked)
        self.done: dict[str, Any] = stored.get("done", {})

    def refusal(self) -> str | None:
        """Return why the release cannot be made, if it cannot."""
        if self.asked["commit"] is None:
            return f"{ROOT} is not a git checkout. Release from a clone."
        if self.begun != self.asked:
            return (
                f"{self.work} holds a release of {self.begun}, not of {self.asked}. Choose another."
            )
        if not Path(classmark.__file__).is_relative_to(ROOT / "src"):
            return f"classmark is imported from {classmark.__file__}. Install this checkout."
        made = [f":!{path}" for path in OUTPUTS] if self.done else []
        git = ["git", "-C", str(ROOT), "status", "--porcelain", "--", ".", *made]
        changed = subprocess.run(git, capture_output=True, text=True, check=True).stdout.split("\n")
        if any(changed):
            return f"the checkout has changes, the first is {changed[0].strip()!r}. Commit them."
        return None

    def run(self, step: Step) -> None:
        """Run a step, copy what it wrote into the checkout, and note it as done."""
        command = list(step.command(self.results()))
        facts, started = provenance(command), time.monotonic()
        home = {"CLASSMARK_HOME": str(self.work / "home")}
        run = subprocess.run(
            command, cwd=self.work, env={**os.environ, **home}, stdout=subprocess.PIPE, text=True,
            check=False,
        )  # fmt: skip
        if run.returncode:
            sys.exit(f"{step.name} ended with status {run.returncode}. Mend it and run this again.")
        for source, target in step.writes:
            install(self.work / source, ROOT / target, finished(facts))
        seconds = round(time.monotonic() - started, 1)
        printed = run.stdout.strip().splitlines()
        self.done[step.name] = {"seconds": seconds, "printed": printed[-1] if printed else ""}
        self._record.write_text(json.dumps({"asked": self.asked, "done": self.done}, indent=1))

    def link(self, datasets: Mapping[str, Path | None]) -> None:
        """Make the work folder, with a link to each dataset: no command holds another path."""
        self.work.mkdir(parents=True, exist_ok=True)
        for name, folder in datasets.items():
            if folder is not None and not (self.work / name).is_symlink():
                (self.work / name).symlink_to(folder.resolve(), target_is_directory=True)

    def line_of(self, step: Step) -> str:
        """Return what a step took, or that it is to do, and its command."""
        done = self.done.get(step.name)
        took = f"{done['seconds']:,} s" if done else "to do"
        words = " ".join(step.command(self.results())).replace(PYTHON, "python")
        words = words.replace(f"{ROOT}/", "")
        return f"{step.name:<14} {took:>10}  {words}"

    def results(self) -> dict[str, str]:
        """Return the last line that each step printed; RUN for a fit that is still to do."""
        printed = {name: done["printed"] for name, done in self.done.items()}
        return {"train": "RUN", "next-train": "RUN", **printed}


def install(source: Path, target: Path, facts: dict[str, Any]) -> None:
    """Put a file or folder in the place of another; a report that has no provenance gets it."""
    if source.is_dir():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
        return
    if target.parent.name == "reports":
        written = json.loads(source.read_text(encoding="utf-8"))
        write_report({**written, "provenance": written.get("provenance", facts)}, target)
    else:
        shutil.copyfile(source, target)


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--dataset", type=Path, required=True, help="folder of a built dataset")
    parser.add_argument("--work", type=Path, required=True, help="folder for all that is made")
    parser.add_argument("--next", type=Path, help="dataset whose test papers are of later years")
    parser.add_argument("--only", help="steps to run, separated by commas; all without it")
    parser.add_argument("--train", default="", help="overrides of the fits, separated by spaces")
    parser.add_argument("--dry-run", action="store_true", help="print the steps, change nothing")
    return parser.parse_args()


def chosen(options: argparse.Namespace) -> list[Step]:
    """Return the steps that were asked for, in their order."""
    steps = steps_of(options.train.split(), has_next=options.next is not None)
    names = [step.name for step in steps]
    wanted = options.only.split(",") if options.only else names
    if unknown := [name for name in wanted if name not in names]:
        sys.exit(f"error: --only {unknown[0]} is not a step. Choose from {', '.join(names)}.")
    return [step for step in steps if step.name in wanted]


def main() -> None:
    """Make the release, or with --dry-run say what would be done."""
    options = parse()
    steps, release = chosen(options), Release(options.work.resolve(), options.dataset)
    refusal = release.refusal()
    if refusal and not options.dry_run:
        sys.exit(f"error: {refusal}")
    if options.dry_run:
        print(f"would be refused: {refusal}" if refusal else f"of commit {release.asked['commit']}")
    else:
        release.link({"dataset": options.dataset, "next": options.next})
    for step in steps:
        if step.name not in release.done and not options.dry_run:
            print(f"{step.name} ...", file=sys.stderr, flush=True)
            release.run(step)
        print(release.line_of(step))
    if not options.dry_run:
        print("Look at `git diff --stat`, run `make test`, and commit.")


if __name__ == "__main__":
    main()
