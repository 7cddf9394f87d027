"""What one peer does in a process of its own, so that its memory and its CPU time are its own.

peers.py calls it: `fit` saves a model, `score` writes score tables, `serve` loads the model alone
and measures its speed. Each writes one JSON file.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from classmark.records import ScoreTable
from classmark.storage import atomic_file, write_json
from classmark.wire import ModelRef
from peer_heads import score_cached_minilm
from peer_kinds import Job, Scorer
from peer_models import PEERS
from peer_papers import Papers, Row

BATCH, N_ALONE = 500, 100


def peak_mb() -> int:
    """Return the most resident memory of this process (Linux: VmHWM; ru_maxrss inherits)."""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return round(int(found[1]) / 1024) if found else 0


def fit(name: str, folder: Path, dataset: Path, embeddings: Path) -> dict[str, Any]:
    """Fit a peer, save it, and return cost, size and settings."""
    model = folder / "model"
    model.mkdir(parents=True, exist_ok=True)
    job = Job(Papers(dataset), model, embeddings)
    settings = PEERS[name].fit(job)
    kept = PEERS[name].files(model)
    return {
        "cpu_s": round(job.watch.cpu_s, 1),
        "wall_s": round(job.watch.wall_s, 1),
        "peak_mb": peak_mb(),
        "size_mb": round(sum(p.stat().st_size for p in kept) / 1e6, 1),
        "files": sorted(p.name for p in kept),
        "settings": settings,
    }


def score(name: str, folder: Path, dataset: Path, embeddings: Path) -> dict[str, Any]:
    """Write the score tables of valid and test."""
    papers = Papers(dataset)
    scorer = None if name == "minilm" else PEERS[name].load(folder / "model")
    for split in ("valid", "test"):
        table = _table(name, papers, split, folder, embeddings, scorer)
        with atomic_file(folder / f"{split}.npz") as file:
            file.write(table.to_bytes())
    return {}


def _table(
    name: str, papers: Papers, split: str, folder: Path, embeddings: Path, scorer: Scorer | None
) -> ScoreTable:
    part, manifest = papers.split(split), papers.manifest
    if scorer is None:
        scores = score_cached_minilm(folder / "model", papers, split, embeddings)
    else:
        rows = papers.rows(split)
        batches = [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)]
        scores = np.concatenate([scorer(batch) for batch in batches])
    listed = np.zeros(scores.shape, dtype=np.bool_)
    listed[np.repeat(np.arange(len(part)), np.diff(part.listed_indptr)), part.listed_indices] = True
    return ScoreTable(
        labels=manifest.labels,
        ids=part.ids,
        scores=np.asarray(scores, dtype=np.float32),
        primary=part.labels,
        listed=listed,
        listed_count=part.listed_count,
        years=part.years,
        periods=part.periods,
        known_share=np.zeros(len(part), dtype=np.float32),
        model=ModelRef(name, "1", ""),
        dataset_digest=manifest.digest,
        split=split,
        generated=manifest.generated,
    )


def serve(name: str, folder: Path, papers_file: Path) -> dict[str, Any]:
    """Load a model alone and return its speed in batches and for one paper, and its memory."""
    lines = papers_file.read_text(encoding="utf-8").splitlines()
    rows = [Row(*json.loads(line)) for line in lines[: PEERS[name].speed_papers]]
    scorer = PEERS[name].load(folder / "model")
    scorer(rows[:8])
    cpu, wall = time.process_time(), time.monotonic()
    for first in range(0, len(rows), BATCH):
        scorer(rows[first : first + BATCH])
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    return {
        "papers": len(rows),
        "papers_per_cpu_s": round(len(rows) / max(cpu, 1e-6), 1),
        "papers_per_s": round(len(rows) / max(wall, 1e-6), 1),
        **_measure_alone(scorer, rows[:N_ALONE]),
        "peak_mb": peak_mb(),
    }


def _measure_alone(scorer: Scorer, rows: list[Row]) -> dict[str, float]:
    cpu, wall = [], []
    for row in rows:
        start = (time.process_time(), time.monotonic())
        scorer([row])
        cpu.append(time.process_time() - start[0])
        wall.append(time.monotonic() - start[1])
    return {
        "one_paper_cpu_ms": round(1e3 * statistics.median(cpu), 3),
        "one_paper_ms": round(1e3 * statistics.median(wall), 3),
    }


def main() -> None:
    """Do one verb: VERB PEER FOLDER then the paths it needs, the last one the JSON to write."""
    verb, name, folder, *paths = sys.argv[1:]
    verbs: dict[str, Callable[..., dict[str, Any]]] = {"fit": fit, "score": score, "serve": serve}
    *inputs, output = map(Path, paths)
    write_json(output, verbs[verb](name, Path(folder), *inputs))


if __name__ == "__main__":
    main()
