"""People and programs at once, for Locust: single papers, batches, feedback, the taxonomy.

    classmark serve --port 8000
    locust -f benchmarks/locustfile.py --headless --host http://127.0.0.1:8000 \
        --users 16 --spawn-rate 16 --run-time 20s --only-summary --summary locust.json

``--summary FILE`` writes a JSON summary at the end; the exit code is 1 if a request failed.
``--requests N`` ends the run after that many requests. Locust counts ``--run-time`` from before it
has loaded its own modules, so a short one may end before the first request.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import gevent
from locust import FastHttpUser, between, events, task

from load import papers

PAPERS = papers(300)
BATCH_PAPERS = 50
PERCENTILES = (0.5, 0.95, 0.99)


class Reader(FastHttpUser):
    """Somebody who classifies, and now and then says what is wrong."""

    wait_time = between(0, 0.01)

    def on_start(self) -> None:
        """Begin without an answer to comment on."""
        self.prediction_id = ""
        self.chance = random.Random()

    @task(20)
    def classify_one(self) -> None:
        """Classify one paper."""
        with self.rest("POST", "/v1/classify", json=self.chance.choice(PAPERS)) as response:
            if response.js:
                self.prediction_id = response.js["prediction_id"]

    @task(2)
    def classify_many(self) -> None:
        """Classify a batch."""
        body = {"papers": self.chance.sample(PAPERS, BATCH_PAPERS)}
        self.client.post("/v1/classify", json=body, name="/v1/classify (batch)")

    @task(1)
    def comment(self) -> None:
        """Give feedback on the last answer."""
        if self.prediction_id:
            body = {"prediction_id": self.prediction_id, "category": "math.CO"}
            self.client.post("/v1/feedback", json=body)

    @task(1)
    def look(self) -> None:
        """Read the taxonomy."""
        self.client.get("/v1/categories")


@events.init_command_line_parser.add_listener
def add_option(parser: Any) -> None:
    """Add ``--summary`` and ``--requests``."""
    parser.add_argument("--summary", metavar="FILE", help="Write a JSON summary here.")
    parser.add_argument("--requests", metavar="N", type=int, help="End after so many requests.")


@events.init.add_listener
def end_after_requests(environment: Any, **_: Any) -> None:
    """End the run when as many requests were made as were asked for."""
    wanted = environment.parsed_options.requests
    if wanted is None:
        return

    def on_request(**_: Any) -> None:
        if environment.stats.total.num_requests == wanted:
            gevent.spawn(environment.runner.quit)

    environment.events.request.add_listener(on_request)


@events.quitting.add_listener
def write_summary(environment: Any, **_: Any) -> None:
    """Write the summary, and set the exit code."""
    total = environment.stats.total
    environment.process_exit_code = 1 if total.num_failures or not total.num_requests else 0
    path = environment.parsed_options.summary
    if not path:
        return
    entries = {f"{e.method} {e.name}": e for e in environment.stats.entries.values()}
    document = {
        "load_generator": "locust, on the same machine",
        "users": environment.parsed_options.num_users,
        "total": _numbers(total),
        "requests": {name: _numbers(entries[name]) for name in sorted(entries)},
        "errors": [error.to_dict() for error in environment.stats.errors.values()],
    }
    Path(path).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _numbers(entry: Any) -> dict[str, Any]:
    times = {f"p{round(p * 100)}_ms": entry.get_response_time_percentile(p) for p in PERCENTILES}
    return {
        "requests": entry.num_requests,
        "failures": entry.num_failures,
        "requests_per_s": round(entry.total_rps, 1),
        **times,
    }
