"""The images, built and run by a real engine: they answer, stop in order and keep their journal."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "deploy" / "docker"))
from images import Engine, NoEngine, build, engine, ensure_base, facts_of

pytestmark = [pytest.mark.images, pytest.mark.timeout(1_800)]

TEXT = (
    "We measure the orbital decay of a hot Jupiter from twelve years of transit timing and infer "
    "the tidal quality factor of its host star."
)
MOST_MEGABYTES = 250
HARDENED = (
    "--read-only",
    "--tmpfs",
    "/tmp",
    "--cap-drop",
    "ALL",
    "--security-opt",
    "no-new-privileges",
)


@pytest.fixture(scope="session")
def docker() -> Iterator[Engine]:
    try:
        with engine() as found:
            ensure_base(found)
            yield found
    except NoEngine as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def service(docker: Engine) -> str:
    return build(docker, "service", quiet=True)


def until(holds: Callable[[], Any], seconds: float = 60.0) -> Any:
    end = time.monotonic() + seconds
    while True:
        try:
            if found := holds():
                return found
        except OSError:
            pass
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def get(url: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as reply:
        return json.loads(reply.read())


@contextmanager
def running(docker: Engine, image: str, *options: str) -> Iterator[tuple[str, str]]:
    """Yield container and address of a service that is ready."""
    port = ("--publish", "127.0.0.1::8000")
    container = docker.run("run", "--detach", *HARDENED, *port, *options, image)
    try:
        where = docker.run("port", container, "8000")
        url = f"http://{where.splitlines()[0]}"
        until(lambda: get(f"{url}/readyz"))
        yield container, url
    finally:
        docker.run("rm", "--force", "--volumes", container)


def test_the_image_of_the_service_is_small_and_labelled(docker: Engine, service: str) -> None:
    assert float(str(facts_of(docker, service)["megabytes"])) <= MOST_MEGABYTES
    found = json.loads(docker.run("image", "inspect", service))[0]["Config"]
    assert found["User"] == "classmark"
    assert "org.opencontainers.image.revision" in found["Labels"]


def test_it_classifies_without_network_and_without_writing(docker: Engine, service: str) -> None:
    words = (
        "run",
        "--rm",
        "--network",
        "none",
        "--read-only",
        service,
        "classify",
        "--jsonl",
        TEXT,
    )
    assert json.loads(docker.run(*words))["ranked"][0]["code"] == "astro-ph.EP"


def test_it_answers_and_is_found_healthy(docker: Engine, service: str) -> None:
    with running(docker, service, "--health-interval", "1s") as (container, url):
        answer = get(f"{url}/v1/classify", {"abstract": TEXT})
        assert answer["ranked"][0]["code"] == "astro-ph.EP"
        status = ("inspect", "--format", "{{.State.Health.Status}}", container)
        until(lambda: docker.run(*status) == "healthy")


def test_sigterm_answers_what_is_in_flight_and_exits_with_0(docker: Engine, service: str) -> None:
    with running(docker, service) as (container, url):
        papers = [{"abstract": f"{TEXT} {n} " * 20} for n in range(1000)]
        replies: list[int] = []
        asked = threading.Thread(
            target=lambda: replies.append(
                len(get(f"{url}/v1/classify", {"papers": papers})["answers"])
            )
        )
        asked.start()
        docker.run("stop", "--time", "30", container)
        asked.join()
        assert replies in ([1000], [])
        state = json.loads(docker.run("inspect", container))[0]["State"]
        assert (state["ExitCode"], state["OOMKilled"]) == (0, False)


def test_the_journal_survives_a_new_container(docker: Engine, service: str) -> None:
    volume = docker.run("volume", "create")
    mounted = ("--volume", f"{volume}:/var/lib/classmark")
    try:
        with running(docker, service, *mounted) as (container, url):
            get(f"{url}/v1/classify", {"abstract": TEXT})
            docker.run("stop", container)
        words = ("run", "--rm", *mounted, service, "journal", "status", "--json")
        assert json.loads(docker.run(*words))["predictions"] == 1
    finally:
        docker.run("volume", "rm", "--force", volume)
