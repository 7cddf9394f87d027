"""What speeds are compared with in the same run: ways to score texts, to read them, to serve.

python benchmarks/yardsticks.py echo PORT         a FastAPI echo that answers a body with itself
python benchmarks/yardsticks.py torch PORT RUN    torch behind FastAPI, as it is usually made
python benchmarks/yardsticks.py count FILE        one process that parses JSON lines, no more

The torch server has one worker, the fitted network of a run in float32, and a plain ``def``
endpoint in the thread pool. Text recipe, tokens and weights are those of classmark, so the answers
are equally accurate.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

BUCKETS, LABELS, SEED = 1 << 16, 149, 7
Score = Callable[[Sequence[tuple[str, str]]], Any]


def text_yardsticks() -> dict[str, Score]:
    """Return ways to score texts with random weights, by name; scikit-learn's if it is installed.

    ``python`` counts the words with a ``Counter`` and adds one row of weights a word.
    ``scikit-learn`` is its HashingVectorizer (words and word pairs) and one sparse product.
    """
    rng = np.random.default_rng(SEED)
    weights = rng.standard_normal((BUCKETS, LABELS), dtype=np.float32)

    def score_python(pairs: Sequence[tuple[str, str]]) -> Any:
        scores = np.empty((len(pairs), LABELS), dtype=np.float32)
        for row, (title, abstract) in enumerate(pairs):
            counts = Counter(hash(word) % BUCKETS for word in f"{title} {abstract}".lower().split())
            scores[row] = np.fromiter(counts.values(), np.float32) @ weights[list(counts)]
        return scores

    found: dict[str, Score] = {"python": score_python}
    if find_spec("sklearn") is not None:
        from sklearn.feature_extraction.text import HashingVectorizer

        vectoriser = HashingVectorizer(
            n_features=BUCKETS, ngram_range=(1, 2), alternate_sign=False, dtype=np.float32
        )
        found["scikit-learn"] = lambda pairs: (
            vectoriser.transform([f"{t}\n{a}" for t, a in pairs]) @ weights
        )
    return found


def tfidf_yardstick(pairs: Sequence[tuple[str, str]]) -> dict[str, Score]:
    """Return scikit-learn's TF-IDF of words and word pairs with one product; none without it.

    Args:
        pairs: titles and abstracts that the vocabulary is made of.
    """
    if find_spec("sklearn") is None:
        return {}
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectoriser = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, dtype=np.float32)
    vectoriser.fit([f"{t}\n{a}" for t, a in pairs])
    shape = (len(vectoriser.vocabulary_), LABELS)
    weights = np.random.default_rng(SEED).standard_normal(shape, dtype=np.float32)
    return {
        "TF-IDF": lambda papers: vectoriser.transform([f"{t}\n{a}" for t, a in papers]) @ weights
    }


def count_json_lines(path: Path) -> int:
    """Return how many JSON objects a file has, one a line, each parsed."""
    with path.open("rb") as lines:
        return sum(1 for line in lines if json.loads(line))


def create_echo() -> Any:
    """Return a FastAPI application that answers a body with itself."""
    from fastapi import FastAPI

    app = FastAPI()

    async def echo(body: dict[str, Any]) -> dict[str, Any]:
        return body

    app.post("/echo")(echo)
    return app


def create_torch(run: Path) -> Any:
    """Return the FastAPI application around the network of a run."""
    import torch
    from fastapi import FastAPI
    from pydantic import BaseModel

    from classmark.pipeline.transformer.export import read_network
    from classmark.records import RunRecord

    class Paper(BaseModel):
        title: str = ""
        abstract: str = ""

    record = RunRecord.read(run)
    network, labels = read_network(run, record), record.labels
    app = FastAPI()

    def classify(paper: Any) -> dict[str, Any]:
        [encoded] = network.tokenizer.encode([(paper.title, paper.abstract)])
        ids = torch.from_numpy(encoded.ids.astype(np.int64))[None]
        types = torch.from_numpy(encoded.types.astype(np.int64))[None]
        with torch.inference_mode():
            logits = network.module(ids, torch.ones_like(ids), types)[0]
            probability, order = torch.softmax(logits, dim=0).topk(min(5, len(labels)))
        ranked = zip(order.tolist(), probability.tolist(), strict=True)
        return {"ranked": [{"code": labels[i], "probability": p} for i, p in ranked]}

    classify.__annotations__["paper"] = Paper
    app.post("/v1/classify")(classify)
    return app


def main() -> None:
    """Serve, or count."""
    kind, given, *run = sys.argv[1:]
    if kind == "count":
        print(count_json_lines(Path(given)))
        return
    import uvicorn

    app = create_torch(Path(run[0])) if kind == "torch" else create_echo()
    uvicorn.run(app, host="127.0.0.1", port=int(given), access_log=False, log_level="error")


if __name__ == "__main__":
    main()
