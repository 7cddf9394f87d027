"""The same answers from LitServe: workers of the model behind processes that speak HTTP.

python benchmarks/litserve_app.py PORT WORKERS BATCH TIMEOUT_S    (in an environment with litserve)
"""

from __future__ import annotations

import sys
from typing import Any

import litserve
from starlette.responses import Response

from plain_app import load, replies

BATCH_WAIT_S = 0.005


class Classify(litserve.LitAPI):
    """Answers bodies, one at a time or in batches."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe's signature
        """Load the model, once a worker."""
        self.classifier = load()

    def predict(self, asked: Any) -> Any:
        """Return the reply to a body, or those to a batch of bodies."""
        if isinstance(asked, list):
            return replies(self.classifier, asked)
        return replies(self.classifier, [asked])[0]

    def encode_response(self, output: bytes) -> Response:
        """Return a reply as it is; a dictionary would be encoded by FastAPI, which takes longer."""
        return Response(output, media_type="application/json")


def main() -> None:
    """Serve until a signal."""
    port, workers, batch, timeout_s = map(int, sys.argv[1:])
    # With a timeout of 0 its workers look for requests without a pause: two cores at rest.
    api = Classify(
        api_path="/v1/classify",
        max_batch_size=batch,
        batch_timeout=BATCH_WAIT_S if batch > 1 else 0,
    )
    server = litserve.LitServer(
        api,
        accelerator="cpu",
        workers_per_device=workers,
        timeout=timeout_s,
        fast_queue=True,
        healthcheck_path="/readyz",
    )
    server.run(
        host="127.0.0.1", port=port, log_level="error", generate_client_file=False, access_log=False
    )


if __name__ == "__main__":
    main()
