"""Stacks of calls and what each cost, in the lines that flame-graph programs read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePath

from classmark.records.experiments import FunctionCost

Stack = tuple[str, ...]
"""Frames, the outermost first, each as ``name (file:line)``."""

_PROCESS = re.compile(r"process (\d+):\".*")
_FRAME = re.compile(r"(.*) \((.*?)(?::\d+)?\)")
_OWN_PACKAGE = "classmark/profiling/"
_PACKAGES = ("site-packages", "dist-packages")


class Stacks:
    """What a command cost, by stack.

    Args:
        costs: samples or bytes by stack.
    """

    def __init__(self, costs: Mapping[Stack, int]) -> None:
        self.costs = costs

    @property
    def total(self) -> int:
        """Return the sum of all."""
        return sum(self.costs.values())

    @classmethod
    def read(cls, lines: Iterable[str]) -> Stacks:
        """Return what py-spy has written: ``frame;frame;frame 12`` a line.

        Processes are numbered by their first sample, and not named if there is only one. The
        profiler's own threads are left out.
        """
        found: Counter[tuple[str, Stack]] = Counter()
        for line in lines:
            stack, _, count = line.rstrip("\n").rpartition(" ")
            frames = stack.split(";")
            processes = [match[1] for frame in frames if (match := _PROCESS.match(frame))]
            calls = tuple(frame for frame in frames if not _PROCESS.match(frame))
            if calls and not any(_OWN_PACKAGE in frame for frame in calls):
                found[processes[-1] if processes else "", calls] += int(count)
        numbers = {process: n for n, process in enumerate(sorted({p for p, _ in found}), start=1)}
        costs: Counter[Stack] = Counter()
        for (process, calls), samples in found.items():
            of_process = (f"process {numbers[process]}",) if len(numbers) > 1 else ()
            costs[of_process + calls] += samples
        return cls(costs)

    def lines(self) -> str:
        """Return the stacks as text, the costliest first."""
        ordered = sorted(self.costs.items(), key=lambda item: (-item[1], item[0]))
        return "".join(f"{';'.join(stack)} {cost}\n" for stack, cost in ordered)

    def functions(self, most: int) -> tuple[FunctionCost, ...]:
        """Return the functions that cost most by themselves, and those that cost most in total.

        Args:
            most: how many of each.
        """
        own: Counter[str] = Counter()
        total: Counter[str] = Counter()
        for stack, cost in self.costs.items():
            own[stack[-1]] += cost
            for frame in set(stack):  # a function that calls itself counts once
                total[frame] += cost
        chosen = [frame for tally in (own, total) for frame, _ in tally.most_common(most)]
        rows = []
        for frame in sorted(set(chosen), key=lambda frame: (-own[frame], -total[frame], frame)):
            match = _FRAME.fullmatch(frame)
            name, file = match.groups() if match else (frame, "")
            rows.append(FunctionCost(name=name, file=file, own=own[frame], total=total[frame]))
        return tuple(rows)


def short_file(path: str) -> str:
    """Return a path from the package on: ``classmark/training/linear.py``."""
    parts = PurePath(path).parts
    for place in reversed(range(len(parts))):
        if parts[place] in _PACKAGES:
            return "/".join(parts[place + 1 :])
        if parts[place] == "classmark" and place < len(parts) - 1:
            return "/".join(parts[place:])
    return "/".join(parts[-2:])
