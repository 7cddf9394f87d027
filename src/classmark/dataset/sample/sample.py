"""The sample generator: a labelled corpus of invented papers, for tests and the demo.

Terms and phrasing are our own (``vocabulary.json``, ``phrasing.json``). Nothing is true in what it
writes; the manifest and every report on it say that it was generated.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import IO, Any, BinaryIO, cast

from classmark import taxonomy
from classmark.dataset.build.build import SCRATCH, Origin, write_dataset
from classmark.dataset.build.intake import collect_papers
from classmark.dataset.config import DatasetConfig, SampleConfig
from classmark.dataset.folder import INVENTED_ID_PREFIX, KAGGLE_COLUMNS
from classmark.dataset.sample.wording import Subject, Vocabulary, Writer, load_vocabulary, pick
from classmark.records import SILENT, DatasetManifest, Paper, Progress
from classmark.storage import atomic_file, atomic_folder

FIRST_YEAR = 2007
LAST_YEAR = 2024
_DAYS_IN_EVERY_MONTH = 28
_MAX_UPDATE_MONTHS = 12
_CROSS_LIST_SHARES = (0.45, 0.12)
_LEAST_OWN_SHARE, _MOST_OWN_SHARE = 0.6, 1.0
_CROSS_LISTED_SHARE = 0.88
_GROWTH_PER_DRIFT = 1.5
_REPORT_EVERY_PAPERS = 1_000
_GZIP_LEVEL = 6
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True)
class _Plan:
    """What one paper is about: the year, its true category, and those it is listed in."""

    year: int
    truth: str
    label: str
    cross_lists: tuple[str, ...]


def sample_dataset(
    output: Path,
    config: SampleConfig,
    *,
    periods: tuple[str, ...] = (),
    command: str = "",
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> DatasetManifest:
    """Write a dataset folder of invented papers, as ``build_dataset`` would.

    Raises:
        InvalidDataset: so few papers that fewer than two categories occur.
        StorageFailed: the folder cannot be written.
    """
    build = DatasetConfig(seed=config.seed, small="keep", periods=periods)
    origin = Origin(command=command, options={"sample": dict(config.__dict__)})
    with atomic_folder(output, overwrite=overwrite) as folder:
        papers = _counted(sample_papers(config), progress)
        intake = collect_papers(papers, folder / SCRATCH, build)
        return write_dataset(folder, intake, build, origin, progress)


def sample_csv(path: Path, config: SampleConfig, progress: Progress = SILENT) -> None:
    """Write invented papers as one CSV file in the Kaggle layout (ten columns, M/D/YY dates).

    Raises:
        StorageFailed: the file cannot be written.
    """
    with atomic_file(path) as binary:
        text = io.TextIOWrapper(cast("BinaryIO", binary), encoding="utf-8", newline="")
        writer = csv.DictWriter(text, KAGGLE_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(_kaggle_row(paper) for paper in _counted(sample_papers(config), progress))
        text.flush()
        text.detach()  # the file is closed by its owner


def sample_dump(path: Path, config: SampleConfig, progress: Progress = SILENT) -> None:
    """Write invented papers as arXiv's metadata dump has them: one JSON object a line.

    Memory does not grow with the number of papers. A name that ends with ``.gz`` is gzipped; the
    same config gives the same bytes then too.

    Raises:
        StorageFailed: the file cannot be written.
    """
    with atomic_file(path) as binary, _packed(binary, path) as file:
        for paper in _counted(sample_papers(config), progress):
            file.write(json.dumps(_dump_record(paper)).encode() + b"\n")


def sample_papers(config: SampleConfig) -> Iterator[Paper]:
    """Invent papers; the same config gives the same papers, on every machine."""
    vocabulary = load_vocabulary(config.categories)
    writer = Writer(vocabulary)
    # Not for secrets: a seeded generator is the point.
    random = Random(config.seed)  # noqa: S311
    for number in range(1, config.papers + 1):
        plan = _plan(random, vocabulary, config)
        yield _paper(random, writer, plan, number, config)


@contextmanager
def _packed(binary: IO[bytes], path: Path) -> Iterator[IO[bytes]]:
    """Yield the file that packs what is written, if the name asks for it, or the file itself."""
    if path.suffix != ".gz":
        yield binary
        return
    packed = gzip.GzipFile("", "wb", _GZIP_LEVEL, binary, mtime=0)
    with packed:
        yield cast("IO[bytes]", packed)


def _counted(papers: Iterator[Paper], progress: Progress) -> Iterator[Paper]:
    """Yield the papers, and count them as progress."""
    progress.step("inventing papers")
    for number, paper in enumerate(papers, start=1):
        yield paper
        if number % _REPORT_EVERY_PAPERS == 0:
            progress.advance(_REPORT_EVERY_PAPERS)


def _plan(random: Random, vocabulary: Vocabulary, config: SampleConfig) -> _Plan:
    year = FIRST_YEAR + int(random.random() * (LAST_YEAR + 1 - FIRST_YEAR))
    truth = _draw_category(random, vocabulary, config.drift * _lateness(year))
    neighbours = vocabulary[truth].neighbours
    cross_lists: list[str] = []
    for share in _CROSS_LIST_SHARES:
        candidate = pick(random, neighbours)
        if random.random() < share and candidate not in cross_lists:
            cross_lists.append(candidate)
    label = pick(random, neighbours) if random.random() < config.noise else truth
    others = tuple(code for code in cross_lists if code != label)
    return _Plan(year=year, truth=truth, label=label, cross_lists=others)


def _lateness(year: int) -> float:
    """Return how late a year is, 0 for the first, 1 for the last."""
    return (year - FIRST_YEAR) / (LAST_YEAR - FIRST_YEAR)


def _draw_category(random: Random, vocabulary: Vocabulary, drift: float) -> str:
    weights = [2.0 ** (entry.growth * drift * _GROWTH_PER_DRIFT) for entry in vocabulary.values()]
    ends = list(accumulate(weights))
    return list(vocabulary)[min(bisect_right(ends, random.random() * ends[-1]), len(ends) - 1)]


def _paper(random: Random, writer: Writer, plan: _Plan, number: int, config: SampleConfig) -> Paper:
    subject = _subject(random, plan, writer.vocabulary, config.drift)
    published, updated = _dates(random, plan.year)
    return Paper(
        id=f"{INVENTED_ID_PREFIX}{published[2:4]}{published[5:7]}.{number:05d}",
        title=writer.title(random, subject),
        abstract=writer.abstract(random, subject),
        category_code=plan.label,
        categories=(plan.label, *plan.cross_lists),
        published_date=published,
        updated_date=updated,
        authors=tuple(writer.authors(random, subject)),
    )


def _subject(random: Random, plan: _Plan, vocabulary: Vocabulary, drift: float) -> Subject:
    """Mix the terms of the true category with those of its cross-lists, or of one neighbour."""
    own = _LEAST_OWN_SHARE + random.random() * (_MOST_OWN_SHARE - _LEAST_OWN_SHARE)
    others = plan.cross_lists or (pick(random, vocabulary[plan.truth].neighbours),)
    if plan.cross_lists:
        own *= _CROSS_LISTED_SHARE
    return Subject(
        code=plan.truth,
        others=others,
        own_share=own,
        late_share=drift * _lateness(plan.year),
    )


def _dates(random: Random, year: int) -> tuple[str, str]:
    """Return the dates of the first and the newest version; half of the papers have just one."""
    month, day = 1 + int(random.random() * 12), 1 + int(random.random() * _DAYS_IN_EVERY_MONTH)
    published = f"{year}-{month:02d}-{day:02d}"
    if random.random() < 0.5:
        return published, published
    later = year * 12 + month - 1 + 1 + int(random.random() * _MAX_UPDATE_MONTHS)
    return published, f"{later // 12}-{later % 12 + 1:02d}-{day:02d}"


def _kaggle_row(paper: Paper) -> dict[str, Any]:
    code = paper.category_code or ""
    return {
        "id": paper.id,
        "title": paper.title,
        "category": taxonomy.name(code),
        "category_code": code,
        "published_date": _kaggle_date(paper.published_date or ""),
        "updated_date": _kaggle_date(paper.updated_date or ""),
        "authors": str(list(paper.authors)),
        "first_author": repr(paper.authors[0]),
        "summary": paper.abstract,
        "summary_word_count": len(paper.abstract.split()),
    }


def _kaggle_date(iso_date: str) -> str:
    year, month, day = iso_date.split("-")
    return f"{int(month)}/{int(day)}/{year[2:]}"


def _dump_record(paper: Paper) -> dict[str, Any]:
    """Return the keys of arXiv's dump, in its order; what is not invented is null there."""
    published, updated = paper.published_date or "", paper.updated_date or ""
    names = paper.authors
    days = [published] if updated == published else [published, updated]
    return {
        "id": paper.id,
        "submitter": names[0],
        "authors": ", ".join(names),
        "title": paper.title,
        "comments": None,
        "journal-ref": None,
        "doi": None,
        "report-no": None,
        "categories": " ".join(paper.categories),
        "license": None,
        "abstract": f"  {paper.abstract}\n",
        "versions": [
            {"version": f"v{number}", "created": _mail_date(day)}
            for number, day in enumerate(days, start=1)
        ],
        "update_date": updated,
        "authors_parsed": [[*reversed(name.split(" ", 1)), ""] for name in names],
    }


def _mail_date(iso_date: str) -> str:
    """Return a day as RFC 2822 writes it, whatever the locale."""
    day = date.fromisoformat(iso_date)
    name, month = _DAYS[day.weekday()], _MONTHS[day.month - 1]
    return f"{name}, {day.day} {month} {day.year} 00:00:00 GMT"
