"""The manifests of Kubernetes: what its published schemas allow, and one with the other."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from cloudcoil.models.prometheus_operator.v1 import PodMonitor
from pydantic import ValidationError

from classmark.cloud.environment import CloudEnvironment
from classmark.cloud.serving.manifests import Wanted, filled
from classmark.journal.place import PASSWORD_VARIABLE
from classmark.service.families import FAMILIES
from classmark.service.settings import PREFIX, ServiceSettings

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text("utf-8"))
RULES = (FOLDER.parent / "prometheus" / "rules" / "alerts.yml").read_text("utf-8")
DOCUMENTS = [
    document
    for name in KUSTOMIZATION["resources"]
    for document in yaml.safe_load_all((FOLDER / name).read_text("utf-8"))
]
DEPLOYMENTS = {d["metadata"]["name"]: d for d in DOCUMENTS if d["kind"] == "Deployment"}
VERSION = "1.37"


def check(document: dict[str, Any]) -> None:
    """Raise what the schema of a document refuses, unknown fields too."""
    if document["kind"] == "PodMonitor":
        PodMonitor.model_validate(document, extra="forbid")
    else:
        kubernetes_validate.validate(document, VERSION, strict=True)


def maps(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every map in a document that has fields, not labels."""
    if isinstance(value, dict):
        yield value
        free = ("labels", "matchLabels", "limits", "requests")
        for name, item in value.items():
            if name not in free:
                yield from maps(item)
    elif isinstance(value, list):
        for item in value:
            yield from maps(item)


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [document for document in DOCUMENTS if document["kind"] == kind]


def pod(deployment: dict[str, Any]) -> dict[str, Any]:
    return deployment["spec"]["template"]["spec"]  # type: ignore[no-any-return]


def container(deployment: dict[str, Any]) -> dict[str, Any]:
    (only,) = pod(deployment)["containers"]
    return only  # type: ignore[no-any-return]


def chosen(labels: dict[str, str]) -> list[str]:
    """Return the deployments whose pods have labels."""
    return [
        name
        for name, deployment in DEPLOYMENTS.items()
        if labels.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    ]


@pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda d: f"{d['kind']}-{d['metadata']['name']}"
)
def test_a_document_is_what_the_schema_allows_and_nothing_unknown_is(
    document: dict[str, Any],
) -> None:
    check(document)
    spec = document.get("spec")
    for number in range(len(list(maps(spec))) if spec else 0):
        changed = copy.deepcopy(document)
        spot = list(maps(changed["spec"]))[number]
        if "selector" in document["spec"] and spot is changed["spec"].get("selector"):
            continue  # of a Service these are labels
        spot["bogus"] = {"unheard": 1}
        with pytest.raises((kubernetes_validate.ValidationError, ValidationError)):
            check(changed)


def test_every_file_is_listed() -> None:
    others = {"kustomization.yaml", "adapter.yaml"}
    assert {file.name for file in FOLDER.glob("*.yaml")} - others == set(KUSTOMIZATION["resources"])


def test_whatever_chooses_pods_chooses_those_of_one_deployment() -> None:
    for document in [*of_kind("PodMonitor"), *of_kind("PodDisruptionBudget")]:
        assert len(chosen(document["spec"]["selector"]["matchLabels"])) == 1
    for document in of_kind("Service"):
        assert chosen(document["spec"]["selector"]) == [document["metadata"]["name"]]
    (policy,) = of_kind("NetworkPolicy")
    assert chosen(policy["spec"]["podSelector"]["matchLabels"]) == list(DEPLOYMENTS)
    (scaler,) = of_kind("HorizontalPodAutoscaler")
    assert scaler["spec"]["scaleTargetRef"]["name"] in DEPLOYMENTS
    assert "replicas" not in DEPLOYMENTS["classmark"]["spec"]  # the autoscaler's


def test_a_pod_is_hardened_and_has_the_time_that_its_process_takes() -> None:
    for deployment in DEPLOYMENTS.values():
        assert pod(deployment)["securityContext"]["runAsNonRoot"] is True
        security = container(deployment)["securityContext"]
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["allowPrivilegeEscalation"] is False
        env = {entry["name"]: entry.get("value") for entry in container(deployment)["env"]}
        assert pod(deployment)["terminationGracePeriodSeconds"] > float(env[f"{PREFIX}GRACE_S"])
        mounted = {m["name"] for m in container(deployment)["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod(deployment)["volumes"]}


def test_every_variable_is_a_setting() -> None:
    known = {f"{PREFIX}{name.upper()}" for name in ServiceSettings.model_fields}
    known.add(PASSWORD_VARIABLE)
    given = {line.partition("=")[0] for line in KUSTOMIZATION["configMapGenerator"][0]["literals"]}
    for deployment in DEPLOYMENTS.values():
        given |= {entry["name"] for entry in container(deployment)["env"]}
    assert given <= known


@pytest.mark.parametrize(
    ("name", "kind"), [("classmark", "service"), ("classmark-monitor", "monitor")]
)
def test_it_runs_as_on_cloud_run(name: str, kind: str) -> None:
    from google.cloud import run_v2

    environment = CloudEnvironment(project="papers-1", region="europe-west4", bucket="papers")
    wanted = Wanted(kind=kind, image="i@sha256:1", has_keys=True)
    there = filled(environment, wanted, run_v2.Service).template.containers[0]
    here = container(DEPLOYMENTS[name])
    for probe, same in (
        ("startupProbe", there.startup_probe),
        ("livenessProbe", there.liveness_probe),
    ):
        assert here[probe]["httpGet"]["path"] == same.http_get.path
        assert here[probe]["periodSeconds"] == same.period_seconds
        assert here[probe]["failureThreshold"] == same.failure_threshold
    assert here["resources"]["limits"]["memory"] == there.resources.limits["memory"]
    words = [word for word in here["args"] if re.fullmatch(r"[a-z]+|--every|30m", word)]
    assert words == [word for word in there.args if re.fullmatch(r"[a-z]+|--every|30m", word)]


def test_what_is_scraped_and_scaled_by_exists() -> None:
    (scaler,) = of_kind("HorizontalPodAutoscaler")
    (metric,) = [m["pods"]["metric"]["name"] for m in scaler["spec"]["metrics"] if "pods" in m]
    assert metric in FAMILIES
    adapter = yaml.safe_load((FOLDER / "adapter.yaml").read_text("utf-8"))
    assert adapter["rules"]["custom"][0]["seriesQuery"].startswith(metric)
    # The chart itself looks in the namespace `default`.
    assert adapter["prometheus"]["url"] == "http://prometheus-operated.monitoring.svc"
    jobs = set()
    for monitor in of_kind("PodMonitor"):
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        (name,) = chosen(monitor["spec"]["selector"]["matchLabels"])
        assert endpoint["port"] in {port["name"] for port in container(DEPLOYMENTS[name])["ports"]}
        jobs.add(endpoint["relabelings"][0]["replacement"])
    assert jobs == set(re.findall(r'job="([^"]+)"', RULES))


def test_of_the_monitor_the_same_metrics_are_kept_as_by_the_prometheus_of_compose() -> None:
    prometheus = yaml.safe_load((FOLDER.parent / "prometheus/prometheus.yml").read_text("utf-8"))
    (there,) = [c for c in prometheus["scrape_configs"] if c["job_name"] == "classmark-monitor"]
    (monitor,) = [m for m in of_kind("PodMonitor") if m["metadata"]["name"] == "classmark-monitor"]
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    kept = [{"sourceLabels": k.pop("source_labels"), **k} for k in there["metric_relabel_configs"]]
    assert endpoint["metricRelabelings"] == kept


def test_secrets_are_not_open_to_others_which_the_service_would_warn_of() -> None:
    for deployment in DEPLOYMENTS.values():
        secrets = [v["secret"] for v in pod(deployment)["volumes"] if "secret" in v]
        assert len(secrets) == 2
        assert {secret.get("defaultMode") for secret in secrets} == {0o440}
        assert pod(deployment)["securityContext"]["fsGroup"] == 10001
