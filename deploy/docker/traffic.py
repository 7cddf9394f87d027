"""Sends invented papers to a service for as long as it runs: python traffic.py URL [PER_SECOND]."""

from __future__ import annotations

import itertools
import sys
import time

from classmark.client import Client, ClientError

TOPICS = (
    "orbital decay of hot Jupiters from transit timing",
    "proper colourings of planar graphs with few colours",
    "neural networks that translate between languages",
    "spin waves in two-dimensional magnets at low temperature",
    "unbiased estimators of the variance of small samples",
    "the folding of proteins on a lattice",
)
METHODS = (
    "We measure",
    "We prove a bound on",
    "We survey",
    "We simulate",
    "We give an algorithm for",
)


def main(url: str, per_second: float = 2.0) -> None:
    """Classify one paper after the other; a service that does not answer is asked again."""
    with Client(url) as client:
        for method, topic in itertools.cycle(itertools.product(METHODS, TOPICS)):
            try:
                client.classify(f"{method} {topic}, and compare the result with earlier work.")
            except ClientError as error:
                print(error, file=sys.stderr, flush=True)
            time.sleep(1 / per_second)


if __name__ == "__main__":
    main(sys.argv[1], *map(float, sys.argv[2:]))
