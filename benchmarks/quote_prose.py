"""Sentences of MODELS and the pages that hold numbers, written from the committed reports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from report import SHIPPED, Measured, markdown, points, where_and_when

Read = Callable[[str], Any]

# The goals for the fast tier: the values by period, or one for all papers.
TOP_1 = (0.635, 0.600, 0.620)
TOP_5 = (0.932, 0.908, 0.910)
TOP_1_WITH_AUTHORS = (0.700, 0.660, 0.660)
ANY_LISTED_WITH_AUTHORS = (0.840, 0.820, 0.820)
MAX_ECE = 0.02
MACRO_F1_POINTS_WITH_AUTHORS = 4
MAX_COST_OF_AUTHORS = 0.15
MAX_MB_OF_AUTHORS = 40
TIMES_TF_IDF = 7.5
PAPERS_PER_CPU_SECOND = {"numpy": 20_000, "c": 50_000}
MAX_PAPER_US = 50
MAX_RESIDENT_MB = 150
MAX_WHEEL_MB = 26
UNBOUNDED = 10_000
"""A group of papers up to this number has no upper bound."""
MAX_POINTS_LOST = 0.3
# fast 1.1 by period; `git show 7bac15a:benchmarks/reports/fast-1.1-test.json` is its report.
FAST_1_1 = {
    "top_1": (0.6372, 0.5958, 0.6424),
    "top_5": (0.9356, 0.9244, 0.9418),
    "set_size": (2.777, 2.934, 2.980),
    "ece": (0.0174, 0.0339, 0.0338),
}


def since_fast_1_1(read: Read) -> str:
    """Return how the shipped model differs from the one before it."""
    now = _by_period(read(f"{SHIPPED}-test"))
    joined = read("authors")["with_authors"]
    periods = [name for name in joined if name != "all"]

    def change(metric: str, digits: int) -> str:
        sides = FAST_1_1[metric], now[metric], [joined[name][metric] for name in periods]
        return " -> ".join(" / ".join(f"{v:.{digits}f}" for v in side) for side in sides)

    return (
        f"Compared with fast 1.1 on the same test papers (until 2017, 2018-19, from 2020), first "
        f"by the text alone, then with authors: top-1 {change('top_1', 3)}, top-5 "
        f"{change('top_5', 3)}, categories in the 90 % set {change('set_size', 1)}, ECE "
        f"{change('ece', 3)}.\n"
    )


def aims(read: Read, bundle_bytes: int) -> str:
    """Return the goals for the fast tier, and whether it meets them, as a Markdown table."""
    shipped, parent = read(f"{SHIPPED}-test"), read(f"{SHIPPED}-parent-test")
    now = _by_period(shipped)
    alone, joined = (_by_metric(read("authors")[kind]) for kind in ("text", "with_authors"))
    everything = _by_metric(read("evidence")["ways"][-1]["periods"])
    gains = [100 * (b - a) for a, b in zip(alone["macro_f1"], joined["macro_f1"], strict=True)]
    floors = " / ".join(f"{v:.3f}" for v in now["ece_floor"])
    lost = [100 * (a - b) for a, b in zip(_by_period(parent)["top_1"], now["top_1"], strict=True)]
    all_lost = 100 * (parent["metrics"]["top_1"]["value"] - shipped["metrics"]["top_1"]["value"])
    rows = [
        _floors("top-1", TOP_1, now["top_1"], _interval(shipped, "top_1", 1, parent)),
        _floors("top-5", TOP_5, now["top_5"], ""),
        _floors("with authors: top-1", TOP_1_WITH_AUTHORS, joined["top_1"], ""),
        _floors(
            "with authors: any listed", ANY_LISTED_WITH_AUTHORS, joined["precision_at_1_listed"], ""
        ),
        _floors("with authors and neighbours: top-1", TOP_1_WITH_AUTHORS, everything["top_1"], ""),
        _floors(
            "with authors and neighbours: any listed",
            ANY_LISTED_WITH_AUTHORS,
            everything["precision_at_1_listed"],
            "",
        ),
        [
            f"ECE at most {MAX_ECE}",
            *(f"{v:.3f}, {met(v <= MAX_ECE)}" for v in now["ece"]),
            f"chance alone gives {floors} (`ece_floor`)",
        ],
        [
            f"with authors: ECE at most {MAX_ECE}",
            *(f"{v:.3f}, {met(v <= MAX_ECE)}" for v in joined["ece"]),
            "",
        ],
        [
            f"with authors: macro-F1 {MACRO_F1_POINTS_WITH_AUTHORS} points above the text's",
            *(f"{v:.1f}, {met(v >= MACRO_F1_POINTS_WITH_AUTHORS)}" for v in gains),
            "",
        ],
        [
            f"at most {MAX_POINTS_LOST} points lost to the float32 parent",
            *(f"{v:.2f}, {met(v <= MAX_POINTS_LOST)}" for v in lost),
            f"{all_lost:.2f} over all papers: {met(all_lost <= MAX_POINTS_LOST)}",
        ],
        *([goal, "", "", "", note] for goal, note in _costs(read, bundle_bytes)),
    ]
    return markdown(["goal", "until 2017", "2018-19", "from 2020", "notes"], rows)


def _costs(read: Read, bundle_bytes: int) -> list[tuple[str, str]]:
    """Return the goals for time, memory and size, each with what was measured."""
    speed, service = read("fast-speed"), read("service")
    resident_mb, wheel_mb = speed["max_resident_mb"], bundle_bytes / 1e6
    one_us, cost = round(speed["c"]["one_paper_us"]), speed["authors"]["cost"]
    share, least_share = service["headline"]["share_of_echo"], service["aims"]["share_of_echo"]
    times = {way: found["times"]["TF-IDF"] for way, found in speed["published"].items()}
    return [
        *(
            (
                f"{least:,} papers per CPU-second ({'C' if kernel == 'c' else kernel})",
                f"{(seen := speed[kernel]['papers_per_cpu_second']):,}, {met(seen >= least)}",
            )
            for kernel, least in PAPERS_PER_CPU_SECOND.items()
        ),
        (f"one paper in {MAX_PAPER_US} µs (C)", f"{one_us}, {met(one_us <= MAX_PAPER_US)}"),
        (
            f"answers {TIMES_TF_IDF} times as fast as scikit-learn's TF-IDF",
            "; ".join(f"{way} {v:.1f}, {met(v >= TIMES_TF_IDF)}" for way, v in times.items()),
        ),
        (
            f"authors cost at most {MAX_COST_OF_AUTHORS:.0%} of the time of a list of answers",
            f"{cost:.0%}, {met(cost <= MAX_COST_OF_AUTHORS)}",
        ),
        (
            f"authors take at most {MAX_MB_OF_AUTHORS} MB resident",
            f"{speed['authors']['resident_mb']}, "
            f"{met(speed['authors']['resident_mb'] <= MAX_MB_OF_AUTHORS)}",
        ),
        (
            f"with a journal, {least_share} of the requests/s of a bare echo",
            f"{share:.2f}, {met(share >= least_share)}",
        ),
        (
            f"at most {MAX_RESIDENT_MB} MB resident",
            f"{resident_mb}, {met(resident_mb <= MAX_RESIDENT_MB)}",
        ),
        (
            f"wheel of at most {MAX_WHEEL_MB} MB (the model)",
            f"{wheel_mb:.1f}, {met(wheel_mb <= MAX_WHEEL_MB)}",
        ),
    ]


def met(is_held: bool) -> str:
    """Return how a table says whether a goal is met."""
    return "yes" if is_held else "short"


def authors_by_period(read: Read, name: str) -> str:
    """Return the metrics of each period by the text alone and with authors, as a table."""
    report = read(name)
    names = {"top_1": "top-1", "top_5": "top-5", "precision_at_1_listed": "P@1 any listed",
             "macro_f1": "macro-F1", "ece": "ECE", "set_coverage": "coverage of the 90 % set",
             "set_size": "its size"}  # fmt: skip
    rows = [
        [period, row["papers"], words, *(f"{row[name]:.3f}" for name in names)]
        for period in (name for name in report["text"] if name != "all")
        for words, row in (
            ("text", report["text"][period]),
            ("with authors", report["with_authors"][period]),
        )
    ]
    return markdown(["period", "papers", "evidence", *names.values()], rows, "---") + (
        f"\nEarlier papers of at least one author are known for {report['share_known']:.0%} of the "
        "test papers; both rows are of all of them.\n"
    )


def authors_by_group(read: Read, name: str, group: str, head: str) -> str:
    """Return top-1 by how much is known of a paper's authors, as a table."""
    rows = [
        (
            _bounds(part["from"], part["to"]),
            part["papers"],
            f"{part['text']:.3f}",
            f"{part['with_authors']:.3f}",
            points(part["gain"]),
        )
        for part in read(name)[group]
    ]
    return markdown([head, "papers", "text", "with authors", "change, points"], rows)


def authors_by_size(read: Read) -> str:
    """Return top-1 by the size of the author table, as a table."""
    report = read("authors")
    periods = [name for name in report["text"] if name != "all"]
    rows = [
        (
            f"{size['entries']:,}",
            f"{size['mb']:.1f}",
            f"{size['mb_compressed']:.1f}",
            *(f"{size['metrics'][name]['top_1']:.3f}" for name in periods),
        )
        for size in report["sizes"]
        if size["metrics"]
    ]
    return markdown(["entries", "MB", "MB compressed", *periods], rows)


def _bounds(low: int, high: int) -> str:
    if low == high:
        return str(low)
    return f"{low} or more" if high >= UNBOUNDED else f"{low} to {high}"


def robustness_notes(read: Read) -> str:
    """Return where the shipped model is weak on perturbed papers, in words."""
    report = read(f"robustness-{SHIPPED}")
    typos, ocr = _level(report, "typos", "20 %"), _level(report, "ocr", "20 %")
    title, clean = _level(report, "title-only", "title"), report["clean"]["metrics"]
    prose = _level(report, "non-papers", "English prose")
    return (
        "**Weak:** if one word in five is misspelt or misread, top-1 is still "
        f"{_three(typos, 'top_1')} and {_three(ocr, 'top_1')} (clean: {clean['top_1']['value']:.3f}"
        f"), but the scope score, which counts known words, rejects {_share(typos, 'out_of_scope')}"
        f" and {_share(ocr, 'out_of_scope')} of the papers. A title alone changes top-1 by "
        f"{points(title['differences']['top_1'])} points, while the mean probability only falls "
        f"from {clean['confidence']['value']:.3f} to {_three(title, 'confidence')}: do not rely on "
        f"it there. Of the invented English texts that are not papers, "
        f"{1 - prose['metrics']['abstained']['value']:.0%} still get a category.\n"
    )


def scope_note(read: Read) -> str:
    """Return how many texts that are not papers are recognised as such, as a sentence."""
    report = read(f"robustness-{SHIPPED}")
    prose = _level(report, "non-papers", "English prose")
    missed = 1 - prose["metrics"]["out_of_scope"]["value"]
    return (
        f"The shipped threshold does not recognise {missed:.0%} of the {prose['n']} invented texts "
        "in plain English (such as a job advert, a speech, fiction) as out of scope. It rejects "
        f"{report['clean']['metrics']['out_of_scope']['value']:.1%} of the clean papers.\n"
    )


def encoder_note(read: Read) -> str:
    """Return the most that an encoder adds to the fast model, as a sentence."""
    tries = [one for one in read("two-cores")["tries"] if "beside_fast" in one]
    newest = list(tries[-1]["beside_fast"])[-1]

    def best(over: str) -> dict[str, Any]:
        found = max(tries, key=lambda one: one["beside_fast"][over]["difference"])
        return dict(found["beside_fast"])

    overall, recent = best("all"), best(newest)
    return (
        f"Over all papers, the best attempt adds {points(overall['all'])} points. On the newest "
        f"period, the best one adds {points(recent[newest])}, and changes all papers by "
        f"{points(recent['all'])}.\n"
    )


def service_levels(read: Read) -> str:
    """Return what the points of the service plot are, as a sentence."""
    report = read("service")
    levels = [point["concurrency"] for point in report["single"]]
    return (
        f"{report['workers']} workers on {report['provenance']['cores']} cores. Each point is a "
        f"number of connections, from {min(levels)} to {max(levels)}. The thin line is the goal of "
        f"{report['aims']['single_p99_ms']} ms for 99 of 100 requests.\n"
    )


def scale_note(read: Read) -> str:
    """Return how long all stages of the large run took, as a sentence."""
    minutes = sum(stage["seconds"] for stage in read("scale")["stages"].values()) / 60
    return f"All stages together took {minutes:.0f} minutes.\n"


def _by_period(report: Any) -> dict[str, list[float]]:
    names = report["periods"][0]["metrics"]
    return {m: [p["metrics"][m]["value"] for p in report["periods"]] for m in names}


def _by_metric(periods: dict[str, dict[str, float]]) -> dict[str, list[float]]:
    rows = [row for name, row in periods.items() if name != "all"]
    return {metric: [row[metric] for row in rows] for metric in rows[0]}


def _floors(name: str, wanted: tuple[float, ...], seen: list[float], note: str) -> list[str]:
    goal = f"{name} {' / '.join(f'{v:.3f}' for v in wanted)}"
    cells = [
        "yes" if value >= least else f"short by {least - value:.3f}"
        for least, value in zip(wanted, seen, strict=True)
    ]
    return [goal, *cells, note]


def _interval(report: Any, metric: str, period: int, parent: Any) -> str:
    found, before = (r["periods"][period] for r in (report, parent))
    value = found["metrics"][metric]
    return (
        f"{found['name']}: interval {value['low']:.3f} to {value['high']:.3f}; the float32 parent "
        f"has {before['metrics'][metric]['value']:.3f}"
    )


def _level(report: Any, kind: str, level: str) -> Any:
    levels = next(k["levels"] for k in report["kinds"] if k["name"] == kind)
    return next(part for part in levels if part["name"] == level)


def _three(level: Any, metric: str) -> str:
    return f"{level['metrics'][metric]['value']:.3f}"


def _share(level: Any, metric: str) -> str:
    return f"{level['metrics'][metric]['value']:.0%}"


def neighbours(r: Measured) -> str:
    """Return what an index finds and takes, by bits and by lists that a search reads."""
    rows = [
        (
            bits,
            f"{found['bytes_per_paper']:.0f}",
            f"{found['build']['cpu_s']:.0f}",
            lists,
            f"{point['recall']:.3f}",
            f"{point['median_ms']:.2f} / {point['p95_ms']:.2f}",
        )
        for bits, found in r["bits"].items()
        for lists, point in found["probes"].items()
    ]
    head = [
        "bits",
        "bytes a paper",
        "build, CPU-s",
        "lists read",
        f"recall of the nearest {r['k']}",
    ]
    return (
        f"{markdown([*head, 'a query, median / p95, ms'], rows)}\n{r['papers']:,} papers, of "
        f"which {r['real_papers']:,} are real and the others sums of two; {r['queries']} queries. "
        f"Making the vectors of the real ones takes {r['vectors_cpu_s']:.0f} CPU-seconds more. "
        f"{where_and_when(r)}.\n"
    )


def evidence(r: Measured) -> str:
    """Return what each kind of evidence gives, by period, and what it costs a paper."""
    periods = [name for name in r["ways"][0]["periods"] if name != "all"]
    rows = []
    for way in r["ways"]:
        found = [way["periods"][period] for period in periods]
        name = way["evidence"] + (f" ({way['bits']} bits)" if "bits" in way else "")
        gain = points(way["gain"]["top_1"]) if "gain" in way else ""
        columns = (
            " / ".join(f"{one[metric]:.3f}" for one in found)
            for metric in ("top_1", "precision_at_1_listed", "macro_f1", "ece")
        )
        rows.append((name, *columns, gain, f"{way['cpu_us']:,.0f}"))
    head = ["evidence", "top-1", "P@1 any listed", "macro-F1", "ECE"]
    head += ["change of top-1 by neighbours, points", "CPU-µs a paper"]
    sizes = ", ".join(
        f"{index['mb_compressed']:.1f} MB compressed at {bits} bits"
        for bits, index in r["indexes"].items()
    )
    known = next(iter(r["indexes"].values()))["papers"]
    return (
        f"{markdown(head, rows)}\n{' / '.join(periods)}; {r['papers']:,} papers, none of which is "
        f"among the {known:,} of the index ({sizes}). {where_and_when(r)}.\n"
    )


def evidence_asked(r: Measured) -> str:
    """Return accuracy of the text with neighbours by how many papers are asked about."""
    rows = [
        (
            "all" if point["below"] == 1 else f"{point['below']:g}",
            f"{point['share']:.0%}",
            " / ".join(f"{v:.3f}" for name, v in point["top_1"].items() if name != "all"),
        )
        for point in r["asked"]
    ]
    return markdown(["asked below", "papers asked about", "top-1"], rows)
