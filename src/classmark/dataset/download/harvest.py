"""Harvests an archive over OAI-PMH: window after window, page after page, into a file of papers.

A window is a span of days. Its pages are kept one by one with the token of the next, so that a
killed harvest goes on from there; an expired token begins the window again, and no record is twice
in the file, because records are kept by their identifiers. The next harvest begins where the last
complete window ended, with some days of overlap.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from classmark.dataset.config import HarvestConfig, Patience
from classmark.dataset.download.download import plain_address
from classmark.dataset.download.harvested import (
    PAPERS_FILE,
    Harvested,
    HarvestState,
    Window,
)
from classmark.dataset.download.pages import PageServer
from classmark.dataset.download.transfer import shown
from classmark.errors import DownloadFailed, UnreadableSource, UsageError
from classmark.papers.files.oai import OaiPage
from classmark.records import SILENT, Progress
from classmark.storage import atomic_file, locked_folder

MAX_FRUITLESS_PAGES = 10
"""So many pages in a row without a record that is new to the pass mean that the list has no end."""
MAX_TOKEN_CHARS = 4000
_SHOWN_PROBLEMS = 5
_DAY_CHARS = len("2026-11-28")
_REMEDIES = {
    "badArgument": "Check --from, --until and --set.",
    "cannotDisseminateFormat": "Choose another --metadata; every archive has oai_dc.",
    "noSetHierarchy": "Leave --set out: the archive has no sets.",
}


@dataclass(frozen=True, kw_only=True)
class Harvest:
    """What a harvest brought; ``records`` is the sum of the five counts after it.

    Attributes:
        papers_file: file of all papers harvested so far, as JSON lines.
        since: first day asked for, None for the beginning.
        complete_until: day from which, less the overlap, the next harvest goes on.
        requests: sent, the failed ones too.
        pages: taken.
        restarts: how often the window was begun again, because a token had expired.
        records: that came.
        new: papers that no earlier page had.
        updated: papers of which an older version was kept.
        unchanged: records that were kept already, or are older than what is kept.
        deleted: records that the archive has deleted since.
        unreadable: records without a paper that can be read.
        papers: papers in the file.
        papers_deleted: records that are known to be deleted.
    """

    papers_file: Path
    since: str | None
    complete_until: str | None
    requests: int
    pages: int
    restarts: int
    records: int
    new: int
    updated: int
    unchanged: int
    deleted: int
    unreadable: int
    papers: int
    papers_deleted: int


def harvest(
    config: HarvestConfig, *, patience: Patience | None = None, progress: Progress = SILENT
) -> Harvest:
    """Harvest what an archive has added and changed since the last harvest.

    Args:
        config: what and where to.
        patience: timeouts and retries.
        progress: of the records; records that cannot be read are warnings.

    Raises:
        UsageError: the folder holds another harvest, or the days leave a gap.
        DownloadFailed: the server refuses, fails or never ends; what was taken is kept.
        UnreadableSource: it answers with something else than OAI-PMH, or with nothing readable.
        OutputBusy: another harvest is at work in the folder.
        CheckpointCorrupt: the state in the folder is damaged.
        StorageFailed: it cannot be written.
    """
    endpoint = plain_address(config.endpoint)
    new = HarvestState(endpoint=endpoint, metadata=config.metadata, set=config.set)
    with locked_folder(config.output), Harvested.open(config.output, new) as kept:
        if not kept.state.passes:  # no page was ever taken: what was asked for was a mistake
            kept.save(new)
        _check_same(kept.state, new, config.output)
        window = _window(kept.state, config)
        server = PageServer(endpoint, patience or Patience(), config.pause_s)
        run = _Run(kept, server, progress, max_restarts=(patience or Patience()).attempts)
        run.take_window(window)
        _write_papers(kept, config.output, progress)
        return run.summary(config.output / PAPERS_FILE, window.since)


def _check_same(state: HarvestState, asked: HarvestState, folder: Path) -> None:
    for name in ("endpoint", "metadata", "set"):
        there, wanted = getattr(state, name), getattr(asked, name)
        if there != wanted:
            raise UsageError(
                f"{folder} holds a harvest with --{name} {there or '(none)'}, not "
                f"{wanted or '(none)'}. Choose another --output, or the same --{name}."
            )


def _window(state: HarvestState, config: HarvestConfig) -> Window:
    """Return the window to resume, or a new one.

    Raises:
        UsageError: days would be left out, or there is none to ask for.
    """
    old, complete = state.window, state.complete_until
    if old is not None and config.since in (None, old.since) and config.until == old.until:
        return old
    since = config.since
    if since is None and complete is not None:
        since = _shifted(complete, -config.overlap_days)
    elif since is None and old is not None:
        since = old.since
    if complete is not None and since is not None and since > _shifted(complete, 1):
        raise UsageError(
            f"--from {since} would leave out the days after {complete}, up to which the harvest "
            "is complete. Leave --from out, or choose another --output."
        )
    if since is not None and config.until is not None and since > config.until:
        raise UsageError(
            f"the harvest is complete until {complete}, which is after --until {config.until}. "
            "Give --from to harvest earlier days again."
        )
    return Window(since=since, until=config.until, number=state.passes + 1)


class _Run:
    """One call: takes the pages of a window, and counts."""

    def __init__(
        self, kept: Harvested, server: PageServer, progress: Progress, *, max_restarts: int
    ) -> None:
        self._kept = kept
        self._server = server
        self._progress = progress
        self._max_restarts = max_restarts
        self._counts: Counter[str] = Counter()
        self._fruitless = 0
        self._n_warned = 0

    def take_window(self, window: Window) -> None:
        """Take all pages of a window that are still to come."""
        self._progress.step("harvesting", done=window.records, share=_share(window))
        following: Window | None = window
        try:
            while following is not None:
                window = following
                page = self._server.ask(self._query(window))
                following = self._after(window, page)
        except DownloadFailed as error:
            raise DownloadFailed(f"{error}{self._kept_words()}") from error

    def _query(self, window: Window) -> dict[str, str]:
        if window.token is not None:
            return {"verb": "ListRecords", "resumptionToken": window.token}
        state = self._kept.state
        query = {
            "metadataPrefix": state.metadata,
            "set": state.set,
            "from": window.since,
            "until": window.until,
        }
        return {"verb": "ListRecords", **{key: value for key, value in query.items() if value}}

    def _after(self, window: Window, page: OaiPage) -> Window | None:
        """Keep a page; return the window with the page that follows, None after the last one."""
        if page.error_code:
            return self._after_error(window, page)
        self._check_page(page)
        seen = _seen(window, page)
        state = replace(self._kept.state, passes=window.number, window=seen)
        state = state if page.token else _completed(state, seen)
        counts = self._kept.add(page.records, state)
        self._count(counts, page, seen)
        return seen if page.token else None

    def _check_page(self, page: OaiPage) -> None:
        """Refuse a page with which the harvest would not end, or would not advance."""
        where = self._kept.state.endpoint
        if page.token and self._kept.knows_token(page.token):
            raise _endless(where, "gave a resumption token that it had given before")
        if len(page.token) > MAX_TOKEN_CHARS:
            raise _endless(where, f"gave a resumption token of {len(page.token):,} characters")
        problems = [record.problem for record in page.records if record.problem]
        if problems and len(problems) == len(page.records) and not any(self._kept.sizes()):
            raise UnreadableSource(
                f"none of the {len(problems):,} records of {shown(where)} can be read (the first: "
                f"{problems[0]}). Choose another --metadata."
            )

    def _after_error(self, window: Window, page: OaiPage) -> Window | None:
        """Return what follows an error of OAI-PMH.

        Raises:
            DownloadFailed: nothing does.
        """
        state, code = self._kept.state, page.error_code
        if window.token is None and code == "noRecordsMatch":
            seen = _seen(window, page)
            self._kept.save(_completed(replace(state, passes=window.number), seen))
            return None
        expired = window.token is not None and code in ("badResumptionToken", "noRecordsMatch")
        if not expired:
            raise DownloadFailed(
                f"{shown(state.endpoint)} answered {code}: {page.error_message[:200] or '-'}. "
                f"{_REMEDIES.get(code, 'Check the endpoint and the options.')}"
            )
        self._counts["restarts"] += 1
        if self._counts["restarts"] > self._max_restarts:
            raise DownloadFailed(
                f"{shown(state.endpoint)} let {self._counts['restarts']} resumption tokens expire. "
                "Harvest fewer days at once with --until."
            )
        again = Window(since=window.since, until=window.until, number=window.number + 1)
        self._kept.save(replace(state, passes=again.number, window=again))
        return again

    def _count(self, counts: Counter[str], page: OaiPage, seen: Window) -> None:
        self._counts.update(counts, pages=1, records=len(page.records))
        self._progress.advance(len(page.records), share=_share(seen) or None)
        for record in page.records:
            if record.problem and self._n_warned < _SHOWN_PROBLEMS:
                self._n_warned += 1
                self._progress.warn(f"not readable: {record.problem}")
        if not page.token and seen.announced not in (None, seen.records):
            self._progress.warn(
                f"the server announced {seen.announced:,} records and sent {seen.records:,}."
            )
        self._fruitless = 0 if counts["first_seen"] else self._fruitless + 1
        if page.token and self._fruitless >= MAX_FRUITLESS_PAGES:
            what = f"sent {self._fruitless} pages in a row without a record that is new"
            raise _endless(self._kept.state.endpoint, what)

    def _kept_words(self) -> str:
        n = self._counts["records"]
        return f" {n:,} records are kept: run the same command to resume." if n else ""

    def summary(self, papers_file: Path, since: str | None) -> Harvest:
        """Return what this call brought."""
        n_papers, n_deleted = self._kept.sizes()
        counts = self._counts
        return Harvest(
            papers_file=papers_file,
            since=since,
            complete_until=self._kept.state.complete_until,
            requests=self._server.requests,
            pages=counts["pages"],
            restarts=counts["restarts"],
            records=counts["records"],
            new=counts["new"],
            updated=counts["updated"],
            unchanged=counts["unchanged"],
            deleted=counts["deleted"],
            unreadable=counts["unreadable"],
            papers=n_papers,
            papers_deleted=n_deleted,
        )


def _write_papers(kept: Harvested, folder: Path, progress: Progress) -> None:
    """Replace the file of papers, unless it holds them already."""
    path = folder / PAPERS_FILE
    if kept.state.is_written and path.is_file():
        return
    progress.step("writing")
    with atomic_file(path) as file:
        for line in kept.papers():
            file.write(f"{line}\n".encode())
    kept.save(replace(kept.state, is_written=True))


def _seen(window: Window, page: OaiPage) -> Window:
    """Return a window with what a page adds to it."""
    days = filter(None, (window.newest, *(_day(record.datestamp) for record in page.records)))
    announced = window.announced if page.announced is None else page.announced
    return replace(
        window,
        token=page.token or None,
        answered_on=window.answered_on or _day(page.response_date),
        newest=max(days, default=None),
        records=window.records + len(page.records),
        announced=announced,
    )


def _completed(state: HarvestState, seen: Window) -> HarvestState:
    """Return the state after the last page of a window.

    The end is the day of the newest record, so that it depends on no clock; a record from the
    future, or an end that lies there, is cut to the day that the server and this computer have.
    """
    end = seen.until or seen.newest
    complete = state.complete_until
    if end is not None:
        today = datetime.now(UTC).date().isoformat()
        end = min(filter(None, (end, seen.answered_on, today)))
        complete = max(filter(None, (complete, end)))
    return replace(state, window=None, complete_until=complete)


def _endless(endpoint: str, what: str) -> DownloadFailed:
    return DownloadFailed(
        f"{shown(endpoint)} {what}: its list would never end. Report it to the archive, or harvest "
        "other days with --from and --until."
    )


def _share(window: Window) -> float:
    return min(1.0, window.records / window.announced) if window.announced else 0.0


def _shifted(day: str, days: int) -> str:
    with suppress(OverflowError):  # of the first days of the calendar
        return (date.fromisoformat(day) + timedelta(days)).isoformat()
    return day


def _day(datestamp: str) -> str | None:
    """Return the day of a date or time of OAI-PMH, None if it is not one."""
    with suppress(ValueError):
        return date.fromisoformat(datestamp[:_DAY_CHARS]).isoformat()
    return None
