"""A sweep: what it tries, how it counts, what it refuses, and what it leaves for a fit."""

from __future__ import annotations

import json
import sqlite3
import warnings
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from classmark.dataset import SampleConfig, load_manifest, sample_dataset
from classmark.errors import (
    InvalidConfig,
    InvalidDataset,
    InvalidStudy,
    RunCorrupt,
    RunNotFound,
    StorageFailed,
)
from classmark.pipeline import compose_config, train
from classmark.pipeline.sweep import SweepPlan, compose_sweep, read_study_plan
from classmark.pipeline.sweep.experiment import wandb_text
from classmark.records import Silent, SweepReport
from classmark.tracking.runs import read_summary

with_optuna = pytest.mark.skipif(find_spec("optuna") is None, reason="Optuna is not installed")
pytestmark = pytest.mark.slow  # reason: Hydra composes for a tenth of a second, fits take one each
Compose = Callable[..., SweepPlan]
SPACE = "sweep.space.model"
# Steps so small that nothing is learned: such a trial lags behind every other.
BAD = "1e-6"


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "dataset"
    sample_dataset(folder, SampleConfig(papers=400, categories=24, noise=0.0), command="a test")
    return folder


@pytest.fixture
def plan(papers: Path, tmp_path: Path) -> Compose:
    """Return a function that composes a small sweep over two keys."""

    def compose(*overrides: str) -> SweepPlan:
        return compose_sweep(
            [
                *(f"dataset.path={papers}", f"runs_dir={tmp_path}", "sweep.name=test"),
                *(f"~{SPACE}.{key}" for key in ("epochs", "refine_epochs", "batch_size")),
                *(f"~{SPACE}.{key}" for key in ("refine_rate", "head_rate", "weight_decay")),
                *(f"~{SPACE}.{key}" for key in ("hidden_dropout", "label_smoothing")),
                *("model.epochs=2", "model.threads=1", "sweep.trials=3", "sweep.random_trials=2"),
                *overrides,
            ]
        )

    return compose


def work(plan: SweepPlan, **more: Any) -> SweepReport:
    from classmark.pipeline.sweep.run import sweep

    return sweep(plan, command="classmark sweep in-a-test", **more)


# --- what is tried ------------------------------------------------------------------------------


@pytest.mark.parametrize("choice", ["fast", "transformer"])
def test_a_space_is_complete_and_the_default_of_its_fit_lies_in_it(choice: str) -> None:
    plan = compose_sweep([f"sweep={choice}", "dataset.path=data"])
    assert plan.sweep.name == choice
    assert plan.base.kind == {"fast": "linear"}.get(choice, choice)
    assert len(plan.sweep.space) >= 8
    assert all(where.has(plan.defaults[key]) for key, where in plan.sweep.space.items())


def test_a_trial_has_the_values_and_everything_else_as_the_fit_without_the_sweep(
    plan: Compose,
) -> None:
    found = plan("model.batch_size=64")
    config = found.trial({"model.rate": 0.25})
    assert config.model.rate == 0.25  # type: ignore[union-attr]
    assert replace(config.model, rate=0.1) == found.base.model  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("override", "why"),
    [
        (
            "sweep.trialz=3",
            r"sweep\.trialz .*\. Did you mean sweep\.trials.*`classmark sweep run --help`",
        ),
        ("sweep=slow", r"sweep/slow.*fast.* See `classmark sweep run --help` for the keys"),
        ("sweep.trials=0", r"sweep\.trials is 0, it must be from 1"),
        ("sweep.trials=null", "would never end"),
        ("sweep.metric=ece", "is 'ece', it must be top_1 or top_5 or macro_f1"),
        ("sweep.seed=x", r"'sweep\.seed' is 'x', it must be a whole number"),
        ("sweep.name=../x", r"sweep\.name is '\.\./x'"),
        (f"{SPACE}.rate.low=-1", "with log, low must be above 0"),
        (f"{SPACE}.rate.low=9", "low must be below high"),
        (f"{SPACE}.rate.high=99", r"model\.rate is 99, it must be from 1e-06 to 10"),
        (f"{SPACE}.rate.log=2", "is not a range"),
        (f"+{SPACE}.rate.step=0.1", "log and step exclude each other"),
        (f"+{SPACE}.rate.choices=[1]", "has choices and low or high"),
        (f"{SPACE}.rate=3", "is not a range. Write {low: 1, high: 5}"),
        (f"+{SPACE}.ratio={{low: 1, high: 2}}", "space.model.ratio is not a key of model=linear"),
        (f"+{SPACE}.threads={{low: 1, high: 2}}", "it does not change the model"),
        ("+sweep.space.seed={low: 1, high: 2}", "space.seed is not a key"),
    ],
)
def test_what_cannot_be_tried_is_refused_before_the_first_fit(
    plan: Compose, tmp_path: Path, override: str, why: str
) -> None:
    with pytest.raises(InvalidConfig, match=why):
        plan(override)
    assert not list(tmp_path.iterdir())


def test_a_cascade_has_nothing_to_sweep() -> None:
    with pytest.raises(InvalidConfig, match="or model=transformer, not for model=cascade"):
        compose_sweep(["model=cascade", "model.deep=deep", "dataset.path=data"])


# --- trials -------------------------------------------------------------------------------------


@with_optuna
def test_the_best_trial_is_an_experiment_that_train_takes_and_fits_to_the_same_value(
    plan: Compose, papers: Path, tmp_path: Path
) -> None:
    found = plan("seed=3")
    report = work(found)
    assert report == SweepReport.from_dict(json.loads(json.dumps(report.to_dict())))
    assert [trial.number for trial in report.trials] == [0, 1, 2]
    assert report.trials[0].is_default
    best = report.best
    assert best is not None
    assert best.value == max(t.value for t in report.trials if t.value is not None)
    file = found.folder / "best.yaml"
    command = f"# classmark train experiment={file} dataset.path=DIR\n"
    assert command in file.read_text("utf-8")
    config = compose_config(
        [f"experiment={file}", f"dataset.path={papers}", f"runs_dir={tmp_path / 'runs'}"]
    )
    assert config.model == found.trial(best.values).model
    assert config.seed == 3
    run = train(config, command="classmark train in-a-test")
    assert read_summary(run).metrics["valid/top_1"] == best.value
    assert not list((found.folder / "runs").iterdir())


@with_optuna
def test_a_trial_that_lags_behind_is_pruned_and_a_default_never_is(plan: Compose) -> None:
    report = work(plan(f"{SPACE}.rate.low={BAD}", "sweep.trials=4", "sweep.first_share=0.5"))
    assert report.trials[0].state == "complete"
    states = [trial.state for trial in report.trials]
    assert states.count("pruned") >= 1, states
    for trial in report.trials:
        assert list(trial.measured) == ["50"]
        assert (trial.value is None) == (trial.state == "pruned")


@with_optuna
def test_without_pruning_every_trial_is_complete(plan: Compose) -> None:
    report = work(plan("sweep.first_share=1", f"{SPACE}.rate.low={BAD}"))
    assert {trial.state for trial in report.trials} == {"complete"}


@with_optuna
def test_a_fit_that_diverges_is_a_failed_trial_and_the_sweep_goes_on(plan: Compose) -> None:
    # No two terms are in 100,000 papers.
    found = plan(f"~{SPACE}.min_papers", f"+{SPACE}.min_papers={{choices: [5, 100000]}}")
    report = work(replace(found, sweep=replace(found.sweep, trials=6)))
    failed = [trial for trial in report.trials if trial.state == "failed"]
    assert failed, [trial.values for trial in report.trials]
    assert "Train on more papers, or lower model.min_papers" in failed[0].error
    assert len(report.trials) == 6


@with_optuna
def test_a_study_goes_on_where_it_ended_as_if_it_had_never_stopped(
    plan: Compose, tmp_path: Path
) -> None:
    whole = work(plan("sweep.trials=4", "sweep.name=whole"))
    work(plan("sweep.trials=2"))
    rest = work(plan("sweep.trials=4"))
    assert [t.values for t in rest.trials] == [t.values for t in whole.trials]
    assert [t.value for t in rest.trials] == [t.value for t in whole.trials]
    assert len({str(t.values) for t in rest.trials}) == 4


@with_optuna
def test_a_budget_in_minutes_begins_no_trial_after_it(plan: Compose) -> None:
    assert work(plan("sweep.minutes=0", "sweep.trials=null")).trials[0].state == "waiting"
    assert [t.state for t in work(plan("sweep.minutes=60", "sweep.trials=1")).trials] == [
        "complete"
    ]


class _PressesCtrlC(Silent):
    """The user presses Ctrl-C when a text is shown."""

    def __init__(self, text: str) -> None:
        self._text = text

    def step(self, text: str, *, done: int = 0, share: float = 0.0) -> None:
        del done, share
        if text.startswith(self._text):
            self._text = "never"
            raise KeyboardInterrupt


@with_optuna
def test_an_interrupted_trial_is_tried_again_and_counts_once(plan: Compose) -> None:
    from classmark.errors import Interrupted

    with pytest.raises(Interrupted, match="Resume it with: classmark sweep in-a-test"):
        work(plan(), progress=_PressesCtrlC("trial 1:"))
    report = work(plan())
    assert [t.state for t in report.trials].count("complete") + report.count("pruned") == 3
    assert report.count("failed") == 1
    (again,) = [t for t in report.trials if t.retry_of is not None]
    assert again.retry_of == 1
    assert again.values == report.trials[1].values


@with_optuna
@pytest.mark.filterwarnings("ignore:Heartbeat of storage")  # asked for, as optimize does it
def test_a_trial_whose_process_was_killed_before_its_first_heartbeat_is_tried_again(
    plan: Compose,
) -> None:
    from optuna.trial import TrialState

    from classmark.pipeline.sweep.study import open_study

    found = plan()
    work(plan("sweep.trials=1"))
    study = open_study(found, load_manifest(found.base.dataset).digest, "a test")
    # As two processes leave it, of which one was killed later, and the next one at once.
    with study.claim():
        trial = study.optuna.ask()
        study.begun(trial)
        study.optuna.tell(trial.number, state=TrialState.FAIL)
        study.retry(study.optuna, study.trials()[trial.number])
    with study.claim():
        study.optuna.ask()
    report = work(found)
    assert [t.state for t in report.trials][1:3] == ["failed", "failed"]
    assert [t.retry_of for t in report.trials][1:4] == [None, 1, 2]
    assert report.count("complete") + report.count("pruned") == 3


@with_optuna
@pytest.mark.skipif(find_spec("lightning") is None, reason="needs the extra deep")
def test_a_deep_trial_that_lags_behind_ends_in_the_fit_and_leaves_nothing(
    papers: Path, tmp_path: Path
) -> None:
    from deep_models import write_tiny_encoder

    encoder = tmp_path / "encoder"
    write_tiny_encoder(encoder)
    keys = ("rate", "layer_decay", "weight_decay", "warmup", "dropout", "label_smoothing")
    found = compose_sweep(
        [
            *("sweep=transformer", f"dataset.path={papers}", f"runs_dir={tmp_path}"),
            *(f"model.encoder={encoder}", "model.max_length=48", "model.accumulation=1"),
            *("model.head_rate=0.1", "model.epochs=2", "model.threads=1", "model.batch_size=8"),
            *(f"~{SPACE}.{key}" for key in (*keys, "cross_list_share", "pooling", "decay")),
            *(f"~{SPACE}.head_rate", f"+{SPACE}.head_rate={{choices: [0.1, 1e-9]}}"),
            *("sweep.trials=4", "sweep.first_share=0.5", "sweep.random_trials=4"),
        ]
    )
    report = work(found)
    states = {trial.values["model.head_rate"]: trial.state for trial in report.trials}
    assert states == {0.1: "complete", 1e-9: "pruned"}
    assert not list((found.folder / "runs").iterdir())
    assert "  - override /model: transformer" in (found.folder / "best.yaml").read_text("utf-8")


# --- what is refused ----------------------------------------------------------------------------


@with_optuna
def test_another_space_another_fit_and_another_dataset_are_refused(
    plan: Compose, tmp_path: Path
) -> None:
    work(plan("sweep.trials=1"))
    for override, why in {
        f"{SPACE}.rate.high=1.0": r"sweep\.space\.model\.rate is .*1\.0.*begun with .*0\.5",
        "model.epochs=3": r"model\.epochs is 3, but the study .* was begun with 2",
        "sweep.metric=top_5": r"sweep\.metric is 'top_5'",
        "seed=8": "seed is 8",
    }.items():
        with pytest.raises(InvalidConfig, match=why):
            work(plan(override))
    other = tmp_path / "other"
    sample_dataset(other, SampleConfig(papers=300, categories=24), command="a test")
    with pytest.raises(InvalidDataset, match=r"has digest .*, the study .* was begun on "):
        work(plan(f"dataset.path={other}"))
    # The budget and what does not change a model may be others.
    assert len(work(plan("sweep.trials=2", "model.threads=2")).trials) == 2


@with_optuna
def test_a_file_that_is_no_study_or_is_held_is_one_line(
    plan: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    from classmark.pipeline.sweep import study

    found = plan("sweep.trials=1")
    found.folder.mkdir()
    file = found.folder / "study.db"
    file.write_text("these are not the tables that you look for " * 100, encoding="utf-8")
    with pytest.raises(InvalidStudy, match=r"study\.db is not a study \(file is not a database\)"):
        work(found)
    file.unlink()
    work(found)
    monkeypatch.setattr(study, "_WAIT_S", 0.05)
    with closing(sqlite3.connect(file, isolation_level=None)) as other, other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StorageFailed, match=r"cannot be used \(database is locked\)"):
            work(plan("sweep.trials=2"))


@with_optuna
def test_a_study_whose_file_is_gone_is_neither_reported_nor_joined(plan: Compose) -> None:
    from classmark.pipeline.sweep.run import report_study

    here = plan("sweep.trials=1")
    work(here)
    (here.folder / "study.db").unlink()
    before = (here.folder / "sweep.json").read_bytes()
    for act in (report_study, partial(work, joins=True)):
        with pytest.raises(InvalidStudy, match=r"study\.db is gone.* Restore it, or begin"):
            act(here)
    assert (here.folder / "sweep.json").read_bytes() == before
    assert not (here.folder / "study.db").exists()


@with_optuna
def test_a_dataset_without_valid_papers_is_refused(plan: Compose, tmp_path: Path) -> None:
    folder = tmp_path / "unsplit"
    sample_dataset(folder, SampleConfig(papers=300, categories=24), command="a test")
    from classmark.storage import write_json

    manifest = load_manifest(folder).to_dict()
    manifest["splits"]["valid"]["papers"] = 0
    write_json(folder / "manifest.json", manifest)
    with pytest.raises(InvalidDataset, match="no papers in its valid split"):
        work(plan(f"dataset.path={folder}"))


def test_a_folder_without_a_study_and_a_damaged_one_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(RunNotFound, match=r"has no sweep\.yaml"):
        read_study_plan(tmp_path)
    (tmp_path / "sweep.yaml").write_text("dataset: [", encoding="utf-8")
    with pytest.raises(RunCorrupt, match=r"sweep\.yaml cannot be read"):
        read_study_plan(tmp_path)


# --- others -------------------------------------------------------------------------------------


@with_optuna
def test_an_agent_reads_the_sweep_from_the_folder_wherever_it_is(
    plan: Compose, papers: Path, tmp_path: Path
) -> None:
    found = plan("sweep.trials=2")
    work(found)
    moved = found.folder.rename(tmp_path / "moved")
    with pytest.raises(InvalidDataset):
        work(read_study_plan(moved, tmp_path / "absent"), joins=True)
    joined = read_study_plan(moved, papers)
    before = (moved / "sweep.yaml").read_bytes()
    assert len(work(joined, joins=True).trials) == 2
    assert (moved / "sweep.yaml").read_bytes() == before
    assert joined.sweep == found.sweep


def test_wandb_gets_the_same_space_metric_and_budget(plan: Compose) -> None:
    file = yaml.safe_load(wandb_text(plan("model.batch_size=64")))
    assert file["metric"] == {"name": "valid/top_1", "goal": "maximize"}
    assert file["run_cap"] == 3
    assert file["parameters"] == {
        "model.min_papers": {"values": [2, 3, 5, 8]},
        "model.rate": {"distribution": "log_uniform_values", "min": 0.02, "max": 0.5},
    }
    assert "model.batch_size=64" in file["command"]
    assert "early_terminate" not in file
    deep = yaml.safe_load(wandb_text(compose_sweep(["sweep=transformer", "dataset.path=data"])))
    assert deep["early_terminate"] == {"type": "hyperband", "min_iter": 1, "eta": 2}
    assert deep["parameters"]["model.dropout"]["distribution"] == "q_uniform"


@pytest.mark.skipif(find_spec("wandb") is None, reason="W&B is not installed")
def test_the_command_that_a_wandb_agent_makes_of_the_file_is_one_that_train_takes(
    plan: Compose,
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    file = yaml.safe_load(wandb_text(plan()))
    chosen = {"model.rate": {"value": 0.3}, "model.min_papers": {"value": 8}}
    words = create_sweep_command(file["command"])
    given = create_sweep_command_args({"args": chosen})["args_no_hyphens"]
    at = words.index("${args_no_hyphens}")
    overrides = [*words[words.index("train") + 1 : at], *given, *words[at + 1 :]]
    config = compose_config(overrides)
    assert (config.composed["model"]["rate"], config.composed["model"]["min_papers"]) == (0.3, 8)
    assert config.tracker.wandb == "auto"
