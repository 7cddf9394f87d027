from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classmark.errors import EmptyEvaluation, InvalidGates
from classmark.pipeline.gate import read_goldens, read_rules_file, record_goldens
from classmark.pipeline.gate.goldens import replay_goldens
from classmark.records import GoldenAnswer, GoldenAnswers, Paper
from classmark.runtime import Classifier

RULES = "format_version: 1\nmetrics:\n  minimum: {top_1: 0.5}\n"


def written(folder: Path, text: str) -> Path:
    file = folder / "rules.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_the_rules_of_the_package_ask_for_all_but_golden_answers() -> None:
    assert read_rules_file(None).left_out == ("goldens",)


def test_rules_are_yaml_or_json_and_paths_begin_beside_them(tmp_path: Path) -> None:
    value = {
        "format_version": 1,
        "robustness": {"gates": "robust.json"},
        "goldens": {"file": "sub/golden.json"},
        "fit": {"trained_on": ["data", "/elsewhere"]},
    }
    rules = read_rules_file(written(tmp_path, json.dumps(value)))
    assert rules.robustness is not None
    assert rules.goldens is not None
    assert rules.fit is not None
    assert rules.robustness.gates == tmp_path / "robust.json"
    assert rules.goldens.file == tmp_path / "sub" / "golden.json"
    assert rules.fit.trained_on == (tmp_path / "data", Path("/elsewhere"))
    assert read_rules_file(written(tmp_path, "\ufeff" + RULES)).metrics is not None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "its format_version is None"),
        ("{", "it is not YAML"),
        ("- 1", "its format_version is None"),
        (RULES + "metrics:\n  maximum: {ece: 0.1}\n", r"'metrics' is repeated \(line 4\)"),
        (
            "format_version: 1\nmetrics:\n  minimum: {top_1: 0.5, top_1: 0.1}\n",
            r"'top_1' is repeated \(line 3\)",
        ),
        ("format_version: 1\nmetrics: &a {minimum: {top_1: 0.5}}\nperiods: *a\n", "has an alias"),
        ("format_version: 1\nfit: {2020-13-45: 1}\n", "cannot be used"),
        ("format_version: 1\nfit: {on: 1}\n", "the key True of fit is not a text"),
        ("!!python/object:os.system {}", "it is not YAML"),
        ("[" * 5000, "cannot be used"),
        ("a: " + "x" * 1_000_001, "1,000,004 bytes, at most 1,000,000"),
    ],
    ids=lambda text: ascii(text)[:24],
)
def test_rules_that_cannot_be_read_are_one_error_that_names_the_file(
    tmp_path: Path, text: str, words: str
) -> None:
    file = written(tmp_path, text)
    with pytest.raises(InvalidGates, match=words) as refused:
        read_rules_file(file)
    assert str(refused.value).startswith(f"the rules {file} cannot be used")
    assert str(refused.value).count("\n") == 0


def test_rules_that_are_missing_or_not_utf8_are_the_same_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidGates, match="No such file"):
        read_rules_file(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes("größe: 1".encode("latin-1"))
    with pytest.raises(InvalidGates, match="can't decode"):
        read_rules_file(tmp_path / "latin.yaml")


@given(st.text(max_size=60) | st.text("abc:{}[]&*!-\n #\"'", max_size=40))
def test_any_text_is_refused_with_one_error(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rules.yaml"
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        with pytest.raises(InvalidGates):
            read_rules_file(file)


@pytest.fixture(scope="module")
def fast() -> Classifier:
    return Classifier("fast")


PAPERS = [
    Paper(id="1", title="Colouring sparse graphs", abstract="We colour graphs.", authors=("A. B",)),
    Paper(title="Branes", abstract="We study branes in string theory."),
]


def test_a_model_gives_its_own_golden_answers_again(fast: Classifier, tmp_path: Path) -> None:
    goldens = record_goldens(fast, PAPERS)
    file = tmp_path / "golden.json"
    file.write_text(json.dumps(goldens.to_dict()))
    assert "A. B" not in file.read_text()
    assert read_goldens(file) == goldens
    assert [answer.id for answer in goldens.answers] == ["1", "2"]
    replay = replay_goldens(fast, read_goldens(file))
    assert (replay.share, replay.other) == (1.0, ())
    assert replay.change < 1e-6


def test_answers_that_differ_are_counted_and_named(fast: Classifier) -> None:
    goldens = record_goldens(fast, PAPERS)
    first, second = goldens.answers
    other = GoldenAnswer(
        id="9",
        title=first.title,
        abstract=first.abstract,
        primary="no.such",
        first="no.such",
        probability=0.75,
    )
    replay = replay_goldens(fast, GoldenAnswers(model=goldens.model, answers=(other, second)))
    assert (replay.share, replay.other) == (0.5, ("9",))
    assert replay.change == 0.75


def test_golden_answers_that_cannot_be_used_name_the_file(fast: Classifier, tmp_path: Path) -> None:
    file = tmp_path / "golden.json"
    for text in ("", "[]", '{"format_version": 1}', "[" * 100_000):
        file.write_text(text)
        with pytest.raises(InvalidGates, match=f"golden answers {file} cannot be used"):
            read_goldens(file)
    with pytest.raises(InvalidGates, match="No such file"):
        read_goldens(tmp_path / "none.json")
    with pytest.raises(EmptyEvaluation, match="no papers to answer"):
        record_goldens(fast, [])
