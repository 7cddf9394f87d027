"""An order goes through its steps once, whatever ends the process; the registry decides its end."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from classmark.cli.app import app
from classmark.dataset import SampleConfig, load_manifest
from classmark.dataset.sample.sample import sample_csv
from classmark.errors import ChangeRefused, InvalidConfig
from classmark.pipeline.retraining import ReplacePolicy, RetrainRules, read_retrain_rules
from classmark.pipeline.retraining.work import next_version
from classmark.pipeline.stages import compose_pipeline
from classmark.pipeline.stages.config import started_from
from classmark.records.registry import RetrainStep
from classmark.registry import Registry
from classmark.storage import locked_folder

pytestmark = pytest.mark.slow  # reason: models are fitted

SMALL = ("model.epochs=1", "evaluate.draws=20", "tracker=csv")
RULES = """\
policy: {least_papers: 50}
replacement: {shadow_papers: 0, percent: 50, rules: {requests: 10, minutes: 0}}
"""
KILLER = """
import os, signal, sys
from classmark.retrain.orders import Orders
step, add = sys.argv.pop(1), Orders.add
def killed(self, state, done, *rest):
    if done == step:
        os.kill(os.getpid(), signal.SIGKILL)
    return add(self, state, done, *rest)
Orders.add = killed
sys.argv[0] = "classmark"
from classmark.__main__ import main
main()
"""


class Home:
    """A registry with a champion, its dataset, new papers, and a folder of orders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.orders, self.registry_path = folder / "orders-of", folder / "registry"

    @property
    def registry(self) -> Registry:
        return Registry.open(self.registry_path)

    @property
    def champion(self) -> str:
        pointer = self.registry.pointer()
        return pointer.bundles[str(pointer.channels.champion)].version

    def words(self, verb: str, *more: str, papers: str = "new.csv") -> list[str]:
        files = ["--folder", self.orders, "--registry", self.registry_path]
        files += ["--dataset", self.folder / "dataset", "--history", self.folder / "none.sqlite"]
        files += ["--rules", self.folder / "rules.yaml"]
        files += ["--papers", self.folder / papers] if papers else []
        return ["retrain", verb, *map(str, files), *more]

    def decide(self, *more: str, papers: str = "new.csv") -> Result:
        return CliRunner().invoke(app, self.words("decide", *more, papers=papers))

    def run(self, *more: str, papers: str = "new.csv") -> Result:
        return CliRunner().invoke(app, self.words("run", *more, *SMALL, papers=papers))

    def order(self) -> dict[str, Any]:
        return json.loads(sorted(self.orders.glob("orders/*/order.json"))[-1].read_bytes())

    def steps(self) -> list[RetrainStep]:
        return [event["step"] for event in self.order()["events"]]


@pytest.fixture(scope="module")
def champion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a champion that was fitted on its dataset, and new papers."""
    folder = tmp_path_factory.mktemp("retraining")
    sample = ("sample.papers=400", "sample.categories=24", "export.name=mine")
    walked = ["pipeline", "run", "--folder", str(folder), *sample, *SMALL]
    assert CliRunner().invoke(app, walked).exit_code == 0
    registry = Registry.open(folder / "registry")
    registry.promote(registry.find("mine@1.0"), who="a test")
    sample_csv(folder / "new.csv", SampleConfig(papers=200, seed=5, categories=24))
    (folder / "rules.yaml").write_text(RULES)
    return folder


@pytest.fixture
def home(champion: Path, tmp_path: Path) -> Home:
    for name in ("registry", "dataset"):
        shutil.copytree(champion / name, tmp_path / name)
    for name in ("new.csv", "rules.yaml"):
        shutil.copy(champion / name, tmp_path / name)
    return Home(tmp_path)


def ask(home: Home) -> None:
    """Let an order come to its canary."""
    ran = home.run("--why", "a test")
    assert ran.exit_code == 0, ran.output
    assert home.steps()[-1] == "canary"


def test_a_decision_starts_nothing(home: Home) -> None:
    said = json.loads(home.decide("--json").stdout)
    assert said["new_papers"] > 100
    assert not home.orders.exists()


def test_new_papers_are_read_from_columns_that_are_named(home: Home) -> None:
    papers = home.folder / "new.csv"
    head, rows = papers.read_text().split("\n", 1)
    papers.write_text(head.replace("title", "Titel").replace("summary", "Text") + "\n" + rows)
    said = home.decide()
    assert said.exit_code == 1
    assert "(--columns title=" in said.stderr
    names = ("--columns", "title=Titel,abstract=Text")
    assert json.loads(home.decide("--json", *names).stdout)["new_papers"] > 100


def test_an_order_comes_to_a_canary_and_is_promoted_with_it(home: Home) -> None:
    ask(home)
    assert home.steps() == [
        *("ordered", "extended", "trained", "exported", "evaluated", "gated", "registered"),
        "canary",
    ]
    pointer = home.registry.pointer()
    assert pointer.canary is not None
    assert pointer.bundles[pointer.canary.candidate].spec == "mine@1.1"
    assert pointer.canary.rules["requests"] == 10
    waiting = home.run()
    assert waiting.exit_code == 0
    assert "in the canary" in waiting.stdout
    home.registry.end_canary("promoted", {"requests": [50, 50]}, who="a service", why="all hold")
    ended = home.run()
    assert ended.exit_code == 0
    assert "promoted  all hold" in ended.stdout
    assert home.champion == "1.1"
    events = home.order()["events"]
    assert events[-1]["facts"]["requests"] == [50, 50]
    trained = next(event for event in events if event["step"] == "trained")
    assert trained["cpu_s"] > 0


def test_an_open_order_needs_no_dataset_to_come_to_its_end(home: Home) -> None:
    ask(home)
    files = ["--folder", str(home.orders), "--registry", str(home.registry_path)]
    files += ["--history", str(home.folder / "none.sqlite")]
    waiting = CliRunner().invoke(app, ["retrain", "run", *files])
    assert waiting.exit_code == 0, waiting.output
    assert "in the canary" in waiting.stdout
    home.registry.end_canary("promoted", {}, who="a service", why="all hold")
    ended = CliRunner().invoke(app, ["retrain", "run", *files])
    assert ended.exit_code == 0, ended.output
    assert "promoted  all hold" in ended.stdout


def test_wrong_keys_are_named_also_if_no_model_is_wanted(home: Home) -> None:
    ran = CliRunner().invoke(app, home.words("run", "model.epoch=1", papers=""))
    assert ran.exit_code == 2
    assert "model.epoch" in ran.stderr
    assert "new papers" not in ran.stdout
    ran = CliRunner().invoke(app, home.words("run", "gate.rules=none.yaml", papers=""))
    assert ran.exit_code == 1
    assert "none.yaml cannot be used" in ran.stderr


def test_the_next_order_extends_the_dataset_of_the_promoted_one(home: Home) -> None:
    ask(home)
    home.registry.end_canary("promoted", {}, who="a service")
    home.run()
    first = sorted(home.orders.glob("orders/*"))[-1]
    digest = load_manifest(first / "dataset").digest
    assert not (first / "bundle").exists(), "the registry has it"
    sample_csv(home.folder / "later.csv", SampleConfig(papers=200, seed=6, categories=24))
    assert home.run("--why", "again", papers="later.csv").exit_code == 0
    second = sorted(home.orders.glob("orders/*"))[-1]
    assert load_manifest(second / "dataset").lineage[-1] == digest
    assert home.order()["events"][0]["facts"]["version"] == "1.2"


def test_a_warm_fit_starts_from_the_run_of_the_last_promoted_model(home: Home) -> None:
    (home.folder / "rules.yaml").write_text(RULES.replace("policy: {", "policy: {start: warm, "))
    ask(home)
    assert "starting from" not in home.run().stderr, "there is no run yet: the first fit is full"
    home.registry.end_canary("promoted", {}, who="a service")
    home.run()
    sample_csv(home.folder / "later.csv", SampleConfig(papers=200, seed=6, categories=24))
    ran = home.run("--why", "again", papers="later.csv")
    assert ran.exit_code == 0, ran.output
    assert "starting from run: 24 known labels" in ran.stderr
    assert "epochs: 3" in ran.stderr, "passes of a warm fit"


def test_a_warm_fit_of_a_kind_that_cannot_start_so_is_refused(home: Home) -> None:
    config = compose_pipeline(["model=cascade", "model.fast=fast", "model.deep=deep"])
    with pytest.raises(InvalidConfig, match="model=cascade cannot start from another run"):
        started_from(config, home.folder)


@pytest.mark.parametrize("outcome", ["rolled_back", "stopped"])
def test_a_canary_that_is_not_promoted_ends_the_order_with_3(home: Home, outcome: Any) -> None:
    ask(home)
    home.registry.end_canary(outcome, {"requests": [9, 9]}, who="a service", why="too slow")
    ended = home.run()
    assert ended.exit_code == 3
    assert "does not take over: too slow" in ended.stderr
    assert home.steps()[-1] == "rolled_back"
    assert home.champion == "1.0"
    kept = sorted(home.orders.glob("orders/*"))[-1]
    assert not (kept / "dataset").exists(), "nothing is built on it"
    assert (kept / "gate" / "report.html").exists()
    decided = home.decide()
    assert "against  cooldown" in decided.stdout


def test_a_model_that_fails_the_gate_is_not_registered(home: Home) -> None:
    rules = home.folder / "gate.yaml"
    rules.write_text("format_version: 1\nmetrics: {minimum: {top_1: 0.999}}\n")
    ran = home.run("--why", "a test", f"gate.rules={rules}")
    assert ran.exit_code == 3
    assert home.steps()[-1] == "refused"
    assert home.order()["events"][-1]["facts"]["by"] == "gate"
    assert len(home.registry.pointer().bundles) == 1
    again = home.run()
    assert again.exit_code == 0, "the order has ended, and nothing asks for another"
    assert "no new model" in again.stdout


def test_a_canary_of_others_is_waited_for(home: Home) -> None:
    other = home.folder / "other"
    ask(home)
    home.registry.end_canary("stopped", {}, who="somebody")
    home.run()
    shutil.rmtree(other, ignore_errors=True)
    digest = home.registry.find("mine@1.1")
    home.registry.start_canary(digest, percent=1, rules={}, who="somebody")
    sample_csv(home.folder / "later.csv", SampleConfig(papers=200, seed=6, categories=24))
    ran = home.run("--why", "again", papers="later.csv")
    assert ran.exit_code == 0
    assert "waiting for the end of the canary" in ran.stderr
    assert home.steps()[-1] == "registered"


def test_a_model_that_somebody_promoted_meanwhile_ends_the_order(home: Home) -> None:
    ask(home)
    home.registry.end_canary("promoted", {}, who="somebody", why="looks good")
    assert home.run().exit_code == 0
    assert home.steps()[-1] == "promoted"


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL")
@pytest.mark.timeout(1200)
def test_a_kill_before_any_step_is_kept_loses_and_repeats_nothing(home: Home) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    steps = ["ordered", "extended", "trained", "exported", "evaluated", "gated", "registered"]
    for step in (*steps, "canary"):
        words = home.words("run", "--why", "a test", *SMALL)
        ran = subprocess.run(
            [sys.executable, "-c", KILLER, step, *words],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            timeout=250,
        )
        assert ran.returncode == -signal.SIGKILL, (step, ran.stderr[-2000:])
    assert home.run().exit_code == 0
    assert home.steps() == [*steps, "canary"]
    actions = [event.action for event in home.registry.events()]
    assert actions == ["create", "add", "promote", "add", "start_canary"]
    assert len(sorted(home.orders.glob("orders/*/order.json"))) == 1


def test_a_step_that_fails_is_repeated_and_given_up_after_three_times(home: Home) -> None:
    words = ("--why", "a test", "model.rate=1e-6", "model.period_weights={nothing: 2}")
    for attempt in range(3):
        ran = home.run(*words)
        assert ran.exit_code == 2, ran.output
        assert "dataset has no such period" in ran.stderr
        assert home.steps().count("failed") == attempt + 1
    assert home.steps()[-1] == "abandoned"
    assert home.run().exit_code == 0


def test_of_two_at_once_one_says_that_the_other_works(home: Home) -> None:
    with locked_folder(home.orders):
        ran = home.run("--why", "a test")
    assert ran.exit_code == 1
    assert "another run is at work" in ran.stderr


def test_an_order_without_new_labels_is_refused_also_for_a_person(home: Home) -> None:
    ran = home.run("--why", "please", papers="")
    assert ran.exit_code == 0
    assert "0 new papers have a label, 50 are needed" in ran.stdout
    assert not list(home.orders.glob("orders/*"))


def test_a_dataset_of_another_taxonomy_is_named(home: Home) -> None:
    manifest = home.folder / "dataset" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"taxonomy": "', '"taxonomy": "old-'))
    ran = home.run("--why", "please")
    assert ran.exit_code == 1
    assert "of the taxonomy" in ran.stderr
    assert not list(home.orders.glob("orders/*"))


def test_a_half_written_parent_is_named(home: Home) -> None:
    (home.folder / "dataset" / "train.parquet").write_bytes(b"PAR1")
    ran = home.run("--why", "please")
    assert ran.exit_code == 1
    assert "train.parquet" in ran.stderr
    assert not list(home.orders.glob("orders/*"))


def test_a_damaged_order_is_named(home: Home) -> None:
    ask(home)
    file = next(home.orders.glob("orders/*/order.json"))
    file.write_text(file.read_text()[:100])
    ran = home.run()
    assert ran.exit_code == 1
    assert "order.json is not an order" in " ".join(ran.stderr.split())


def test_a_registry_without_a_champion_has_nothing_to_replace(home: Home) -> None:
    shutil.rmtree(home.registry_path)
    Registry.create(home.registry_path, who="a test")
    ran = home.decide()
    assert ran.exit_code == ChangeRefused.exit_code
    assert "has no champion that a new model could replace" in ran.stderr


def test_the_status_shows_steps_and_costs(home: Home) -> None:
    ask(home)
    said = CliRunner().invoke(app, ["retrain", "status", "--folder", str(home.orders)])
    assert "mine@1.1  in the canary" in said.stdout
    assert "of 24 CPU-hours in 365 days" in said.stdout
    words = ["retrain", "status", "--folder", str(home.orders), "--json"]
    found = json.loads(CliRunner().invoke(app, words).stdout)
    assert found["orders"][0]["outcome"] is None
    assert 0 < found["spent_hours"] < 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("policy: {cooldown: 3}", "'cooldown' is not a field"),
        ("policy: {budget_hours: 0}", "budget_hours of the policy is 0"),
        ("replace: {}", "'replace' is unknown; it may have policy, feedback, replacement"),
        ("policy: 3", "policy must be a group of keys"),
        ("- a", "it must have groups of keys"),
        ("feedback: {agree: -1}", "agree is -1"),
        ("replacement: {percent: 0}", "percent of the replacement is 0"),
        ("replacement: {rules: {minute: 1}}", "'minute' is not a field"),
        ("policy: {budget_hours: 1, budget_hours: 2}", "'budget_hours' is repeated"),
    ],
)
def test_rules_that_cannot_be_used_are_named(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(text)
    ran = CliRunner().invoke(app, ["retrain", "status", "--rules", str(file)])
    assert ran.exit_code == 2
    assert expected in " ".join(ran.stderr.split())


def test_rules_that_are_left_out_have_their_defaults(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text("replacement: {percent: 10}\n")
    assert read_retrain_rules(file) == RetrainRules(replacement=ReplacePolicy(percent=10))
    assert read_retrain_rules(None) == RetrainRules()


def test_the_how_to_shows_every_rule_with_its_default(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "retrain.md").read_text("utf-8")
    shown = next(part for part in re.findall(r"```yaml\n(.*?)```", page, re.S) if "policy:" in part)
    file = tmp_path / "rules.yaml"
    file.write_text(shown)
    assert read_retrain_rules(file) == RetrainRules()
    for name in asdict(RetrainRules()):
        missing = [key for key in asdict(RetrainRules())[name] if f"{key}:" not in shown]
        assert not missing


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        (["2.0"], "2.1"),
        (["2.0", "2.9", "1.99"], "2.10"),
        (["3"], "3.1"),
        (["1.4.2"], "1.4.3"),
        (["1.0rc1"], "1.1"),
        ([], "0.1"),
    ],
)
def test_the_next_version_is_greater_than_all(versions: list[str], expected: str) -> None:
    assert next_version(versions) == expected
