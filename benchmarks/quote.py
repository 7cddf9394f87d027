"""Writes the numbers of README, MODELS and docs from the committed reports, between their markers.

python benchmarks/quote.py [--check]    (numbers are between ``<!-- NAME -->`` and ``<!-- end -->``)

It also writes how each category fared into the packaged model, which publishes it with answers,
and into its card; what decides answers, and so the digest, stays as it is.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import quote_deep
import quote_peers
import quote_prose
import quote_ray
import quote_report
import quote_retrain
import quote_watch
from classmark import taxonomy
from classmark.bundle import read_manifest
from classmark.bundle.files import MANIFEST_FILE
from classmark.bundle.manifest import MEASURED_FILE, render_manifest, render_measured
from classmark.export.card import WEAKEST, weakest_table
from classmark.records import BundleFile, EvaluationReport
from classmark.records.manifests import BUNDLE_FORMAT
from report import (
    ROOT,
    SHIPPED,
    markdown,
    points,
    read_report,
    where_and_when,
    with_interval,
    write_or_check,
)

PACKAGED = f"src/classmark/bundles/{SHIPPED}"
CARD = "CARD.md"
_BLOCK = re.compile(r"(<!-- (?!end )(\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_METRICS = {
    "top_1": "top-1",
    "top_3": "top-3",
    "top_5": "top-5",
    "precision_at_1_listed": "P@1 any listed",
    "macro_f1": "macro-F1",
    "ece": "ECE",
    "set_coverage": "coverage of the 90 % set",
    "set_size": "its size",
    "archive_accuracy": "archive",
}

_ROBUSTNESS_METRICS = {
    "top_1": "top-1",
    "top_5": "top-5",
    "confidence": "probability",
    "ece": "ECE",
    "abstained": "abstained",
    "out_of_scope": "out of scope",
}
# Name of a block, group of a report of authors, head of its first column.
_AUTHOR_GROUPS = (
    ("known", "by_known_authors", "authors known by their full names"),
    ("careers", "by_earlier_papers", "earlier papers of the best-known one"),
)
# What MODELS.md shows of the robustness report: kind -> levels.
_ROBUSTNESS = {
    "typos": ("5 %", "20 %"),
    "ocr": ("5 %", "20 %"),
    "missing-blanks": ("10 %",),
    "look-alikes": ("20 %",),
    "html": ("20 %",),
    "latex-stripped": ("100 %",),
    "case": ("upper",),
    "abstract-only": ("abstract",),
    "truncation": ("50 words", "10 words"),
    "title-only": ("title",),
    "other-languages": ("other texts", "abstracts"),
    "non-papers": ("machine-made", "English prose"),
}


def table_of(report: str, periods: list[str] | None = None) -> str:
    """Return the metrics of each period as a Markdown table."""
    parts = [p for p in read_report(report)["periods"] if periods is None or p["name"] in periods]
    rows = [
        [p["name"], p["n"], *(f"{p['metrics'][m]['value']:.3f}" for m in _METRICS)] for p in parts
    ]
    return markdown(["period", "papers", *_METRICS.values()], rows, "---")


def never_right() -> str:
    """Return the categories that are never right on the test papers, as a sentence."""
    report = EvaluationReport.from_dict(read_report(f"{SHIPPED}-test"))
    never = [c for c in report.categories if c.n and not c.right]
    codes = ", ".join(f"`{c.code}` ({c.n})" for c in never)
    n_papers, n_first = sum(c.n for c in never), sum(c.predicted for c in never)
    archives = {taxonomy.parent(c.code) for c in never}
    whole = [
        taxonomy.archive_name(archive)
        for archive in sorted(archives)
        if all(c in never for c in report.categories if taxonomy.parent(c.code) == archive)
    ]
    return (
        f"**Never right:** {len(never)} of the {len(report.categories)} categories are never "
        f"recognised among the {report.n:,} test papers, including all of {' and '.join(whole)}: "
        f"{codes} (number of test papers in brackets, {n_papers} in total). They came first "
        f"{n_first} times, each time wrongly.\n"
    )


def mixes() -> str:
    """Return top-1 of the newest period by the mix of categories, as a Markdown table."""
    found = read_report("reliability")["mixes"]
    rows = [(mix["mix"], mix["largest"], with_interval(mix["top_1"])) for mix in found["mixes"]]
    head = [f"mix of categories, {found['period']}", "its largest", "top-1"]
    return markdown(head, rows) + (
        f"\nThe same {found['n']:,} test papers of {found['categories']} categories, weighted.\n"
    )


def mix_note() -> str:
    """Return what the newest period's top-1 is under other mixes of categories, as a sentence."""
    found = read_report("reliability")["mixes"]
    own, *others = [f"{mix['top_1']['value']:.3f} {mix['mix']}" for mix in found["mixes"]]
    return (
        f"Top-1 of {found['period']} depends on the mix of categories: it is {own}, "
        f"{', '.join(others)}.\n"
    )


def sets() -> str:
    """Return how often sets of shorter and shorter texts hold the primary, as a table."""
    rows = [
        (part["what"], round(part["words"]), with_interval(part["coverage"]))
        for part in read_report("reliability")["sets"]
    ]
    return markdown(["of the test papers", "words (mean)", "sets that contain the primary"], rows)


def packaged() -> dict[str, str]:
    """Return the files of the packaged model that say what was measured, and its manifest."""
    report = EvaluationReport.from_dict(read_report(f"{SHIPPED}-test"))
    folder = ROOT / PACKAGED
    head = (folder / CARD).read_text(encoding="utf-8").partition(WEAKEST)[0]
    card = f"{head}{WEAKEST}\n\n{weakest_table(report)}\n"
    digest = hashlib.sha256(card.encode()).hexdigest()
    described = BundleFile(sha256=digest, bytes=len(card.encode()))
    manifest = read_manifest(folder)
    sealed = replace(
        manifest, files={**manifest.files, CARD: described}, format_version=BUNDLE_FORMAT
    )
    return {
        f"{PACKAGED}/{CARD}": card,
        f"{PACKAGED}/{MEASURED_FILE}": render_measured(report.categories),
        f"{PACKAGED}/{MANIFEST_FILE}": render_manifest(sealed).decode(),
    }


def bundle_bytes() -> int:
    """Return the size of the files of the packaged model, compressed as in the wheel."""
    names = read_manifest(ROOT / PACKAGED).files
    return sum(len(zlib.compress((ROOT / PACKAGED / name).read_bytes())) for name in names)


_YARDSTICKS = {"python": "a word count in Python"}


def speed() -> str:
    """Return the speeds as a Markdown table, beside the yardsticks of the same run."""
    s = read_report("fast-speed")
    names = list(s["published"]["list"]["times"])
    rows = [
        (
            k,
            s[k]["papers_per_cpu_second"],
            f"{s[k]['one_paper_us']:.0f} µs",
            *(f"{s['times'][k][name]:.1f}" if name in s["yardsticks"] else "" for name in names),
        )
        for k in ("c", "numpy")
    ]
    rows += [
        (
            f"published (C): {way}",
            p["papers_per_cpu_second"],
            "",
            *(f"{p['times'][name]:.1f}" for name in names),
        )
        for way, p in s["published"].items()
    ]
    times = (f"times {_YARDSTICKS.get(name, name)}" for name in names)
    head = ["kernel", "papers per CPU-second", "one paper", *times]
    of = "invented" if s["invented"] else "real"
    return markdown(head, rows, "---") + (
        f"\n{s['papers']:,} {of} papers of {s['mean_bytes']} bytes; {where_and_when(s)}; "
        f"resident memory {s['max_resident_mb']} MB.\n"
    )


def service() -> str:
    """Return what the service was measured at, beside a bare echo, as a Markdown table."""
    r = read_report("service")
    h, aims = r["headline"], r["aims"]
    requests, p99_ms = h["single_requests_per_s"], h["single_p99_ms"]
    rows = [
        (
            "single papers, requests/s (p99)",
            f"{requests:,} ({p99_ms:.0f} ms)",
            f"{aims['single_requests_per_s']:,} ({aims['single_p99_ms']} ms)",
            requests >= aims["single_requests_per_s"] and p99_ms <= aims["single_p99_ms"],
        ),
        (
            "papers/s in batches of 200",
            f"{h['batch_papers_per_s']:,}",
            f"{aims['batch_papers_per_s']:,}",
            h["batch_papers_per_s"] >= aims["batch_papers_per_s"],
        ),
        (
            "share of a bare one-worker FastAPI echo",
            f"{h['share_of_echo']:.2f} (of {h['echo_requests_per_s']:,}/s); "
            f"{h['share_without_journal']:.2f} without a journal",
            aims["share_of_echo"],
            h["share_of_echo"] >= aims["share_of_echo"],
        ),
        (
            "seconds from start to ready",
            f"{h['ready_s']:.1f}",
            aims["ready_s"],
            h["ready_s"] <= aims["ready_s"],
        ),
        (
            "resident memory, one worker",
            f"{h['resident_mb_one_worker']} MB",
            f"{aims['resident_mb_one_worker']} MB",
            h["resident_mb_one_worker"] <= aims["resident_mb_one_worker"],
        ),
    ]
    judged = [(*row, quote_prose.met(is_met)) for *row, is_met in rows]
    return markdown(["measured", "", "aim", "met"], judged, "---") + (
        f"\n{where_and_when(r)}; {r['workers']} workers, journal and log on; load generator: "
        f"{r['load_generator']}. `python benchmarks/service.py` measures it on your machine.\n"
    )


def containers() -> str:
    """Return what the images weigh and how fast they start, as a Markdown table."""
    rows = [
        (
            f"`{image['image']}`",
            f"{image['megabytes']:,.0f}",
            str(image["layers"]),
            f"{image['version_s']:.1f}",
            f"{image['ready_s']:.1f}" if "ready_s" in image else "",
        )
        for image in read_report("containers")["images"].values()
    ]
    head = ("image", "MB", "layers", "`--version`, s", "start to first answer, s")
    return markdown(head, rows)


def faults() -> str:
    """Return how the service fared in trouble, as a Markdown table."""
    r = read_report("faults")
    h, client, raw = r["headline"], r["kills"]["client"], r["kills"]["raw"]
    deadlines = ", ".join(f"{p['deadline_ms']:,}" for p in r["overload"])
    rows = [
        (
            "three times the load, batches of 100: answered in time, share of the peak",
            " / ".join(f"{p['goodput_share']:.2f}" for p in r["overload"]),
            "0.90",
        ),
        (
            "the same: median time to a refusal, ms",
            " / ".join(f"{p['refused_ms']['p50']:.1f}" for p in r["overload"]),
            "5",
        ),
        (
            f"{client['kills']} kills of a worker: requests failed through the Python client",
            f"{client['failed']} of {client['answered'] + client['failed']:,}",
            "0",
        ),
        (
            f"{raw['kills']} kills: requests failed on connections that do not try again",
            f"{raw['failed']} of {round(raw['answered_per_s'] * raw['seconds']) + raw['failed']:,}",
            "",
        ),
        (
            f"{h['hostile_requests']:,} hostile requests: slowest honest one, s",
            h["hostile_honest_slowest_s"],
            "1.0",
        ),
        ("the same: maximum growth of memory, MB", h["hostile_memory_growth_mb"], ""),
    ]
    return markdown(["measured", "value", "aim"], rows) + (
        f"\nDeadlines of the overload: {deadlines} ms. {where_and_when(r)}; the load runs "
        "on the same cores. `python benchmarks/faults.py` measures it.\n"
    )


def data_short() -> str:
    """Return the dataset in a few numbers."""
    d = read_report("data-card")
    words, language = d["abstract_words"], d["language"]
    return markdown(
        ["fact", "value"],
        [
            ("papers kept, of those read", f"{d['kept']:,} of {d['read']:,}"),
            ("categories", d["labels"]),
            ("first versions", f"{d['first_date'][:7]} to {d['last_date'][:7]}"),
            ("cross-listed", f"{d['cross_listed'] / d['kept']:.0%}"),
            (
                "words in an abstract: median (5 % to 95 %)",
                f"{words['median']:.0f} ({words['p5']:.0f} to {words['p95']:.0f})",
            ),
            ("probably not English", f"{language['not_english']:,}"),
            ("near-duplicates left", d["near_duplicates"]),
            ("digest of the dataset", f"`{d['dataset_digest'][:12]}`"),
        ],
    )


def data_dropped() -> str:
    """Return what was dropped by reason."""
    dropped = sorted(read_report("data-card")["dropped"].items(), key=lambda item: -item[1])
    return markdown(["reason", "papers"], [(f"`{reason}`", n) for reason, n in dropped])


def data_counts(kind: str, title: str) -> str:
    """Return papers by split and value of periods, groups, archives or categories."""
    names = {"groups": taxonomy.group_name, "archives": taxonomy.archive_name}.get(kind)
    rows = []
    for value, counts in read_report("data-card")[kind].items():
        shown = value if names is None else names(value)
        if kind == "categories":
            shown = f"`{value}` {taxonomy.name(value)}"
        rows.append((shown, *counts.values(), sum(counts.values())))
    if kind in ("groups", "archives"):
        rows.sort(key=lambda row: -row[-1])
    return markdown([title, "train", "valid", "test", "all"], rows)


def robustness() -> str:
    """Return how the model fares on perturbed papers and other texts, as a Markdown table."""
    report = read_report(f"robustness-{SHIPPED}")
    found = {(k["name"], part["name"]): part for k in report["kinds"] for part in k["levels"]}
    top_1, *others = _ROBUSTNESS_METRICS.values()
    rows = [["clean papers", *_robustness_cells(report["clean"])]]
    for kind, levels in _ROBUSTNESS.items():
        for level in levels:
            rows.append([f"{kind}: {level}", *_robustness_cells(found[kind, level])])
    return markdown(["", top_1, "change, points", *others], rows, "---") + (
        f"\n{report['n']:,} papers of the test split, drawn with seed "
        f"{report['config']['seed']}, and our own invented other texts; {report['date'][:10]}.\n"
    )


def scale() -> str:
    """Return what each stage took at the size of arXiv, as a Markdown table."""
    r = read_report("scale")
    compared = r["compared"]
    rows = [
        (
            name,
            stage["papers"],
            round(stage["seconds"]),
            round(stage["cpu_s"]),
            stage.get("papers_per_s", "–"),
            f"{stage['peak_rss_gib']:.2f}",
            f"{stage['peak_own_gib']:.2f}",
        )
        for name, stage in r["stages"].items()
    ]
    head = ["stage", "papers", "seconds", "CPU-seconds", "papers/s", "peak GiB", "of that its own"]
    same = {True: "the same", False: "NOT the same"}
    rows_agree = compared["one_process_rows"] == compared["two_processes_rows"]
    return (
        f"{markdown(head, rows)}\nThe resumed file is {same[compared['resumed_is_undisturbed']]} "
        f"to the last byte as the undisturbed one, and the first {compared['checked_papers']:,} "
        f"rows are {same[rows_agree]} as those of one process. {where_and_when(r)}; a dump of "
        f"{r['bytes_of_dump'] / 1e9:.1f} GB.\n"
    )


def _robustness_cells(level: dict[str, Any]) -> list[str]:
    top_1, *others = (
        f"{level['metrics'][name]['value']:.3f}" if name in level["metrics"] else ""
        for name in _ROBUSTNESS_METRICS
    )
    change = level["differences"].get("top_1")
    return [top_1, "" if change is None else points(change), *others]


BLOCKS: dict[str, Callable[[], str]] = {
    "data_short": data_short,
    "data_dropped": data_dropped,
    "data_periods": lambda: data_counts("periods", "period"),
    "data_groups": lambda: data_counts("groups", "group"),
    "data_archives": lambda: data_counts("archives", "archive"),
    "data_categories": lambda: data_counts("categories", "category"),
    "robustness": robustness,
    "containers": containers,
    "faults": faults,
    "scale": scale,
    "ray_overhead": lambda: quote_ray.overhead(read_report("ray-scale")),
    "neighbours": lambda: quote_prose.neighbours(read_report("neighbours")),
    "learning": lambda: quote_peers.learning(read_report("learning")),
    "evidence": lambda: quote_prose.evidence(read_report("evidence")),
    "evidence_asked": lambda: quote_prose.evidence_asked(read_report("evidence")),
    "ray_model": lambda: quote_ray.model(read_report("ray-scale")),
    "service": service,
    "never_right": never_right,
    "mixes": mixes,
    "mix_note": mix_note,
    "sets": sets,
    "same_period": lambda: table_of(f"{SHIPPED}-test"),
    "next_period": lambda: table_of("next-period", ["2018-2019", "from-2020"]),
    "speed": speed,
    "peers": lambda: quote_peers.accuracy(read_report("peers"), "all"),
    "peers_cost": lambda: quote_peers.cost(read_report("peers"), "all"),
    "peers_five": lambda: quote_peers.accuracy(read_report("peers"), "five"),
    "peers_five_cost": lambda: quote_peers.cost(read_report("peers"), "five"),
    "two_cores": lambda: quote_deep.tries(read_report("two-cores")),
    "deep_kernels": lambda: quote_deep.kernels(read_report("deep")),
    "deep_serving": lambda: quote_deep.serving(read_report("deep")),
    "compression": lambda: quote_deep.compression(read_report("compression")),
    "cascade": lambda: quote_deep.cascade(read_report("cascade")),
    "loading": lambda: quote_deep.loading(read_report("loading")),
    "loading_fit": lambda: quote_deep.loading_fit(read_report("loading")),
    "distributed": lambda: quote_deep.distributed(read_report("distributed")),
    "distributed_model": lambda: quote_deep.distributed_model(read_report("distributed")),
    "since_fast_1_1": lambda: quote_prose.since_fast_1_1(read_report),
    "authors_by_period": lambda: quote_prose.authors_by_period(read_report, "authors"),
    "next_authors": lambda: quote_prose.authors_by_period(read_report, "authors-next"),
    **{
        f"{prefix}authors_{name}": partial(
            quote_prose.authors_by_group, read_report, report, group, head
        )
        for prefix, report in (("", "authors"), ("next_", "authors-next"))
        for name, group, head in _AUTHOR_GROUPS
    },
    "authors_by_size": lambda: quote_prose.authors_by_size(read_report),
    "aims": lambda: quote_prose.aims(read_report, bundle_bytes()),
    "robustness_notes": lambda: quote_prose.robustness_notes(read_report),
    "scope_note": lambda: quote_prose.scope_note(read_report),
    "encoder_note": lambda: quote_prose.encoder_note(read_report),
    "service_levels": lambda: quote_prose.service_levels(read_report),
    "scale_note": lambda: quote_prose.scale_note(read_report),
    **{name: partial(make, read_report) for name, make in quote_report.BLOCKS.items()},
    "servers_fast": lambda: quote_peers.servers(read_report("servers"), "fast"),
    "servers_deep": lambda: quote_peers.servers(read_report("servers"), "deep"),
    "label_free": lambda: quote_watch.estimates(read_report("label-free")),
    "label_free_references": lambda: quote_watch.references(read_report("label-free")),
    "label_free_rivals": lambda: quote_watch.rivals(read_report("label-free")),
    "few_labels": lambda: quote_watch.joined(read_report("label-free")),
    "accuracy_alarms": lambda: quote_watch.alarms(read_report("label-free")),
    "decay": lambda: quote_peers.decay_by_year(read_report("decay")),
    "retrain_policies": lambda: quote_retrain.policies(read_report("retrain-policy")),
    "retrain_continued": lambda: quote_retrain.continued(read_report("retrain-policy")),
    "decay_age": lambda: quote_peers.decay_by_age(read_report("decay")),
}


def render(text: str) -> str:
    """Return the text with every block filled in again."""
    return _BLOCK.sub(lambda m: m[1] + BLOCKS[m[2]]() + m[3], text)


def main() -> None:
    """Write, or with --check fail if a number is stale."""
    pages = [str(page.relative_to(ROOT)) for page in sorted(ROOT.glob("docs/how-to/*.md"))]
    pages += [str(page.relative_to(ROOT)) for page in sorted(ROOT.glob("docs/explanation/*.md"))]
    wanted = {ROOT / name: text for name, text in packaged().items()}
    named = (
        "README.md",
        "MODELS.md",
        "docs/data-card.md",
        "docs/benchmarks.md",
        "reports/README.md",
    )
    for name in (*named, *pages):
        wanted[ROOT / name] = render((ROOT / name).read_text(encoding="utf-8"))
    write_or_check(wanted, "python benchmarks/quote.py")


if __name__ == "__main__":
    main()
