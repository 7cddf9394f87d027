"""A robustness report as aligned plain text, at most 100 columns wide."""

from __future__ import annotations

from classmark.pages.render import GENERATED_WARNING, aligned
from classmark.records import Difference, RobustnessLevel, RobustnessReport

ROBUSTNESS_COLUMNS = {
    "top_1": "top-1",
    "top_5": "top-5",
    "confidence": "conf.",
    "ece": "ECE",
    "abstained": "abst.",
    "out_of_scope": "out",
    "accepted_accuracy": "right",
    "agreement": "same",
}
_NOTES = (
    "+/- clean: top-1 minus that of the clean papers in points, with its paired interval.",
    "conf.: mean probability of the top category. abst.: abstained. out: out of scope, a part of",
    "abst. right: accuracy of the accepted. same: share with the top category of the clean text.",
)


def render_robustness(report: RobustnessReport) -> str:
    """Return the report as text for people; the JSON form has every interval."""
    columns = list(ROBUSTNESS_COLUMNS.values())
    rows = [("", "texts", columns[0], "+/- clean", *columns[1:]), _row("clean", report.clean)]
    titles: dict[int, str] = {}
    for kind in report.kinds:
        titles[len(rows)] = f"{kind.name}: {kind.unit}"
        rows += [_row(f"  {level.name}", level) for level in kind.levels]
    lines: list[str] = []
    for i, line in enumerate(aligned(rows, left=(0,)).split("\n")):
        if i in titles:
            lines += ["", titles[i]]
        lines.append(line)
    return "\n".join([*_head(report), "", *lines, "", *_NOTES])


def points(difference: Difference | None) -> str:
    """Return a difference of shares in points with its interval."""
    if difference is None:
        return ""
    value = f"{100 * difference.difference:+.1f}"
    if difference.low is None or difference.high is None:
        return value
    return f"{value} ({100 * difference.low:+.1f} {100 * difference.high:+.1f})"


def _head(report: RobustnessReport) -> list[str]:
    lines = [GENERATED_WARNING, ""] if report.generated else []
    digest = f" of dataset {report.dataset_digest[:12]}" if report.dataset_digest else ""
    return [
        *lines,
        f"model    {report.model.name} {report.model.version} ({report.model.digest[:12]})",
        f"data     {report.split} split{digest}",
        f"papers   {report.n:,}, seed {report.config['seed']}",
    ]


def _row(name: str, level: RobustnessLevel) -> tuple[str, ...]:
    cells = [
        f"{level.metrics[metric].value:.3f}" if metric in level.metrics else "-"
        for metric in ROBUSTNESS_COLUMNS
    ]
    change = points(level.differences.get("top_1"))
    return (name, f"{level.n:,}", cells[0], change, *cells[1:])
