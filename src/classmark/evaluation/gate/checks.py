"""From rules and what was measured to the lines of a gate report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from classmark.evaluation.behaviour import BEHAVIOURS
from classmark.evaluation.gate.lines import NO_CHAMPION, Lines
from classmark.evaluation.gate.measured import Measured
from classmark.evaluation.gate.rules import GateRules
from classmark.evaluation.metrics.intervals import f1_interval, share_interval
from classmark.evaluation.robustness.gates import gate_values
from classmark.records import CategoryReport, GateCheck, MetricValue

_MOST_NAMED = 5


def check_rules(rules: GateRules, measured: Measured) -> tuple[GateCheck, ...]:
    """Return every line of a gate, in the order of the rules."""
    return tuple(
        [
            *_metrics(rules, measured),
            *_periods(rules, measured),
            *_categories(rules, measured),
            *_labels(rules, measured),
            *_robustness(rules, measured),
            *_behaviour(rules, measured),
            *_goldens(rules, measured),
            *_kernels(rules, measured),
            *_cost(rules, measured),
            *_signature(rules, measured),
            *_fit(rules, measured),
        ]
    )


def _metrics(rules: GateRules, measured: Measured) -> Iterator[GateCheck]:
    if rules.metrics is None:
        return
    lines = Lines("metrics")
    yield from lines.reached(rules.metrics, measured.report.metrics)
    differences = measured.comparison.metrics if measured.comparison else None
    yield from lines.compared(rules.metrics, differences)


def _periods(rules: GateRules, measured: Measured) -> Iterator[GateCheck]:
    limits = rules.periods
    if limits is None:
        return
    if not measured.report.periods:
        yield Lines("periods").open("all limits", "the dataset has no periods")
    for part in measured.report.periods:
        lines = Lines("periods", "period", part.name)
        if part.n < limits.papers:
            yield lines.few(limits, part.n)
            continue
        yield from lines.reached(limits, part.metrics)
        comparison = measured.periods.get(part.name)
        missing = measured.comparison is not None and comparison is None
        yield from lines.compared(
            limits,
            comparison.metrics if comparison else None,
            "no paper of it has a category that both know" if missing else NO_CHAMPION,
        )


def _categories(rules: GateRules, measured: Measured) -> Iterator[GateCheck]:
    limits = rules.categories
    if limits is None:
        return
    compared = {c.code: c.f1 for c in measured.comparison.categories} if measured.comparison else {}
    for found in measured.report.categories:
        lines = Lines("categories", "category", found.code)
        if found.n < limits.papers:
            yield lines.few(limits, found.n)
            continue
        yield from lines.reached(limits, _values_of(found, rules.measurement.level))
        missing = measured.comparison is not None and found.code not in compared
        yield from lines.compared(
            limits,
            {"f1": compared[found.code]} if found.code in compared else None,
            "the champion does not know it" if missing else NO_CHAMPION,
            surely=True,
        )


def _labels(rules: GateRules, measured: Measured) -> Iterator[GateCheck]:
    if rules.labels is None:
        return
    lines, facts = Lines("labels"), measured.labels
    if facts.missing is None:
        yield lines.open("labels of the champion that are missing", NO_CHAMPION)
    else:
        note = f"missing: {_some(facts.missing)}" if facts.missing else ""
        note = "; ".join(filter(None, [note, f"new: {_some(facts.new)}" if facts.new else ""]))
        yield lines.at_most(
            "labels of the champion that are missing",
            float(len(facts.missing)),
            float(rules.labels.most_missing),
            note=note,
        )
    yield lines.at_most(
        "share of test papers of a category that it does not know",
        facts.unknown,
        rules.labels.most_unknown,
    )


def _robustness(rules: GateRules, measured: Measured) -> Iterator[GateCheck]:
    if rules.robustness is None:
        return
    lines = Lines("robustness")
    if measured.robustness is None:
        yield lines.open("minima of the champion", NO_CHAMPION)
        return
    for value in gate_values(*measured.robustness):
        where = value.kind if value.level == value.kind else f"{value.kind}, {value.level}"
        name = f"{where}: {value.metric}"
        if value.value is None:
            yield lines.missing(name, "it has no value", value.minimum)
        else:
            yield lines.at_least(name, value.value, value.minimum)


def _behaviour(rules: GateRules, measured: Measured) -> Iterator[GateCheck]:
    if rules.behaviour is None:
        return
    lines = Lines("behaviour")
    if measured.behaviour is None:
        yield lines.open("all behaviours", "its labels are not arXiv's; the texts are of those")
        return
    for found in measured.behaviour:
        behaviour = BEHAVIOURS[found.name]
        name = f"{found.name}: {behaviour.claim}"
        if found.rate is None:
            yield lines.open(name, "the model has no case of it")
            continue
        held = found.cases - round((1 - found.rate) * found.cases)
        yield lines.at_least(
            name,
            found.rate,
            rules.behaviour.least.get(found.name, behaviour.least),
            share_interval(held, found.cases, rules.measurement.level),
            note=f"not for {_some(found.failed)}" if found.failed else "",
        )


def _goldens(rules: GateRules, measured: Measured) -> Iterator[GateCheck]:
    if rules.goldens is None or measured.goldens is None:
        return
    lines, replay = Lines("goldens"), measured.goldens
    note = f"another one for {_some(replay.other)}" if replay.other else ""
    yield lines.at_least("same category", replay.share, rules.goldens.least, note=note)
    if rules.goldens.most_change is not None:
        yield lines.at_most("change of a probability", replay.change, rules.goldens.most_change)


def _kernels(rules: GateRules, measured: Measured) -> Iterator[GateCheck]:
    parity = measured.kernels
    if rules.kernels is None or parity is None:
        return
    name = "papers that C and numpy score differently"
    if parity.differ is None:
        yield Lines("kernels").open(name, parity.note)
    else:
        note = f"of {parity.papers:,}"
        yield Lines("kernels").at_most(name, float(parity.differ), 0.0, note=note)


def _cost(rules: GateRules, measured: Measured) -> Iterator[GateCheck]:
    if rules.cost is None:
        return
    lines = Lines("cost")
    for name, limit in rules.cost.limits().items():
        cost = measured.costs[name.partition("_")[0]]
        if not name.endswith("_ratio"):
            yield lines.at_most(name, cost.candidate, limit)
        elif cost.ratio is None:
            yield lines.open(name, NO_CHAMPION)
        else:
            surely = cost.ratio if cost.low is None else cost.low
            drawn = MetricValue(value=cost.ratio, low=cost.low, high=cost.high)
            both = cost.champion, cost.candidate
            yield lines.at_most(name, surely, limit, drawn, both=both)


def _signature(rules: GateRules, measured: Measured) -> Iterator[GateCheck]:
    found = measured.signature
    if rules.signature is None or found is None:
        return
    lines, name = Lines("signature"), "signed by a trusted key"
    if found.holds is None and not rules.signature.required:
        yield lines.open(name, found.note)
    elif not found.holds:
        yield lines.missing(name, found.note)
    else:
        yield GateCheck(group="signature", name=name, outcome="passed", note=found.note)


def _fit(rules: GateRules, measured: Measured) -> Iterator[GateCheck]:
    leaks = measured.fit
    if rules.fit is None or leaks is None:
        return
    lines, name = Lines("fit"), "test papers in the fit"
    if leaks.papers is not None:
        yield lines.at_most(name, float(leaks.papers), 0.0, note=leaks.note)
    elif rules.fit.allow_unknown:
        yield lines.open(name, f"not checkable: {leaks.note}; the rules allow that")
    else:
        yield lines.missing(name, f"not checkable: {leaks.note}", 0.0, "at_most")


def _values_of(found: CategoryReport, level: float) -> dict[str, MetricValue]:
    """Return the metrics of a category; precision is missing where it was never first."""
    values = {
        "f1": f1_interval(found.right, found.n, found.predicted, level),
        "recall": share_interval(found.right, found.n, level),
    }
    if found.predicted:
        values["precision"] = share_interval(found.right, found.predicted, level)
    return values


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
