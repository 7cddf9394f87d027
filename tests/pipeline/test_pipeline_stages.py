"""The stages run once, run again where something before them has changed, and nowhere else."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import classmark
from classmark.bundle import load_bundle
from classmark.cli.app import app
from classmark.dataset import load_manifest
from classmark.registry import Registry
from classmark.storage import locked_folder
from make_targets import clone, needs_make

SMALL = ("sample.papers=400", "sample.categories=24", "model.epochs=1", "evaluate.draws=20")
ALL = ["build", "train", "export", "evaluate", "gate", "register"]


def pipeline(verb: str, folder: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["pipeline", verb, "--folder", str(folder), *words])


def states(result: Result) -> dict[str, str]:
    assert result.exit_code == 0, result.output
    return {each["stage"]: each["state"] for each in json.loads(result.stdout)["stages"]}


def ran(result: Result, state: str = "ran") -> list[str]:
    return [stage for stage, found in states(result).items() if found == state]


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which all stages have run."""
    folder = tmp_path_factory.mktemp("pipeline") / "walked"
    assert ran(pipeline("run", folder, "--json", *SMALL)) == ALL
    return folder


@pytest.fixture
def copied(walked: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(walked, tmp_path / "copied"))


@pytest.mark.slow
def test_from_nothing_to_a_measured_bundle(walked: Path) -> None:
    bundle = load_bundle(walked / "bundle").manifest
    assert (bundle.name, bundle.version) == ("mine", "1.0")
    metrics = json.loads((walked / "metrics.json").read_bytes())
    report = json.loads((walked / "evaluation/report.json").read_bytes())
    assert metrics["top_1"] == report["metrics"]["top_1"]["value"] > 0.1
    assert report["generated"]
    assert (walked / "plots/years.csv").read_text().startswith("year,papers,top_1,top_5\n2007,")
    assert (walked / "plots/confusion.svg").exists()


@pytest.mark.slow
def test_what_passes_the_gate_is_registered_and_can_be_promoted(copied: Path) -> None:
    digest = load_bundle(copied / "bundle").digest
    registered = json.loads((copied / "registered.json").read_bytes())
    manifest = load_manifest(copied / "dataset")
    assert registered == {
        **{"digest": digest, "name": "mine", "version": "1.0"},
        "dataset_digest": manifest.digest,
    }
    report = json.loads((copied / "gate/report.json").read_bytes())
    assert (report["champion"], report["candidate"]["digest"]) == (None, digest)
    registry = Registry.open(copied / "registry")
    registry.promote(registry.find("mine@1.0"), who="operator", why="the first one")
    assert registry.pointer().channels.champion == digest
    again = pipeline("run", copied, "--json", "--force", "--stage", "gate", *SMALL)
    assert ran(again) == ["gate"]  # the champion itself is compared with nobody
    result = pipeline("run", copied, "--json", *SMALL, "model.epochs=2")
    assert result.exit_code == 0, result.output
    report = json.loads((copied / "gate/report.json").read_bytes())
    assert report["champion"]["digest"] == digest
    found = json.loads(result.stdout)["registered"]["digest"]
    assert {digest, found} == set(registry.pointer().bundles)
    assert found != digest


@pytest.mark.slow
def test_a_bundle_that_fails_its_gate_is_not_registered(copied: Path) -> None:
    rules = copied / "rules.yaml"
    rules.write_text("format_version: 1\nmetrics: {minimum: {top_1: 0.999}}\n")
    words = ("export.version=2.0", "gate.rules=rules.yaml", *SMALL)
    result = pipeline("run", copied, *words)
    assert result.exit_code == 3
    assert "mine 2.0 is not registered, refused: 1 of" in result.output
    assert (copied / "gate/report.html").is_file()
    assert json.loads((copied / "registered.json").read_bytes())["version"] == "1.0"
    rules.write_text("format_version: 1\nmetrics: {minimum: {top_1: 0.001}}\n")
    result = pipeline("run", copied, "--json", *words)
    assert ran(result) == ["gate", "register"]  # the version decides no answer: it is the same
    assert json.loads((copied / "registered.json").read_bytes())["version"] == "1.0"


def test_rules_of_a_gate_that_are_missing_are_named_before_anything_is_fitted(
    tmp_path: Path,
) -> None:
    result = pipeline("run", tmp_path / "new", "gate.rules=none.yaml", *SMALL)
    assert result.exit_code == 1
    assert "none.yaml cannot be used" in result.output
    assert not list(tmp_path.glob("new/*"))


@pytest.mark.slow
def test_a_second_walk_runs_nothing_and_changes_no_file(walked: Path) -> None:
    def times() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in walked.rglob("*") if path.is_file()}

    before = times()
    result = pipeline("run", walked, *SMALL)
    assert [line.split() for line in result.stdout.splitlines()[:-1]] == [
        [stage, "unchanged"] for stage in ALL
    ]
    assert times() == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "again", "reason"),
    [
        ("sample.seed=8", ALL, "sample.seed was 7, is 8"),
        ("build.periods=[2015-12-31]", ALL, "build.periods was [], is ['2015-12-31']"),
        ("model.rate=0.2", ALL[1:], "model.rate was 0.1, is 0.2"),
        ("seed=8", ALL[1:], "seed was 7, is 8"),
        ("export.version=1.1", ALL[2:], "export.version was 1.0, is 1.1"),
        ("evaluate.level=0.9", ["evaluate"], "evaluate.level was 0.95, is 0.9"),
        ("gate.key=key.pem", ALL[4:], "gate.key was , is key.pem"),
        ("tracker=csv", [], ""),
        ("build.min_papers=9", [], ""),  # of a sample nothing is dropped
    ],
)
def test_a_changed_parameter_reruns_what_depends_on_it_and_no_more(
    walked: Path, override: str, again: list[str], reason: str
) -> None:
    result = pipeline("run", walked, "--dry-run", "--json", *SMALL, override)
    assert ran(result, "would run") == again
    if again:
        first = next(s for s in json.loads(result.stdout)["stages"] if s["stage"] == again[0])
        assert first["reason"] == reason


@pytest.mark.slow
def test_what_a_dry_run_says_is_what_runs(copied: Path) -> None:
    assert ran(pipeline("run", copied, "--json", *SMALL, "evaluate.level=0.9")) == ["evaluate"]
    assert ran(pipeline("run", copied, "--json", *SMALL, "evaluate.level=0.9")) == []


@pytest.mark.slow
def test_an_output_that_was_changed_is_made_again(copied: Path) -> None:
    (copied / "bundle/CARD.md").unlink()
    result = pipeline("run", copied, "--json", *SMALL)
    assert ran(result) == ["export"]  # the same bytes again, so nothing after it runs
    assert "bundle is not what it made" in result.stdout
    assert (copied / "bundle/CARD.md").exists()


@pytest.mark.slow
def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    result = pipeline("run", tmp_path / "p", "--dry-run", "--json")
    assert ran(result, "would run") == ALL
    assert list((tmp_path / "p").iterdir()) == []


def test_a_dry_run_makes_no_folder(tmp_path: Path) -> None:
    refused = pipeline("run", tmp_path / "none", "--dry-run")
    assert refused.exit_code == 2
    assert "is not an existing folder" in refused.output
    assert not (tmp_path / "none").exists()


def test_one_process_walks_a_folder_at_a_time(tmp_path: Path) -> None:
    with locked_folder(tmp_path / ".pipeline"):
        refused = pipeline("run", tmp_path, *SMALL)
    assert refused.exit_code == 1
    assert "another run is at work in .pipeline" in refused.output
    assert not (tmp_path / "dataset").exists()


@pytest.mark.slow
def test_papers_are_built_again_when_their_file_changes(tmp_path: Path) -> None:
    papers = tmp_path / "papers.csv"
    made = ["dataset", "sample", "--papers", "400", "--csv", str(papers)]
    assert CliRunner().invoke(app, made).exit_code == 0
    words = ("papers=[papers.csv]", "build.min_papers=3", "--stage", "build", "--json")
    assert ran(pipeline("run", tmp_path, *words)) == ["build"]
    assert ran(pipeline("run", tmp_path, *words)) == []
    papers.write_text("".join(papers.read_text("utf-8").splitlines(keepends=True)[:-1]), "utf-8")
    result = pipeline("run", tmp_path, *words)
    assert ran(result) == ["build"]
    assert "papers.csv has changed" in result.stdout


@pytest.mark.slow
def test_force_runs_a_stage_without_changes(copied: Path) -> None:
    words = ("--stage", "evaluate", "--force", "--json", *SMALL)
    assert states(pipeline("run", copied, *words)) == {"evaluate": "ran"}


@pytest.mark.slow
def test_a_folder_that_the_pipeline_did_not_make_is_never_replaced(tmp_path: Path) -> None:
    mine = tmp_path / "dataset/mine.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    result = pipeline("run", tmp_path, *SMALL)
    assert result.exit_code == 1
    assert "dataset exists, and .pipeline/state.json has no record of it" in result.output
    assert mine.read_text() == "mine"
    assert ran(pipeline("run", tmp_path, "--stage", "build", "--force", "--json", *SMALL))


@pytest.mark.slow
def test_a_state_that_is_half_written_counts_as_none(copied: Path) -> None:
    state = copied / ".pipeline/state.json"
    state.write_bytes(state.read_bytes()[:100])
    assert "has no record of it" in pipeline("run", copied, *SMALL).output
    assert ran(pipeline("run", copied, "--force", "--json", *SMALL)) == ALL


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ["--stage", "promote"],
            2,
            "'promote' is unknown. Choose one of: build, train, export, eval",
        ),
        (["--stage", "register"], 1, "stage register reads dataset, which is missing."),
        (["gate.registry="], 2, "gate.registry is empty"),
        (["--stage", "train"], 1, "stage train reads dataset, which is missing. Run stage build"),
        (["papers=[no.csv]"], 1, "stage build reads no.csv, which is missing. Correct the path"),
        (["papers=[no.csv]"], 1, "it is relative to the folder of the pipeline, "),
        (["papers=no.csv"], 2, "papers must be a list, got 'no.csv'"),
        (["sample.paper=3"], 2, "sample.paper is unknown. Did you mean sample.papers"),
        (["sample.papers=many"], 2, "sample.papers must be a whole number, got 'many'"),
        (["build.split=random"], 2, "build.split must be stratified or time or ids"),
        (["model.epochs=x"], 2, "model.epochs must be a whole number"),
        (["runs_dir=x"], 2, "runs_dir is not a choice"),
        (["export.version=new"], 2, "export.version is 'new'. Choose for example name=mine"),
        (["export.most_loss=2"], 2, "--most-loss 2.0 must be within 0..1"),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(
    tmp_path: Path, words: list[str], code: int, message: str
) -> None:
    result = pipeline("run", tmp_path, *words)
    assert result.exit_code == code
    assert message in result.output
    assert not (tmp_path / "dataset").exists()


@pytest.mark.slow
def test_a_walk_that_was_killed_is_resumed_at_its_stage(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "classmark", "pipeline", "run", *SMALL]
    with subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as walk:
        assert walk.stderr is not None
        assert any("stage 2 of 6: train" in line for line in walk.stderr)
        walk.send_signal(signal.SIGKILL)
    result = pipeline("run", tmp_path, "--json", *SMALL)
    assert states(result) == {"build": "unchanged", **dict.fromkeys(ALL[1:], "ran")}
    assert "it did not finish" in result.stdout


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """Return a folder with the files that ``init`` writes."""
    result = pipeline("init", tmp_path, *SMALL, "build.columns.title=Titel")
    assert result.exit_code == 0, result.output
    assert [Path(line).name for line in result.stdout.split()] == [
        "dvc.yaml",
        "params.yaml",
        ".gitignore",
    ]
    return tmp_path


def test_init_writes_what_hydra_composes_and_finds_it_fresh(begun: Path) -> None:
    text = (begun / "params.yaml").read_text("utf-8")
    assert f"classmark: {classmark.__version__}\n" in text
    assert "  columns:\n    title: Titel\n" in text
    assert pipeline("init", begun, "--check").exit_code == 0
    assert pipeline("init", begun).stdout == ""


def test_a_value_edited_by_hand_stays_and_a_stale_stage_is_found(begun: Path) -> None:
    params = begun / "params.yaml"
    edited = params.read_text().replace("papers: []", "papers: [papers.csv]  # from the shelf")
    params.write_text(edited)
    stale = pipeline("init", begun, "--check")
    assert stale.exit_code == 1
    assert "dvc.yaml does not follow from params.yaml" in stale.output
    assert "dvc.yaml" in pipeline("init", begun).stdout
    assert params.read_text() == edited
    assert "    deps:\n    - papers.csv\n" in (begun / "dvc.yaml").read_text()
    assert pipeline("init", begun, "--check").exit_code == 0


def test_params_of_another_version_are_refused_until_init_has_seen_them(begun: Path) -> None:
    params = begun / "params.yaml"
    now = f"classmark: {classmark.__version__}\n"
    params.write_text(
        params.read_text().replace(now, "classmark: 0.0.1\n").replace("epochs: 1", "epochs: 5")
    )
    refused = pipeline("run", begun)
    assert refused.exit_code == 2
    assert "params.yaml is of classmark 0.0.1, this is" in refused.output
    assert pipeline("init", begun).exit_code == 0
    assert now in params.read_text()
    assert "epochs: 5" in params.read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("  epochs: 1\n", ""), "model.epochs is missing"),
        (("  epochs: 1\n", "  epoch: 1\n"), "model.epoch is unknown. Did you mean model.epochs"),
        (("seed: 7\nmodel", "model"), "params.yaml: seed is missing"),
        (("  noise: 0.05\n", ""), "sample.noise is missing"),
        (("papers: []", "papers: ["), "params.yaml cannot be read"),
    ],
)
def test_params_that_are_not_complete_are_refused(
    begun: Path, change: tuple[str, str], message: str
) -> None:
    params = begun / "params.yaml"
    assert change[0] in params.read_text()
    params.write_text(params.read_text().replace(*change))
    for verb in ("run", "init"):
        refused = pipeline(verb, begun)
        assert refused.exit_code == 2
        assert message in refused.output


def test_values_are_in_one_place_the_file_or_the_command_line(begun: Path) -> None:
    assert (
        "model.epochs=2 cannot be combined with" in pipeline("run", begun, "model.epochs=2").output
    )
    assert "may contradict it" in pipeline("init", begun, "model.epochs=2").output
    assert pipeline("init", begun, "--overwrite", "model.epochs=2").exit_code == 0
    assert "  epochs: 2\n" in (begun / "params.yaml").read_text()


def test_init_does_not_replace_stages_of_others(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    refused = pipeline("init", tmp_path)
    assert refused.exit_code == 1
    assert "was not written by `classmark pipeline init`" in refused.output
    assert not (tmp_path / "params.yaml").exists()
    assert pipeline("init", tmp_path, "--overwrite").exit_code == 0


@needs_make
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_clean_clones_give_the_same_bundle_byte_for_byte(tmp_path: Path) -> None:
    bundles, registered = [], []
    for seed in ("1", "2"):
        checkout = clone(tmp_path / seed)
        folder = tmp_path / seed / "build" / f"pipeline-{seed}"
        folder.mkdir(parents=True)
        done = subprocess.run(
            [sys.executable, "-m", "classmark", "pipeline", "run", "--json", *SMALL],
            cwd=folder, capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(checkout / "src"), "PYTHONHASHSEED": seed},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        registered.append((folder / "registered.json").read_bytes())
        bundles.append((folder / "bundle", json.loads(done.stdout)["bundle"]["digest"]))
    (one, digest), (other, same) = bundles
    assert digest == same == load_bundle(one).digest == json.loads(registered[0])["digest"]
    assert registered[0] == registered[1]
    names = {file.relative_to(one) for file in one.rglob("*") if file.is_file()}
    dated = {Path("bundle.json"), Path("CARD.md")}  # date and seconds of the fit
    assert names > dated
    for name in names - dated:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
