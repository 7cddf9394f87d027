"""Writes the numbers of README.md and MODELS.md from the committed reports, between their markers.

python benchmarks/quote.py [--check]
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
REPORTS = Path(__file__).parent / "reports"
_BLOCK = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
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


def read(name: str) -> Any:
    """Return a committed report."""
    return json.loads((REPORTS / f"{name}.json").read_text(encoding="utf-8"))


def table_of(report: str, periods: list[str] | None = None) -> str:
    """Return the metrics of each period as a Markdown table."""
    parts = [p for p in read(report)["periods"] if periods is None or p["name"] in periods]
    head = ["period", "papers", *_METRICS.values()]
    rows = [
        [p["name"], f"{p['n']:,}", *(f"{p['metrics'][m]['value']:.3f}" for m in _METRICS)]
        for p in parts
    ]
    return "\n".join("| " + " | ".join(r) + " |" for r in [head, ["---"] * len(head), *rows]) + "\n"


def speed() -> str:
    """Return the speeds as a Markdown table."""
    s = read("fast-speed")
    rows = [
        ("kernel", "papers per CPU-second", "one paper"),
        ("---", "---", "---"),
        *(
            (k, f"{s[k]['papers_per_cpu_second']:,}", f"{s[k]['one_paper_us']:.0f} µs")
            for k in ("c", "numpy")
        ),
        ("published answers (C)", f"{s['answers_per_cpu_second']:,}", ""),
    ]
    text = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    of = "invented" if s["invented"] else "real"
    note = (
        f"{s['papers']:,} {of} papers of {s['mean_bytes']} bytes; {s['machine']}; "
        f"resident memory {s['max_resident_mb']} MB."
    )
    return f"{text}\n\n{note}\n"


def service() -> str:
    """Return what the service was measured at, beside a bare echo, as a Markdown table."""
    r = read("service")
    h, machine = r["headline"], r["machine"]
    rows = [
        ("measured", "", "aim"),
        ("---", "---", "---"),
        (
            "single papers, requests/s (p99)",
            f"{h['single_requests_per_s']:,} ({h['single_p99_ms']:.0f} ms)",
            "2,000 (20 ms)",
        ),
        ("papers/s in batches of 200", f"{h['batch_papers_per_s']:,}", "10,000"),
        (
            "share of a bare one-worker FastAPI echo",
            f"{h['share_of_echo']:.2f} (of {h['echo_requests_per_s']:,}/s)",
            "0.80",
        ),
        ("seconds from start to ready", f"{h['ready_s']:.1f}", "3"),
        ("resident memory, one worker", f"{h['resident_mb_one_worker']} MB", "250 MB"),
    ]
    text = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return (
        f"{text}\n\n{machine['cpus']} cores ({machine['cpu']}), {r['workers']} workers, journal "
        f"and log on; load generator: {machine['load_generator']}; {r['date'][:10]}. "
        "`python benchmarks/service.py` measures it on your machine.\n"
    )


def robustness() -> str:
    """Return how the model fares on perturbed papers and other texts, as a Markdown table."""
    report = read("robustness-fast-1.1")
    found = {(k["name"], part["name"]): part for k in report["kinds"] for part in k["levels"]}
    top_1, *others = _ROBUSTNESS_METRICS.values()
    head = ["", top_1, "change, points", *others]
    rows = [head, ["---"] * len(head), ["clean papers", *_robustness_cells(report["clean"])]]
    for kind, levels in _ROBUSTNESS.items():
        for level in levels:
            rows.append([f"{kind}: {level}", *_robustness_cells(found[kind, level])])
    text = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return (
        f"{text}\n\n{report['n']:,} papers of the test split, drawn with seed "
        f"{report['config']['seed']}, and our own invented other texts; {report['date'][:10]}.\n"
    )


def _robustness_cells(level: dict[str, Any]) -> list[str]:
    top_1, *others = (
        f"{level['metrics'][name]['value']:.3f}" if name in level["metrics"] else ""
        for name in _ROBUSTNESS_METRICS
    )
    change = level["differences"].get("top_1")
    if change is None:
        return [top_1, "", *others]
    points, low, high = (f"{100 * change[end]:+.1f}" for end in ("difference", "low", "high"))
    return [top_1, f"{points} ({low} to {high})", *others]


BLOCKS = {
    "robustness": robustness,
    "service": service,
    "same_period": lambda: table_of("fast-1.1-test"),
    "next_period": lambda: table_of("next-period", ["2018-2019", "from-2020"]),
    "speed": speed,
}


def render(text: str) -> str:
    """Return the text with every block written anew."""
    return _BLOCK.sub(lambda m: m[1] + BLOCKS[m[2]]() + m[3], text)


def main() -> None:
    """Write, or with --check fail if a number is stale."""
    stale = []
    for name in ("README.md", "MODELS.md"):
        path = ROOT / name
        text = path.read_text(encoding="utf-8")
        if render(text) != text:
            stale.append(name)
            if "--check" not in sys.argv:
                path.write_text(render(text), encoding="utf-8")
    if stale and "--check" in sys.argv:
        sys.exit(f"stale numbers in {', '.join(stale)}: run python benchmarks/quote.py")


if __name__ == "__main__":
    main()
