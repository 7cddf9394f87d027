"""How often the rules of a canary are wrong: simulated canaries of equal and of worse models.

python benchmarks/canary.py [--canaries 1000] [--output benchmarks/reports/canary.json]

Each canary is looked at after every block of requests, as the supervisor does every second. All
requests become slower, and fail more often, in one block of ten, whichever model answers.
"""

from __future__ import annotations

import argparse
import random
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from statistics import median

from classmark.registry.rules import CanaryRules, Counts, Trial, Verdict
from classmark.service.families import FAMILIES
from report import Measured, run_benchmark

EDGES = FAMILIES["classmark_version_seconds"].edges
RULES = CanaryRules(requests=400, minutes=0, false_rollback=0.05)
"""A larger share of mistakes than the default allows, so that 1,000 canaries can show it."""
BLOCKS, REQUESTS_A_BLOCK, SHARE = 150, 40, 0.2
_BUSY = 0.1


@dataclass(frozen=True)
class Model:
    """How a candidate differs from the champion.

    Attributes:
        failing: share of requests that fail; 1 % of the champion's do.
        slower: factor on all latencies.
        disagreeing: share of papers with another first category.
        abstaining: share of papers on which it abstains and the champion does not.
    """

    failing: float = 0.01
    slower: float = 1.0
    disagreeing: float = 0.0
    abstaining: float = 0.0


MODELS = {
    "equal": Model(),
    "at_two_bounds": Model(disagreeing=0.3, abstaining=0.05),
    "failing": Model(failing=0.1),
    "slow": Model(slower=5.0),
    "disagreeing": Model(disagreeing=0.5),
    "abstaining": Model(abstaining=0.2),
}


def simulated(model: Model, seed: int) -> tuple[Verdict, int]:
    """Return how a canary ends, and the requests that its candidate has answered by then."""
    chance = random.Random(seed)
    trial = Trial(RULES, EDGES)
    requests, failed = [0, 0], [0, 0]
    latencies = [[0.0] * len(EDGES), [0.0] * len(EDGES)]
    same = more = 0
    verdict = Verdict(None, "")
    for block in range(BLOCKS):
        busy = 3.0 if chance.random() < _BUSY else 1.0
        for _ in range(REQUESTS_A_BLOCK):
            side = int(chance.random() < SHARE)
            requests[side] += 1
            share = model.failing if side else 0.01
            failed[side] += chance.random() < share * busy
            seconds = 0.003 * busy * chance.lognormvariate(0, 0.6) * (model.slower if side else 1)
            latencies[side][bisect_left(EDGES, seconds)] += 1
            if side:
                same += chance.random() >= model.disagreeing
                more += chance.random() < model.abstaining
        counts = Counts(
            (requests[0], requests[1]),
            (failed[0], failed[1]),
            (list(latencies[0]), list(latencies[1])),
            same,
            requests[1],
            more,
        )
        verdict = trial.look(counts, block)
        if verdict.outcome:
            break
    return verdict, requests[1]


def measure(options: argparse.Namespace) -> Measured:
    """Return how canaries of each kind of model ended."""
    found: Measured = {
        "rules": RULES.to_dict(),
        "blocks": BLOCKS,
        "requests_a_block": REQUESTS_A_BLOCK,
        "share": SHARE,
        "models": {},
    }
    for name, model in MODELS.items():
        ended = [simulated(model, seed) for seed in range(options.canaries)]
        outcomes = Counter(str(verdict.outcome or "running") for verdict, _ in ended)
        rolled_back = [n for verdict, n in ended if verdict.outcome == "rolled_back"]
        found["models"][name] = {
            "canaries": len(ended),
            "outcomes": dict(outcomes),
            "rolled_back_share": round(len(rolled_back) / len(ended), 4),
            "requests_to_rollback": median(rolled_back) if rolled_back else None,
        }
    return found


if __name__ == "__main__":
    run_benchmark(
        __doc__,
        measure,
        {"--canaries": {"type": int, "default": 1000, "help": "of each kind of model"}},
        tiny={"canaries": 3},
    )
