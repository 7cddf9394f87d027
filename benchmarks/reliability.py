"""Measures how often the shipped model is right when it says 80 %: bins of a reliability diagram.

python benchmarks/reliability.py --dataset DIR    (the dataset of MODELS.md; its test split)
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from classmark.evaluation import EvaluationConfig, evaluate_details
from classmark.pipeline.offline import score_dataset
from classmark.records import ScoreTable

REPORT = Path(__file__).parent / "reports" / "reliability.json"


def bins_of(table: ScoreTable) -> list[dict[str, Any]]:
    """Return the bins with their intervals."""
    return [asdict(found) for found in evaluate_details(table).bins]


def main() -> None:
    """Score, measure and write."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--dataset", type=Path, required=True, help="folder of a built dataset")
    dataset = parser.parse_args().dataset
    table = score_dataset("fast", dataset, "test", lambda _: None)
    periods = np.array(table.periods)
    names = list(dict.fromkeys(table.periods))
    report = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "python benchmarks/reliability.py --dataset DIR",
        "model": asdict(table.model),
        "dataset_digest": table.dataset_digest,
        "split": table.split,
        "generated": table.generated,
        "n": len(table),
        "level": EvaluationConfig().level,
        "bins": bins_of(table),
        "periods": {name: bins_of(table.select(np.flatnonzero(periods == name))) for name in names},
    }
    REPORT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"{REPORT}: {len(table):,} papers")


if __name__ == "__main__":
    main()
