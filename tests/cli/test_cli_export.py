"""``classmark export``: a bundle of a run, its report, and errors before any work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from classmark import Classifier
from classmark.cli.app import app
from classmark.cli.export import split_name
from classmark.dataset import SampleConfig, sample_csv, sample_dataset
from classmark.errors import UnreadableSource, UsageError
from classmark.evaluation.robustness import read_non_papers
from classmark.records import EvaluationReport


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("offline")
    sample_dataset(folder / "dataset", SampleConfig(papers=400, categories=24))
    paths = (f"dataset.path={folder / 'dataset'}", f"runs_dir={folder / 'runs'}")
    return Path(run("train", "experiment=debug", *paths).stdout.strip())


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    lines = [
        {"text": "two eggs and flour", "split": "fit"},
        {"text": "ring me at home"},
        {"text": "kept for the measurement", "split": "measure"},
    ]
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.mark.slow
def test_every_option_reaches_the_bundle(run_folder: Path, texts: Path, tmp_path: Path) -> None:
    output, report, about = tmp_path / "mine-2.1", tmp_path / "r.json", tmp_path / "about.md"
    about.write_text("## Use\n\nFor a test only.", encoding="utf-8")
    options = ("--report", report, "--about", about, "--non-papers", texts)
    result = run("export", run_folder, "--output", output, *options)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == str(output)
    assert "quantising" in result.stderr
    model = Classifier(output).model
    assert (model.name, model.version) == ("mine", "2.1")
    assert "For a test only." in (output / "CARD.md").read_text(encoding="utf-8")
    seen = json.loads((output / "bundle.json").read_text(encoding="utf-8"))
    assert seen["policy"]["scope_weights"] != [0.0, 0.0, 0.0]
    other_texts = seen["provenance"]["other_texts"]
    assert (other_texts["source"], other_texts["fitted"]) == ("texts.jsonl", 2)
    measured = EvaluationReport.from_dict(json.loads(report.read_text(encoding="utf-8")))
    assert measured.split == "test"
    assert measured.generated
    assert measured.command == f"classmark export {run_folder} --output {output}"
    by_code = {c.code: c for c in measured.categories}
    for ranked in Classifier(output).classify("a paper", top=99).ranked:
        category = by_code.get(ranked.code)
        if category is None:
            assert ranked.reliability is None
            continue
        assert ranked.reliability is not None
        assert ranked.reliability.papers == category.predicted
        assert ranked.reliability.precision == pytest.approx(category.precision, abs=0.0005)


@pytest.mark.slow
def test_the_columns_of_the_dataset_reach_the_bundle(tmp_path: Path) -> None:
    sample_csv(tmp_path / "papers.csv", SampleConfig(papers=400, categories=24))
    header, rows = (tmp_path / "papers.csv").read_text(encoding="utf-8").split("\n", 1)
    for usual, own in (("title", "Titel"), ("summary", "Text"), ("category_code", "Fach")):
        header = ",".join(own if name == usual else name for name in header.split(","))
    (tmp_path / "eigene.csv").write_text(f"{header}\n{rows}", encoding="utf-8")
    columns = {"title": "Titel", "abstract": "Text", "category_code": "Fach"}
    option = ",".join(f"{field}={column}" for field, column in columns.items())
    dataset = ("--labels", "free", "--columns", option, "--output", tmp_path / "own")
    assert run("dataset", "build", tmp_path / "eigene.csv", *dataset).exit_code == 0
    paths = (f"dataset.path={tmp_path / 'own'}", f"runs_dir={tmp_path / 'runs'}")
    trained = run("train", "experiment=debug", *paths).stdout.strip()
    model = tmp_path / "own-1.0"
    assert run("export", trained, "--output", model).exit_code == 0
    seen = json.loads((model / "bundle.json").read_text(encoding="utf-8"))
    assert seen["columns"] == columns
    (tmp_path / "new.csv").write_text("Titel;Text\nGraphs;We colour graphs\n", encoding="utf-8")
    for options in ((), ("--workers", "1", "--output", tmp_path / "out.jsonl")):
        result = run("classify", tmp_path / "new.csv", "--model", model, "--jsonl", *options)
        assert result.exit_code == 0, result.stderr
    assert len((tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()) == 1


@pytest.mark.slow
def test_json_tells_size_and_numbers_and_a_bundle_is_replaced_on_request(
    run_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "mine-1.0"
    seen = json.loads(run("export", run_folder, "--output", output, "--json").stdout)
    assert seen["bundle"] == str(output)
    unlisted = ("bundle.json", "measured.json")
    files = [p for p in output.rglob("*") if p.is_file() and p.name not in unlisted]
    assert seen["bytes"] == sum(p.stat().st_size for p in files)
    assert 0 <= seen["metrics"]["all"]["top_1"] <= 1
    again = run("export", run_folder, "--output", output)
    assert again.exit_code == 1
    assert "mine-1.0" in again.stderr
    assert run("export", run_folder, "--output", output, "--overwrite").exit_code == 0


@pytest.mark.slow
def test_other_texts_can_be_left_out(run_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "mine-1.0"
    assert run("export", run_folder, "--output", output, "--non-papers", "none").exit_code == 0
    seen = json.loads((output / "bundle.json").read_text(encoding="utf-8"))
    assert seen["policy"]["scope_weights"] == [0.0, 0.0, 0.0]
    assert seen["provenance"]["other_texts"]["fitted"] == 0
    assert "| out of scope | nothing is: " in (output / "CARD.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_file_of_other_texts_that_is_not_there_is_named(run_folder: Path, tmp_path: Path) -> None:
    output, missing = tmp_path / "mine-1.0", tmp_path / "no.jsonl"
    result = run("export", run_folder, "--output", output, "--non-papers", missing)
    assert result.exit_code == 1
    assert "no.jsonl" in result.stderr
    assert not output.exists()


@pytest.mark.parametrize("name", ["mine", "mine-", "-1.0", "mine-v1", "1-1.0", "mine-1.0."])
def test_the_output_must_name_a_version(run_folder: Path, tmp_path: Path, name: str) -> None:
    result = run("export", run_folder, "--output", tmp_path / name)
    assert result.exit_code == 2
    assert "must end in NAME-VERSION, e.g. models/mine-1.0." in " ".join(result.stderr.split())
    assert not (tmp_path / name).exists()


def test_name_and_version_are_split_at_the_last_hyphen() -> None:
    assert split_name(Path("models/my-fast_model-1.0.2")) == ("my-fast_model", "1.0.2")
    with pytest.raises(UsageError, match=r"--output 'models/mine' must end"):
        split_name(Path("models/mine"))


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    result = run("export", tmp_path, "--output", tmp_path / "mine-1.0")
    assert result.exit_code == 1
    assert "is not a finished run" in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("format_", "reason"),
    [
        ("hf", "Transformers has no class for a linear model over hashed words."),
        ("onnx", "ONNX has no operator that gives the characters of a text"),
        ("gguf", "--format 'gguf' must be one of bundle, hf, onnx, bento."),
    ],
)
def test_a_format_that_a_linear_model_cannot_have_is_refused_with_the_reason(
    run_folder: Path, tmp_path: Path, format_: str, reason: str
) -> None:
    output = tmp_path / "mine-1.0"
    result = run("export", run_folder, "--output", output, "--format", format_)
    assert result.exit_code == 2
    assert reason in " ".join(result.stderr.split())
    assert "quantising" not in result.stderr
    assert not output.exists()


@pytest.mark.parametrize("words", [("--prune", "layers=1"), ("--quantize", "int8")])
def test_a_linear_model_is_neither_pruned_nor_quantised_again(
    run_folder: Path, tmp_path: Path, words: tuple[str, str]
) -> None:
    result = run("export", run_folder, "--output", tmp_path / "mine-1.0", *words)
    assert result.exit_code == 2
    reason = "--prune and --quantize of a linear run: its rows have two bits each"
    assert reason in " ".join(result.stderr.split())
    assert not (tmp_path / "mine-1.0").exists()


def test_a_model_without_a_threshold_is_given_none(run_folder: Path, tmp_path: Path) -> None:
    result = run("export", run_folder, "--output", tmp_path / "mine-1.0", "--threshold", "0.3")
    assert result.exit_code == 2
    reason = "--threshold of a linear run: it has no such threshold"
    assert reason in " ".join(result.stderr.split())
    assert not (tmp_path / "mine-1.0").exists()


def test_texts_with_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text('{"text": "two eggs"}\n', encoding="utf-8-sig")
    assert read_non_papers(file).texts == ("two eggs",)


def test_texts_that_are_kept_for_measuring_are_not_fitted_on(texts: Path) -> None:
    found = read_non_papers(texts)
    assert found.texts == ("two eggs and flour", "ring me at home")
    assert found.held_out == ("kept for the measurement",)
    assert found.source == "texts.jsonl"


@pytest.mark.parametrize("line", ["{", "[]", "3", "null", '{"body": "x"}', ""])
def test_a_bad_line_is_named_with_its_number(texts: Path, line: str) -> None:
    with texts.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    with pytest.raises(UnreadableSource, match=r"texts.jsonl line 4 is not a JSON object with"):
        read_non_papers(texts)


@pytest.mark.parametrize("option", ["--non-papers", "--about"])
@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_an_unreadable_text_file_ends_it_before_any_work(
    run_folder: Path, tmp_path: Path, option: str, content: bytes | None
) -> None:
    if content:
        (tmp_path / "t").write_bytes(content)
    output = tmp_path / "mine-1.0"
    result = run("export", run_folder, "--output", output, option, tmp_path / "t")
    assert result.exit_code == 1
    assert "Give a UTF-8 text file." in " ".join(result.stderr.split())
    assert "quantising" not in result.stderr
    assert not output.exists()
