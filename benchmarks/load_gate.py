"""Loads a service that was just deployed, and says whether it may stay.

python benchmarks/load_gate.py URL [--seconds 30] [--concurrency 8] [--p95-ms 500]

Exit code 3 if an answer was refused, a connection broke, or 95 % of the answers took longer than
the limit: what deployed the service then puts the one before back.
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.request

from load import CLIENTS, Point, measure, single_bodies

REFUSED = 3
BODIES = 500


def faults_of(point: Point, most_p95_ms: float) -> list[str]:
    """Return what is wrong with a service under load; nothing if it may stay."""
    found = []
    if point.refused:
        found.append(f"{point.refused} answers with an error status")
    if point.broken:
        found.append(f"{point.broken} broken connections or timeouts")
    if point.p95_ms > most_p95_ms:
        found.append(f"95 % of the answers took up to {point.p95_ms:.0f} ms, over {most_p95_ms:g}")
    return found


def main() -> int:
    """Load the service, print the point as JSON, and return 3 if it may not stay."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("url", help="of the service, e.g. http://127.0.0.1:8000")
    parser.add_argument("--seconds", type=float, default=30, help="how long; 30")
    parser.add_argument("--concurrency", type=int, default=CLIENTS, help=f"{CLIENTS}")
    parser.add_argument("--p95-ms", type=float, default=500, help="limit; 500")
    options = parser.parse_args()
    address = options.url.rstrip("/")
    try:
        with urllib.request.urlopen(f"{address}/readyz", timeout=10):
            pass
    except (OSError, ValueError) as error:
        print(f"refused: {address} is not ready: {error}", file=sys.stderr)
        return REFUSED
    bodies = single_bodies(BODIES)
    point = measure(f"{address}/v1/classify", bodies, options.concurrency, options.seconds)
    print(json.dumps(point.to_dict()))
    faults = faults_of(point, options.p95_ms)
    for fault in faults:
        print(f"refused: {fault}", file=sys.stderr)
    return REFUSED if faults else 0


if __name__ == "__main__":
    sys.exit(main())
