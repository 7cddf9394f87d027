"""A comparison as aligned plain text, at most 100 columns wide."""

from __future__ import annotations

from classmark.pages.render import GENERATED_WARNING, METRIC_TITLES, aligned
from classmark.records import ComparisonReport, Difference

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


def render_comparison(report: ComparisonReport) -> str:
    """Return the comparison as text for people; the JSON form has everything."""
    sections = [_head(report), _agreement(report), _metrics(report), _categories(report)]
    return "\n\n".join(section for section in sections if section)


def expected_by_chance(report: ComparisonReport) -> float:
    """Return how many categories would look different if the models were equally good."""
    return float((1.0 - report.config["level"]) * len(report.categories))


def _head(report: ComparisonReport) -> str:
    lines = [GENERATED_WARNING, ""] if report.generated else []
    for name, model in (("A", report.model_a), ("B", report.model_b)):
        digest = f" ({model.digest[:12]})" if model.digest else ""
        lines.append(f"{name}        {model.name} {model.version}{digest}")
    left_out = [
        f"{n:,} of {name}" for name, n in (("A", report.left_out_a), ("B", report.left_out_b)) if n
    ]
    more = f"; not compared: {', '.join(left_out)}" if left_out else ""
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
