"""Bodies of requests made of invented papers (the sample generator's), each one different."""

from __future__ import annotations

import json
from typing import Any

from classmark.dataset import SampleConfig, sample_papers


def papers(n: int) -> list[dict[str, Any]]:
    """Return n invented papers as the service takes them."""
    found = sample_papers(SampleConfig(papers=n))
    return [{"id": p.id, "title": p.title, "abstract": p.abstract} for p in found]


def single_bodies(n: int) -> list[str]:
    """Return n bodies of one paper each."""
    return [json.dumps(paper) for paper in papers(n)]


def batch_bodies(n: int, size: int) -> list[str]:
    """Return n bodies of ``size`` papers each, no two alike."""
    everything = papers(n * size)
    return [
        json.dumps({"papers": everything[start : start + size]})
        for start in range(0, n * size, size)
    ]
