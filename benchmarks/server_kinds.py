"""The servers that benchmarks/servers.py compares, each as its makers advise for this load.

All have the same number of workers and the same model. BentoML and LitServe have environments of
their own, which make finds or makes; granian is in the group ``bench``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from plain_app import MODEL_VARIABLE
from report import ROOT
from service import HOST, answers, free_port
from watch import tree

WORKERS = 2
DEADLINE_S = 1
MOST_AT_ONCE = 64
"""Requests in work at once, where a server has a bound on them."""
PATIENCE_S, START_S = 15, 120
BENTO = ".venv-bento"
_PLAIN = ("plain_app:create", "--factory", "--host", HOST, "--workers", str(WORKERS))
_BUILD = """
import sys
from pathlib import Path
from classmark.bundle import find_bundle
from classmark.export.bento import write_bento
write_bento(find_bundle(sys.argv[1] or None), Path(sys.argv[2]))
"""


@dataclass(frozen=True)
class Kind:
    """A server, and how it is started.

    Attributes:
        arguments: of Python; ``PORT``, ``MODEL`` and ``BENTO`` are replaced.
        venv: the environment that make makes for it; "" is this one.
        environment: variables.
    """

    arguments: tuple[str, ...]
    venv: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def python(self) -> str:
        """Return its interpreter."""
        return str(ROOT / self.venv / "bin" / "python") if self.venv else sys.executable


def _bentoml(batching: bool) -> Kind:
    limits = {"WORKERS": WORKERS, "BATCHING": batching, "MAX_CONCURRENCY": MOST_AT_ONCE}
    limits |= {"MAX_LATENCY_MS": 1000 * DEADLINE_S}
    return Kind(
        ("-m", "bentoml", "serve", "BENTO", "--host", HOST, "--port", "PORT"),
        BENTO,
        {
            "BENTOML_DO_NOT_TRACK": "True",
            "BENTOML_CONFIG_OPTIONS": "api_server.logging.access.enabled=false",
            **{f"CLASSMARK_BENTO_{name}": str(value) for name, value in limits.items()},
        },
    )


def _litserve(batch: int) -> Kind:
    app = str(Path(__file__).with_name("litserve_app.py"))
    return Kind((app, "PORT", str(WORKERS), str(batch), str(DEADLINE_S)), ".venv-litserve")


SERVERS = {
    "classmark": Kind(
        ("-m", "classmark", "serve", "--host", HOST, "--workers", str(WORKERS), "--port", "PORT",
         "--model", "MODEL")
    ),
    "uvicorn": Kind(
        ("-m", "uvicorn", *_PLAIN, "--log-level", "error", "--limit-concurrency",
         str(MOST_AT_ONCE), "--port", "PORT")
    ),
    "granian": Kind(
        ("-m", "granian", *_PLAIN, "--interface", "asgi", "--respawn-failed-workers", "--port",
         "PORT")
    ),
    "bentoml": _bentoml(batching=True),
    "bentoml, no batches": _bentoml(batching=False),
    "litserve": _litserve(batch=64),
    "litserve, no batches": _litserve(batch=1),
}  # fmt: skip


@dataclass
class Running:
    """A server that runs.

    Attributes:
        url: its address.
        pid: of the process that was started.
        ready_s: seconds until it was ready.
        stop_s: seconds from SIGTERM to its end, once it has ended; None if it had to be killed.
    """

    url: str
    pid: int = 0
    ready_s: float = 0.0
    stop_s: float | None = None


@contextmanager
def prepared(names: list[str], model: str) -> Iterator[Path]:
    """Yield a folder for the servers; make their environments, and the bento of the model in it."""
    pythons = {kind.venv: kind.python for kind in map(SERVERS.__getitem__, names) if kind.venv}
    for venv in pythons:
        subprocess.run(["make", f"{venv}/.ready"], cwd=ROOT, check=True, stdout=sys.stderr)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if BENTO in pythons:
            command = [pythons[BENTO], "-c", _BUILD, model, str(folder / "bento-1")]
            subprocess.run(command, check=True)
        yield folder


@contextmanager
def running(name: str, model: str, folder: Path) -> Iterator[Running]:
    """Start a server for the block; stop it with SIGTERM, and all of it with SIGKILL after that.

    Args:
        name: of the server.
        model: that it serves; "" is the default one.
        folder: that was prepared.
    """
    port, kind = free_port(), SERVERS[name]
    server = Running(f"http://{HOST}:{port}")
    words = {"PORT": str(port), "MODEL": model or "fast", "BENTO": str(folder / "bento-1")}
    command = [kind.python, *(words.get(word, word) for word in kind.arguments)]
    environment = {
        **os.environ,
        "CLASSMARK_HOME": str(folder),
        "BENTOML_HOME": str(folder / "bentoml"),
        "CLASSMARK_SERVE_DRAIN_S": "0.1",
        "CLASSMARK_THREADS": str(max(1, len(os.sched_getaffinity(0)) // WORKERS)),
        **({MODEL_VARIABLE: model} if model else {}),
        **kind.environment,
    }
    log = folder / f"{name}.log"
    started = time.monotonic()
    with log.open("ab") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, env=environment, cwd=folder, start_new_session=True
        )
    server.pid = process.pid
    try:
        while not answers(f"{server.url}/readyz"):
            if process.poll() is not None or time.monotonic() - started > START_S:
                sys.exit(f"{name} did not start: {log.read_text()[-2000:]}")
            time.sleep(0.02)
        server.ready_s = round(time.monotonic() - started, 2)
        yield server
    finally:
        asked, everyone = time.monotonic(), list(tree(process.pid))
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE_S)
            server.stop_s = round(time.monotonic() - asked, 2)
        for one in everyone:  # not by their group: workers of BentoML have others
            with suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        process.wait()
