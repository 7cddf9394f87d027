"""What labels add to a look: which of them count, each once, and what they show or prove."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs
from typer.testing import CliRunner

from classmark import Paper
from classmark.cli.app import app
from classmark.journal import JournalConfig
from classmark.journal.writer import FileWriter
from classmark.monitor.history import History
from classmark.monitor.labels import LabelSources
from classmark.monitor.look import LookOptions, look
from classmark.records import FeedbackEvent, PredictionEvent
from classmark.records.drift import DriftReport, LabelledAccuracy, LabelState
from classmark.registry import Registry
from watched_journals import START_MS, Keep, Watched

LATER = "2026-11-20T12:00:00.000Z"
N = 200


def labels(path: Path, papers: Sequence[Paper], *, wrong: bool = False) -> Path:
    """Write papers with their categories, or with those of the paper before each."""
    codes = [paper.category_code for paper in papers]
    given = np.roll(codes, 1).tolist() if wrong else codes
    rows = [
        {"title": p.title, "abstract": p.abstract, "categories": code}
        for p, code in zip(papers, given, strict=True)
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def say(journal: Path, events: Sequence[PredictionEvent], codes: Sequence[str | None]) -> None:
    """Add feedback on predictions."""
    writer = FileWriter(JournalConfig(path=journal))
    words = [
        FeedbackEvent(prediction_id=event.prediction_id, category=str(code), at_utc=LATER)
        for event, code in zip(events, codes, strict=True)
    ]
    assert writer.write(words).refused == 0
    writer.close()


def look_at(
    watched: Watched,
    journal: Path,
    history: History | None = None,
    *,
    files: tuple[Path, ...] = (),
    keys: tuple[str, ...] = (),
    **options: Any,
) -> DriftReport:
    sources = LabelSources(files=files, feedback_of=keys)
    chosen = LookOptions(model=str(watched.folder), journal=journal, labels=sources, **options)
    return look(chosen, history)


def by_labels(report: DriftReport) -> tuple[LabelledAccuracy, LabelState]:
    assert report.labelled is not None
    assert report.labelled.watch is not None
    return report.labelled, report.labelled.watch


def truth_of(events: Sequence[PredictionEvent], papers: Sequence[Paper]) -> float:
    pairs = zip(events, papers, strict=True)
    return float(np.mean([e.ranked[0][0] == p.category_code for e, p in pairs]))


def test_labels_of_papers_are_joined_with_the_estimates_for_all(
    watched_model: Watched, keep: Keep, tmp_path: Path
) -> None:
    papers = watched_model.usual[:400]
    events = watched_model.events(papers)
    known = labels(tmp_path / "known.jsonl", papers[::2])
    report = look_at(watched_model, keep(events), files=(known,))
    assert report.labelled is not None
    assert (report.labelled.sources, report.labelled.labels) == ("1 file of papers", 200)
    assert report.labelled.watch is None  # no history, no watch
    found = report.labelled.estimate
    assert found is not None
    assert (found.papers, found.labels) == (400, 200)
    assert found.low <= truth_of(events, papers) <= found.high
    assert found.low < found.value < found.high


def test_few_labels_are_counted_and_not_joined(
    watched_model: Watched, keep: Keep, tmp_path: Path
) -> None:
    papers = watched_model.usual[:N]
    known = labels(tmp_path / "known.jsonl", papers[:19])
    report = look_at(watched_model, keep(watched_model.events(papers)), files=(known,))
    assert report.labelled == LabelledAccuracy(sources="1 file of papers", labels=19)


def test_a_label_counts_once_however_often_one_looks_and_a_paper_is_asked(
    watched_model: Watched, keep: Keep, tmp_path: Path
) -> None:
    papers, history = watched_model.usual[:N], History(tmp_path / "monitor.sqlite")
    known = tmp_path / "known.jsonl"
    journal = keep(watched_model.events(papers))
    labels(known, papers[50:100])
    for _ in range(2):
        _, watch = by_labels(look_at(watched_model, journal, history, files=(known,)))
        assert watch.n == 50
    keep(watched_model.events(papers, start_ms=START_MS + 900_000))  # all are asked again
    labels(known, papers[:120])  # older ones become known later
    _, parts = by_labels(look_at(watched_model, journal, history, files=(known,)))
    assert parts.n == 120
    other = History(tmp_path / "other.sqlite")
    _, whole = by_labels(look_at(watched_model, journal, other, files=(known,)))
    assert (whole.n, whole.right) == (parts.n, parts.right)
    assert whole.low < whole.right / whole.n < whole.high


def test_labels_that_prove_a_loss_ask_for_a_new_model(
    watched_model: Watched, keep: Keep, tmp_path: Path
) -> None:
    papers, history = watched_model.usual[:N], History(tmp_path / "monitor.sqlite")
    known = labels(tmp_path / "known.jsonl", papers)
    journal = keep(watched_model.events(papers))
    calm = look_at(watched_model, journal, history, files=(known,))
    assert by_labels(calm)[1].p_value > 0.01
    assert calm.alarms == ()
    later = watched_model.usual[N : 3 * N]
    keep(watched_model.events(later, start_ms=START_MS + 900_000))
    wrong = labels(tmp_path / "wrong.jsonl", later, wrong=True)
    report = look_at(watched_model, journal, history, files=(known, wrong))
    assert by_labels(report)[1].p_value <= 0.01
    (alarm,) = [alarm for alarm in report.alarms if alarm.kind == "accuracy"]
    assert alarm.action == "retrain"
    assert "is tolerated" in alarm.text
    assert DriftReport.from_dict(json.loads(json.dumps(report.to_dict()))) == report
    again = look_at(watched_model, journal, history, files=(known,), newest=N, restart=True)
    assert by_labels(again)[1].n == 0  # of these papers there is no label
    assert again.action == "none"


def test_feedback_is_no_sample_unless_somebody_says_so(
    watched_model: Watched, keep: Keep, tmp_path: Path
) -> None:
    papers, history = watched_model.usual[:N], History(tmp_path / "monitor.sqlite")
    events = watched_model.events(papers)
    wrong = [e for e, p in zip(events, papers, strict=True) if e.ranked[0][0] != p.category_code]
    right = {e.prediction_id: p.category_code for e, p in zip(events, papers, strict=True)}
    journal = keep(events)
    say(journal, wrong, [right[event.prediction_id] for event in wrong])
    report = look_at(watched_model, journal, history)
    assert report.labelled is None
    assert report.alarms == ()
    (note,) = report.notes
    assert note.startswith(f"{len(wrong)} papers of the window have feedback that is not counted")
    assert "not a random sample" in note
    said = look_at(watched_model, journal, history, keys=("all",))
    assert by_labels(said)[0].sources == "feedback of all"
    assert (by_labels(said)[1].n, by_labels(said)[1].right) == (len(wrong), 0)
    assert said.notes == ()


def test_the_feedback_of_named_keys_counts_and_that_of_others_does_not(
    watched_model: Watched, keep: Keep, tmp_path: Path
) -> None:
    papers, history = watched_model.usual[:100], History(tmp_path / "monitor.sqlite")
    events = [
        structs.replace(event, client="sample" if i < 60 else "web")
        for i, event in enumerate(watched_model.events(papers))
    ]
    journal = keep(events)
    say(journal, events, [paper.category_code for paper in papers])
    report = look_at(watched_model, journal, history, keys=("sample",))
    found, watch = by_labels(report)
    assert (found.labels, watch.n) == (60, 60)
    assert report.notes[0].startswith("40 papers of the window have feedback that is not counted")


def test_an_answer_counts_with_its_authors_and_the_watch_by_the_text_alone(
    watched_model: Watched, keep: Keep, tmp_path: Path
) -> None:
    papers, history = watched_model.usual[:N], History(tmp_path / "monitor.sqlite")
    events = [
        structs.replace(event, ranked=((str(paper.category_code), 0.9),), used_authors=True)
        for event, paper in zip(watched_model.events(papers), papers, strict=True)
    ]
    known = labels(tmp_path / "known.jsonl", papers)
    report = look_at(watched_model, keep(events), history, files=(known,))
    found, watch = by_labels(report)
    assert found.estimate is not None
    assert found.estimate.value == 1.0  # authors have put every answer right
    assert watch.right / watch.n == pytest.approx(
        truth_of(watched_model.events(papers), papers), abs=0.02
    )


def test_another_baseline_begins_the_stream_again_and_not_the_labels(
    watched_model: Watched, keep: Keep, tmp_path: Path
) -> None:
    papers, history = watched_model.usual[:N], History(tmp_path / "monitor.sqlite")
    events = watched_model.events(papers)
    known = labels(tmp_path / "known.jsonl", papers)
    journal = keep(events)
    before = by_labels(look_at(watched_model, journal, history, files=(known,)))[1]
    baseline = (events[0].at_utc, events[100].at_utc)
    options = {"baseline": baseline, "since_utc": baseline[1]}
    report = look_at(watched_model, journal, history, files=(known,), **options)
    assert by_labels(report)[1] == before
    assert report.stream is not None
    assert report.stream.n == 100


def test_a_history_and_a_report_of_before_labels_are_read(
    watched_model: Watched, keep: Keep, tmp_path: Path
) -> None:
    papers, history = watched_model.usual[:N], History(tmp_path / "monitor.sqlite")
    journal = keep(watched_model.events(papers))
    old = look_at(watched_model, journal, history)
    value = json.loads(json.dumps(old.to_dict()))
    assert value.pop("labelled") is None
    assert DriftReport.from_dict(value) == old
    kept = history.watched(old.model.digest)
    assert kept is not None
    assert kept.labels is None  # as a watch without labels has always been kept
    known = labels(tmp_path / "known.jsonl", papers)
    report = look_at(watched_model, journal, history, files=(known,))
    assert by_labels(report)[1].n == N
    assert report.stream is not None
    assert report.stream.n == N


# --- the commands -----------------------------------------------------------------------------


def run(*words: object, **environment: str) -> tuple[int, str, str]:
    result = CliRunner(env=environment).invoke(app, [str(word) for word in words])
    return result.exit_code, result.stdout, result.stderr


def test_the_command_shows_labels_in_text_and_on_the_page(
    watched_model: Watched, keep: Keep, tmp_path: Path
) -> None:
    papers, page = watched_model.usual[:N], tmp_path / "drift.html"
    known = labels(tmp_path / "known.jsonl", papers[:80])
    code, out, _ = run(
        *("monitor", "run", "--model", watched_model.folder),
        *("--journal", keep(watched_model.events(papers)), "--labels", known),
        *("--history", tmp_path / "monitor.sqlite", "--html", page),
    )
    assert code == 0
    for words in (
        "80 papers of the window have a label (1 file of papers)",
        "accuracy of the answers by these and all estimates",
        "80 labels since",
        "is tolerated, p = ",
        "estimated accuracy of the text alone",
    ):
        assert words in out
    shown = page.read_text()
    assert "Accuracy by labels" in shown
    assert "drawn at random" in shown


def test_the_scores_of_known_papers_are_joined_where_the_model_is_installed(
    watched_model: Watched, keep: Keep, tmp_path: Path
) -> None:
    papers = watched_model.usual[:N]
    events = watched_model.events(papers)
    known = labels(tmp_path / "known.jsonl", papers[:100])
    words = ("monitor", "accuracy", known, "--journal", keep(events))
    home = {"CLASSMARK_HOME": str(tmp_path / "home")}
    code, out, err = run(*words, **home)
    assert code == 0
    assert "however often you look" in out
    assert "is not random" in out
    assert "not joined with estimates" in err
    assert "estimates for all" not in out
    registry = Registry.create(tmp_path / "registry", who="a test")
    registry.add(watched_model.folder, who="a test")
    kept = run(*words, "--registry", registry.path, **home)
    assert (kept[0], kept[2]) == (0, "")
    shutil.copytree(watched_model.folder, tmp_path / "home" / "models" / "watched-1.0")
    code, out, err = run(*words, **home)
    assert (code, err) == (0, "")
    assert out == kept[1]
    assert f"by 100 labels and the estimates for all {N} papers" in out
    found = json.loads(run(*words, "--json", **home)[1])
    low, high = found["lasting"]
    assert low < found["overall"]["top1"]["value"] < high
    assert found["joined"]["labels"] == 100
    assert found["joined"]["low"] <= truth_of(events, papers) <= found["joined"]["high"]
    assert json.loads(run(*words[:2], *words[3:], "--json", **home)[1])["joined"] is None


def test_labels_are_read_from_columns_that_are_named(
    watched_model: Watched, keep: Keep, tmp_path: Path
) -> None:
    papers, known = watched_model.usual[:N], tmp_path / "known.csv"
    with known.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["Titel", "Text", "Fach"])
        rows.writerows((p.title, p.abstract, p.category_code) for p in papers[:30])
    journal = ("--journal", keep(watched_model.events(papers)))
    look = ("--model", watched_model.folder, "--history", tmp_path / "monitor.sqlite")
    names = ("--columns", "title=Titel,abstract=Text,category_code=Fach")
    commands = (("accuracy", known, *journal), ("run", "--labels", known, *journal, *look))
    for words in commands:
        code, _, err = run("monitor", *words)
        assert code == 1
        assert "columns seen: Titel, Text, Fach. Name yours with --columns title=" in err
    found = [json.loads(run("monitor", *words, *names, "--json")[1]) for words in commands]
    assert (found[0]["n_harvested"], found[1]["labelled"]["labels"]) == (30, 30)


def test_labels_of_which_no_record_can_be_read_are_an_error(
    watched_model: Watched, keep: Keep, tmp_path: Path
) -> None:
    known = tmp_path / "known.jsonl"
    known.write_text('{"Titel": "Sieves"}\n' * 2)
    journal = keep(watched_model.events(watched_model.usual[:N]))
    code, out, err = run("monitor", "accuracy", known, "--journal", journal)
    assert (code, out) == (1, "")
    assert "none of the 2 records of" in err
    assert "keys seen: Titel. Name yours with --columns title=" in err
