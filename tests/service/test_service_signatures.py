"""A service with a trusted key: nothing answers that this key has not signed as it is."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest
from registries import WHO, Versions, followed, metric
from test_service_faults import PAPER, serve
from waiting import until

from classmark.registry import Proof
from classmark.registry.signatures import create_key

pytestmark = [
    pytest.mark.slow,  # each starts a server of its own
    pytest.mark.skipif(find_spec("model_signing") is None, reason="the extra sign is missing"),
]


@pytest.fixture
def key(tmp_path: Path) -> Path:
    create_key(tmp_path / "key")
    return tmp_path / "key"


def add(versions: Versions, version: str, key: Path, **changes: Any) -> str:
    """Add a version that a key signed; return its digest."""
    digest = versions.add(version, **changes)
    return versions.registry.add(versions.folders[digest], who=WHO, proof=Proof(key=key))


def bad_bundles(versions: Versions, signed: str, key: Path) -> dict[str, str]:
    """Return whole bundles that the key has not signed, by what is wrong with them."""
    create_key(key.with_name("theirs"))
    forged = versions.add("7.3")  # whole, with right digests, beside a signature of another one
    signatures = versions.path / "signatures"
    shutil.copy(signatures / signed, signatures / forged)
    return {
        "unsigned": versions.add("7.1"),
        "signed again": add(versions, "7.2", key.with_name("theirs")),
        "forged": forged,
    }


def answered_by(client: httpx.Client) -> str:
    response = client.post("/v1/classify", json=PAPER)
    response.raise_for_status()
    return str(response.headers["x-classmark-digest"])


def test_what_the_trusted_key_has_not_signed_never_answers(
    start: Any, tmp_path: Path, key: Path
) -> None:
    versions = Versions(tmp_path)
    first = add(versions, "7.0", key)
    versions.promote(first)
    bad = bad_bundles(versions, first, key)
    options = ("--registry", str(versions.path), "--trusted-key", f"{key}.pub")
    with start("--workers", "1", *options) as server, server.client() as client:
        for digest in bad.values():
            followed(client, versions.promote(digest))
            until(lambda: metric(client, "classmark_registry_refused") == 1)
            refused = client.get("/readyz").json()["refused"]
            assert refused == {"champion": {"digest": digest, "kind": "signature_refused"}}
            assert answered_by(client) == first
        good = add(versions, "7.9", key)
        followed(client, versions.promote(good))
        assert answered_by(client) == good
        assert "refused" not in client.get("/readyz").json()


def test_a_service_does_not_start_with_what_the_trusted_key_has_not_signed(
    tmp_path: Path, key: Path
) -> None:
    versions = Versions(tmp_path)
    digest = versions.add("7.0")
    versions.promote(digest)
    done = serve("--registry", str(versions.path), "--trusted-key", f"{key}.pub", "--port", "0")
    assert done.returncode == 1
    assert f"{digest} is not signed" in done.stderr
