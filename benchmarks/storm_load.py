"""One process of the load of ``storm.py``: a part through the client, a part on raw connections.

It prints one JSON line for each slice of time, and ends when the file of ``--until`` exists.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

from classmark.client import Answer, AsyncClient, ClientConfig
from load import Connections, Tally, request_of

SLICE_S, SAMPLED = 0.5, 0.02
WORDS = (
    *("graph", "brane", "neural", "galaxy", "estimator", "lattice", "proof", "quantum", "market"),
    *("protein", "operator", "learning", "random", "spectral", "matrix", "string", "convex"),
)
N_TEXTS = 500


def published(answer: Answer) -> dict[str, Any]:
    """Return what an answer says about its text, without what is its own."""
    own = ("prediction_id", "author_category", "similar", "id")
    return {name: value for name, value in answer.to_dict().items() if name not in own}


class Load:
    """Tasks that classify texts at a pace until they are stopped.

    Attributes:
        failed: what the client raised, counted.
        digests: who answered the client, and how often.
        sample: texts with the answers that they got through the client.
    """

    def __init__(self, url: str, keys: list[str], rate: float, seed: int) -> None:
        self.failed: Counter[str] = Counter()
        self.digests: Counter[str] = Counter()
        self.sample: list[dict[str, Any]] = []
        self._url, self._keys, self._chance = url, keys, random.Random(seed)
        self._pace_s = 2 * len(keys) / rate
        self._texts = [" ".join(self._chance.choices(WORDS, k=12)) for _ in range(N_TEXTS)]
        self._tally, self._took_s = Tally(), list[float]()
        self._is_over = False

    async def run(self, until: Path, client_share: float) -> None:
        """Classify until a file exists.

        Args:
            until: the file.
            client_share: of the requests, through the client.
        """
        async with asyncio.TaskGroup() as tasks:
            for key in self._keys:
                tasks.create_task(self._ask(key, self._pace_s / max(2 * client_share, 0.01)))
                tasks.create_task(self._ask_raw(key, self._pace_s / (2 - 2 * client_share)))
            while not self._is_over:
                await asyncio.sleep(SLICE_S)
                self._is_over = until.exists()
                self._tell()
        self._tell()

    async def _ask(self, key: str, pace_s: float) -> None:
        config = ClientConfig(api_key=key, timeout_s=200)
        async with AsyncClient(self._url, config) as client:
            while not self._is_over:
                text, began = self._chance.choice(self._texts), time.monotonic()
                try:
                    answer = await client.classify(text)
                except Exception as error:  # noqa: BLE001 - counted: there must be none of any kind
                    self.failed[repr(error)[:200]] += 1
                else:
                    self._took_s.append(time.monotonic() - began)
                    self.digests[answer.model.digest] += 1
                    if self._chance.random() < SAMPLED:
                        self.sample.append({"text": text, "answer": published(answer)})
                await asyncio.sleep(max(0.0, began + pace_s - time.monotonic()))

    async def _ask_raw(self, key: str, pace_s: float) -> None:
        fields = f"X-API-Key: {key}\r\n"
        requests = [request_of(json.dumps({"text": t}), fields=fields) for t in self._texts]
        connections = Connections(self._url)
        while not self._is_over:
            began = time.monotonic()
            await connections.ask(self._chance.choice(requests), self._tally)
            await asyncio.sleep(max(0.0, began + pace_s - time.monotonic()))
        connections.close()

    def _tell(self) -> None:
        tally, took_s = self._tally, self._took_s
        self._tally, self._took_s = Tally(), []
        line = {
            "at": time.time(),
            "client_s": [round(s, 5) for s in took_s],
            "raw_s": [round(s, 5) for s in tally.answered_s],
            "raw_refused": len(tally.refused_s),
            "raw_other": tally.other,
        }
        print(json.dumps(line), flush=True)


def main() -> None:
    """Run the load, then write what the client saw."""
    parser = argparse.ArgumentParser()
    for name in ("--url", "--keys", "--output", "--until"):
        parser.add_argument(name, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--client-share", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()
    # In a file: the command line of a process can be read by everybody.
    keys = json.loads(Path(options.keys).read_text())
    load = Load(options.url, keys, options.rate, options.seed)
    asyncio.run(load.run(Path(options.until), options.client_share))
    seen = {"failed": load.failed, "digests": load.digests, "sample": load.sample}
    Path(options.output).write_text(json.dumps(seen))


if __name__ == "__main__":
    main()
