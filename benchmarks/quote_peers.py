"""The tables of the peers, of other servers and of decay, from their committed reports."""

from __future__ import annotations

from typing import Any

from report import markdown, points, where_and_when, with_interval

_AGES = 10


def measured(report: Any, comparison: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the peers that were measured, the best first."""
    peers = report["comparisons"][comparison]["peers"].items()
    found = [(name, peer) for name, peer in peers if "fit" in peer]
    return sorted(found, key=lambda item: -item[1]["metrics"]["top_1"]["value"])


def accuracy(report: Any, comparison: str) -> str:
    """Return how right the peers are, over all test papers and by period."""
    peers = measured(report, comparison)
    periods = list(peers[0][1]["periods"]) if len(peers[0][1]["periods"]) > 1 else []
    names = {"top_5": "top-5", "macro_f1": "macro-F1", "ece": "ECE"}
    if comparison != "all":  # five of five categories
        del names["top_5"]
    rows = []
    for _, peer in peers:
        m, beside = peer["metrics"], peer.get("beside_classmark")
        ages = [f"{peer['periods'][period]['top_1']['value']:.3f}" for period in periods]
        others = [f"{m[name]['value']:.3f}" if name in m else "–" for name in names]
        last = points(beside["top_1"]) if beside else ""
        rows.append([peer["title"], with_interval(m["top_1"]), *ages, *others, last])
    head = ["fitted on the same papers", "top-1", *periods, *names.values()]
    table = markdown([*head, "top-1, points beside classmark"], rows, "---")
    return f"{table}\n{_absent(report, comparison)}"


def _absent(report: Any, comparison: str) -> str:
    peers = report["comparisons"][comparison]["peers"].values()
    absent = [f"{p['title']}: {p['not_available']}" for p in peers if "not_available" in p]
    if comparison == "all":
        absent += [f"{name}: {why}" for name, why in report["not_tried"].items()]
    return f"Not measured: {'; '.join(absent)}.\n" if absent else ""


def cost(report: Any, comparison: str) -> str:
    """Return what the peers cost."""
    rows = []
    for _, peer in measured(report, comparison):
        fit, serve = peer["fit"], peer["serve"]
        rows.append(
            [
                peer["title"],
                f"{fit['cpu_s']:,.0f}" if fit["cpu_s"] else "–",
                f"{fit['peak_mb']:,}" if fit["cpu_s"] else "–",
                f"{fit['size_mb']:,.1f}",
                f"{serve['papers_per_cpu_s']:,.0f}",
                f"{serve['one_paper_cpu_ms']:.2f}",
                f"{serve['peak_mb']:,}",
            ]
        )
    head = ["", "fit, CPU-s", "fit, MB", "model, MB", "papers per CPU-s", "one paper, CPU-ms"]
    papers = report["comparisons"][comparison]["papers"]
    note = (
        f"{papers['train']:,} papers to fit on, {papers['valid']:,} to choose and calibrate, "
        f"{papers['test']:,} to test; one thread; {where_and_when(report)}."
    )
    return f"{markdown([*head, 'memory, MB'], rows, '---')}\n{note}\n"


def decay_by_year(report: Any) -> str:
    """Return accuracy in each year of test under each schedule, and what is recovered."""
    used = {
        name: {cell["test"]: cell for cell in cells}
        for name, cells in report["in_use"]["recent"].items()
    }
    recovered = {
        (r["schedule"], r["test"]): r["recovery"]
        for r in report["recovered"]
        if r["series"] == "recent"
    }
    rows = []
    for test, facts in report["tests"].items():
        old = used["never"][test]
        tops = [
            f"{used[name][test]['top_1']['value']:.3f}" if test in used[name] else "–"
            for name in ("never", "every 3 years", "every year", "same year")
        ]
        back = [_percent(recovered.get((n, test))) for n in ("every 3 years", "every year")]
        unseen = f"{100 * old['unseen_share']:.1f} %"
        mix = f"{old['top_1_fixed_mix']['value']:.3f}" if old["top_1_fixed_mix"] else "–"
        rows.append([test, f"{facts['papers']:,}", *tops, *back, unseen, mix])
    together = [
        _percent(recovered.get((name, "together until 2019")))
        for name in ("every 3 years", "every year")
    ]
    rows.append(["2010-2019 together", "", "", "", "", "", *together, "", ""])
    head = ["papers of", "papers", "fitted once (2009)", "every 3 years", "every year"]
    head += ["same year too", "recovered, 3 years", "recovered, yearly"]
    head += ["once: papers of unseen categories", "once, at a fixed mix"]
    return markdown(head, rows, "---")


def learning(report: Any) -> str:
    """Return top-1 of a fixed model, of one whose table and index grow, and of a new fit."""
    rows = []
    for year, found in report["tests"].items():
        for what, words in _LEARNT.items():
            tops = [
                f"{found['top_1'][way]['value']:.3f}"
                for way in (f"fixed: {what}", f"grown: {words}", f"retrained: {what}")
            ]
            rows.append([year, what, *tops, _percent(found["recovered"].get(what))])
    papers = ", ".join(f"{n:,} to the end of {year}" for year, n in report["papers"].items())
    steps = report["steps_a_year"]
    head = ["papers of", "evidence", f"fitted to {report['fixed_until']}", "the same, grown"]
    head += ["fitted to the year before", "recovered by growing"]
    return (
        f"{markdown(head, rows, '---')}\nFitted on {papers}; table and index grow "
        f"{f'{steps} times' if steps > 1 else 'once'} a year. {where_and_when(report)}.\n"
    )


_LEARNT = {"text": "index", "authors": "authors", "authors and index": "authors and index"}
"""Evidence of a model -> what grows beside it."""
_WIDEST_SHARE = 1.0
"""A share of a loss that is hardly one is not quoted: its interval is wider than this."""


def _percent(found: dict[str, float] | None) -> str:
    if found is None or found["high"] - found["low"] > _WIDEST_SHARE:
        return "–"
    value, low, high = (100 * found[key] for key in ("value", "low", "high"))
    return f"{value:.0f} % ({low:.0f} to {high:.0f})"


def decay_by_age(report: Any) -> str:
    """Return the points of top-1 lost by age, of equal fits and of growing ones."""
    series = report["lost_by_age"]
    rows = []
    for p in series["recent"]:
        if p["age"] > _AGES:
            continue
        grown = next((q for q in series.get("all", []) if q["age"] == p["age"]), None)
        rows.append(
            [
                str(p["age"]),
                str(p["buckets"]),
                points(p["lost"], "value"),
                points(grown["lost"], "value") if grown else "–",
            ]
        )
    n = report["settings"]["recent_papers"]
    head = ["years between fit and papers", "years compared"]
    return markdown([*head, f"points lost, newest {n:,}", "points lost, all papers"], rows, "---")


def servers(report: Any, model: str) -> str:
    """Return what servers do and cost under loads with one model."""
    limit, rows = report["p99_limit_ms"], []
    for name, found in report["loads"][model].items():
        over, best = found["overload"], found["best"]
        all_answered = (p for p in found["single"] if not p["refused"] + p["broken"])
        each = [point["cpu_ms_per_request"] for point in all_answered]
        late = sum(over["other"].values())
        sent = max(1, over["answered"] + over["refused"] + late)
        rows.append(
            [
                *(name, f"{best['requests_per_s']:,.0f}" if best else "none", f"{min(each):.2f}"),
                *(found["pss_mb"], f"{found['ready_s']:.1f}", f"{over['goodput_share']:.0%}"),
                f"{over['refused'] / sent:.0%}",
            ]
        )
    head = ["server", f"papers/s with p99 up to {limit} ms", "CPU-ms a paper at best"]
    head += ["memory, MB", "ready, s", "goodput at three times the load", "refused there"]
    return markdown(head, rows) + (
        f"\n{report['workers']} workers each; {where_and_when(report)}; clients on the same cores, "
        "all servers in memory. Goodput: answers within a second, of the peak of a closed loop.\n"
    )
