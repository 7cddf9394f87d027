"""Tables of the replay of retraining, from its committed report."""

from __future__ import annotations

from typing import Any

from report import Measured, markdown, points, where_and_when


def policies(report: Measured) -> str:
    """Return what each policy did, what it cost, and what it recovered."""
    rows = []
    for name, found in report["policies"].items():
        words = f"**{name}**" if name == "default" else name
        share = f"{100 * found['cost_share']:.0f} %"
        rows.append([words, found["retrains"], f"{found['cpu_hours']:.2f}", share,
                     f"{found['accuracy']:.3f}", _percent(found["recovered"])])  # fmt: skip
    head = ("policy", "retrains", "CPU-hours", "of monthly", "top-1", "recovered")
    settings = report["settings"]
    note = (
        f"Fits of the newest {settings['fit_papers']:,} papers; {len(report['months'])} months "
        f"from {report['months'][0]} on, at most {settings['papers_of_a_month_at_most']:,} papers "
        f"of each, months alike; {where_and_when(report)}."
    )
    return f"{markdown(head, rows)}\n{note}\n"


def continued(report: Measured) -> str:
    """Return accuracy and cost of fits that continue from the champion, beside full ones."""
    rows: list[list[Any]] = []
    notes = []
    for of, words in (("newest", "the newest papers"), ("all", "all papers since 2008")):
        part = report["warm"][of]
        full_s = part["full"]["cpu_s"]
        for row in part["warm"]:
            champion = f"{row['gap']} months old{', chained' if row['chained'] else ''}"
            rows.append([words, champion, row["setting"], f"{row['champion']:.3f}",
                         f"{row['full']:.3f}", f"{row['accuracy']:.3f}",
                         points(row["over_full"], "value"),
                         f"{100 * row['cpu_s'] / full_s:.0f} %"])  # fmt: skip
        notes.append(f"a full fit on {words} takes {full_s:.0f} CPU-s ({len(part['ends'])} years)")
    head = ("fitted on", "champion", "continued by", "it stays", "full fit", "continued fit",
            "points over full", "CPU-seconds of full")  # fmt: skip
    after = report["warm"]["months_after"]
    return f"{markdown(head, rows)}\nTop-1 of the {after} months after; {'; '.join(notes)}.\n"


def _percent(found: dict[str, float] | None) -> str:
    if found is None:
        return "–"
    value, low, high = (100 * found[key] for key in ("value", "low", "high"))
    return f"{value:.0f} % ({low:.0f} to {high:.0f})"
