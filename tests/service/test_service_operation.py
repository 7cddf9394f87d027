"""Health, readiness, metrics, status."""

from __future__ import annotations

import httpx


def test_health_and_readiness_are_told(client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"status": "live"}
    assert client.get("/readyz").json() == {"status": "ready"}


def test_metrics_count_requests_by_route_and_status(client: httpx.Client) -> None:
    client.get("/nowhere")
    text = client.get("/metrics").text
    assert 'classmark_requests_total{method="GET",route="unmatched",status="404"}' in text
    assert "classmark_workers 1.0" in text


def test_every_response_names_the_model_and_the_request(client: httpx.Client) -> None:
    for path in ("/v1/categories", "/v1/nothing", "/v2/nothing"):
        headers = client.get(path, headers={"X-Request-ID": "mine-1"}).headers
        assert headers["x-classmark-model"].startswith("fast@")
        assert len(headers["x-classmark-digest"]) == 64
        assert headers["x-request-id"] == "mine-1"
