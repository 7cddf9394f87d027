"""Jobs for tests of bulk: a small dump, the model in the package, and one that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from classmark.bulk import BulkConfig, BulkJob, BulkReport, classify_files
from classmark.papers import read_papers
from classmark.records import SILENT, BadRecord, Paper, Progress
from classmark.runtime import Classifier
from classmark.wire import to_json

TINY = BulkConfig(workers=2, chunk_bytes=600, chunk_records=3, row_group=7)
"""Parts of a few papers each."""

KILLED_AT = 3

# A process of its own that kills itself, or goes on, when so many parts are done.
CHILD = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from bulk_jobs import TINY, BulkJob, classify_files
from pathlib import Path
from classmark.records import Silent

class Killing(Silent):
    n = 0
    def advance(self, n, *, share=None):
        self.n += 1
        if self.n == {killed_at}:
            os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    job = BulkJob(inputs=(Path({source!r}),), output=Path({output!r}), layout={layout!r})
    classify_files(job, TINY, Killing())
"""


def dump_line(number: int) -> str:
    words = ["graph", "neural", "galaxy", "quantum", "protein", "theorem"]
    word = words[number % len(words)]
    record = {
        "id": f"2401.{number:05d}",
        "title": f"On the {word} number {number}",
        "abstract": f"We study a {word} and its {words[number % 5]} with naïve methods. " * 2,
        "categories": "cs.LG math.CO",
        "versions": [{"version": "v1", "created": "Mon, 2 Apr 2007 19:18:42 GMT"}],
    }
    return json.dumps(record, ensure_ascii=number % 2 == 0)


def write_dump(path: Path, n_papers: int = 40, bad: tuple[int, ...] = ()) -> Path:
    """Write a dump of papers; a bad one stands in the place of some of them."""
    lines = ["{broken" if i in bad else dump_line(i) for i in range(n_papers)]
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    return path


def job_of(source: Path, output: Path, **changes: Any) -> BulkJob:
    layout = output.suffix[1:]
    return BulkJob(**{"inputs": (source,), "output": output, "layout": layout, **changes})


def run_job(job: BulkJob, recording: Progress = SILENT, config: BulkConfig = TINY) -> BulkReport:
    return classify_files(job, config, recording)


def kill_in_the_middle(source: Path, output: Path) -> list[str]:
    """Run a job in a process that is killed when some parts are done; return its warnings.

    That this returns is a claim too: whoever outlives the process holds its standard output open.
    """
    code = CHILD.format(
        tests=str(Path(__file__).parent),
        killed_at=KILLED_AT,
        source=str(source),
        output=str(output),
        layout=output.suffix[1:],
    )
    script = output.with_name(f"{output.name}.py")
    script.write_text(code)
    result = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert result.returncode == -signal.SIGKILL, result.stderr
    return result.stderr.splitlines()


def json_lines_in_one_process(classifier: Classifier, source: Path) -> bytes:
    """Return what one process writes, one paper after the other."""
    text = b""
    for record in read_papers(source):
        result = classifier.classify(record, errors="return")
        assert isinstance(record, Paper | BadRecord)
        text += to_json(result.published() if isinstance(result, BadRecord) else result) + b"\n"
    return text


def folder_of(output: Path) -> Path:
    return output.with_name(output.name + ".parts")


def kill(pid: int | None) -> None:
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
