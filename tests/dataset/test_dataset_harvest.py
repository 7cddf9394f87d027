"""Harvests from a real OAI-PMH server: incremental, resumed, polite, whatever goes wrong."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classmark.dataset import Harvest, HarvestConfig, harvest
from classmark.dataset.config import Patience
from classmark.dataset.download import pages
from classmark.errors import (
    CheckpointCorrupt,
    DownloadFailed,
    InvalidConfig,
    OutputBusy,
    StorageFailed,
    UnreadableSource,
    UsageError,
)
from classmark.papers import read_papers
from classmark.records import Paper
from classmark.storage import locked_folder
from oai_server import Archive, Entry, harvestable
from recording import Recording

QUICK = Patience(timeout_s=20.0, attempts=3, wait_s=0.0)
IMPATIENT = Patience(timeout_s=0.2, attempts=2, wait_s=0.0)
FIVE = [Entry(n, f"2024-11-{10 + n}", f"Sieves, part {n}") for n in range(1, 6)]
EMPTY = {"title": " ", "abstract": ""}


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    monkeypatch.setenv("no_proxy", "*")
    with harvestable() as archive:
        archive.entries = list(FIVE)
        yield archive


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "harvest"


def run(archive: Archive, output: Path, patience: Patience = QUICK, **options: Any) -> Harvest:
    options = {"endpoint": archive.address, "pause_s": 0.0, **options}
    progress = options.pop("progress", Recording())
    config = HarvestConfig(output=output, **options)
    return harvest(config, patience=patience, progress=progress)


def lines(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "papers.jsonl").read_text().splitlines()]


def titles(output: Path) -> dict[str, str]:
    return {line["id"]: line["title"] for line in lines(output)}


def counted(done: Harvest) -> tuple[int, ...]:
    return (done.new, done.updated, done.unchanged, done.deleted, done.unreadable)


# --- what a harvest brings ------------------------------------------------------------------------


def test_every_page_is_taken_and_the_papers_are_read_like_any_file(
    archive: Archive, out: Path
) -> None:
    done = run(archive, out, set="cs", since="2024-11-01")
    assert (done.pages, done.requests, done.records, done.papers) == (3, 3, 5, 5)
    papers = list(read_papers(done.papers_file))
    assert papers[0] == Paper(
        id="2401.00001",
        title="Sieves, part 1",
        abstract="We sieve graphs.",
        category_code="cs.LG",
        categories=("cs.LG", "stat.ML"),
        published_date="2024-01-02",
        updated_date="2024-02-03",
        authors=("Ada Sieve",),
    )
    assert archive.requests[0] == {
        "verb": "ListRecords",
        "metadataPrefix": "arXiv",
        "set": "cs",
        "from": "2024-11-01",
    }
    assert archive.requests[1].keys() == {"verb", "resumptionToken"}
    assert archive.headers[0]["User-Agent"].startswith("classmark/")


def test_the_next_harvest_asks_from_the_day_before_the_newest_record(
    archive: Archive, out: Path
) -> None:
    first = run(archive, out)
    assert first.complete_until == "2024-11-15"
    archive.entries[1] = replace(archive.entries[1], datestamp="2024-11-16", title="Revised")
    archive.entries[2] = Entry(3, "2024-11-16")
    archive.entries += [Entry(6, "2024-11-17", "New"), Entry(7, "2024-11-17")]
    second = run(archive, out)
    assert second.since == "2024-11-14"
    # Parts 4 and 5 lie in the overlap; a record that was never here and is deleted is noted.
    assert counted(second) == (1, 1, 2, 2, 0)
    assert (second.papers, second.papers_deleted) == (5, 2)
    assert titles(out)["2401.00002"] == "Revised"
    assert "2401.00003" not in titles(out)
    assert second.complete_until == "2024-11-17"


def test_the_counts_of_every_harvest_add_up(archive: Archive, out: Path) -> None:
    archive.entries.append(Entry(6, "2024-11-16", **EMPTY))
    for _ in range(2):
        done = run(archive, out, since="2024-11-01")
        assert sum(counted(done)) == done.records
    assert counted(done) == (0, 0, 5, 0, 1)


def test_a_harvest_of_nothing_is_empty_and_stays_where_it_was(archive: Archive, out: Path) -> None:
    archive.entries = []
    assert (run(archive, out).papers, lines(out)) == (0, [])
    archive.entries = list(FIVE)
    assert run(archive, out).new == 5
    archive.entries = []
    assert run(archive, out).complete_until == "2024-11-15"
    assert len(lines(out)) == 5


@pytest.mark.parametrize(
    ("server_date", "until", "complete"),
    [
        ("2024-11-28T00:00:00Z", "2024-11-20", "2024-11-20"),
        ("2024-11-28T00:00:00Z", None, "2024-11-15"),
        ("2024-11-13T00:00:00Z", None, "2024-11-13"),  # it changed its clock, or lies
        ("yesterday", None, "2024-11-15"),
        ("0001-01-01T00:00:00Z", None, "0001-01-01"),
    ],
)
def test_no_clock_makes_the_next_harvest_leave_days_out(
    archive: Archive, out: Path, server_date: str, until: str | None, complete: str
) -> None:
    archive.date = server_date
    assert run(archive, out, until=until).complete_until == complete
    assert run(archive, out, until=until).complete_until == complete


def test_a_record_from_the_future_does_not_end_all_harvests(archive: Archive, out: Path) -> None:
    archive.date = "2999-01-01T00:00:00Z"
    archive.entries.append(Entry(6, "2998-01-01", "Too early"))
    done = run(archive, out)
    assert done.complete_until == datetime.now(UTC).date().isoformat()
    assert done.papers == 6


def test_an_older_version_does_not_replace_a_newer_one(archive: Archive, out: Path) -> None:
    archive.entries = [
        Entry(1, "2024-11-12", "Newer"),
        Entry(1, "2024-11-11", "Older"),
        Entry(2, "2024-11-12"),
        Entry(2, "2024-11-11", "Before it was deleted"),
    ]
    done = run(archive, out)
    assert titles(out) == {"2401.00001": "Newer"}
    assert counted(done) == (1, 0, 2, 1, 0)


def test_records_that_cannot_be_read_are_counted_and_named(archive: Archive, out: Path) -> None:
    archive.entries[1] = replace(archive.entries[1], **EMPTY)
    progress = Recording()
    done = run(archive, out, progress=progress)
    assert (done.unreadable, done.papers) == (1, 4)
    (warning,) = progress.warnings
    assert warning.startswith("not readable: oai:arXiv.org:2401.00002: ")


def test_a_server_that_announces_another_number_is_reported(archive: Archive, out: Path) -> None:
    archive.announced = 7
    progress = Recording()
    assert run(archive, out, progress=progress).papers == 5
    assert progress.warnings == ["the server announced 7 records and sent 5."]


# --- options that contradict what is there --------------------------------------------------------


def test_another_archive_set_or_format_needs_another_folder(archive: Archive, out: Path) -> None:
    run(archive, out)
    with pytest.raises(UsageError, match=r"--set \(none\), not math\. Choose another --output"):
        run(archive, out, set="math")
    with pytest.raises(UsageError, match="--metadata arXiv, not oai_dc"):
        run(archive, out, metadata="oai_dc")


def test_a_harvest_that_brought_nothing_leaves_the_choice_open(archive: Archive, out: Path) -> None:
    archive.faults = ["error cannotDisseminateFormat"]
    with pytest.raises(DownloadFailed, match="Choose another --metadata"):
        run(archive, out, metadata="oai")
    assert run(archive, out, metadata="arXiv").new == 5


def test_days_that_would_be_left_out_are_refused(archive: Archive, out: Path) -> None:
    run(archive, out)
    with pytest.raises(UsageError, match="would leave out the days after 2024-11-15"):
        run(archive, out, since="2024-11-17")
    assert run(archive, out, since="2024-11-16").records == 0
    with pytest.raises(UsageError, match="complete until 2024-11-15, which is after --until"):
        run(archive, out, until="2024-11-01")
    assert run(archive, out, since="2024-11-11", until="2024-11-12").unchanged == 2


def test_a_window_in_work_keeps_its_first_day_when_the_last_one_changes(
    archive: Archive, out: Path
) -> None:
    archive.faults = ["", "html"]
    with pytest.raises(DownloadFailed):
        run(archive, out, since="2024-11-11")
    assert run(archive, out, until="2024-11-14").papers == 4
    assert archive.requests[2]["from"] == "2024-11-11"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"since": "2024-13-01"}, "is not a date. Write YYYY-MM-DD"),
        ({"since": "2026-02-02", "until": "2026-02-01"}, "is after --until"),
        ({"metadata": "a b"}, "is not a name of OAI-PMH"),
        ({"pause_s": -1.0}, "--pause is -1.0"),
        ({"endpoint": "ftp://host/oai"}, "is not a valid address"),
        ({"endpoint": "http://u:p@host/oai"}, "password"),
    ],
)
def test_options_that_cannot_work_are_refused_before_any_request(
    archive: Archive, out: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises((InvalidConfig, UsageError), match=words):
        run(archive, out, **options)
    assert archive.requests == []


def test_two_harvests_into_one_folder_do_not_mix(archive: Archive, out: Path) -> None:
    with locked_folder(out), pytest.raises(OutputBusy):
        run(archive, out)


@pytest.mark.parametrize("damage", [b"no database at all", None])
def test_a_damaged_state_is_an_error_that_says_what_to_do(
    archive: Archive, out: Path, damage: bytes | None
) -> None:
    run(archive, out)
    path = out / "harvest.sqlite"
    if damage is not None:
        path.write_bytes(damage * 200)
    else:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE harvest SET state = '{\"endpoint\": 3}'")
        connection.close()
    with pytest.raises(CheckpointCorrupt, match=r"is damaged .* harvest again"):
        run(archive, out)


def test_a_state_that_cannot_be_written_is_an_error_of_the_disk(
    archive: Archive, out: Path
) -> None:
    (out / "harvest.sqlite").mkdir(parents=True)
    with pytest.raises(StorageFailed, match=r"cannot write .*harvest\.sqlite: .*another output"):
        run(archive, out)


def test_the_state_of_a_newer_classmark_is_left_alone(archive: Archive, out: Path) -> None:
    run(archive, out)
    with closing(sqlite3.connect(out / "harvest.sqlite")) as connection, connection:
        connection.execute("PRAGMA user_version = 9")
    connection.close()
    with pytest.raises(CheckpointCorrupt, match="has format 9, this classmark reads 1"):
        run(archive, out)


# --- faults that pass -----------------------------------------------------------------------------

PASSING = [
    "status 503",
    "status 429",
    "status 500",
    "cut 0",
    "cut 60",
    "cutquietly 60",
    "reset",
    "body empty",
    "packed gzip",
    "expired",
]


@pytest.mark.parametrize("fault", PASSING)
@pytest.mark.parametrize("packed", [False, True])
def test_faults_that_pass_change_nothing(
    archive: Archive, out: Path, fault: str, packed: bool
) -> None:
    archive.packed = packed
    archive.faults = ["", fault]
    done = run(archive, out)
    assert titles(out) == {entry.id: entry.title for entry in FIVE}
    assert done.restarts == (fault == "expired")


def test_a_server_that_falls_silent_is_asked_again(archive: Archive, out: Path) -> None:
    archive.faults = ["stall"]
    assert run(archive, out, IMPATIENT).papers == 5


def test_a_page_that_drips_is_given_up(
    archive: Archive, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "_SLOWEST_PAGE", 0.0)
    with pytest.raises(DownloadFailed, match="sends its page too slowly"):
        run(archive, out)


def test_requests_have_a_pause_between_them(archive: Archive, out: Path) -> None:
    run(archive, out, pause_s=0.15)
    gaps = [b - a for a, b in zip(archive.times, archive.times[1:], strict=False)]
    assert len(gaps) == 2
    assert min(gaps) >= 0.15


@pytest.mark.parametrize("kind", ["seconds", "date"])
def test_a_server_that_is_busy_is_left_alone_as_long_as_it_asks(
    archive: Archive, out: Path, kind: str
) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    archive.retry_after = "1" if kind == "seconds" else soon
    archive.faults = ["status 503"]
    run(archive, out)
    waited = archive.times[1] - archive.times[0]
    assert 0.9 <= waited < 15


def test_a_server_that_asks_for_hours_ends_the_harvest_with_a_word(
    archive: Archive, out: Path
) -> None:
    archive.retry_after = "7200"
    archive.faults = ["", "status 503"]
    with pytest.raises(
        DownloadFailed, match=r"asks to wait 120 minutes.* 2 records are kept: run the same"
    ):
        run(archive, out)
    assert not (out / "papers.jsonl").exists()
    assert run(archive, out).records == 3


def test_a_server_that_fails_again_and_again_is_given_up(archive: Archive, out: Path) -> None:
    archive.faults = ["status 503"] * 3
    with pytest.raises(DownloadFailed, match=r"is unavailable \(HTTP 503\)"):
        run(archive, out)
    assert len(archive.requests) == QUICK.attempts


# --- lies and attacks -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        ("body bomb", UnreadableSource, "document type definition"),
        ("body deep", UnreadableSource, "nests elements more than"),
        ("body other", UnreadableSource, "root is 'feed', not OAI-PMH"),
        ("body nothing", UnreadableSource, "without a list of records"),
        ("html", DownloadFailed, "answered with a web page"),
        ("packed br", DownloadFailed, "compressed its answer as 'br'"),
        ("status 404", DownloadFailed, "HTTP 404"),
        ("error badArgument", DownloadFailed, r"badArgument: because\. Check --from"),
        ("error badArgument 422", DownloadFailed, r"badArgument: because\. Check --from"),
        ("error cannotDisseminateFormat", DownloadFailed, "Choose another --metadata"),
        ("error noSetHierarchy", DownloadFailed, "Leave --set out"),
        ("error badResumptionToken", DownloadFailed, "badResumptionToken"),
        ("to http://other.invalid/oai", DownloadFailed, "another host, http://other.invalid/oai"),
    ],
)
def test_what_is_no_page_is_refused_at_once(
    archive: Archive, out: Path, fault: str, error: type[Exception], words: str
) -> None:
    archive.faults = [fault]
    with pytest.raises(error, match=words):
        run(archive, out)
    assert len(archive.requests) == 1


def test_redirects_within_the_host_are_followed(archive: Archive, out: Path) -> None:
    archive.faults = ["to /oai2?verb=ListRecords"]
    assert run(archive, out).papers == 5


@pytest.mark.parametrize("kind", ["application/xml", "text/plain", "application/octet-stream"])
def test_the_content_decides_not_its_type(archive: Archive, out: Path, kind: str) -> None:
    archive.faults = [f"untyped {kind}"]
    assert run(archive, out).papers == 5


def test_a_page_that_unpacks_to_more_than_the_bound_is_refused(
    archive: Archive, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "MAX_PAGE_BYTES", 1 << 20)
    archive.faults = ["large 2"]
    with pytest.raises(DownloadFailed, match="a page of more than 1,048,576 bytes"):
        run(archive, out)
    archive.faults, archive.entries = [], [Entry(1, "2024-11-11", "x" * (2 << 20))]
    with pytest.raises(DownloadFailed, match="a page of more than 1,048,576 bytes"):
        run(archive, out)


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (["0||9999"], "a resumption token that it had given before"),
        (["0||9999", "00||9999"], "a resumption token that it had given before"),
        ([f"{'0' * n}||9999" for n in range(1, 40)], "10 pages in a row without a record"),
        (["0" * 5000], "a resumption token of 5,000 characters"),
    ],
)
def test_lists_without_an_end_are_noticed(
    archive: Archive, out: Path, tokens: list[str], words: str
) -> None:
    archive.answer = (
        lambda query: archive.page(  # type: ignore[method-assign]
            FIVE[:2], tokens[(len(archive.requests) - 1) % len(tokens)], 5
        )
    )
    with pytest.raises(DownloadFailed, match=f"{words}.*would never end"):
        run(archive, out)


def test_tokens_that_always_expire_end_the_harvest(archive: Archive, out: Path) -> None:
    archive.faults = ["", "expired"] * 9
    with pytest.raises(DownloadFailed, match="let 4 resumption tokens expire"):
        run(archive, out)
    archive.faults = []
    assert run(archive, out).papers == 5


def test_a_format_of_which_nothing_can_be_read_ends_at_the_first_page(
    archive: Archive, out: Path
) -> None:
    archive.entries = [replace(entry, **EMPTY) for entry in FIVE]
    with pytest.raises(UnreadableSource, match=r"none of the 2 records.*Choose another --metadata"):
        run(archive, out)


def test_an_address_where_nobody_listens_is_not_tried_again(out: Path) -> None:
    nobody = Archive(address="http://127.0.0.1:9/oai")
    with pytest.raises(DownloadFailed, match="cannot be reached"):
        run(nobody, out)


# --- whatever happens, in whatever order ----------------------------------------------------------

days = st.integers(10, 28).map(lambda day: f"2024-11-{day}")
entries = st.lists(
    st.builds(Entry, st.integers(1, 12), days, st.sampled_from(["", "Sieves", "Graphs & <more>"])),
    max_size=20,
)


@pytest.fixture(scope="module")
def shared() -> Iterator[Archive]:
    with pytest.MonkeyPatch.context() as patch, harvestable() as archive:
        patch.setenv("no_proxy", "*")
        yield archive


@pytest.mark.slow  # a hundred harvests
@settings(max_examples=40, deadline=None)
@given(
    entries=entries,
    page_size=st.integers(1, 4),
    faults=st.lists(
        st.sampled_from(["", *PASSING, "body bomb", "html", "status 404"]), max_size=12
    ),
    packed=st.booleans(),
)
def test_whatever_fails_the_papers_are_those_of_a_server_without_faults(
    shared: Archive, entries: list[Entry], page_size: int, faults: list[str], packed: bool
) -> None:
    shared.entries, shared.page_size, shared.packed = entries, page_size, packed
    with TemporaryDirectory() as folder:
        shared.faults = []
        run(shared, Path(folder, "calm"))
        shared.faults = list(faults)
        while True:
            try:
                run(shared, Path(folder, "stormy"))
            except (DownloadFailed, UnreadableSource):
                continue
            break
        assert lines(Path(folder, "stormy")) == lines(Path(folder, "calm"))
        assert sorted(titles(Path(folder, "calm"))) == sorted(
            entry.id for entry in _newest(entries).values() if entry.title
        )


def _newest(entries: list[Entry]) -> dict[int, Entry]:
    newest: dict[int, Entry] = {}
    for entry in entries:
        if entry.number not in newest or newest[entry.number].datestamp <= entry.datestamp:
            newest[entry.number] = entry
    return newest
