"""Figure 2: what the build of the shipped model's data dropped, and the splits on the time line."""

from __future__ import annotations

from typing import Any

from marks import WIDTH, document, words

from classmark.pages.svg import Scale, bar, line, text
from report import read_report

LABEL = "Papers read, dropped by reason and kept, and papers by year in each split"
REASONS = {
    "retired_category": "retired, undivided category",
    "withdrawn": "withdrawal notice",
    "duplicate_text": "abstract seen before",
    "empty_abstract": "empty abstract",
}
ROWS = (("train", 110), ("valid", 36), ("test", 36))
PERIODS = {"until-2017": 2017, "2018-2019": 2019, "from-2020": 2026}
LEFT = 64


def draw() -> str:
    """Return the figure."""
    report = read_report("data-card")
    return document(LABEL, 448, [*_dropped(report), *_time_line(report)])


def _dropped(report: dict[str, Any]) -> list[str]:
    dropped = dict(sorted(report["dropped"].items(), key=lambda item: -item[1]))
    marks = [words(0, 16, f"{report['read']:,} papers read", "head")]
    x = Scale(0, report["read"], 0, WIDTH)
    marks += [bar(0, 24, x(report["kept"]), 14, "full")]
    marks += [bar(x(report["kept"]), 24, WIDTH - x(report["kept"]), 14, "against")]
    total = sum(dropped.values())
    marks.append(words(WIDTH, 16, f"{total:,} dropped", "series second", "end"))
    marks.append(words(0, 54, f"{report['kept']:,} kept", "series first"))
    wide = Scale(0, max(dropped.values(), default=1), 0, 250)
    for i, (reason, n) in enumerate(dropped.items()):
        y = 62 + 18 * i
        marks += [words(WIDTH - 330, y + 9, REASONS[reason], "tick", "end")]
        marks += [bar(WIDTH - 322, y, wide(n), 11, "against")]
        marks.append(words(WIDTH - 316 + wide(n), y + 9, f"{n:,}", "tick"))
    return marks


def _time_line(report: dict[str, Any]) -> list[str]:
    years = {int(year): counts for year, counts in report["years"].items()}
    x = Scale(1990.5, max(years) + 0.5, LEFT, WIDTH)
    wide = x(2001) - x(2000)
    marks: list[str] = []
    base = 176.0
    for split, room in ROWS:
        base += room + 14
        most = max(counts[split] for counts in years.values())
        y = Scale(0, most, 0, room)
        marks.append(words(0, base - room / 2, split, "head"))
        marks.append(words(0, base - room / 2 + 15, f"{report['splits'][split]:,}", "tick"))
        for year, counts in years.items():
            if year > 1990:
                height = y(counts[split])
                left = x(year) - wide / 2 + 0.5
                marks.append(
                    bar(
                        left,
                        base - height,
                        wide - 1,
                        height,
                        "half" if split == "train" else "full",
                    )
                )
        marks.append(line(LEFT, base, WIDTH, base, "axis"))
    marks += [text(x(year), base + 16, str(year)) for year in range(1995, 2026, 5)]
    marks.append(
        text(
            (LEFT + WIDTH) / 2,
            base + 34,
            "year of the first version; each row has its own scale",
            css="note",
        )
    )
    first = 1990.5
    for name, last in PERIODS.items():
        papers = sum(report["periods"][name].values())
        middle = (x(first) + x(last + 0.5)) / 2
        marks.append(text(middle, 166, name, css="name"))
        marks.append(text(middle, 181, f"{papers:,}", css="tick"))
        if last != max(PERIODS.values()):
            marks.append(line(x(last + 0.5), 188, x(last + 0.5), base, "cut"))
        first = last + 0.5
    return marks
