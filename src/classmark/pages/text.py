"""Reports as aligned plain text for the terminal, no wider than 100 columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from classmark.evaluation import weakest_categories
from classmark.records import (
    ComparisonReport,
    Difference,
    EvaluationReport,
    GateReport,
    MetricValue,
    RobustnessLevel,
    RobustnessReport,
    SliceReport,
)
from classmark.records.evaluation import FEW_PAPERS

GENERATED_WARNING = "invented sample papers: these numbers say nothing about real ones"

METRIC_TITLES = {
    "top_1": "top-1 accuracy",
    "top_3": "top-3 accuracy",
    "top_5": "top-5 accuracy",
    "macro_f1": "macro-F1 (labels that occur)",
    "micro_f1": "micro-F1 (equals top-1)",
    "precision_at_1_listed": "precision@1, any listed category",
    "recall_at_5_listed": "recall@5, all listed categories",
    "archive_accuracy": "archive accuracy",
    "group_accuracy": "group accuracy",
    "ece": "calibration error, equal width",
    "ece_floor": "the same of a perfect model, by chance",
    "ece_equal_mass": "calibration error, equal mass",
    "nll": "negative log-likelihood, nats",
    "brier": "Brier score, 0..2",
    "set_coverage": "prediction sets: coverage",
    "set_size": "prediction sets: mean size",
    "acceptance_rate": "accepted",
    "accepted_accuracy": "accuracy of the accepted",
}
_SLICE_COLUMNS = {
    "top_1": "top-1",
    "top_3": "top-3",
    "top_5": "top-5",
    "macro_f1": "macro-F1",
    "precision_at_1_listed": "p@1 listed",
    "ece": "ECE",
    "set_coverage": "coverage",
    "set_size": "set size",
}
_GAP = "  "


def evaluation_text(report: EvaluationReport, *, weakest: int = 20) -> str:
    """Return the report as text for people; the JSON form has everything.

    Args:
        report: what was measured.
        weakest: how many categories to show, lowest F1 first.
    """
    sections = [_evaluation_head(report), _overall(report)]
    for title, slices in (("period", report.periods), ("year", report.years)):
        if slices:
            sections.append(_by_slice(title, slices))
    sections.append(_by_category(report, weakest))
    return "\n\n".join(section for section in sections if section)


def _evaluation_head(report: EvaluationReport) -> str:
    model, digest = report.model, report.model.digest[:12]
    lines = [GENERATED_WARNING, ""] if report.generated else []
    lines.append(f"model    {model.name} {model.version}" + (f" ({digest})" if digest else ""))
    if report.dataset_digest or report.split:
        digest = f" of dataset {report.dataset_digest[:12]}" if report.dataset_digest else ""
        lines.append(f"data     {report.split or 'unnamed'} split{digest}")
    left_out = f", {report.n_unknown:,} more without a primary that the model knows"
    lines.append(f"papers   {report.n:,}" + (left_out if report.n_unknown else ""))
    if "authors" in report.config:
        lines.append(f"authors  used for {report.config['authors']:,} papers")
    return "\n".join(lines)


def _overall(report: EvaluationReport) -> str:
    level = f"{100 * report.config['level']:g} % interval" if report.config["draws"] else ""
    rows = [("all papers", "value", level)]
    for name in [*(n for n in METRIC_TITLES if n in report.metrics)]:
        metric = report.metrics[name]
        rows.append((METRIC_TITLES[name], _number(name, metric.value), _interval(name, metric)))
    return aligned(rows, left=(0, 2))


def _by_slice(title: str, slices: Iterable[SliceReport]) -> str:
    rows = [(title, "papers", *_SLICE_COLUMNS.values())]
    for part in slices:
        cells = (_optional(name, part.metrics.get(name)) for name in _SLICE_COLUMNS)
        rows.append((part.name, f"{part.n:,}", *cells))
    return aligned(rows, left=(0,))


def _by_category(report: EvaluationReport, most: int) -> str:
    shown = weakest_categories(report, most)
    if not shown:
        return ""
    level = f"{100 * report.config['level']:g} % range"
    rows = [("weakest categories", "papers", "precision", "recall", "F1", level, "confused with")]
    for c, f1 in shown:
        other = f"{c.confused_with} ({c.confused:,})" if c.confused_with else "-"
        papers = f"{c.n:,}?" if c.is_uncertain else f"{c.n:,} "
        rates = (_rate(c.precision), _rate(c.recall), _rate(c.f1))
        rows.append((c.code, papers, *rates, _interval("f1", f1), other))
    lines = [aligned(rows, left=(0, 5, 6))]
    if any(c.is_uncertain for c, _ in shown):
        lines.append(f"? uncertain: fewer than {FEW_PAPERS} papers")
    lines.append(
        f"{len(shown)} of {len(report.categories)} categories; the JSON report has them all"
    )
    return "\n".join(lines)


def aligned(rows: Sequence[Sequence[str]], left: tuple[int, ...]) -> str:
    """Return rows as columns of equal width, those in ``left`` set to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = (
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append(_GAP.join(cells).rstrip())
    return "\n".join(lines)


def _number(name: str, value: float) -> str:
    return f"{value:.2f}" if name == "set_size" else f"{value:.3f}"


def _interval(name: str, metric: MetricValue) -> str:
    if metric.low is None or metric.high is None:
        return ""
    return f"{_number(name, metric.low)} - {_number(name, metric.high)}"


def _optional(name: str, metric: MetricValue | None) -> str:
    return "-" if metric is None else _number(name, metric.value)


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


LOWER_IS_BETTER = frozenset({"ece", "ece_equal_mass", "nll", "brier"})
# Neither more nor less of these is better: coverage costs size, acceptance costs accuracy.
UNJUDGED = frozenset({"ece_floor", "acceptance_rate", "set_coverage", "set_size"})
_SHOWN_CATEGORIES = 20


def better_of(name: str, difference: Difference) -> str:
    """Return ``A`` or ``B`` if the interval leaves 0 out and one direction is better, else ""."""
    if name in UNJUDGED or not difference.is_clear:
        return ""
    return "B" if (difference.difference > 0.0) != (name in LOWER_IS_BETTER) else "A"


def signed(value: float) -> str:
    """Return a number with its sign and three digits; 0 has none, however it was rounded."""
    words = f"{value:+.3f}"
    return "0.000" if float(words) == 0.0 else words


def comparison_text(report: ComparisonReport) -> str:
    """Return the comparison as text for people; the JSON form has everything."""
    sections = [_comparison_head(report), _agreement(report), _metrics(report), _categories(report)]
    return "\n\n".join(section for section in sections if section)


def not_compared(report: ComparisonReport) -> str:
    """Return how many papers of which table were left out, "" if none were."""
    left_out = {"A": report.left_out_a, "B": report.left_out_b}
    return ", ".join(f"{n:,} of {name}" for name, n in left_out.items() if n)


def expected_by_chance(report: ComparisonReport) -> float:
    """Return how many categories would look different if the models were equally good."""
    return float((1.0 - report.config["level"]) * len(report.categories))


def _comparison_head(report: ComparisonReport) -> str:
    lines = [GENERATED_WARNING, ""] if report.generated else []
    for name, model in (("A", report.model_a), ("B", report.model_b)):
        digest = f" ({model.digest[:12]})" if model.digest else ""
        lines.append(f"{name}        {model.name} {model.version}{digest}")
    left_out = not_compared(report)
    more = f"; not compared: {left_out}" if left_out else ""
    lines.append(f"papers   {report.n:,}{more}")
    return "\n".join(lines)


def _agreement(report: ComparisonReport) -> str:
    agreement = report.agreement
    rows = [
        ("", "B right", "B wrong"),
        ("A right", f"{agreement.both:,}", f"{agreement.only_a:,}"),
        ("A wrong", f"{agreement.only_b:,}", f"{agreement.neither:,}"),
    ]
    return (
        aligned(rows, left=(0,)) + f"\nequally good: p = {agreement.p_value:.2g} (McNemar, exact)"
    )


def _metrics(report: ComparisonReport) -> str:
    level = f"{100 * report.config['level']:g} % interval" if report.config["draws"] else ""
    rows = [("all papers", "A", "B", "B - A", level, "better")]
    for name, title in METRIC_TITLES.items():
        if name in report.metrics:
            rows.append(
                (title, *_cells(report.metrics[name], better_of(name, report.metrics[name])))
            )
    return aligned(rows, left=(0, 4, 5))


def _categories(report: ComparisonReport) -> str:
    clear = [c for c in report.categories if c.f1.is_clear]
    if not clear:
        return ""
    shown = sorted(clear, key=lambda c: -abs(c.f1.difference))[:_SHOWN_CATEGORIES]
    rows = [("F1 that differs", "papers", "A", "B", "B - A", "interval", "better")]
    for c in sorted(shown, key=lambda c: c.f1.difference):
        rows.append((c.code, f"{c.n:,}", *_cells(c.f1, better_of("f1", c.f1))))
    rest = (
        f"{len(shown)} of {len(clear)} categories whose interval leaves 0 out, of "
        f"{len(report.categories)}; about {expected_by_chance(report):.0f} would do so by chance"
    )
    return aligned(rows, left=(0, 5, 6)) + f"\n{rest}"


def _cells(d: Difference, better: str) -> tuple[str, str, str, str, str]:
    interval = "" if d.low is None or d.high is None else f"{signed(d.low)} to {signed(d.high)}"
    return f"{d.a:.3f}", f"{d.b:.3f}", signed(d.difference), interval, better


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
OUTCOMES = ("passed", "failed", "not_checked")
_NOTES = (
    "+/- clean: top-1 minus that of the clean papers in points, with its paired interval.",
    "conf.: mean probability of the top category. abst.: abstained. out: out of scope, a part of",
    "abst. right: accuracy of the accepted. same: share with the top category of the clean text.",
)


def robustness_text(report: RobustnessReport) -> str:
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
    return "\n".join([*_robustness_head(report), "", *lines, "", *_NOTES])


def gate_text(report: GateReport) -> str:
    """Return what a gate found as text for people: counts by group, then what fails."""
    rows: list[Sequence[str]] = [("group", "passed", "failed", "not checked")]
    for group, outcomes in counts_by_group(report).items():
        rows.append((group, *(f"{outcomes[kind]:,}" for kind in OUTCOMES)))
    lines = [*_gate_head(report), "", aligned(rows, left=(0,))]
    if report.failed:
        lines += ["", "what fails:", *(f"  {check}" for check in report.failed)]
    return "\n".join([*lines, "", verdict(report)])


def counts_by_group(report: GateReport) -> dict[str, Counter[str]]:
    """Return how many checks of each group have which outcome."""
    found: dict[str, Counter[str]] = {}
    for check in report.checks:
        found.setdefault(check.group, Counter())[check.outcome] += 1
    return found


def verdict(report: GateReport) -> str:
    """Return in one line whether the candidate passed."""
    checked = sum(check.outcome != "not_checked" for check in report.checks)
    if report.passed:
        return (
            f"passed: {'the only check holds' if checked == 1 else f'all {checked:,} checks hold'}"
        )
    if not report.failed:
        return "refused: nothing could be checked"
    return f"refused: {len(report.failed):,} of {checked:,} checks fail"


def _gate_head(report: GateReport) -> list[str]:
    lines = [GENERATED_WARNING, ""] if report.generated else []
    for name, model in (("candidate", report.candidate), ("champion ", report.champion)):
        words = f"{model.name} {model.version} ({model.digest[:12]})" if model else "none"
        lines.append(f"{name}  {words}")
    lines.append(f"data       {report.split} split of dataset {report.dataset_digest[:12]}")
    lines.append(f"papers     {report.n:,}")
    if report.left_out:
        lines.append(f"left out   {', '.join(report.left_out)}: the rules do not ask for them")
    return lines


def points(difference: Difference | None) -> str:
    """Return a difference of shares in points with its interval."""
    if difference is None:
        return ""
    value = f"{100 * difference.difference:+.1f}"
    if difference.low is None or difference.high is None:
        return value
    return f"{value} ({100 * difference.low:+.1f} {100 * difference.high:+.1f})"


def _robustness_head(report: RobustnessReport) -> list[str]:
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
