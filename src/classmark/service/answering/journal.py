"""The journal of a worker, as the settings say it, and what it keeps of an answer."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from classmark import __version__
from classmark.errors import InvalidConfig, NoHomeFolder
from classmark.journal import Journal, JournalConfig, Place, default_journal_path, place_of
from classmark.journal.place import Address
from classmark.journal.writer import writer_for
from classmark.records import PredictionEvent, utc_text
from classmark.runtime.features import keep_features, latex_share
from classmark.service.logs import log
from classmark.service.settings import JOURNAL_OFF, ServiceSettings
from classmark.storage import folder_place, is_remote

if TYPE_CHECKING:
    from classmark.service.answering.answerer import AnswerOptions, Question, Scored

KEPT_CATEGORIES = 10


def check_journal(settings: ServiceSettings) -> None:
    """Refuse a journal that no worker could keep, before workers are started.

    Raises:
        InvalidConfig: the address is invalid, a limit cannot be kept there, or its copies have no
            place.
        MissingExtra: it is in PostgreSQL or copied into a bucket, and the extra is not installed.
    """
    place = None if settings.journal in (None, JOURNAL_OFF) else place_of(str(settings.journal))
    if place is not None and not isinstance(place, Address) and is_remote(place):
        raise InvalidConfig(
            f"the journal is {place}, and no database can be written in a bucket. Copy it there "
            "with --journal-copies."
        )
    if place is not None:
        writer_for(_journal_config(settings, place))
    if settings.journal_copies is not None:
        _check_copies(settings.journal_copies, place)


def _check_copies(folder: str, place: Place | None) -> None:
    if not is_remote(folder):
        raise InvalidConfig(
            f"journal_copies is {folder!r}. Give a folder of a bucket, such as gs://BUCKET/journal."
        )
    folder_place(folder)
    if isinstance(place, Address):
        raise InvalidConfig(
            f"journal_copies copies files, and the journal is the database {place}. Leave it out."
        )


def open_journal(settings: ServiceSettings) -> Journal | None:
    """Return the journal of a worker, None if none is kept.

    Raises:
        JournalTooNew: it was written by a newer classmark.
        InvalidConfig, MissingExtra: as ``check_journal``.
    """
    try:
        place = journal_place(settings)
    except NoHomeFolder as error:
        log("no journal is kept", logging.WARNING, problem=str(error))
        return None
    return None if place is None else Journal(_journal_config(settings, place))


def journal_place(settings: ServiceSettings) -> Place | None:
    """Return where the journal is, None if none is kept.

    Raises:
        InvalidConfig: its address is invalid.
        NoHomeFolder: it is in the usual place, and there is none.
    """
    if settings.journal == JOURNAL_OFF:
        return None
    return place_of(settings.journal) if settings.journal else default_journal_path()


def _journal_config(settings: ServiceSettings, place: Place) -> JournalConfig:
    most, keep_days = settings.journal_max_mb, settings.journal_keep_days
    max_bytes = None if most is None else most * 1_000_000
    return JournalConfig(
        path=place, keep_text=settings.journal_text, keep_days=keep_days, max_bytes=max_bytes
    )


def event_of(
    question: Question,
    scored: Scored,
    options: AnswerOptions,
    prediction_id: str,
    *,
    keep_text: bool,
) -> PredictionEvent:
    """Return what the journal keeps of an answer: features of the text, and the text if wanted."""
    answer, paper = scored.answer, question.paper
    text = f"{paper.title}\n{paper.abstract}"
    words = text.split()
    return PredictionEvent(
        prediction_id=prediction_id,
        at_utc=utc_text(),
        model=answer.model,
        text_fingerprint=question.fingerprint,
        primary=answer.primary,
        reason=answer.reason,
        ranked=tuple([(r.code, r.probability) for r in answer.ranked[:KEPT_CATEGORIES]]),
        set=answer.set or (),
        cross_lists=answer.cross_lists,
        known_share=scored.known_share,
        n_chars=len(text) - 1,
        n_words=len(words),
        latex_share=latex_share(text),
        latency_ms=(time.monotonic() - options.started) * 1000,
        source=options.source,
        paper_id=paper.id,
        author_category=question.author_category,
        used_authors="authors" in answer.evidence,
        client=options.client,
        service_version=__version__,
        features=keep_features(scored.scores, words, text, has_abstract=bool(paper.abstract)),
        text=text if keep_text else None,
    )
