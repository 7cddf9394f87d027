"""A look at a real journal: what it counts, what it alarms, and what it keeps."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from msgspec import structs
from typer.testing import CliRunner

from bucket_fixtures import bucket, needs_bucket
from classmark import Classifier
from classmark.bundle import find_bundle, load_bundle, write_bundle
from classmark.cli.app import app
from classmark.cli.monitor import options
from classmark.errors import BundleNotFound, InvalidJournal, InvalidWindow, OutputBusy, UsageError
from classmark.journal import Address, JournalConfig
from classmark.journal.writer import writer_for
from classmark.monitor.history import History
from classmark.monitor.look import DEFAULT_NEWEST, LookOptions, look
from classmark.monitor.policy import WatchPolicy
from classmark.pages.drift import drift_page, drift_text
from classmark.records import FeedbackEvent, new_prediction_id
from classmark.records.drift import DriftReport
from classmark.records.prediction import utc_text
from classmark.registry import Registry
from classmark.storage import folder_place
from classmark.wire import ModelRef
from postgres_server import PostgresServer
from watched_journals import START_MS, Keep, Watched

__all__ = ["bucket"]


def _look(watched: Watched, journal: Path, history: History | None = None, **options: Any) -> Any:
    return look(LookOptions(model=str(watched.folder), journal=journal, **options), history)


def test_papers_like_the_reference_raise_no_alarm(watched_model: Watched, keep: Keep) -> None:
    journal = keep(watched_model.events(watched_model.usual[:400]))
    report = _look(watched_model, journal)
    assert report.window is not None
    assert report.window.p_value > 0.01
    assert (report.alarms, report.action) == ((), "none")
    assert report.counts.read == report.counts.compared == report.window.n_window == 400


def test_papers_of_one_field_page_somebody_and_name_the_field(
    watched_model: Watched, keep: Keep
) -> None:
    journal = keep(watched_model.events(watched_model.other))
    report = _look(watched_model, journal)
    field = watched_model.other[0].category_code
    assert report.action == "page"
    assert report.size is not None
    assert report.size.low > 0.2
    assert report.window is not None
    assert f"predicted {field}" in {s.name for s in report.window.shifts if s.p_value <= 0.01}
    here, there = report.categories[str(field)]
    assert here > 0.5 > there
    assert "came from another field" in report.alarms[0].text


def test_feedback_of_30_days_is_the_live_accuracy_of_the_report(
    watched_model: Watched, keep: Keep
) -> None:
    before_ms = START_MS - 40 * 86_400_000
    old = watched_model.events(watched_model.usual[:20], start_ms=before_ms)
    new = watched_model.events(watched_model.usual[20:120])
    journal = keep([*old, *new])
    assert _look(watched_model, journal).live is None
    right = [event.ranked[0][0] for event in new[:10]]
    said = [*right[:7], *(code for code, _ in (event.ranked[1] for event in new[7:10]))]
    keep(
        [
            FeedbackEvent(prediction_id=event.prediction_id, category=code, at_utc=utc_text())
            for event, code in [*zip(new[:10], said, strict=True), *((e, "cs.LG") for e in old)]
        ]
    )
    report = _look(watched_model, journal)
    assert report.live is not None
    assert (report.live.name, report.live.n, report.live.top1.value) == ("30 days", 10, 0.7)
    assert "live accuracy 70.0%" in drift_text(report)
    assert "live accuracy" in drift_page(report)
    assert DriftReport.from_dict(json.loads(json.dumps(report.to_dict()))) == report


def test_every_prediction_of_the_span_is_accounted_for(watched_model: Watched, keep: Keep) -> None:
    events = watched_model.events(watched_model.usual[:200])
    again = watched_model.events(watched_model.usual[:30], start_ms=START_MS + 900_000)
    second = watched_model.events(watched_model.usual[200:220], start_ms=START_MS + 990_000)
    older = [structs.replace(event, features=None) for event in second]
    elsewhere = [
        structs.replace(e, model=type(e.model)("other", "1.0", "f" * 64))
        for e in watched_model.events(watched_model.usual[220:225], start_ms=START_MS + 995_000)
    ]
    report = _look(watched_model, keep([*events, *again, *older, *elsewhere]))
    c = report.counts
    assert (c.read, c.compared, c.repeated, c.without_features) == (250, 200, 30, 20)
    assert c.read == c.compared + c.repeated + c.without_features + c.left_out


def test_the_newest_predictions_or_a_span_are_compared(watched_model: Watched, keep: Keep) -> None:
    journal = keep(watched_model.events(watched_model.usual[:300]))
    newest = _look(watched_model, journal, newest=100)
    assert newest.counts.read == 100
    assert newest.since_utc == utc_text(START_MS + 200_000)
    span = {"since_utc": utc_text(START_MS + 50_000), "until_utc": utc_text(START_MS + 150_000)}
    assert _look(watched_model, journal, **span).counts.read == 100


def test_a_span_of_the_journal_can_take_the_place_of_the_reference(
    watched_model: Watched, keep: Keep
) -> None:
    other = watched_model.other
    half = len(other) // 2
    journal = keep(watched_model.events(other))
    baseline = (utc_text(START_MS), utc_text(START_MS + 1000 * half))
    report = _look(watched_model, journal, since_utc=baseline[1], baseline=baseline)
    assert report.window is not None
    assert report.window.n_reference == half
    assert report.window.p_value > 0.01
    with pytest.raises(InvalidWindow, match=r"has 10 papers of watched, a comparison needs 50"):
        _look(watched_model, journal, baseline=(baseline[0], utc_text(START_MS + 10_000)))


def test_too_few_papers_are_no_alarm_and_the_report_says_how_many_are_needed(
    watched_model: Watched, keep: Keep
) -> None:
    report = _look(watched_model, keep(watched_model.events(watched_model.usual[:20])))
    assert report.window is None
    assert report.action == "none"
    assert report.notes == ("20 papers are too few to compare; 50 are needed, so 30 more.",)


def test_a_client_that_asks_other_papers_is_named_and_only_reported(
    watched_model: Watched, keep: Keep
) -> None:
    usual = watched_model.events(watched_model.usual[:900], client="aaaa")
    other = watched_model.events(
        watched_model.other[:60], start_ms=START_MS + 2_000_000, client="bbbb"
    )
    report = _look(watched_model, keep([*usual, *other]))
    found = {part.part: part for part in report.clients}
    assert set(found) == {"aaaa", "bbbb"}
    assert found["bbbb"].p_value <= 0.01 < found["aaaa"].p_value
    assert found["bbbb"].size.low > 0.1
    alarms = [alarm for alarm in report.alarms if alarm.kind == "client"]
    assert [alarm.action for alarm in alarms] == ["report"]
    assert "bbbb" in alarms[0].text


def _looked_at(history: History, at_utc: str) -> None:
    """Make the last look one of this time: predictions of a test are of the past."""
    report = history.reports()[-1]
    state = history.watched(report.model.digest)
    assert state is not None
    history.add(report, replace(state, watched_until_utc=at_utc))


def test_the_stream_counts_every_prediction_once_however_often_one_looks(
    watched_model: Watched, keep: Keep, tmp_path: Path
) -> None:
    history = History(tmp_path / "monitor.sqlite")
    events = watched_model.events(watched_model.usual[:500])
    journal = keep(events[:200])
    assert _look(watched_model, journal, history).stream.n == 200
    assert _look(watched_model, journal, history).stream.n == 200
    _looked_at(history, events[200].at_utc)
    keep(events[200:])
    parts = _look(watched_model, journal, history).stream
    assert parts.n == 500
    whole = _look(watched_model, journal, History(tmp_path / "other.sqlite"), newest=500).stream
    assert parts.martingale == pytest.approx(whole.martingale)
    assert parts.p_value == pytest.approx(whole.p_value)
    assert [r.counts.read for r in history.reports()] == [200, 200, 200, 500]


def test_a_stream_of_another_field_alarms_until_it_is_begun_again(
    watched_model: Watched, keep: Keep, tmp_path: Path
) -> None:
    history = History(tmp_path / "monitor.sqlite")
    other = watched_model.events(watched_model.other)
    journal = keep(other)
    report = _look(watched_model, journal, history)
    assert report.stream is not None
    assert report.stream.p_value <= 0.01
    assert {alarm.kind for alarm in report.alarms} >= {"window", "stream"}
    usual = watched_model.events(watched_model.usual[:300], start_ms=START_MS + 5_000_000)
    keep(usual)
    assert _look(watched_model, journal, history, newest=300).stream.p_value <= 0.01
    again = _look(watched_model, journal, history, newest=300, restart=True)
    assert again.stream.n == 300
    assert again.alarms == ()


def test_a_clock_that_was_set_back_is_said_and_the_watch_goes_on(
    watched_model: Watched, keep: Keep, tmp_path: Path
) -> None:
    history = History(tmp_path / "monitor.sqlite")
    journal = keep(watched_model.events(watched_model.usual[:100]))
    _look(watched_model, journal, history)
    _looked_at(history, utc_text(round(time.time() * 1000) + 7 * 86_400_000))
    report = _look(watched_model, journal, history)
    assert "set back" in report.notes[-1]
    assert report.stream.n == 100
    assert not any("set back" in note for note in _look(watched_model, journal, history).notes)


def test_a_look_at_predictions_of_this_second_blames_no_clock(
    watched_model: Watched, keep: Keep, tmp_path: Path
) -> None:
    """The demo looks at once at what it has sent."""
    history = History(tmp_path / "monitor.sqlite")
    start_ms = round(time.time() * 1000)
    journal = keep(watched_model.events(watched_model.usual[:60], start_ms=start_ms))
    for _ in range(2):
        report = _look(watched_model, journal, history, newest=60)
        assert not any("set back" in note for note in report.notes)


def test_a_prediction_whose_id_is_of_an_earlier_time_is_watched_once(
    watched_model: Watched, keep: Keep, tmp_path: Path
) -> None:
    """The id of a request with a key begins with the time of its day, or with the client's."""
    history = History(tmp_path / "monitor.sqlite")
    events = watched_model.events(watched_model.usual[:110])
    journal = keep(events[:100])
    assert _look(watched_model, journal, history).stream.n == 100
    _looked_at(history, events[100].at_utc)
    early = new_prediction_id(at_ms=START_MS - 1000)
    keep([structs.replace(events[100], prediction_id=early), *events[101:]])
    assert _look(watched_model, journal, history).stream.n == 110
    assert _look(watched_model, journal, history).stream.n == 110


def test_of_two_monitors_of_one_history_the_second_is_refused(
    watched_model: Watched, keep: Keep, tmp_path: Path
) -> None:
    history = History(tmp_path / "monitor.sqlite")
    journal = keep(watched_model.events(watched_model.usual[:100]))
    report = _look(watched_model, journal, history)
    before = history.watched(report.model.digest)
    assert before is not None
    history.add(report, before)
    with pytest.raises(OutputBusy, match="another monitor has added"):
        history.add(report, before)
    assert len(history.reports()) == 2


def test_a_report_is_read_back_as_it_was(watched_model: Watched, keep: Keep) -> None:
    report = _look(watched_model, keep(watched_model.events(watched_model.other)))
    value = json.loads(json.dumps(report.to_dict()))
    assert DriftReport.from_dict(value) == report
    assert value["action"] == "page"


def test_a_journal_that_cannot_be_read_is_said(
    watched_model: Watched, keep: Keep, tmp_path: Path
) -> None:
    def run(journal: Path) -> str:
        words = ("--history", str(tmp_path / "monitor.sqlite"))
        command = ["monitor", "run", "--model", str(watched_model.folder), *words]
        result = CliRunner().invoke(app, [*command, "--journal", str(journal)])
        assert result.exit_code == 1, result.output
        return result.output

    assert "there is no journal at" in run(tmp_path / "nowhere.sqlite")
    journal = keep(watched_model.events(watched_model.usual[:60]))
    damaged, newer = tmp_path / "damaged.sqlite", tmp_path / "newer.sqlite"
    content = bytearray(journal.read_bytes())
    content[4096 : len(content) // 2] = b"\x55" * (len(content) // 2 - 4096)
    damaged.write_bytes(content)
    assert "it is damaged" in run(damaged)
    newer.write_bytes(journal.read_bytes())
    with closing(sqlite3.connect(newer)) as connection, connection:
        connection.execute("INSERT INTO migrations VALUES ('9999_future', '2030')")
    assert "was written by a newer classmark" in run(newer)


def test_a_journal_of_another_model_says_so(watched_model: Watched, keep: Keep) -> None:
    other = ModelRef("fast", "9.0", "0" * 64)
    events = watched_model.events(watched_model.usual[:60])
    (note,) = _look(watched_model, keep([structs.replace(e, model=other) for e in events])).notes
    assert "has no prediction of" in note


def test_a_model_without_a_reference_is_refused(
    watched_model: Watched, keep: Keep, tmp_path: Path
) -> None:
    bundle = load_bundle(watched_model.folder)
    bare = {n: a for n, a in bundle.arrays.items() if not n.startswith("reference_")}
    write_bundle(tmp_path / "bare-1.0", bundle.manifest, bare)
    journal = keep(watched_model.events(watched_model.usual[:60]))
    with pytest.raises(InvalidWindow, match="carries no reference"):
        look(LookOptions(model=str(tmp_path / "bare-1.0"), journal=journal))


def test_a_file_of_something_else_is_no_history(tmp_path: Path) -> None:
    text, other = tmp_path / "text", tmp_path / "other.sqlite"
    text.write_text("not a database, and long enough to be looked at as one\n" * 40)
    with closing(sqlite3.connect(other)) as connection, connection:
        connection.execute("CREATE TABLE something (a)")
    connection.close()
    for path, words in ((text, "cannot be used"), (other, "is not a history")):
        with pytest.raises(InvalidJournal, match=words):
            History(path).reports()


def test_a_damaged_stream_is_named(watched_model: Watched, keep: Keep, tmp_path: Path) -> None:
    history = History(tmp_path / "monitor.sqlite")
    report = _look(watched_model, keep(watched_model.events(watched_model.usual[:60])), history)
    with closing(sqlite3.connect(history.path)) as connection, connection:
        connection.execute("UPDATE streams SET state = x'00'")
    connection.close()
    with pytest.raises(InvalidJournal, match="damaged stream"):
        history.watched(report.model.digest)


@pytest.mark.parametrize(
    ("share", "action"), [(0.0, "report"), (0.05, "retrain"), (0.19, "retrain"), (0.2, "page")]
)
def test_the_size_decides_what_an_alarm_asks_for(share: float, action: str) -> None:
    assert WatchPolicy().action_of(share) == action


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"alpha": 0}, "alpha of the policy is 0"),
        ({"page_size": 0.01}, "is below retrain_size"),
        ({"most_loss": 2}, "most_loss of the policy is 2"),
    ],
)
def test_a_policy_that_cannot_be_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        WatchPolicy(**values)


def test_a_journal_in_a_database_gives_the_report_of_the_same_journal_in_a_file(
    watched_model: Watched, keep: Keep, postgres: PostgresServer
) -> None:
    events = watched_model.events(watched_model.usual[:150])
    place = Address(postgres.database())
    writer = writer_for(JournalConfig(path=place))
    assert writer.write(events).refused == 0
    writer.close()
    in_file, in_database = (
        _look(watched_model, journal, newest=100) for journal in (keep(events), place)
    )
    assert in_database.counts.read == 100
    assert in_database.window == in_file.window
    assert in_database.size == in_file.size


# --- the command ------------------------------------------------------------------------------


def run(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def place(watched_model: Watched, keep: Keep, tmp_path: Path) -> tuple[Any, ...]:
    journal = keep(watched_model.events(watched_model.usual[:200]))
    return (
        *("--model", watched_model.folder, "--journal", journal),
        *("--history", tmp_path / "monitor.sqlite"),
    )


def test_the_command_prints_a_report_and_keeps_it(place: Any, tmp_path: Path) -> None:
    code, out, err = run("monitor", "run", *place, "--output", tmp_path / "report.json")
    assert (code, err) == (0, "")  # of which cron would send mail
    assert "200 papers compared with 600 validation papers of the model" in out
    assert "nothing is beyond chance" in out
    kept = json.loads((tmp_path / "report.json").read_text())
    assert kept["counts"]["compared"] == 200
    history = ("--history", tmp_path / "monitor.sqlite")
    code, again, _ = run("monitor", "report", *history)
    assert (code, again) == (0, out)
    code, out, _ = run("monitor", "history", *history, "--json")
    assert [r["counts"]["compared"] for r in json.loads(out)] == [200]
    code, out, _ = run("monitor", "history", *history)
    assert "watched@1.0" in out


def test_an_alarm_is_exit_code_3_from_the_action_that_is_asked_for(
    place: Any, watched_model: Watched, keep: Keep
) -> None:
    keep(watched_model.events(watched_model.other, start_ms=START_MS + 9_000_000))
    newest = ("--newest", len(watched_model.other))
    code, out, err = run("monitor", "run", *place, *newest, "--json")
    assert code == 3
    assert json.loads(out)["action"] == "page"
    assert "came from another field" in err
    assert run("monitor", "run", *place, *newest, "--fail-on", "never")[0] == 0
    assert run("monitor", "run", *place, *newest, "--page-size", "1", "--fail-on", "page")[0] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--fail-on", "panic"), "must be one of report, retrain, page, never"),
        (("--baseline", "2026-01-01"), "is not a span"),
        (("--baseline", "2026-02-01..2026-01-01"), "is not a span"),
        (("--since", "soon"), "is not a time"),
        (("--since", "1d", "--until", "2d"), "nothing can be between them"),
        (("--baseline", "soon..2026-01-01"), "is not a time"),
        (("--output", "report.pdf"), "cannot be written"),
        (("--alpha", "0"), "alpha of the policy is 0"),
    ],
)
def test_a_call_that_cannot_work_is_exit_code_2(place: Any, words: Any, message: str) -> None:
    code, _, err = run("monitor", "run", *place, *words)
    assert code == 2
    assert message in err


def test_the_accuracy_is_scored_by_papers_whose_category_is_known(
    place: Any, watched_model: Watched, tmp_path: Path
) -> None:
    papers, known = watched_model.usual[:200], tmp_path / "papers.jsonl"
    lines = [
        {"title": p.title, "abstract": p.abstract, "categories": p.category_code} for p in papers
    ]
    known.write_text("\n".join(map(json.dumps, lines)) + "\n")
    journal = place[2:4]
    code, out, _ = run("monitor", "accuracy", known, *journal, "--json")
    assert code == 0
    found = json.loads(out)
    assert found["n_predictions"] == found["n_harvested"] == 200
    columns = Classifier(watched_model.folder).classify(papers)
    right = [a.ranked[0].code == p.category_code for a, p in zip(columns, papers, strict=True)]
    assert found["overall"]["top1"]["value"] == pytest.approx(np.mean(right))
    code, out, _ = run("monitor", "accuracy", known, *journal)
    assert f"{np.mean(right):.1%}" in out
    code, out, _ = run("monitor", "accuracy", *journal)
    assert "200 not known" in out
    assert "No category is known yet" in out


def test_the_help_states_the_defaults_that_hold() -> None:
    policy = WatchPolicy()
    stated = {
        options.Alpha: policy.alpha,
        options.RetrainSize: policy.retrain_size,
        options.PageSize: policy.page_size,
        options.MostLoss: policy.most_loss,
    }
    for option, value in stated.items():
        assert f"[default: {value:g}]" in get_args(option)[1].help
    assert options.DEFAULT_NEWEST == DEFAULT_NEWEST


def test_an_empty_history_says_what_to_run(tmp_path: Path) -> None:
    for verb, code in (("report", 2), ("history", 0)):
        found = run("monitor", verb, "--history", tmp_path / "none.sqlite")
        assert found[0] == code
        assert "Run: classmark monitor run" in found[2]


def test_the_packaged_model_can_be_watched(keep: Keep, watched_model: Watched) -> None:
    """The reference is not of the digest, so this model has made the predictions of the other."""
    journal = keep(watched_model.events(watched_model.usual[:1]))
    report = look(LookOptions(model=str(find_bundle("fast")), journal=journal))
    assert report.counts.read == 1
    assert "5,000 validation papers" in report.reference
    assert np.isclose(report.alpha, 0.01)


def test_of_a_registry_the_champion_is_watched_whichever_it_is_then(
    watched_model: Watched, keep: Keep, tmp_path: Path
) -> None:
    journal = keep(watched_model.events(watched_model.usual[:100]))
    bundle = load_bundle(watched_model.folder)
    newer = tmp_path / "newer"
    policy = replace(bundle.manifest.policy, set_coverage=0.8)
    manifest = replace(bundle.manifest, version="1.1", policy=policy)
    write_bundle(newer, manifest, bundle.arrays, {"CARD.md": "# watched\n"})
    registry = Registry.create(tmp_path / "registry", who="a test")
    options = LookOptions(registry=registry.path, journal=journal, stream=False)
    with pytest.raises(BundleNotFound, match="no bundle is the champion"):
        look(options)
    for folder, n_compared in ((watched_model.folder, 100), (newer, 0)):
        digest = registry.add(folder, who="a test")
        registry.promote(digest, who="a test", why="to watch it", force=True)
        report = look(options)
        assert (report.model.digest, report.counts.compared) == (digest, n_compared)
    named = look(replace(options, model="watched@1.0"))
    assert (named.model.version, named.counts.compared) == ("1.0", 100)


@needs_bucket
def test_a_history_in_a_bucket_is_continued_on_another_machine(
    watched_model: Watched, keep: Keep, bucket: Any
) -> None:
    place = folder_place("gs://papers/monitor/history.sqlite")
    papers = watched_model.events(watched_model.usual[:300])
    journal = keep(papers[:150])
    first = History(place)
    assert first.reports() == []
    _look(watched_model, journal, first)
    keep(papers[150:])
    second = History(place)
    report = _look(watched_model, journal, second)
    assert len(History(place).reports()) == 2
    assert report.stream is not None
    state = second.watched(report.model.digest)
    assert state is not None
    assert state.looks == 2
    with pytest.raises(OutputBusy, match="another monitor has added to gs://papers/monitor/hist"):
        _look(watched_model, journal, first)
    assert len(History(place).reports()) == 2
    assert len([r for r in (first, second) if r.path.exists()]) == 2
