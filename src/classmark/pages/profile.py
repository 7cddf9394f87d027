"""The page of one profile: a flame graph, the functions that cost most, and peak memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from classmark.pages.frame import render
from classmark.pages.svg import Markup, bar, figure, svg_file, text
from classmark.profiling import Profile, Stacks
from classmark.records.experiments import FunctionCost, ProfileReport
from classmark.storage import write_json, write_text

STACKS_FILE, FLAME_FILE, PAGE_FILE = "stacks.txt", "flame.svg", "profile.html"
_WIDTH, _ROW, _CHAR = 1200, 17, 6.4
_LEAST_WIDTH = 0.6
_MOST_ROWS = 25
_SHARED = 0.99
_MB = 1e6
_FILE = re.compile(r" \((.*)\)$")


@dataclass
class _Frame:
    """A call in the flame graph: what it cost, and what it called."""

    name: str
    cost: int = 0
    calls: dict[str, _Frame] = field(default_factory=dict)


def write_profile(folder: Path, profile: Profile) -> None:
    """Write the files of a profile into a folder: JSON, stacks, flame graph, and a page with all.

    Raises:
        MissingExtra: jinja2 is not installed.
        StorageFailed: the folder cannot be written.
    """
    graph = flame_graph(profile.stacks, profile.report.unit)
    write_json(folder / ProfileReport.FILE, profile.report.to_dict())
    write_text(folder / STACKS_FILE, profile.stacks.lines())
    write_text(folder / FLAME_FILE, svg_file(graph))
    write_text(folder / PAGE_FILE, profile_page(profile.report, graph))


def profile_page(report: ProfileReport, graph: Markup) -> str:
    """Return a profile as one HTML file that needs nothing else.

    Raises:
        MissingExtra: jinja2 is not installed.
    """
    by_total = sorted(report.functions, key=lambda cost: (-cost.total, cost.name))
    state = "stopped before its end" if report.interrupted else "to its end"
    return render(
        "profile.html",
        title=f"Where the {'memory' if report.kind == 'memory' else 'time'} goes",
        lead=f"{report.command}, {state}: {report.seconds:,.1f} s, {report.cpu_seconds:,.1f} CPU "
        f"seconds, at most {report.peak_mb:,.0f} MB resident.",
        generated=False,
        report=report,
        graph=graph,
        own=[_row(cost, report) for cost in report.functions[:_MOST_ROWS]],
        total=[_row(cost, report) for cost in by_total[:_MOST_ROWS]],
        steps=[
            (s.name, f"{s.seconds:,.1f}", f"{s.cpu_seconds:,.1f}", f"{s.peak_mb:,.0f}")
            for s in report.steps
        ],
        processes=[
            (p.name, f"{p.cpu_seconds:,.1f}", f"{p.peak_mb:,.0f}") for p in report.processes
        ],
        origin={
            "command": report.command,
            "measured": report.date,
            "machine": report.machine,
            "samples a second": str(report.rate or ""),
            **{name.replace("_", " "): str(value) for name, value in report.load.items()},
        },
    )


def amount(value: int, unit: str) -> str:
    """Return samples as a count, bytes in units of 10^6."""
    return f"{value:,}" if unit == "samples" else f"{value / _MB:,.1f} MB"


def flame_graph(stacks: Stacks, unit: str) -> Markup:
    """Return the stacks as a flame graph: a call is as wide as its cost, its callees below it.

    Calls that all of a process's stacks begin with are left out, and so is what is too thin to see.
    """
    root = _tree(stacks)
    marks = list(_marks(root, unit, root.cost or 1))
    depth = 1 + max((row for row, _ in marks), default=0)
    label = f"Flame graph of {amount(root.cost, unit)}"
    return figure(_WIDTH, depth * _ROW, label, [mark for _, mark in marks], css="flame")


def _tree(stacks: Stacks) -> _Frame:
    root = _Frame("all", stacks.total)
    for stack, cost in sorted(stacks.costs.items()):
        frame = root
        for name in stack:
            frame = frame.calls.setdefault(name, _Frame(name))
            frame.cost += cost
    root.calls = {name: _without_beginning(frame) for name, frame in root.calls.items()}
    return root


def _without_beginning(frame: _Frame) -> _Frame:
    """Return the first call of a branch that shares it out, whatever led to it."""
    while len(frame.calls) == 1:
        (only,) = frame.calls.values()
        if only.cost < _SHARED * frame.cost:
            break
        frame = only
    return frame


def _marks(root: _Frame, unit: str, total: int) -> Iterator[tuple[int, str]]:
    """Yield row and mark of each call that is wide enough."""
    waiting = [(root, 0, 0.0)]
    while waiting:
        frame, row, left = waiting.pop()
        width = frame.cost / total * _WIDTH
        if width < _LEAST_WIDTH:
            continue
        cost = f"{amount(frame.cost, unit)}, {100 * frame.cost / total:.1f} %"
        yield row, _mark(frame, left, row * _ROW, width, cost)
        for call in frame.calls.values():
            waiting.append((call, row + 1, left))
            left += call.cost / total * _WIDTH


def _mark(frame: _Frame, x: float, y: float, width: float, cost: str) -> str:
    name, room = _FILE.sub("", frame.name), int((width - 6) / _CHAR)
    words = name if len(name) <= room else f"{name[: room - 1]}\u2026"
    shown = text(x + 3, y + 12, words, "start", "call") if room > 3 else ""
    css = "band first" if "classmark/" in frame.name else "count"
    title = f"<title>{escape(frame.name)}: {cost}</title>"
    return f"<g>{title}{bar(x, y, width, _ROW - 1, css)}{shown}</g>"


def _row(cost: FunctionCost, report: ProfileReport) -> tuple[str, str, str, str, str]:
    total = report.total or 1
    return (
        cost.name,
        f"{100 * cost.own / total:.1f} %",
        f"{100 * cost.total / total:.1f} %",
        amount(cost.own, report.unit),
        cost.file,
    )
