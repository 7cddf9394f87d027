"""Several trackers at once: none stops a run, each failure is one line."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from start_of_a_run import START

from classmark.errors import FitStopped, InvalidConfig, TrackerDown
from classmark.records import Silent
from classmark.tracking import (
    CsvTracker,
    MlflowStore,
    MlflowTracker,
    RunInfo,
    Status,
    TrackerConfig,
    Trackers,
    csvfile,
    describe_hardware,
    make_trackers,
    read_tracker,
)
from classmark.tracking import (
    tracker as tracker_module,
)
from recording import Recording

RUN = RunInfo(name="linear-1", start=START, config={"seed": 7})
GIVEN: dict[str, Any] = {
    "mlflow": "never",
    "mlflow_uri": "",
    "wandb": "never",
    "wandb_url": "",
    "experiment": "classmark",
    "patience_s": 5,
}


class Notes:
    """A tracker that notes its calls, and fails in one of them."""

    name = "notes"

    def __init__(self, fails_in: str = "", reason: str = "no\nroom") -> None:
        self.calls: list[str] = []
        self._fails_in, self._reason = fails_in, reason

    def start(self, run: RunInfo) -> None:
        self._note("start", run.name)

    def metrics(self, values: Mapping[str, float], *, step: int, epoch: int | None = None) -> None:
        self._note("metrics", f"{dict(values)} {step} {epoch}")

    def artifact(self, path: Path, folder: str = "") -> None:
        self._note("artifact", f"{path.name} {folder}")

    def figure(self, name: str, svg_or_png: Path) -> None:
        self._note("figure", f"{name} {svg_or_png.name}")

    def model(self, folder: Path, files: Sequence[Path]) -> None:
        self._note("model", f"{folder} {len(files)}")

    def finish(self, status: Status) -> None:
        self._note("finish", status)

    def _note(self, call: str, what: str) -> None:
        if call == self._fails_in:
            raise RuntimeError(self._reason)
        self.calls.append(f"{call} {what}")


def use(trackers: Trackers) -> None:
    trackers.start(RUN)
    trackers.metrics({"loss": 0.5}, step=1, epoch=2)
    trackers.artifact(Path("a.json"), "x")
    trackers.figure("reliability", Path("r.svg"))
    trackers.model(Path("run"), [Path("run/w.npy")])
    trackers.finish("finished")


@pytest.mark.parametrize("fails_in", ["start", "metrics", "artifact", "figure", "model", "finish"])
def test_a_tracker_that_fails_is_named_once_and_the_others_keep_everything(fails_in: str) -> None:
    recording = Recording()
    bad, good = Notes(fails_in), Notes()
    use(Trackers([bad, good], recording))
    assert recording.warnings == ["warning: notes is down (no room); the run goes on without it."]
    assert good.calls == [
        "start linear-1",
        "metrics {'loss': 0.5} 1 2",
        "artifact a.json x",
        "figure reliability r.svg",
        "model run 1",
        "finish finished",
    ]
    assert len(bad.calls) == [call.split()[0] for call in good.calls].index(fails_in)


def test_an_error_without_words_is_named_by_its_kind() -> None:
    recording = Recording()
    use(Trackers([Notes("start", "")], recording))
    assert "notes is down (RuntimeError)" in recording.warnings[0]


def test_a_warning_that_cannot_be_written_stops_nothing_either() -> None:
    class Broken(Silent):
        def warn(self, line: str) -> None:
            raise BrokenPipeError(line)

    good = Notes()
    use(Trackers([Notes("start"), good], Broken()))
    assert len(good.calls) == 6


def test_a_tracker_that_stops_a_fit_is_the_only_one_whose_error_passes() -> None:
    class Stops(Notes):
        def metrics(
            self, values: Mapping[str, float], *, step: int, epoch: int | None = None
        ) -> None:
            raise FitStopped("others do better")

    good = Notes()
    with pytest.raises(FitStopped, match="others do better"):
        use(Trackers([good, Stops()]))
    assert good.calls[-1] == "metrics {'loss': 0.5} 1 2"


def read_csv(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_lines_of_a_folder_that_is_made_at_the_end_are_written_at_the_end(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "run"
    tracker = CsvTracker(folder)
    use(Trackers([tracker]))
    assert not folder.exists()
    folder.mkdir()
    tracker.finish("finished")
    assert read_csv(folder) == [{"name": "loss", "step": "1", "epoch": "2", "value": "0.5"}]
    assert tracker.name == str(folder / "metrics.csv")


def test_a_folder_that_is_there_gets_lines_on_the_way_and_a_run_that_goes_on_adds_to_them(
    tmp_path: Path,
) -> None:
    first = CsvTracker(tmp_path)
    for step in range(csvfile._LINES_AT_ONCE):
        first.metrics({"loss": 1 / 3}, step=step)
    assert len(read_csv(tmp_path)) == csvfile._LINES_AT_ONCE
    assert float(read_csv(tmp_path)[0]["value"]) == 1 / 3
    second = CsvTracker(tmp_path)
    second.metrics({"loss": 0.25}, step=500)
    second.finish("finished")
    assert read_csv(tmp_path)[-1] == {"name": "loss", "step": "500", "epoch": "", "value": "0.25"}
    assert len(read_csv(tmp_path)) == csvfile._LINES_AT_ONCE + 1


def test_lines_that_wait_for_a_folder_are_bounded(tmp_path: Path) -> None:
    tracker = CsvTracker(tmp_path / "never")
    many = dict.fromkeys(map(str, range(csvfile._MAX_LINES)), 0.0)
    tracker.metrics(many, step=0)
    with pytest.raises(TrackerDown, match=r"100,000 lines wait for the folder"):
        tracker.metrics({"loss": 0.0}, step=1)


def test_the_configuration_says_who_keeps_a_run() -> None:
    assert read_tracker({"tracker": GIVEN}) == TrackerConfig(**GIVEN)
    assert not read_tracker({"tracker": GIVEN}).with_mlflow


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"mlflow": "x"}, r"tracker\.mlflow is 'x', it must be one of never, auto, always\."),
        ({"wandb": "on"}, r"tracker\.wandb is 'on', it must be one of never, auto, online, off"),
        ({"wandb": 3}, r"tracker\.wandb must be a word, got 3"),
        ({"wandb_url": "http://api:secret@host"}, r"^(?!.*secret).*wandb_url .*WANDB_API_KEY"),
        ({"experiment": " "}, r"tracker\.experiment is empty"),
        ({"mlflow_uri": "http://me:secret@host"}, r"^(?!.*secret).*MLFLOW_TRACKING_PASSWORD"),
        ({"patience_s": 0}, r"tracker\.patience_s is 0, it must be above 0"),
        ({"patience_s": True}, r"tracker\.patience_s must be a number, got True"),
        ({"patience_s": float("nan")}, r"tracker\.patience_s is nan"),
        ({"color": 1}, r"tracker\.color is unknown"),
    ],
)
def test_a_wrong_value_is_refused_by_name(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidConfig, match=reason):
        read_tracker({"tracker": {**GIVEN, **change}})


def test_a_group_that_is_none_or_lacks_a_key_is_refused() -> None:
    with pytest.raises(InvalidConfig, match=r"tracker must be a group of keys, got 'csv'"):
        read_tracker({"tracker": "csv"})
    with pytest.raises(InvalidConfig, match=r"tracker\.wandb is missing"):
        read_tracker({"tracker": {k: v for k, v in GIVEN.items() if k != "wandb"}})


def test_a_run_of_the_csv_tracker_starts_nothing_else(tmp_path: Path) -> None:
    use(make_trackers(TrackerConfig(**GIVEN), tmp_path, pytest.fail))
    assert [path.name for path in tmp_path.rglob("*")] == ["metrics.csv"]


def test_a_tracker_that_was_never_started_says_so(tmp_path: Path) -> None:
    tracker = MlflowTracker(MlflowStore.beside(tmp_path, "x"), 5)
    with pytest.raises(TrackerDown, match="never started"):
        tracker.finish("finished")


def test_the_machine_is_told_without_its_name() -> None:
    seen = describe_hardware()
    assert seen["cores"] == str(os.cpu_count())
    assert seen["cpu"]
    assert os.uname().nodename not in seen.values()


def test_a_machine_without_a_list_of_processors_is_told_by_its_kind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tracker_module, "_CPUINFO", tmp_path / "absent")
    assert describe_hardware()["cpu"]


def test_torch_is_asked_for_its_devices_only_where_it_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert "gpu" not in describe_hardware()
    cuda = SimpleNamespace(
        is_available=lambda: True, device_count=lambda: 2, get_device_name=lambda i: f"card {i}"
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))  # type: ignore[arg-type]
    assert describe_hardware()["gpu"] == "card 0, card 1"
