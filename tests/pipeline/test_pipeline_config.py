"""A configuration is composed whole, or refused with the key that is wrong."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from classmark.errors import InvalidConfig, UsageError
from classmark.pipeline import compose_config
from classmark.pipeline.config import KINDS
from classmark.pipeline.run_folder import start_record, write_config
from classmark.pipeline.sweep import compose_sweep
from classmark.pipeline.unfinished import begin_unfinished
from classmark.tracking import has_mlflow, has_wandb
from classmark.training import TransformerConfig

DATASET = "dataset.path=data"
DEEP_EXPERIMENTS = ("fast", "balanced", "optimized_distilbert", "frozen_head")
DEEP_EXPERIMENTS += ("debug/overfit", "debug/limit", "debug/profiler")
CONF = Path(str(files("classmark.conf")))
# In the folder cloud are prices, which are data and no choice of a run.
FILES = [
    path.relative_to(CONF)
    for path in CONF.rglob("*.yaml")
    if path.parent not in (CONF, CONF / "cloud")
]
GROUPS = sorted(f"{p.parts[0]}={'/'.join(p.with_suffix('').parts[1:])}" for p in FILES)


def test_the_defaults_compose_with_a_dataset() -> None:
    config = compose_config([DATASET])
    assert config.dataset == Path("data")
    assert config.runs_dir == Path("runs")
    assert config.seed == 7
    assert config.model.threads == 2
    assert config.composed["model"]["kind"] == "linear"


@pytest.mark.slow
@pytest.mark.parametrize("choice", GROUPS)
def test_every_file_of_the_configuration_composes(choice: str) -> None:
    if choice == "tracker=mlflow" and not has_mlflow():
        pytest.skip("MLflow is not installed")
    if choice == "tracker=wandb" and not has_wandb():
        pytest.skip("W&B is not installed")
    needed = ["model.deep=deep"] if choice == "model=cascade" else []
    if choice.startswith("sweep="):
        assert compose_sweep([choice, DATASET]).base.kind in KINDS
        return
    needed += ["model=transformer"] if choice == "profiler=torch" else []
    assert compose_config([choice, *needed, DATASET]).kind in KINDS


def test_every_group_is_tried() -> None:
    assert {"experiment=debug", "experiment=wheel", "model=linear", "dataset=folder"} <= set(GROUPS)
    assert {f"experiment={name}" for name in DEEP_EXPERIMENTS} <= set(GROUPS)
    assert {"tracker=auto", "tracker=csv", "tracker=mlflow", "tracker=wandb"} <= set(GROUPS)


@pytest.mark.slow
@pytest.mark.parametrize("name", DEEP_EXPERIMENTS)
def test_an_experiment_of_the_deep_tier_opens_with_its_command_and_chooses_its_kind(
    name: str,
) -> None:
    config = compose_config([DATASET, f"experiment={name}"])
    assert isinstance(config.model, TransformerConfig)
    assert config.kind == "transformer"
    text = (CONF / "experiment" / f"{name}.yaml").read_text(encoding="utf-8")
    assert f"# classmark train experiment={name} dataset.path=DIR\n" in text


@pytest.mark.slow
def test_what_makes_the_experiments_of_the_deep_tier_differ() -> None:
    def model(name: str) -> Any:
        return compose_config([DATASET, f"experiment={name}"]).model

    plain = compose_config([DATASET, "model=transformer"]).model
    assert isinstance(plain, TransformerConfig)
    assert plain.encoder == "packaged"
    assert model("fast").max_length < plain.max_length
    assert model("balanced").class_weights == "sqrt"
    assert model("optimized_distilbert").encoder == "distilbert-base-uncased"
    assert model("frozen_head").trained_layers == 0
    assert model("debug/overfit").max_samples == 32
    assert model("debug/limit").max_held_out == 32
    assert compose_config([DATASET, "experiment=debug/profiler"]).profiler.kind == "torch"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("model.pooling=median", r"model\.pooling is 'median', choose one of: mean, cls, max\."),
        ("model.dropout=2", r"model\.dropout is 2, it must be from 0\.0 to 0\.95"),
        ("model.max_length=4", r"model\.max_length is 4, it must be from 8"),
        ("model.bucketed=1", r"model\.bucketed must be true or false, got 1"),
        ("model.trained_layers=1.5", r"model\.trained_layers must be a whole number or null, got"),
        ("model.encoder=' '", r"model\.encoder is empty"),
        ("model.max_features=7", r"model\.max_features"),
        ("+model.max_features=7", r"model\.max_features is a key of model=linear only"),
        ("~model.clip", r"model\.clip is missing"),
        ("resume=absent", r"resume: absent is not an unfinished run"),
    ],
)
def test_a_wrong_key_or_value_of_the_deep_tier_is_refused_by_name(
    override: str, reason: str
) -> None:
    with pytest.raises(InvalidConfig, match=reason):
        compose_config([DATASET, "model=transformer", override])


def test_a_linear_fit_cannot_be_gone_on_with(tmp_path: Path) -> None:
    config = compose_config([DATASET])
    manifest = SimpleNamespace(digest="", labels=(), label_space="arxiv", generated=True)
    start = start_record(config, cast("Any", manifest), "a test", tmp_path / "run")
    run = begin_unfinished(tmp_path / "run", start)
    write_config(run.folder, compose_config([DATASET]))
    with pytest.raises(InvalidConfig, match=r"resume is for model=transformer"):
        compose_config([f"resume={run.folder}"])


def test_a_variable_chooses_the_default_tracker_and_an_override_the_tracker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CLASSMARK_TRACKER")
    assert compose_config([DATASET]).tracker.mlflow == "auto"
    monkeypatch.setenv("CLASSMARK_TRACKER", "csv")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:5000")
    config = compose_config([DATASET]).tracker
    assert (config.mlflow, config.mlflow_uri) == ("never", "http://localhost:5000")
    assert compose_config([DATASET, "tracker=auto"]).tracker.mlflow == "auto"


@pytest.mark.skipif(not (has_mlflow() and has_wandb()), reason="MLflow or W&B is not installed")
@pytest.mark.parametrize("choice", ["[csv,mlflow,wandb]", "[wandb,mlflow,csv]"])
def test_several_trackers_are_chosen_at_once_in_any_order(choice: str) -> None:
    config = compose_config([DATASET, f"tracker={choice}", "tracker.wandb=offline"]).tracker
    assert (config.mlflow, config.wandb) == ("always", "offline")
    assert config.services == "MLflow and W&B"


def test_an_experiment_changes_the_model_and_an_override_changes_the_experiment() -> None:
    assert compose_config([DATASET, "experiment=wheel"]).model.period_weights["2018-2019"] == 3
    assert compose_config([DATASET, "experiment=debug"]).model.epochs == 1
    assert compose_config([DATASET, "experiment=debug", "model.epochs=4"]).model.epochs == 4


def test_overrides_reach_the_configuration_and_its_record() -> None:
    config = compose_config(
        [DATASET, "seed=11", "model.rate=1", "+model.period_weights={2018-2019: 3}"]
    )
    assert config.seed == 11
    assert config.model.rate == 1
    assert config.model.period_weights == {"2018-2019": 3}
    assert config.composed["seed"] == 11
    assert config.composed["dataset"] == {"path": "data"}


@pytest.mark.slow
@pytest.mark.parametrize("plus", ["", "+", "++"])
@pytest.mark.parametrize(
    "spelling", ["model.period_weights.2018-2019=3", "model.period_weights={2018-2019: 3}"]
)
def test_a_period_is_weighted_in_every_spelling(plus: str, spelling: str) -> None:
    def weights(*words: str) -> object:
        return compose_config([DATASET, plus + spelling, *words]).model.period_weights

    assert weights() == {"2018-2019": 3}
    assert weights("experiment=wheel") == {"2018-2019": 3, "from-2020": 0.9}
    assert weights("model.period_weights.until-2017=0.5") == {"2018-2019": 3, "until-2017": 0.5}


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    ["my data", "a=b", "it's", "C:\\data\\", "a\\'b", "x{y},z[1]", "null", "ü", "#1", "a:b", "'q'"],
)
def test_a_path_may_hold_what_paths_hold(path: str) -> None:
    config = compose_config([f"dataset.path={path}", f"runs_dir={path}"])
    expected = Path(path.strip("'") if path == "'q'" else path)
    assert (config.dataset, config.runs_dir) == (expected, expected)


def test_a_path_below_the_home_of_the_user_is_found() -> None:
    assert compose_config(["dataset.path=~/data"]).dataset == Path.home() / "data"


def test_a_word_that_is_no_override_is_told_what_it_may_mean(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"is not KEY=VALUE. Write for example dataset.path=/"):
        compose_config([tmp_path.as_posix()])
    with pytest.raises(InvalidConfig, match=r"'x' is not KEY=VALUE.*model.epochs=3"):
        compose_config(["x"])


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("model.rat=1", r"model\.rat\b.*classmark train --help"),
        ("+model.rat=1", r"model\.rat is unknown"),
        ("nosuch=1", r"nosuch is unknown. See `classmark train --help`"),
        ("model.epocs=1", r"model\.epocs is unknown. Did you mean model\.epochs"),
        ("sed=1", r"sed is unknown. Did you mean seed"),
        ("model.max_length=9", r"model\.max_length is a key of model=transformer only"),
        ("~model.rate", r"model\.rate is missing"),
        ("~runs_dir", r"runs_dir is missing"),
        ("model=forest", r"model/forest.*linear"),
        ("experiment=whel", r"experiment/whel.*debug"),
        ("model=null", r"model"),
        ("model.kind=svm", r"model\.kind must be 'linear' or 'transformer' or 'cascade', got"),
        ("model.epochs=two", r"model\.epochs must be a whole number, got 'two'"),
        ("model.epochs=1.5", r"model\.epochs must be .*1\.5"),
        ("model.epochs=true", r"model\.epochs must be .*True"),
        ("model.rate=fast", r"model\.rate must be a number, got 'fast'"),
        ("model.epochs=0", r"model\.epochs is 0, it must be from 1 to 1000"),
        ("model.rate=nan", r"model\.rate is nan"),
        ("model.period_weights=3", r"model\.period_weights must be a group of keys, got 3"),
        ("+model.period_weights.a=much", r"model\.period_weights\.a must be a number, got 'much'"),
        ("+model.period_weights.a=-2", r"model\.period_weights\.a is -2"),
        ("seed=-1", r"seed must be a whole number from 0, got -1"),
        ("seed=true", r"seed must be a whole number from 0, got True"),
        ("seed", r"'seed'"),
        ("model.rate=(", r"'model\.rate=\(' cannot be read\. Write KEY=VALUE, and put a value"),
    ],
)
def test_a_wrong_key_or_value_is_refused_by_name(override: str, reason: str) -> None:
    with pytest.raises(InvalidConfig, match=reason) as caught:
        compose_config([DATASET, override])
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, UsageError)


def test_the_dataset_has_no_default() -> None:
    with pytest.raises(InvalidConfig, match=r"^dataset\.path .*\(given: nothing\). Write dataset"):
        compose_config([])
    with pytest.raises(
        InvalidConfig, match=r"^model\.deep has no value .* Write model\.deep=VALUE"
    ):
        compose_config([DATASET, "model=cascade"])


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["profiler=gpu"], r"Could not find 'profiler/gpu' Available .*: cpu memory none torch"),
        (["profiler=torch"], r"profiler=torch is for model=transformer; a linear fit has no"),
        (
            ["profiler.kind=gpu"],
            r"profiler\.kind is 'gpu', choose one of: none, cpu, mem",
        ),
        (["profiler=cpu", "profiler.rate=0"], r"profiler\.rate is 0, it must be from 1 to 1000"),
        (["profiler.rate=fast"], r"profiler\.rate must be a whole number, got 'fast'"),
        (["profiler.depth=3"], r"profiler\.depth is unknown\."),
    ],
)
def test_a_profiler_that_cannot_be_is_refused_by_name(overrides: list[str], reason: str) -> None:
    with pytest.raises(InvalidConfig, match=reason):
        compose_config([DATASET, *overrides])


def test_the_profiler_is_of_the_command_and_not_of_the_run_that_is_resumed(tmp_path: Path) -> None:
    config = compose_config([DATASET, "model=transformer", "profiler=torch"])
    manifest = SimpleNamespace(digest="", labels=(), label_space="arxiv", generated=True)
    start = start_record(config, cast("Any", manifest), "a test", tmp_path / "run")
    run = begin_unfinished(tmp_path / "run", start)
    write_config(run.folder, config)
    assert compose_config([f"resume={run.folder}"]).profiler.kind == "none"
    again = compose_config([f"resume={run.folder}", "profiler=torch", "profiler.folder=steps"])
    assert (again.profiler.kind, again.profiler.folder) == ("torch", Path("steps"))
