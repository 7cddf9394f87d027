"""The endpoint that benchmarks/deep.py compares with: torch behind FastAPI, as it is usually made.

python benchmarks/deep_plain.py RUN PORT

One worker, the fitted network of a run in float32, a plain ``def`` endpoint in the thread pool.
Text recipe, tokens and weights are those of classmark, so the answers are equally accurate.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from classmark.pipeline.transformer.export import read_network
from classmark.records import RunRecord


class Paper(BaseModel):
    """A paper."""

    title: str = ""
    abstract: str = ""


def create_app(run: Path) -> FastAPI:
    """Return the application."""
    record = RunRecord.read(run)
    network, labels = read_network(run, record), record.labels
    app = FastAPI()

    @app.post("/v1/classify")
    def classify(paper: Paper) -> dict[str, Any]:
        [encoded] = network.tokenizer.encode([(paper.title, paper.abstract)])
        ids = torch.from_numpy(encoded.ids.astype(np.int64))[None]
        types = torch.from_numpy(encoded.types.astype(np.int64))[None]
        with torch.inference_mode():
            logits = network.module(ids, torch.ones_like(ids), types)[0]
            probability, order = torch.softmax(logits, dim=0).topk(min(5, len(labels)))
        ranked = zip(order.tolist(), probability.tolist(), strict=True)
        return {"ranked": [{"code": labels[i], "probability": p} for i, p in ranked]}

    return app


if __name__ == "__main__":
    uvicorn.run(
        create_app(Path(sys.argv[1])), host="127.0.0.1", port=int(sys.argv[2]), log_level="warning"
    )
