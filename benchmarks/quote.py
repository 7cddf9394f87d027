"""Writes the numbers of README, MODELS and docs from the committed reports, between their markers.

python benchmarks/quote.py [--check]
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import quote_peers

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


BLOCKS = {
    "service": service,
    "same_period": lambda: table_of("fast-1.1-test"),
    "next_period": lambda: table_of("next-period", ["2018-2019", "from-2020"]),
    "speed": speed,
    "peers": lambda: quote_peers.accuracy(read("peers"), "all"),
    "peers_cost": lambda: quote_peers.cost(read("peers"), "all"),
    "peers_five": lambda: quote_peers.accuracy(read("peers"), "five"),
    "peers_five_cost": lambda: quote_peers.cost(read("peers"), "five"),
    "decay": lambda: quote_peers.decay_by_year(read("decay")),
    "decay_age": lambda: quote_peers.decay_by_age(read("decay")),
}


def render(text: str) -> str:
    """Return the text with every block written anew."""
    return _BLOCK.sub(lambda m: m[1] + BLOCKS[m[2]]() + m[3], text)


def main() -> None:
    """Write, or with --check fail if a number is stale."""
    stale = []
    for name in ("README.md", "MODELS.md", "docs/how-to/compare-with-peers.md"):
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
