"""Draws the figures of docs/path from the committed reports, the shipped model and invented papers.

python benchmarks/figures [--check]

The same reports give the same bytes; ``--check`` fails if a figure is not what it would draw.
"""

from __future__ import annotations

import sys
from pathlib import Path

import of_bundle
import of_dataset
import of_deep
import of_evaluation
import of_model
import of_papers

FOLDER = Path(__file__).parents[2] / "docs" / "images"
FIGURES = {
    "path-1-papers.svg": of_papers.draw,
    "path-2-dataset.svg": of_dataset.draw,
    "path-3-fast-model.svg": of_model.draw,
    "path-4-bundle.svg": of_bundle.draw,
    "path-5-evaluation.svg": of_evaluation.draw,
    "path-6-deep-model.svg": of_deep.draw,
}


def main() -> None:
    """Write, or with --check fail if a figure is stale."""
    stale = []
    for name, draw in FIGURES.items():
        path, drawn = FOLDER / name, draw().encode()
        if not path.exists() or path.read_bytes() != drawn:
            stale.append(name)
            if "--check" not in sys.argv:
                path.write_bytes(drawn)
                print(f"{path}  {len(drawn):,} bytes")
    if stale and "--check" in sys.argv:
        sys.exit(
            f"stale figures: {', '.join(stale)}. Run python benchmarks/figures and look at them."
        )


if __name__ == "__main__":
    main()
