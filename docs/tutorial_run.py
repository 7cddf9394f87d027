"""Runs the tutorial as a reader would, and compares what it prints with what the page shows.

python docs/tutorial_run.py            every command, in an empty folder; fails on a difference
python docs/tutorial_run.py --write    the same, and puts what was printed into the page
python docs/tutorial_run.py docs/how-to/hugging-face.md    another page

In a ``console`` block a line that begins with ``$ `` is a command, run by one bash for the whole
page; the lines after it are its output, both streams. A ``python`` block is run as a program, and
the ``text`` block after it is its output. What must differ from run to run:

- ``…`` in the page stands for anything within its line (dates, digests, names of runs, seconds);
- numbers with a decimal point may be off by ``TOLERANCE`` (processors sum in their own order), so
  the length of a bar and of white space does not count;
- port 8000 becomes a free one.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parent / "tutorial.md"
TOLERANCE = 0.05
_BLOCK = re.compile(
    r"^```console\n(?P<console>.*?)^```$"
    r"|^```python\n(?P<python>.*?)^```\n\n```text\n(?P<printed>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
_DECIMAL = re.compile(r"\d+\.\d+")
_ROOM = re.compile(r"[█\s]+")
_MARK = "--- end of step ---"
_PORT = "8000"
_VARYING = (
    (re.compile(r"(linear|transformer)-\d{8}-\d{6}"), r"\1-…"),
    (re.compile(r"\b[0-9a-f]{8}(?:[0-9a-f]{4}|[0-9a-f]{56})?\b"), "…"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d\S*"), "…"),
    (re.compile(r"\b[0-9A-HJKMNP-TV-Z]{26}\b"), "…"),
)


@dataclass(frozen=True)
class Step:
    """One command or program of the page, with the output that the page shows."""

    source: str
    shown: str
    is_python: bool = False

    @property
    def script(self) -> str:
        """What bash is given."""
        return f"python - <<'PROGRAM'\n{self.source}PROGRAM" if self.is_python else self.source


def read_steps(page: str) -> list[Step]:
    """Return the steps of a page in order."""
    steps = []
    for block in _BLOCK.finditer(page):
        if block["python"] is not None:
            steps.append(Step(block["python"], block["printed"], is_python=True))
        else:
            steps += [Step(command, shown) for command, shown in _COMMAND.findall(block["console"])]
    return steps


def run_steps(steps: Sequence[Step], folder: Path) -> list[str]:
    """Return what each step prints, run in the folder by one bash that stops at a failure."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    lines = ["set -e", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT"]
    for step in steps:
        lines += [step.script.replace(_PORT, port), f"echo '{_MARK}'"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {key: v for key, v in os.environ.items() if not key.startswith("CLASSMARK_")}
    result = subprocess.run(
        ["bash", "-c", "\n".join(lines)],
        cwd=folder,
        # The tutorial installs no [track]: where MLflow is there, it is left out.
        env={**kept, "PATH": path, "COLUMNS": "92", "NO_COLOR": "1", "CLASSMARK_TRACKER": "csv"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        check=False,
    )
    printed = result.stdout.replace(f":{port}", f":{_PORT}").replace(str(folder), "…")
    *outputs, rest = printed.split(f"{_MARK}\n")
    if result.returncode or rest.strip():
        failed = steps[min(len(outputs), len(steps) - 1)]
        sys.exit(f"`{failed.source}` failed ({result.returncode}):\n{rest}")
    return outputs


def is_as_shown(shown: str, printed: str) -> bool:
    """Return whether output is what the page shows, but for what must differ."""
    pairs = list(zip(shown.splitlines(), printed.splitlines(), strict=False))
    same_length = len(shown.splitlines()) == len(printed.splitlines())
    return same_length and all(_is_line_as_shown(*pair) for pair in pairs)


def _is_line_as_shown(shown: str, printed: str) -> bool:
    shown, printed = (_ROOM.sub(" ", line).strip() for line in (shown, printed))
    found = re.fullmatch(".*".join(_pattern(part) for part in shown.split("…")), printed)
    if found is None:
        return False
    wanted = [float(number) for number in _DECIMAL.findall(shown)]
    return all(abs(a - float(b)) <= TOLERANCE for a, b in zip(wanted, found.groups(), strict=True))


def _pattern(part: str) -> str:
    pieces = _DECIMAL.split(part)
    return r"(\d+\.\d+)".join(re.escape(piece) for piece in pieces)


def masked(printed: str) -> str:
    """Return output with ``…`` for what differs from run to run."""
    for pattern, mark in _VARYING:
        printed = pattern.sub(mark, printed)
    return "\n".join(line.rstrip() for line in printed.splitlines()) + "\n" if printed else ""


def rewrite(page: str, outputs: Sequence[str]) -> str:
    """Return the page with the outputs that differ from what it shows."""
    left = iter(outputs)

    def output_for(shown: str) -> str:
        printed = next(left)
        return shown if is_as_shown(shown, printed) else masked(printed)

    def block(found: re.Match[str]) -> str:
        if found["python"] is not None:
            output = output_for(found["printed"])
            return f"```python\n{found['python']}```\n\n```text\n{output}```"
        steps = _COMMAND.sub(lambda c: f"$ {c[1]}\n{output_for(c[2])}", found["console"])
        return f"```console\n{steps}```"

    return _BLOCK.sub(block, page)


def main() -> None:
    """Run the page and compare or rewrite it."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("page", nargs="?", type=Path, default=PAGE, help="what to run")
    parser.add_argument("--write", action="store_true", help="put the outputs into the page")
    given = parser.parse_args()
    page = given.page.read_text(encoding="utf-8")
    steps = read_steps(page)
    with tempfile.TemporaryDirectory() as folder:
        outputs = run_steps(steps, Path(folder).resolve())
    if given.write:
        given.page.write_text(rewrite(page, outputs), encoding="utf-8")
        return
    pairs = zip(steps, outputs, strict=True)
    wrong = [(s, o) for s, o in pairs if not is_as_shown(s.shown, o)]
    if wrong:
        shown = [f"$ {s.source}\nthe page:\n{s.shown}printed:\n{masked(o)}" for s, o in wrong]
        again = f"Run python docs/tutorial_run.py {given.page} --write and read the page."
        sys.exit("\n".join([*shown, again]))
    sys.stdout.write(f"{len(steps)} steps print what the page shows\n")


if __name__ == "__main__":
    main()
