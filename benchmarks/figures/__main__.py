"""Draws figures of the docs from the committed reports, the shipped model and invented papers.

python benchmarks/figures [--check]

The same reports give the same bytes; ``--check`` fails if a figure is not what it would draw.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "docs" / "images"
FIGURES = {
    "compression.svg": "of_compression",
    "path-1-papers.svg": "of_papers",
    "path-2-dataset.svg": "of_dataset",
    "path-3-fast-model.svg": "of_model",
    "path-4-bundle.svg": "of_bundle",
    "path-5-evaluation.svg": "of_evaluation",
    "path-3-deep-model.svg": "of_deep",
    "path-6-service.svg": "of_service",
    "path-7-monitor.svg": "of_monitor",
    "path-8-replace.svg": "of_replace",
    "path-9-retrain.svg": "of_retrain",
    "path-pipeline.svg": "of_pipeline",
    "path-rooms.svg": "of_rooms",
}


def main() -> None:
    """Write, or with --check fail if a figure is stale."""
    sys.path.append(str(Path(__file__).parents[1]))
    from report import write_or_check

    wanted = {FOLDER / name: importlib.import_module(of).draw() for name, of in FIGURES.items()}
    write_or_check(wanted, "python benchmarks/figures and look at them")


if __name__ == "__main__":
    main()
