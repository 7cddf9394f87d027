"""The page of a drift report, by what it says."""

from __future__ import annotations

import re
from dataclasses import replace

from classmark.pages.drift import drift_page
from classmark.records.drift import (
    Alarm,
    Counts,
    DriftReport,
    PaperBehind,
    PartTest,
    Shift,
    Size,
    StreamState,
    TextsBehind,
    WindowTest,
    WordRise,
)
from classmark.records.evaluation import AccuracyEstimate
from classmark.wire import ModelRef

SIZE = Size(share=0.123, low=0.1, high=0.15)
MOVED = Shift(name="predicted cs.LG", window=0.4, reference=0.1, standardised=14.2, p_value=0.001)
STILL = Shift(name="energy", window=2.5, reference=2.4, standardised=-1.1, p_value=0.6)
WINDOW = WindowTest(
    n_window=2000,
    n_reference=600,
    p_value=0.001,
    statistics={"maximum": 0.001},
    shifts=(MOVED, STILL),
)
REPORT = DriftReport(
    model=ModelRef("mine", "1.0", "a" * 64),
    reference="600 validation papers of the model",
    created_at_utc="2026-11-02T00:00:00.000Z",
    since_utc="2026-11-01T00:00:00.000Z",
    until_utc="2026-11-01T23:00:00.000Z",
    counts=Counts(read=2100, compared=2000, repeated=90, without_features=10, left_out=0),
    alpha=0.01,
    window=WINDOW,
    size=SIZE,
    confidence=(0.61, 0.7),
    abstained=(0.2, 0.1),
    categories={"cs.LG": (0.4, 0.1)},
    clients=(PartTest(part="<b>key</b>", n=400, p_value=0.002, size=SIZE),),
    parts=(PartTest(part="math.CO", n=70, p_value=0.8, size=SIZE),),
    accuracy=AccuracyEstimate(
        papers=2000, labels=0, value=0.55, low=0.5, high=0.6, level=0.95, reference=0.66
    ),
    stream=StreamState(
        n=5000,
        begun_at_utc="2026-10-01T00:00:00.000Z",
        martingale=321.0,
        p_value=0.003,
        leading={"predicted cs.LG": 9.5},
    ),
    alarms=(Alarm(kind="window", action="retrain", p_value=0.001, text="the papers differ"),),
    notes=("a note",),
)
QUIET = replace(REPORT, alarms=(), categories={}, clients=(), parts=(), stream=None, notes=())
TEXTS = TextsBehind(
    n_window=100,
    n_before=900,
    words=(WordRise(word="qubit", window=0.41, before=0.02),),
    papers=(PaperBehind(prediction_id="p1", title="<i>A title</i>", primary=None, distance=1.25),),
)


def test_the_page_begins_with_what_is_to_be_done_and_says_all_parts() -> None:
    page = drift_page(REPORT)
    assert page.index("The policy asks for a new model.") < page.index("the papers differ")
    for words in (
        *("Drift of mine@1.0", "10.0% to 15.0% of the papers", "2,000", "of 2,100 predictions"),
        *("50.0% to 60.0%; reference 66.0%", "a note", "Categories that moved", "+14.2"),
        *("&lt;b&gt;key&lt;/b&gt;", "math.CO", "5,000 predictions since", "321", "a" * 64),
    ):
        assert words in page
    assert re.search(r">cs.LG</th><td class=n>40.0%</td><td class=n>10.0%<", page)
    assert "<script" not in page
    assert "//" not in page.replace("http://www.w3.org", "")


def test_only_features_beyond_chance_are_named_as_carrying_it() -> None:
    page = drift_page(REPORT)
    assert ">predicted cs.LG</th>" in page
    assert ">energy</th>" not in page
    still = replace(WINDOW, shifts=(STILL,))
    quiet = drift_page(replace(QUIET, window=still))
    assert "No single feature is beyond chance" in quiet
    assert ">energy</th>" in quiet


def test_a_quiet_report_says_so_and_leaves_out_what_it_lacks() -> None:
    page = drift_page(QUIET)
    assert "Nothing: no test is beyond chance (alpha 0.01)" in page
    assert "No category has changed beyond chance" in page
    for title in ("Keys and categories", "The continuous watch", "p-values over time"):
        assert title not in page


def test_too_few_papers_leave_the_note_and_no_comparison() -> None:
    few = replace(QUIET, window=None, size=None, accuracy=None, notes=("3 papers are too few",))
    page = drift_page(few)
    assert "3 papers are too few" in page
    assert "What is behind it" not in page


def test_looks_of_this_model_are_drawn_over_time_and_others_are_not() -> None:
    days = [replace(REPORT, created_at_utc=f"2026-10-{day:02}T00:00:00.000Z") for day in (3, 4, 5)]
    other = replace(days[0], model=ModelRef("other", "1.0", "b" * 64))
    page = drift_page(REPORT, history=[other, *days])
    drawn = page[page.index('aria-label="p-values over time"') :]
    assert drawn.partition("</svg>")[0].count("<circle") == 2 * 4
    assert "2026-10-03 00:00" in page
    assert "Size over time" in page
    assert "p-values over time" not in drift_page(REPORT, history=[other])
    assert "p-values over time" not in drift_page(REPORT, history=[REPORT])


def test_p_values_of_zero_digits_and_of_one_look_alike_can_be_drawn() -> None:
    window = replace(WINDOW, p_value=1.0)
    early = replace(REPORT, created_at_utc="2026-10-01T00:00:00.000Z", window=window, stream=None)
    page = drift_page(replace(REPORT, stream=None), history=[early])
    assert page.count("<figure>") == 4
    assert "nan" not in page


def test_texts_are_shown_where_they_are_given_with_a_warning() -> None:
    page = drift_page(REPORT, texts=TEXTS)
    assert page.index("This page contains titles") < page.index('<dl class="tiles">')
    assert "&lt;i&gt;A title&lt;/i&gt;" in page
    assert re.search(r">qubit</th><td class=n>41.0%</td><td class=n>2.0%<", page)
    assert "not accepted" in page
    few = replace(TEXTS, words=(), n_before=3)
    assert "the text of 3 older papers; 50 are needed" in drift_page(REPORT, texts=few)
    none = replace(TEXTS, words=())
    assert "No word has risen" in drift_page(REPORT, texts=none)
