"""A candidate is measured beside a champion, on generated papers."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from authored_papers import TrainRun
from classmark.bundle import find_bundle, load_bundle, read_manifest, write_bundle
from classmark.dataset import (
    DatasetConfig,
    SampleConfig,
    build_dataset,
    load_manifest,
    read_split,
    sample_dump,
)
from classmark.dataset.digest import dataset_digest
from classmark.errors import EmptyEvaluation, InvalidGates, InvalidKeys, LabelMismatch, UsageError
from classmark.evaluation.gate import read_rules
from classmark.pipeline import ExportOptions, export_run
from classmark.pipeline.gate import GateSubject, gate_candidate
from classmark.pipeline.gate.measure import draw_test_papers
from classmark.records import SILENT, GateCheck, GateReport
from classmark.registry import Proof, Registry
from classmark.registry.signatures import create_key
from recording import Recording

pytestmark = pytest.mark.slow  # fits models

MEASUREMENT = {"draws": 100}
WHO = "tester@here"


@pytest.fixture(scope="module")
def candidate(train_run: TrainRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle of a second fit."""
    folder = tmp_path_factory.mktemp("models") / "mine-1.1"
    options = ExportOptions(name="mine", version="1.1", about="## Limits\n\nMade for a test.")
    export_run(train_run("model.epochs=4"), folder, options)
    return folder


Gate = Callable[..., GateReport]


@pytest.fixture
def gate(dataset: Path, bundle: Path, candidate: Path) -> Gate:
    """Return a function that gates the second fit against the first by some rules."""

    def run(
        *,
        of: Path = candidate,
        against: Path | None = bundle,
        on: Path = dataset,
        registry: Registry | None = None,
        key: Path | None = None,
        progress: Any = SILENT,
        **groups: Any,
    ) -> GateReport:
        rules = read_rules({"format_version": 1, "measurement": MEASUREMENT, **groups})
        subject = GateSubject(
            candidate=of, champion=against, dataset=on, registry=registry, key=key
        )
        return gate_candidate(subject, rules, progress, command="a test")

    return run


def by_name(report: GateReport) -> dict[str, GateCheck]:
    return {f"{check.place} {check.name}".strip(): check for check in report.checks}


def test_a_report_says_who_was_measured_against_whom_on_what(
    gate: Gate, dataset: Path, bundle: Path, candidate: Path
) -> None:
    report = gate(metrics={"minimum": {"top_1": 0.1}, "most_fall": {"top_1": 1.0}})
    manifest = load_manifest(dataset)
    assert report.passed
    assert report.candidate.digest == load_bundle(candidate).digest
    assert report.champion is not None
    assert report.champion.digest == load_bundle(bundle).digest
    assert (report.dataset_digest, report.split) == (manifest.digest, "test")
    assert report.n == manifest.splits["test"].papers
    own, fall = report.checks
    assert fall.candidate == own.value
    assert fall.champion != own.value
    assert report.generated
    assert GateReport.from_dict(json.loads(json.dumps(report.to_dict()))) == report
    written = json.dumps(report.to_dict())
    assert not [p for p in draw_test_papers(dataset, manifest, 50, 7) if p.title in written]


def test_periods_and_categories_are_checked_where_they_have_enough_papers(gate: Gate) -> None:
    found = by_name(
        gate(
            periods={"minimum": {"top_1": 0.0}, "most_fall": {"top_1": 1.0}, "papers": 50},
            categories={"minimum": {"f1": 0.0}, "most_fall": {"f1": 1.0}},
        )
    )
    assert found["period until-2017 fall of top_1"].outcome == "passed"
    assert found["period until-2017 top_1"].outcome == "passed"
    assert found["period until-2017 fall of top_1"].candidate == (
        found["period until-2017 top_1"].value
    )
    assert found["period from-2018 all limits"].note.endswith("fewer than 50")
    categories = [check for name, check in found.items() if name.startswith("category")]
    assert categories
    assert all(check.outcome == "not_checked" for check in categories)
    assert all("fewer than 200" in check.note for check in categories)


def test_the_candidate_is_held_to_what_the_champion_reaches_on_perturbed_papers(
    gate: Gate,
) -> None:
    kinds = {"kinds": ["typos", "title-only", "non-papers"], "papers": 40}
    report = gate(robustness={**kinds, "margin": 0.99})
    assert {re.split("[,:]", check.name)[0] for check in report.checks} == {
        "clean",
        *kinds["kinds"],
    }
    assert report.passed
    strict = gate(robustness={**kinds, "margin": 0.0})
    assert {check.name for check in strict.checks} == {check.name for check in report.checks}
    assert not strict.passed


def test_a_gate_file_of_robustness_is_measured_as_it_was_written(
    gate: Gate, tmp_path: Path
) -> None:
    gates = {
        **{"model": "mine 1.0", "dataset_digest": "d", "split": "test", "papers": 30, "seed": 3},
        **{"margin": 0.0, "format_version": 1},
        "minimum": {
            "clean": {"clean": {"top_1": 0.01}},
            "title-only": {"title": {"top_1": 1.0}},
        },
    }
    file = tmp_path / "robust.json"
    file.write_text(json.dumps(gates))
    report = gate(robustness={"gates": str(file)})
    assert [check.name for check in report.checks] == [
        "clean: top_1",
        "title-only, title: top_1",
    ]
    assert [check.outcome for check in report.checks] == ["passed", "failed"]
    file.write_text(json.dumps({**gates, "minimum": {"rain": {"clean": {}}}}))
    with pytest.raises(InvalidGates, match="the kind 'rain' is unknown"):
        gate(robustness={"gates": str(file)})


def test_files_that_cannot_be_used_are_found_before_anything_is_scored(
    gate: Gate, tmp_path: Path
) -> None:
    progress = Recording()
    for groups in (
        {"goldens": {"file": str(tmp_path / "none.json")}},
        {"robustness": {"gates": str(tmp_path / "none.json")}},
    ):
        with pytest.raises(InvalidGates, match=r"none\.json"):
            gate(progress=progress, **groups)
    assert progress.steps == []


def test_behaviour_kernels_and_cost_are_measured(gate: Gate, bundle: Path) -> None:
    found = gate(
        behaviour={"least": {"archive": 0.0}},
        kernels={"papers": 40},
        cost={
            "latency_ratio": 50.0,
            "size_ratio": 3.0,
            "memory_mb": 5000,
            "papers": 3,
            "rounds": 3,
        },
    )
    groups = {check.group for check in found.checks}
    assert groups == {"behaviour", "kernels", "cost"}
    names = by_name(found)
    assert names["papers that C and numpy score differently"].outcome == "passed"
    assert names["papers that C and numpy score differently"].note == "of 40"
    assert names["latency_ratio"].outcome == "passed"
    size = sum(file.stat().st_size for file in bundle.rglob("*") if file.is_file()) / 1e6
    assert names["size_ratio"].champion == pytest.approx(size)
    assert (names["memory_mb"].value or 0) > 10


def test_the_fit_and_the_test_papers_of_one_dataset_are_apart(gate: Gate) -> None:
    check = gate(fit={}).checks[0]
    assert (check.outcome, check.value) == ("passed", 0)


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return two datasets of the same papers, which are split in other ways."""
    folder = tmp_path_factory.mktemp("twins")
    sample_dump(folder / "papers.jsonl", SampleConfig(papers=1200, categories=24, noise=0.0))
    for seed in (1, 2):
        config = DatasetConfig(seed=seed, small="keep")
        build_dataset([folder / "papers.jsonl"], folder / str(seed), config)
    return folder / "1", folder / "2"


def test_test_papers_that_another_dataset_was_fitted_on_are_counted(
    gate: Gate, twins: tuple[Path, Path], train_run: TrainRun, tmp_path: Path
) -> None:
    fitted_on, measured_on = twins
    leaky = tmp_path / "leaky-1.0"
    options = ExportOptions(name="leaky", version="1.0", about="## Limits\n\nMade for a test.")
    export_run(train_run(data=fitted_on), leaky, options)
    unknown = gate(of=leaky, on=measured_on, fit={}).checks[0]
    assert (unknown.outcome, unknown.value) == ("failed", None)
    assert f"not checkable: it was fitted on dataset {load_manifest(fitted_on).digest[:12]}" in (
        unknown.note
    )
    allowed = gate(of=leaky, on=measured_on, fit={"allow_unknown": True}).checks[0]
    assert allowed.outcome == "not_checked"
    found = gate(of=leaky, on=measured_on, fit={"trained_on": [str(fitted_on)]}).checks[0]
    manifests = load_manifest(fitted_on), load_manifest(measured_on)
    papers = [ids(folder, "test") for folder in twins]
    assert found.outcome == "failed"
    assert found.value == len(papers[1] - papers[0])
    assert 0 < found.value <= manifests[1].splits["test"].papers


def ids(dataset: Path, split: str) -> set[str]:
    return set(read_split(dataset, split, texts=False).ids)


def test_a_bundle_that_does_not_say_what_it_was_fitted_on_is_not_checkable(
    gate: Gate, candidate: Path, tmp_path: Path
) -> None:
    bundle = load_bundle(candidate)
    silent = tmp_path / "mine-1.2"
    write_bundle(silent, replace(bundle.manifest, version="1.2", provenance={}), bundle.arrays, {})
    check = gate(of=silent, fit={}).checks[0]
    assert check.outcome == "failed"
    assert "does not say on which dataset it was fitted" in check.note


def test_a_candidate_with_other_labels_says_which_are_missing_and_compares_the_rest(
    gate: Gate, bundle: Path
) -> None:
    wide = gate(of=fast(), against=bundle, labels={}, metrics={"most_fall": {"top_1": 1.0}})
    assert wide.passed
    assert by_name(wide)["labels of the champion that are missing"].note.startswith("new: ")
    narrow = gate(of=bundle, against=fast(), labels={}, metrics={"most_fall": {"top_1": 1.0}})
    missing = by_name(narrow)["labels of the champion that are missing"]
    assert missing.outcome == "failed"
    labels = set(read_manifest(fast()).labels) - set(read_manifest(bundle).labels)
    assert missing.value == len(labels)
    assert by_name(narrow)["fall of top_1"].outcome == "passed"


def fast() -> Path:
    return find_bundle("fast")


def test_models_without_a_label_in_common_are_an_error(gate: Gate, own_model: Path) -> None:
    with pytest.raises(LabelMismatch, match=r"none of the .* labels"):
        gate(against=own_model, metrics={"most_fall": {"top_1": 1.0}})
    with pytest.raises(LabelMismatch, match=r"none of the .* labels"):
        gate(of=own_model, metrics={"minimum": {"top_1": 0.0}})


def test_the_champion_is_not_its_own_candidate(gate: Gate, bundle: Path, tmp_path: Path) -> None:
    twin = shutil.copytree(bundle, tmp_path / "mine-1.0")
    with pytest.raises(UsageError, match=r"mine 1\.0 is the champion"):
        gate(of=Path(twin), metrics={"minimum": {"top_1": 0.0}})


def test_without_a_champion_only_what_needs_none_is_checked(gate: Gate) -> None:
    report = gate(
        against=None,
        metrics={"minimum": {"top_1": 0.0}, "most_fall": {"top_1": 0.0}},
        labels={},
        robustness={},
        cost={"latency_ratio": 1.0, "latency_ms": 1e6, "papers": 2, "rounds": 3},
    )
    assert report.passed
    assert report.champion is None
    assert [(c.name, c.outcome) for c in report.checks if c.outcome == "not_checked"] == [
        ("fall of top_1", "not_checked"),
        ("labels of the champion that are missing", "not_checked"),
        ("minima of the champion", "not_checked"),
        ("latency_ratio", "not_checked"),
    ]


def test_a_dataset_without_test_papers_is_refused(
    gate: Gate, dataset: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(dataset, tmp_path / "dataset"))
    manifest = load_manifest(copy)
    splits = {name: file for name, file in manifest.splits.items() if name != "test"}
    digest = dataset_digest(splits, manifest.labels, manifest.format_version)
    changed = replace(manifest, splits=splits, digest=digest)
    (copy / "manifest.json").write_text(json.dumps(asdict(changed)))
    with pytest.raises(EmptyEvaluation, match=f"{copy} has no test papers"):
        gate(on=copy, metrics={"minimum": {"top_1": 0.0}})


def test_a_signature_is_asked_of_the_registry(gate: Gate, candidate: Path, tmp_path: Path) -> None:
    assert not gate(signature={}).passed
    registry = Registry.create(tmp_path / "registry", who=WHO)
    check = gate(registry=registry, signature={"required": False}).checks[0]
    assert (check.outcome, check.note) == ("not_checked", "the registry trusts no key")
    create_key(tmp_path / "key")
    strict = Registry.open(registry.path, trusted_keys=[tmp_path / "key.pub"])
    check = gate(registry=strict, signature={"required": False}).checks[0]
    assert (check.outcome, check.note) == (
        "failed",
        "it is not in the registry, which keeps signatures",
    )
    registry.add(candidate, who=WHO)
    check = gate(registry=strict, signature={"required": False}).checks[0]
    assert check.outcome == "failed"
    assert "signature" in check.note


@pytest.mark.skipif(find_spec("model_signing") is None, reason="the extra sign is not installed")
def test_a_candidate_that_will_be_signed_passes_if_the_key_is_trusted(
    gate: Gate, tmp_path: Path
) -> None:
    registry = Registry.create(tmp_path / "registry", who=WHO)
    for name in ("key", "other"):
        create_key(tmp_path / name)
    registry.trust(tmp_path / "key.pub", who=WHO)
    check = gate(registry=registry, key=tmp_path / "key", signature={}).checks[0]
    assert (check.outcome, check.note) == ("passed", "it is signed when it is added")
    check = gate(registry=registry, key=tmp_path / "other", signature={}).checks[0]
    assert (check.outcome, check.note) == ("failed", "other is not trusted")
    with pytest.raises(InvalidKeys, match="nothing"):
        gate(registry=registry, key=tmp_path / "nothing", signature={})


@pytest.mark.skipif(find_spec("model_signing") is None, reason="the extra sign is not installed")
def test_a_candidate_that_a_trusted_key_signed_passes(
    gate: Gate, candidate: Path, tmp_path: Path
) -> None:
    registry = Registry.create(tmp_path / "registry", who=WHO)
    create_key(tmp_path / "key")
    registry.trust(tmp_path / "key.pub", who=WHO)
    registry.add(candidate, who=WHO, proof=Proof(key=tmp_path / "key"))
    assert gate(registry=registry, signature={}).passed
