"""Says how the data of this checkout differ from those of an earlier commit, as Markdown.

python .ci/data_report.py --base COMMIT --output FILE.md

Both commits invent the same number of papers with their own generator and build a dataset of them
with their own rules; `classmark dataset stats` compares the two. The committed lists of held-out
ids are compared by their lines.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from dist import export

ROOT = Path(__file__).parents[1]
HOLDOUT = "benchmarks/holdout"


def build(source: Path, folder: Path, papers: int) -> Path:
    """Return a dataset that a checkout's own code makes.

    Args:
        source: the folder ``src`` of the checkout.
        folder: of the dataset, made.
        papers: invented.
    """
    classmark(source, "dataset", "sample", "--papers", str(papers), "--output", str(folder))
    return folder


def classmark(source: Path, *words: str) -> None:
    """Run a command of the code in a folder; end the program if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "classmark", *words],
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        shown = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        sys.exit(f"error: classmark {' '.join(words)} failed in {source}: {shown[0]}")


def holdout_changes(base: Path) -> str:
    """Return a table of the lists of held-out ids that differ from those in ``base``."""
    names = {path.name for root in (ROOT, base) for path in (root / HOLDOUT).glob("*.txt")}
    rows = []
    for name in sorted(names):
        now, before = (_lines(root / HOLDOUT / name) for root in (ROOT, base))
        if now != before:
            rows.append(
                f"| {name} | {len(now):,} | {len(now - before):,} | {len(before - now):,} |"
            )
    if not rows:
        return "The lists of held-out papers are unchanged.\n"
    head = ["| held-out papers | now | added | removed |", "| --- | ---: | ---: | ---: |"]
    return "\n".join([*head, *rows]) + "\n"


def _lines(path: Path) -> set[str]:
    return set(path.read_text(encoding="utf-8").splitlines()) if path.exists() else set()


def main(words: Sequence[str] | None = None) -> int:
    """Write the report."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--base", required=True, help="commit to compare with")
    parser.add_argument("--papers", type=int, default=5_000, help="invented; 5,000")
    parser.add_argument("--output", type=Path, required=True, help="Markdown file")
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="data-") as name:
        folder = Path(name)
        export(ROOT, options.base, folder / "base", "src", HOLDOUT)
        before = build(folder / "base" / "src", folder / "before", options.papers)
        now = build(ROOT / "src", folder / "now", options.papers)
        table, output = folder / "stats.md", options.output
        classmark(
            ROOT / "src", "dataset", "stats", str(now), "--against", str(before),
            "--markdown", str(table),
        )  # fmt: skip
        output.parent.mkdir(parents=True, exist_ok=True)
        text = table.read_text(encoding="utf-8") + "\n" + holdout_changes(folder / "base")
        output.write_text(text, encoding="utf-8")
    print(output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
