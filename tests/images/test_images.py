"""The images, built and run by a real engine: they answer, stop in order and keep their journal."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from waiting import until

from bucket_fixtures import bucket, needs_bucket
from classmark.registry import Registry
from classmark.storage import folder_place
from containers import measure_image
from images import HARDENED, TARGETS, Engine, facts_of, running

__all__ = ["bucket"]
Image = Callable[[str], str]
pytestmark = [pytest.mark.images, pytest.mark.timeout(1_800)]

TEXT = (
    "We measure the orbital decay of a hot Jupiter from twelve years of transit timing and infer "
    "the tidal quality factor of its host star."
)
MOST_MEGABYTES = {
    "service": 250,
    "service-onnx": 400,
    "service-gcp": 300,
    "evaluate": 750,
    "train": 2_500,
    "tracking": 1_200,
}
SERVING = ("service", "service-onnx")
ALONE = ("--rm", "--network", "none", "--read-only")
IN_FLIGHT = 8
# In a container that no port leads to: its own Python asks.
ASKING = """
import json, os, urllib.request as r
body = json.dumps({"abstract": os.environ["TEXT"]}).encode()
headers = {"Content-Type": "application/json"}
asked = r.Request("http://127.0.0.1:8000/v1/classify", body, headers)
print(r.urlopen(asked, timeout=20).read().decode())
"""


def get(url: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as reply:
        return json.loads(reply.read())


def in_work(url: str) -> int:
    with urllib.request.urlopen(f"{url}/metrics", timeout=20) as reply:
        found = re.search(r"^classmark_requests_in_work (\d+)", reply.read().decode(), re.M)
    return int(found[1]) if found else 0


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_is_small_labelled_and_not_of_root(
    docker: Engine, image: Image, target: str
) -> None:
    tag = image(target)
    assert float(str(facts_of(docker, tag)["megabytes"])) <= MOST_MEGABYTES[target]
    found = json.loads(docker.run("image", "inspect", tag))[0]["Config"]
    assert found["User"] == "10001:10001"
    labels = {key.rpartition(".")[2]: value for key, value in found["Labels"].items()}
    assert labels["title"] == f"classmark {target}"
    said = docker.run("run", *ALONE, "--entrypoint", "classmark", tag, "--version")
    assert said.startswith(f"classmark {labels['version']}")
    assert re.fullmatch(r"[0-9a-f]{40}", labels["revision"])


@pytest.mark.parametrize("target", SERVING)
def test_it_classifies_without_network_and_without_writing(
    docker: Engine, image: Image, target: str
) -> None:
    answer = docker.run("run", *ALONE, image(target), "classify", "--jsonl", TEXT)
    assert json.loads(answer)["ranked"][0]["code"] == "astro-ph.EP"


@pytest.mark.parametrize("target", SERVING)
def test_it_serves_without_network_from_a_system_that_it_cannot_write(
    docker: Engine, image: Image, target: str
) -> None:
    container = docker.run("run", "--detach", "--network", "none", *HARDENED, image(target))
    inside = ("exec", "--env", f"TEXT={TEXT}", container, "python", "-c", ASKING)
    try:
        answer = json.loads(until(lambda: docker.run(*inside, check=False)))
        assert answer["ranked"][0]["code"] == "astro-ph.EP"
        networks = json.loads(docker.run("inspect", container))[0]["NetworkSettings"]["Networks"]
        assert list(networks) == ["none"]
    finally:
        docker.run("rm", "--force", "--volumes", container)


@pytest.mark.parametrize("target", SERVING)
def test_it_answers_and_is_found_healthy(docker: Engine, image: Image, target: str) -> None:
    with running(docker, image(target), "--health-interval", "1s") as (container, url):
        answer = get(f"{url}/v1/classify", {"abstract": TEXT})
        assert answer["ranked"][0]["code"] == "astro-ph.EP"
        status = ("inspect", "--format", "{{.State.Health.Status}}", container)
        until(lambda: docker.run(*status) == "healthy")


def test_a_start_of_the_service_is_measured(docker: Engine, image: Image) -> None:
    found = measure_image(docker, image("service"), rounds=1)
    assert found["layers"] > 1
    assert found["version_s"] > 0
    assert found["ready_s"] > 0


def test_sigterm_answers_what_is_in_flight_and_exits_with_0(docker: Engine, image: Image) -> None:
    papers = [{"abstract": f"{TEXT} {n} " * 20} for n in range(1000)]
    patient = ("--env", "CLASSMARK_SERVE_DEADLINE_MS=100000", "--env", "CLASSMARK_SERVE_GRACE_S=90")
    with (
        running(docker, image("service"), *patient) as (container, url),
        ThreadPoolExecutor(IN_FLIGHT) as threads,
    ):
        replies = [
            threads.submit(get, f"{url}/v1/classify", {"papers": papers}) for _ in range(IN_FLIGHT)
        ]
        until(lambda: in_work(url) >= IN_FLIGHT)
        docker.run("stop", "--time", "100", container)
        assert [len(reply.result()["answers"]) for reply in replies] == [1000] * IN_FLIGHT
        state = json.loads(docker.run("inspect", container))[0]["State"]
        assert (state["ExitCode"], state["OOMKilled"]) == (0, False)


def test_the_journal_survives_a_new_container(docker: Engine, image: Image) -> None:
    volume, service = docker.run("volume", "create"), image("service")
    mounted = ("--volume", f"{volume}:/var/lib/classmark")
    try:
        with running(docker, service, *mounted) as (container, url):
            get(f"{url}/v1/classify", {"abstract": TEXT})
            docker.run("stop", container)
        words = ("run", "--rm", *mounted, service, "journal", "status", "--json")
        assert json.loads(docker.run(*words))["predictions"] == 1
    finally:
        docker.run("volume", "rm", "--force", volume)


def test_train_fits_the_sample_and_evaluate_measures_its_bundle(
    docker: Engine, image: Image
) -> None:
    volume = docker.run("volume", "create")
    mounted = ("run", "--rm", "--network", "none", "--volume", f"{volume}:/var/lib/classmark")
    train, evaluate = (*mounted, image("train")), (*mounted, image("evaluate"))
    try:
        docker.run(*train, "dataset", "sample", "--papers", "1000", "--output", "dataset")
        run = docker.run(*train, "train", "dataset.path=dataset", "model=linear").splitlines()[-1]
        docker.run(*train, "export", run, "--output", "sample-1.0")
        measured = docker.run(
            *(*evaluate, "evaluate", "--model", "./sample-1.0", "--dataset", "dataset", "--json")
        )
        assert json.loads(measured)["metrics"]["top_1"]["value"] > 0.5
        versions = ("-c", "import mlflow, torch; print(torch.__version__)")
        assert docker.run(
            *(*mounted, "--entrypoint", "python", image("train"), *versions)
        ).startswith("2.")
    finally:
        docker.run("volume", "rm", "--force", volume)


@needs_bucket
def test_the_image_for_google_cloud_reads_a_registry_in_a_bucket(
    docker: Engine, image: Image, bucket: Any
) -> None:
    where = "gs://papers/registry"
    Registry.create(folder_place(where), who="a test")
    address = f"STORAGE_EMULATOR_HOST={bucket.address}"
    run = ("run", "--rm", "--read-only", "--network", "host", "--env", address)
    said = docker.run(*run, image("service-gcp"), "registry", "events", "--registry", where)
    assert "a test" in said
    program = ("-c", "import psycopg; print(psycopg.__version__)")
    assert docker.run("run", *ALONE, "--entrypoint", "python", image("service-gcp"), *program)
