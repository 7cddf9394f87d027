"""A second opinion: Evidently's report of the same papers, beside the same reference.

Evidently imports pandas and scikit-learn for ten seconds, so only a call loads it. It answers with
thresholds of its own, which no alarm of ours reads.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np

from classmark.errors import InvalidWindow, MissingExtra
from classmark.monitor.look import LookOptions, looked_at
from classmark.monitor.texts import older_papers
from classmark.monitor.window import LEAST_PAPERS
from classmark.records.drift import DriftReport
from classmark.runtime.features import DIMS, NUMBERS, FeatureTable

INPUT = (
    *("known_share", "english_share", "foreign_share", "log_words", "latex_share", "has_abstract"),
    *(f"component {i + 1}" for i in range(DIMS)),
)
PREDICTION = ("category", "confidence", "entropy", "energy", "accepted")
TEXT = ("text", "characters", "words", "sentences", "not letters, %")
"""Columns of each of the three comparisons. Who sends authors is not drift, so it is left out."""
CATEGORICAL = ("category", "has_abstract", "accepted")


def check_evidently() -> None:
    """Raise MissingExtra if Evidently is not installed; does not import it."""
    if find_spec("evidently") is None:
        raise MissingExtra("Evidently's report", "monitor")


def evidently_page(
    report: DriftReport, options: LookOptions, *, with_texts: bool
) -> tuple[str, str]:
    """Return Evidently's report as a page that loads nothing, and what it leaves out.

    Texts are those of the window, beside the older ones of the journal: a reference has none.

    Args:
        report: of a look with these options.
        options: of the look.
        with_texts: also compare texts; the page then holds some of them.

    Returns:
        HTML, and why it has no comparison of texts; "" if it has one.

    Raises:
        MissingExtra: Evidently is not installed.
        InvalidWindow: the papers of the window are too few.
        InvalidJournal, JournalTooNew: the journal cannot be read.
    """
    model, events, against = looked_at(report, options)
    if len(events) < LEAST_PAPERS:
        raise InvalidWindow(
            f"{len(events)} papers are too few for Evidently's report; {LEAST_PAPERS} are needed. "
            "Take a longer span."
        )
    texts: list[str] = []
    older: list[str] = []
    left_out = "add --with-texts for that, where the journal keeps them"
    if with_texts:
        texts = [event.text for event in events if event.text]
        found = older_papers(options.journal, model, report.since_utc)
        older = [event.text for event in found if event.text]
        left_out = _too_few(len(texts), len(older))
    if left_out:
        texts, older = [], []
    with quiet_evidently():
        return _page(model.features(events), against, texts, older), left_out


def _too_few(n_texts: int, n_older: int) -> str:
    if min(n_texts, n_older) >= LEAST_PAPERS:
        return ""
    return (
        f"the journal keeps the text of {n_texts} papers of the window and of {n_older} older "
        f"ones, {LEAST_PAPERS} of each are needed (see `serve --journal-text`)"
    )


@contextmanager
def quiet_evidently() -> Iterator[None]:
    """Let Evidently be imported and run: without telemetry, without its libraries' warnings.

    Raises:
        MissingExtra: Evidently is not installed.
    """
    os.environ.setdefault("DO_NOT_TRACK", "1")  # read when it is imported, and at each event
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import evidently  # noqa: F401
        except ImportError as error:  # also with pandas 3, which the extra excludes
            raise MissingExtra("Evidently's report", "monitor") from error
        yield


def columns_of(table: FeatureTable) -> dict[str, Any]:
    """Return the columns ``INPUT`` and ``PREDICTION`` of n papers: arrays [n]."""
    columns: dict[str, Any] = {name: table.number(name).astype(np.float64) for name in NUMBERS}
    columns["category"] = np.array(table.labels)[table.top_labels[:, 0]]
    columns["confidence"] = table.confidence.astype(np.float64)
    for flag in ("accepted", "has_abstract"):
        columns[flag] = np.where(table.flag(flag), "yes", "no")
    columns |= {f"component {i + 1}": table.projection[:, i].astype(float) for i in range(DIMS)}
    return columns


def _page(
    table: FeatureTable, against: FeatureTable, texts: Sequence[str], older: Sequence[str]
) -> str:
    """Return the page; its second tab is the test suite."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    parts = [INPUT, PREDICTION, *([TEXT] if texts else [])]
    definition = DataDefinition(
        numerical_columns=[
            name for part in parts for name in part if name not in (*CATEGORICAL, TEXT[0])
        ],
        categorical_columns=list(CATEGORICAL),
        text_columns=[TEXT[0]] if texts else [],
    )
    current, reference = (
        Dataset.from_pandas(_frame(*one), data_definition=definition)
        for one in ((table, texts), (against, older))
    )
    made = Report([DataDriftPreset(columns=list(part)) for part in parts], include_tests=True)
    page: str = made.run(current, reference).get_html_str(as_iframe=False)
    return page


def _frame(table: FeatureTable, texts: Sequence[str]) -> Any:  # noqa: ANN401 - of pandas
    """Return papers as rows, and texts as further rows: Evidently compares column by column."""
    import pandas as pd

    features = pd.DataFrame(columns_of(table))
    if not texts:
        return features
    return pd.concat([features, _descriptors(texts)], ignore_index=True)


def _descriptors(texts: Sequence[str]) -> Any:  # noqa: ANN401 - of pandas
    """Return texts with those descriptors that need no download."""
    import pandas as pd
    from evidently import DataDefinition, Dataset
    from evidently.descriptors import (
        NonLetterCharacterPercentage,
        SentenceCount,
        TextLength,
        WordCount,
    )

    text, *names = TEXT
    kinds = (TextLength, WordCount, SentenceCount, NonLetterCharacterPercentage)
    made = Dataset.from_pandas(
        pd.DataFrame({text: texts}),
        data_definition=DataDefinition(text_columns=[text]),
        descriptors=[kind(text, alias=alias) for kind, alias in zip(kinds, names, strict=True)],
    )
    return made.as_dataframe()
