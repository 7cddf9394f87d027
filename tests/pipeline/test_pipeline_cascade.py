"""From two bundles to a cascade: curve, choice, bundle, and refusals where a part is another."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from classmark import Classifier
from classmark.bundle import load_bundle, read_digest, read_manifest
from classmark.errors import BundleIncompatible, BundleNotFound, InvalidConfig, LabelMismatch
from classmark.kernels import make_scorer
from classmark.kernels.encoder import load_scorer as load_encoder
from classmark.pipeline import ExportOptions, compose_config, export_run, train
from classmark.records import Paper
from deep_bundles import DeepFolders, copy_of

pytestmark = pytest.mark.slow  # a cascade needs a deep bundle, which torch makes

PAPERS = [("Sparse graphs", "We prove a bound for graphs."), ("", "A galaxy."), ("Proteins", "")]


def make_run(deep: DeepFolders, fast: Path, runs: Path, *more: str) -> Path:
    words = ["model=cascade", f"model.fast={fast}", f"model.deep={deep.int8}"]
    words += [f"dataset.path={deep.dataset}", f"runs_dir={runs}", *more]
    return train(compose_config(words), command="a test")


@pytest.fixture(scope="module")
def run(deep: DeepFolders, fast_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(deep, fast_bundle, tmp_path_factory.mktemp("runs"), "model.max_loss=0.05")


@pytest.fixture(scope="module")
def cascade(deep: DeepFolders, run: Path) -> Path:
    folder = deep.fp32.with_name("both-1.0")
    export_run(
        run,
        folder,
        ExportOptions(name="both", version="1.0", threshold=0.2, dataset=deep.dataset),
    )
    return folder


def test_the_run_holds_the_curve_as_json_table_and_plot(run: Path) -> None:
    seen = json.loads((run / "curve.json").read_text("utf-8"))
    rows = list(csv.DictReader((run / "curve.csv").read_text("utf-8").splitlines()))
    assert len(rows) == len(seen["points"])
    assert {row["split"] for row in rows} == {"valid", "test"}
    assert (run / "curve.svg").read_text("utf-8").startswith("<svg")
    assert seen["speeds"]["fast"] > seen["speeds"]["deep"] > 0
    provenance = json.loads((run / "provenance.json").read_text("utf-8"))
    valid = [float(r["loss"]) for r in rows if r["threshold"] == str(provenance["threshold"])]
    assert valid[0] <= 0.05
    assert {path.name for path in (run / "scores").iterdir()} == {
        *("fast-valid.npz", "deep-valid.npz", "fast-test.npz", "deep-test.npz")
    }


def test_the_bundle_names_both_parts_by_digest(
    cascade: Path, deep: DeepFolders, fast_bundle: Path
) -> None:
    manifest = read_manifest(cascade)
    assert manifest.kind == "cascade"
    assert manifest.parameters["fast"]["digest"] == read_digest(fast_bundle)
    assert manifest.parameters["deep"]["digest"] == read_digest(deep.int8)
    assert manifest.parameters["threshold"] == 0.2
    assert manifest.policy.temperature == pytest.approx(1, abs=0.6)
    assert {n for n in manifest.files if not n.startswith("arrays/reference_")} == {"CARD.md"}
    assert Classifier(cascade).classify([Paper(title=t, abstract=a) for t, a in PAPERS])


def test_every_threshold_is_between_the_fast_and_the_deep_model(
    run: Path, deep: DeepFolders, fast_bundle: Path, tmp_path: Path
) -> None:
    for folder in (deep.int8, fast_bundle):
        copy_of(folder, tmp_path)
    provenance = json.loads((run / "provenance.json").read_text("utf-8"))
    unmixed = Path(shutil.copytree(run, tmp_path / "run"))
    (unmixed / "provenance.json").write_text(json.dumps({**provenance, "mix": None}))
    orders = {}
    for threshold in (0.0, 1.0):
        folder = tmp_path / f"at{int(threshold)}-1.0"
        export_run(
            *(unmixed, folder),
            ExportOptions(
                name=folder.name.partition("-")[0],
                version="1.0",
                dataset=deep.dataset,
                threshold=threshold,
            ),
        )
        scores = make_scorer(load_bundle(folder)).score(PAPERS).scores
        np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1, atol=1e-4)
        orders[threshold] = scores.argmax(axis=1).tolist()
    expected = load_encoder(load_bundle(deep.int8)).score(PAPERS).scores.argmax(axis=1)
    assert orders[1.0] == expected.tolist()
    fast = Classifier(fast_bundle).score([Paper(title=t, abstract=a) for t, a in PAPERS])
    assert orders[0.0] == fast.scores.argmax(axis=1).tolist()


def test_an_explanation_of_a_cascade_leaves_nothing_unsaid(cascade: Path) -> None:
    scorer = make_scorer(load_bundle(cascade))
    for title, abstract in PAPERS:
        scores = scorer.score([(title, abstract)]).scores[0]
        terms = scorer.contributions(title, abstract, 3, 7)
        assert terms[-1][0] == "(residual)"
        assert sum(weight for _, weight in terms) == pytest.approx(scores[3] - scores[7], abs=1e-4)


def test_a_part_that_is_missing_or_another_is_refused(
    cascade: Path, fast_bundle: Path, deep: DeepFolders, tmp_path: Path, models_home: Path
) -> None:
    alone = copy_of(cascade, tmp_path)
    with pytest.raises(
        BundleNotFound, match=r"both-1.0 needs the model quick@1.0, which is neither"
    ):
        Classifier(alone)
    copy_of(fast_bundle, models_home)
    with pytest.raises(BundleNotFound, match=r"needs the model deepint@1.0"):
        Classifier(alone)
    other = copy_of(deep.fp32, tmp_path / "other")
    shutil.copytree(other, tmp_path / "deepint-1.0")
    with pytest.raises(BundleIncompatible, match=r"was made with deepint@1.0 of digest"):
        Classifier(alone)


def test_a_cascade_is_no_part_of_a_cascade_and_labels_must_agree(
    cascade: Path, deep: DeepFolders, tmp_path: Path
) -> None:
    with pytest.raises(BundleIncompatible, match=r"both is a cascade; one cannot be in another"):
        make_run(deep, cascade, tmp_path)
    with pytest.raises(LabelMismatch, match=r"model fast .* differs from the cascade in"):
        make_run(deep, Path("fast"), tmp_path)


def test_options_out_of_range_are_refused_before_any_work() -> None:
    for override, message in (
        ("model.max_loss=2", "model.max_loss is 2, it must be from 0 to 1"),
        ("model.max_held_out=0", "model.max_held_out is 0, it must be 1 or more"),
    ):
        with pytest.raises(InvalidConfig, match=message):
            compose_config(["model=cascade", "model.deep=x", "dataset.path=x", override])
