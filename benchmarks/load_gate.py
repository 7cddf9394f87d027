"""Loads a service that was just deployed, and says whether it may stay.

python benchmarks/load_gate.py URL [--seconds 30] [--concurrency 8] [--p95-ms 500]

Exit code 3 if an answer was refused, a connection broke, or 95 % of the answers took longer than
the limit: what deployed the service then puts the one before back.

A service that asks for them gets an API key, from CLASSMARK_API_KEY, and Google's token of an
identity that may call Cloud Run, from CLOUD_IDENTITY_TOKEN. Neither is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import urllib.request
from collections.abc import Mapping

from load import CLIENTS, Point, measure, single_bodies

REFUSED = 3
# Cloud Run takes its token from this header too, and leaves the others to the service.
SENT_AS = {"CLASSMARK_API_KEY": "X-API-Key", "CLOUD_IDENTITY_TOKEN": "X-Serverless-Authorization"}
BODIES = 500


def headers_of(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that let requests in, as far as the environment has what they say."""
    found = {SENT_AS[name]: environment[name] for name in SENT_AS if environment.get(name)}
    token = SENT_AS["CLOUD_IDENTITY_TOKEN"]
    return {name: f"Bearer {text}" if name == token else text for name, text in found.items()}


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
    headers = headers_of(os.environ)
    try:
        asked = urllib.request.Request(f"{address}/readyz", headers=headers)
        with urllib.request.urlopen(asked, timeout=10):
            pass
    except (OSError, ValueError) as error:
        print(f"refused: {address} is not ready: {error}", file=sys.stderr)
        return REFUSED
    bodies = single_bodies(BODIES)
    point = measure(f"{address}/v1/classify", bodies, options.concurrency, options.seconds, headers)
    print(json.dumps(point.to_dict()))
    faults = faults_of(point, options.p95_ms)
    for fault in faults:
        print(f"refused: {fault}", file=sys.stderr)
    return REFUSED if faults else 0


if __name__ == "__main__":
    sys.exit(main())
